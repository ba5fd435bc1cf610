"""Helpers for the tests of PyTorch: tensors, a call of all arguments that have derivatives, and the layer."""

import frameworks
import pytest

import elasticnd

torch = frameworks.get("torch").module

# Some versions of PyTorch issue these warnings in their own compilers.
ignore_warnings = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

MATRIX = [[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]]


def arrays(rng, dtype=torch.float64, batch=()):
    image = torch.tensor(rng.standard_normal((*batch, 7, 6)), dtype=dtype)
    displacement = torch.tensor(rng.uniform(-1, 1, (*batch, 2, 3, 2)), dtype=dtype)
    return image, displacement, torch.tensor(MATRIX, dtype=dtype)


def leaves(tensors):
    return tuple(tensor.clone().requires_grad_() for tensor in tensors)


def function(mode="mirror", order=3, **options):
    return lambda x, d, a: elasticnd.deform_grid(x, d, order, mode, 0.3, affine=a, **options)


def gradients_of(deform, inputs):
    own = leaves(inputs)
    output = deform(*own)
    return output, *torch.autograd.grad(output.square().sum(), own)


def layer(**options):
    from elasticnd.torch import ElasticDeform

    return ElasticDeform(**options)
