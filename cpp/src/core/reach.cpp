// Finds the part of an image from which a box of coefficients is computed, with borders, padding, blocks of the
// prefilter and their warm-up.
#include "core/reach.hpp"

#include <algorithm>

#include "elasticnd/boundary.hpp"
#include "elasticnd/dtypes.hpp"
#include "elasticnd/prefilter.hpp"

namespace elasticnd {

int64 border_of(const Geometry& geometry) { return common::border_width(geometry.order); }

int64 padded_extent(const Geometry& geometry, int axis) { return geometry.image[axis] + 2 * geometry.padding; }

int64 block_length(int dtype) {
    return dtype == dtype_float64 ? common::Blocking<double>::block_length : common::Blocking<float>::block_length;
}

bool filters_axis(const Geometry& geometry, int axis) {
    return geometry.order > 1 && padded_extent(geometry, axis) > 1;
}

Range needed_coefficients(const Geometry& geometry, int axis) {
    const int64 extent = padded_extent(geometry, axis);
    const Range box = {geometry.box_start[axis], geometry.box_start[axis] + geometry.box_extent[axis]};
    Range needed = {std::clamp<int64>(box.start, 0, extent), std::clamp<int64>(box.stop, 0, extent)};
    auto add_continued = [&](int64 outer) {
        const int64 from = common::fold_index(outer, extent, geometry.mode);
        if (from == common::no_index) return;
        if (needed.start >= needed.stop) needed = {from, from + 1};
        needed = {std::min(needed.start, from), std::max(needed.stop, from + 1)};
    };
    for (int64 i = box.start; i < std::min<int64>(0, box.stop); ++i) add_continued(i);
    for (int64 i = std::max(extent, box.start); i < box.stop; ++i) add_continued(i);
    if (needed.start >= needed.stop) needed = {0, 1};  // all coefficients lie beyond the border
    return needed;
}

Range filtered_samples(const Geometry& geometry, int axis, Range coefficients, int dtype) {
    if (!filters_axis(geometry, axis)) return coefficients;
    const bool wide = dtype == dtype_float64;
    const int64 block = block_length(dtype);
    const int64 margin =
        wide ? common::block_margin<double>(geometry.order) : common::block_margin<float>(geometry.order);
    const int64 extent = padded_extent(geometry, axis);
    Range samples = {coefficients.start / block * block - margin,
                     (coefficients.stop + block - 1) / block * block + margin};
    // A periodic filter that reaches one end needs the other.
    if (mode_traits(geometry.mode).samples == continued_periodic && (samples.start < 0 || samples.stop > extent))
        samples = {0, extent};
    samples = {std::max<int64>(samples.start, 0), std::min(samples.stop, extent)};
    // Samples in the padding stand for the voxel at the border.
    return {std::min(samples.start, geometry.padding + geometry.image[axis] - 1),
            std::max<int64>(samples.stop, geometry.padding + 1)};
}

Range distinct_samples(const Geometry& geometry, int axis, Range samples) {
    // A constant beyond the border is an additional sample on either side.
    const int64 constants = geometry.padding > 0 && common::holds_constant(geometry.mode) ? 1 : 0;
    const int64 first = geometry.padding - constants;
    const int64 stop = geometry.padding + geometry.image[axis] + constants;
    return {std::clamp(samples.start, first, stop - 1), std::clamp(samples.stop, first + 1, stop)};
}

Box voxels_under_box(const Geometry& geometry, int dtype, bool filtered) {
    Box voxels = {};
    for (int k = 0; k < geometry.axes; ++k) {
        Range samples = needed_coefficients(geometry, k);
        if (filtered) samples = filtered_samples(geometry, k, samples, dtype);
        const int64 last = geometry.image[k] - 1;
        voxels.start[k] = std::clamp<int64>(samples.start - geometry.padding, 0, last);
        voxels.extent[k] = std::clamp<int64>(samples.stop - geometry.padding, 1, last + 1) - voxels.start[k];
    }
    return voxels;
}

Box voxels_in_box(const Geometry& geometry) {
    Box voxels = {};
    for (int k = 0; k < geometry.axes; ++k) {
        const Range needed = needed_coefficients(geometry, k);
        // A stencil on the last voxel is moved inwards. So at least as many coefficients are held as the stencil has
        // taps, if the axis is long enough.
        const int64 extent = geometry.image[k];
        voxels.start[k] = std::min(needed.start, std::max<int64>(0, extent - 1 - geometry.order));
        const int64 least = std::min(extent, voxels.start[k] + geometry.order + 1);
        voxels.extent[k] = std::max(needed.stop, least) - voxels.start[k];
    }
    return voxels;
}

}  // namespace elasticnd
