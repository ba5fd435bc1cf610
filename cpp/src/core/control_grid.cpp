// The control grid in memory: its coefficients by the prefilter, and the transpose.
#include "core/control_grid.hpp"

#include <algorithm>

#include "elasticnd/boundary.hpp"
#include "elasticnd/dtypes.hpp"

namespace elasticnd {
namespace {

Geometry grid_geometry(const Geometry& image) {
    Geometry geometry = {};
    geometry.axes = image.axes;
    geometry.order = 3;
    geometry.mode = mode_mirror;
    for (int k = 0; k < image.axes; ++k) {
        geometry.image[k] = geometry.output[k] = geometry.grid_shape[k] = image.grid_shape[k];
        geometry.box_start[k] = -1;
        geometry.box_extent[k] = std::max<int64>(image.grid_shape[k] + 2, 4);
    }
    return geometry;
}

// The control points of one item as planes, one for each component.
class PointPlanes {
   public:
    PointPlanes(const Geometry& geometry, const double* points) {
        int64 step = sizeof(double);
        for (int k = geometry.axes - 1; k >= 0; --k) {
            planes.stride[k] = step;
            step *= geometry.grid_shape[k];
        }
        for (int k = 0; k < geometry.axes; ++k) offset_[k] = k * step;
        planes.data = reinterpret_cast<char*>(const_cast<double*>(points));
        planes.dtype = dtype_float64;
        planes.offset = offset_;
    }
    PointPlanes(const PointPlanes&) = delete;
    Planes planes;

   private:
    int64 offset_[max_axes];
};

}  // namespace

ControlGrid::ControlGrid(const Geometry& geometry, const double* points, Executor& executor)
    : coefficients_(grid_geometry(geometry), dtype_float64, geometry.axes, Coefficients::packed,
                    Coefficients::computed) {
    coefficients_.compute(PointPlanes(geometry, points).planes, executor);
    const Geometry own = grid_geometry(geometry);
    grid_coefficients_.item_size = geometry.axes;
    for (int k = 0; k < geometry.axes; ++k)
        grid_coefficients_.item_size *= grid_coefficients_.extent[k] = own.box_extent[k];
    grid_coefficients_.coefficients = reinterpret_cast<const double*>(coefficients_.planes().data);
}

void add_points_gradient(const Geometry& geometry, const std::vector<double>& sums, double* points,
                         Executor& executor) {
    const Geometry own = grid_geometry(geometry);
    Coefficients sum(own, dtype_float64, geometry.axes, Coefficients::packed, Coefficients::for_adjoint);
    sum.clear(executor);
    double* total = reinterpret_cast<double*>(sum.planes().data);
    int64 size = geometry.axes;
    int64 count = geometry.axes;
    for (int k = 0; k < geometry.axes; ++k) {
        size *= own.box_extent[k];
        count *= geometry.grid_shape[k];
    }
    for (size_t first = 0; first < sums.size(); first += static_cast<size_t>(size))
        for (int64 i = 0; i < size; ++i) total[i] += sums[first + static_cast<size_t>(i)];
    std::vector<double> gradient(static_cast<size_t>(count));
    sum.compute_adjoint(PointPlanes(geometry, gradient.data()).planes, executor);
    for (size_t i = 0; i < gradient.size(); ++i) points[i] += gradient[i];
}

}  // namespace elasticnd
