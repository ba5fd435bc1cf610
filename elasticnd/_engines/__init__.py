"""Engines: the same few verbs on each kind of device. An engine computes; it knows no framework and no chain rule.

An engine is a module. Its verbs, each linear in its first array:

``prefilter``
    samples of an image to B-spline coefficients
``prefilter_adjoint``
    the transpose
``sample``
    coefficients (at orders 0 and 1 the image itself) to values at the deformed positions
``scatter_image``
    the transpose of ``sample``
``scatter_grid``
    the gradient of ``<output, sample>`` with respect to control grid and affine matrix
``displace``
    coefficients of the control grid to the displacement of each voxel

Arrays come with their axes in the order batch, channels, deformed; a `Geometry` says the rest.
"""
