"""Derivatives: `operators.py` has the operators, `rules.py` the chain rule; `compute.py` runs operators on values."""
