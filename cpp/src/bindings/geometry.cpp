// What a deformation does to space: points moved from input to output, volumes, folds.
#include <cmath>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "core/determinants.hpp"
#include "core/folds.hpp"
#include "core/move_points.hpp"

namespace elasticnd {
namespace {

// The size of an item's map, or 0 if all items share one map.
int64 map_step(const Geometry& geometry, int64 items, const std::optional<Doubles>& inverse_map) {
    const int64 size = int64(geometry.axes) * (geometry.axes + 1);
    if (!inverse_map || inverse_map->size() == size) return 0;
    if (inverse_map->size() != items * size) reject("the inverse map has the wrong size");
    return size;
}

py::tuple move_points_to(const py::array& record, const Doubles& control_points,
                         const std::optional<Doubles>& inverse_map, const Doubles& targets, double tolerance) {
    const Job job = job_of(record);
    const Geometry& geometry = job.geometry;
    if (targets.ndim() != 3 || targets.shape(2) != geometry.axes) reject("points have the wrong shape");
    const EvaluationRequest request(job, targets.shape(0), numbers_of(targets));
    if (control_points.size() != request.control_points) reject("the control grid has the wrong size");
    if (!(tolerance > 0) || std::isinf(tolerance)) reject("the tolerance is not a positive number");
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

FoldQuery fold_query(const py::array& record, const Doubles& control_points, const std::optional<Doubles>& forward,
                     double tolerance) {
    const Geometry geometry = job_of(record).geometry;
    const int64 size = geometry.axes * product(geometry.grid_shape, geometry.axes);
    const int64 map_size = int64(geometry.axes) * geometry.axes;
    const int64 items = control_points.ndim() > 0 ? control_points.shape(0) : 0;
    if (control_points.size() != items * size) reject("the control grid has the wrong size");
    if (product(geometry.output, geometry.axes) == 0) reject("the window is empty");
    if (!(tolerance > 0)) reject("the tolerance is not a positive number");
    if (!forward) return {geometry, items, control_points.data(), nullptr, 0, tolerance};
    const bool is_one = forward->size() == map_size;
    if (!is_one && forward->size() != items * map_size) reject("the affine has the wrong size");
    return {geometry, items, control_points.data(), forward->data(), is_one ? 0 : map_size, tolerance};
}

py::tuple fold_bounds(const py::array& job, const Doubles& control_points, const std::optional<Doubles>& forward,
                      double tolerance) {
    const FoldQuery query = fold_query(job, control_points, forward, tolerance);
    std::vector<FoldBounds> bounds(static_cast<size_t>(query.items));
    compute([&](Executor& executor) { bound_folds(query, bounds.data(), executor); });
    Doubles lower(query.items), upper(query.items);
    py::array_t<bool> converged(query.items);
    for (int64 i = 0; i < query.items; ++i) {
        lower.mutable_data()[i] = bounds[static_cast<size_t>(i)].lower;
        upper.mutable_data()[i] = bounds[static_cast<size_t>(i)].upper;
        converged.mutable_data()[i] = bounds[static_cast<size_t>(i)].converged;
    }
    return py::make_tuple(lower, upper, converged);
}

Doubles determinants(const py::array& record, const Doubles& control_points, const std::optional<Doubles>& linear) {
    const Geometry geometry = job_of(record).geometry;
    const int axes = geometry.axes;
    if (axes > most_axes_of_determinants) reject("there are too many axes");
    const int64 map_size = int64(axes) * axes;
    const int64 items = control_points.ndim() > 0 ? control_points.shape(0) : 0;
    if (control_points.size() != items * axes * product(geometry.grid_shape, axes))
        reject("the control grid has the wrong size");
    const bool is_one = linear && linear->size() == map_size;
    if (linear && !is_one && linear->size() != items * map_size) reject("the affine has the wrong size");
    std::vector<int64> shape(geometry.output, geometry.output + axes);
    shape.insert(shape.begin(), items);
    Doubles results(shape);
    double* to = results.mutable_data();
    const DeterminantQuery query = {geometry, items, control_points.data(), linear ? linear->data() : nullptr,
                                    is_one ? 0 : map_size};
    compute([&](Executor& executor) { compute_determinants(query, to, executor); });
    return results;
}

Doubles largest_scales(const py::array& job, const Doubles& control_points, const std::optional<Doubles>& forward,
                       double margin, double tolerance) {
    const FoldQuery query = fold_query(job, control_points, forward, tolerance);
    if (!(margin < 1)) reject("the margin is not less than 1");
    Doubles scales(query.items);
    double* to = scales.mutable_data();
    compute([&](Executor& executor) { find_largest_scales(query, margin, to, executor); });
    return scales;
}

}  // namespace

void bind_geometry(py::module_& module) {
    module.def("determinants", determinants, Guard(), py::arg("job"), py::arg("control_points"), py::arg("linear"),
               "Return the determinants of the Jacobian at the voxels of the window, (items, extents ...).");
    module.def("fold_bounds", fold_bounds, Guard(), py::arg("job"), py::arg("control_points"), py::arg("forward"),
               py::arg("tolerance"),
               "Return lower and upper bounds of the smallest volume ratio in the window, and whether they converged.");
    module.def("largest_scales", largest_scales, Guard(), py::arg("job"), py::arg("control_points"), py::arg("forward"),
               py::arg("margin"), py::arg("tolerance"),
               "Return the largest factor of each control grid that keeps the ratio above the margin: (items).");
    module.def("move_points", move_points_to, Guard(), py::arg("job"), py::arg("control_points"),
               py::arg("inverse_map"), py::arg("targets"), py::arg("tolerance"),
               "Return the points in the output, (items, count, axes), and for each, (items, count), the distance from "
               "its source position to the target, and the volume ratio there.");
}

}  // namespace elasticnd
