"""Comments of C++ and CUDA sources keep to the rules for the sentences and docstrings of Python."""

import re
from pathlib import Path

import pytest
from codebase.test_docstrings import BANNED as VERBS
from codebase.test_sentences import complaints as complaints_of_sentences

ROOT = Path(__file__).parents[2]
SUFFIXES = {".cpp", ".hpp", ".cu", ".cuh"}
# Matches a line with a comment. `//` inside a string does not start one.
_COMMENT = re.compile(r"""^(?P<code>(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'|(?!//)[^"])*)//(?P<text>.*)$""")


def files():
    return sorted(path for path in (ROOT / "cpp").rglob("*") if path.suffix in SUFFIXES)


def paragraphs(source):
    """Yield the paragraphs of comments, each of which consists of consecutive lines up to an empty one."""
    column, paragraph = None, []
    for line in [*source.splitlines(), ""]:
        found = _COMMENT.match(line)
        text = found["text"].strip() if found else ""
        goes_on = text and not found["code"].strip() and found.start("text") == column
        if paragraph and not goes_on:
            yield " ".join(paragraph)
            paragraph = []
        if text:
            column = found.start("text")
            paragraph.append(text)


def complaints(paragraph):
    yield from complaints_of_sentences(paragraph)
    opener = paragraph.split()[0]
    verbs = {form: verb for verb in VERBS for form in (verb, f"{verb}s", f"{verb}es")}
    if verb := verbs.get(opener):
        yield f"{VERBS[verb]!r} instead of {opener!r}: {paragraph}"


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT / "cpp").as_posix())
def test_comments(path):
    source = path.read_text(encoding="utf-8")
    found = [text for paragraph in paragraphs(source) for text in complaints(paragraph)]
    assert not found, "\n".join(found)


def test_paragraphs_and_complaints_are_found():
    source = (
        "// One sentence,\n// on two lines.\n//\n// A paragraph.\n"
        "int64 a = 1'000;  // of the code\n"
        'b = "//";  // first line\n'
        "           // second line\n"
        "// Puts it there.\n"
    )
    expected = ["One sentence, on two lines.", "A paragraph.", "of the code", "first line second line"]
    assert list(paragraphs(source)) == [*expected, "Puts it there."]
    assert not [text for paragraph in expected for text in complaints(paragraph)]
    for wrong in ("So are others.", "Puts it there.", "The part outside of the image.", "word " * 41):
        assert len(list(complaints(wrong))) == 1
