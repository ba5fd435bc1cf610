"""Every example in docstrings, the README and the docs runs.

The blocks of a page share their names and run in a new directory.
"""

import doctest
import functools
import importlib.util
import inspect
import pkgutil
import re
import warnings
from pathlib import Path

import hosts
import numpy as np
import pytest

import elasticnd

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")) if path.exists())
PYTHON = ("python", "{code-block} python", "{doctest}")


# The framework that a module requires, by the last part of the module's name.
FRAMEWORKS = {
    "dask": "dask",
    "xarray": "xarray",
    "jax": "jax",
    "keras": "keras",
    "monai": "monai",
    "tensorflow": "tensorflow",
    "tensorflow_namespace": "tensorflow",
    "tf": "tensorflow",
    "tensors": "torch",
    "torch": "torch",
    "torchio": "torchio",
    "torchvision": "torchvision",
}


def modules():
    """Return the names of the package's Python modules."""
    walked = (module.name for module in pkgutil.walk_packages(elasticnd.__path__, "elasticnd."))
    return ["elasticnd", *(name for name in walked if not name.endswith(("._core", ".__main__")))]


def require(framework):
    if framework in hosts.NAMES:
        hosts.require(framework)
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")


def imported(name):
    framework = FRAMEWORKS.get(name.rpartition(".")[2])
    if framework is not None:
        require(framework)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # frameworks issue warnings on import
            return importlib.import_module(name)
    return importlib.import_module(name)


def examples_of(name, value):
    finder = doctest.DocTestFinder(recurse=inspect.ismodule(value))
    return [test for test in finder.find(value, name) if test.examples]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # matplotlib draws figures but does not show them.
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = elasticnd.get_num_threads()
    yield tmp_path
    elasticnd.set_num_threads(before)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", modules())
def test_docstrings(name):
    module = imported(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    for test in examples_of(name, module):
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def public_names():
    for name in elasticnd.__all__:
        value = getattr(elasticnd, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name
        if name in ("Deformation", "Chain", "Inverse"):
            methods = inspect.getmembers(value, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
            yield from (f"{name}.{method}" for method, _ in methods if not method.startswith("_"))


@pytest.mark.parametrize("name", list(public_names()))
def test_every_public_name_has_an_example(name):
    assert examples_of(name, functools.reduce(getattr, name.split("."), elasticnd))


def blocks_of(page):
    """Return what Sybil finds on a page: Python blocks, and examples with prompts."""
    sybil = pytest.importorskip("sybil")
    myst = importlib.import_module("sybil.parsers.myst")
    parsers = [
        myst.PythonCodeBlockParser(doctest_optionflags=doctest.NORMALIZE_WHITESPACE),
        myst.DocTestDirectiveParser(optionflags=doctest.NORMALIZE_WHITESPACE),
    ]
    return list(sybil.Sybil(parsers).parse(page))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page):
    for optional in sorted({*FRAMEWORKS.values(), "distributed", "zarr"}):
        if re.search(rf"^(import|from) {optional}\b", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            require(optional)
    np.random.seed(0)  # noqa: NPY002 - a page may draw from the old global state
    for example in blocks_of(page):
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_is_overlooked(page):
    """Every fence that is labelled as Python runs, and no fence has another label for Python."""
    fences = re.findall(r"^ *`{3,} *(\S.*?) *$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not [fence for fence in fences if "py" in fence.lower() and fence not in PYTHON]
    assert len(blocks_of(page)) == sum(fence in PYTHON for fence in fences)


def test_a_wrong_example_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 3\n```\n\ntext\n\n```python\n>>> x + 1\n5\n```\n", encoding="utf-8")
    first, second = blocks_of(page)
    first.evaluate()
    with pytest.raises(Exception, match="Expected"):
        second.evaluate()
