"""Deformations as other programs have them: transforms of ITK, displacement fields of NIfTI."""
