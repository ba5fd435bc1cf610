"""The private names of PyTorch that the package uses: which of them broke."""

import importlib

import frameworks
import pytest

torch = frameworks.get("torch").module
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")

NAMES = (
    "torch._C._are_functorch_transforms_active",
    "torch._C._len_torch_dispatch_stack",
    "torch._C._dispatch_tls_is_dispatch_key_included",
    "torch._C.DispatchKey.PreDispatch",
    "torch._C._get_dispatch_mode",
    "torch._C._TorchDispatchModeKey.PROXY",
    "torch._C._autograd._top_saved_tensors_default_hooks",
    "torch._C._get_tracing_state",
    "torch._C._set_tracing_state",
    "torch._C.DisableTorchFunctionSubclass",
    "torch._C._AutoDispatchBelowAutograd",
    "torch._C._after_autograd_keyset",
    "torch.autograd.forward_ad._set_fwd_grad_enabled",
    "torch.autograd.forward_ad._current_level",
    "torch.autograd.function._SingleLevelFunction",
    "torch._functorch.utils.enable_single_level_autograd_function",
)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_there(name):
    value = torch
    for part in name.split(".")[1:]:
        value = getattr(value, part, None) or importlib.import_module(f"{value.__name__}.{part}")


def test_what_is_observed():
    from torch.fx.experimental.proxy_tensor import make_fx

    from elasticnd._bridges import torch_compat

    seen = []

    def look(tensor):
        seen.append(torch_compat.is_observed())
        return tensor + 1

    look(torch.zeros(2))
    assert seen == [False]
    torch.func.grad(lambda tensor: look(tensor).sum())(torch.zeros(2))
    torch.jit.trace(look, torch.zeros(2), check_trace=False)
    for options in ({"tracing_mode": "real"}, {"tracing_mode": "fake"}, {"pre_dispatch": True}):
        make_fx(look, **options)(torch.zeros(2))
    assert all(seen[1:])
    assert len(seen) == 6
    look(torch.zeros(2))
    assert not seen[-1]
