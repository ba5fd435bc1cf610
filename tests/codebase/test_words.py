"""One word per thing: identifiers in Python, C++ and CUDA contain no word for which the glossary has another one."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Words that no identifier may contain, with the words of the glossary to use instead.
BANNED = {
    "arithmetic": "compute_dtype",
    "beyond": "border_value",
    "calculus": "FrameworkOps",
    "checkpoint": "check_interrupt",
    "deferred": "RecordedCall",
    "direction": "tangent",
    "directions": "tangents",
    "flattened": "flatten",
    "motion": "transform",
    "pair": "transform, or what it is a pair of",
    "pairs": "transforms, or what they are pairs of",
    "plain": "unlabelled, contiguous, is_cacheable, needs_no_grad, uses_generic",
    "plainly": "by_generic",
    "pull": "adjoint, vjp: in this field, to pull is to sample",
    "pulled": "adjoint, vjp, gradient",
    "pushed": "jvp, tangent",
    "scatter": "sample_adjoint; splat inside kernels",
    "shelf": "FreeList",
    "structured": "unflatten",
}
# The same for whole identifiers.
BANNED_NAMES = {
    "fill_element": "cval_element",
    "fixed": "inverse_rotation_zoom",
    "fixed_linear": "inverse_rotation_zoom_linear",
    "inverse_rotation_and_zoom": "inverse_rotation_zoom",
    "points_shape": "displacement_shape",
    "take_scratch": "allocate_scratch",
}
ALLOWED = {
    "elasticnd/_cli": {"pair", "pairs"},  # the command line works on pairs of files
    "elasticnd/_files": {"direction"},  # ITK's word for the axes of an image
    "cpp/src/bindings": {"pair"},  # std::pair
    "cpp/src/core": {"pair"},  # std::pair
    "cpp/src/kernels": {"pair", "pairs"},  # pairs of taps, of lines, and of adjacent pixels in a vector
}

PYTHON = {".py", ".pyi"}
C = {".cpp", ".hpp", ".cu", ".cuh"}
_NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|^\s*#\s*include[^\n]*""", re.S | re.M
)


def files():
    folders = ("elasticnd", "cpp/include", "cpp/src", "cpp/cuda")
    found = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in PYTHON | C)
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def identifiers(text, suffix):
    """Return the identifiers of a file, ignoring comments and string literals."""
    if suffix in PYTHON:
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        return {token.string for token in tokens if token.type == tokenize.NAME}
    return set(re.findall(r"\b[A-Za-z_]\w*", _NO_CODE.sub(" ", text)))


def words(identifier):
    """Return the words of an identifier in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


def banned(names, allowed=frozenset()):
    found = {}
    for name in names:
        instead = [BANNED[word] for word in words(name) & BANNED.keys() - allowed]
        if name.strip("_") in BANNED_NAMES:
            instead.append(BANNED_NAMES[name.strip("_")])
        if instead:
            found[name] = "; ".join(instead)
    return found


@pytest.mark.parametrize("path", files())
def test_no_banned_word(path):
    allowed = set().union(*(words for folder, words in ALLOWED.items() if path.startswith(folder)))
    text = (ROOT / path).read_text(encoding="utf-8")
    found = banned(identifiers(text, Path(path).suffix), allowed)
    found |= banned([Path(path).stem], allowed)
    assert not found, f"{path}: use {found} instead"


@pytest.mark.parametrize(
    ("text", "suffix", "found"),
    [
        ("class _MotionSums:\n    pass  # scatter\n", ".py", {"_MotionSums"}),
        ("def pull_back(plain):\n    return 'motion'\n", ".py", {"pull_back", "plain"}),
        ("explain = pullover = transform\n", ".py", set()),
        ("fixed = fixed_point\n", ".py", {"fixed"}),
        ('int64 motionSize; // plain\n/* scatter\n*/ auto text = "pull \\" pull";', ".cpp", {"motionSize"}),
        ("#include \"scatter.hpp\"\nvoid scatter_image(char c = 'p');", ".cu", {"scatter_image"}),
    ],
)
def test_banned_words_are_found(text, suffix, found):
    assert set(banned(identifiers(text, suffix))) == found


def test_glossary_has_every_word_once():
    found = re.findall(r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M)
    assert len(found) > 30
    assert found == sorted(set(found), key=str.lower)
