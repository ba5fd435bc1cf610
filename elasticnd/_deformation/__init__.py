"""The parts of which the class `Deformation` is composed, by subject."""
