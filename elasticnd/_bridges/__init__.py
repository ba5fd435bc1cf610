"""Bridges: what a framework needs around the deformation - tracing, autodiff, laziness. No arithmetic.

A bridge is a module. It has ``info`` (shape and dtype of an array), ``engine_name`` (what computes), ``check`` (refuses
what does not go together), ``small_array`` (takes a control grid or a matrix), and ``forward``, ``image_vjp``, ``vjp``
and ``dense``, which are called as those of ``_autodiff.rules``.
"""
