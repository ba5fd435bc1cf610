"""Options and specifications as texts, which can stand in a recorded program and in a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ._modes import Mode
from ._spec import DeformSpec, EvaluationSpec, ImageSpec, Options, Window


def text_of_options(options: Options) -> str:
    """Write the options of one image."""
    crop, rotate = options.crop, options.rotate
    if crop is not None:
        crop = [[part.start, part.stop, part.step] for part in crop]
    if isinstance(rotate, Mapping):
        rotate = {"planes": [[list(plane), float(degrees)] for plane, degrees in rotate.items()]}
    elif hasattr(rotate, "as_matrix"):
        rotate = rotate.as_matrix()
    fields = options._replace(crop=crop, rotate=rotate)._asdict()
    return json.dumps(fields, default=lambda value: value.tolist())


@lru_cache(maxsize=256)
def options_from_text(text: str) -> Options:
    """Undo `text_of_options`."""
    options = Options(**json.loads(text))
    if options.crop is not None:
        options = options._replace(crop=tuple(slice(*part) for part in options.crop))
    axis, frame = (None if value is None else tuple(value) for value in (options.axis, options.frame))
    rotate = options.rotate
    if isinstance(rotate, dict):
        rotate = {tuple(plane): degrees for plane, degrees in rotate["planes"]}
    return options._replace(axis=axis, frame=frame, rotate=rotate)


def text_of_spec(spec: DeformSpec | EvaluationSpec) -> str:
    """Write a specification."""
    return json.dumps({"spec" if isinstance(spec, DeformSpec) else "points_spec": dataclasses.asdict(spec)})


@lru_cache(maxsize=256)
def spec_from_text(text: str) -> DeformSpec | EvaluationSpec | None:
    """Undo `text_of_spec`; None for the text of options."""
    held = json.loads(text)
    if "points_spec" in held:
        return EvaluationSpec(**_with_tuples(held["points_spec"]))
    fields = held.get("spec")
    if fields is None:
        return None
    images = [image | {"mode": Mode(image["mode"])} for image in map(_with_tuples, fields["images"])]
    windows = {name: Window(*_with_tuples(fields[name])) for name in ("window", "roi") if fields[name] is not None}
    return DeformSpec(**_with_tuples(fields) | windows | {"images": tuple(ImageSpec(**image) for image in images)})


def _with_tuples(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(part) for name, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
