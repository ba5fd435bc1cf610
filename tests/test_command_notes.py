"""Notes on lost metadata: each is one line, and appears only after all outputs are in place."""

import os
import struct
import sys

import pytest
from failures import FullStream, raising
from image_files import OPTIONS, assert_fails, random_array
from png_files import png

from elasticnd.__main__ import main


@pytest.fixture
def noted(tmp_path):
    """Return the arguments of a call that loses metadata and therefore prints a note."""
    png(tmp_path / "in.png", random_array("u1", 20, 24), extra=[(b"gAMA", struct.pack(">I", 45455))])
    return [tmp_path / "in.png", tmp_path / "out.npy", *OPTIONS]


def test_there_is_no_note_after_an_error(noted, monkeypatch, capsys):
    """There is no note even if all outputs are written but cannot be put in place."""
    monkeypatch.setattr(os, "replace", raising(OSError("no such luck")))
    assert_fails(capsys, noted, "no such luck")


def test_a_note_is_one_line_whatever_the_names(noted, tmp_path, capsys):
    assert main(["deform", str(noted[0]), str(tmp_path / "a\nb\x1b.npy"), *OPTIONS]) == 0
    errors = capsys.readouterr().err
    assert errors.startswith("elasticnd: note: ")
    assert "a\\nb\\x1b.npy lacks" in errors
    assert errors[:-1].isprintable()


def test_a_note_that_cannot_be_printed_is_no_error(noted, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", FullStream())
    assert main(["deform", *map(str, noted)]) == 0
    assert (tmp_path / "out.npy").exists()
