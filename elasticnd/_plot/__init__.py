"""Pictures of a deformation: what its lines are, drawn by matplotlib or, for notebooks, as SVG without it."""
