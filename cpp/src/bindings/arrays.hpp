// Converts Python arrays for the core's requests, and calls the core without the GIL.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/request.hpp"
#include "runtime/floating_point.hpp"

namespace elasticnd {

namespace py = pybind11;

constexpr int contiguous_doubles = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
using Doubles = py::array_t<double, contiguous_doubles>;
using Integers = py::array_t<int64, contiguous_doubles>;

// Calls with this guard compute in the default floating-point state.
using Guard = py::call_guard<DefaultFloatingPoint>;

Job job_of(const py::array& record);

View view_of(const py::array& array, int dtype);

Numbers numbers_of(const Doubles& array);
Numbers numbers_of(const std::optional<Doubles>& array);

// Control points, forward affine maps, and tangents of both in pairs, as in elasticnd/_engines/contract.py.
using TransformArrays =
    std::tuple<Doubles, std::optional<Doubles>, std::vector<std::pair<Doubles, std::optional<Doubles>>>>;

Transform transform_of(const TransformArrays& arrays);

void require_writeable(const py::array& array);

Doubles zeros(std::vector<py::ssize_t> shape);

// Runs `body(executor)` without the GIL. Ctrl-C interrupts it between two tasks.
void compute(const std::function<void(Executor&)>& body);

// Remembers which thread receives signals, for `compute`.
void remember_main_thread();

}  // namespace elasticnd
