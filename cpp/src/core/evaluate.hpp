// The displacement and its derivatives at arbitrary positions, inside or outside the frame, and the transpose.
#pragma once
#include "core/core.hpp"

namespace elasticnd {

// A job with its positions. All derivatives of the job's evaluation order are computed: for each component, one for
// every choice of that many axes. Only the axes, frame extents and control points of its geometry matter.
struct Evaluation {
    Job job;
    int64 items;
    int64 count;              // number of positions of each item
    const double* positions;  // (items, count, axes), in voxels of the frame
};

// Fills `values`, (items, count, axes, axes ^ order), from the displacements of the control points, (items, axes,
// points ...). Where a position is NaN or infinite, its values are NaN.
void evaluate(const Evaluation& evaluation, const double* points, double* values, Executor& executor);

// Adds the transpose of `evaluate`, applied to `gradient`, to `points`. Positions that are NaN or infinite add nothing.
void evaluate_adjoint(const Evaluation& evaluation, const double* gradient, double* points, Executor& executor);

}  // namespace elasticnd
