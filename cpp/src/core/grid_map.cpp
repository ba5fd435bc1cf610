// The map of one item of a deformation, in the form that the kernels for single positions need.
#include "core/grid_map.hpp"

#include <algorithm>
#include <stdexcept>

#include "elasticnd/affine.hpp"

namespace elasticnd {

double cells_per_voxel(const Geometry& geometry, int axis) {
    const bool varies = geometry.grid_shape[axis] > 1 && geometry.image[axis] > 1;
    return varies ? static_cast<double>(geometry.grid_shape[axis] - 1) / static_cast<double>(geometry.image[axis] - 1)
                  : 0;
}

EvaluationJob evaluation_job(const Geometry& geometry, int order) {
    EvaluationJob job = {};
    job.axes = geometry.axes;
    job.order = order;
    job.derivatives = 1;
    for (int i = 0; i < order; ++i) job.derivatives *= job.axes;
    std::copy_n(geometry.image, job.axes, job.image);
    std::copy_n(geometry.grid_shape, job.axes, job.points);
    int64 step = evaluation_lanes(job.axes);
    for (int k = job.axes - 1; k >= 0; --k) {
        job.stride[k] = step;
        step *= std::max<int64>(job.points[k] + 2, 4);
    }
    job.size = step;
    return job;
}

std::vector<double> interleaved(const GridCoefficients& grid, int axes) {
    const int lanes = evaluation_lanes(axes);
    const int64 size = grid.item_size / axes;
    std::vector<double> together(static_cast<size_t>(size * lanes));
    for (int component = 0; component < axes; ++component)
        for (int64 i = 0; i < size; ++i)
            together[static_cast<size_t>(i * lanes + component)] = grid.coefficients[component * size + i];
    return together;
}

std::vector<double> separated(const std::vector<double>& together, int axes) {
    const int lanes = evaluation_lanes(axes);
    const int64 size = static_cast<int64>(together.size()) / lanes;
    std::vector<double> apart(static_cast<size_t>(size * axes));
    for (int component = 0; component < axes; ++component)
        for (int64 i = 0; i < size; ++i)
            apart[static_cast<size_t>(component * size + i)] = together[static_cast<size_t>(i * lanes + component)];
    return apart;
}

namespace {

// The product of the pivots, none of which is zero because the inverse exists.
double determinant(int axes, common::AffineMap map) {
    double product = 1;
    for (int column = 0; column < axes; ++column) {
        int pivot = column;
        for (int i = column; i < axes; ++i)
            if (std::abs(map.value[i][column]) > std::abs(map.value[pivot][column])) pivot = i;
        if (pivot != column) {
            std::swap_ranges(map.value[pivot], map.value[pivot] + axes, map.value[column]);
            product = -product;
        }
        product *= map.value[column][column];
        for (int i = column + 1; i < axes; ++i) {
            const double factor = map.value[i][column] / map.value[column][column];
            for (int j = column; j < axes; ++j) map.value[i][j] -= factor * map.value[column][j];
        }
    }
    return product;
}

}  // namespace

MapJob map_job(const Geometry& geometry, const double* inverse_map) {
    const int axes = geometry.axes;
    MapJob job = {};
    job.grid = evaluation_job(geometry, 1);
    for (int k = 0; k < axes; ++k) job.cells_per_voxel[k] = cells_per_voxel(geometry, k);
    common::AffineMap inverse = {}, forward = {};
    if (inverse_map)
        common::load_map(axes, inverse_map, inverse);
    else
        for (int k = 0; k < axes; ++k) inverse.value[k][k] = 1;
    common::invert_map(axes, inverse, forward);
    if (!common::is_finite(axes, inverse) || !common::is_finite(axes, forward))
        throw std::invalid_argument("affine: got a singular matrix, expected an invertible matrix");
    job.forward_determinant = determinant(axes, forward);
    for (int k = 0; k < axes; ++k) {
        std::copy_n(inverse.value[k], axes + 1, job.inverse[k]);
        std::copy_n(forward.value[k], axes + 1, job.forward[k]);
    }
    return job;
}

}  // namespace elasticnd
