"""A user's program, which type checkers read but nobody runs."""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import elasticnd


class Tensor:
    """An array of any framework."""


class MaskTensor(Tensor):
    """A subclass of Tensor."""


array: NDArray[np.float32] = np.zeros((4, 5), np.float32)
labels: NDArray[np.uint8] = np.zeros((4, 5), np.uint8)
tensor, mask = Tensor(), MaskTensor()
grid: NDArray[np.float64] = np.zeros((2, 3, 3))

assert_type(elasticnd.deform_grid(array, grid), NDArray[np.float32])
assert_type(elasticnd.deform_grid(tensor, grid, order=1, mode="mirror", axis=(-2, -1), rotate=20), Tensor)
assert_type(elasticnd.deform_grid([tensor, tensor], grid, order=[3, 0], cval=[0.5, 0]), list[Tensor])
assert_type(elasticnd.deform_grid([tensor, tensor], grid, order=[3, "labels"]), list[Tensor])
assert_type(elasticnd.deform_grid((array, labels), grid), tuple[NDArray[np.float32], NDArray[np.uint8]])
assert_type(elasticnd.deform_grid((tensor, mask), grid, axis=[(0, 1), (1, 2)]), tuple[Tensor, MaskTensor])
assert_type(elasticnd.deform_random_grid(tensor, sigma=3, points=(3, 4), zoom=(1.1, 2)), Tensor)
assert_type(elasticnd.deform_random_grid([array, array], rotate={(0, 1): 10}), list[NDArray[np.float32]])
assert_type(elasticnd.deform_grid_gradient(tensor, grid), Tensor)
assert_type(elasticnd.dense_displacement(grid, (4, 5)), NDArray[np.float64])
assert_type(elasticnd.dense_displacement([[[1.0]], [[2.0]]], (4, 5)), NDArray[np.float64])
assert_type(elasticnd.dense_displacement(tensor, (4, 5)), Tensor)
assert_type(elasticnd.random_displacement(3, ndim=2), NDArray[np.float64])
assert_type(elasticnd.source_box(grid, (4, 5), rotate=np.eye(2)), tuple[slice, ...])

deformation = elasticnd.Deformation(tensor, (4, 5), affine=np.eye(2, 3), zoom=2)
assert_type(deformation.apply(mask, crop=(slice(2), slice(3))), MaskTensor)
assert_type(deformation.apply([array, array]), list[NDArray[np.float32]])

elasticnd.deform_grid(array, grid, order="three")  # expect: arg-type
elasticnd.deform_grid(array, grid, crop=3)  # expect: arg-type
elasticnd.deform_grid(array, grid, mode=3)  # expect: arg-type
elasticnd.deform_grid(array, grid, modus="mirror")  # expect: call-arg
elasticnd.Deformation(grid, 5)  # expect: arg-type
deformation.apply(tensor).item()  # expect: attr-defined
