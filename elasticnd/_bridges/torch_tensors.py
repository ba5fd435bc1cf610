"""PyTorch tensors: which ones the engines accept, and operators applied to tensors with values."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import copy
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from .._autodiff import compute as compute_operator
from .._autodiff import operators
from .._autodiff.operators import Operator, unflatten
from .._compat import torch as compat
from .._engines.cuda.devices import CAPTURED_COPY, allocating_by, external_stream, import_cupy
from .._errors import reject_type, reject_value
from .._spec import ArrayInfo, DeformSpec, EvaluationSpec
from .._types import Array, NumpyArray
from . import array_api, eager


def info(tensor: Tensor) -> ArrayInfo:
    """Return shape and dtype. Symbolic extents become numbers."""
    shape = compat.shape_of(tensor)
    try:
        return _info(shape, tensor.dtype)
    except TypeError:  # symbols are not hashable
        return _info(torch.Size(map(int, shape)), tensor.dtype)


@lru_cache(maxsize=256)
def _info(shape: torch.Size, dtype: torch.dtype) -> ArrayInfo:
    return ArrayInfo(tuple(shape), name_of(dtype))


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype."""
    return str(dtype).removeprefix("torch.")


def is_foreign(tensor: Tensor) -> bool:
    """Return whether a tensor is on a device that only PyTorch supports; not `meta`, which has no values."""
    return not (tensor.is_cpu or tensor.is_cuda or tensor.is_meta)


def operations_on(tensor: Tensor) -> array_api.Namespace:
    """Return the operations of PyTorch on the device of a tensor."""
    from array_api_compat import torch as names  # noqa: PLC0415 - only for such a device

    return array_api.Namespace(names, tensor.device)


# ---- arguments -------------------------------------------------------------------------------------------------------


def check(argument: str, image: Tensor, first: Tensor) -> None:
    """Check that the engines accept an image."""
    _check_dense(argument, image)
    if not is_basic(image):
        _check_is_image(argument, image)
    if image.is_cpu and first.is_cpu:
        return
    if image.device != first.device:
        reject_value(argument, f"a tensor on {image.device}", f"one on {first.device}, like the first image")
    if image.is_cuda:
        import_cupy(argument, f"a tensor on {image.device}")


def _check_dense(argument: str, tensor: Tensor) -> None:
    if tensor.is_nested:  # it has no shape
        raise TypeError(f"{argument}: got a nested tensor, expected a dense tensor, or several of them in a list")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        reject_type(argument, tensor, "a dense tensor")


def _check_is_image(argument: str, image: Tensor) -> None:
    """Check that a torchvision tensor holds voxels, not coordinates."""
    kinds = sys.modules.get("torchvision.tv_tensors")
    for name in ("BoundingBoxes", "KeyPoints"):
        kind = getattr(kinds, name, None)
        if kind is not None and isinstance(image, kind):
            reject_type(argument, image, "an image or a mask, not coordinates")


def small_array(argument: str, value: object, like: Tensor | None = None) -> Tensor:
    """Convert a control grid or a matrix to a tensor, from a tensor, a NumPy array or nested lists of numbers."""
    if isinstance(value, Tensor):
        _check_dense(argument, value)
        if like is not None and value.device != like.device:
            reject_value(argument, f"a tensor on {value.device}", f"one on {like.device}, where the image is")
        tensor = unwrapped(value)
        if tensor.dtype.is_floating_point:
            return tensor if tensor.dtype.itemsize >= 4 else tensor.float()
        is_integer = not tensor.dtype.is_complex and tensor.dtype != torch.bool
        return tensor.to(_widest_float(tensor)) if is_integer else tensor
    if not isinstance(value, (np.ndarray, list, tuple)):
        reject_type(argument, value, "a torch.Tensor, a NumPy array or nested lists of numbers")
    array = eager.small_array(argument, value)
    if array.dtype.kind not in "iuf":
        return torch.zeros(array.shape, dtype=torch.bool)  # a dtype that is rejected later
    if like is not None and is_foreign(like):
        return array_api.real_array(operations_on(like), array)
    tensor = torch.as_tensor(array.astype(np.float64))
    return tensor if like is None else moved(tensor, like)


def moved(tensor: Tensor, like: Tensor) -> Tensor:
    """Move a tensor from the host to the device of another one, without waiting for a CUDA device."""
    if like.is_cuda and not torch.compiler.is_compiling():
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError(CAPTURED_COPY)
        tensor = tensor.pin_memory()  # copying other memory would wait
    return tensor.to(like.device, non_blocking=True)


def _widest_float(tensor: Tensor) -> torch.dtype:
    if not is_foreign(tensor):
        return torch.float64
    dtype: torch.dtype = array_api.real_array(operations_on(tensor), np.zeros(())).dtype
    return dtype


# ---- subclasses ------------------------------------------------------------------------------------------------------


def is_basic(tensor: Tensor) -> bool:
    """Return whether a tensor needs no unwrapping, unlike some subclasses."""
    return type(tensor) is Tensor or type(tensor) is Parameter


def _has_own_operators(kind: type) -> bool:
    """Return whether a subclass of tensors handles the dispatcher's operators itself."""
    return bool(kind.__torch_dispatch__ != Tensor.__torch_dispatch__)  # type: ignore[attr-defined]


def unwrapped(tensor: Tensor) -> Tensor:
    """Return the tensor inside a subclass that does not see the dispatcher's operators."""
    if is_basic(tensor) or _has_own_operators(type(tensor)):
        return tensor
    with compat.DisableTorchFunctionSubclass():
        inner: Tensor = tensor.as_subclass(Tensor)
    return inner


def wrapped_like(result: Tensor, tensor: Tensor) -> Tensor:
    """Convert a result to the class of a tensor, with the attributes that its instances carry.

    As with PyTorch's own functions, a result computed from a `Parameter` is not a `Parameter`.
    """
    kind = type(tensor)
    is_parameter_like = kind.__torch_function__ == Parameter.__torch_function__
    if is_basic(tensor) or _has_own_operators(kind) or is_parameter_like:
        return result
    wrapped = result.as_subclass(kind)
    for name, value in vars(tensor).items():
        vars(wrapped)[name] = copy(value)
    return wrapped


# ---- values ----------------------------------------------------------------------------------------------------------


def needs_dispatcher(tensors: Sequence[Tensor]) -> bool:
    """Return whether an operator must go through the dispatcher: for tensors without values, or while it is observed.

    The type of a tensor is not enough: tensors may be ordinary ones while a program is recorded.
    """
    return compat.is_observed() or not all(map(_holds_values, tensors))


def _holds_values(tensor: Tensor) -> bool:
    return (tensor.is_cpu or tensor.is_cuda) and is_basic(tensor)


def are_like_numpy(tensors: Sequence[Tensor]) -> bool:
    """Return whether NumPy arrays can stand in for all tensors."""
    return all(tensor.is_cpu and is_basic(tensor) and tensor.dtype != torch.bfloat16 for tensor in tensors)


def needs_derivatives(tensors: Sequence[Tensor]) -> bool:
    """Return whether derivatives of results that are computed from tensors may be needed."""
    if compat.is_in_forward_mode():
        return True
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def compute(operator: Operator, flat: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Apply an operator to tensors with values. Results are C-ordered."""
    call = operator.call
    operands = unflatten(operator, flat)
    spec = call if isinstance(call, (DeformSpec, EvaluationSpec)) else call.spec_of(operands)
    if flat[0].is_cuda:
        return compute_on_device(operator, spec, flat)
    results = compute_operator.run(operator, spec, unflatten(operator, [to_numpy(tensor) for tensor in flat]))
    return tuple(
        from_numpy(array, like.dtype) for array, like in zip(results, operators.likes(operator, operands), strict=True)
    )


def compute_on_device(
    operator: Operator, spec: DeformSpec | EvaluationSpec, flat: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Apply an operator by the CUDA kernels, which read and write tensors on the current stream of their device.

    Their scratch memory also comes from PyTorch: while a CUDA graph is captured, from its pool.
    """
    likes = operators.likes(operator, unflatten(operator, flat))
    shapes = operators.result_shapes(operator, spec)
    device = flat[0].device
    stream = external_stream(torch.cuda.current_stream(device).cuda_stream)
    with torch.cuda.device(device), stream, allocating_by(partial(_lend, device)):
        outputs = [
            torch.empty(shape, dtype=like.dtype, device=device) for shape, like in zip(shapes, likes, strict=True)
        ]
        arrays = unflatten(operator, [_to_cupy(tensor) for tensor in flat])
        # Image-like results are written in place; gradients of transforms are float64, and small.
        into = _to_cupy(outputs[0]) if operator.verb == "sample" or operator.wants_image else None
        results = compute_operator.run(operator, spec, arrays, into)
        for output, result in zip(outputs, results, strict=True):
            if result is not into:
                _to_cupy(output)[...] = result
    return tuple(outputs)


def _lend(device: torch.device, size: int) -> tuple[int, object]:
    """Allocate PyTorch memory; return its address, and the object that holds it."""
    memory = torch.UntypedStorage(size, device=device)
    return memory.data_ptr(), memory


def _to_cupy(tensor: Tensor) -> Array:
    import cupy  # noqa: PLC0415

    tensor = tensor.detach().resolve_neg().resolve_conj()
    # The engine works on the bits of bfloat16.
    return cupy.from_dlpack(tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor)


def to_numpy(tensor: Tensor) -> NumpyArray:
    """Return the memory of a tensor as a NumPy array."""
    try:
        return tensor.numpy()
    except (
        RuntimeError,
        TypeError,
    ):  # the tensor records gradients, is a lazy conjugate, or has a type that NumPy lacks
        tensor = tensor.detach().resolve_neg().resolve_conj()
        # The engine works on the bits of bfloat16.
        array: NumpyArray = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return array


def from_numpy(array: NumpyArray, dtype: torch.dtype) -> Tensor:
    """Return the memory of a NumPy array as a tensor."""
    tensor = torch.from_numpy(array)
    if tensor.dtype == dtype:
        return tensor
    return tensor.view(dtype) if dtype == torch.bfloat16 else tensor.to(dtype)
