"""JAX programs that call the core, through XLA's foreign function interface or else through Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import _core
from .._autodiff import compute, operators
from .._autodiff.operators import Operator
from .._compat import jax as compat
from .._compat.jax import mlir
from .._job import Job, evaluation_job, field_job
from . import jax_arrays as arrays_of
from . import jax_sharding
from .jax_arrays import Array


def call(operator: Operator, flat: Sequence[Array]) -> list[Array]:
    """Apply an operator: directly to arrays at hand, otherwise through XLA, which calls the core or Python."""
    if arrays_of.are_at_hand(flat):
        return arrays_of.run_at_once(operator, flat)
    kinds = [jax.ShapeDtypeStruct(*result) for result in arrays_of.results_of(operator, flat)]
    if not _has_target(operator):
        return list(jax.pure_callback(partial(arrays_of.run, operator), kinds, *flat, vmap_method="sequential"))
    target = jax.ffi.ffi_call(_target_of(operator), kinds, vmap_method="sequential")
    return list(target(*flat, **_attributes(operator)))


def lower(context: compat.LoweringContext, *flat: object, operator: Operator) -> object:
    if not _has_target(operator):
        return mlir.lower_fun(partial(_call_by_operator, operator), multiple_results=True)(context, *flat)
    given, results = ([aval.shape for aval in avals] for avals in (context.avals_in, context.avals_out))
    extra = jax_sharding.attributes(operator, given, results)
    lowering = jax.ffi.ffi_lowering(_target_of(operator), extra_attributes=extra)
    return lowering(context, *flat, **_attributes(operator))


def _call_by_operator(operator: Operator, *flat: Array) -> list[Array]:
    return call(operator, flat)


# ---- handlers --------------------------------------------------------------------------------------------------------


def _has_target(operator: Operator) -> bool:
    """Return whether XLA calls the core itself, and not through Python."""
    return operator.verb not in operators.SEARCHES and has_handlers()


@lru_cache(maxsize=1)
def has_handlers() -> bool:
    """Register the core's handlers, and return whether XLA can use them: they must not be newer than XLA."""
    targets = _core.xla_targets()
    if not targets or not hasattr(jax, "ffi") or _core.xla_version > _runtime_version():
        return False
    for name, capsule in targets.items():
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
        jax_sharding.register(name)
    return True


def _runtime_version() -> tuple[int, int]:
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text()
    major, minor = (re.search(rf"XLA_FFI_API_{part} (\d+)", header) for part in ("MAJOR", "MINOR"))
    return (int(major[1]), int(minor[1])) if major and minor else (0, 0)


def _target_of(operator: Operator) -> str:
    return f"elasticnd_{operator.verb}"


@lru_cache(maxsize=512)
def _attributes(operator: Operator) -> dict[str, Any]:
    """Pack the numbers of a call in the layout of cpp/src/bindings/xla.cpp."""
    spec: Any = operator.call
    if operator.verb in operators.EVALUATION:
        return {"job": _words(evaluation_job(spec, operator.order))}
    if operator.verb in operators.ADJOINT:
        return {"job": _words(field_job(spec))}
    wants = operator.wants_image, operator.wants_transform
    return {
        "job": _words(compute.plan_of(spec, operator.homogeneous).job),
        "axes": np.array(spec.core_axes(spec.images[0]), np.int64),
        "operands": np.array([spec.has_affine, operator.tangents, *wants], np.int64),
    }


def _words(job: Job) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(job.tobytes(), np.int64)
