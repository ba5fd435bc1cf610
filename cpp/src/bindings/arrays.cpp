// Converts Python arrays for the core's requests, and calls the core without the GIL.
#include "bindings/arrays.hpp"

#include <algorithm>
#include <exception>
#include <functional>
#include <iterator>

#include "runtime/parallel.hpp"

namespace elasticnd {

// Reads the bytes directly: the buffer protocol would describe every field anew at each call.
Job job_of(const py::array& record) {
    if (!(record.flags() & py::array::c_style)) reject("a job is not contiguous");
    return checked_job(record.data(), record.nbytes());
}

View view_of(const py::array& array, int dtype) {
    if (dtype < 0 || dtype >= dtype_count || array.itemsize() != element_size[dtype])
        reject("an array has the wrong type");
    View view;
    if (array.ndim() > static_cast<py::ssize_t>(std::size(view.shape))) reject("an array has too many axes");
    view.data = const_cast<void*>(array.data());
    view.dtype = dtype;
    view.ndim = static_cast<int>(array.ndim());
    std::copy_n(array.shape(), view.ndim, view.shape);
    std::copy_n(array.strides(), view.ndim, view.stride);
    return view;
}

Numbers numbers_of(const Doubles& array) { return {array.data(), array.size()}; }
Numbers numbers_of(const std::optional<Doubles>& array) { return array ? numbers_of(*array) : Numbers{nullptr, 0}; }

Transform transform_of(const TransformArrays& arrays) {
    const auto& [control_points, affine, tangents] = arrays;
    Transform transform = {numbers_of(control_points), numbers_of(affine), {}};
    for (const auto& [points, map] : tangents) transform.tangents.push_back({numbers_of(points), numbers_of(map)});
    return transform;
}

void require_writeable(const py::array& array) {
    if (!array.writeable()) reject("an output is read-only");
}

Doubles zeros(std::vector<py::ssize_t> shape) {
    Doubles array(std::move(shape));
    std::fill_n(array.mutable_data(), array.size(), 0.0);
    return array;
}

namespace {

// Signals reach Python only on its main thread. Other threads must not ask for the GIL during a run: if the process is
// ending, they would never return.
unsigned long main_thread = 0;

}  // namespace

void remember_main_thread() {
    const py::object thread = py::module_::import("threading").attr("main_thread")();
    main_thread = thread.attr("ident").cast<unsigned long>();
}

void compute(const std::function<void(Executor&)>& body) {
    std::function<bool()> ask;
    if (PyThread_get_thread_ident() == main_thread)
        ask = [] {
            py::gil_scoped_acquire acquired;
            return PyErr_CheckSignals() != 0;
        };
    std::exception_ptr error;
    // The GIL is not restored by a destructor. If the process has ended meanwhile, Python 3.13 and older unwind the
    // thread from within PyEval_RestoreThread; inside a destructor, that would abort the process.
    PyThreadState* const state = PyEval_SaveThread();
    try {
        PoolExecutor executor(ask);
        body(executor);
    } catch (...) {
        error = std::current_exception();
    }
    PyEval_RestoreThread(state);
    if (!error) return;
    try {
        std::rethrow_exception(error);
    } catch (const Interrupted&) {
        throw py::error_already_set();
    }
}

}  // namespace elasticnd
