// What of an image a deformation reads, and how large that is.
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

bool samples_image_itself(const Deformation& deformation) {
    const Geometry& geometry = deformation.geometry;
    if (geometry.order > 1) return false;
    for (int k = 0; k < geometry.axes; ++k)
        if (geometry.derivative[k] > 0) return false;
    return true;
}

bool is_whole(const Geometry& geometry) {
    return std::equal(geometry.output, geometry.output + geometry.axes, geometry.image);
}

bool has_whole_image(const Deformation& deformation) {
    const Geometry& geometry = deformation.geometry;
    return std::equal(geometry.image, geometry.image + geometry.axes, deformation.roi.extent);
}

Geometry with_box(Geometry geometry, const Box& box) {
    std::copy_n(box.start, max_axes, geometry.box_start);
    std::copy_n(box.extent, max_axes, geometry.box_extent);
    return geometry;
}

bool is_filtered(const Deformation& deformation) { return deformation.filtered && deformation.geometry.order > 1; }

Box voxels_read(const Deformation& deformation, const SourceBox& box) {
    if (box.outside) return {};
    const Geometry boxed = with_box(deformation.geometry, box);
    if (samples_image_itself(deformation)) return voxels_in_box(boxed);
    return voxels_under_box(boxed, deformation.arithmetic, is_filtered(deformation));
}

void require_in_roi(const Deformation& deformation, const Box& voxels) {
    const Box& roi = deformation.roi;
    for (int k = 0; k < deformation.geometry.axes; ++k) {
        const bool inside =
            voxels.start[k] >= roi.start[k] && voxels.start[k] + voxels.extent[k] <= roi.start[k] + roi.extent[k];
        if (voxels.extent[k] > 0 && !inside)
            throw std::invalid_argument("elasticnd._core: the part of the image lacks voxels that are read");
    }
}

// ---- images of few voxels -------------------------------------------------------------------------------------------

namespace {

constexpr double largest_box = int64(1) << 27;  // bytes of their coefficients that are held at a time, if need be

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

bool is_worth_halving(const Deformation& one, const Geometry& boxed) {
    const double bytes = size_of(boxed.box_extent, boxed.axes) * (one.arithmetic == dtype_float64 ? 8 : 4);
    return bytes > largest_box && is_mostly_border(boxed) && size_of(one.geometry.output, one.geometry.axes) > 1;
}

std::array<Deformation, 2> halves_of(const Deformation& one) {
    const int64* output = one.geometry.output;
    const auto axis = std::max_element(output, output + one.geometry.axes) - output;
    const int64 half = output[axis] / 2;
    Deformation first = one;
    Deformation second = one;
    first.geometry.output[axis] = half;
    second.geometry.output[axis] -= half;
    second.geometry.start[axis] += half;
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
