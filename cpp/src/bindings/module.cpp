// The Python module, one per process, with the functions defined in the other files of this folder.
#include <pybind11/pybind11.h>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"

namespace py = pybind11;
using namespace elasticnd;

namespace {

constexpr const char* one_interpreter =
    "elasticnd cannot be imported in a subinterpreter: its compiled core belongs to the main interpreter. Use threads "
    "or processes instead.";

bool in_main_interpreter() { return PyInterpreterState_Get() == PyInterpreterState_Main(); }

}  // namespace

// threadpoolctl recognises the library by this function.
extern "C" PYBIND11_EXPORT int elasticnd_get_num_threads() { return get_threads(); }

// pybind11's entry point waits for the GIL of the main interpreter, so a subinterpreter must not reach it.
#define PyInit__core init_in_main_interpreter
PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
    // Python 3.13 calls the entry point from the main interpreter, so only this check sees the subinterpreter.
    if (!in_main_interpreter()) throw py::import_error(one_interpreter);
    module.doc() = "The compiled core of elasticnd. Not public: use the functions of the package.";
    bind_introspection(module);
    bind_prefilter(module);
    bind_sampling(module);
    bind_evaluation(module);
    bind_geometry(module);
    remember_main_thread();
    const py::module_ os = py::module_::import("os");
    if (py::hasattr(os, "register_at_fork"))
        os.attr("register_at_fork")(py::arg("after_in_child") = py::cpp_function(remember_main_thread));
}
#undef PyInit__core

extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
    if (in_main_interpreter()) return init_in_main_interpreter();
    PyErr_SetString(PyExc_ImportError, one_interpreter);
    return nullptr;
}
