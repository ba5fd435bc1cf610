"""Sentences in pages, docstrings and messages are short, and begin as a native writer would begin them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 40

# Unusual openings of sentences, and constructions that need a second reading, each with what to write instead.
BANNED = {
    r"^(?:So|Not so|Nor|Likewise) (?:are|is|do|does|was|were)\b": "the subject first",
    r"^(?:That|Those) of\b": "the noun",
    r"^To this comes\b": "a verb in the active voice",
    r"\bthat there (?:is|are)\b": "the noun alone",
    r"\b(?:is|are) (?:what|that) (?:of )?(?:is|are|makes?|has|have)\b": "a verb",
    r"\btells? that\b": "shows that, says that",
    r"\b(?:is|are) told\b": "is reported",
    r"\bit is that of\b": "the noun",
    r"\barrays? of (?:NumPy|CuPy)\b(?!,)": "NumPy array, CuPy array",
    r"\bshall\b": "must",
    r"\bso many\b(?! that)": "this many, the number",
    r"\boutside of the\b": "outside the",
    r"\bfor want of\b": "for lack of, without",
    r"\bwhat (?:it|they) get,": "their input",
    r"\bbut for\b": "except",
}


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def paragraphs_of_page(text):
    """Yield the paragraphs and list items of a page, without code, tables, formulas, headings and URLs."""
    text = re.sub(r"^([`~]{3,})[^\n]*\n.*?^\1`*~*$", "\n", text, flags=re.M | re.S)
    text = re.sub(r"^\$\$.*?\$\$", "\n", text, flags=re.M | re.S)
    text = re.sub(r"^(?:\||#|\(|:::|---|\[[^\]]+\]:)[^\n]*$", "\n", text, flags=re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        if block := re.sub(r"^(?:[-*]|\d+\.)\s+", "", " ".join(block.split())):
            yield block


def paragraphs_of_docstring(text):
    """Yield the paragraphs of a docstring, without its examples, headings, lists of parameters and tables."""
    text = re.sub(r"^\s*(?:>>>|\.\.\.).*?(?=^\s*$|\Z)", "\n", text, flags=re.M | re.S)
    text = re.sub(r"^[^\n]*\n\s*-{3,}\s*$", "\n", text, flags=re.M)
    for block in re.split(
        r"\n\s*\n|\n(?=\S[^\n]* : )|(?<=:)\n(?=\s)|\n(?=\s*- )|\n(?=\S)(?<=\n)(?=[^\n]*\n {4})", text
    ):
        if block.strip():
            yield " ".join(re.sub(r"^\s*- ", "", block).split())


def sentences(paragraph):
    paragraph = re.sub(r"`+[^`]*`+|\$[^$]*\$", "x", paragraph)
    return re.split(r"(?<=[.!?])[)\"']?\s+(?=[\"'(*]*[A-Z0-9x])", paragraph)


def words(sentence):
    return [word for word in sentence.split() if re.search(r"\w", word)]


def complaints(paragraph):
    for sentence in sentences(paragraph):
        if (count := len(words(sentence))) > LONGEST:
            yield f"{count} words: {sentence}"
        for pattern, instead in BANNED.items():
            if re.search(pattern, sentence):
                yield f"{instead!r} instead of {pattern!r}: {sentence}"


def texts_of_module(source):
    """Yield the paragraphs of docstrings, and the texts of errors, warnings and help messages."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstrings.add(id(node.body[0].value) if node.body and hasattr(node.body[0], "value") else 0)
            yield from paragraphs_of_docstring(ast.get_docstring(node) or "")
        if isinstance(node, ast.JoinedStr):
            docstrings.update(id(value) for value in node.values)
            yield "".join(value.value if isinstance(value, ast.Constant) else "x" for value in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_pages(path):
    found = [text for block in paragraphs_of_page(path.read_text(encoding="utf-8")) for text in complaints(block)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", sorted((ROOT / "elasticnd").rglob("*.py")), ids=lambda path: path.name)
def test_docstrings_and_messages(path):
    found = [text for block in texts_of_module(path.read_text(encoding="utf-8")) for text in complaints(block)]
    assert not found, "\n".join(found)


def test_complaints():
    page = "# A title\n\nShort. So are long ones.\n\n- " + "word " * 41 + "\n\n```python\n" + "word " * 50 + "\n```\n"
    found = [text.split(":")[0] for block in paragraphs_of_page(page) for text in complaints(block)]
    assert found == ["'the subject first' instead of '^(?", "41 words"]
    module = (
        f'def f():\n    """Return x.\n\n    {"word " * 41}\n    """\n    raise ValueError("x: got arrays of NumPy")\n'
    )
    assert sum(1 for block in texts_of_module(module) for _ in complaints(block)) == 2
    assert all(list(complaints(text)) for text in ("It shall wait.", "Allocate so many bytes."))
