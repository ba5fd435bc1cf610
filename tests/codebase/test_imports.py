"""Modules of the package import only modules of lower layers or of their own layer, and never in a circle."""

import ast
from pathlib import Path

import elasticnd

PACKAGE = Path(elasticnd.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
# From top to bottom: a module may import from its own layer and from all layers below.
LAYERS = (
    ("__main__",),
    ("_cli",),
    ("keras", "torch", "jax", "tf", "monai", "torchio", "torchvision"),
    ("_adapters",),
    ("__init__",),
    ("_namespaces",),
    ("_api",),
    ("deformation",),
    ("_deformation",),
    ("_world",),
    ("_chains",),
    ("_apply",),
    (
        "_energy",
        "_files",
        "_fit",
        "_folds",
        "_plot",
        "_points",
        "_positions",
        "_random",
        "_recall",
        "_routes",
        "_splines",
        "_voxels",
    ),
    ("_bridges",),
    ("_check", "_serialize"),
    ("_autodiff",),
    ("_engines",),
    ("_job",),
    ("_spec",),
    ("_affine", "_coerce", "_labels"),
    ("_modes",),
    ("_compat", "_config", "_dtypes", "_errors", "_extras", "_floating_point", "_limits", "_pytrees", "_types"),
)


def arrows():
    """Return the imports between modules of the package, even within functions, but not those for types alone."""
    return {
        name: sorted(set(imports(name, ast.parse(path.read_text(encoding="utf-8"))))) for name, path in MODULES.items()
    }


def imports(name, tree):
    is_package = MODULES[name].name == "__init__.py"
    own = name.split(".") if name != "__init__" else []
    package = own if is_package else own[:-1]
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first, *rest = alias.name.split(".")
                if first == "elasticnd":
                    yield ".".join(rest) or "__init__"
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                parts = package[: len(package) - node.level + 1] + parts
            elif parts[0] != "elasticnd":
                continue
            else:
                parts = parts[1:]
            for alias in node.names:
                module = ".".join([*parts, alias.name])
                found = module if module in MODULES else ".".join(parts) or "__init__"
                if found != name and module != "_core":  # the compiled module imports nothing
                    yield found


def nodes(tree):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from nodes(node)


def layer_of(name):
    first = name.partition(".")[0]
    return next(number for number, layer in enumerate(LAYERS) if first in layer)


def test_every_module_has_a_layer():
    assert {name.partition(".")[0] for name in MODULES} == {name for layer in LAYERS for name in layer}


def test_nothing_imports_what_is_above():
    upward = [
        (name, other) for name, others in arrows().items() for other in others if layer_of(other) < layer_of(name)
    ]
    assert not upward


def circle(graph):
    """Return one circle of a graph, or None if it has none."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        path.append(name)
        found = next(filter(None, map(visit, graph[name])), [])
        path.pop()
        done.add(name)
        return found

    return next(filter(None, map(visit, graph)), [])


def test_there_is_no_circle():
    assert not circle(arrows())


def test_circles_and_arrows_are_found():
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c"]
    assert list(imports("_bridges.eager", ast.parse("def f():\n    from .._routes import bridge_of"))) == ["_routes"]
