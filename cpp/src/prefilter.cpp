// Cuts the prefilter and its transpose into tasks.
#include "../include/elasticnd/prefilter.hpp"

#include <algorithm>
#include <memory>

#include "core.hpp"

namespace elasticnd {
namespace {

int64 padded(const Geometry& geometry, int axis) { return geometry.image[axis] + 2 * geometry.padding; }

int64 block_length(int dtype) {
    return dtype == dtype_float64 ? common::Blocking<double>::block_length : common::Blocking<float>::block_length;
}

int64 block_margin(int dtype, int order) {
    return dtype == dtype_float64 ? common::block_margin<double>(order) : common::block_margin<float>(order);
}

// All lines of an array along one axis, or those that start inside a box: odometer over the other axes.
class LineStarts {
   public:
    LineStarts(int axes, int axis, const int64* first, const int64* last, const int64* stride) : axes_(axes) {
        for (int k = 0; k < axes; ++k) {
            first_[k] = k == axis ? 0 : first[k];
            count_[k] = k == axis ? 1 : last[k] - first[k];
            stride_[k] = stride[k];
            total *= count_[k];
        }
    }
    // Offset of line `i`, in the unit of the strides.
    int64 operator()(int64 i) const {
        int64 offset = 0;
        for (int k = axes_ - 1; k >= 0; --k) {
            offset += (first_[k] + i % count_[k]) * stride_[k];
            i /= count_[k];
        }
        return offset;
    }
    int64 total = 1;

   private:
    int axes_;
    int64 first_[max_axes];
    int64 count_[max_axes];
    int64 stride_[max_axes];
};

constexpr int64 samples_per_task = 262'144;
constexpr int64 samples_per_part = 1'048'576;  // of a long line, between two looks for an interrupt; whole blocks

// Calls body(first, last) for parts of `count` lines of `length` samples.
template <class Body>
void for_lines(int64 count, int64 length, int64 together, Executor& executor, Body body) {
    const int64 lines = std::max<int64>(1, samples_per_task / std::max<int64>(1, length) / together) * together;
    const int64 tasks = (count + lines - 1) / lines;
    if (count * length < 32'768) {
        body(0, count);
        return;
    }
    executor.run(tasks, [&](int64 task) { body(task * lines, std::min(count, (task + 1) * lines)); });
}

Box whole_box(const Geometry& geometry) {
    Box box;
    for (int k = 0; k < geometry.axes; ++k) {
        box.start[k] = 0;
        box.extent[k] = padded(geometry, k);
    }
    return box;
}

void filter_in_parts(FilterJob job, int64 start, int64 stop, const int64* line, int count, void* scratch,
                     Executor& executor) {
    job.resumes = false;
    for (int64 first = start; first < stop; first = job.wanted_stop) {
        executor.checkpoint();
        job.wanted_start = first;
        job.wanted_stop = std::min(stop, (first / samples_per_part + 1) * samples_per_part);
        job.continues = job.wanted_stop < stop;
        active_kernels().filter(job, line, count, scratch);
        job.resumes = true;
    }
}

// Filters every plane along one axis, in place: of the coefficients that are held, those inside `wanted`.
void filter_axis(const Geometry& geometry, bool transposed, int axis, const Box& held, const Box& wanted, int64 planes,
                 const Planes& coefficients, Executor& executor) {
    const int64 item = coefficients.dtype == dtype_float64 ? sizeof(double) : sizeof(float);
    int64 stride[max_axes];
    int64 first[max_axes];
    int64 last[max_axes];
    for (int k = 0; k < geometry.axes; ++k) {
        stride[k] = coefficients.stride[k] / item;
        first[k] = wanted.start[k] - held.start[k];
        last[k] = first[k] + wanted.extent[k];
    }
    FilterJob job;
    job.coefficients = coefficients.data;
    job.dtype = coefficients.dtype;
    job.order = geometry.order;
    job.extension = common::prefilter_mode(geometry.mode);
    job.transposed = transposed;
    job.extent = padded(geometry, axis);
    job.held_start = held.start[axis];
    job.stride = stride[axis];
    const LineStarts starts(geometry.axes, axis, first, last, stride);
    for_lines(planes * starts.total, wanted.extent[axis], filter_lines, executor, [&](int64 from, int64 to) {
        const Scratch scratch = make_scratch(active_kernels().filter_scratch);
        int64 line[filter_lines];
        while (from < to) {
            int count = 0;
            for (; count < filter_lines && from < to; ++count, ++from)
                line[count] = coefficients.offset[from / starts.total] / item + starts(from % starts.total);
            filter_in_parts(job, wanted.start[axis], wanted.start[axis] + wanted.extent[axis], line, count,
                            scratch.get(), executor);
        }
    });
}

// Calls body(inside, image line, coefficient line) for the innermost lines of the held coefficients, with their offsets
// in bytes; not `inside` is a line that lies in a padding of constants.
template <class Body>
void for_each_row(const Geometry& geometry, const Box& held, int64 planes, const Planes& image,
                  const Planes& coefficients, Executor& executor, Body body) {
    const int inner = geometry.axes - 1;
    int64 rows = 1;
    for (int k = 0; k < inner; ++k) rows *= held.extent[k];
    for_lines(planes * rows, held.extent[inner], 1, executor, [&](int64 from, int64 to) {
        for (int64 i = from; i < to; ++i) {
            const int64 plane = i / rows;
            int64 rest = i % rows;
            int64 at = coefficients.offset[plane];
            int64 source = image.offset[plane];
            bool inside = true;
            for (int k = inner - 1; k >= 0; --k) {
                const int64 index = rest % held.extent[k];
                rest /= held.extent[k];
                at += index * coefficients.stride[k];
                const int64 padded_index = held.start[k] + index - geometry.padding;
                const int64 image_index = std::clamp<int64>(padded_index, 0, geometry.image[k] - 1);
                inside &= geometry.mode != mode_grid_constant || padded_index == image_index;
                source += image_index * image.stride[k];
            }
            body(inside, source, at);
        }
    });
}

template <class T>
void fill_row(char* to, int64 count, T value) {
    T* row = reinterpret_cast<T*>(to);
    std::fill(row, row + count, value);
}

void fill_row(int dtype, char* to, int64 count, const char* value) {
    if (dtype == dtype_float64)
        fill_row(to, count, *reinterpret_cast<const double*>(value));
    else
        fill_row(to, count, *reinterpret_cast<const float*>(value));
}

// Adds what stands in the padding to the voxels at the border, whose copies it was.
template <class T>
void fold_padding(const Geometry& geometry, int64 planes, const Planes& coefficients) {
    int64 stride[max_axes];
    const Box all = whole_box(geometry);
    int64 last[max_axes];
    const int64 zero[max_axes] = {};
    for (int k = 0; k < geometry.axes; ++k) {
        stride[k] = coefficients.stride[k] / static_cast<int64>(sizeof(T));
        last[k] = all.extent[k];
    }
    for (int k = 0; k < geometry.axes; ++k) {
        const LineStarts starts(geometry.axes, k, zero, last, stride);
        for (int64 i = 0; i < planes * starts.total; ++i) {
            T* line = reinterpret_cast<T*>(coefficients.data + coefficients.offset[i / starts.total]) +
                      starts(i % starts.total);
            T* low = line + geometry.padding * stride[k];
            T* high = low + (geometry.image[k] - 1) * stride[k];
            for (int64 j = 1; j <= geometry.padding; ++j) {
                *low += low[-j * stride[k]];
                *high += high[j * stride[k]];
            }
        }
    }
}

}  // namespace

Box held_box(const Geometry& geometry, int dtype, bool filtered) {
    Box held;
    const int64 block = block_length(dtype);
    const int64 margin = block_margin(dtype, geometry.order);
    for (int k = 0; k < geometry.axes; ++k) {
        int64 start = geometry.box_start[k];
        int64 stop = start + geometry.box_extent[k];
        const int64 extent = padded(geometry, k);
        if (filtered) {
            start = start / block * block - margin;
            stop = (stop + block - 1) / block * block + margin;
            // A periodic filter that meets an end needs the other one.
            if (geometry.mode == mode_grid_wrap && (start < 0 || stop > extent)) {
                start = 0;
                stop = extent;
            }
        }
        held.start[k] = std::max<int64>(start, 0);
        held.extent[k] = std::min(stop, extent) - held.start[k];
    }
    return held;
}

void prefilter(const Geometry& geometry, bool filtered, int64 planes, const Planes& image, const Planes& coefficients,
               const Box& held, Executor& executor) {
    const Kernels& kernels = active_kernels();
    const int inner = geometry.axes - 1;
    const int64 item = coefficients.dtype == dtype_float64 ? sizeof(double) : sizeof(float);
    const double wide_beyond = geometry.beyond;
    const float narrow_beyond = static_cast<float>(geometry.beyond);
    const char* beyond = coefficients.dtype == dtype_float64 ? reinterpret_cast<const char*>(&wide_beyond)
                                                             : reinterpret_cast<const char*>(&narrow_beyond);
    const bool constant = geometry.mode == mode_grid_constant;
    // Along the innermost axis: padding, image, padding.
    const int64 start = held.start[inner] - geometry.padding;
    const int64 stop = start + held.extent[inner];
    const int64 first = std::clamp<int64>(start, 0, geometry.image[inner] - 1);
    const int64 last = std::clamp<int64>(stop, first + 1, geometry.image[inner]);
    for_each_row(geometry, held, planes, image, coefficients, executor, [&](bool inside, int64 source, int64 at) {
        char* to = coefficients.data + at;
        if (!inside) {
            fill_row(coefficients.dtype, to, held.extent[inner], beyond);
            return;
        }
        // `first` and `last` are clamped: where the row lies wholly in the padding, one sample is read beside it.
        char* body = to + (first - start) * item;
        const bool overlaps = start < geometry.image[inner] && stop > 0;
        for (int64 part = first; overlaps && part < last; part += samples_per_part) {
            executor.checkpoint();
            kernels.load_row(image.dtype, image.data + source + part * image.stride[inner], image.stride[inner],
                             std::min(samples_per_part, last - part), coefficients.dtype, body + (part - first) * item);
        }
        if (geometry.padding == 0) return;
        char edge[2][sizeof(double)];
        kernels.load_row(image.dtype, image.data + source, image.stride[inner], 1, coefficients.dtype, edge[0]);
        kernels.load_row(image.dtype, image.data + source + (geometry.image[inner] - 1) * image.stride[inner],
                         image.stride[inner], 1, coefficients.dtype, edge[1]);
        const int64 before = std::min(held.extent[inner], std::max<int64>(0, -start));
        const int64 after = std::min(held.extent[inner], std::max<int64>(0, stop - geometry.image[inner]));
        fill_row(coefficients.dtype, to, before, constant ? beyond : edge[0]);
        fill_row(coefficients.dtype, to + (held.extent[inner] - after) * item, after, constant ? beyond : edge[1]);
    });
    if (!filtered) return;
    // Along the axes that are done only the box is still needed; along the others, all that is held.
    Box wanted = held;
    for (int k = 0; k < geometry.axes; ++k) {
        wanted.start[k] = geometry.box_start[k];
        wanted.extent[k] = geometry.box_extent[k];
        if (padded(geometry, k) > 1) filter_axis(geometry, false, k, held, wanted, planes, coefficients, executor);
    }
}

void prefilter_adjoint(const Geometry& geometry, bool filtered, int64 planes, const Planes& coefficients,
                       const Planes& image, Executor& executor) {
    const Kernels& kernels = active_kernels();
    const int inner = geometry.axes - 1;
    const Box all = whole_box(geometry);
    for (int k = inner; filtered && k >= 0; --k)
        if (all.extent[k] > 1) filter_axis(geometry, true, k, all, all, planes, coefficients, executor);
    if (geometry.padding > 0 && geometry.mode == mode_nearest) {
        if (coefficients.dtype == dtype_float64)
            fold_padding<double>(geometry, planes, coefficients);
        else
            fold_padding<float>(geometry, planes, coefficients);
    }
    Box body;
    Planes inside = coefficients;
    for (int k = 0; k < geometry.axes; ++k) {
        body.start[k] = geometry.padding;
        body.extent[k] = geometry.image[k];
        inside.data += geometry.padding * coefficients.stride[k];
    }
    for_each_row(geometry, body, planes, image, inside, executor, [&](bool, int64 target, int64 at) {
        const int64 item = inside.stride[inner];
        for (int64 part = 0; part < geometry.image[inner]; part += samples_per_part) {
            executor.checkpoint();
            kernels.store_row(coefficients.dtype, inside.data + at + part * item,
                              std::min(samples_per_part, geometry.image[inner] - part), image.dtype,
                              image.data + target + part * image.stride[inner], image.stride[inner]);
        }
    });
}

}  // namespace elasticnd
