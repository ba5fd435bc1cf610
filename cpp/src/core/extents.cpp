// The part of an image that a request reads, and its size.
#include "core/extents.hpp"

#include <algorithm>
#include <stdexcept>

#include "elasticnd/prefilter.hpp"

namespace elasticnd {

OutputPart whole_output(const Geometry& geometry) {
    OutputPart all = {};
    std::copy_n(geometry.output, geometry.axes, all.last);
    return all;
}

bool samples_image_itself(const SampleRequest& request) {
    const Geometry& geometry = request.job.geometry;
    if (geometry.order > 1) return false;
    for (int k = 0; k < geometry.axes; ++k)
        if (geometry.derivative[k] > 0) return false;
    return true;
}

bool are_sampled_as_pixels(const SampleRequest& request) {
    const int axes = request.job.geometry.axes;
    return axes >= min_pixel_axes && axes <= max_pixel_axes && lie_side_by_side(request.image, request.channels) &&
           lie_side_by_side(request.output, request.channels);
}

bool is_whole(const Geometry& geometry) {
    return std::equal(geometry.output, geometry.output + geometry.axes, geometry.image);
}

bool has_whole_image(const SampleRequest& request) {
    const Geometry& geometry = request.job.geometry;
    return std::equal(geometry.image, geometry.image + geometry.axes, request.job.roi.extent);
}

Geometry with_box(Geometry geometry, const Box& box) {
    std::copy_n(box.start, max_axes, geometry.box_start);
    std::copy_n(box.extent, max_axes, geometry.box_extent);
    return geometry;
}

bool is_filtered(const SampleRequest& request) { return request.job.filtered && request.job.geometry.order > 1; }

Box voxels_read(const SampleRequest& request, const SourceBox& box) {
    if (box.outside) return {};
    const Geometry boxed = with_box(request.job.geometry, box);
    if (samples_image_itself(request)) return voxels_in_box(boxed);
    return voxels_under_box(boxed, request.job.compute_dtype, is_filtered(request));
}

void require_in_roi(const SampleRequest& request, const Box& voxels) {
    const Box& roi = request.job.roi;
    for (int k = 0; k < request.job.geometry.axes; ++k) {
        const bool inside =
            voxels.start[k] >= roi.start[k] && voxels.start[k] + voxels.extent[k] <= roi.start[k] + roi.extent[k];
        if (voxels.extent[k] > 0 && !inside)
            throw std::invalid_argument("elasticnd._core: the part of the image lacks voxels that are read");
    }
}

// ---- images of few voxels -------------------------------------------------------------------------------------------

namespace {

constexpr double largest_box = int64(1) << 27;  // bytes of coefficients to hold at a time; larger boxes are halved

}  // namespace

double size_of(const int64* extent, int axes) {
    double size = 1;
    for (int k = 0; k < axes; ++k) size *= static_cast<double>(extent[k]);
    return size;
}

bool is_mostly_border(const Geometry& boxed) {
    constexpr double many = int64(1) << 20;
    const double coefficients = size_of(boxed.box_extent, boxed.axes);
    return coefficients > many && coefficients > mostly_border * size_of(boxed.image, boxed.axes);
}

bool is_worth_halving(const SampleRequest& one, const Geometry& boxed) {
    const double bytes = size_of(boxed.box_extent, boxed.axes) * (one.job.compute_dtype == dtype_float64 ? 8 : 4);
    return bytes > largest_box && is_mostly_border(boxed) &&
           size_of(one.job.geometry.output, one.job.geometry.axes) > 1;
}

std::array<SampleRequest, 2> halves_of(const SampleRequest& one) {
    const int64* output = one.job.geometry.output;
    const auto axis = std::max_element(output, output + one.job.geometry.axes) - output;
    const int64 half = output[axis] / 2;
    SampleRequest first = one;
    SampleRequest second = one;
    first.job.geometry.output[axis] = half;
    second.job.geometry.output[axis] -= half;
    second.job.geometry.start[axis] += half;
    second.output.data += half * one.output.stride[axis];
    return {first, second};
}

void widen_long_axes(Box& box, const Geometry& whole) {
    for (int k = 0; k < whole.axes; ++k) {
        if (padded_extent(whole, k) <= common::Blocking<float>::block_length) continue;
        box.start[k] = whole.box_start[k];
        box.extent[k] = whole.box_extent[k];
    }
}

Geometry with_least_box(Geometry geometry) {
    std::fill_n(geometry.box_extent, geometry.axes, geometry.order + 1);
    return geometry;
}

}  // namespace elasticnd
