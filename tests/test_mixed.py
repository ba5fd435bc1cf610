"""Arrays of several libraries or devices in one call are refused, naming both. NumPy grids are accepted."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import frameworks
import numpy as np
import pytest

import elasticnd

IMAGE, GRID, MATRIX = np.arange(30.0).reshape(5, 6), np.zeros((2, 2, 2)), np.eye(2, 3)
ROLES = {
    "image": lambda image, other: elasticnd.deform_grid([image, other(IMAGE)], GRID),
    "grid": lambda image, other: elasticnd.deform_grid(image, other(GRID)),
    "matrix": lambda image, other: elasticnd.deform_grid(image, GRID, affine=other(MATRIX)),
    "gradient": lambda image, other: elasticnd.deform_grid_vjp(other(IMAGE), image, GRID),
    "grid of a gradient": lambda image, other: elasticnd.deform_grid_gradient(image, other(GRID)),
}
SMALL = ("grid", "matrix", "grid of a gradient")


class Library(NamedTuple):
    """A function that creates the arrays of a library, and the library's name in messages."""

    make: Callable[[], Callable[[Any], Any]]
    name: str


def other(name, maker):
    return lambda: getattr(pytest.importorskip(name, reason=f"{name} is not installed"), maker)


LIBRARIES = {
    "numpy": Library(lambda: np.asarray, "numpy"),
    "torch": Library(lambda: frameworks.get("torch").array, "torch"),
    "jax": Library(lambda: frameworks.get("jax").array, "jax"),
    "tensorflow": Library(lambda: frameworks.get("tensorflow").array, "tensorflow"),
    "array_api_strict": Library(other("array_api_strict", "asarray"), "array_api_strict"),
    # Control grids and matrices may be the NumPy arrays that labelled arrays contain.
    "xarray": Library(other("xarray", "DataArray"), "xarray|numpy"),
}


def refused(call, first, second):
    """Return the message of a refusal, after checking that it names both libraries."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    message = str(caught.value)
    for name in (first, second):
        assert re.search(name, message, re.IGNORECASE), message
    assert re.match(r"(X\[1\]|displacement|affine|dY): got .*, expected ", message), message


@pytest.mark.parametrize("second", LIBRARIES)
@pytest.mark.parametrize("first", LIBRARIES)
def test_libraries(first, second):
    make, other = LIBRARIES[first].make(), LIBRARIES[second].make()
    image = make(IMAGE)
    for role, call in ROLES.items():
        if first == second or (second == "numpy" and role in SMALL):
            call(image, other)
        else:
            refused(lambda call=call: call(image, other), LIBRARIES[first].name, LIBRARIES[second].name)


def _strict():
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    return xp.asarray, lambda values: xp.asarray(values, device=xp.Device("device1")), "CPU_DEVICE", "device1"


def _torch():
    torch = frameworks.get("torch").module
    return torch.tensor, lambda values: torch.tensor(values, device="meta"), "cpu", "meta"


def _jax():
    jax = frameworks.get("jax").module
    if len(jax.devices()) < 2:
        pytest.skip("JAX has only one device")
    makers = [lambda values, device=device: jax.device_put(values, device) for device in jax.devices()[:2]]
    return *makers, *(str(device) for device in jax.devices()[:2])


@pytest.mark.parametrize("engine", [None, "generic"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("library", [_strict, _torch, _jax], ids=["array_api_strict", "torch", "jax"])
def test_devices(library, role, engine):
    here, there, *names = library()
    with elasticnd.use_engine(engine):
        refused(lambda: ROLES[role](here(IMAGE), there), *names)
