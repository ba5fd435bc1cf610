// Internal arrays over the voxels of a box, in C order, and sums of such arrays.
#pragma once
#include <algorithm>
#include <vector>

#include "core/core.hpp"
#include "runtime/memory.hpp"

namespace elasticnd {

// Calls body(first, count) for parts of `size` numbers, on all threads.
template <class Body>
void for_parts(int64 size, Executor& executor, Body body) {
    constexpr int64 part = 65536;
    executor.run((size + part - 1) / part, [&](int64 i) { body(i * part, std::min(part, size - i * part)); });
}

// An internal array over the output voxels, plane by plane.
class Dense {
   public:
    Dense(const Geometry& geometry, int64 planes, int dtype)
        : voxels(product(geometry.output, geometry.axes)),
          memory_(static_cast<size_t>(voxels * planes) * (dtype == dtype_float64 ? 8 : 4)) {
        int64 step = dtype == dtype_float64 ? 8 : 4;
        for (int k = geometry.axes - 1; k >= 0; --k) {
            planes_.stride[k] = step;
            step *= geometry.output[k];
        }
        for (int64 plane = 0; plane < planes; ++plane) offset_.push_back(plane * step);
        planes_.data = memory_.data();
        planes_.dtype = dtype;
        planes_.offset = offset_.data();
    }
    template <class T>
    T* plane(int64 index) {
        return reinterpret_cast<T*>(memory_.data() + offset_[static_cast<size_t>(index)]);
    }
    const Planes& planes() const { return planes_; }
    const int64 voxels;

   private:
    Memory memory_;
    std::vector<int64> offset_;
    Planes planes_;
};

template <class Body>
void with_compute_dtype(int dtype, Body body) {
    if (dtype == dtype_float64)
        body(double());
    else
        body(float());
}

// Calls body(first element of a row, its index in a dense plane) for each row in a plane of the request's output.
template <class Body>
void for_each_row(const Geometry& geometry, const Planes& planes, int64 channel, Executor& executor, Body body) {
    const int inner = geometry.axes - 1;
    executor.run(product(geometry.output, inner), [&](int64 index) {
        char* at = planes.data + planes.offset[channel];
        int64 rest = index;
        for (int k = inner - 1; k >= 0; --k) {
            at += rest % geometry.output[k] * planes.stride[k];
            rest /= geometry.output[k];
        }
        body(at, index * geometry.output[inner]);
    });
}

// The sum of several gradients of one item's image in memory, in the compute type.
class ImageSum {
   public:
    explicit ImageSum(const SampleRequest& one)
        : roi_(one.job.roi),
          geometry_(roi_as_output(one)),
          part_(geometry_, one.channels, one.job.compute_dtype),
          sum_(geometry_, one.channels, one.job.compute_dtype),
          channels_(one.channels) {
        clear(sum_);
        target_ = part_.planes();
        target_.data -= start_of(target_);
    }
    // A gradient to add, initially zero.
    const Planes& new_part() {
        clear(part_);
        return target_;
    }
    void add_part(Executor& executor) {
        with_compute_dtype(part_.planes().dtype, [&](auto zero) {
            using T = decltype(zero);
            for_parts(part_.voxels * channels_, executor, [&](int64 first, int64 count) {
                for (int64 i = first; i < first + count; ++i) sum_.plane<T>(0)[i] += part_.plane<T>(0)[i];
            });
        });
    }
    void store(Planes image, int64 first_channel, Executor& executor) {
        image.data += start_of(image);
        const int64 item = sum_.planes().dtype == dtype_float64 ? 8 : 4;
        const int inner = geometry_.axes - 1;
        for (int64 channel = 0; channel < channels_; ++channel)
            for_each_row(geometry_, image, first_channel + channel, executor, [&](char* at, int64 first) {
                active_kernels().store_row(sum_.planes().dtype, sum_.plane<char>(channel) + first * item,
                                           geometry_.output[inner], image.dtype, at, image.stride[inner]);
            });
    }

   private:
    static Geometry roi_as_output(const SampleRequest& one) {
        Geometry geometry = one.job.geometry;
        std::copy_n(one.job.roi.extent, max_axes, geometry.output);
        return geometry;
    }
    void clear(Dense& dense) {
        std::fill_n(dense.plane<char>(0), dense.voxels * channels_ * (dense.planes().dtype == dtype_float64 ? 8 : 4),
                    0);
    }
    int64 start_of(const Planes& image) const {
        int64 start = 0;
        for (int k = 0; k < geometry_.axes; ++k) start += roi_.start[k] * image.stride[k];
        return start;
    }
    Box roi_;
    Geometry geometry_;
    Dense part_;
    Dense sum_;
    int64 channels_;
    Planes target_;
};

}  // namespace elasticnd
