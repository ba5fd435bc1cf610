// The part of an image from which a box of coefficients is made.
#pragma once
#include "elasticnd/job.hpp"

namespace elasticnd {

// Along one axis, [start, stop).
struct Range {
    int64 start;
    int64 stop;
    int64 extent() const { return stop - start; }
};

// How many coefficients beyond each end of an axis a stencil can reach, and a box may therefore contain.
int64 border_of(const Geometry& geometry);

// Coefficients along the padded axis.
int64 padded_extent(const Geometry& geometry, int axis);

// Coefficients that the prefilter computes together, in float32 or float64.
int64 block_length(int dtype);

// Whether the prefilter changes values along an axis.
bool filters_axis(const Geometry& geometry, int axis);

// The coefficients of the axis from which the whole geometry's box can be made, by continuing them.
Range needed_coefficients(const Geometry& geometry, int axis);

// The samples of the padded axis that the filter reads to compute some coefficients, in float32 or float64: whole
// blocks and their warm-up. At least one is a voxel.
Range filtered_samples(const Geometry& geometry, int axis, Range coefficients, int dtype);

// The samples among these that must be in memory: those that the padding repeats are stored once, and samples beyond
// repeat the first or the last.
Range distinct_samples(const Geometry& geometry, int axis, Range samples);

// The voxels from which the coefficients in the geometry's box are computed.
Box voxels_under_box(const Geometry& geometry, int dtype, bool filtered);

// The voxels that are read if the stencils lie on the image itself.
Box voxels_in_box(const Geometry& geometry);

}  // namespace elasticnd
