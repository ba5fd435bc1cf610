// The prefilter and its transpose, over the lines of an image in memory.
#include "core/coefficients.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "core/extents.hpp"
#include "elasticnd/prefilter.hpp"

namespace elasticnd {
namespace {

constexpr int64 samples_per_task = 65'536;
constexpr int64 samples_per_part = 1'048'576;  // samples of a long line between checks for interrupts; whole blocks
constexpr int64 worth_a_thread = 131'072;      // samples, which take about 50 microseconds

// Calls body(first, last) for parts of `count` rows, groups or slices with `samples` samples each.
template <class Body>
void in_parts(int64 count, int64 samples, Executor& executor, Body body) {
    const int64 together = std::max<int64>(1, samples_per_task / std::max<int64>(1, samples));
    if (count * samples < worth_a_thread || count <= together) {
        if (count > 0) body(0, count);
        return;
    }
    const int64 tasks = (count + together - 1) / together;
    executor.run(tasks, [&](int64 task) { body(task * together, std::min(count, (task + 1) * together)); });
}

}  // namespace

// ---- lines ----------------------------------------------------------------------------------------------------------

// Calls body(lines, count, scratch) for groups of lines along `axis`, which start at the indices `lines` of the other
// axes. If possible, the lines of a group are neighbours along the innermost of these axes.
template <class Body>
void Coefficients::for_each_group(int axis, const Ranges& lines, int64 first_plane, int64 last_plane,
                                  Executor& executor, Body body) {
    const int most = lines_together(item_);
    int other[max_axes];
    int others = 0;
    for (int k = 0; k < axes_; ++k)
        if (k != axis) other[others++] = k;
    int64 total = (last_plane - first_plane) * lanes_;
    for (int o = 0; o < others; ++o) total *= lines[other[o]].extent();
    int64 run = total;  // lines that may share a group
    int64 step = 0;     // distance between these lines, if they are evenly spaced
    if (others > 0) {
        const int nearest = other[others - 1];
        const int64 side_by_side = lines[nearest].extent() * lanes_;
        if (side_by_side >= most / 2) run = side_by_side;
        if (run < total && (lanes_ == 1 || nearest == axes_ - 1)) step = stride_[nearest] / lanes_;
    }
    const int64 groups_in_run = (run + most - 1) / most;
    auto start_of = [&](int64 i) {
        int64 at = i % lanes_;
        i /= lanes_;
        for (int o = others - 1; o >= 0; --o) {
            const Range& range = lines[other[o]];
            at += (range.start + i % range.extent()) * stride_[other[o]];
            i /= range.extent();
        }
        return at + (first_plane + i) * plane_stride_;
    };
    in_parts(total / run * groups_in_run, lines[axis].extent() * most, executor, [&](int64 from, int64 to) {
        void* scratch = scratch_memory(active_kernels().filter_scratch());
        int64 line[line_bytes];
        for (int64 group = from; group < to; ++group) {
            const int64 first = group / groups_in_run * run + group % groups_in_run * most;
            const int64 last = std::min(first + most, (group / groups_in_run + 1) * run);
            const int count = static_cast<int>(last - first);
            line[0] = start_of(first);
            for (int l = 1; l < count; ++l) line[l] = step ? line[l - 1] + step : start_of(first + l);
            body(line, count, scratch);
        }
    });
}

void Coefficients::filter_in_parts(int axis, bool transposed, const int64* line, int count, void* scratch,
                                   Executor& executor) {
    FilterJob job;
    job.dtype = dtype_;
    job.order = geometry_.order;
    job.extension = mode_traits(geometry_.mode).samples;
    job.transposed = transposed;
    job.extent = extent(axis);
    job.padding = geometry_.padding;
    job.constant = common::holds_constant(geometry_.mode);
    // These indices refer to the whole axis, not to the part in memory.
    Range held = filtered_[axis];
    if (transposed && geometry_.padding > 0)
        held = {std::max<int64>(0, done_[axis].start), std::min(extent(axis), done_[axis].stop)};
    job.held_start = held.start;
    job.held_stop = held.stop;
    job.stride = stride_[axis];
    const int64 step = stride_[axis] * item_;
    job.from = origin_ + (held.start + (transposed ? 0 : shift_[axis])) * step;
    job.to = origin_ + (transposed ? shift_[axis] : 0) * step;
    job.resumes = false;
    const Range& wanted = transposed ? reached_[axis] : needed_[axis];
    for (int64 first = wanted.start; first < wanted.stop; first = job.wanted_stop) {
        executor.check_interrupt();
        job.wanted_start = first;
        job.wanted_stop = std::min(wanted.stop, (first / samples_per_part + 1) * samples_per_part);
        job.continues = job.wanted_stop < wanted.stop;
        active_kernels().filter(job, line, count, scratch);
        job.resumes = true;
    }
}

void Coefficients::continue_lines(int axis, const int64* line, int count) {
    const int64 step = stride_[axis] * item_;
    const bool adjacent = line[count - 1] - line[0] == count - 1;
    for (int c = 0; c < continued_count_[axis]; ++c) {
        const Continued& one = continued_[axis][c];
        char* to = origin_ + one.outer * step;
        const char* from = origin_ + one.from * step;
        if (adjacent && count > 1)
            std::memcpy(to + line[0] * item_, from + line[0] * item_, static_cast<size_t>(count * item_));
        else if (item_ == sizeof(float))
            for (int l = 0; l < count; ++l) std::memcpy(to + line[l] * item_, from + line[l] * item_, sizeof(float));
        else
            for (int l = 0; l < count; ++l) std::memcpy(to + line[l] * item_, from + line[l] * item_, sizeof(double));
    }
}

template <class T>
static void add_lines(char* to, const char* from, const int64* line, int count) {
    for (int l = 0; l < count; ++l) reinterpret_cast<T*>(to)[line[l]] += reinterpret_cast<const T*>(from)[line[l]];
}

static void add_lines(int dtype, char* to, const char* from, const int64* line, int count) {
    if (dtype == dtype_float64)
        add_lines<double>(to, from, line, count);
    else
        add_lines<float>(to, from, line, count);
}

// The transpose of continue_lines.
void Coefficients::fold_lines(int axis, const int64* line, int count) {
    const int64 step = stride_[axis] * item_;
    for (int c = 0; c < continued_count_[axis]; ++c) {
        const Continued& one = continued_[axis][c];
        add_lines(dtype_, origin_ + one.from * step, origin_ + one.outer * step, line, count);
    }
}

// The voxels along an axis that the transposed filter reaches, as indices of the padded axis.
Range Coefficients::reached_voxels(int axis) const {
    return {std::max<int64>(geometry_.padding, reached_[axis].start),
            std::min(geometry_.padding + geometry_.image[axis], reached_[axis].stop)};
}

// Restricts `all` to slice number `index`, with a single index along all axes except the two innermost; returns its
// plane.
int64 Coefficients::slice_of(const Ranges& all, int64 index, Ranges& slice) const {
    for (int k = axes_ - 1; k >= 0; --k) {
        slice[k] = all[k];
        if (k >= axes_ - 2) continue;
        slice[k].start = all[k].start + index % all[k].extent();
        slice[k].stop = slice[k].start + 1;
        index /= all[k].extent();
    }
    return index;
}

// ---- the prefilter --------------------------------------------------------------------------------------------------

void Coefficients::compute(const Planes& image, Executor& executor) {
    const int inner = axes_ - 1;
    const Ranges& rows = filtered_;
    Ranges lines;
    for (int k = 0; k < inner; ++k) lines[k] = place_of(k, rows[k]);
    const Ranges& ready = continues_last_ ? needed_ : done_;  // ranges of axes that have been filtered
    lines[inner] = ready[inner];

    // Rows consist of pixels if channels lie side by side; otherwise, planes are filtered separately.
    const bool side_by_side = lie_side_by_side(image, channels_);
    const int64 together = side_by_side ? pixel_lanes : axes_ < 3 ? channels_ : 1;
    const int64 groups = (channels_ + together - 1) / together;
    auto group = [&](int64 index) { return Range{index * together, std::min(channels_, (index + 1) * together)}; };
    if (axes_ < 3) {
        for (int64 g = 0; g < groups; ++g) compute_rows(image, rows, group(g), side_by_side, executor);
        if (inner > 0) compute_lines(inner - 1, lines, 0, count_, executor);
    } else {
        // Filter the two innermost axes together, while a slice is in the cache.
        int64 slices = groups;
        for (int k = 0; k < inner - 1; ++k) slices *= rows[k].extent();
        in_parts(slices, rows[inner].extent() * rows[inner - 1].extent(), executor, [&](int64 from, int64 to) {
            InlineExecutor own(executor);
            for (int64 slice = from; slice < to; ++slice) {
                Ranges slice_rows;
                Ranges slice_lines;
                const Range channels = group(slice_of(rows, slice, slice_rows));
                slice_of(lines, slice, slice_lines);
                compute_rows(image, slice_rows, channels, side_by_side, own);
                const Range planes = planes_of(channels);
                compute_lines(inner - 1, slice_lines, planes.start, planes.stop, own);
            }
        });
    }
    for (int k = inner - 1; k >= 0; --k) {
        if (axes_ >= 3 && k < inner - 1) compute_lines(k, lines, 0, count_, executor);
        lines[k] = ready[k];
    }
    if (continues_last_) continue_all(executor);
    if (common::holds_constant(geometry_.mode)) overwrite_border(executor);
}

// The planes that hold these channels.
Range Coefficients::planes_of(Range channels) const {
    return {channels.start / lanes_, (channels.stop + lanes_ - 1) / lanes_};
}

// Computes rows of pixels if the channels lie side by side; otherwise, rows of each channel.
void Coefficients::compute_rows(const Planes& image, const Ranges& rows, Range channels, bool side_by_side,
                                Executor& executor) {
    const int inner = axes_ - 1;
    RowFilterJob job;
    job.image_dtype = image.dtype;
    job.channels = side_by_side ? static_cast<int>(channels.extent()) : 1;
    job.channel_step = lanes_ > 1 ? 1 : plane_stride_;
    job.as_pixels = lanes_ > 1;
    job.image_stride = image.stride[inner];
    job.image_extent = geometry_.image[inner];
    job.dtype = dtype_;
    job.order = geometry_.order;
    job.extension = mode_traits(geometry_.mode).samples;
    job.filtered = filtered_axis_[inner];
    job.padding = geometry_.padding;
    job.constant = common::holds_constant(geometry_.mode);
    job.border_value = geometry_.border_value;
    job.wanted_start = needed_[inner].start;
    job.wanted_stop = needed_[inner].stop;
    int64 count = channels.extent() / job.channels;
    for (int k = 0; k < inner; ++k) count *= rows[k].extent();
    const int64 length = needed_[inner].extent() * job.channels;
    const int64 block = block_length(dtype_);
    if (count == 1 && length > 2 * samples_per_task) {
        // A single long row is divided into blocks.
        const int64 first_block = job.wanted_start / block;
        const int64 blocks = (job.wanted_stop - 1) / block + 1 - first_block;
        in_parts(blocks, block, executor, [&](int64 from, int64 to) {
            RowFilterJob part = job;
            part.wanted_start = std::max(job.wanted_start, (first_block + from) * block);
            part.wanted_stop = std::min(job.wanted_stop, (first_block + to) * block);
            compute_rows_part(part, image, rows, channels.start, 0, 1, false);
        });
        int64 line = offset_[channels.start] / item_;
        for (int k = 0; k < inner; ++k) line += (rows[k].start + shift_[k]) * stride_[k];
        if (!continues_last_) continue_row(line, job.channels);
    } else {
        in_parts(count, length, executor, [&](int64 from, int64 to) {
            compute_rows_part(job, image, rows, channels.start, from, to, !continues_last_);
        });
    }
}

// Continues a row beyond the border; the first of its channels begins at `line`.
void Coefficients::continue_row(int64 line, int channels) {
    int64 lines[pixel_lanes];
    const int count = lanes_ > 1 ? lanes_ : channels;
    for (int l = 0; l < count; ++l) lines[l] = line + l * (lanes_ > 1 ? 1 : plane_stride_);
    continue_lines(axes_ - 1, lines, count);
}

// Computes rows first_row to last_row - 1, counted from `channel` on, and also their continuation if `continued`.
void Coefficients::compute_rows_part(const RowFilterJob& job, const Planes& image, const Ranges& rows, int64 channel,
                                     int64 first_row, int64 last_row, bool continued) {
    const int inner = axes_ - 1;
    void* scratch = scratch_memory(active_kernels().filter_scratch());
    const char* from[rows_together];
    char* to[rows_together];
    int64 line[rows_together];
    const int together = rows_in_tiles(job.channels, item_);
    for (int64 first = first_row; first < last_row; first += together) {
        const int count = static_cast<int>(std::min<int64>(together, last_row - first));
        for (int r = 0; r < count; ++r) {
            int64 rest = first + r;
            int64 at = 0;
            int64 source = 0;
            bool inside = true;
            for (int k = inner - 1; k >= 0; --k) {
                const int64 index = rows[k].start + rest % rows[k].extent();
                rest /= rows[k].extent();
                at += (index + shift_[k]) * stride_[k];
                const int64 padded = index - geometry_.padding;
                const int64 voxel = std::clamp<int64>(padded, 0, geometry_.image[k] - 1);
                inside &= !job.constant || padded == voxel;
                source += voxel * image.stride[k];
            }
            line[r] = at + offset_[channel + rest] / item_;
            from[r] = inside ? image.data + image.offset[channel + rest] + source : nullptr;
            to[r] = origin_ + line[r] * item_;
        }
        active_kernels().filter_rows(job, from, to, count, scratch);
        for (int r = 0; continued && r < count; ++r) continue_row(line[r], job.channels);
    }
}

void Coefficients::compute_lines(int axis, const Ranges& lines, int64 first_plane, int64 last_plane,
                                 Executor& executor) {
    for_each_group(axis, lines, first_plane, last_plane, executor, [&](const int64* line, int count, void* scratch) {
        if (filtered_axis_[axis]) filter_in_parts(axis, false, line, count, scratch, executor);
        if (!continues_last_) continue_lines(axis, line, count);
    });
}

void Coefficients::continue_all(Executor& executor) {
    Ranges lines;
    std::copy_n(needed_, axes_, lines);
    for (int axis = axes_ - 1; axis >= 0; --axis) {
        for_each_group(axis, lines, 0, count_, executor,
                       [&](const int64* line, int count, void*) { continue_lines(axis, line, count); });
        lines[axis] = done_[axis];
    }
}

void Coefficients::overwrite_border(Executor& executor) {
    for (int axis = 0; axis < axes_; ++axis) {
        const Range box = {geometry_.box_start[axis], geometry_.box_start[axis] + geometry_.box_extent[axis]};
        overwrite(axis, {box.start, std::min<int64>(box.stop, 0)}, executor);
        overwrite(axis, {std::max(box.start, extent(axis)), box.stop}, executor);
    }
}

// Sets the coefficients at some indices of an axis to the border value.
void Coefficients::overwrite(int axis, Range indices, Executor& executor) {
    if (indices.start >= indices.stop) return;
    const double wide = geometry_.border_value;
    const float narrow = static_cast<float>(wide);
    const void* element = dtype_ == dtype_float64 ? static_cast<const void*>(&wide) : &narrow;
    Ranges lines;
    for (int k = 0; k < axes_; ++k)
        lines[k] = {geometry_.box_start[k], geometry_.box_start[k] + geometry_.box_extent[k]};
    for_each_group(axis, lines, 0, count_, executor, [&](const int64* line, int count, void*) {
        for (int64 i = indices.start; i < indices.stop; ++i)
            for (int l = 0; l < count; ++l)
                std::memcpy(origin_ + (line[l] + i * stride_[axis]) * item_, element, static_cast<size_t>(item_));
    });
}

// ---- the transpose --------------------------------------------------------------------------------------------------

void Coefficients::compute_adjoint(const Planes& image, Executor& executor) {
    const int inner = axes_ - 1;
    Ranges lines;
    for (int k = 0; k < axes_; ++k) lines[k] = geometry_.padding > 0 ? done_[k] : held_[k];
    if (continues_last_) {
        fold_all(executor);
        std::copy_n(needed_, axes_, lines);
    }
    for (int k = 0; k < inner - 1; ++k) {
        lines_adjoint(k, lines, 0, count_, executor);
        lines[k] = place_of(k, reached_voxels(k));
    }
    if (axes_ < 3) {
        slice_adjoint(image, lines, 0, count_, executor);
        return;
    }
    int64 slices = count_;
    for (int k = 0; k < inner - 1; ++k) slices *= lines[k].extent();
    in_parts(slices, lines[inner].extent() * lines[inner - 1].extent(), executor, [&](int64 from, int64 to) {
        InlineExecutor own(executor);
        for (int64 slice = from; slice < to; ++slice) {
            Ranges one;
            const int64 plane = slice_of(lines, slice, one);
            slice_adjoint(image, one, plane, plane + 1, own);
        }
    });
}

// The transpose of continue_all.
void Coefficients::fold_all(Executor& executor) {
    Ranges lines;
    std::copy_n(done_, axes_, lines);
    for (int axis = 0; axis < axes_; ++axis) {
        for_each_group(axis, lines, 0, count_, executor,
                       [&](const int64* line, int count, void*) { fold_lines(axis, line, count); });
        lines[axis] = needed_[axis];
    }
}

// Applies the transpose along the two innermost axes, and stores the voxels.
void Coefficients::slice_adjoint(const Planes& image, Ranges& lines, int64 first_plane, int64 last_plane,
                                 Executor& executor) {
    for (int k = std::max(0, axes_ - 2); k < axes_; ++k) {
        lines_adjoint(k, lines, first_plane, last_plane, executor);
        lines[k] = place_of(k, reached_voxels(k));
    }
    store_rows(image, lines, first_plane, last_plane, executor);
}

void Coefficients::lines_adjoint(int axis, const Ranges& lines, int64 first_plane, int64 last_plane,
                                 Executor& executor) {
    for_each_group(axis, lines, first_plane, last_plane, executor, [&](const int64* line, int count, void* scratch) {
        if (!continues_last_) fold_lines(axis, line, count);
        if (filtered_axis_[axis]) filter_in_parts(axis, true, line, count, scratch, executor);
    });
}

void Coefficients::store_rows(const Planes& image, const Ranges& rows, int64 first_plane, int64 last_plane,
                              Executor& executor) {
    const int inner = axes_ - 1;
    int64 count = last_plane - first_plane;
    for (int k = 0; k < inner; ++k) count *= rows[k].extent();
    const int64 extent = rows[inner].extent();
    in_parts(count, extent, executor, [&](int64 from, int64 to) {
        for (int64 row = from; row < to; ++row) {
            int64 rest = row;
            int64 at = rows[inner].start;
            int64 target = (rows[inner].start - shift_[inner] - geometry_.padding) * image.stride[inner];
            for (int k = inner - 1; k >= 0; --k) {
                const int64 index = rows[k].start + rest % rows[k].extent();
                rest /= rows[k].extent();
                at += index * stride_[k];
                target += (index - shift_[k] - geometry_.padding) * image.stride[k];
            }
            at += (first_plane + rest) * plane_stride_;
            target += image.offset[first_plane + rest];
            for (int64 part = 0; part < extent; part += samples_per_part) {
                executor.check_interrupt();
                active_kernels().store_row(dtype_, origin_ + (at + part) * item_,
                                           std::min(samples_per_part, extent - part), image.dtype,
                                           image.data + target + part * image.stride[inner], image.stride[inner]);
            }
        }
    });
}

void Coefficients::clear(Executor& executor) {
    constexpr int64 piece = int64(1) << 20;
    const int64 bytes = size_ + 64;
    const int64 pieces = (bytes + piece - 1) / piece;
    in_parts(pieces, piece / 8, executor, [&](int64 from, int64 to) {
        const int64 last = std::min(bytes, to * piece);
        std::memset(memory_->data() + from * piece, 0, static_cast<size_t>(last - from * piece));
    });
}

}  // namespace elasticnd
