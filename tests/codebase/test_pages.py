"""Code that readers copy from a page: no line is too wide, names are defined there, and it can be pasted."""

import ast
import builtins
import codeop
import re
import symtable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
WIDEST = 88

_BLOCK = re.compile(r"^(?P<fence>`{3,}|~{3,})(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=fence) *$", re.M | re.S)
_INCLUDE = re.compile(r"\{literalinclude\} *(?P<path>\S+)")
_OPTION = re.compile(r"^:([\w-]+): *(.*?) *$", re.M)
_PROSE = {"{warning}", "{note}", "{toctree}", "{include}", "{eval-rst}"}


class Block(NamedTuple):
    """A block of code as readers see it."""

    kind: str
    text: str
    is_included: bool = False


def blocks(page):
    """Yield the blocks of code on a page, with included scripts in place."""
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        kind, text = match["kind"].strip(), match["text"]
        if include := _INCLUDE.match(kind):
            script = (page.parent / include["path"]).read_text(encoding="utf-8")
            yield Block("python", included(script, dict(_OPTION.findall(text))), is_included=True)
        elif kind.split()[0] not in _PROSE if kind else True:
            yield Block(kind, text)


def included(script, options):
    """Return the part of a script that `literalinclude` shows with the given options."""
    if "pyobject" in options:
        (node,) = (node for node in ast.parse(script).body if getattr(node, "name", "") == options["pyobject"])
        return ast.get_source_segment(script, node)
    lines = script.splitlines(keepends=True)
    if start := options.get("start-at"):
        lines = lines[next(i for i, line in enumerate(lines) if start in line) :]
    if end := options.get("end-before"):
        lines = lines[: next(i for i, line in enumerate(lines) if i and end in line)]
    return "".join(lines)


def unknown_names(code):
    """Return the names that the code uses but does not define."""
    table = symtable.symtable(code, "page", "exec")
    known = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return used_globals(table) - known - set(dir(builtins)) - {"__file__", "__name__", "__doc__"}


def used_globals(table):
    """Return the global names that a scope or any scope inside it uses."""
    is_module = table.get_type() == "module"
    used = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (is_module or s.is_global())}
    return used.union(*map(used_globals, table.get_children()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_is_not_too_wide(page):
    lines = (line for block in blocks(page) for line in block.text.splitlines())
    assert not [line for line in lines if len(line) > WIDEST]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_are_defined_on_the_page(page):
    assert not unknown_names("\n".join(block.text for block in blocks(page) if block.kind == "python"))


def check_pasted(code):
    """Read code as an interactive interpreter does, which needs an empty line after an indented block."""
    lines = []
    for line in [*code.splitlines(), ""]:
        lines.append(line)
        if codeop.compile_command("\n".join(lines)):
            lines.clear()
    assert not lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_can_be_pasted(page):
    for block in blocks(page):
        if block.kind == "python" and not block.is_included:
            check_pasted(block.text)


def test_code_that_cannot_be_pasted():
    check_pasted("with a:\n    b\n\nc\n")
    with pytest.raises(SyntaxError):
        check_pasted("with a:\n    b\nc\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_ratios_do_not_break(page):
    """The space in a ratio such as 115 × is non-breaking, so that number and sign stay on one line."""
    assert not re.findall(r"\d ×\)", page.read_text(encoding="utf-8"))


def test_blocks_and_unknown_names_are_found(tmp_path):
    (tmp_path / "script.py").write_text("import this\n\nA = B\n\n\ndef f():\n    return A\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\nls\n```\n\n~~~{literalinclude} script.py\n:pyobject: f\n~~~\n\n```{note}\nprose\n```\n"
        "~~~{literalinclude} script.py\n:start-at: A =\n:end-before: def\n~~~\n",
        encoding="utf-8",
    )
    _, function, constant = found = list(blocks(page))
    assert [block.kind for block in found] == ["sh", "python", "python"]
    assert unknown_names(function.text) == {"A"}
    assert unknown_names(function.text + "\n" + constant.text) == {"B"}
    assert unknown_names("import a.b\nx = [y for y in a]\nclass C:\n    z: int = x\nprint(C.z)\n") == set()
