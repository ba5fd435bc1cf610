"""Configuration of Sphinx."""

import sys
from pathlib import Path

from docutils.nodes import Text, literal_block
from sphinx.addnodes import pending_xref

import elasticnd

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import hosts  # noqa: E402
from features import FEATURES, NAMES, TITLES  # noqa: E402

hosts.load(
    "torchvision"
)  # elsewhere than in tests, its wheel may lack what it registers when it is imported

project = "elasticnd"
author = "the elasticnd developers"
copyright = "the elasticnd developers"
release = version = elasticnd.__version__

extensions = [
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autosummary_generate = True
toc_object_entries = False
add_module_names = False
default_role = "autolink"  # single backticks in docstrings
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
html_math_renderer = "mathml"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = f"elasticnd {release}"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#00695c",
        "color-brand-content": "#00695c",
    },
    "dark_css_variables": {
        "color-brand-primary": "#4db6ac",
        "color-brand-content": "#4db6ac",
    },
}


def support_table():
    """Write what each framework supports, from the table that the tests read."""
    rows = [["", *TITLES.values()], ["---"] * (1 + len(NAMES))]
    for feature, places in FEATURES.items():
        rows.append(
            [
                feature,
                *("yes" if "::" in places[name] else places[name] for name in NAMES),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def unlink_words(app, doctree):
    """Remove links from the words of a parameter's type that are no types: shape."""
    for link in list(doctree.findall(pending_xref)):
        if link["reftype"] == "class" and link["reftarget"].islower():
            link.replace_self(link.children)


def strip_code(app, doctree):
    """Remove the empty lines at the end of code that a page includes."""
    for block in doctree.findall(literal_block):
        block.rawsource = block.astext().rstrip()  # other code is not highlighted
        block.children = [Text(block.rawsource)]


def setup(app):
    """Write the generated part of the pages, and mend what Sphinx makes of types."""
    app.connect("doctree-read", strip_code)
    app.connect("doctree-read", unlink_words)
    folder = HERE / "_generated"
    folder.mkdir(exist_ok=True)
    (folder / "support.txt").write_text(support_table(), encoding="utf-8")
