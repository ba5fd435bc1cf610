// The part of an image from which a box of coefficients is computed.
#pragma once
#include "elasticnd/job.hpp"

namespace elasticnd {

// The indices [start, stop) along one axis.
struct Range {
    int64 start;
    int64 stop;
    int64 extent() const { return stop - start; }
};

// The number of coefficients beyond each end of an axis that a stencil can reach, and that a box may therefore contain.
int64 border_of(const Geometry& geometry);

// The number of coefficients along the padded axis.
int64 padded_extent(const Geometry& geometry, int axis);

// The number of coefficients that the prefilter computes together, in float32 or float64.
int64 block_length(int dtype);

// Whether the prefilter changes values along an axis.
bool filters_axis(const Geometry& geometry, int axis);

// The coefficients along an axis from which the geometry's whole box can be made, by continuing them beyond the border.
Range needed_coefficients(const Geometry& geometry, int axis);

// The samples of the padded axis that the filter reads to compute some coefficients, in float32 or float64: whole
// blocks and their warm-up. At least one of them is not padding.
Range filtered_samples(const Geometry& geometry, int axis, Range coefficients, int dtype);

// The samples among these that must be in memory. Samples that the padding repeats are stored once.
Range distinct_samples(const Geometry& geometry, int axis, Range samples);

// The voxels from which the coefficients in the geometry's box are computed.
Box voxels_under_box(const Geometry& geometry, int dtype, bool filtered);

// The voxels that are read if the stencils lie on the image itself.
Box voxels_in_box(const Geometry& geometry);

}  // namespace elasticnd
