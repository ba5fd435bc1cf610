"""Pipeline transforms refuse wrong options when they are created, not later in a worker."""

import re

import hosts
import pytest

CLASSES = {"monai": "RandElasticDeform", "torchio": "RandomElasticGrid", "torchvision": "RandomElasticDeform"}
# What each host calls these options.
NAMES = {
    "monai": {"order": "mode", "mode": "padding_mode", "probability": "prob"},
    "torchio": {"label order": "label_order"},
    "torchvision": {"label order": "mask_order", "probability": "p"},
}
WRONG = [
    ("order", 6),
    ("order", "cubic"),
    ("order", 2.5),
    ("label order", "label"),
    ("label order", -1),
    ("mode", "around"),
    ("mode", None),
    ("probability", 1.1),
    ("probability", -0.1),
    ("probability", "x"),
    ("probability", float("nan")),
    ("sigma", -1),
    ("zoom", 0),
    ("fold", "never"),
]
CASES = [
    (host, option, value)
    for host in CLASSES
    for option, value in WRONG
    # TorchIO itself checks `p`, and MONAI has one option for all images.
    if (host, option) not in {("torchio", "probability"), ("monai", "label order")}
]


@pytest.mark.parametrize(("host", "option", "value"), CASES)
def test_refused_at_once(host, option, value):
    hosts.require(host)
    module = hosts.load(f"elasticnd.{host}")
    name = NAMES[host].get(option, option)
    with pytest.raises((TypeError, ValueError), match=f"^{name}: got .*{re.escape(str(value))}.*expected"):
        getattr(module, CLASSES[host])(**{name: value})


@pytest.mark.parametrize("mode", ["nearest", "bilinear", 5, "labels"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection", "grid-wrap"])
def test_words_of_monai(mode, padding_mode):
    hosts.require("monai")
    module = hosts.load("elasticnd.monai")
    module.RandElasticDeformd(["image", "label"], mode=[3, mode], padding_mode=padding_mode)


def test_enumerations_of_monai():
    monai = hosts.require("monai")
    modes, paddings = monai.utils.GridSampleMode, monai.utils.GridSamplePadMode
    module = hosts.load("elasticnd.monai")
    torch = hosts.load("torch")
    image = torch.rand(1, 12, 10)
    options = {"sigma": 1, "prob": 1}
    by_words = module.RandElasticDeform(mode="bilinear", padding_mode="border", **options)
    by_names = module.RandElasticDeform(mode=modes.BILINEAR, padding_mode=paddings.BORDER, **options)
    first, second = (transform.set_random_state(0)(image) for transform in (by_words, by_names))
    assert torch.equal(first.as_tensor(), second.as_tensor())
