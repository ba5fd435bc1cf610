"""elasticnd for Keras: a layer for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import keras
import numpy as np

from . import _check
from ._adapters.keras_boxes import check_format, move_boxes
from ._adapters.tensorflow_tensors import compute_with_numpy, is_of_tensorflow
from ._api import deform_grid
from ._compat.keras import keep_arguments
from ._errors import reject_value
from ._folds import FoldPolicy
from ._routes import bridge_of
from ._types import Array, Numbers, Order
from .deformation import by_policy

__all__ = ["ElasticDeform"]

Tensors: TypeAlias = (
    keras.KerasTensor | list[keras.KerasTensor] | tuple[keras.KerasTensor, ...] | dict[str, keras.KerasTensor]
)

_DEFORMED = ("images", "segmentation_masks")  # of a dictionary


class _Deformed(NamedTuple):
    images: list[keras.KerasTensor]
    displacement: Array
    frame: Sequence[int | None]  # may be partly unknown in a graph
    is_single: bool  # whether there was no batch axis


@keras.saving.register_keras_serializable(package="elasticnd")
class ElasticDeform(keras.layers.Layer):
    """Deform batches of images with a fixed, learnable or random grid of displacements.

    Parameters
    ----------
    displacement : array_like, shape (n, p_0, ..., p_{n-1}), optional
        Displacements of the control points, in voxels, shared by all batch items. Give either this or `sigma`.
    sigma : float or sequence of float, optional
        Standard deviation of random displacements, in voxels. A random layer deforms only during training.
    points : int or sequence of int, optional
        Number of control points of a random grid, along every deformed axis or along each. Default 3.
    learnable : bool, optional
        Whether `displacement` is trained. Default False.
    per_sample : bool, optional
        Whether each batch item gets its own random grid. Default True.
    axis : sequence of int, optional
        The axes to deform, counted from the end. Default None: all except batch and channels, as placed by
        `keras.config.image_data_format`.
    order, mode, cval : optional
        See `elasticnd.deform_grid`; one for all images, or one for each.
    mask_order : int or "labels", optional
        Order for the ``segmentation_masks`` of a dictionary, unless `order` has one for each. Default ``"labels"``.
    bounding_box_format : str, optional
        Format of the ``bounding_boxes`` of a dictionary: one of those in `keras.utils.bounding_boxes`, such as
        ``"xyxy"`` or ``"rel_xyxy"``. Default None: there are no boxes.
    ndim : int, optional
        Number of axes to deform. A tensor with one more axis is a single image with channels; a tensor with two more is
        a batch. Default None: two, or all but two if there are more than four axes.
    fold : {"ignore", "warn", "raise", "scale"}, optional
        What to do if a random mapping folds; see `elasticnd.Deformation.random`. All but "ignore" need values, and
        raise an error while JAX or PyTorch traces a program. Default "ignore".
    margin : float, optional
        With ``fold="scale"``, the smallest volume ratio to keep. Default 0.05.
    seed : int, optional
        Seed of the random displacements. Default None: a fresh seed.
    **options
        Options of every Keras layer, such as ``name``.

    Raises
    ------
    TypeError, ValueError
        If an argument has an invalid type or value.

    Notes
    -----
    Called with one tensor, the layer returns a tensor; called with a list, it deforms all tensors in the same way and
    returns a list. Called with a dictionary like Keras' image layers, it deforms ``images`` and ``segmentation_masks``
    in the same way, the masks with or without a channel axis; ``labels`` and everything else are kept.

    ``bounding_boxes`` contain ``boxes`` and their ``labels``. As after Keras' own layers, boxes are float32 and clipped
    to the image, and boxes that have left it get the label -1. A box becomes the bounding box of its moved content.
    Where the mapping folds, a box may not be found, and a warning is issued; ``fold="scale"`` avoids this.

    In a `tf.data` pipeline, the layer works with every backend. On TensorFlow, XLA cannot compile it, and the layer
    tells Keras so.

    Examples
    --------
    >>> import keras
    >>> import numpy as np
    >>> import elasticnd.keras
    >>> layer = elasticnd.keras.ElasticDeform(sigma=4, order=(3, 0), seed=0)
    >>> images, labels = np.zeros((8, 64, 48, 3), "float32"), np.zeros((8, 64, 48, 1), "uint8")
    >>> images, labels = layer([images, labels], training=True)
    >>> tuple(images.shape)
    (8, 64, 48, 3)

    A dictionary like those of Keras' image layers:

    >>> masks = np.zeros((8, 64, 48), "uint8")
    >>> sample = {
    ...     "images": np.zeros((8, 64, 48, 3)),
    ...     "segmentation_masks": masks,
    ...     "labels": np.arange(8),
    ... }
    >>> sorted(elasticnd.keras.ElasticDeform(sigma=4, seed=0)(sample, training=True))
    ['images', 'labels', 'segmentation_masks']

    Bounding boxes:

    >>> boxes = {
    ...     "boxes": keras.ops.tile([[[8.0, 16, 24, 40]]], (8, 1, 1)),
    ...     "labels": keras.ops.zeros((8, 1)),
    ... }
    >>> layer = elasticnd.keras.ElasticDeform(
    ...     sigma=2, fold="scale", bounding_box_format="xyxy", seed=0
    ... )
    >>> moved = layer({"images": images, "bounding_boxes": boxes}, training=True)
    >>> tuple(moved["bounding_boxes"]["boxes"].shape)
    (8, 1, 4)
    """

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
        mask_order: Order = "labels",
        bounding_box_format: str | None = None,
        ndim: int | None = None,
        fold: str = "ignore",
        margin: float = 0.05,
        seed: int | None = None,
        **options: object,
    ) -> None:
        # Labels keep their type: Keras would convert them to floats.
        super().__init__(**{"autocast": False} | options)
        if (displacement is None) == (sigma is None):
            reject_value("displacement", f"{displacement!r} with sigma {sigma!r}", "exactly one of them")
        if learnable and displacement is None:
            reject_value("learnable", learnable, "a displacement to begin with")
        self.initial = None if displacement is None else np.asarray(displacement, "float32")
        self.sigma, self.points = sigma, points
        self.learnable, self.per_sample = learnable, per_sample
        self.axis = _check.normalize_layer_axis(axis, ndim)
        self.ndim = ndim
        _check.check_options(order=order, mode=mode)
        _check.check_options(order=mask_order, order_name="mask_order")
        self.order, self.mode, self.cval = order, mode, cval
        self.mask_order = mask_order
        self.bounding_box_format = check_format(bounding_box_format)
        self.fold, self.margin = fold, margin
        self._policy = FoldPolicy.of(fold, margin)
        self.seed = seed
        self.supports_jit = keras.backend.backend() != "tensorflow"
        self._random = keras.random.SeedGenerator(seed)
        keep_arguments(self)
        bridge_of("inputs", keras.ops.zeros(()))  # loaded once, before a data loader forks its workers

    def build(self, input_shape: Sequence[object]) -> None:
        """Create the weight for a given displacement."""
        if self.initial is not None:
            start = keras.initializers.Constant(self.initial)
            shape = self.initial.shape
            self.displacement = self.add_weight(
                shape=shape, initializer=start, trainable=self.learnable, name="displacement"
            )
        self.built = True

    def call(self, inputs: Tensors, training: bool | None = None) -> Tensors:
        """Deform one tensor, several in the same way, or those of a dictionary."""
        if self.initial is None and not training:
            return inputs
        if isinstance(inputs, dict):
            return self._deform_named(inputs)
        several = isinstance(inputs, (list, tuple))
        results = self._deform(list(inputs) if several else [inputs], self.order).images
        return results if several else results[0]

    def _deform_named(self, sample: dict[str, Any]) -> dict[str, Any]:
        if "images" not in sample:
            reject_value("inputs", f"a dictionary of {', '.join(map(repr, sample))}", "one with 'images'")
        keys = [key for key in _DEFORMED if key in sample]
        is_each = isinstance(self.order, (list, tuple))
        orders = cast("Sequence[Order]", self.order if is_each else (self.order, self.mask_order))
        deformed = self._deform([sample[key] for key in keys], orders[: len(keys)])
        results = sample | dict(zip(keys, deformed.images, strict=True))
        if "bounding_boxes" in sample:
            results["bounding_boxes"] = move_boxes(
                sample["bounding_boxes"],
                self.bounding_box_format,
                deformed.displacement,
                deformed.frame,
                is_single=deformed.is_single,
            )
        return results

    def _deform(self, tensors: list[keras.KerasTensor], order: Order | Sequence[Order]) -> _Deformed:
        in_pipeline = keras.backend.backend() != "tensorflow" and is_of_tensorflow(tensors[0])
        if not in_pipeline:
            tensors = [keras.ops.convert_to_tensor(tensor) for tensor in tensors]
        rank = len(tensors[0].shape)
        is_single = self.axis is None and rank == (self.ndim or max(rank - 2, 2)) + 1
        if is_single:
            tensors, rank = [tensor[None] for tensor in tensors], rank + 1
        axes = [self._axes(tensor, rank) for tensor in tensors]
        frame = tuple(tensors[0].shape[axis] for axis in axes[0])
        if self.initial is None:
            displacement = self._random_displacement(tensors[0], len(axes[0]), in_pipeline)
            displacement = self._without_folds(displacement, frame)
        else:
            displacement = self.initial if in_pipeline else self.displacement.value
        results = deform_grid(tensors, displacement, order=order, mode=self.mode, cval=self.cval, axis=axes)
        return _Deformed([one[0] for one in results] if is_single else results, displacement, frame, is_single)

    def compute_output_shape(self, input_shape: Sequence[object]) -> Sequence[object]:
        """Return the shapes of the inputs."""
        if isinstance(input_shape, dict):
            return input_shape
        shapes = [tuple(shape) for shape in input_shape if isinstance(shape, (list, tuple))]
        return shapes or tuple(input_shape)

    def compute_output_spec(self, inputs: Tensors, training: bool | None = None) -> Tensors:
        """Return the shapes and types of the inputs."""
        results = keras.tree.map_structure(lambda one: keras.KerasTensor(one.shape, one.dtype), inputs)
        return list(results) if isinstance(results, tuple) else results

    def _axes(self, tensor: keras.KerasTensor, rank: int) -> tuple[int, ...]:
        """Return the axes of a tensor to deform; masks may lack the channel axis of images with this rank."""
        if self.axis is not None:
            return self.axis
        has_channels = len(tensor.shape) >= rank
        if has_channels:
            _check.check_layer_rank(tuple(tensor.shape), self.ndim, "batch, channels and spatial axes")
        first = 2 if has_channels and keras.config.image_data_format() == "channels_first" else 1
        return tuple(range(first, first + rank - 2))

    def _random_displacement(self, first: keras.KerasTensor, n: int, in_pipeline: bool) -> keras.KerasTensor:
        points = _check.normalize_points(self.points, n)
        sigma = np.reshape(_check.normalize_sigma(self.sigma, n), (-1, *(1,) * n)).astype("float32")
        if in_pipeline:
            import tensorflow as tf  # noqa: PLC0415 - its tensors exist

            batch = [tf.shape(first)[0]] if self.per_sample else []
            return tf.random.normal([*batch, n, *points], seed=self.seed) * sigma
        batch = [keras.ops.shape(first)[0]] if self.per_sample else []
        return keras.random.normal((*batch, n, *points), seed=self._random, dtype="float32") * sigma

    def _without_folds(self, displacement: Array, frame: tuple[int, ...]) -> Array:
        """Apply the policy on folds to a random displacement; in a TensorFlow graph, at run time."""
        if self.fold == "ignore" or not hasattr(displacement, "op"):
            return by_policy(displacement, frame, self._policy)
        return compute_with_numpy(lambda values: by_policy(values, frame, self._policy), displacement)

    def get_config(self) -> dict[str, object]:
        """Return the configuration that recreates the layer."""
        names = (
            "sigma",
            "points",
            "learnable",
            "per_sample",
            "axis",
            "order",
            "mode",
            "cval",
            "mask_order",
            "bounding_box_format",
            "ndim",
            "fold",
            "margin",
            "seed",
        )
        own = {name: getattr(self, name) for name in names}
        displacement = None if self.initial is None else self.initial.tolist()
        return super().get_config() | own | {"displacement": displacement}
