"""For any hostile input, the command line prints one line, exits with status 2, and changes no file."""

import errno
import gzip
import importlib
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from failures import BrokenPipe, FullStream, raising
from image_files import random_array, write, zarr_library

import elasticnd
from elasticnd.__main__ import main
from elasticnd._cli import files as formats

S = ["--sigma", "2", "--seed", "1"]
NINES = "9" * 400


def image(name, *shape, dtype="u1"):
    """Write an image, by default a small picture."""
    write(pathlib.Path(name), random_array(dtype, *(shape or (20, 24))))


def text(name, content):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def changed(name, change):
    """Change the bytes of a file with a function."""
    path = pathlib.Path(name)
    path.write_bytes(change(path.read_bytes()))


def half(content):
    return content[: len(content) // 2]


def array_of_zarr(name, **options):
    zarr_library().create_array(name, data=random_array("f4", 40, 40), chunks=(8, 8), **options)


def with_metadata(name, **changes):
    array_of_zarr(name)
    document = json.loads(pathlib.Path(name, "zarr.json").read_text())
    text(f"{name}/zarr.json", json.dumps({**document, **changes}))


def damaged_chunks(name, damage=half):
    array_of_zarr(name)
    for chunk in pathlib.Path(name, "c").rglob("*"):
        if chunk.is_file():
            changed(chunk, damage)


def nifti_of_axes(name, *extents):
    """Write a NIfTI header with the given extents, followed by some voxels."""
    image(name, 4, 4, 4, dtype="i2")
    dim = np.zeros(8, "<i2")
    dim[: len(extents) + 1] = (len(extents), *extents)
    changed(name, lambda content: content[:40] + dim.tobytes() + content[56:])


def header_of_npy(name, header):
    header = header.ljust(117) + "\n"
    text(name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(100))


def link(name, target):
    os.symlink(target, name)


# How to prepare files beside in.npy, and the arguments of the command.
INPUTS = {
    # names
    "a newline in the name of a missing file": (None, ["no\nsuch.npy", "out.npy", *S]),
    "a newline in the name of an existing file": (lambda: text("a\nb.npy", "junk"), ["a\nb.npy", "out.npy", *S]),
    "newlines in the name of an output": (None, ["in.npy", "no\n\nsuch/out\r.npy", *S]),
    "a newline in a suffix": (None, ["in.npy", "out.np\ny", *S]),
    "terminal codes in a name": (None, ["\x1b[2J.npy", "out.npy", *S]),
    "a line separator in a name": (None, ["a\u2028b.npy", "out.npy", *S]),
    "a name that is not valid text": (None, ["\udcff.npy", "out.npy", *S]),
    "an empty name": (None, ["", "out.npy", *S]),
    "a name with a null byte": (None, ["a\0.npy", "out.npy", *S]),
    "a name that is too long": (None, ["a" * 300 + ".npy", "out.npy", *S]),
    "an output name that is too long": (None, ["in.npy", "a" * 300 + ".npy", *S]),
    "an output inside a file": (None, ["in.npy", "in.npy/out.npy", *S]),
    "a link to itself": (lambda: link("loop.npy", "loop.npy"), ["loop.npy", "out.npy", *S]),
    "an input that is a pipe": (lambda: os.mkfifo("pipe.npy"), ["pipe.npy", "out.npy", *S]),
    "an input that is a folder": (lambda: os.mkdir("d.npy"), ["d.npy", "out.npy", *S]),
    # numbers
    "a cval of 400 digits": (None, ["in.npy", "out.npy", *S, "--cval", NINES]),
    "a cval of 400 digits with a scale": (lambda: image("in.nii"), ["in.nii", "out.nii", *S, "--cval", NINES]),
    "a cval of 5000 digits": (None, ["in.npy", "out.npy", *S, "--cval", "9" * 5000]),
    "a seed of 5000 digits": (None, ["in.npy", "out.npy", "--sigma", "2", "--seed", "9" * 5000]),
    "a sigma of 400 digits": (None, ["in.npy", "out.npy", "--sigma", NINES]),
    "points of 400 digits": (None, ["in.npy", "out.npy", *S, "--points", NINES]),
    "many points": (None, ["in.npy", "out.npy", *S, "--points", "99999999"]),
    "an axis of 400 digits": (None, ["in.npy", "out.npy", *S, "--axis", NINES]),
    "an order of 400 digits": (None, ["in.npy", "out.npy", *S, "--order", NINES]),
    "degrees of 400 digits": (None, ["in.npy", "out.npy", *S, "--rotate", NINES]),
    "a plane of 400 digits": (None, ["in.npy", "out.npy", *S, "--rotate", f"0,{NINES}:1"]),
    "a zoom that is too small": (None, ["in.npy", "out.npy", *S, "--zoom", "1e-320"]),
    "a newline in a mode": (None, ["in.npy", "out.npy", *S, "--mode", "no\nmode"]),
    "a newline in an option": (None, ["in.npy", "out.npy", *S, "--no\noption"]),
    "chunks of 400 digits": (lambda: array_of_zarr("in.zarr"), ["in.zarr", "o.zarr", *S, "--chunks", "-" + NINES]),
    # NPY
    "an empty file": (lambda: text("e.npy", ""), ["e.npy", "out.npy", *S]),
    "half a file": (lambda: changed("in.npy", half), ["in.npy", "out.npy", *S]),
    "a header that contains code": (lambda: header_of_npy("h.npy", "__import__('os')"), ["h.npy", "out.npy", *S]),
    "a header with a huge shape": (
        lambda: header_of_npy("h.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (10**9, 10**9), }"),
        ["h.npy", "out.npy", *S],
    ),
    "a header with a negative shape": (
        lambda: header_of_npy("h.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (-2, 5), }"),
        ["h.npy", "out.npy", *S],
    ),
    "a header with deeply nested brackets": (lambda: header_of_npy("h.npy", "(" * 100), ["h.npy", "out.npy", *S]),
    "dates": (lambda: np.save("d.npy", np.zeros((5, 5), "M8[s]")), ["d.npy", "out.npy", *S]),
    "an array of objects": (lambda: np.save("o.npy", np.array([{}], object)), ["o.npy", "out.npy", *S]),
    # NIfTI
    "an axis of length 0": (lambda: nifti_of_axes("z.nii", 0, 4, 4), ["z.nii", "out.nii", *S]),
    "a last axis of length 0": (lambda: nifti_of_axes("z.nii", 4, 4, 0), ["z.nii", "out.npy", *S]),
    "an axis of negative length": (lambda: nifti_of_axes("z.nii", 4, -4, 4), ["z.nii", "out.nii", *S]),
    "huge axes": (lambda: nifti_of_axes("z.nii", *[32767] * 7), ["z.nii", "out.nii", *S]),
    "a file that is not gzip": (lambda: text("z.nii.gz", "junk" * 200), ["z.nii.gz", "out.nii", *S]),
    "junk in gzip": (lambda: text("z.nii.gz", gzip.compress(b"junk" * 200)), ["z.nii.gz", "out.nii", *S]),
    # pictures
    "half a picture": (lambda: (image("p.png"), changed("p.png", half)), ["p.png", "out.png", *S]),
    "half a TIFF": (lambda: (image("p.tif"), changed("p.tif", half)), ["p.tif", "out.tif", *S]),
    "a TIFF full of junk": (lambda: text("p.tif", b"II*\0" + b"\xff" * 200), ["p.tif", "out.tif", *S]),
    # Zarr
    "damaged chunks": (lambda: damaged_chunks("in.zarr"), ["in.zarr", "out.zarr", *S, "--chunks", "8"]),
    "damaged chunks, output to a file": (lambda: damaged_chunks("in.zarr"), ["in.zarr", "out.npy", *S]),
    "empty chunks": (lambda: damaged_chunks("in.zarr", lambda _: b""), ["in.zarr", "out.zarr", *S]),
    "random chunks": (
        lambda: damaged_chunks("in.zarr", lambda content: np.random.default_rng(0).bytes(len(content))),
        ["in.zarr", "out.zarr", *S],
    ),
    "no metadata": (lambda: os.mkdir("in.zarr"), ["in.zarr", "out.zarr", *S]),
    "metadata that are not JSON": (lambda: text("in.zarr/zarr.json", "{" * 50), ["in.zarr", "out.zarr", *S]),
    "metadata with deeply nested brackets": (
        lambda: text("in.zarr/zarr.json", "[" * 10**5),
        ["in.zarr", "out.zarr", *S],
    ),
    "metadata that are a list": (lambda: text("in.zarr/zarr.json", "[]"), ["in.zarr", "out.zarr", *S]),
    "metadata that are a pipe": (
        lambda: (os.mkdir("in.zarr"), os.mkfifo("in.zarr/zarr.json")),
        ["in.zarr", "out.zarr", *S],
    ),
    "an unknown codec": (lambda: with_metadata("in.zarr", codecs=[{"name": "a\nb"}]), ["in.zarr", "out.zarr", *S]),
    "no codecs": (lambda: with_metadata("in.zarr", codecs=None), ["in.zarr", "out.zarr", *S]),
    "a negative extent": (lambda: with_metadata("in.zarr", shape=[-3, 5]), ["in.zarr", "out.zarr", *S]),
    "a huge extent": (lambda: with_metadata("in.zarr", shape=[10**12, 10**12]), ["in.zarr", "out.npy", *S]),
    "chunks of length 0": (
        lambda: with_metadata("in.zarr", chunk_grid={"name": "regular", "configuration": {"chunk_shape": [0, 0]}}),
        ["in.zarr", "out.zarr", *S],
    ),
    "an unknown type": (lambda: with_metadata("in.zarr", data_type="of_someone"), ["in.zarr", "out.zarr", *S]),
    "strings": (
        lambda: zarr_library().create_array("in.zarr", data=np.array(["a", "b"], "U3"), zarr_format=2),
        ["in.zarr", "out.zarr", *S],
    ),
    "a file instead of an array": (lambda: text("in.zarr", "junk"), ["in.zarr", "out.zarr", *S]),
}


def snapshot():
    """Return everything in the folder, with the contents of files but without opening pipes."""
    return {
        os.path.join(parent, name): (
            os.lstat(os.path.join(parent, name)).st_mode,
            pathlib.Path(parent, name).read_bytes() if os.path.isfile(os.path.join(parent, name)) else None,
        )
        for parent, folders, files in os.walk(".")
        for name in folders + files
    }


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run the test in a folder that contains an image."""
    monkeypatch.chdir(tmp_path)
    image("in.npy")
    return tmp_path


def assert_fails_in_one_line(arguments, capfd, caplog):
    before = snapshot()
    code = main(["deform", *arguments])
    output, errors = capfd.readouterr()
    assert code == 2
    assert output == ""
    assert errors.startswith("elasticnd: error: ")
    assert errors.endswith("\n")
    assert len(errors.splitlines()) == 1
    assert errors.isascii() or errors[:-1].isprintable()
    assert "Traceback" not in errors
    # Log messages would also appear on the standard error stream.
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert snapshot() == before
    return errors


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names and pipes")
@pytest.mark.parametrize("case", INPUTS)
def test_hostile_inputs(case, capfd, caplog):
    prepare, arguments = INPUTS[case]
    if any(".zarr" in argument for argument in arguments):
        zarr_library()
    if prepare is not None:
        prepare()
    assert_fails_in_one_line(arguments, capfd, caplog)


# Functions and streams that fail while the command runs.


FAILURES = {
    "no memory to read": (formats.npy, "read", raising(MemoryError())),
    "no memory to deform": (elasticnd.Deformation, "apply", raising(MemoryError())),
    "no memory to draw": (elasticnd.Deformation, "random", raising(MemoryError("Unable to allocate 3 GiB\nfor it"))),
    "no memory to write": (formats.npy, "write", raising(MemoryError())),
    "no memory to start": (os.path, "realpath", raising(MemoryError())),
    "no permission to read": (
        formats.npy,
        "read",
        raising(PermissionError(errno.EACCES, "Permission denied", "a\nb")),
    ),
    "no permission to write": (formats.npy, "write", raising(PermissionError(errno.EACCES, "Permission denied"))),
    "no permission in the folder": (tempfile, "mkdtemp", raising(PermissionError(errno.EACCES, "Permission denied"))),
    "a full disk": (formats.npy, "write", raising(OSError(errno.ENOSPC, "No space left on device"))),
    "a full disk at the end": (os, "replace", raising(OSError(errno.ENOSPC, "No space left on device"))),
    "an error with many lines": (formats.npy, "read", raising(ValueError("one\ntwo\r\nthree\x85four\u2028five"))),
    "an error without a message": (formats.npy, "read", raising(RuntimeError())),
    "an unexpected error": (elasticnd.Deformation, "random", raising(ZeroDivisionError("by\nzero"))),
    "a recursion error": (formats.npy, "read", raising(RecursionError("too deep"))),
    "standard output on a full disk": (sys, "stdout", FullStream()),
    "standard output in a closed pipe": (sys, "stdout", BrokenPipe()),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures(case, capfd, caplog):
    where, name, replacement = FAILURES[case]
    options = ["--sigma", "2"] if where is sys else S  # without --seed, the command prints a seed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, replacement)
        assert_fails_in_one_line(["in.npy", "out.npy", *options], capfd, caplog)


@pytest.mark.parametrize("error", [ImportError("no module\nnamed so"), OSError("libz.so: cannot open"), RuntimeError()])
@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.nii", "p.zarr"])
def test_libraries_that_fail_to_load(name, error, monkeypatch, capfd, caplog):
    if name == "p.zarr":
        zarr_library()
    image(name)
    monkeypatch.setattr(importlib, "import_module", raising(error))
    assert_fails_in_one_line([name, "out.npy", *S], capfd, caplog)


def test_a_standard_error_stream_that_is_full(monkeypatch):
    monkeypatch.setattr(sys, "stderr", FullStream())
    assert main(["deform", "no.npy", "out.npy", *S]) == 2


def test_there_are_sixty():
    assert len(INPUTS) >= 60


# Separate processes also show what libraries or Python itself print at exit.

PROCESSES = {
    "damaged chunks": (lambda: damaged_chunks("in.zarr"), ["in.zarr", "out.zarr", *S, "--chunks", "8"], None),
    "damaged chunks, output to a file": (lambda: damaged_chunks("in.zarr"), ["in.zarr", "out.npy", *S], None),
    "standard output on a full disk": (None, ["in.npy", "out.npy", "--sigma", "2"], "/dev/full"),
    "help on a full disk": (None, ["--help"], "/dev/full"),
    "standard output in a closed pipe": (None, ["in.npy", "out.npy", "--sigma", "2"], "closed pipe"),
    "help in a closed pipe": (None, ["--help"], "closed pipe"),
}


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("case", PROCESSES)
def test_processes(case, unbuffered):
    prepare, arguments, output = PROCESSES[case]
    if output == "/dev/full" and not os.path.exists(output):
        pytest.skip("this system has no /dev/full")
    if ".zarr" in arguments[0]:
        zarr_library()
        pytest.importorskip("dask.array")
    if prepare is not None:
        prepare()
    before = snapshot()
    if output == "closed pipe":
        reader, stream = os.pipe()
        os.close(reader)
    else:
        stream = os.open(output or os.devnull, os.O_WRONLY)
    command = [sys.executable, "-m", "elasticnd", "deform", *arguments]
    environment = {**os.environ, "PYTHONDEVMODE": "", "PYTHONUNBUFFERED": unbuffered}
    try:
        done = subprocess.run(
            command, stdout=stream, stderr=subprocess.PIPE, text=True, check=False, timeout=120, env=environment
        )
    finally:
        os.close(stream)
    assert done.returncode == 2
    assert done.stderr.startswith("elasticnd: error: ")
    assert done.stderr.count("\n") == 1
    assert snapshot() == before


def test_a_process_does_not_report_what_libraries_leave_behind():
    """After an error, Zarr may leave coroutines that were never awaited, which Python reports at exit."""
    code = "import sys\nfrom elasticnd.__main__ import main\nasync def read(): ...\nleft = read()\nsys.exit(main())"
    command = [sys.executable, "-c", code, "deform", "no.npy", "out.npy", *S]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDEVMODE": ""})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
