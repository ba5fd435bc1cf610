"""The benchmark command runs and writes its results, and peers move voxels as far as `strengths.py` claims."""

import json
import subprocess
import sys
from pathlib import Path

import hosts
import numpy as np
import pytest

import elasticnd

COMMAND = Path(__file__).parent / "benchmarks" / "compare.py"
sys.path.append(str(COMMAND.parent))
import strengths  # noqa: E402


def run(*options):
    done = subprocess.run(
        [sys.executable, COMMAND, "--programs", "^elasticnd", "--seconds", "0.001", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def test_table_and_json(tmp_path):
    done = run("--works", "16²", "--json", tmp_path / "speed.json")
    assert "| 16² float32, order 3 | elasticnd, 1 thread |" in done.stdout
    assert "100%" in done.stderr  # the progress bar
    report = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    (result,) = report["results"]
    assert result["voxels"] == 256
    measured = result["programs"]["elasticnd, 1 thread"]
    assert 0 < measured["minimum"] <= measured["low"] <= measured["median"] <= measured["high"]
    assert report["versions"]["elasticnd"]


# ---- how far peers move voxels ---------------------------------------------------------------------------------------


def rms(displacement):
    return float(np.sqrt(np.mean(np.square(displacement))))


def moved(transform, extents, margin):
    """Return the displacements of all voxels except those in a margin, from a transformed ramp along each axis."""
    import torch

    ramps = np.indices(extents, np.float32)
    inner = (slice(None), *(slice(margin, -margin) for _ in extents))
    return (np.asarray(transform(torch.from_numpy(ramps))) - ramps)[inner]


def in_monai_2d():
    transforms = hosts.require("monai").transforms
    made = [
        transforms.Rand2DElastic(**strengths.MONAI_2D | {"magnitude_range": (factor, factor)}, prob=1)
        for factor in (0, strengths.MONAI_2D["magnitude_range"][0])
    ]
    # MONAI's cubic kernel moves voxels even with a grid of zeros, so subtract that. The grid has few nodes, so average
    # over many draws.
    still, *draws = (moved(made[k > 0].set_random_state(k), (512, 512), 24) for k in range(20))
    return rms(np.stack(draws) - still)


def in_monai_3d():
    transform = hosts.require("monai").transforms.Rand3DElastic(**strengths.MONAI_3D, prob=1).set_random_state(0)
    return rms(moved(transform, (96,) * 3, 16))


def in_torchio():
    torchio = hosts.require("torchio")
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    pytest.importorskip("torch").manual_seed(0)
    coarse = sitk.Image([32] * 3, sitk.sitkFloat32)
    coarse.SetSpacing([4] * 3)  # mm: the extent of 128³ voxels
    draws = []
    for _ in range(20):
        drawn = torchio.RandomElasticDeformation.get_params(
            (strengths.TORCHIO["num_control_points"],) * 3, (strengths.TORCHIO["max_displacement"],) * 3, 2
        )
        spline = torchio.transforms.ElasticDeformation(drawn, (1,) * 3).get_bspline_transform(coarse)
        field = sitk.TransformToDisplacementField(
            spline, sitk.sitkVectorFloat64, coarse.GetSize(), coarse.GetOrigin(), coarse.GetSpacing()
        )
        draws.append(sitk.GetArrayFromImage(field))
    return rms(draws)


def in_torchvision():
    pytest.importorskip("torch").manual_seed(0)
    transforms = hosts.require("torchvision").transforms.v2
    return rms(moved(transforms.ElasticTransform(**strengths.TORCHVISION), (512, 512), 24))


PEERS = {
    "MONAI, 2-D": (in_monai_2d, 2),
    "MONAI, 3-D": (in_monai_3d, 3),
    "TorchIO": (in_torchio, 3),
    "torchvision": (in_torchvision, 2),
}


@pytest.mark.parametrize("peer", PEERS)
def test_peers_move_voxels_equally_far(peer):
    measure, ndim = PEERS[peer]
    given = strengths.ELASTICND
    grids = elasticnd.random_displacement(given["points"], given["sigma"], ndim=ndim, batch_shape=(400,), rng=0)
    expected = rms([elasticnd.dense_displacement(grid, (16,) * ndim) for grid in grids])
    assert measure() == pytest.approx(expected, rel=0.1)
