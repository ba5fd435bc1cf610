// Computes the coefficients of the control grid, and the transpose.
#include "core/control_grid.hpp"

#include <algorithm>

#include "core/core.hpp"
#include "elasticnd/boundary.hpp"
#include "elasticnd/dtypes.hpp"
#include "elasticnd/prefilter.hpp"

namespace elasticnd {
namespace {

// The number of coefficients along an axis with this many control points.
int64 extended(int64 points) { return std::max<int64>(points + 2, 4); }

Geometry grid_geometry(const Geometry& image) {
    Geometry geometry = {};
    geometry.axes = image.axes;
    geometry.order = 3;
    geometry.mode = mode_mirror;
    for (int k = 0; k < image.axes; ++k) {
        geometry.image[k] = geometry.output[k] = geometry.grid_shape[k] = image.grid_shape[k];
        geometry.box_start[k] = -1;
        geometry.box_extent[k] = extended(image.grid_shape[k]);
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

constexpr int64 most_points = 8;  // most points for which a matrix is faster than the recursive filter

// Whether sums of these numbers, with weights that add up to one, are finite.
bool have_finite_sums(const double* numbers, int64 count) {
    constexpr double largest = 1e300;
    bool finite = true;
    for (int64 i = 0; i < count; ++i) finite &= numbers[i] >= -largest && numbers[i] <= largest;
    return finite;
}

// The matrix that turns the displacements along an axis into its coefficients, including those beyond the ends.
struct AxisMatrix {
    explicit AxisMatrix(int64 points) {
        const int margin = common::block_margin<double>(3);
        std::vector<double> line(static_cast<size_t>(points + 2 * margin));
        for (int64 from = 0; from < points; ++from) {
            for (int64 i = 0; i < points + 2 * margin; ++i)
                line[static_cast<size_t>(i)] = common::fold_mirror(i - margin, points) == from ? 1 : 0;
            if (points > 1) common::filter_block<double, double, 1>(line.data(), static_cast<int>(points), margin, 3);
            for (int64 to = 0; to < extended(points); ++to)
                weight[to][from] = line[static_cast<size_t>(margin + common::fold_mirror(to - 1, points))];
        }
    }
    double weight[most_points + 2][most_points];
};

const AxisMatrix& matrix_of(int64 points) {
    static const AxisMatrix matrices[most_points] = {AxisMatrix(1), AxisMatrix(2), AxisMatrix(3), AxisMatrix(4),
                                                     AxisMatrix(5), AxisMatrix(6), AxisMatrix(7), AxisMatrix(8)};
    return matrices[points - 1];
}

// Multiplies along one axis: (outer, points, inner) to (outer, extended points, inner). The rows of the matrix sum to
// one, so adding weighted differences to the first displacement preserves a constant exactly.
void multiply(int64 outer, int64 points, int64 inner, const double* from, double* to) {
    const AxisMatrix& matrix = matrix_of(points);
    const int64 rows = extended(points);
    for (; outer > 0; --outer, from += points * inner, to += rows * inner)
        for (int64 i = 0; i < inner; ++i) {
            // NaN if a displacement is not finite: all coefficients are then NaN, as in the recursive filter.
            double spoilt = 0;
            for (int64 j = 0; j < points; ++j) spoilt += 0 * from[j * inner + i];
            for (int64 row = 0; row < rows; ++row) {
                double sum = spoilt;
                for (int64 j = 1; j < points; ++j) sum += matrix.weight[row][j] * (from[j * inner + i] - from[i]);
                to[row * inner + i] = from[i] + sum;
            }
        }
}

}  // namespace

ControlGrid::ControlGrid(const Geometry& geometry, const double* control_points, Executor& executor) {
    grid_coefficients_.item_size = geometry.axes;
    bool is_small = true;
    for (int k = 0; k < geometry.axes; ++k) {
        grid_coefficients_.extent[k] = extended(geometry.grid_shape[k]);
        grid_coefficients_.item_size *= grid_coefficients_.extent[k];
        is_small = is_small && geometry.grid_shape[k] <= most_points && grid_coefficients_.item_size <= most_small;
    }
    if (is_small) {
        multiply_by_matrices(geometry, control_points);
        grid_coefficients_.coefficients = small_;
    } else {
        large_ = std::make_unique<Coefficients>(grid_geometry(geometry), dtype_float64, geometry.axes,
                                                Coefficients::packed, Coefficients::computed);
        large_->compute(PointPlanes(geometry, control_points).planes, executor);
        grid_coefficients_.coefficients = reinterpret_cast<const double*>(large_->planes().data);
    }
    grid_coefficients_.finite = have_finite_sums(grid_coefficients_.coefficients, grid_coefficients_.item_size);
}

// Multiplies axis by axis, beginning with the last one. The results alternate between two buffers, so that the final
// one ends up in the object's own buffer.
void ControlGrid::multiply_by_matrices(const Geometry& geometry, const double* control_points) {
    double other[most_small];
    const double* from = control_points;
    int64 outer = geometry.axes * product(geometry.grid_shape, geometry.axes);
    int64 inner = 1;
    for (int k = geometry.axes - 1; k >= 0; --k) {
        const int64 points = geometry.grid_shape[k];
        outer /= points;
        double* const to = k % 2 == 0 ? small_ : other;
        multiply(outer, points, inner, from, to);
        inner *= extended(points);
        from = to;
    }
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
