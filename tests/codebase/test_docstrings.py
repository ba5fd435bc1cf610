"""Docstrings begin as those of Python itself: with a verb such as Return for functions, with a noun for properties."""

import ast
import functools
import inspect
from pathlib import Path

import pytest
from numpydoc.validate import validate

import elasticnd

ROOT = Path(__file__).parents[2]

# Verbs that do not say what a function does, or that no manual uses, with verbs to use instead.
BANNED = {
    "Bring": "Convert",
    "Get": "Return",
    "Give": "Return",
    "Go": "Yield",
    "Have": "the verb for what is done",
    "Keep": "Silence, Limit, Store",
    "Lay": "Return",
    "Leave": "Remove, Return",
    "Let": "Allow, Set",
    "Pull": "Compute the gradient",
    "Put": "Insert, Return",
    "Refuse": "Raise, Reject",
    "Say": "Return, Describe",
    "Take": "Convert, Return",
    "Tell": "Return whether, Return",
    "Undo": "Invert",
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def files():
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "elasticnd").rglob("*.py"))


def is_property(function):
    names = (getattr(node, "id", getattr(node, "attr", None)) for node in function.decorator_list)
    return not {"property", "cached_property"}.isdisjoint(names)


def docstrings(text):
    """Yield the name and docstring of each documented function, and whether it is a property."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS) and (text := ast.get_docstring(node)):
            yield node.name, text, is_property(node)


def complaints(text):
    found = []
    for name, docstring, of_property in docstrings(text):
        first, word = docstring.splitlines()[0], docstring.split()[0]
        if word in BANNED:
            found.append(f"{name}: {BANNED[word]} instead of {word}")
        if of_property and word == "Return":
            found.append(f"{name}: a property is described by its noun")
        if not first[0].isupper() or first[-1] not in ".:?":
            found.append(f"{name}: the first line is no sentence: {first!r}")
    return found


@pytest.mark.parametrize("path", files())
def test_docstrings_begin_with_a_verb_or_a_noun(path):
    assert not complaints((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("docstring", "decorator", "expected"),
    [
        ("Give a number.", "", ["f: Return instead of Give"]),
        ("Return a number.", "", []),
        ("Return a number.", "@property", ["f: a property is described by its noun"]),
        ("The number.", "@functools.cached_property", []),
        ("return a number", "", ["f: the first line is no sentence: 'return a number'"]),
    ],
)
def test_complaints(docstring, decorator, expected):
    assert complaints(f'{decorator}\ndef f(x):\n    """{docstring}"""\n') == expected


# ---- public names, checked by numpydoc -------------------------------------------------------------------------------

NOT_ASKED = {
    "ES01": "an extended summary: many names need none",
    "PR04": "the type of each parameter: parameters like those of another function are described there",
    "SA01": "See Also",
    "SA03": "descriptions in See Also begin in lower case, as NumPy's own",
    "YD01": "Yields: context managers yield nothing of interest",
}
NOT_ASKED_OF_FIELDS = {"EX01": "examples", "PR01": "parameters of named tuples", "SS03": "a full sentence"}


def public_names():
    for name in elasticnd.__all__:
        thing = getattr(elasticnd, name)
        if callable(thing):
            yield f"elasticnd.{name}"
        if inspect.isclass(thing):
            own = (member for member in dir(thing) if not member.startswith("_"))
            inherited = (*dir(tuple), *dir(Exception))
            yield from (f"elasticnd.{name}.{member}" for member in own if member not in inherited)


def is_field(name):
    """Return whether a name is an attribute or a class that only holds attributes, which needs no example."""
    thing = functools.reduce(getattr, name.split(".")[1:], elasticnd)
    return not callable(thing) or (inspect.isclass(thing) and issubclass(thing, (tuple, Warning, Exception)))


@pytest.mark.parametrize("name", sorted(public_names()))
def test_public_docstrings_are_complete(name):
    not_asked = NOT_ASKED | (NOT_ASKED_OF_FIELDS if is_field(name) else {})
    errors = [(code, text) for code, text in validate(name)["errors"] if code not in not_asked]
    assert not errors


# Functions without an argument that could be wrong, which neither compute nor allocate much.
RAISES_NOTHING = {
    *("get_num_threads", "is_deterministic", "show_config"),
    *("Chain.inverse", "Deformation.inverse", "Inverse.inverse"),
    *("Deformation.bending_energy", "Deformation.refined"),
}


@pytest.mark.parametrize("name", sorted(set(public_names())))
def test_public_docstrings_say_what_is_raised(name):
    if is_field(name):
        return
    thing = functools.reduce(getattr, name.split(".")[1:], elasticnd)
    says_so = "\nRaises\n------\n" in inspect.getdoc(thing)
    assert says_so == (name.removeprefix("elasticnd.") not in RAISES_NOTHING)
