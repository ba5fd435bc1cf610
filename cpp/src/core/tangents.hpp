// Derivatives of sampling and of its transposes along tangents, which are changes of the positions.
//
// Along tangents v_1 ... v_r, each a displacement of every voxel, the spline s of the image has the derivative
//     sum over k_1 ... k_r of  v_1[k_1] ... v_r[k_r]  d^r s / dx[k_1] ... dx[k_r].
#pragma once
#include <vector>

#include "core/core.hpp"

namespace elasticnd {

// A tangent of the control points, and one of the map from output index to image index.
struct Tangent {
    const double* control_points;  // (items, axes, points...)
    const double* affine;          // (items or 1, axes, axes + 1); null for none
    int64 affine_item_size;
};

// Computes `sample`, differentiated along the tangents; without tangents, `sample` itself.
void sample_along(const SampleRequest& request, const std::vector<Tangent>& tangents, Executor& executor);

// Computes the transposes of `sample_along` with respect to the image and to a further tangent.
void sample_adjoint_along(const SampleRequest& request, const std::vector<Tangent>& tangents,
                          const Gradients& gradients, Executor& executor);

}  // namespace elasticnd
