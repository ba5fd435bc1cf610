"""Pictures of a deformation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._errors import reject_value
from .._plot import axes as draw
from .._plot import lattice, svg
from .evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Drawing


class Pictures(Evaluation):
    """The methods that draw deformations."""

    def plot(
        self, ax: Drawing | None = None, *, axes: Sequence[int] = (-2, -1), at: float | Sequence[float] | None = None
    ) -> Drawing:
        """Draw the lines of the control grid where they lie in the input, with matplotlib.

        Colours show how the volume of the content changes, ``1 / r``, where ``r`` is the relative Jacobian determinant.
        Folds are outlined in red. Arrows are the displacements of the control points, including the affine map.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default None: in a new figure, with a colour bar.
        axes : sequence of two int, optional
            The axes of the frame to draw as rows and columns. Default: the last two.
        at : float or sequence of float, optional
            Position of the drawn plane along the other axes, in voxels. The picture projects the map onto this plane.
            Default None: the middle.

        Returns
        -------
        matplotlib.axes.Axes
            The axes drawn in; units are voxels, and rows run downwards.

        Raises
        ------
        TypeError, ValueError
            If the deformation has batch axes, a single axis, displacements that are not finite, or no values because a
            program is being traced; or if an argument has an invalid type or value.
        ImportError
            If matplotlib is not installed: ``pip install 'elasticnd[demo]'``.

        Examples
        --------
        >>> import elasticnd
        >>> ax = elasticnd.Deformation.random((64, 48), sigma=3, points=4, rng=0).plot()
        >>> ax.get_xlabel()
        'axis 1, voxels'
        """
        self._check_single()
        made = self._first_item()
        plane = lattice.plane_of(made.shape, axes, at)
        if not np.all(np.isfinite(made.displacement)):
            reject_value("displacement", "NaN or infinite values", "finite values")
        return draw.plot(made, plane, ax)

    def _repr_html_(self) -> str | None:
        """Return a small picture of the first batch item's grid for notebooks, or None if there is none."""
        try:
            made = self._first_item()
        except TypeError:  # no values while a program is traced
            return None
        picture = svg.picture_of(made)
        return None if picture is None else f"<div>{self!r}<br/>{picture}</div>"
