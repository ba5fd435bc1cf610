"""Bridges: what a framework needs around the deformation - tracing, autodiff, laziness. No arithmetic.

A bridge is a module with ``info(argument, array)``, ``deform``, ``image_vjp``, ``vjp`` and ``dense``.
"""
