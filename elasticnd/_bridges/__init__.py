"""Bridges: what a framework requires around the deformation, such as tracing, differentiation and lazy evaluation.

A bridge is a module with the functions of the protocol in ``contract.py``. It does no numerical work itself.
"""
