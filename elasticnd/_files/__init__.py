"""Deformations in the formats of other programs: ITK transforms and NIfTI displacement fields."""
