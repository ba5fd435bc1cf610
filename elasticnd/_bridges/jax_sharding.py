"""Batches sharded over devices: XLA learns that items are independent, and leaves them in place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax

from .._autodiff.operators import Operator
from .._compat.jax import mlir
from .._spec import Shape

CAN_DIVIDE = hasattr(jax, "ffi") and hasattr(jax.ffi, "register_ffi_target_as_batch_partitionable")


@lru_cache
def register(target: str) -> None:
    """Register a target whose calls XLA divides, if they state their number of batch axes."""
    if CAN_DIVIDE:
        jax.ffi.register_ffi_target_as_batch_partitionable(target)


def attributes(operator: Operator, given: Sequence[Shape], results: Sequence[Shape]) -> dict[str, Any]:
    """Return attributes that tell XLA that all operands and results of a call begin with the batch axes."""
    batch = len(operator.call.batch)
    if not batch or not CAN_DIVIDE:
        return {}
    count = batch
    names = [_factor(k) for k in range(batch)]
    sizes = dict(zip(names, operator.call.batch, strict=True))
    texts = []
    for shape in (*given, *results):
        own = list(names)
        for extent in shape[batch:]:
            own.append(_factor(count))
            sizes[own[-1]] = extent
            count += 1
        texts.append(f"[{', '.join(own)}]")
    inputs = len(given)
    rest = [name for name in sizes if name not in names]
    rule = (
        f"#sdy.op_sharding_rule<({', '.join(texts[:inputs])})->({', '.join(texts[inputs:])}) "
        f"{{{', '.join(f'{name}={size}' for name, size in sizes.items())}}} "
        f"need_replication={{{', '.join(rest)}}}, custom>"
    )
    return {
        "mhlo.frontend_attributes": mlir.ir.DictAttr.get({"num_batch_dims": mlir.ir.StringAttr.get(str(batch))}),
        "sdy.sharding_rule": mlir.ir.Attribute.parse(rule),
    }


def _factor(index: int) -> str:
    """Return the name of an axis in Shardy's notation: i, j, ... z, z_1, z_2, ..."""
    return chr(ord("i") + index) if index < 18 else f"z_{index - 17}"


def divide(results: Sequence[Any], operator: Operator) -> None:
    """Mark the call that computes these results, so that XLA divides it."""
    call = results[0].owner
    while call.name != "stablehlo.custom_call":  # the results of the call are still reordered or reinterpreted
        call = call.operands[0].owner
    register(mlir.ir.StringAttr(call.attributes["call_target_name"]).value)
    for name, value in attributes(operator, _shapes(call.operands), _shapes(call.results)).items():
        call.attributes[name] = value


def _shapes(values: Sequence[Any]) -> list[Shape]:
    return [tuple(mlir.ir.RankedTensorType(value.type).shape) for value in values]
