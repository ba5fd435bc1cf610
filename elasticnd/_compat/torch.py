"""All private names of PyTorch that the package uses."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TypeAlias

import torch
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

# Whether a transform of `torch.func` is running: it wraps tensors without changing their type.
is_in_func_transform = torch._C._are_functorch_transforms_active
# How many modes, such as those of `make_fx` and `FakeTensorMode`, see every operator of the dispatcher.
_count_dispatch_modes = torch._C._len_torch_dispatch_stack
_is_key_included = torch._C._dispatch_tls_is_dispatch_key_included
_PRE_DISPATCH = torch._C.DispatchKey.PreDispatch
# How `torch.utils.checkpoint` stores tensors for derivatives.
_saved_tensors_hooks = torch._C._autograd._top_saved_tensors_default_hooks
# The recorder of `make_fx`.
_dispatch_mode = torch._C._get_dispatch_mode
_PROXY = torch._C._TorchDispatchModeKey.PROXY
# The recorder of `torch.jit.trace`, which represents extents by tensors.
_tracing_state = torch._C._get_tracing_state
_set_tracing_state = torch._C._set_tracing_state

# In this context, subclasses of tensors act as plain tensors; "Extending PyTorch" describes it.
DisableTorchFunctionSubclass = torch._C.DisableTorchFunctionSubclass

# The parts of an autograd kernel in Python, as `torch.library.custom_op` makes it, but without forward mode.
AutoDispatchBelowAutograd = torch._C._AutoDispatchBelowAutograd
DispatchKeySet: TypeAlias = torch._C.DispatchKeySet
_AFTER_AUTOGRAD = torch._C._after_autograd_keyset
SingleLevelFunction = _SingleLevelFunction
set_forward_mode_enabled = forward_ad._set_fwd_grad_enabled


def is_observed() -> bool:
    """Return whether operators are being transformed, recorded or watched, so that each must pass the dispatcher."""
    return bool(
        is_in_func_transform()
        or _count_dispatch_modes()
        or _tracing_state() is not None
        or is_recorded_before_dispatch()
    )


def is_recorded_before_dispatch() -> bool:
    """Return whether `make_fx(pre_dispatch=True)` or `torch.export` records operators before autograd."""
    return bool(_is_key_included(_PRE_DISPATCH))


def is_exported() -> bool:
    """Return whether `torch.export` records; it has operators for the levels of transforms."""
    return bool(torch.compiler.is_exporting())


def are_saved_tensors_replaced() -> bool:
    """Return whether hooks, such as those of `torch.utils.checkpoint`, replace the tensors needed for derivatives."""
    return _saved_tensors_hooks(True) is not None


def is_recorder_nested() -> bool:
    """Return whether a `make_fx` recorder runs inside another recorder, which would miss the operators."""
    mode = _dispatch_mode(_PROXY)
    if mode is None:
        return False
    outer = [one for one in mode.enter_stack if one is not None and one is not mode]
    return bool(outer) or _tracing_state() is not None or is_recorded_before_dispatch()


def shape_of(tensor: torch.Tensor) -> torch.Size:
    """Return the shape of a tensor, as numbers even if `torch.jit.trace` records."""
    state = _tracing_state()
    if state is None:
        return tensor.shape
    _set_tracing_state(None)
    try:
        return tensor.shape
    finally:
        _set_tracing_state(state)


def below_autograd(keys: DispatchKeySet) -> DispatchKeySet:
    """Return the dispatcher keys that come after autograd."""
    below: DispatchKeySet = keys & _AFTER_AUTOGRAD
    return below


def is_in_forward_mode() -> bool:
    """Return whether tensors may be dual numbers."""
    return bool(forward_ad._current_level >= 0)


def allow_single_level_functions() -> AbstractContextManager[None]:
    """Return a context in which `SingleLevelFunction` may be applied inside transforms of `torch.func`."""
    from torch._functorch.utils import enable_single_level_autograd_function  # noqa: PLC0415 - a large import

    context: AbstractContextManager[None] = enable_single_level_autograd_function()
    return context
