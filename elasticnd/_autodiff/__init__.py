"""Derivatives: `operators.py` says what they are made of, `rules.py` how, and `compute.py` runs operators on values."""
