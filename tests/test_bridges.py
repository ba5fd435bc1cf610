"""Functions that every bridge implements, and public functions called with the arrays of every framework.

Each call either works or is refused with the usual message: the argument, what came, and what is accepted.
"""

import importlib
import inspect
import pkgutil
import re
import warnings
from pathlib import Path

import frameworks
import numpy as np
import pytest

import elasticnd
from elasticnd import _bridges
from elasticnd._bridges.contract import Bridge

# Modules that only help bridges.
HELPERS = {
    "array_api",
    "blocks",
    "contract",
    "tensorflow_namespace",
    "torch_operator",
    "torch_ops",
    "torch_tensors",
}
BRIDGES = {module.name for module in pkgutil.iter_modules(_bridges.__path__)} - HELPERS
CONTRACT = {name: member for name, member in inspect.getmembers(Bridge, inspect.isfunction) if name[0] != "_"}
FORM = re.compile(r"[A-Za-z_]+(\[[^\]]*\])?: got .*, expected .*", re.DOTALL)


def test_parts_of_bridges_have_their_names():
    modules = {module.name for module in pkgutil.iter_modules(_bridges.__path__)}
    shared = {"array_api", "blocks", "contract"}
    assert modules >= BRIDGES
    assert all(name.partition("_")[0] in BRIDGES for name in modules - BRIDGES - shared)


@pytest.mark.parametrize("function", CONTRACT)
@pytest.mark.parametrize("name", sorted(BRIDGES))
def test_every_bridge_has_every_function(name, function):
    framework = {"eager": "numpy", "dlpack": "numpy"}.get(name, name)
    pytest.importorskip(framework)
    bridge = importlib.import_module(f"elasticnd._bridges.{name}")
    _, *given = inspect.signature(CONTRACT[function]).parameters.values()
    positional = [one.name for one in given if one.kind is not one.KEYWORD_ONLY]
    named = {one.name: None for one in given if one.kind is one.KEYWORD_ONLY}
    inspect.signature(getattr(bridge, function)).bind(*positional, **named)


def test_the_contract_names_all_functions():
    """The contract contains every function that the rest of the package calls on a bridge."""
    called = set()
    for path in Path(elasticnd.__file__).parent.rglob("*.py"):
        called |= set(re.findall(r"\b(?:bridge|framework)\.(\w+)", path.read_text(encoding="utf-8")))
    assert called - {"__name__"} == set(CONTRACT)


def _xarray(values):
    return pytest.importorskip("xarray").DataArray(values)


def _dask(values):
    return pytest.importorskip("dask.array").from_array(values)


def _strict(values):
    return pytest.importorskip("array_api_strict").asarray(values)


def _tensorflow_variable(values):
    return frameworks.get("tensorflow").module.Variable(values)


def _framework(name):
    return lambda values: frameworks.get(name).array(values)


DENSE = {
    "numpy": np.asarray,
    "torch": _framework("torch"),
    "jax": _framework("jax"),
    "tensorflow": _framework("tensorflow"),
    "variable of tensorflow": _tensorflow_variable,
    "dask": _dask,
    "xarray": _xarray,
    "xarray of jax": lambda values: _xarray(_framework("jax")(values)),
    "xarray of dask": lambda values: _xarray(_dask(values)),
    "array-api-strict": _strict,
}


def _sparse(maker):
    return lambda values: getattr(pytest.importorskip("sparse"), maker).from_numpy(values)


def _scipy_sparse(values):
    return pytest.importorskip("scipy.sparse").coo_array(values)


def _jax_sparse(values):
    frameworks.get("jax")
    return importlib.import_module("jax.experimental.sparse").BCOO.fromdense(values)


def _sparse_tensor(values):
    return frameworks.get("tensorflow").module.sparse.from_dense(values)


def _indexed_slices(values):
    tf = frameworks.get("tensorflow").module
    return tf.IndexedSlices(tf.constant(values), tf.range(len(values)), tf.constant(values.shape))


def _indexed_slices_without_shape(values):
    tf = frameworks.get("tensorflow").module
    return tf.IndexedSlices(tf.constant(values), tf.range(len(values)))


def _nested_tensor(values):
    torch = frameworks.get("torch").module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that nested tensors are a prototype
        return torch.nested.nested_tensor([torch.as_tensor(values), torch.as_tensor(values[:1])])


def _ragged_tensor(values):
    tf = frameworks.get("tensorflow").module
    return tf.RaggedTensor.from_tensor(values) if values.ndim > 1 else tf.ragged.constant([values.tolist()])


NOT_DENSE = {
    "sparse.COO": _sparse("COO"),
    "sparse.GCXS": _sparse("GCXS"),
    "sparse.DOK": _sparse("DOK"),
    "xarray of sparse": lambda values: _xarray(_sparse("COO")(values)),
    "dask of sparse": lambda values: _dask(_sparse("COO")(values)),
    "scipy.sparse": _scipy_sparse,
    "jax BCOO": _jax_sparse,
    "tf.SparseTensor": _sparse_tensor,
    "tf.RaggedTensor": _ragged_tensor,
    "tf.IndexedSlices": _indexed_slices,
    "tf.IndexedSlices without a shape": _indexed_slices_without_shape,
    "nested tensor": _nested_tensor,
    "masked": lambda values: np.ma.masked_array(values, values > 0),
    "pandas": lambda values: pytest.importorskip("pandas").DataFrame(values.reshape(len(values), -1)),
    "awkward": lambda values: pytest.importorskip("awkward").Array(values),
    "dataset": lambda values: _xarray(values).to_dataset(name="image"),
}
IMAGE = np.random.default_rng(0).random((6, 5))
GRID = np.random.default_rng(1).standard_normal((2, 3, 3))
MATRIX = np.array([[1.0, 0.1, 0.0], [0.0, 1.0, 0.2]])
NUMBERS = np.array([2, 1])
# A call for each argument that may be an array, and calls with several arrays of the same kind.
POSITIONS = {
    "X": lambda of: elasticnd.deform_grid(of(IMAGE), GRID),
    "X in a list": lambda of: elasticnd.deform_grid([of(IMAGE), of(IMAGE)], GRID),
    "X after a NumPy array": lambda of: elasticnd.deform_grid([IMAGE, of(IMAGE)], GRID),
    "X, displacement, affine": lambda of: elasticnd.deform_grid(of(IMAGE), of(GRID), affine=of(MATRIX)),
    "X, displacement in a list": lambda of: elasticnd.deform_grid(of(IMAGE), [of(GRID[0]), of(GRID[1])]),
    "displacement": lambda of: elasticnd.deform_grid(IMAGE, of(GRID)),
    "displacement in a list": lambda of: elasticnd.deform_grid(IMAGE, [of(GRID[0]), of(GRID[1])]),
    "affine": lambda of: elasticnd.deform_grid(IMAGE, GRID, affine=of(MATRIX)),
    "rotate": lambda of: elasticnd.deform_grid(IMAGE, GRID, rotate=of(np.eye(2))),
    "zoom": lambda of: elasticnd.deform_grid(IMAGE, GRID, zoom=of(NUMBERS * 1.0)),
    "axis": lambda of: elasticnd.deform_grid(IMAGE, GRID, axis=of(NUMBERS - 1)),
    "X, random": lambda of: elasticnd.deform_random_grid(of(IMAGE), 1.0, rng=0),
    "sigma": lambda of: elasticnd.deform_random_grid(IMAGE, of(NUMBERS * 1.0), rng=0),
    "points": lambda of: elasticnd.deform_random_grid(IMAGE, 1.0, of(NUMBERS), rng=0),
    "rng": lambda of: elasticnd.deform_random_grid(IMAGE, 1.0, rng=of(NUMBERS)),
    "dY": lambda of: elasticnd.deform_grid_gradient(of(IMAGE), GRID),
    "dY, displacement, affine": lambda of: elasticnd.deform_grid_gradient(of(IMAGE), of(GRID), affine=of(MATRIX)),
    "displacement of a gradient": lambda of: elasticnd.deform_grid_gradient(IMAGE, of(GRID)),
    "X_shape": lambda of: elasticnd.deform_grid_gradient(IMAGE, GRID, X_shape=of(np.array([6, 5]))),
    "all of vjp": lambda of: elasticnd.deform_grid_vjp(of(IMAGE), of(IMAGE), of(GRID), affine=of(MATRIX)),
    "dY of vjp": lambda of: elasticnd.deform_grid_vjp(of(IMAGE), IMAGE, GRID),
    "X of vjp": lambda of: elasticnd.deform_grid_vjp(IMAGE, of(IMAGE), GRID),
    "list of vjp": lambda of: elasticnd.deform_grid_vjp([of(IMAGE), None], [of(IMAGE), of(IMAGE)], GRID),
    "dense": lambda of: elasticnd.dense_displacement(of(GRID), (6, 5)),
    "dense, in a list": lambda of: elasticnd.dense_displacement([of(GRID[0]), of(GRID[1])], (6, 5)),
    "dense, shape": lambda of: elasticnd.dense_displacement(GRID, of(np.array([6, 5]))),
    "source box": lambda of: elasticnd.source_box(of(GRID), (6, 5)),
    "source box, affine": lambda of: elasticnd.source_box(GRID, (6, 5), affine=of(MATRIX)),
    "source box, shape": lambda of: elasticnd.source_box(GRID, of(np.array([6, 5]))),
    "backend_info": lambda of: elasticnd.backend_info(of(IMAGE)),
    "random, sigma": lambda of: elasticnd.random_displacement(3, of(NUMBERS * 1.0), ndim=2),
    "random, points": lambda of: elasticnd.random_displacement(of(NUMBERS)),
    "random, batch_shape": lambda of: elasticnd.random_displacement(3, ndim=2, batch_shape=of(NUMBERS)),
    "random, rng": lambda of: elasticnd.random_displacement(3, ndim=2, rng=of(NUMBERS)),
}
# The arguments that accept each kind of array: at least the image, often also the control grid and the matrix.
TAKE_DENSE = ["X", "X in a list", "X, random", "dY", "list of vjp", "which"]
TAKE_ALL_DENSE = ["X, displacement, affine", "dY, displacement, affine", "all of vjp", "dense"]
REFUSE_SPARSE = [
    *TAKE_DENSE,
    *TAKE_ALL_DENSE,
    "X after a NumPy array",
    "displacement",
    "affine",
    "dY of vjp",
    "X of vjp",
]


def works(of, position):
    """Return whether a call works. If it does not, check that its message has the usual form."""
    try:
        POSITIONS[position](of)
    except (TypeError, ValueError) as error:
        if not FORM.fullmatch(str(error)):
            raise
        return False
    return True


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", DENSE)
def test_arrays_are_accepted_or_refused_with_a_message(kind, position):
    done = works(DENSE[kind], position)
    is_lazy = kind in {"dask", "xarray of dask"}
    if position in TAKE_DENSE or (position in TAKE_ALL_DENSE and not is_lazy):
        assert done


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", NOT_DENSE)
def test_arrays_that_are_not_dense_are_refused_with_a_message(kind, position):
    done = works(NOT_DENSE[kind], position)
    if position in REFUSE_SPARSE:
        assert not done


def holding_itself():
    seeds = [0]
    seeds[0] = seeds
    return seeds


@pytest.mark.parametrize("rng", [[[1, 2]], [1.5], holding_itself()], ids=["nested", "float", "a list in itself"])
def test_seeds_that_are_no_numbers(rng):
    """NumPy would search nested seeds for numbers, which never ends for a list that contains itself."""
    with pytest.raises(TypeError, match="rng: got"):
        elasticnd.random_displacement(3, ndim=2, rng=rng)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_seeds_in_a_matrix():
    """A row of a matrix is a matrix again, so NumPy would never reach the numbers."""
    got = elasticnd.random_displacement(3, ndim=2, rng=np.matrix([[1], [2]]))
    np.testing.assert_array_equal(got, elasticnd.random_displacement(3, ndim=2, rng=[1, 2]))


def test_gradients_that_are_slices_are_refused_by_name():
    tf = frameworks.get("tensorflow").module
    image, grid = tf.constant(IMAGE), tf.constant(GRID)
    with pytest.raises(TypeError, match=r"dY: got .*IndexedSlices.*, expected a dense array"):
        elasticnd.deform_grid_vjp(_indexed_slices(IMAGE), image, grid)


@pytest.mark.parametrize("name", ["torch", "jax", "tf"])
@pytest.mark.parametrize("value", [None, "abc", {}, [[1, 2], [3]], object()], ids=lambda value: type(value).__name__)
def test_named_functions_refuse_what_cannot_be_converted(value, name):
    frameworks.get("tensorflow" if name == "tf" else name)
    functions = importlib.import_module(f"elasticnd.{name}")
    with pytest.raises((TypeError, ValueError), match=FORM):
        functions.deform_grid(value, np.zeros((2, 3, 3)))
