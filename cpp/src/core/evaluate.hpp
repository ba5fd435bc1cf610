// The displacement and its derivatives at positions anywhere in the frame or beyond it, and the transpose.
#pragma once
#include "core/core.hpp"

namespace elasticnd {

// A job with its positions. Of the job's order of evaluation, all derivatives are computed: for each component, those
// along every choice of that many axes. Of its geometry, axes, extents of the frame and control points alone are used.
struct Evaluation {
    Job job;
    int64 items;
    int64 count;              // positions of each item
    const double* positions;  // (items, count, axes), in voxels of the frame
};

// Fills `values`, (items, count, axes, axes ^ order), from the displacements of the control points, (items, axes,
// points ...). Where a position is NaN or infinite, so are its values NaN.
void evaluate(const Evaluation& evaluation, const double* points, double* values, Executor& executor);

// Adds the transpose of `evaluate`, applied to `gradient`, to `points`. Positions that are NaN add nothing.
void evaluate_adjoint(const Evaluation& evaluation, const double* gradient, double* points, Executor& executor);

}  // namespace elasticnd
