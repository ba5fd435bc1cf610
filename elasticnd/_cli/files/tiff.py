"""TIFF files: pictures and stacks, including those of ImageJ and OME."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

import numpy as np

from ..._errors import CommandError
from ..._types import DType, NumpyArray
from ..extras import need
from . import logs, tiff_damage, tiff_tags
from .image import ALPHA, DTYPES, PROFILE, RESOLUTION, Image, Samples, Shape, spatial_axes

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

NAME = "a TIFF file"
HOLDS = f"one of {', '.join(DTYPES)} in at least 2 axes, none of them empty"
COMMON = frozenset({PROFILE, RESOLUTION})

_LOSSLESS = (1, 5, 8, 32773, 32946, 50000)  # none, LZW, Deflate, PackBits, Deflate, Zstandard
_JPEG = (6, 7, 33007, 34892)  # decoded, YCbCr becomes RGB

_COLOURS = {
    "MINISWHITE": "grey",
    "MINISBLACK": "grey",
    "RGB": "RGB",
    "PALETTE": "palette",
    "SEPARATED": "CMYK",
    "YCBCR": "YCbCr",
    "CIELAB": "CIELAB",
    "ICCLAB": "ICCLAB",
    "ITULAB": "ITULAB",
}
_EXTRA = {"UNSPECIFIED": "a sample of unspecified meaning", "ASSOCALPHA": "premultiplied alpha", "UNASSALPHA": ALPHA}
_PHOTOMETRIC = {None: "minisblack", "grey": "minisblack", "RGB": "rgb", "palette": "palette"}

_SHAPE_OF_IMAGEJ = ("ImageJ", "images", "channels", "slices", "frames", "hyperstack")
_PLACES_OF_IMAGEJ = ("ROI", "Overlays")  # positions, which are not moved with the content
_PER_METRE = {2: 1 / 0.0254, 3: 100}  # inch, centimetre


class _Kept(NamedTuple):
    options: dict[str, object]  # for tifffile, to write such a file
    lab: DType | None = None  # type of stored CIELAB


def holds(dtype: str, shape: Shape) -> bool:
    """Return whether a file can store an array."""
    return dtype in DTYPES and len(shape) >= 2 and 0 not in shape


def read(path: Path, order: int, keep: bool) -> Image:
    """Read a file."""
    tifffile = _tifffile()
    with tiff_damage.raised(), tifffile.TiffFile(path) as file:
        if len(file.series) != 1:
            raise CommandError(f"IN: {path} holds {len(file.series)} images of different kinds, expected one")
        (series,) = file.series
        page = series.keyframe
        if page.colormap is not None and order != 0:
            raise CommandError(f"--order: got {order} for {path}, which has a palette, expected 0 or labels")
        tiff_damage.check_pages(series.pages, file.filehandle)
        array, axes = series.asarray(), series.axes
        samples = _samples(page, axes)
        tags = tiff_tags.read(page, series.pages, _is_decoded_jpeg(page))
        options, own, lost = _said(file, series, tags)
        kept = _Kept({**_layout(page, array.dtype, samples), **options})
    if samples.colour == "CIELAB" and array.dtype.kind == "u":
        kept = kept._replace(lab=array.dtype)
        array = _signed_lab(array, samples.axis)
    in_colour = samples.axis is None and _is_colour_picture(array.shape, axes)
    return Image(
        array,
        spatial_axes(axes[:-1] + "S" if in_colour else axes),
        samples,
        limits=_limits(page, kept),
        common=_common(page),
        own=(*tags.own, *own, *_names_of_axes(axes)),
        lost=(*tags.lost, *lost, *_lost_bits(page)),
        kept=kept if keep else None,
    )


def write(path: Path, image: Image) -> None:
    """Write a file."""
    array, kept = image.array, image.kept
    if kept is None:
        kept = _Kept(_new(path, image))
    elif kept.lab is not None:
        array = _stored_lab(array, image.samples.axis, kept.lab)
    elif image.limits is not None:
        array = np.clip(array, *image.limits)
    with logs.caught("tifffile"):
        _tifffile().imwrite(path, array, **kept.options)


def _tifffile() -> ModuleType:
    return need("tifffile", "files", NAME)


def _is_colour_picture(shape: Shape, axes: str) -> bool:
    """Return whether a file without named axes holds a colour picture."""
    return len(shape) == 3 and shape[2] in (3, 4) and axes[0] in "IQ"


# What the numbers mean.


def _samples(page: TiffPage, axes: str) -> Samples:
    photometric = page.photometric.name
    colour = "RGB" if _is_decoded_jpeg(page) else _COLOURS.get(photometric, photometric)
    return Samples(
        colour,
        axes.index("S") if "S" in axes else None,
        tuple(_EXTRA[extra.name] for extra in page.extrasamples),
        None if page.colormap is None else np.ascontiguousarray(page.colormap.T),
        photometric == "MINISWHITE",
    )


def _is_decoded_jpeg(page: TiffPage) -> bool:
    return page.photometric.name == "YCBCR" and page.compression in _JPEG


def _bits(page: TiffPage, dtype: DType) -> int | None:
    """Return the number of bits of a sample, if fewer than its type has."""
    packed = dtype.kind == "u" and isinstance(page.bitspersample, int) and page.bitspersample < dtype.itemsize * 8
    return page.bitspersample if packed else None


def _can_pack() -> bool:
    """Return whether samples of other than 8, 16 or 32 bits can be written; older versions of imagecodecs cannot."""
    try:
        need("imagecodecs", "files", NAME).packints_encode(np.zeros(8, np.uint8), 4)
    except (AttributeError, NotImplementedError):
        return False
    return True


def _limits(page: TiffPage, kept: _Kept) -> tuple[int, int] | None:
    if kept.lab is not None:
        return 0, np.iinfo(kept.lab).max // 2  # what both the lightness and the signed samples can hold
    bits = _bits(page, page.dtype)
    return None if bits is None else (0, 2**bits - 1)


def _lost_bits(page: TiffPage) -> Iterator[str]:
    if _bits(page, page.dtype) is not None and page.colormap is None and not _can_pack():
        yield "BitsPerSample"


def _signed_lab(array: NumpyArray, axis: int | None) -> NumpyArray:
    """Return CIELAB as numbers that can be interpolated: all samples except the lightness are signed."""
    half = np.iinfo(array.dtype).max // 2 + 1
    wide = np.moveaxis(array.astype(f"i{2 * array.dtype.itemsize}"), axis or 0, -1)
    wide[..., 1:3] = (wide[..., 1:3] + half) % (2 * half) - half
    return np.ascontiguousarray(np.moveaxis(wide, -1, axis or 0))


def _stored_lab(array: NumpyArray, axis: int | None, dtype: DType) -> NumpyArray:
    """Return CIELAB as files store it: the inverse of `_signed_lab`, with clipping."""
    full = np.iinfo(dtype).max
    half = full // 2 + 1
    samples = np.moveaxis(array, axis or 0, -1).clip(-half, full)
    samples[..., 1:3] = samples[..., 1:3].clip(-half, half - 1)
    samples[..., 0] = samples[..., 0].clip(0, full)
    samples[..., 3:] = samples[..., 3:].clip(0, full)
    return np.ascontiguousarray(np.moveaxis(samples, -1, axis or 0).astype(dtype))


# Metadata.


def _common(page: TiffPage) -> dict[str, object]:
    common = {}
    profile = page.tags.valueof(tiff_tags.PROFILE)
    if profile is not None:
        common[PROFILE] = profile
    numbers = page.get_resolution() if page.resolutionunit in _PER_METRE else (0.0, 0.0)
    per_metre = tuple(number * _PER_METRE.get(page.resolutionunit, 0) for number in numbers)
    if all(0 < number < np.inf for number in per_metre):
        common[RESOLUTION] = per_metre
    return common


def _layout(page: TiffPage, dtype: DType, samples: Samples) -> dict[str, object]:
    """Return options that lay out pixels as in this file."""
    bits = _bits(page, dtype)
    options = {
        "photometric": "rgb" if _is_decoded_jpeg(page) else page.photometric,
        "compression": page.compression if page.compression in _LOSSLESS and bits is None else None,
        "byteorder": page.parent.byteorder,  # the byte order of the copied tags
        "bigtiff": (page.parent.is_bigtiff and not page.parent.is_imagej) or None,
        "resolution": page.resolution,
        "resolutionunit": page.resolutionunit,
    }
    if bits is not None and page.colormap is None and _can_pack():
        options["bitspersample"] = bits
    if samples.axis is not None:
        options |= {"planarconfig": page.planarconfig, "extrasamples": page.extrasamples}
    if samples.colour == "YCbCr":
        options["subsampling"] = (1, 1)
    if samples.palette is not None:
        options["colormap"] = _padded(samples.palette, dtype)
    return options


def _padded(palette: NumpyArray, dtype: DType) -> NumpyArray:
    """Return a palette in the form of a file, with a colour for every number of the type."""
    colours = np.zeros((3, 2 ** (8 * dtype.itemsize)), np.uint16)
    colours[:, : len(palette)] = palette.T
    return colours


def _said(
    file: TiffFile, series: TiffPageSeries, tags: tiff_tags.Tags
) -> tuple[dict[str, object], list[str], list[str]]:
    """Return options that write the metadata, the names of what is kept, and the names of what is lost."""
    axes, page = series.axes, series.keyframe
    description = page.tags.valueof(tiff_tags.DESCRIPTION, "")
    options: dict[str, object] = {"ome": False, "software": False, "extratags": tags.copied, "metadata": None}
    if file.is_imagej:
        metadata = file.imagej_metadata
        metadata = {name: _escaped(name, value) for name, value in metadata.items() if name not in _SHAPE_OF_IMAGEJ}
        places = [name for name in _PLACES_OF_IMAGEJ if metadata.pop(name, None) is not None]
        lost = [f"{name} of ImageJ" for name in places]
        return options | {"imagej": True, "metadata": {**metadata, "axes": axes}}, ["metadata of ImageJ"], lost
    if file.is_ome:
        rewritten, lost = _rewritten_ome(description)
        return options | {"description": rewritten}, ["metadata of OME"], lost
    if file.is_shaped:
        metadata = {name: value for name, value in series.keyframe.parent.shaped_metadata[0].items() if name != "shape"}
        own = [name for name in metadata if name not in ("axes", "truncated")]
        text = next((text for text in _descriptions(page) if not text.startswith(('{"shape', "shape="))), "")
        own += ["ImageDescription"] if text else []
        return options | {"description": _encoded(text), "metadata": {**metadata, "axes": axes}}, own, []
    own = ["ImageDescription"] if description else []
    options["description"] = _encoded(description)
    if series.kind not in ("generic", "uniform"):  # a microscope maker's own, with tags that are not copied
        options["metadata"] = {"axes": axes}
    return options, own, []


def _names_of_axes(axes: str) -> Iterator[str]:
    """Yield the names of axes, unless they are only rows, columns, samples and pages."""
    if not set(axes) <= set("YXSIQ"):
        yield f"names of axes ({axes})"


def _descriptions(page: TiffPage) -> list[str]:
    return [tag.value for tag in page.tags.getall(tiff_tags.DESCRIPTION, ()) if isinstance(tag.value, str)]


def _encoded(text: str | bytes | None) -> bytes | None:
    """Encode a description, since tifffile only accepts ASCII strings."""
    return (text.encode() if isinstance(text, str) else text) or None


def _escaped(name: str, value: object) -> object:
    r"""Return a value of the description as ImageJ writes it, where µ is ``\u00B5``."""
    if name == "Info" or not isinstance(value, str):  # Info has its own tag, which holds any character
        return value
    return "".join(letter if letter.isascii() else f"\\u{ord(letter):04X}" for letter in value)


def _rewritten_ome(description: str) -> tuple[bytes, list[str]]:
    """Return OME's description for a new file: pages are in order, and regions are left out, since they do not move."""
    root = ElementTree.fromstring(description)  # noqa: S314  (expat limits what entities can do)
    namespace = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
    if namespace:
        ElementTree.register_namespace("", namespace[1:-1])
    root.attrib.pop("UUID", None)
    for pixels in root.iter(f"{namespace}Pixels"):
        blocks = pixels.findall(f"{namespace}TiffData")
        for block in blocks:
            place = list(pixels).index(block)
            pixels.remove(block)
        if blocks:
            pixels.insert(place, ElementTree.Element(f"{namespace}TiffData"))
    regions = root.findall(f"{namespace}ROI")
    for region in regions:
        root.remove(region)
    for reference in [image for image in root.iter(f"{namespace}Image")]:
        for region in reference.findall(f"{namespace}ROIRef"):
            reference.remove(region)
    rewritten: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return rewritten, ["ROI of OME"] if regions else []


# Images of other formats.


def _new(path: Path, image: Image) -> dict[str, object]:
    """Return options that write an image of another format."""
    samples = image.samples
    options: dict[str, object] = {"photometric": _PHOTOMETRIC[samples.colour]}
    if samples.axis is not None:
        options |= {"planarconfig": "contig", "extrasamples": ["unassalpha" for _ in samples.extra]}
    if samples.palette is not None:
        options["colormap"] = _padded(samples.palette, image.array.dtype)
    if PROFILE in image.common:
        profile = image.common[PROFILE]
        options["extratags"] = [(tiff_tags.PROFILE, 7, len(profile), profile, True)]
    if RESOLUTION in image.common:
        options["resolution"] = tuple(number / 100 for number in image.common[RESOLUTION])
        options["resolutionunit"] = "centimeter"
    return options
