// The part of an image that a request reads, and its size.
#pragma once
#include <array>

#include "core/core.hpp"

namespace elasticnd {

// All voxels of the output.
OutputPart whole_output(const Geometry& geometry);

// Whether stencils use the voxels themselves as coefficients.
bool samples_image_itself(const SampleRequest& request);

// Whether the channels of a pixel are sampled together.
bool are_sampled_as_pixels(const SampleRequest& request);

// Whether the prefilter changes the image.
bool is_filtered(const SampleRequest& request);

// Whether the output is as large as the image.
bool is_whole(const Geometry& geometry);

bool has_whole_image(const SampleRequest& request);

Geometry with_box(Geometry geometry, const Box& box);

// A box no larger than a stencil, for requests that read nothing.
Geometry with_least_box(Geometry geometry);

// The voxels from which a box of coefficients is computed.
Box voxels_read(const SampleRequest& request, const SourceBox& box);

// Throws std::invalid_argument if some of these voxels are not in the region of interest.
void require_in_roi(const SampleRequest& request, const Box& voxels);

// ---- images of few voxels -------------------------------------------------------------------------------------------

constexpr double mostly_border = 16;  // coefficients per voxel; with more, not all of them are held

// The number of elements, in floating point because it can exceed 2^63.
double size_of(const int64* extent, int axes);

// Whether most coefficients would lie beyond the border or in the padding. With one axis, such coefficients are few;
// with many axes, even a small image has billions of them.
bool is_mostly_border(const Geometry& boxed);

// Whether to compute the halves of the output one after the other, because each reaches far fewer coefficients.
bool is_worth_halving(const SampleRequest& one, const Geometry& boxed);

// The two halves of the output, along its longest axis.
std::array<SampleRequest, 2> halves_of(const SampleRequest& one);

// Widens the box to the whole of each axis that has several blocks of the prefilter. Otherwise, the box would limit the
// voxels that the transposed filter reaches, and results would differ from those of the whole image by rounding errors.
void widen_long_axes(Box& box, const Geometry& whole);

}  // namespace elasticnd
