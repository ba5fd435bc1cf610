// The functions of the Python module, by subject. They check shapes and types, release the GIL, and call the core.
// Arrays come with their axes in the core's order: batch axes, channel axes, deformed axes.
#pragma once
#include <pybind11/pybind11.h>

namespace elasticnd {

void bind_introspection(pybind11::module_& module);
void bind_prefilter(pybind11::module_& module);
void bind_sampling(pybind11::module_& module);
void bind_evaluation(pybind11::module_& module);
void bind_geometry(pybind11::module_& module);

}  // namespace elasticnd
