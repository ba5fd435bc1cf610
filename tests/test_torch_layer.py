"""The layer `ElasticDeform`: random and given displacements, training, pickling, and refused arguments."""

import pickle

import numpy as np
import pytest
from torch_support import ignore_warnings, layer, torch

import elasticnd

pytestmark = ignore_warnings


def test_layer_modes(rng):
    images = torch.tensor(rng.random((4, 3, 12, 10)), dtype=torch.float32)
    random = layer(sigma=3, points=(3, 4), mode="mirror")
    torch.manual_seed(0)
    one = random(images)
    torch.manual_seed(0)
    assert torch.equal(random(images), one)
    assert not torch.equal(random(images), one)
    assert not torch.equal(one[0], images[0])
    assert random.eval()(images) is images

    torch.manual_seed(0)
    shared = layer(sigma=3, per_sample=False)(images[:1].repeat(2, 1, 1, 1))
    assert torch.equal(shared[0], shared[1])

    grid = rng.standard_normal((2, 3, 3))
    fixed = layer(displacement=grid)
    assert torch.equal(fixed(images), elasticnd.deform_grid(images, torch.tensor(grid), axis=(2, 3)))
    assert list(fixed.state_dict()) == ["displacement"]
    assert not list(fixed.parameters())


def test_layer_copies_no_numbers_to_the_device(monkeypatch):
    """A copy would make the host wait for the device in every training step."""
    layers = layer(sigma=(1, 2)), layer(sigma=3, per_sample=False)
    images = torch.rand(2, 3, 9, 8)
    for name in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, lambda *_, name=name, **__: pytest.fail(f"torch.{name} is called"))
    for one in layers:
        assert one._random_displacement(images).shape[-3:] == (2, 3, 3)


def test_layer_draws_with_a_sigma_for_each_axis():
    torch.manual_seed(0)
    drawn = layer(sigma=(1, 20), points=40)._random_displacement(torch.zeros(3, 1, 9, 8))
    assert drawn.shape == (3, 2, 40, 40)
    # The standard error of a standard deviation from 4800 numbers is 1 %.
    np.testing.assert_allclose(drawn.std((0, 2, 3)), [1, 20], rtol=0.05)


def test_layer_of_several_tensors(rng):
    images, labels = torch.rand(2, 3, 9, 8), torch.randint(0, 5, (2, 1, 9, 8), dtype=torch.uint8)
    pair = layer(displacement=np.ones((2, 1, 1)), order=(3, 0), mode=("mirror", "nearest"))(images, labels)
    assert isinstance(pair, tuple)
    assert torch.equal(pair[1][:, :, :-1, :-1], labels[:, :, 1:, 1:])


def test_layer_learns(rng):
    image = torch.tensor(rng.random((1, 1, 16, 16)).cumsum(2).cumsum(3) / 64, dtype=torch.float32)
    target = elasticnd.deform_grid(image, torch.full((2, 1, 1), 0.7), axis=(2, 3), mode="nearest")
    learnt = layer(displacement=torch.zeros(2, 1, 1), learnable=True, mode="nearest")
    optimiser = torch.optim.LBFGS(learnt.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = (learnt(image) - target).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    torch.testing.assert_close(learnt.displacement.detach(), torch.full((2, 1, 1), 0.7), atol=1e-3, rtol=0)


def test_layer_is_pickled_and_compiled(rng):
    images = torch.rand(2, 3, 9, 8)
    for made in (layer(sigma=2), layer(displacement=np.ones((2, 2, 2)), learnable=True)):
        again = pickle.loads(pickle.dumps(made))  # noqa: S301
        assert repr(again) == repr(made)
        torch.manual_seed(1)
        expected = made(images)
        torch.manual_seed(1)
        assert torch.equal(again(images), expected)
        torch.manual_seed(1)
        assert torch.equal(torch.compile(made, fullgraph=True, backend="aot_eager")(images), expected)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "displacement: got None with sigma None"),
        ({"sigma": 1, "displacement": np.zeros((2, 1, 1))}, "displacement: got"),
        ({"sigma": 1, "learnable": True}, "learnable: got True"),
        ({"sigma": 1, "axis": (1, 2)}, "axis: got"),
        ({"sigma": 1, "order": 6}, "order: got 6"),
        ({"sigma": 1, "order": (3, "label")}, "order: got 'label'"),
        ({"sigma": 1, "mode": "zeros"}, "mode: got 'zeros'"),
    ],
    ids=str,
)
def test_layer_refuses(options, match):
    with pytest.raises((TypeError, ValueError), match=match):
        layer(**options)


def test_layer_of_given_rank(rng):
    images = torch.tensor(rng.random((3, 9, 8)))
    displacement = rng.standard_normal((2, 3, 3))
    with pytest.raises(ValueError, match=r"tensors: got shape \(3, 9, 8\), expected 4 axes for ndim=2"):
        layer(displacement=displacement, ndim=2)(images)
    with pytest.raises(ValueError, match=r"tensors: got shape \(3, 9, 8\), expected 4 axes for ndim=2"):
        layer(sigma=1, ndim=2)(images)
    deformed = layer(displacement=displacement, ndim=2)(images[None])
    assert torch.equal(deformed, layer(displacement=displacement)(images[None]))
    assert torch.equal(deformed[0], layer(displacement=displacement, ndim=2, axis=(-2, -1))(images))
    for options in ({"ndim": 0}, {"ndim": 2, "axis": (-1,)}):
        with pytest.raises(ValueError, match=r"^(ndim|axis): got"):
            layer(sigma=1, **options)
