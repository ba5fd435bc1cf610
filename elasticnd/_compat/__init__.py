"""Names that frameworks do not document as stable, in one file per framework.

A new version of a framework may drop such a name; `tests/test_compat.py` then reports it. No other module uses any.
"""
