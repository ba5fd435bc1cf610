// The displacement and its derivatives at arbitrary positions, and the transpose.
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"

namespace elasticnd {
namespace {

EvaluationRequest evaluation_of(const py::array& record, const Doubles& positions) {
    const Job job = job_of(record);
    if (positions.ndim() != 3 || positions.shape(2) != job.geometry.axes) reject("positions have the wrong shape");
    return EvaluationRequest(job, positions.shape(0), numbers_of(positions));
}

Doubles evaluate_at(const py::array& job, const Doubles& control_points, const Doubles& positions) {
    const EvaluationRequest request = evaluation_of(job, positions);
    if (control_points.size() != request.control_points) reject("the control grid has the wrong size");
    Doubles values({positions.shape(0), positions.shape(1), positions.shape(2), py::ssize_t(request.derivatives)});
    double* to = values.mutable_data();
    compute([&](Executor& executor) { evaluate(request.evaluation, control_points.data(), to, executor); });
    return values;
}

Doubles evaluate_adjoint_at(const py::array& job, const Doubles& gradient, const Doubles& positions) {
    const EvaluationRequest request = evaluation_of(job, positions);
    if (gradient.size() != positions.size() * request.derivatives) reject("the gradient has the wrong size");
    const Geometry& grid = request.evaluation.job.geometry;
    std::vector<py::ssize_t> shape = {positions.shape(0), grid.axes};
    shape.insert(shape.end(), grid.grid_shape, grid.grid_shape + grid.axes);
    Doubles control_points = zeros(std::move(shape));
    double* to = control_points.mutable_data();
    compute([&](Executor& executor) { evaluate_adjoint(request.evaluation, gradient.data(), to, executor); });
    return control_points;
}

}  // namespace

void bind_evaluation(py::module_& module) {
    module.def("evaluate", evaluate_at, Guard(), py::arg("job"), py::arg("control_points"), py::arg("positions"),
               "Return all derivatives of the displacement, of the job's order, at positions: (items, count, axes, "
               "axes ^ order).");
    module.def("evaluate_adjoint", evaluate_adjoint_at, Guard(), py::arg("job"), py::arg("gradient"),
               py::arg("positions"), "Apply the transpose of evaluate to the gradient.");
}

}  // namespace elasticnd
