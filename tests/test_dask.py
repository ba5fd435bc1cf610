"""Chunked images: lazy results equal those in memory bit for bit, and read only the voxels they need."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import COMPLEX, FLOATS, INTEGERS, MODES, ORDERS, random_crop, values

import elasticnd
from elasticnd import _core

dask = pytest.importorskip("dask", reason="dask is not installed")
import dask.array as da  # noqa: E402

MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])
# Relative to the largest gradient. Sums are taken in another order, and the filter is cut off elsewhere. Both
# change the result by some rounding steps of the dtype, which are 2**-11 in float16.
GRADIENT_TOLERANCES = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-10, "complex64": 1e-4, "complex128": 1e-10}


@pytest.fixture(autouse=True)
def _in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


class Store:
    """An array that is read like a file, and records what was read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.reads = []

    def __getitem__(self, place):
        self.reads.append(place)
        return self.array[place]


def random_chunks(rng, shape):
    """Cut each axis into up to four chunks of random sizes."""
    chunks = []
    for extent in shape:
        cuts = np.unique(rng.integers(1, max(extent, 2), rng.integers(0, 4)))
        bounds = [0, *(cut for cut in cuts.tolist() if cut < extent), extent]
        chunks.append(tuple(np.diff(bounds).tolist()))
    return tuple(chunks)


def lazily(array, rng):
    return da.from_array(array, chunks=random_chunks(rng, array.shape))


# ---- the same bits ---------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    axes=st.integers(1, 3),
    order=st.sampled_from((*ORDERS, "labels")),
    mode=st.sampled_from(MODES),
    dtype=st.sampled_from((*FLOATS, *COMPLEX, *INTEGERS)),
    prefilter=st.booleans(),
    reach=st.sampled_from([0.5, 6, 60]),
    offset=st.sampled_from([0, 0, 40, -300]),
    kind=st.sampled_from(["plain", "cropped", "affine", "rotated"]),
    stored=st.booleans(),
)
def test_equals_the_result_in_memory(seed, axes, order, mode, dtype, prefilter, reach, offset, kind, stored):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, {1: 400, 2: 90, 3: 25}[axes], axes).tolist())
    image = values(rng, shape, dtype)
    displacement = rng.normal(offset, reach, (axes, *rng.integers(1, 5, axes)))
    axis = tuple(range(axes))  # given, because a short axis would be taken for one of channels
    options = {"axis": axis, "order": order, "mode": mode, "cval": rng.choice([0.1, 3]), "prefilter": prefilter}
    if order == "labels":
        image, options["cval"] = rng.integers(0, 2, shape).astype(np.bool_ if dtype.kind == "c" else dtype), 1
    if kind == "cropped":
        options["crop"] = random_crop(rng, shape)
    if kind == "affine":
        options["affine"] = np.eye(axes, axes + 1) + rng.normal(0, 0.2, (axes, axes + 1))
    if kind == "rotated" and axes == 2:
        options |= {"rotate": 30, "zoom": 1.2}
    chunks = random_chunks(rng, shape)
    lazy = da.from_array(Store(image) if stored else image, chunks=chunks, asarray=not stored, name=False)
    result = elasticnd.deform_grid(lazy, displacement, **options)
    expected = elasticnd.deform_grid(image, displacement, **options)
    assert isinstance(result, da.Array)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    got = result.compute()
    assert got.dtype == expected.dtype
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("stored", [False, True])
def test_batches_channels_and_lists(stored, rng):
    image, labels = rng.random((4, 30, 3, 20)).astype(np.float32), rng.integers(0, 9, (4, 20, 30))
    displacement = rng.normal(0, 4, (4, 2, 3, 3))
    options = {"order": [3, 0], "axis": [(1, 3), (2, 1)], "affine": MATRIX + np.zeros((4, 1, 1))}
    sources = [Store(image), Store(labels)] if stored else [image, labels]
    lazy = [
        da.from_array(source, chunks=chunks, asarray=not stored)
        for source, chunks in zip(sources, [(3, 11, 2, 9), (2, 8, 12)], strict=True)
    ]
    results = elasticnd.deform_grid(lazy, displacement, **options)
    for result, expected in zip(results, elasticnd.deform_grid([image, labels], displacement, **options), strict=True):
        assert result.compute().tobytes() == expected.tobytes()
    random = elasticnd.deform_random_grid(lazy[0], 3, axis=(1, 3), batch_dims=1, rng=1)
    expected = elasticnd.deform_random_grid(image, 3, axis=(1, 3), batch_dims=1, rng=1)
    assert random.compute().tobytes() == expected.tobytes()


def test_chunks_are_those_of_the_image(rng):
    image = da.from_array(rng.random((40, 30)), chunks=((7, 20, 13), 16))
    crop = (slice(10, 35), slice(2, 30))
    result = elasticnd.deform_grid(image, np.zeros((2, 3, 3)), crop=crop)
    assert result.chunks == image[crop].chunks
    assert elasticnd.deform_grid(image, np.zeros((2, 3, 3))).chunks == image.chunks


def test_labels_of_xarray_stay(rng):
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    array = rng.random((30, 20))
    image = xarray.DataArray(array, dims=("y", "x"), attrs={"units": "m"}).chunk({"y": 8})
    displacement = rng.normal(0, 3, (2, 3, 3))
    result = elasticnd.deform_grid(image, displacement, axis=("y", "x"))
    assert isinstance(result.data, da.Array)
    assert result.attrs == {"units": "m"}
    assert np.array_equal(result.to_numpy(), elasticnd.deform_grid(array, displacement))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_no_voxels(shape):
    result = elasticnd.deform_grid(da.zeros(shape, chunks=2), np.zeros((2, 3, 3)))
    assert result.compute().shape == shape


def test_the_grid_is_that_of_the_call(rng):
    image, displacement = rng.random((20, 20)), rng.normal(0, 3, (2, 3, 3))
    expected = elasticnd.deform_grid(image, displacement)
    lazy = elasticnd.deform_grid(da.from_array(image, chunks=8), displacement)
    displacement[:] = 100
    assert np.array_equal(lazy.compute(), expected)


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_nothing_is_read_before_it_is_asked_for(rng):
    store = Store(rng.random((60, 50)))
    image = da.from_array(store, chunks=20, asarray=False)
    store.reads.clear()  # dask itself reads a little to find the dtype
    result = elasticnd.deform_grid(image, rng.normal(0, 3, (2, 3, 3)))
    elasticnd.deform_grid_vjp(da.ones((60, 50), chunks=20), image, rng.normal(0, 3, (2, 3, 3)))
    assert store.reads == []
    result.compute()
    assert store.reads


def test_a_block_reads_its_source_box(rng):
    store = Store(rng.random((900, 800)).astype(np.float32))
    image = da.from_array(store, chunks=100, asarray=False)
    displacement = rng.normal(0, 8, (2, 3, 3))
    result = elasticnd.deform_grid(image, displacement)
    store.reads.clear()
    block = result.blocks[4, 3].compute()
    box = elasticnd.source_box(displacement, image.shape, (slice(400, 500), slice(300, 400)), dtype="float32")
    assert store.reads == [box]
    assert np.array_equal(block, elasticnd.deform_grid(store.array, displacement)[400:500, 300:400])


def test_a_block_needs_only_the_chunks_of_its_source_box(rng):
    read = []

    def chunk(block_info=None):
        read.append(block_info[None]["chunk-location"])
        return np.ones(block_info[None]["chunk-shape"], np.float32)

    image = da.map_blocks(chunk, chunks=((100,) * 9, (100,) * 8), dtype=np.float32)
    displacement = rng.normal(0, 8, (2, 3, 3))
    result = elasticnd.deform_grid(image, displacement)
    read.clear()
    result.blocks[4, 3].compute()
    box = elasticnd.source_box(displacement, image.shape, (slice(400, 500), slice(300, 400)), dtype="float32")
    expected = [
        (i, j)
        for i in range(box[0].start // 100, -(-box[0].stop // 100))
        for j in range(box[1].start // 100, -(-box[1].stop // 100))
    ]
    assert sorted(read) == expected
    assert len(expected) < 20


@pytest.mark.parametrize("far", [-1000, 1000])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", ["constant", "grid-constant"])
def test_blocks_outside_of_the_image_read_nothing(mode, order, far, rng):
    store = Store(rng.random((64, 64)).astype(np.float16))
    store.array[0] = np.nan  # must not spread, not even with a weight of zero
    displacement = np.zeros((2, 1, 2))
    displacement[0] = far
    options = {"order": order, "mode": mode, "cval": 0.1}
    result = elasticnd.deform_grid(da.from_array(store, chunks=16, asarray=False), displacement, **options)
    store.reads.clear()
    got = result.compute()
    assert store.reads == []
    assert np.isfinite(got).all()
    assert got.tobytes() == elasticnd.deform_grid(store.array, displacement, **options).tobytes()


def test_arrays_that_need_a_lock_are_read_by_chunks(rng):
    store = Store(rng.random((60, 50)))
    image = da.from_array(store, chunks=20, lock=True)
    displacement = rng.normal(0, 3, (2, 3, 3))
    result = elasticnd.deform_grid(image, displacement)
    store.reads.clear()
    assert np.array_equal(result.compute(), elasticnd.deform_grid(store.array, displacement))
    assert len(store.reads) == image.npartitions


def test_a_thousand_blocks_are_planned_quickly():
    image = da.zeros((1000, 1000, 1000), chunks=100, dtype=np.float32)
    displacement = elasticnd.random_displacement(5, 8, ndim=3, rng=0)
    times = []
    for _ in range(7):  # the best of several CPU times, because other programs may be running
        start = time.process_time()
        result = elasticnd.deform_grid(image, displacement)
        times.append(time.process_time() - start)
    assert result.npartitions == 1000
    assert min(times) < 0.1


def test_memory_of_a_block():
    """A block adds at most four times the memory of itself and its source box."""
    code = """
import resource, sys
import dask, dask.array as da, numpy as np, elasticnd
class Volume:
    shape, dtype, ndim = (4096, 4096, 4096), np.dtype("float32"), 3
    def __getitem__(self, place):
        return np.ones([part.stop - part.start for part in place], np.float32)
image = da.from_array(Volume(), chunks=160, asarray=False)
displacement = elasticnd.random_displacement(8, 10, ndim=3, rng=0)
result = elasticnd.deform_grid(image, displacement)
elasticnd.deform_grid(np.zeros((200, 200, 200), np.float32)[:8, :8, :8], displacement)
dask.config.set(scheduler="synchronous")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
block = result.blocks[7, 8, 9].compute()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
starts = [160 * n for n in (7, 8, 9)]
box = elasticnd.source_box(displacement, image.shape, [slice(s, s + 160) for s in starts], dtype="float32")
voxels = np.prod([float(part.stop - part.start) for part in box])
unit = 1024 if sys.platform.startswith("linux") else 1
print(peak * unit / (4 * (voxels + block.size)))
"""
    if sys.platform == "win32":
        pytest.skip("Windows has no module resource")
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 4


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("mode", MODES)
def test_gradients(mode, dtype, rng):
    image, weight = (values(rng, (70, 50), np.dtype(dtype)) for _ in range(2))
    displacement = rng.normal(0, 5, (2, 4, 3))
    for order in (1, 3):
        options = {"order": order, "mode": mode, "affine": MATRIX}
        lazy = elasticnd.deform_grid_vjp(lazily(weight, rng), lazily(image, rng), displacement, **options)
        expected = elasticnd.deform_grid_vjp(weight, image, displacement, **options)
        for got, wanted in zip(lazy, expected, strict=True):
            assert isinstance(got, da.Array)
            assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
            limit = GRADIENT_TOLERANCES[dtype] * np.abs(wanted.astype(complex)).max()
            np.testing.assert_allclose(got.compute().astype(complex), wanted, rtol=0, atol=limit)


def test_gradients_of_batches_and_several_images(rng):
    images = [rng.random((3, 40, 2, 30)), rng.random((3, 40, 30))]
    labels = rng.integers(0, 9, (3, 40, 30))
    weights = [rng.random(image.shape) for image in images]
    options = {"axis": [(1, 3), (1, 2), (1, 2)], "order": [3, 2, 0], "affine": MATRIX + np.zeros((3, 1, 1))}
    displacement = rng.normal(0, 3, (3, 2, 3, 3)).astype(np.float32)
    lazy = elasticnd.deform_grid_vjp(
        [*(lazily(weight, rng) for weight in weights), None],
        [*(lazily(image, rng) for image in images), lazily(labels, rng)],
        displacement,
        **options,
    )
    expected = elasticnd.deform_grid_vjp([*weights, None], [*images, labels], displacement, **options)
    assert lazy.image[2] is None
    for got, wanted in zip((*lazy.image[:2], *lazy[1:]), (*expected.image[:2], *expected[1:]), strict=True):
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        # The gradient of the control grid is float32, like the grid.
        np.testing.assert_allclose(got.compute(), wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


def test_gradient_of_the_image_alone(rng):
    weight, displacement = rng.random((25, 20)), rng.normal(0, 3, (2, 3, 3))
    options = {"crop": (slice(5, 30), slice(10, 30)), "X_shape": (40, 35)}
    got = elasticnd.deform_grid_gradient(da.from_array(weight, chunks=8), displacement, **options)
    assert got.chunks == ((5, 8, 8, 8, 1, 10), (10, 8, 8, 4, 5))
    wanted = elasticnd.deform_grid_gradient(weight, displacement, **options)
    np.testing.assert_allclose(got.compute(), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_types_of_16_bits_lose_no_summands(dtype):
    weight = da.ones(1024, chunks=4, dtype=dtype)
    pulled = elasticnd.deform_grid_gradient(weight, np.full((1, 1), -1e5), order=1, mode="nearest")
    assert float(pulled[0].compute()) == 1024


def test_many_blocks_are_added_in_steps(rng):
    image, weight = rng.random((40, 40)), rng.random((40, 40))
    displacement = rng.normal(0, 3, (2, 3, 3))
    lazy = elasticnd.deform_grid_vjp(da.from_array(weight, chunks=4), da.from_array(image, chunks=4), displacement)
    wanted = elasticnd.deform_grid_vjp(weight, image, displacement)
    np.testing.assert_allclose(lazy.displacement.compute(), wanted.displacement, rtol=1e-10)


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_refusals(rng):
    image, grid = da.from_array(rng.random((20, 20)), chunks=8), np.zeros((2, 3, 3))
    cases = [
        ((image[image[:, 0] > 0.5], grid), ValueError, r"X: got shape \(nan, 20\), expected .*compute_chunk_sizes"),
        ((da.ma.masked_greater(image, 0.5), grid), TypeError, r"X: got .*expected .*NumPy arrays without masks"),
        ((image, da.from_array(grid)), TypeError, r"displacement: got dask.* expected a NumPy array, since it decides"),
        (([image, image.compute()], grid), ValueError, r"X\[1\]: got .*same library as X\[0\]"),
        ((image.astype(object), grid), TypeError, r"X: got dtype object"),
        ((image, grid[:, :2, :2, None]), ValueError, r"displacement: got shape"),
    ]
    for arguments, error, message in cases:
        with pytest.raises(error, match=message):
            elasticnd.deform_grid(*arguments)
    with pytest.raises((TypeError, ValueError), match=r"dY: got .*expected"):
        elasticnd.deform_grid_vjp(image.compute(), image, grid)
    with pytest.raises(ValueError, match=r"dY: got shape \(19, 20\)"):
        elasticnd.deform_grid_vjp(image[1:], image, grid)


@pytest.mark.parametrize("chunks", [8, 4])
@pytest.mark.parametrize("lie", [lambda block: block.astype(np.int32), lambda block: block[..., :-1]])
def test_blocks_that_differ_from_their_declaration(lie, chunks):
    ones = da.ones((8, 8), chunks=8, dtype=np.float32)
    image = ones.map_blocks(lie, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    lazy = elasticnd.deform_grid(image.rechunk(chunks), np.zeros((2, 3, 3)))
    with pytest.raises((ValueError, TypeError), match=r"X: got blocks of .*expected float32 and"):
        lazy.compute()


def test_equal_calls_have_equal_names(rng):
    image, displacement = da.from_array(rng.random((20, 20)), chunks=8), rng.random((2, 3, 3))
    name = elasticnd.deform_grid(image, displacement).name
    assert elasticnd.deform_grid(image, np.asfortranarray(displacement)).name == name
    assert elasticnd.deform_grid(image, displacement, order=2).name != name
    assert elasticnd.deform_grid(image, 2 * displacement).name != name


def test_which(rng):
    route = elasticnd.backend_info(da.zeros((20, 20)))
    assert (route.library, route.engine) == ("dask", "cpu")


# ---- threads and processes -------------------------------------------------------------------------------------------


def test_processes_of_dask_use_one_thread_each():
    def kept(block):  # a local function is pickled whole, because the processes cannot import this file
        from elasticnd import _config, _core

        with _config.sharing_threads():
            before = _core.keep_to_thread(False)
            _core.keep_to_thread(before)
        return block == before

    told = da.ones(4, chunks=2).map_blocks(kept, dtype=bool).compute(scheduler="processes", num_workers=2)
    assert told.all()


@pytest.mark.parametrize(("scheduler", "alone"), [("threads", True), ("synchronous", False)])
def test_threads_of_dask_are_not_multiplied(scheduler, alone, monkeypatch, rng):
    kept = set()
    sample = _core.sample

    def spy(*arguments):
        before = _core.keep_to_thread(False)
        _core.keep_to_thread(before)
        kept.add(before)
        return sample(*arguments)

    monkeypatch.setattr(_core, "sample", spy)
    elasticnd.deform_grid(da.from_array(rng.random((30, 30)), chunks=10), np.zeros((2, 3, 3))).compute(
        scheduler=scheduler, num_workers=2
    )
    assert kept == {alone}
    assert _core.keep_to_thread(False) is False


def test_tasks_can_be_pickled(rng):
    lazy = elasticnd.deform_grid(da.from_array(rng.random((30, 30)), chunks=10), rng.normal(0, 3, (2, 3, 3)))
    assert np.array_equal(pickle.loads(pickle.dumps(lazy)).compute(), lazy.compute())  # noqa: S301 - bytes of this test


def test_a_cluster_that_loses_a_worker():
    pytest.importorskip("distributed", reason="distributed is not installed")
    script = Path(__file__).parent / "cluster.py"
    done = subprocess.run([sys.executable, "-I", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["restarted", "equal"]
