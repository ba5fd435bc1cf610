"""All private names of TensorFlow that the package uses."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python import pywrap_tfe


def is_compiled_by_xla() -> bool:
    """Return whether a function is being traced for XLA. TensorFlow marks its graph, or an enclosing one."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def is_differentiated(tensor: object) -> bool:
    """Return whether a gradient tape or a forward accumulator watches a tensor or variable."""
    read = getattr(tensor, "read_value", None)
    values = [tensor if read is None else read()]
    _, tangents = pywrap_tfe.TFE_Py_PackJVPs(values)
    return bool(tangents) or bool(pywrap_tfe.TFE_Py_TapeSetShouldRecordBackprop(values))
