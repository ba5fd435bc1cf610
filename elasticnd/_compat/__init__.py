"""Names of frameworks that their documentation does not promise, one file per framework and all of them.

A new version of a framework may drop such a name; `tests/test_compat.py` then says which one. No other module uses any.
"""
