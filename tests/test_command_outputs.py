"""Outputs of the command line appear all together or not at all, keep their modes, and leave nothing after signals."""

import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from failures import raising
from image_files import OPTIONS, assert_fails, contents, deform, expected, random_array, read, write, zarr_library

from elasticnd._cli import files as formats
from elasticnd._cli import signals

posix = pytest.mark.skipif(sys.platform == "win32", reason="only POSIX has modes and pipes")


def pairs_in(folder, suffixes):
    """Write inputs of the given formats, and existing files at the paths of the outputs."""
    array, files = random_array("f4", 20, 24), []
    for k, suffix in enumerate(suffixes):
        files += [write(folder / f"in{k}{suffix}", array), write(folder / f"out{k}{suffix}", array[:9])]
    return files


@pytest.fixture(autouse=True)
def _interruptible():
    """Handle SIGINT as in a terminal, even if the tests run in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["links", "no links"])
def with_links(request, monkeypatch):
    """Run the test with and without hard links."""
    if request.param == "no links":
        monkeypatch.setattr(os, "link", raising(OSError("no links here")))


@pytest.mark.usefixtures("with_links")
@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("suffixes", [(".npy", ".npy", ".nii"), (".zarr", ".npy", ".zarr"), (".npy", ".zarr", ".npy")])
def test_all_outputs_are_replaced_or_none(suffixes, failing, tmp_path, monkeypatch, capsys):
    if ".zarr" in suffixes:
        zarr_library()
    files = pairs_in(tmp_path, suffixes)
    before, rename = contents(tmp_path), os.replace
    stubborn = files[2 * failing + 1]

    def replace(first, second):
        if os.fspath(second) == os.fspath(stubborn) and os.path.basename(first) != "replaced":
            raise PermissionError(13, "Permission denied")
        rename(first, second)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        assert_fails(capsys, [*files, *OPTIONS], stubborn, "Permission denied")
    assert contents(tmp_path) == before
    assert deform(*files) == 0
    for path in files[1::2]:
        np.testing.assert_array_equal(read(path), expected(random_array("f4", 20, 24), None))
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_no_new_output_appears_if_one_cannot(tmp_path, monkeypatch, capsys):
    files = pairs_in(tmp_path, [".npy", ".npy"])
    files[1].unlink()
    before, rename = contents(tmp_path), os.replace

    def replace(first, second):
        if os.fspath(second) == os.fspath(files[3]) and os.path.basename(first) != "replaced":
            raise OSError(28, "No space left on device")
        rename(first, second)

    monkeypatch.setattr(os, "replace", replace)
    assert_fails(capsys, [*files, *OPTIONS], files[3], "No space left")
    assert contents(tmp_path) == before


def test_what_cannot_be_put_back_is_not_deleted(tmp_path, monkeypatch, capsys):
    """A folder cannot be replaced in one step, and in this test it cannot be put back either."""
    zarr_library()
    files = pairs_in(tmp_path, [".zarr"])
    former = contents(files[1])
    rename = os.replace

    def replace(first, second):
        if os.fspath(second) == os.fspath(files[1]):
            raise PermissionError(13, "Permission denied")
        rename(first, second)

    monkeypatch.setattr(os, "replace", replace)
    assert_fails(capsys, [*files, *OPTIONS], "Permission denied")
    (kept,) = tmp_path.glob(".elasticnd-*/replaced")
    assert {path.relative_to(kept): text for path, text in contents(kept).items()} == {
        path.relative_to(files[1]): text for path, text in former.items()
    }


@posix
@pytest.mark.usefixtures("with_links")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif", ".nii", ".nii.gz"])
def test_a_file_keeps_its_mode(suffix, mode, tmp_path):
    source = write(tmp_path / f"in{suffix}", random_array("u1", 20, 24))
    target = write(tmp_path / f"out{suffix}", random_array("u1", 9, 9))
    target.chmod(mode)
    assert deform(source, target) == 0
    assert stat.S_IMODE(target.stat().st_mode) == mode
    np.testing.assert_array_equal(read(target), expected(random_array("u1", 20, 24), None))


@posix
@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_an_array_keeps_its_mode(mode, tmp_path):
    zarr_library()
    files = pairs_in(tmp_path, [".zarr"])
    files[1].chmod(mode)
    assert deform(*files) == 0
    assert stat.S_IMODE(files[1].stat().st_mode) == mode


@posix
def test_a_new_file_has_the_mode_of_others(tmp_path):
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    former = os.umask(0o027)
    try:
        assert deform(source, tmp_path / "out.npy") == 0
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "out.npy").stat().st_mode) == 0o640


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change the owner of a file")
def test_a_file_keeps_its_owner(tmp_path):
    files = pairs_in(tmp_path, [".npy"])
    os.chown(files[1], 1234, 4321)
    assert deform(*files) == 0
    assert (files[1].stat().st_uid, files[1].stat().st_gid) == (1234, 4321)


@posix
@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif", ".nii", ".nii.gz", ".zarr"])
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder", "broken link to itself", "link to a pipe"])
def test_only_files_are_replaced(kind, suffix, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # socket names must be short
    write(tmp_path / "in.npy", random_array("u1", 20, 24))
    target = f"out{suffix}"
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "link to a pipe":
        os.mkfifo("pipe")
        os.symlink("pipe", target)
    elif kind == "device":
        if os.geteuid() != 0:
            pytest.skip("only root can create devices")
        try:
            os.mknod(target, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("this container cannot create devices")
    elif kind == "socket":
        socket = pytest.importorskip("socket")
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(target)
    elif kind == "folder":
        os.mkdir(target)
    else:
        os.symlink(target, target)
    before = sorted((path, path.lstat().st_mode) for path in tmp_path.iterdir())
    assert_fails(capsys, ["in.npy", target, *OPTIONS], "OUT")
    assert sorted((path, path.lstat().st_mode) for path in tmp_path.iterdir()) == before


# Signals.

# Under nohup, or in the background of a shell, tests start with signals ignored, and so would their processes.
SLOW = r"""
import os, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
from elasticnd._cli import files as formats
from elasticnd.__main__ import main

def slowly(function):
    def slow(*arguments, **named):
        result = function(*arguments, **named)
        os.write(1, b"here\n")
        time.sleep(60)
        return result
    return slow

place = sys.argv.pop(1)
if place == "reading":
    formats.read = slowly(formats.read)
elif place == "writing":
    formats.npy.write = slowly(formats.npy.write)
elif place == "chunk":
    import zarr
    array = zarr.Array.__setitem__
    def slow_chunk(self, *arguments):
        os.write(1, b"here\n")
        time.sleep(0.5)
        array(self, *arguments)
    zarr.Array.__setitem__ = slow_chunk
sys.exit(main())
"""


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
@pytest.mark.parametrize("place", ["reading", "writing", "chunk"])
def test_signals_leave_nothing_behind(place, name, tmp_path):
    number = getattr(signal, name)
    if place == "chunk":
        zarr = zarr_library()
        pytest.importorskip("dask.array")
        zarr.create_array(str(tmp_path / "in.zarr"), data=random_array("f4", 40, 40), chunks=(10, 10))
        files = ["in.zarr", "out.zarr", "--chunks", "10"]
    else:
        write(tmp_path / "in.npy", random_array("f4", 20, 24))
        write(tmp_path / "out.npy", random_array("f4", 9, 9))
        files = ["in.npy", "out.npy"]
    before = contents(tmp_path)
    command = [sys.executable, "-c", SLOW, place, "deform", *files, *OPTIONS]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **streams) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        if place == "chunk":  # other chunks are still being written
            time.sleep(0.05)
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors == f"elasticnd: {'interrupted' if name == 'SIGINT' else 'terminated'}\n"
    assert contents(tmp_path) == before


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_for_outputs_to_be_in_place(number, tmp_path, monkeypatch):
    """A signal between two replacements would leave some outputs new and others old."""
    files = pairs_in(tmp_path, [".npy", ".npy"])
    rename = os.replace

    def replace(first, second):
        rename(first, second)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(os, "replace", replace)
    assert deform(*files) == 128 + number
    for path in files[1::2]:
        np.testing.assert_array_equal(read(path), expected(random_array("f4", 20, 24), None))
    assert sorted(tmp_path.iterdir()) == sorted(files)


@posix
def test_handlers_of_signals_are_put_back():
    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    before = handlers()
    with signals.raised():
        within = handlers()
        with signals.held():
            assert handlers() != within
        assert handlers() == within
    assert handlers() == before
    assert within != before


@posix
def test_signals_that_are_ignored_remain_so(tmp_path):
    """For example, nohup ignores SIGHUP."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised(), signals.held():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_nothing_is_staged_for_what_is_not_written(tmp_path):
    with pytest.raises(FileNotFoundError), formats.staged([tmp_path / "a.npy"]):
        raise FileNotFoundError
    assert list(tmp_path.iterdir()) == []


def two_pairs(folder):
    array = random_array("f4", 20, 24)
    return [
        write(folder / "a.npy", array),
        folder / "a_out.npy",
        write(folder / "b.npy", array),
        folder / "b_out.nii",
    ]


def test_outputs_are_replaced_together(tmp_path):
    files = two_pairs(tmp_path)
    for path in files[1::2]:
        path.write_text("before")
    assert deform(*files) == 0
    for path in files[1::2]:
        np.testing.assert_array_equal(read(path), expected(read(files[0]), None))
    assert sorted(tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("error", [OSError("the disk\nis full"), MemoryError(), RuntimeError()])
def test_nothing_is_replaced_unless_all_are_written(error, tmp_path, monkeypatch, capsys):
    files = two_pairs(tmp_path)
    files[1].write_text("before")
    before = contents(tmp_path)

    def write_half(path, image):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(formats.nifti, "write", write_half)
    assert_fails(capsys, [*files, *OPTIONS], "memory" if isinstance(error, MemoryError) else "b_out.nii")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["read", "write"])
def test_nothing_is_left_after_an_interrupt(place, tmp_path, monkeypatch, capsys):
    files = two_pairs(tmp_path)
    before = contents(tmp_path)

    def interrupted(path, *_):
        if place == "write":
            path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(formats.nifti if place == "write" else formats.npy, place, interrupted)
    assert deform(*files) == 130
    assert capsys.readouterr() == ("", "elasticnd: interrupted\n")
    assert contents(tmp_path) == before


def test_an_array_of_zarr_comes_back_if_it_cannot_be_replaced(tmp_path, monkeypatch, capsys):
    write(tmp_path / "out.zarr", np.zeros((3, 3)))
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    before, rename = contents(tmp_path), os.replace

    def replace(first, second):
        if os.fspath(first).endswith("out.zarr") and "replaced" not in os.fspath(second):
            raise PermissionError(13, "Permission denied")
        rename(first, second)

    monkeypatch.setattr(os, "replace", replace)
    assert_fails(capsys, [source, tmp_path / "out.zarr", *OPTIONS], "out.zarr", "Permission denied")
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links require extra rights on Windows")
def test_the_file_that_a_link_names_is_replaced(tmp_path):
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    (tmp_path / "store").mkdir()
    (tmp_path / "out.npy").symlink_to(tmp_path / "store" / "out.npy")
    assert deform(source, tmp_path / "out.npy") == 0
    assert (tmp_path / "out.npy").is_symlink()
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["out.npy"]
