// Sampling: the weighted sum of the coefficients under each voxel's stencil.
#include "lanes.hpp"
#include "sample_kernels.hpp"
#include "stencil.hpp"

ELASTICND_BEGIN

namespace {

// Order 0 moves elements, whatever they are: no number is formed, so every value survives.
template <class Storage>
void copy_row(const SampleJob& job, const Row& row, const char* source, char* to, int64 to_stride) {
    Storage fill;
    std::memcpy(&fill, job.fill_element, sizeof fill);
    for (int i = 0; i < row.count; ++i) {
        Storage value = fill;
        if (kind_of(row, i) == kind_interior) {
            std::memcpy(&value, source + row.offset[i], sizeof value);
        } else if (row.kind[i] == kind_border) {
            const TapOffsets taps = folded_taps(job, row, i);
            int64 offset = 0;
            bool inside = true;
            for (int k = 0; k < job.geometry.axes; ++k) {
                inside &= taps.offset[k][0] != beyond_border;
                if (inside) offset += taps.offset[k][0];
            }
            if (inside) std::memcpy(&value, source + offset, sizeof value);
        }
        std::memcpy(to + i * to_stride, &value, sizeof value);
    }
}

template <class T, int ORDER, int DTYPE, int AXES>
void gather_row(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source, T* values) {
    constexpr int taps = ORDER + 1;
    const int outer = job.geometry.axes - AXES;
    const TapOffsets straight = straight_taps(job);
    const StraightLines<T, taps, DTYPE> lines = {job.source.stride[job.geometry.axes - 1]};
    if (row.all_interior) {
        for (int i = 0; i < row.count; ++i)
            values[i] =
                stencil_sum<T, taps, AXES>(source + row.offset[i], straight.offset, &weights[0][0][i], lines, outer);
        return;
    }
    const T fill = static_cast<T>(job.geometry.fill);
    const T beyond = static_cast<T>(job.geometry.beyond);
    for (int i = 0; i < row.count; ++i) {
        if (row.kind[i] == kind_interior) {
            values[i] =
                stencil_sum<T, taps, AXES>(source + row.offset[i], straight.offset, &weights[0][0][i], lines, outer);
        } else if (row.kind[i] == kind_border) {
            const TapOffsets folded = folded_taps(job, row, i);
            const FoldedLines<T, taps, DTYPE> border = {folded.offset[job.geometry.axes - 1], beyond};
            values[i] = stencil_sum<T, taps, AXES>(source, folded.offset, &weights[0][0][i], border, outer);
        } else {
            values[i] = fill;
        }
    }
}

template <class T>
using GatherRow = void (*)(const SampleJob&, const Row&, const WeightRows<T>&, const char*, T*);
using CopyRow = void (*)(const SampleJob&, const Row&, const char*, char*, int64);

// From order 2 on the source is an array of coefficients, in the type of the arithmetic; below, the image itself.
template <class T>
GatherRow<T> choose_gather(const SampleJob& job) {
    return with_unrolled_axes(job.geometry.axes, [&](auto axes) -> GatherRow<T> {
        constexpr int AXES = decltype(axes)::value;
        if (job.geometry.order > 1)
            return with_order(job.geometry.order, [](auto order) -> GatherRow<T> {
                constexpr int ORDER = decltype(order)::value;
                return gather_row<T, (ORDER < 2 ? 2 : ORDER), own_dtype<T>, AXES>;
            });
        return with_dtype(job.source.dtype, [](auto dtype) -> GatherRow<T> {
            constexpr int DTYPE = decltype(dtype)::value;
            // Only the element types that are computed in T can come here.
            constexpr bool computed_in_t = sizeof(typename Element<DTYPE>::Real) == sizeof(T);
            return gather_row<T, 1, (computed_in_t ? DTYPE : own_dtype<T>), AXES>;
        });
    });
}

CopyRow choose_copy(int dtype) {
    return with_dtype(
        dtype, [](auto constant) -> CopyRow { return copy_row<typename Element<decltype(constant)::value>::Storage>; });
}

template <class T>
void sample_as(const SampleJob& job, UnitRange units, void* scratch) {
    Walk walk(job, scratch, nullptr);
    Row row;
    WeightRows<T> weights;
    T values[row_length];
    const GatherRow<T> gather = choose_gather<T>(job);
    const WeighRow<T> weigh = choose_weigh<T>(job.geometry.order);
    const int64 to_stride = job.output.stride[job.geometry.axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, row);
        walk.place(row);
        locate(job, row);
        weigh(row, job.geometry.axes, job.geometry.derivative, weights);
        for (int64 channel = 0; channel < job.channels; ++channel) {
            gather(job, row, weights, source_plane(job, row.item, channel), values);
            store_row(own_dtype<T>, reinterpret_cast<const char*>(values), row.count, job.output.dtype,
                      output_row(job, row, channel), to_stride);
        }
    }
}

void sample_copies(const SampleJob& job, UnitRange units, void* scratch) {
    Walk walk(job, scratch, nullptr);
    Row row;
    const CopyRow copy = choose_copy(job.source.dtype);
    const int64 to_stride = job.output.stride[job.geometry.axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, row);
        walk.place(row);
        locate(job, row);
        for (int64 channel = 0; channel < job.channels; ++channel)
            copy(job, row, source_plane(job, row.item, channel), output_row(job, row, channel), to_stride);
    }
}

}  // namespace

void sample(const SampleJob& job, UnitRange units, void* scratch) {
    if (job.geometry.order == 0)
        sample_copies(job, units, scratch);
    else if (computes_in_double(job.source.dtype))
        sample_as<double>(job, units, scratch);
    else
        sample_as<float>(job, units, scratch);
}

void displace(const SampleJob& job, UnitRange units, void* scratch) {
    Walk walk(job, scratch, nullptr);
    Row row;
    double values[row_length];
    const int64 to_stride = job.output.stride[job.geometry.axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, row);
        for (int component = 0; component < job.geometry.axes; ++component) {
            walk.displacement(row, component, values);
            char* to = output_row(job, row, component);
            for (int i = 0; i < row.count; ++i) std::memcpy(to + i * to_stride, &values[i], sizeof(double));
        }
    }
}

ELASTICND_END
