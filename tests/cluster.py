"""Deforms an image and computes gradients on a cluster of two processes, one of which is killed halfway.

Prints what happened. This is a separate program because the worker processes import it.
"""

import os
import signal
import time

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import elasticnd


def slowly(block):
    """Return the block after a pause, so that work remains when the worker dies."""
    time.sleep(0.05)
    return block


def await_results(client, keys):
    """Wait until every worker holds some results."""
    deadline = time.monotonic() + 60
    while not all(client.has_what().values()) and time.monotonic() < deadline:
        time.sleep(0.02)


def main():
    rng = np.random.default_rng(0)
    image, weight = rng.random((2, 120, 110)).astype(np.float32)
    displacement = rng.normal(0, 5, (2, 4, 4))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        lazy_image = da.from_array(image, chunks=24).map_blocks(slowly)
        result = elasticnd.deform_grid(lazy_image, displacement)
        gradients = elasticnd.deform_grid_vjp(da.from_array(weight, chunks=24), lazy_image, displacement)
        futures = client.compute([result, gradients.image, gradients.displacement])
        await_results(client, futures)
        before = set(client.run(os.getpid).values())
        os.kill(min(before), signal.SIGKILL)
        got = client.gather(futures)
        after = set(client.run(os.getpid).values())
    if min(before) not in after and max(before) in after:
        print("restarted")
    expected = elasticnd.deform_grid_vjp(weight, image, displacement)
    np.testing.assert_array_equal(got[0], elasticnd.deform_grid(image, displacement))
    np.testing.assert_allclose(got[1], expected.image, rtol=0, atol=1e-5)
    np.testing.assert_allclose(got[2], expected.displacement, rtol=1e-9)
    print("equal")


if __name__ == "__main__":
    main()
