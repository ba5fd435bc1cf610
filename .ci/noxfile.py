"""The checks, one session each: ``nox -f .ci/noxfile.py -s quick``; ``-l`` lists them, ``--`` precedes their arguments.

Most sessions run in the environment that nox itself is installed in, such as the editable installation of
docs/contributing.md. Those that need other packages make their own environment, and install the wheel that the
variable WHEEL names, or the checkout.
"""

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["quick", "lint", "types"]
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).parent.parent
PAGES = "docs/_build/html"
nox.options.envdir = ROOT / ".nox"
# The programs of this environment, even if it is not activated.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

here = nox.session(venv_backend="none")


def install(session: nox.Session, extras: str, *others: str) -> None:
    """Install the package with extras into the session's own environment."""
    session.chdir(ROOT)
    session.install(f"{os.environ.get('WHEEL', '.')}[{extras}]", *others)


def files(session: nox.Session, *patterns: str) -> list[str]:
    """Return the files in the repository that match."""
    return str(session.run("git", "ls-files", *patterns, external=True, silent=True)).split()


@here
def quick(session: nox.Session) -> None:
    """A few seconds: one test of each mode, order and dtype, gradients and errors."""
    session.chdir(ROOT)
    session.run("pytest", "-q", "-m", "quick", *session.posargs)


@here
def test(session: nox.Session) -> None:
    """All tests, as README.md says."""
    session.chdir(ROOT)
    session.run("pytest", "-n", "auto", *session.posargs)


@here
def lint(session: nox.Session) -> None:
    """The style of Python and of C++, and the spelling of all texts."""
    session.chdir(ROOT)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("clang-format", "--dry-run", "--Werror", *files(session, "*.cpp", "*.hpp", "*.cu", "*.cuh"))
    session.run("codespell", *files(session))


@here
def types(session: nox.Session) -> None:
    """Types of the package, and the stub of the compiled module against the module."""
    session.chdir(ROOT)
    session.run("mypy")
    session.chdir(session.create_tmp())  # in the checkout, the package without a compiled module would be found
    session.run("stubtest", "elasticnd._core", "--mypy-config-file", ROOT / "pyproject.toml")


@here
def memory(session: nox.Session) -> None:
    """The memory of tiny images of many axes: every order, mode and engine."""
    session.chdir(ROOT)
    session.run("pytest", "-q", "-n", "auto", "--exhaustive", "tests/test_memory.py", *session.posargs)


@here
def docs(session: nox.Session) -> None:
    """The documentation, into docs/_build/html, and checks of its links, pictures, code and search."""
    session.chdir(ROOT)
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "docs", PAGES, *session.posargs)
    session.run("pytest", "-q", "--pages", PAGES, "tests/test_built_pages.py")


@here
def cpp(session: nox.Session) -> None:
    """Tests of the core without Python, with sanitizers, and counts of the kernels' instructions."""
    session.chdir(ROOT / "cpp")
    for preset in ("asan", "tsan"):
        session.run("cmake", "--workflow", "--preset", preset)
    session.chdir(ROOT)
    session.run("pytest", "-q", "--recompile", "tests/test_instructions.py", *session.posargs)


@here
def tidy(session: nox.Session) -> None:
    """Static analysis of the core by clang-tidy."""
    session.chdir(ROOT / "cpp")
    session.run("cmake", "--workflow", "--preset", "tidy")


@nox.session(name="cuda-host", venv_backend="none")
def cuda_host(session: nox.Session) -> None:
    """The CUDA kernels on the host: accuracy and gradients, and some of them with sanitizers."""
    session.chdir(ROOT)
    tests = [f"tests/test_{name}.py" for name in ("accuracy", "border", "gradients")]
    session.run("pytest", "-n", "auto", "-q", "--engine", "cuda-host", "-k", "not test_grid_gradient", *tests)
    session.run("pytest", "-q", "--recompile", "tests/test_sanitizers.py")


@here
def bench(session: nox.Session) -> None:
    """Times beside other programs; the options are those of tests/benchmarks/compare.py."""
    session.chdir(ROOT)
    session.run("python", "tests/benchmarks/compare.py", *session.posargs)


@nox.session
def nvrtc(session: nox.Session) -> None:
    """Every instance of the CUDA kernels compiled by NVRTC, without a device, and counts of their machine code."""
    install(session, "nvrtc", "hypothesis", "ml_dtypes", "pytest", "pytest-xdist")
    tests = ("tests/test_nvrtc.py", "tests/test_machine_code.py")
    session.run("pytest", "-n", "auto", "-q", *tests, *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """Tests of the frameworks, and of the hosts that there are transforms for, in their oldest versions."""
    install(session, "oldest,test")
    # Without what they depend on: this torchvision would bring an older PyTorch.
    session.install("--no-deps", "monai==1.3.0", "torchio==1.2.0", "torchvision==0.20.0")
    frameworks = ("frameworks", "generic", "jax", "keras", "tensorflow")
    of_torch = ("compile", "data_loader", "derivatives", "devices", "layer", "modes", "operator", "tensors")
    names = (*frameworks, *(f"torch_{name}" for name in of_torch), "monai", "torchio", "torchvision")
    tests = [f"tests/test_{name}.py" for name in names]
    session.run("pytest", "-n", "auto", "-q", *tests, *session.posargs)


@nox.session
def pages(session: nox.Session) -> None:
    """What `docs` has built, in a Chromium: wide and narrow, light and dark, without a network."""
    session.chdir(ROOT)
    session.install("numpy", "playwright", "pytest")
    session.run("pytest", "-q", "--pages", PAGES, "tests/test_pages_in_browser.py", *session.posargs)


@nox.session
def pipelines(session: nox.Session) -> None:
    """The recipes for pipelines, with the libraries that they are for."""
    install(session, "pipelines", "pytest", "tensorflow-cpu", "torch==2.13.0", "torchio==2.0.0a2")
    output = session.run("pytest", "-q", "tests/test_pipelines.py", *session.posargs, silent=True)
    session.log(output)
    if "is not installed" in str(output):
        session.error("a library is missing")


@nox.session
def unnamed(session: nox.Session) -> None:
    """Tests with array libraries that the package does not name."""
    install(session, "unnamed", "array-api-strict", "ml_dtypes", "pytest", "scipy")
    output = session.run("pytest", "-q", "tests/test_unnamed.py", *session.posargs, silent=True)
    session.log(output)
    if "is not installed" in str(output):
        session.error("a library is missing")


@nox.session
def package(session: nox.Session) -> None:
    """Source archive, a wheel from it (in dist, or the folder given), and the wheel alone in an empty environment."""
    session.chdir(ROOT)
    folder = Path(*(session.posargs or ["dist"])).absolute()
    session.run(sys.executable, "-m", "build", "--outdir", folder, ".", external=True, silent=True)
    session.install(str(max(folder.glob("*.whl"), key=os.path.getmtime)))
    session.chdir(session.create_tmp())
    session.run("python", "-c", "import elasticnd; elasticnd.show_config()")
