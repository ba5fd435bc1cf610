"""Importing the package is quick, imports no framework, and finds a compiled module that its stub describes."""

import ast
import importlib.util
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import hosts
import pytest

from elasticnd import _core

FRAMEWORKS = (
    *("torch", "jax", "tensorflow", "keras", "cupy", "dask"),
    *("scipy", "matplotlib", "skimage", "imageio", "SimpleITK", "nibabel"),
)
TESTS = Path(__file__).parent

TIME_OF_IMPORT = """
import time
start = time.process_time()
import numpy
before = time.process_time()
import elasticnd
print((time.process_time() - before) / (before - start))
"""


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-I", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_imports_no_framework():
    code = f"import sys, elasticnd; print([name for name in {FRAMEWORKS} if name in sys.modules])"
    assert python("-c", code).strip() == "[]"


def test_import_is_quick():
    ratio = min(float(python("-c", TIME_OF_IMPORT)) for _ in range(5))
    assert ratio < 0.7, "relative to importing NumPy, to be independent of the machine; 0.45 was measured"


def stub_functions() -> dict[str, list[str]]:
    stub = ast.parse((resources.files("elasticnd") / "_core.pyi").read_text())
    return {
        node.name: [argument.arg for argument in node.args.args]
        for node in stub.body
        if isinstance(node, ast.FunctionDef)
    }


def test_stub_names_every_function():
    functions = {name for name in dir(_core) if callable(getattr(_core, name)) and not name.startswith("__")}
    assert functions == set(stub_functions())


@pytest.mark.parametrize(("name", "arguments"), stub_functions().items())
def test_stub_names_the_arguments(name, arguments):
    signature = getattr(_core, name).__doc__.splitlines()[0]
    assert signature.startswith(f"{name}(")
    assert re.findall(r"[(,] ?(\w+): ", signature) == arguments


CALLS_OF_TORCH = {
    "deformation": "elasticnd.deform_grid(image, grid)",
    "gradient": "elasticnd.deform_grid(image, grid.requires_grad_()).sum().backward()",
}


@pytest.mark.parametrize("call", CALLS_OF_TORCH)
def test_first_call_with_tensors_imports_little(call):
    """The call imports neither PyTorch's compiler nor SymPy, which would take seconds."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    code = f"""
import sys, torch
image, grid = torch.zeros(5, 4), torch.zeros(2, 3, 3)
(image * grid.sum().requires_grad_()).sum().backward()
before = set(sys.modules)
import elasticnd
{CALLS_OF_TORCH[call]}
print(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}} - {{"elasticnd", "numpy"}}))
"""
    assert python("-W", "ignore", "-c", code).strip() == "['array_api_compat', 'threadpoolctl']"


# Code that runs before workers are forked, and the call in the workers.
BEFORE_FORK = {
    "torch": ("import elasticnd.torch", "elasticnd.deform_grid(torch.zeros(8, 8), torch.zeros(2, 3, 3))"),
    "gradient": (
        "import elasticnd.torch",
        "elasticnd.deform_grid(torch.zeros(8, 8), torch.zeros(2, 3, 3).requires_grad_()).sum().backward()",
    ),
    "layer": (
        "import elasticnd.torch; layer = elasticnd.torch.ElasticDeform(sigma=1)",
        "layer(torch.zeros(1, 1, 8, 8))",
    ),
    "keras": (
        "import elasticnd.keras; layer = elasticnd.keras.ElasticDeform(sigma=1)",
        "layer(torch.zeros(1, 8, 8, 1), training=True)",
    ),
    "torchvision": (
        "import elasticnd.torchvision; deform = elasticnd.torchvision.RandomElasticDeform(sigma=1)",
        "deform(torch.zeros(1, 8, 8))",
    ),
    "monai": (
        "import elasticnd.monai; deform = elasticnd.monai.RandElasticDeformd('image', sigma=1, prob=1)",
        "deform({'image': torch.zeros(1, 8, 8)})",
    ),
    "torchio": (
        "import elasticnd.torchio; deform = elasticnd.torchio.RandomElasticGrid(sigma=1)",
        "deform(torch.zeros(1, 8, 8, 8))",
    ),
}


@pytest.mark.parametrize("case", BEFORE_FORK)
def test_forked_workers_import_nothing(case):
    """A worker would repeat its imports in every epoch."""
    before, call = BEFORE_FORK[case]
    hosts.require_all("torch", *({case} & {"keras", *hosts.NAMES}))
    code = f"""
import os, sys, torch, warnings
os.environ["KERAS_BACKEND"] = "torch"
warnings.simplefilter("ignore")
sys.path.insert(0, {str(TESTS)!r})
import hosts
if {case in hosts.NAMES}:
    hosts.load({case!r})
(torch.zeros(3).requires_grad_() * 2).sum().backward()
{before}
modules = set(sys.modules)
{call}
news = set(sys.modules) - modules
print(sorted(name for name in news if name.partition(".")[0] in ("elasticnd", "torch", "sympy")))
print("torch._dynamo" in sys.modules)
"""
    news, has_compiler = python("-c", code).splitlines()
    assert news == "[]"
    if case in ("torch", "gradient", "layer"):  # hosts and Keras may import it themselves
        assert has_compiler == "False"
