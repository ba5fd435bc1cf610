// Sampling: the weighted sum of the coefficients under each voxel's stencil.
#include <cstring>

#include "kernels/border.hpp"
#include "kernels/kernels.hpp"
#include "kernels/lanes.hpp"
#include "kernels/stencil.hpp"

ELASTICND_BEGIN

namespace {

// Order 0 moves elements or pixels, whatever they are: no number is formed, so every value survives.
template <int BYTES>
void copy_row(const SampleJob& job, const Row& row, const char* fill, const char* source, char* to, int64 to_stride) {
    if (row.everywhere && row.inside) {
        for (int i = 0; i < row.count; ++i) std::memcpy(to + i * to_stride, source + row.offset[i], BYTES);
        return;
    }
    for (int i = 0; i < row.count; ++i) {
        const char* from = fill;
        if (row.everywhere || row.exists[i])
            from = row.inside || !row.leaves[i] ? source + row.offset[i] : at_border(job, row, i, source, fill);
        std::memcpy(to + i * to_stride, from, BYTES);
    }
}

template <class T, int TAPS, int AXES, class Lines, class AtBorder>
void gather_row(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source,
                const Lines& lines, const AtBorder& at_border, T* values) {
    const int outer = job.geometry.axes - AXES;
    int64 stride[max_axes];
    for (int k = 0; k < job.geometry.axes; ++k) stride[k] = job.source.stride[k];
    auto sum = [&](int i) ELASTICND_FLAT_LAMBDA {
        const char* at = source + row.offset[i];
        const T* weight = &weights[0][0][i];
        if (AXES == max_unrolled_axes && outer > 0) return looped_sum<T, TAPS, AXES>(at, stride, weight, lines, outer);
        fetch_next_lines<TAPS, AXES>(at, stride, i);
        return stencil_sum<T, TAPS, AXES>(at, stride, weight, lines);
    };
    if (row.everywhere && row.inside) {
        for (int i = 0; i < row.count; ++i) values[i] = sum(i);
        return;
    }
    const T fill = static_cast<T>(job.geometry.cval);
    for (int i = 0; i < row.count; ++i) {
        if (!row.everywhere && !row.exists[i])
            values[i] = fill;
        else
            values[i] = row.inside || !row.leaves[i] ? sum(i) : at_border(i);
    }
}

// From the coefficients, in the compute type.
template <class T, int ORDER, int AXES>
void gather_coefficients(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source,
                         T* values) {
    const CoefficientLines<T, ORDER + 1> lines;
    gather_row<T, ORDER + 1, AXES>(job, row, weights, source, lines, [](int) { return T(0); }, values);
}

// From the image itself, at order 1.
template <class T, int DTYPE, int AXES>
void gather_image(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source, T* values) {
    const T border_value = static_cast<T>(job.geometry.border_value);
    const ImageLines<T, 2, DTYPE> lines = {job.source.stride[job.geometry.axes - 1]};
    gather_row<T, 2, AXES>(
        job, row, weights, source, lines, [&](int i) { return sum_at_border<T>(job, row, i, source, border_value); },
        values);
}

template <class T>
using GatherRow = void (*)(const SampleJob&, const Row&, const WeightRows<T>&, const char*, T*);
using CopyRow = void (*)(const SampleJob&, const Row&, const char*, const char*, char*, int64);

template <class T>
GatherRow<T> choose_gather(const SampleJob& job) {
    return with_unrolled_axes(job.geometry.axes, [&](auto axes) -> GatherRow<T> {
        [[maybe_unused]] constexpr int AXES = decltype(axes)::value;  // GCC 12 overlooks its use in the lambdas
        if (!job.direct)
            return with_order(job.geometry.order, [](auto order) -> GatherRow<T> {
                return gather_coefficients<T, decltype(order)::value, AXES>;
            });
        return with_dtype(job.source.dtype, [](auto dtype) -> GatherRow<T> {
            constexpr int DTYPE = decltype(dtype)::value;
            // Only the element types that are computed in T can come here.
            constexpr bool computed_in_t = sizeof(typename Element<DTYPE>::Real) == sizeof(T);
            return gather_image<T, (computed_in_t ? DTYPE : own_dtype<T>), AXES>;
        });
    });
}

CopyRow choose_copy(int bytes) {
    return with_pixel_bytes(bytes, [](auto constant) -> CopyRow { return copy_row<decltype(constant)::value>; });
}

template <class T>
struct GatherScratch {
    Row row;
    WeightRows<T> weights;
    T values[row_length];
};

template <class T>
void sample_as(const SampleJob& job, UnitRange units, void* scratch) {
    auto& own = allocate_scratch<GatherScratch<T>>(scratch);
    Walk walk(job, false, scratch, nullptr);
    const GatherRow<T> gather = choose_gather<T>(job);
    const WeighRow<T> weigh = choose_weigh<T>(job.geometry.order);
    const int64 to_stride = job.output.stride[job.geometry.axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, own.row);
        walk.locate(own.row);
        weigh(own.row, job.geometry.axes, job.geometry.derivative, own.weights);
        for (int64 channel = 0; channel < job.channels; ++channel) {
            gather(job, own.row, own.weights, source_plane(job, own.row.item, channel), own.values);
            store_row(own_dtype<T>, reinterpret_cast<const char*>(own.values), own.row.count, job.output.dtype,
                      output_row(job, own.row, channel), to_stride);
        }
    }
}

void sample_copies(const SampleJob& job, UnitRange units, void* scratch) {
    auto& row = allocate_scratch<Row>(scratch);
    Walk walk(job, false, scratch, nullptr);
    const int size = element_size[job.source.dtype];
    const int most = job.as_pixels ? pixel_lanes : 1;
    char fill[pixel_lanes * sizeof(int64)];
    for (int c = 0; c < most; ++c) std::memcpy(fill + c * size, job.cval_element, static_cast<size_t>(size));
    const CopyRow copy = choose_copy(most * size);
    const CopyRow copy_rest = choose_copy(static_cast<int>(job.channels % most) * size);
    const int64 to_stride = job.output.stride[job.geometry.axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, row);
        walk.locate(row);
        for (int64 channel = 0; channel < job.channels; channel += most)
            (channel + most <= job.channels ? copy : copy_rest)(job, row, fill, source_plane(job, row.item, channel),
                                                                output_row(job, row, channel), to_stride);
    }
}

}  // namespace

void sample(const SampleJob& job, UnitRange units, void* scratch) {
    if (job.geometry.votes)
        sample_votes(job, units, scratch);
    else if (job.geometry.order == 0 && job.direct)
        sample_copies(job, units, scratch);
    else if (job.as_pixels)
        sample_pixels(job, units, scratch);
    else if (computes_in_double(job.source.dtype))
        sample_as<double>(job, units, scratch);
    else
        sample_as<float>(job, units, scratch);
}

void displace(const SampleJob& job, UnitRange units, void* scratch) {
    auto& own = allocate_scratch<GatherScratch<double>>(scratch);
    Walk walk(job, false, scratch, nullptr);
    const int64 to_stride = job.output.stride[job.geometry.axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, own.row);
        for (int component = 0; component < job.geometry.axes; ++component) {
            walk.displacement(own.row, component, own.values);
            char* to = output_row(job, own.row, component);
            for (int i = 0; i < own.row.count; ++i) std::memcpy(to + i * to_stride, &own.values[i], sizeof(double));
        }
    }
}

int64 gather_scratch_size() { return static_cast<int64>(sizeof(GatherScratch<double>)); }

ELASTICND_END
