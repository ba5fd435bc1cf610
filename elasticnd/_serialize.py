"""Options and specifications as strings, for recorded programs and files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ._modes import Mode
from ._spec import DeformSpec, EvaluationSpec, Frame, ImageSpec, MovementSpec, Options, OutputGrid, Window
from ._types import Array


def text_of_options(options: Options) -> str:
    """Convert the options of one image to a string."""
    rotate = options.rotate
    if isinstance(rotate, Mapping):
        rotate = {"planes": [[list(plane), float(degrees)] for plane, degrees in rotate.items()]}
    elif hasattr(rotate, "as_matrix"):
        rotate = rotate.as_matrix()
    crop = None if options.crop is None else [[part.start, part.stop, part.step] for part in options.crop]
    fields = options._asdict() | {"crop": crop, "rotate": rotate}
    return json.dumps(fields, default=_jsonable)


def _jsonable(value: Array) -> object:
    """Return a JSON-compatible form of an array or a complex number."""
    return {"complex": [value.real, value.imag]} if isinstance(value, complex) else value.tolist()


@lru_cache(maxsize=256)
def options_from_text(text: str) -> Options:
    """Invert `text_of_options`."""
    fields = json.loads(text)
    if fields["crop"] is not None:
        fields["crop"] = tuple(slice(*part) for part in fields["crop"])
    for name in ("axis", "frame"):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    if fields["output_grid"] is not None:
        shape, frame, inverse_map = _with_tuples(fields["output_grid"])
        fields["output_grid"] = OutputGrid(shape, Frame(*frame), inverse_map)
    if isinstance(fields["rotate"], dict):
        fields["rotate"] = {tuple(plane): degrees for plane, degrees in fields["rotate"]["planes"]}
    if isinstance(fields["cval"], dict):
        fields["cval"] = complex(*fields["cval"]["complex"])
    return Options(**fields)


_AT_POINTS = {"evaluation_spec": EvaluationSpec, "movement_spec": MovementSpec}


def text_of_spec(spec: DeformSpec | EvaluationSpec) -> str:
    """Convert a specification to a string."""
    name = next((name for name, kind in _AT_POINTS.items() if type(spec) is kind), "spec")
    return json.dumps({name: dataclasses.asdict(spec)})


@lru_cache(maxsize=256)
def spec_from_text(text: str) -> DeformSpec | EvaluationSpec | None:
    """Invert `text_of_spec`; return None for a string of options."""
    document = json.loads(text)
    for name, kind in _AT_POINTS.items():
        if name in document:
            spec: EvaluationSpec = kind(**_with_tuples(document[name]))
            return spec
    fields = document.get("spec")
    if fields is None:
        return None
    images = [image | {"mode": Mode(image["mode"])} for image in map(_with_tuples, fields["images"])]
    windows = {name: Window(*_with_tuples(fields[name])) for name in ("window", "roi") if fields[name] is not None}
    frame = None if fields["frame"] is None else Frame(*_with_tuples(fields["frame"]))
    made = windows | {"images": tuple(ImageSpec(**image) for image in images), "frame": frame}
    return DeformSpec(**_with_tuples(fields) | made)


def _with_tuples(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(part) for name, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
