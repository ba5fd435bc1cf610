// The control grid in memory: the coefficients of the spline that interpolates its displacements, and the transpose.
#pragma once
#include <memory>
#include <vector>

#include "core/coefficients.hpp"
#include "kernels/table.hpp"

namespace elasticnd {

// The coefficients of one item: those of a cubic spline, mirrored at the ends, with an extra one on every side.
class ControlGrid {
   public:
    ControlGrid(const Geometry& geometry, const double* control_points, Executor& executor);
    ControlGrid(const ControlGrid&) = delete;
    const GridCoefficients& coefficients() const { return grid_coefficients_; }

   private:
    static constexpr int64 most_small = 512;  // most coefficients that are computed by matrices
    static constexpr int64 readable = 16;     // numbers after the last one, for the vectors of a stencil
    void multiply_by_matrices(const Geometry& geometry, const double* control_points);

    std::unique_ptr<Coefficients> large_;
    double small_[most_small + readable];
    GridCoefficients grid_coefficients_;
};

// Adds up `sums` in order, each a gradient of the coefficients, applies the transpose of ControlGrid, and adds the
// result to the gradient of the control points.
void add_points_gradient(const Geometry& geometry, const std::vector<double>& sums, double* points, Executor& executor);

}  // namespace elasticnd
