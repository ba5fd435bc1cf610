// What a deformation does to space: points moved from input to output, folds.
#include <cmath>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "core/move_points.hpp"

namespace elasticnd {
namespace {

// The size of an item's map, or 0 if there is one map for all.
int64 map_step(const Geometry& geometry, int64 items, const std::optional<Doubles>& inverse_map) {
    const int64 size = int64(geometry.axes) * (geometry.axes + 1);
    if (!inverse_map || inverse_map->size() == size) return 0;
    if (inverse_map->size() != items * size) reject("the inverse map has a wrong size");
    return size;
}

py::tuple move_points_to(const py::array& record, const Doubles& control_points,
                         const std::optional<Doubles>& inverse_map, const Doubles& targets, double tolerance) {
    const Job job = job_of(record);
    const Geometry& geometry = job.geometry;
    if (targets.ndim() != 3 || targets.shape(2) != geometry.axes) reject("points have a wrong shape");
    const EvaluationRequest request(job, targets.shape(0), numbers_of(targets));
    if (control_points.size() != request.control_points) reject("the control grid has a wrong size");
    if (!(tolerance > 0) || std::isinf(tolerance)) reject("the tolerance is no positive number");
    const int64 step = map_step(geometry, targets.shape(0), inverse_map);
    Doubles positions({targets.shape(0), targets.shape(1), targets.shape(2)});
    Doubles residuals({targets.shape(0), targets.shape(1)});
    Doubles ratios({targets.shape(0), targets.shape(1)});
    const Movement movement = {geometry,
                               targets.shape(0),
                               targets.shape(1),
                               control_points.data(),
                               inverse_map ? inverse_map->data() : nullptr,
                               step,
                               targets.data(),
                               tolerance};
    const MovedPoints moved = {positions.mutable_data(), residuals.mutable_data(), ratios.mutable_data()};
    compute([&](Executor& executor) { move_points(movement, moved, executor); });
    return py::make_tuple(positions, residuals, ratios);
}

}  // namespace

void bind_geometry(py::module_& module) {
    module.def("move_points", move_points_to, Guard(), py::arg("job"), py::arg("control_points"),
               py::arg("inverse_map"), py::arg("targets"), py::arg("tolerance"),
               "Returns where points go, (items, count, axes), how far from them these positions look, and the ratios "
               "of volumes there.");
}

}  // namespace elasticnd
