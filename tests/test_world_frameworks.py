"""Every framework deforms images whose resolution differs from the frame's, with the values of NumPy."""

import frameworks
import numpy as np
import pytest
from world_grids import SHAPES, grid_of, make

from elasticnd import Deformation, _check
from elasticnd._serialize import options_from_text, spec_from_text, text_of_options, text_of_spec
from elasticnd._spec import ArrayInfo, Frame, Options, OutputGrid

NAMES = ("torch", "jax", "tensorflow")
SOME_GRIDS = ("finer", "permuted and beyond", "flipped", "oblique and beyond")

in_each_framework = pytest.mark.parametrize("name", NAMES)
with_some_grids = pytest.mark.parametrize("grid", SOME_GRIDS)


class Case:
    """A deformation, an image with coarser voxels than the frame, and an output with yet other voxels."""

    def __init__(self, grid, rng, affine="all"):
        deformation = make(2, rng, affine)
        self.frame = deformation.to_world
        self.displacement = deformation.displacement
        self.affine = deformation.affine
        self.to_world, shape = grid_of("coarser", self.frame, 2)
        output_to_world, output_shape = grid_of(grid, self.frame, 2)
        self.worlds = {"to_world": self.to_world, "output_to_world": output_to_world, "output_shape": output_shape}
        self.image = rng.random(shape)

    def __call__(self, image, displacement, affine, rotate=None, **options):
        deformation = Deformation(displacement, SHAPES[2], affine=affine, to_world=self.frame, rotate=rotate)
        return deformation.apply(image, mode="mirror", **self.worlds, **options)

    @property
    def arrays(self):
        return [self.image, self.displacement, self.affine]


@in_each_framework
@with_some_grids
def test_values_are_those_of_numpy(grid, name, rng):
    framework = frameworks.get(name)
    case = Case(grid, rng)
    got = case(*map(framework.array, case.arrays))
    assert framework.owns(got)
    np.testing.assert_allclose(framework.to_numpy(got), case(*case.arrays), rtol=0, atol=1e-12)
    beside = case(framework.array(case.image), case.displacement, case.affine)  # the deformation has NumPy arrays
    np.testing.assert_allclose(framework.to_numpy(beside), case(*case.arrays), rtol=0, atol=1e-12)


@in_each_framework
@with_some_grids
def test_gradients_by_finite_differences(grid, name, rng):
    framework = frameworks.get(name)
    case = Case(grid, rng)
    weight = rng.random(case.worlds["output_shape"])
    total = {"torch": "sum", "jax": "numpy.sum", "tensorflow": "reduce_sum"}[name]
    summed = framework.module
    for part in total.split("."):
        summed = getattr(summed, part)
    own = framework.array(weight)
    gradients = framework.gradient(
        lambda *arrays: summed(case(*arrays, rotate=5.0) * own), list(map(framework.array, case.arrays))
    )
    for k, gradient in enumerate(gradients):
        direction = rng.normal(size=case.arrays[k].shape)
        step = 1e-6
        ends = []
        for sign in (-1, 1):
            moved = list(case.arrays)
            moved[k] = moved[k] + sign * step * direction
            ends.append(np.sum(case(*moved, rotate=5.0) * weight))
        expected = (ends[1] - ends[0]) / (2 * step)
        got = np.sum(framework.to_numpy(gradient) * direction)
        # The error of differences is the square of the step plus rounding / step. Third derivatives jump at knots.
        assert abs(got - expected) < 1e-5 * (1 + abs(expected)), ("image", "displacement", "affine")[k]


@pytest.mark.parametrize("grid", ["flipped", "oblique and beyond"])
def test_second_derivatives_in_torch(grid, rng):
    framework = frameworks.get("torch")
    torch = framework.module
    case = Case(grid, rng)
    arrays = [framework.array(array).requires_grad_() for array in case.arrays]

    def function(*arrays):
        return case(*arrays, order=5, crop=(slice(3, 6), slice(4, 6)))

    assert torch.autograd.gradcheck(function, arrays, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, arrays, fast_mode=True)


@with_some_grids
def test_compiled_by_jax(grid, rng):
    framework = frameworks.get("jax")
    jax = framework.module
    case = Case(grid, rng)
    arrays = list(map(framework.array, case.arrays))
    np.testing.assert_allclose(jax.jit(case)(*arrays), case(*case.arrays), rtol=0, atol=1e-12)
    batch = jax.vmap(case, in_axes=(None, 0, None))(arrays[0], jax.numpy.stack([arrays[1], 2 * arrays[1]]), arrays[2])
    for k in range(2):
        expected = case(case.image, (k + 1) * case.displacement, case.affine)
        np.testing.assert_allclose(batch[k], expected, rtol=0, atol=1e-12)


# The compiler ignores caches, which is correct because they only store results.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a .functools.lru_cache:UserWarning")
def test_compiled_by_torch(rng):
    framework = frameworks.get("torch")
    case = Case("permuted and beyond", rng)
    arrays = list(map(framework.array, case.arrays))
    got = framework.module.compile(case, backend="eager")(*arrays)
    np.testing.assert_allclose(got.numpy(), case(*case.arrays), rtol=0, atol=1e-12)


@with_some_grids
def test_recorded_by_tensorflow(grid, rng):
    framework = frameworks.get("tensorflow")
    tf = framework.module
    case = Case(grid, rng)
    arrays = list(map(framework.array, case.arrays))
    signature = [
        tf.TensorSpec([None] * array.ndim if k == 0 else array.shape, tf.float64) for k, array in enumerate(case.arrays)
    ]
    got = tf.function(case, input_signature=signature)(*arrays)
    np.testing.assert_allclose(got.numpy(), case(*case.arrays), rtol=0, atol=1e-12)


@with_some_grids
def test_libraries_of_the_standard(grid, rng):
    strict = pytest.importorskip("array_api_strict")
    case = Case(grid, rng)
    got = case(*map(strict.asarray, case.arrays))
    np.testing.assert_allclose(np.asarray(got), case(*case.arrays), rtol=0, atol=1e-12)


GRID = OutputGrid((9, 14), Frame((16, 12), (0.5, 0.25), (1.7, 0.8)), ((1.2, 0.1, 0.5), (-0.1, 0.8, 0.3)))


def test_calls_as_texts():
    """Recorded programs and files store calls as strings."""
    options = Options(axis=(0, 1), output_grid=GRID, crop=(slice(1, 4), slice(2, None)))
    assert options_from_text(text_of_options(options)) == options
    spec = _check.normalize((ArrayInfo((5, 6), "float64"),), ArrayInfo((2, 3, 3), "float64"), None, "X", options)
    assert spec.frame == GRID.frame
    assert spec_from_text(text_of_spec(spec)) == spec
    assert options.cropped((5, 6)) == spec.output_shape(spec.images[0]) == (3, 12)


def test_matrices_of_the_world_are_constants(rng):
    torch = frameworks.get("torch").module
    case = Case("finer", rng)
    expected = case(*case.arrays)
    case.worlds["to_world"] = torch.from_numpy(case.to_world)
    np.testing.assert_array_equal(case(*case.arrays), expected)
    case.worlds["to_world"] = torch.from_numpy(case.to_world).requires_grad_()
    with pytest.raises(TypeError, match=r"to_world: got .*expected an invertible matrix"):
        case(*case.arrays)


def test_outputs_of_unknown_extent_in_tensorflow(rng):
    framework = frameworks.get("tensorflow")
    tf = framework.module
    case = Case("finer", rng)
    del case.worlds["output_shape"]

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float64)])
    def function(image):
        return case(image, case.displacement, case.affine)

    with pytest.raises(ValueError, match=r"output_shape: got None, .*that of X is not known"):
        function(framework.array(case.image))
