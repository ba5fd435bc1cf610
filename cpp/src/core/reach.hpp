// What of an image a box of coefficients is made of.
#pragma once
#include "elasticnd/job.hpp"

namespace elasticnd {

// Along one axis, [start, stop).
struct Range {
    int64 start;
    int64 stop;
    int64 extent() const { return stop - start; }
};

// How many coefficients beyond each end of the axes a stencil can reach, and that a box may therefore hold.
int64 border_of(const Geometry& geometry);

// Coefficients along the padded axis.
int64 padded_extent(const Geometry& geometry, int axis);

// Coefficients that the prefilter computes together, float32 or float64.
int64 block_length(int dtype);

// Whether the prefilter changes what lies along an axis.
bool filters_axis(const Geometry& geometry, int axis);

// The coefficients of the axis from which all of the geometry's box can be made, by continuing them.
Range needed_coefficients(const Geometry& geometry, int axis);

// The samples of the padded axis that the filter reads to compute some coefficients, float32 or float64: whole blocks
// and their warm-up. At least one is a voxel.
Range filtered_samples(const Geometry& geometry, int axis, Range coefficients, int dtype);

// Of these samples, those that have to be in memory: what the padding repeats is there once, and samples beyond repeat
// the first or the last.
Range distinct_samples(const Geometry& geometry, int axis, Range samples);

// The voxels that the coefficients in the geometry's box are made of.
Box voxels_under_box(const Geometry& geometry, int dtype, bool filtered);

// The voxels that are read where the stencils lie on the image itself.
Box voxels_in_box(const Geometry& geometry);

}  // namespace elasticnd
