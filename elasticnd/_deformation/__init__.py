"""The base classes of `Deformation`, by subject."""
