"""Names that frameworks do not document as stable, in one file per framework.

No other module uses such names. A new version of a framework may drop one; `tests/test_compat.py` then reports it.
"""
