"""The checks, one session each. ``nox -f .ci/noxfile.py -s quick`` runs one, and ``-l`` lists them all.

Arguments after ``--`` go to the programs that a session runs. Most sessions use the environment that nox is installed
in, such as the editable installation of docs/contributing.md. Sessions that need other packages create their own
environment. There they install the wheel that the environment variable WHEEL names or, without it, the checkout.
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
# Find the programs of this environment even if it is not activated.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

here = nox.session(venv_backend="none")


def install(session: nox.Session, extras: str, *others: str) -> None:
    """Install the package with extras into the session's own environment."""
    session.chdir(ROOT)
    session.install(f"{os.environ.get('WHEEL', '.')}[{extras}]", *others)


def files(session: nox.Session, *patterns: str) -> list[str]:
    """Return the files of the repository that match any of the patterns."""
    return str(session.run("git", "ls-files", *patterns, external=True, silent=True)).split()


@here
def quick(session: nox.Session) -> None:
    """Run tests of every mode, order and dtype, of gradients and of errors, within a few seconds."""
    session.chdir(ROOT)
    session.run("pytest", "-q", "-m", "quick", *session.posargs)


@here
def test(session: nox.Session) -> None:
    """Run all tests, as README.md describes."""
    session.chdir(ROOT)
    session.run("pytest", "-n", "auto", *session.posargs)


@here
def lint(session: nox.Session) -> None:
    """Check the style of Python and C++ code, and the spelling in all files."""
    session.chdir(ROOT)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("clang-format", "--dry-run", "--Werror", *files(session, "*.cpp", "*.hpp", "*.cu", "*.cuh"))
    session.run("codespell", *files(session))


@here
def types(session: nox.Session) -> None:
    """Check the types of the package, and compare the compiled module with its stub."""
    session.chdir(ROOT)
    session.run("mypy")
    session.chdir(session.create_tmp())  # the checkout has a package without the compiled module
    session.run("stubtest", "elasticnd._core", "--mypy-config-file", ROOT / "pyproject.toml")


@here
def memory(session: nox.Session) -> None:
    """Measure the memory that tiny images with many axes need, for every order, mode and engine."""
    session.chdir(ROOT)
    session.run("pytest", "-q", "-n", "auto", "--exhaustive", "tests/test_memory.py", *session.posargs)


@here
def docs(session: nox.Session) -> None:
    """Build the documentation in docs/_build/html, and check its links, pictures, code and search."""
    session.chdir(ROOT)
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "docs", PAGES, *session.posargs)
    session.run("pytest", "-q", "--pages", PAGES, "tests/test_built_pages.py")


@here
def cpp(session: nox.Session) -> None:
    """Test the core without Python under sanitizers, and count the instructions of its kernels."""
    session.chdir(ROOT / "cpp")
    for preset in ("asan", "tsan"):
        session.run("cmake", "--workflow", "--preset", preset)
    session.chdir(ROOT)
    session.run("pytest", "-q", "--recompile", "tests/test_instructions.py", *session.posargs)


@here
def tidy(session: nox.Session) -> None:
    """Analyse the core with clang-tidy."""
    session.chdir(ROOT / "cpp")
    session.run("cmake", "--workflow", "--preset", "tidy")


@nox.session(name="cuda-host", venv_backend="none")
def cuda_host(session: nox.Session) -> None:
    """Test accuracy and gradients of the CUDA kernels on the host, and run some kernels under sanitizers."""
    session.chdir(ROOT)
    tests = [f"tests/test_{name}.py" for name in ("accuracy", "border", "gradients")]
    session.run("pytest", "-n", "auto", "-q", "--engine", "cuda-host", "-k", "not test_grid_gradient", *tests)
    session.run("pytest", "-q", "--recompile", "tests/test_sanitizers.py")


@here
def bench(session: nox.Session) -> None:
    """Compare the speed with other programs. The options are those of tests/benchmarks/compare.py."""
    session.chdir(ROOT)
    session.run("python", "tests/benchmarks/compare.py", *session.posargs)


@nox.session
def nvrtc(session: nox.Session) -> None:
    """Compile CUDA kernels with NVRTC, without a device, and check their machine code; -- --exhaustive compiles all."""
    install(session, "nvrtc", "hypothesis", "ml_dtypes", "pytest", "pytest-xdist")
    tests = ("tests/test_nvrtc.py", "tests/test_machine_code.py")
    session.run("pytest", "-n", "auto", "-q", *tests, *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """Test with the oldest supported versions of the frameworks and of the pipeline libraries."""
    install(session, "oldest,test")
    # Without their dependencies: this torchvision would install an older PyTorch.
    session.install("--no-deps", "monai==1.3.0", "torchio==1.2.0", "torchvision==0.20.0")
    frameworks = ("frameworks", "generic", "jax", "keras", "tensorflow")
    of_torch = ("compile", "data_loader", "derivatives", "devices", "layer", "modes", "operator", "tensors")
    names = (*frameworks, *(f"torch_{name}" for name in of_torch), "monai", "torchio", "torchvision")
    tests = [f"tests/test_{name}.py" for name in names]
    session.run("pytest", "-n", "auto", "-q", *tests, *session.posargs)


@nox.session
def pages(session: nox.Session) -> None:
    """Test the pages that `docs` has built in Chromium: wide and narrow, light and dark, without a network."""
    session.chdir(ROOT)
    session.install("numpy", "playwright", "pytest")
    session.run("pytest", "-q", "--pages", PAGES, "tests/test_pages_in_browser.py", *session.posargs)


@nox.session
def pipelines(session: nox.Session) -> None:
    """Test the recipes for pipelines with the libraries that they are written for."""
    install(session, "pipelines", "pytest", "tensorflow-cpu", "torch==2.13.0", "torchio==2.0.0a2")
    output = session.run("pytest", "-q", "tests/test_pipelines.py", *session.posargs, silent=True)
    session.log(output)
    if "is not installed" in str(output):
        session.error("a library is missing")


@nox.session
def unnamed(session: nox.Session) -> None:
    """Test with array libraries that the package does not know by name."""
    install(session, "unnamed", "array-api-strict", "ml_dtypes", "pytest", "scipy")
    output = session.run("pytest", "-q", "tests/test_unnamed.py", *session.posargs, silent=True)
    session.log(output)
    if "is not installed" in str(output):
        session.error("a library is missing")


@nox.session
def package(session: nox.Session) -> None:
    """Build the source archive and a wheel from it, in dist or the given folder, and import the wheel by itself."""
    session.chdir(ROOT)
    folder = Path(*(session.posargs or ["dist"])).absolute()
    session.run(sys.executable, "-m", "build", "--outdir", folder, ".", external=True, silent=True)
    session.install(str(max(folder.glob("*.whl"), key=os.path.getmtime)))
    session.chdir(session.create_tmp())
    session.run("python", "-c", "import elasticnd; elasticnd.show_config()")
