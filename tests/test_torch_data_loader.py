"""Deformations in the worker processes of PyTorch's data loader."""

import pytest
from torch_support import ignore_warnings, torch

import elasticnd
from elasticnd import _config

pytestmark = ignore_warnings


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning", "ignore:.*fork:DeprecationWarning")
def test_data_loader(method, monkeypatch):
    from datasets import Deformed

    monkeypatch.setattr(_config, "_chosen", False)  # as if no test had set the number of threads
    elasticnd.deform_grid(torch.zeros(300, 300), torch.zeros(2, 3, 3))  # starts the thread pool of this process
    loader = torch.utils.data.DataLoader(
        Deformed(), batch_size=2, num_workers=2, multiprocessing_context=method, timeout=120
    )
    batches = list(loader)
    means = torch.cat([images.mean((1, 2)) for images, _ in batches])
    torch.testing.assert_close(means, torch.arange(6.0))
    assert {int(count) for _, counts in batches for count in counts} == {1}, "every worker should use one thread"
