"""From a call's arrays and options to its results: the steps that all functions and `Deformation` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from . import _check, _labels, _spec
from ._autodiff import calls
from ._bridges.contract import Bridge
from ._errors import reject_value
from ._floating_point import in_default_state
from ._recall import recall
from ._routes import bridge_of, common_bridge
from ._spec import Options
from ._types import Array, Images


def as_list(argument: str, X: Array) -> list[Array]:
    """Return the images in a list or tuple as a list; anything else is one image."""
    if not isinstance(X, (list, tuple)):
        return [X]
    if not X:
        reject_value(argument, "no images", "at least one")
    return list(X)


def with_and_without_labels(argument: str, X: Array) -> tuple[list[Array], list[Array]]:
    """Return images as a list, with and without labels."""
    given = as_list(argument, X)
    if len(given) > 1:
        _labels.check_alike(names_of(argument, len(given), X), given)
    return given, list(map(_labels.unlabelled, given))


def names_of(argument: str, count: int, X: Array) -> list[str]:
    """Return the names of images in messages."""
    return [f"{argument}[{i}]" for i in range(count)] if isinstance(X, (list, tuple)) else [argument]


def like_input(X: Images, results: list[Array]) -> Images:
    """Return one result for one image, or a list or tuple like the input."""
    alike: Array = results[0]
    if isinstance(X, (list, tuple)):
        alike = type(X)(results) if type(X) in (list, tuple) else list(results)
    return cast("Images", alike)


def image_bridge(argument: str, images: list[Array], X: Array) -> Bridge:
    """Check images, and return the bridge that serves all of them."""
    if not isinstance(X, (list, tuple)):
        (image,) = images
        bridge = bridge_of(argument, image)
        bridge.check(argument, image, image)
        return bridge
    names = names_of(argument, len(images), X)
    bridge = common_bridge(names, images)
    for name, image in zip(names, images, strict=True):
        bridge.check(name, image, images[0])
    return bridge


def prepare(
    argument: str,
    bridge: Bridge,
    images: Sequence[Array],
    displacement: Array,
    affine: Array | None,
    options: Options,
    shapes: Sequence[_spec.Shape] | None = None,
) -> tuple[_spec.DeformSpec, Array, Array | None]:
    """Check a call; return its specification, and displacement and matrix as arrays of the images' library.

    `shapes` replace the shapes of `images`, if given.
    """
    displacement = bridge.small_array("displacement", displacement, images[0])
    affine = None if affine is None else bridge.small_array("affine", affine, images[0])
    infos = [bridge.info(image) for image in images]
    if shapes is not None:
        infos = [info._replace(shape=shape) for info, shape in zip(infos, shapes, strict=True)]
    of_affine = None if affine is None else bridge.info(affine)
    spec = _check.normalize(tuple(infos), bridge.info(displacement), of_affine, argument, options)
    return spec, displacement, affine


def deform(X: Images, displacement: Array, affine: Array | None, options: Options) -> Images:
    """Deform images."""
    results = recall(X, displacement, affine, options)
    return _deform(X, displacement, affine, options) if results is None else like_input(X, results)


@in_default_state
def _deform(X: Images, displacement: Array, affine: Array | None, options: Options) -> Images:
    given, images = with_and_without_labels("X", X)
    bridge = image_bridge("X", images, X)
    is_labelled = _labels.is_labelled(given[0])
    if is_labelled:
        displacement = _labels.unlabelled(displacement)
        affine = _labels.unlabelled(affine)
        options = options._replace(axis=_labels.axis_numbers(given, options.axis))
    results = deform_all("X", bridge, images, displacement, affine, options)
    if is_labelled:
        results = _labelled(given, results, options)
    return like_input(X, results)


def deform_all(
    argument: str, bridge: Bridge, images: list[Array], displacement: Array, affine: Array | None, options: Options
) -> list[Array]:
    """Deform images without labels, now or when a recorded program runs; messages call them `argument`."""
    if bridge.is_recorded((*images, displacement, affine)):
        return bridge.record(images, displacement, affine, options)
    spec, displacement, affine = prepare(argument, bridge, images, displacement, affine, options)
    return calls.deform(bridge, spec, images, displacement, affine)


def _labelled(images: list[Array], results: list[Array], options: Options) -> list[Array]:
    """Restore the coordinates and attributes of the voxels in the results."""
    axes = _check.axes_of_images(options.axis, len(images))
    patches = (_labels.patch_of(image, own, options.crop) for image, own in zip(images, axes, strict=True))
    return list(map(_labels.labelled_like, results, patches))
