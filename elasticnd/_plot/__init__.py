"""Pictures of a deformation: its grid lines, drawn with matplotlib or, for notebooks, as SVG without it."""
