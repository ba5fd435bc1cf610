"""Undocumented names of frameworks: all are in one place, and a missing one is reported by name."""

import ast
import importlib
import re
from pathlib import Path

import frameworks
import numpy as np
import pytest

import elasticnd

PACKAGE = Path(elasticnd.__file__).parent
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")


def _tensorflow_graph():
    return frameworks.get("tensorflow").module.Graph()


def _xla_context():
    frameworks.get("tensorflow")
    tpu = importlib.import_module("tensorflow.python.ops.control_flow_ops")
    return tpu.XLAControlFlowContext()


def _keras_layer():
    frameworks.get("tensorflow")
    return importlib.import_module("keras").layers.Layer()


class Stored:
    """An array in a file."""

    shape, dtype, ndim = (4,), np.dtype(float), 1

    def __getitem__(self, index):
        return np.zeros(4)[index]


def _dask_array():
    return pytest.importorskip("dask.array").from_array(Stored(), chunks=2)


def _stored_dask_layer():
    array = _dask_array()
    return array.dask.layers[array.name]


def _jax_aval():
    jax = frameworks.get("jax").module
    return jax.typeof(jax.numpy.zeros(2))


# For each name, its owner and the name itself. The owner is a module, or a function that returns an object.
NAMES = {
    "torch": (
        ("torch", "_C._are_functorch_transforms_active"),
        ("torch", "_C._len_torch_dispatch_stack"),
        ("torch", "_C._dispatch_tls_is_dispatch_key_included"),
        ("torch", "_C.DispatchKey.PreDispatch"),
        ("torch", "_C._get_dispatch_mode"),
        ("torch", "_C._TorchDispatchModeKey.PROXY"),
        ("torch", "_C._autograd._top_saved_tensors_default_hooks"),
        ("torch", "_C._get_tracing_state"),
        ("torch", "_C._set_tracing_state"),
        ("torch", "_C.DisableTorchFunctionSubclass"),
        ("torch", "_C._AutoDispatchBelowAutograd"),
        ("torch", "_C._after_autograd_keyset"),
        ("torch", "_C.DispatchKeySet"),
        ("torch.autograd.forward_ad", "_set_fwd_grad_enabled"),
        ("torch.autograd.forward_ad", "_current_level"),
        ("torch.autograd.function", "_SingleLevelFunction"),
        ("torch._functorch.utils", "enable_single_level_autograd_function"),
    ),
    "jax": (
        ("jax.extend.core", "Primitive"),
        ("jax.interpreters.ad", "Zero"),
        ("jax.interpreters.ad", "is_undefined_primal"),
        ("jax.interpreters.ad", "primitive_jvps"),
        ("jax.interpreters.ad", "primitive_transposes"),
        ("jax.interpreters.batching", "primitive_batchers"),
        ("jax.interpreters.mlir", "lower_fun"),
        ("jax.interpreters.mlir", "register_lowering"),
        ("jax.interpreters.mlir", "ir.DictAttr"),
        ("jax.experimental.buffer_callback", "buffer_callback"),
        ("jax._src.core", "trace_state_clean"),
        (_jax_aval, "update"),
        (_jax_aval, "sharding.update"),
        (_jax_aval, "to_tangent_aval"),
    ),
    "tensorflow": (
        ("tensorflow.python.pywrap_tfe", "TFE_Py_PackJVPs"),
        ("tensorflow.python.pywrap_tfe", "TFE_Py_TapeSetShouldRecordBackprop"),
        (_tensorflow_graph, "_get_control_flow_context"),
        (_xla_context, "IsXLAContext"),
        (_xla_context, "outer_context"),
    ),
    "dask": (
        (_dask_array, "_meta"),
        ("dask.array.core", "getter"),
        ("dask.array.core", "getter_nofancy"),
        ("dask.array.core", "getter_inline"),
        (_stored_dask_layer, "task.func"),
        (_stored_dask_layer, "task.kwargs"),
    ),
    "keras": (
        (_keras_layer, "_convert_input_args"),
        (_keras_layer, "_allow_non_tensor_positional_args"),
    ),
}
CASES = [
    pytest.param(framework, of, name, id=f"{of if isinstance(of, str) else of.__name__.strip('_')}.{name}")
    for framework, names in NAMES.items()
    for of, name in names
]


@pytest.mark.parametrize(("framework", "of", "name"), CASES)
def test_every_name_exists(framework, of, name):
    if framework in ("torch", "jax", "tensorflow"):
        frameworks.get(framework)
    elif isinstance(of, str):
        pytest.importorskip(of)
    value = importlib.import_module(of) if isinstance(of, str) else of()
    for part in name.split("."):
        value = getattr(value, part)


@pytest.mark.parametrize("framework", NAMES)
def test_table_has_all_names(framework):
    tree = ast.parse((PACKAGE / "_compat" / f"{framework}.py").read_text(encoding="utf-8"))
    known = {part for of, name in NAMES[framework] for part in f"{of}.{name}".split(".")}
    assert private_names(tree) - defined_names(tree) <= known


def test_every_framework_has_a_table():
    files = {path.stem for path in (PACKAGE / "_compat").glob("*.py")} - {"__init__"}
    assert files == set(NAMES)


# ---- no private name elsewhere ---------------------------------------------------------------------------------------

# Methods of named tuples, which the documentation of Python describes.
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make"}
# Methods that the transforms inherit from MONAI and TorchIO. test_monai.py and test_torchio.py call them.
DOCUMENTED |= {"_do_transform", "_add_base_args"}
INTERNAL = re.compile(
    r"(?!elasticnd)(jax\.(_src|interpreters|extend)|tensorflow\.python|keras\.src|(\w+\.)+_[a-zA-Z]\w*)(\.|$)"
)
DOTTED = re.compile(r"[\w.]+")
PRIVATE = re.compile(r"_[a-zA-Z]\w*")


def private_names(tree):
    """Return private names of other modules: attributes that are read, imported names, and names in strings."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            found.add(node.attr)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if INTERNAL.match(alias.name)}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            if INTERNAL.match(node.module):
                found |= {node.module.rpartition(".")[2]}
            found |= {alias.name for alias in node.names if PRIVATE.fullmatch(alias.name)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
            found |= {node.value} if INTERNAL.match(node.value) else set()
    return found - DOCUMENTED


def defined_names(tree):
    """Return the names that a module defines: functions, classes, variables, fields, and attributes that it reads."""
    stored, loaded, defined = set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).rpartition(".")[2])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            (stored if isinstance(node.ctx, ast.Store) else loaded).add(node.attr)
    return defined | stored & loaded  # attributes that are set but never read are read by a base class


def own_names():
    """Return the private names that the package itself defines."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    names = {name for path, tree in trees.items() if "_compat" not in path.parts for name in defined_names(tree)}
    return names | {path.stem for path in PACKAGE.rglob("*")}


OWN = own_names()
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if "_compat" not in path.parts)


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_is_used_elsewhere(module):
    assert not private_names(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))) - OWN


@pytest.mark.parametrize(
    "text",
    [
        "tensor._secret()",
        "layer._convert_input_args = False",
        "self._convert_input_args = False",
        "from torch.autograd.function import _Secret",
        "from jax._src import core",
        "from tensorflow.python import pywrap_tfe",
        "import torch._functorch.utils",
        "sys.modules.get('torch.utils.data._utils.worker')",
    ],
)
def test_private_names_are_found(text):
    tree = ast.parse(text)
    assert private_names(tree) - OWN


# ---- messages --------------------------------------------------------------------------------------------------------


def test_what_torch_observes():
    torch = frameworks.get("torch").module
    from torch.fx.experimental.proxy_tensor import make_fx

    from elasticnd._compat import torch as compat

    seen = []

    def look(tensor):
        seen.append(compat.is_observed())
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


def test_when_tensorflow_is_compiled_by_xla():
    tf = frameworks.get("tensorflow").module
    from elasticnd._compat import tensorflow as compat

    seen = []

    def look(tensor):
        seen.append(compat.is_compiled_by_xla())
        return tensor + 1

    look(tf.zeros(2))
    tf.function(look)(tf.zeros(2))
    tf.function(look, jit_compile=True)(tf.zeros(2))
    tf.function(tf.function(look), jit_compile=True)(tf.zeros(2))
    assert seen == [False, False, True, True]


def test_what_tensorflow_differentiates():
    tf = frameworks.get("tensorflow").module
    from elasticnd._compat import tensorflow as compat

    variable, constant = tf.Variable(1.0), tf.constant(1.0)
    assert not compat.is_differentiated(variable)
    with tf.GradientTape():
        assert compat.is_differentiated(variable)
        assert not compat.is_differentiated(constant)
    with tf.autodiff.ForwardAccumulator(constant, constant):
        assert compat.is_differentiated(constant)
