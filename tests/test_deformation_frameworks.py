"""The deformation as an object in every framework: the values of NumPy, and all derivatives of points and Jacobians."""

import itertools

import frameworks
import numpy as np
import pytest

from elasticnd import Deformation

NAMES = ("torch", "jax", "tensorflow")
SHAPE = (9, 8)
AFFINE = np.array([[1.1, 0.2, 0.5], [-0.1, 0.9, 0.3]])

in_each_framework = pytest.mark.parametrize("name", NAMES)


def arrays_of(framework, rng, batch=()):
    """Return displacement, matrix and positions."""
    values = rng.normal(0, 1, (*batch, 2, 3, 4)), AFFINE, rng.uniform(0, 8, (*batch, 5, 2))
    return list(map(framework.array, values))


QUANTITIES = {
    "source_points": lambda deformation, f: deformation.source_points(f),
    "jacobian": lambda deformation, f: deformation.jacobian(f),
    "jacobian_determinant": lambda deformation, f: deformation.jacobian_determinant(f),
    "relative determinant": lambda deformation, f: deformation.jacobian_determinant(f, relative=True),
    "determinant of voxels": lambda deformation, f: deformation.jacobian_determinant(crop=(slice(2, 5), slice(1, 4))),
    "field": lambda deformation, f: deformation.field(),
}


@in_each_framework
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_values_are_those_of_numpy(quantity, batch, name, rng):
    framework = frameworks.get(name)
    arrays = arrays_of(framework, rng, batch)
    displacement, matrix, f = map(framework.to_numpy, arrays)
    options = {"rotate": 20, "zoom": 1.2}
    expected = QUANTITIES[quantity](Deformation(displacement, SHAPE, affine=matrix, **options), f)
    got = QUANTITIES[quantity](Deformation(arrays[0], SHAPE, affine=arrays[1], **options), arrays[2])
    assert framework.owns(got)
    np.testing.assert_allclose(framework.to_numpy(got), expected, rtol=0, atol=1e-12)


@in_each_framework
def test_apply_is_that_of_numpy(name, rng):
    framework = frameworks.get(name)
    displacement, matrix, _ = arrays_of(framework, rng)
    image = rng.random(SHAPE)
    crop = (slice(2, 7), slice(1, 6))
    got = Deformation(displacement, SHAPE, affine=matrix).apply(framework.array(image), crop=crop)
    expected = Deformation(framework.to_numpy(displacement), SHAPE, affine=AFFINE).apply(image)[crop]
    np.testing.assert_array_equal(framework.to_numpy(got), expected)


TOTALS = {
    "torch": lambda torch: torch.sum,
    "jax": lambda jax: jax.numpy.sum,
    "tensorflow": lambda tf: tf.reduce_sum,
}


def energy(quantity, framework, weight):
    """Return a real function of displacement, matrix and positions, through which a quantity is differentiated."""
    weight = framework.array(weight)

    def function(displacement, matrix, f):
        values = QUANTITIES[quantity](Deformation(displacement, SHAPE, affine=matrix, rotate=10), f)
        total = TOTALS[framework.name](framework.module)
        nothing = sum(total(0 * array) for array in (displacement, matrix, f))  # PyTorch requires all arrays to be used
        return total(values * values * weight) + nothing

    return function


@in_each_framework
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_gradients_by_finite_differences(quantity, name, rng):
    framework = frameworks.get(name)
    arrays = arrays_of(framework, rng)
    plain = list(map(framework.to_numpy, arrays))
    shape = QUANTITIES[quantity](Deformation(plain[0], SHAPE), plain[2]).shape
    weight = rng.random(shape)
    function = energy(quantity, framework, weight)
    gradients = framework.gradient(function, arrays)

    def value(*own):
        values = QUANTITIES[quantity](Deformation(own[0], SHAPE, affine=own[1], rotate=10), own[2])
        return np.sum(values * values * weight)

    for k, gradient in enumerate(gradients):
        direction = rng.normal(size=plain[k].shape)
        step = 1e-5
        ends = []
        for sign in (-1, 1):
            moved = list(plain)
            moved[k] = plain[k] + sign * step * direction
            ends.append(value(*moved))
        expected = (ends[1] - ends[0]) / (2 * step)
        got = 0.0 if gradient is None else np.sum(framework.to_numpy(gradient) * direction)
        # The error of central differences is the square of the step, plus rounding divided by the step.
        assert abs(got - expected) < 1e-6 * (1 + abs(expected)), ("displacement", "affine", "f")[k]


# PyTorch's own check of forward mode still uses this deprecated function.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("quantity", ["source_points", "jacobian", "jacobian_determinant", "determinant of voxels"])
def test_second_derivatives_in_torch(quantity, rng):
    framework = frameworks.get("torch")
    torch = framework.module
    arrays = [tensor.requires_grad_() for tensor in arrays_of(framework, rng)]

    def function(displacement, matrix, f):
        return QUANTITIES[quantity](Deformation(displacement, SHAPE, affine=matrix), f)

    assert torch.autograd.gradcheck(function, arrays)
    assert torch.autograd.gradgradcheck(function, arrays)
    assert torch.autograd.gradcheck(function, arrays, check_forward_ad=True, check_backward_ad=False)


@pytest.mark.usefixtures("lightly_optimized")
@pytest.mark.parametrize("quantity", ["source_points", "jacobian_determinant"])
def test_every_mode_in_jax(quantity, rng):
    framework = frameworks.get("jax")
    jax = framework.module
    arrays = arrays_of(framework, rng)
    weight = rng.random(QUANTITIES[quantity](Deformation(*arrays[:1], SHAPE), arrays[2]).shape)
    function = energy(quantity, framework, weight)
    reverse = jax.hessian(function, argnums=(0, 1, 2))(*arrays)
    forward = jax.jacfwd(jax.jacfwd(function, argnums=(0, 1, 2)), argnums=(0, 1, 2))(*arrays)
    compiled = jax.jit(jax.hessian(function, argnums=(0, 1, 2)))(*arrays)
    for i, j in itertools.product(range(3), repeat=2):
        np.testing.assert_allclose(reverse[i][j], forward[i][j], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(reverse[i][j], compiled[i][j], rtol=1e-9, atol=1e-9)


def test_vmap_in_jax_and_torch(rng):
    for name in ("jax", "torch"):
        framework = frameworks.get(name)
        displacement, _, f = arrays_of(framework, rng, (3,))
        vmap = framework.module.vmap if name == "jax" else framework.module.func.vmap
        expected = framework.to_numpy(Deformation(displacement, SHAPE).source_points(f))
        got = vmap(lambda d, p: Deformation(d, SHAPE).source_points(p))(displacement, f)
        np.testing.assert_allclose(framework.to_numpy(got), expected, rtol=0, atol=1e-13)
        shared = vmap(lambda p, d=displacement[0]: Deformation(d, SHAPE).source_points(p))(f)
        np.testing.assert_allclose(framework.to_numpy(shared)[0], expected[0], rtol=0, atol=1e-13)


class Subclass(Deformation):
    """A class that a user derives."""


@pytest.mark.parametrize("cls", [Deformation, Subclass])
def test_a_pytree_of_jax(cls, rng):
    framework = frameworks.get("jax")
    jax = framework.module
    displacement, matrix, f = arrays_of(framework, rng)
    deformation = cls(displacement, SHAPE, affine=matrix, zoom=1.1)
    assert len(jax.tree_util.tree_leaves(deformation)) == 2
    expected = deformation.source_points(f)
    compiled = jax.jit(lambda deformation, f: deformation.source_points(f))
    np.testing.assert_allclose(compiled(deformation, f), expected, rtol=0, atol=1e-13)
    gradient = jax.grad(lambda deformation: deformation.source_points(f).sum())(deformation)
    assert type(gradient) is cls
    assert gradient.displacement.shape == displacement.shape
    same = jax.tree_util.tree_map(lambda leaf: leaf, deformation)
    assert same == deformation
    with pytest.raises(TypeError, match=r"displacement: got .*expected an array with values"):
        jax.jit(hash)(deformation)


@in_each_framework
def test_equal_and_saved_in_every_framework(name, rng, tmp_path):
    framework = frameworks.get(name)
    displacement, matrix, _ = arrays_of(framework, rng)
    deformation = Deformation(displacement, SHAPE, affine=matrix)
    plain = Deformation(framework.to_numpy(displacement), SHAPE, affine=AFFINE)
    assert deformation == plain
    assert hash(deformation) == hash(plain)
    deformation.save(tmp_path / "deformation.npz")
    assert Deformation.load(tmp_path / "deformation.npz") == plain


# The compiler ignores caches, which is correct because they only store results.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a .functools.lru_cache:UserWarning")
def test_compiled_by_torch(rng):
    framework = frameworks.get("torch")
    torch = framework.module
    displacement, matrix, f = arrays_of(framework, rng)
    image = framework.array(rng.random(SHAPE))

    def function(displacement, matrix, f, image):
        deformation = Deformation(displacement, SHAPE, affine=matrix, rotate=10, zoom=1.1)
        return deformation.apply(image), deformation.source_points(f)

    expected = function(displacement, matrix, f, image)
    got = torch.compile(function, backend="eager")(displacement, matrix, f, image)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=1e-13)


def _strict(values):
    return pytest.importorskip("array_api_strict").asarray(values)


@pytest.mark.parametrize("name", ["numpy", "array_api_strict", *NAMES])
def test_integers_as_positions(name, rng):
    """Integer positions become floats, as integer control points do. The displacement keeps its dtype."""
    array = {"numpy": np.asarray, "array_api_strict": _strict}.get(name) or frameworks.get(name).array
    displacement = rng.normal(0, 1, (2, 3, 4))
    f = np.array([[2, 3], [5, 1]])
    deformation = Deformation(displacement, SHAPE)
    for of_displacement in (np.asarray, array):
        got = Deformation(of_displacement(displacement), SHAPE).source_points(array(f))
        np.testing.assert_allclose(np.asarray(got), deformation.source_points(f.tolist()), rtol=0, atol=1e-12)


@in_each_framework
@pytest.mark.parametrize("precisions", list(itertools.product(("float32", "float64"), repeat=3)), ids=" ".join)
def test_precisions_mix(precisions, name, rng):
    """Results have the precision of the positions or, without positions, of the displacement."""
    framework = frameworks.get(name)
    given = map(framework.to_numpy, arrays_of(framework, rng))
    plain = [values.astype(own) for values, own in zip(given, precisions, strict=True)]
    displacement, matrix, f = map(framework.array, plain)
    deformation = Deformation(displacement, SHAPE, affine=matrix, rotate=10)
    exact = Deformation(plain[0].astype(float), SHAPE, affine=plain[1].astype(float), rotate=10)
    for quantity, of_positions in (("source_points", True), ("jacobian", True), ("determinant of voxels", False)):
        got = framework.to_numpy(QUANTITIES[quantity](deformation, f))
        assert got.dtype == precisions[2 if of_positions else 0]
        expected = QUANTITIES[quantity](exact, plain[2].astype(float))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 if got.dtype == "float64" else 1e-5)
    of_numpy = deformation.source_points(plain[2].astype(float))
    assert framework.owns(of_numpy)
    assert framework.to_numpy(of_numpy).dtype == "float64"


@in_each_framework
def test_results_have_the_precision_of_their_arguments(name, rng):
    framework = frameworks.get(name)
    displacement, f = (framework.array(np.float32(rng.random(shape))) for shape in ((2, 3, 4), (5, 2)))
    deformation = Deformation(displacement, SHAPE)
    for result in (deformation.field(), deformation.source_points(f), deformation.jacobian(f)):
        assert framework.to_numpy(result).dtype == np.float32


def test_all_voxels_in_a_library_of_the_standard(rng):
    displacement = rng.normal(0, 1, (2, 3, 4))
    got = Deformation(_strict(displacement), SHAPE, zoom=1.1).jacobian()
    np.testing.assert_allclose(np.asarray(got), Deformation(displacement, SHAPE, zoom=1.1).jacobian(), atol=1e-12)
