"""Bridges: what a framework needs around the deformation, such as tracing, differentiation and lazy evaluation.

A bridge is a module with the functions of the protocol in ``contract.py``. It computes nothing itself.
"""
