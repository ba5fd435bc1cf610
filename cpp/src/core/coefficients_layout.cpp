// Which coefficients are held, and where each of them lies in memory.
#include <algorithm>

#include "core/coefficients.hpp"
#include "core/extents.hpp"
#include "elasticnd/boundary.hpp"
#include "elasticnd/dtypes.hpp"

namespace elasticnd {

Geometry with_whole_box(Geometry geometry) {
    for (int k = 0; k < geometry.axes; ++k) {
        geometry.box_start[k] = -border_of(geometry);
        geometry.box_extent[k] = geometry.image[k] + 2 * (geometry.padding + border_of(geometry));
    }
    return geometry;
}

Coefficients::Coefficients(const Geometry& geometry, int dtype, int64 planes, Layout layout, Use use)
    : geometry_(geometry),
      axes_(geometry.axes),
      dtype_(dtype),
      item_(dtype == dtype_float64 ? sizeof(double) : sizeof(float)),
      lanes_(layout == as_pixels ? pixel_lanes : 1),
      channels_(planes),
      count_((planes + lanes_ - 1) / lanes_),
      continues_last_(is_mostly_border(geometry)) {
    for (int k = 0; k < axes_; ++k) {
        const Range box = {geometry.box_start[k], geometry.box_start[k] + geometry.box_extent[k]};
        const Range needed = needed_coefficients(geometry, k);
        continued_count_[k] = 0;
        auto add_continued = [&](int64 i) {
            const int64 from = common::fold_index(i, extent(k), geometry.mode);
            if (from != common::no_index) continued_[k][continued_count_[k]++] = {i, from};
        };
        for (int64 i = box.start; i < std::min<int64>(0, box.stop); ++i) add_continued(i);
        for (int64 i = std::max(extent(k), box.start); i < box.stop; ++i) add_continued(i);
        filtered_axis_[k] = use != unfiltered && filters_axis(geometry, k);
        // Along the innermost axis, the filter reads the image itself.
        Range filtered = needed;
        if (filtered_axis_[k] && (k < axes_ - 1 || use == for_adjoint))
            filtered = filtered_samples(geometry, k, needed, dtype);
        reached_[k] = filtered;
        // A transposed periodic filter that reaches one end continues at the other.
        if (use == for_adjoint && mode_traits(geometry.mode).samples == continued_periodic) {
            const Range met = filtered_samples(geometry, k, filtered, dtype);
            if (filtered_axis_[k] && met.extent() == extent(k)) filtered = met;
        }
        needed_[k] = needed;
        done_[k] = {std::min(needed.start, box.start), std::max(needed.stop, box.stop)};
        place_samples(k, filtered);
    }

    constexpr int64 readable = 16;  // elements that can be read after the last one
    constexpr int64 row_gap = 2;    // elements between rows that the vectors of a stencil may read and write
    const int64 line = 64 / item_;  // elements in a cache line
    double size = static_cast<double>(lanes_ * item_);
    int64 step = lanes_;
    for (int k = axes_ - 1; k >= 0; --k) {
        stride_[k] = step;
        size *= static_cast<double>(held_[k].extent());
        if (size > 4e18) throw OutOfMemory(size);
        step *= held_[k].extent();
        if (layout == packed || k == 0) continue;
        if (k == axes_ - 1) step = continues_last_ ? step + row_gap : (step + row_gap + line - 1) / line * line;
        if (step * item_ % 1024 == 0) step += line;  // neighbours at such distances compete for the same cache sets
    }
    plane_stride_ = step;
    if (size * static_cast<double>(count_) > 4e18) throw OutOfMemory(size * static_cast<double>(count_));
    size_ = plane_stride_ * count_ * item_;
    // Index 0 of the innermost axis begins a cache line.
    const int64 lead = layout == packed ? 0 : (-held_[axes_ - 1].start * lanes_ % line + line) % line;
    memory_ = std::make_unique<Memory>(static_cast<size_t>(size_ + (readable + 2 * 64 / item_) * item_));
    int64 origin = lead;
    int64 box = 0;
    for (int k = 0; k < axes_; ++k) {
        origin -= held_[k].start * stride_[k];
        box += geometry.box_start[k] * stride_[k];
        planes_.stride[k] = stride_[k] * item_;
    }
    origin_ = memory_->data() + origin * item_;
    for (int64 p = 0; p < planes; ++p) offset_.push_back((p / lanes_ * plane_stride_ + p % lanes_) * item_);
    planes_.data = origin_ + box * item_;
    planes_.dtype = dtype;
    planes_.offset = offset_.data();
}

// Determines where the samples and coefficients of an axis lie. With many axes, the extent of each matters. The padding
// is therefore not in memory until the filter turns it into coefficients, and a filter that reads a whole line before
// it writes uses the same memory for samples and coefficients.
void Coefficients::place_samples(int axis, Range samples) {
    const Range& done = done_[axis];
    shift_[axis] = 0;
    filtered_[axis] = samples;
    if (geometry_.padding > 0 && filtered_axis_[axis]) {
        filtered_[axis] = samples = distinct_samples(geometry_, axis, samples);
        if (extent(axis) <= block_length(dtype_)) {
            if (samples.stop > done.stop) shift_[axis] = done.stop - samples.stop;
            if (samples.start + shift_[axis] < done.start) shift_[axis] = done.start - samples.start;
        }
    }
    samples = place_of(axis, samples);
    held_[axis] = {std::min(samples.start, done.start), std::max(samples.stop, done.stop)};
}

// The indices at which samples are held.
Range Coefficients::place_of(int axis, Range samples) const {
    return {samples.start + shift_[axis], samples.stop + shift_[axis]};
}

}  // namespace elasticnd
