"""elasticnd for PyTorch: the public functions, which convert their input to tensors, and a layer.

The functions of the package itself accept tensors too. All are differentiable with respect to image, control grid and
affine matrix, and work under `torch.compile` and `torch.func`.

>>> import torch
>>> import elasticnd.torch
>>> image = torch.arange(12.0).reshape(3, 4)
>>> displacement = torch.zeros(2, 3, 3, requires_grad=True)
>>> elasticnd.torch.deform_grid(
...     image, displacement, mode="mirror"
... ).square().sum().backward()
>>> displacement.grad.shape
torch.Size([2, 3, 3])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from . import _check, _namespaces
from ._api import deform_grid as _deform_grid
from ._bridges import torch as _bridge  # noqa: F401 - loaded once, before a data loader forks its workers
from ._errors import reject_value
from ._folds import FoldPolicy
from ._types import Array, Numbers, Order
from .deformation import by_policy

__all__ = ["ElasticDeform", "deform_grid", "deform_random_grid", "dense_displacement"]


def _as_tensor(values: object) -> torch.Tensor:
    """Convert values to a tensor; keep subclasses of tensors."""
    return values if isinstance(values, torch.Tensor) else torch.as_tensor(values)


deform_grid, deform_random_grid, dense_displacement = _namespaces.functions(_as_tensor)


class ElasticDeform(torch.nn.Module):
    """Deform batches of images with a fixed, learnable or random grid of displacements.

    Parameters
    ----------
    displacement : tensor or array_like, shape (n, p_0, ..., p_{n-1}), optional
        Displacements of the control points, in voxels, shared by all batch items. Give either this or `sigma`.
    sigma : float or sequence of float, optional
        Standard deviation of random displacements, in voxels, drawn from PyTorch's generator. A random layer deforms
        only during training.
    points : int or sequence of int, optional
        Number of control points of a random grid, along every deformed axis or along each. Default 3.
    learnable : bool, optional
        Whether `displacement` is a parameter. Default False: a buffer.
    per_sample : bool, optional
        Whether each batch item gets its own random grid. Default True.
    axis : sequence of int, optional
        The axes to deform, counted from the end, such as ``(-2, -1)``. Default None: all except the first two, batch
        and channels.
    order, mode, cval : optional
        See `elasticnd.deform_grid`; one for all tensors, or one for each.
    ndim : int, optional
        Number of axes to deform; tensors of another rank then raise an error. Without it, an image of shape (channels,
        height, width) counts as a batch of signals. Default None: all except the first two.
    fold : {"ignore", "warn", "raise", "scale"}, optional
        What to do if a random mapping folds; see `elasticnd.Deformation.random`. All but "ignore" need values, and
        raise an error while a program is traced. Default "ignore".
    margin : float, optional
        With ``fold="scale"``, the smallest volume ratio to keep. Default 0.05.

    Raises
    ------
    TypeError, ValueError
        If an argument has an invalid type or value.

    Notes
    -----
    Called with one tensor, the layer returns a tensor; called with several, it deforms them in the same way and returns
    a tuple. Tensors have shape (batch, channels, spatial axes...) and may differ in their channels. Subclasses of
    tensors, such as those of torchvision, are preserved.

    Examples
    --------
    >>> import torch
    >>> import elasticnd.torch
    >>> layer = elasticnd.torch.ElasticDeform(
    ...     sigma=4, points=3, order=(3, 0), mode=("mirror", "nearest")
    ... )
    >>> images, labels = torch.rand(8, 3, 64, 48), torch.zeros(8, 1, 64, 48, dtype=torch.uint8)
    >>> images, labels = layer(images, labels)
    >>> images.shape, labels.dtype
    (torch.Size([8, 3, 64, 48]), torch.uint8)
    """

    displacement: torch.Tensor | None

    def __init__(
        self,
        displacement: Array | None = None,
        *,
        sigma: float | Sequence[float] | None = None,
        points: int | Sequence[int] = 3,
        learnable: bool = False,
        per_sample: bool = True,
        axis: Sequence[int] | None = None,
        order: Order | Sequence[Order] = 3,
        mode: str | Sequence[str] = "constant",
        cval: Numbers = 0.0,
        ndim: int | None = None,
        fold: str = "ignore",
        margin: float = 0.05,
    ) -> None:
        super().__init__()
        if (displacement is None) == (sigma is None):
            reject_value("displacement", f"{displacement!r} with sigma {sigma!r}", "exactly one of them")
        if learnable and displacement is None:
            reject_value("learnable", learnable, "a displacement to begin with")
        self.sigma = sigma
        self.points = points
        self.per_sample = per_sample
        self.axis = _check.normalize_layer_axis(axis, ndim)
        self.ndim = ndim
        _check.check_options(order=order, mode=mode)
        self.order, self.mode, self.cval = order, mode, cval
        self._policy = FoldPolicy.of(fold, margin)
        if displacement is None:
            self.displacement = None
        elif learnable:
            start = torch.as_tensor(displacement)
            floats = start if start.is_floating_point() else start.to(torch.get_default_dtype())
            self.displacement = torch.nn.Parameter(floats.clone())
        else:
            self.register_buffer("displacement", torch.as_tensor(displacement).clone())

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Deform tensors in the same way."""
        if not tensors:
            reject_value("tensors", "none", "at least one")
        displacement = self.displacement
        if displacement is None:
            if not self.training:
                return tensors[0] if len(tensors) == 1 else tensors
            displacement = self._random_displacement(tensors[0])
        axes = [self._axes(tensor) for tensor in tensors]
        results = _deform_grid(list(tensors), displacement, self.order, self.mode, self.cval, axis=axes)
        return results[0] if len(tensors) == 1 else tuple(results)

    def _axes(self, tensor: torch.Tensor) -> tuple[int, ...]:
        if self.axis is not None:
            return self.axis
        _check.check_layer_rank(tuple(tensor.shape), self.ndim, "(batch, channels, spatial axes...)")
        return tuple(range(2, tensor.dim()))

    def _random_displacement(self, first: torch.Tensor) -> torch.Tensor:
        n = len(self._axes(first))
        batch = (first.shape[0],) if self.per_sample else ()
        points = _check.normalize_points(self.points, n)
        normal = torch.randn((*batch, n, *points), device=first.device)
        # Standard deviations stay on the host: a copy to the device would wait for it.
        scaled = zip(_check.normalize_sigma(self.sigma, n), normal.unbind(-n - 1), strict=True)
        displacement = torch.stack([sigma * component for sigma, component in scaled], -n - 1)
        frame = [first.shape[axis] for axis in self._axes(first)]
        settled: torch.Tensor = by_policy(displacement, frame, self._policy)
        return settled

    def extra_repr(self) -> str:
        """Describe the layer."""
        if self.displacement is None:
            grid = f"sigma={self.sigma}, points={self.points}, per_sample={self.per_sample}, fold={self._policy.fold!r}"
        else:
            learnable = isinstance(self.displacement, torch.nn.Parameter)
            grid = f"displacement of shape {tuple(self.displacement.shape)}, learnable={learnable}"
        return f"{grid}, axis={self.axis}, order={self.order}, mode={self.mode!r}, ndim={self.ndim}"
