"""Sphinx extension: formulas as MathML, which browsers show without a script."""

import math_core
from docutils import nodes

CONVERTER = math_core.LatexToMathML()


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


def setup(app):
    """Tell Sphinx of the renderer."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
