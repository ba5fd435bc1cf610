"""From a call's arrays and options to its results: the way that all functions and `Deformation` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from . import _labels, _spec
from ._bridges.contract import Bridge
from ._errors import reject_value
from ._floating_point import in_default_state
from ._routes import bridge_of, common_bridge


class Transform(NamedTuple):
    """Where the voxels go, as the caller says it."""

    displacement: Any
    affine: Any = None
    rotate: Any = None
    zoom: Any = None
    about_frame: bool = False  # what `affine`, `rotate` and `zoom` act about: else the patch

    def unlabelled_beside(self, image: Any) -> Transform:
        """Return the same without the labels that arrays may have beside a labelled image."""
        displacement, affine = (_labels.unlabelled_beside(image, array) for array in self[:2])
        return self._replace(displacement=displacement, affine=affine)


class Call(NamedTuple):
    """A checked call: where it goes, and its arrays."""

    bridge: Bridge
    spec: _spec.DeformSpec
    displacement: Any
    affine: Any


def as_list(argument: str, X: Any) -> list[Any]:
    """Return several images, which come in a list or tuple, as a list; anything else is one image."""
    if not isinstance(X, (list, tuple)):
        return [X]
    if not X:
        reject_value(argument, "no images", "at least one")
    return list(X)


def with_and_without_labels(argument: str, X: Any) -> tuple[list[Any], list[Any]]:
    """Return images as a list, as they came and without labels."""
    given = as_list(argument, X)
    if len(given) > 1:
        _labels.check_alike(names_of(argument, len(given), X), given)
    return given, list(map(_labels.unlabelled, given))


def names_of(argument: str, count: int, X: Any) -> list[str]:
    """Return what each image is called in messages."""
    return [f"{argument}[{i}]" for i in range(count)] if isinstance(X, (list, tuple)) else [argument]


def like_input(X: Any, results: list[Any]) -> Any:
    """Return one result for one image, and a list or tuple for a list or tuple."""
    if isinstance(X, (list, tuple)):
        return type(X)(results) if type(X) in (list, tuple) else list(results)
    return results[0]


def image_bridge(argument: str, images: list[Any], X: Any) -> Bridge:
    """Return the bridge that serves all images, checked."""
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
    images: Sequence[Any],
    transform: Transform,
    options: dict[str, Any],
    shapes: Sequence[_spec.Shape] | None = None,
) -> Call:
    """Check a call; `shapes` are those of the images, where they are not those of `images`."""
    displacement = bridge.small_array("displacement", transform.displacement, images[0])
    affine = None if transform.affine is None else bridge.small_array("affine", transform.affine, images[0])
    infos = [bridge.info(image) for image in images]
    if shapes is not None:
        infos = [info._replace(shape=shape) for info, shape in zip(infos, shapes, strict=True)]
    spec = _spec.normalize(
        tuple(infos),
        bridge.info(displacement),
        None if affine is None else bridge.info(affine),
        argument,
        **options,
    )
    return Call(bridge, spec, displacement, affine)


@in_default_state
def deform(X: Any, transform: Transform, axis: Any, frame: _spec.Shape | None = None, **options: Any) -> Any:
    """Deform images, whose deformed axes must have the extents of the `frame` if there is one."""
    given, images = with_and_without_labels("X", X)
    bridge = image_bridge("X", images, X)
    transform = transform.unlabelled_beside(given[0])
    options |= {
        "axis": _labels.axis_numbers(given, axis),
        "rotate": transform.rotate,
        "zoom": transform.zoom,
        "about_frame": transform.about_frame,
        "frame": frame,
    }
    if bridge.is_deferred((*images, transform.displacement, transform.affine)):
        results = bridge.deferred(images, transform.displacement, transform.affine, options)
    else:
        call = prepare("X", bridge, images, transform, options)
        results = bridge.forward(call.spec, images, call.displacement, call.affine)
    return like_input(X, _labelled(given, results, options["axis"], options["crop"]))


def _labelled(images: list[Any], results: list[Any], axis: Any, crop: Any) -> list[Any]:
    """Restore coordinates and attributes; those of the voxels that results are of."""
    if not _labels.is_labelled(images[0]):
        return results
    axes = _spec.axes_of_images(axis, len(images))
    patches = (_labels.patch_of(image, own, crop) for image, own in zip(images, axes, strict=True))
    return list(map(_labels.labelled_like, results, patches))
