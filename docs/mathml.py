"""Sphinx extension: formulas as MathML, which browsers show without a script."""

import re

import math_core
from docutils import nodes

CONVERTER = math_core.LatexToMathML()
PUNCTUATION = re.compile(r"[-,.;:?!)’]+\S*")


def mathml(node, *, display):
    """Convert the TeX of a node; an error in it ends the build."""
    return CONVERTER.convert_with_local_state(node.astext(), displaystyle=display)


def visit_math(translator, node):
    """Write a formula within a line."""
    translator.body.append(mathml(node, display=False))
    raise nodes.SkipNode


def visit_math_block(translator, node):
    """Write a formula on a line of its own."""
    block = translator.starttag(node, "div", CLASS="math")
    translator.body.append(f"{block}{mathml(node, display=True)}</div>\n")
    raise nodes.SkipNode


def join_punctuation(app, doctree):
    """Keep punctuation on the line of its formula: browsers would break there."""
    for formula in list(doctree.findall(nodes.math)):
        after = formula.next_node(nodes.Text, descend=False, siblings=True)
        found = PUNCTUATION.match(after.astext()) if after else None
        if found and formula.parent.index(after) == formula.parent.index(formula) + 1:
            formula.parent.replace(after, nodes.Text(after.astext()[found.end() :]))
            joined = nodes.inline(classes=["joined"])
            formula.replace_self(joined)
            joined += [formula, nodes.Text(found[0])]


def setup(app):
    """Tell Sphinx of the renderer."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("doctree-read", join_punctuation)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
