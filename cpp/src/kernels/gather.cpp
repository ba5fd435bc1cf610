// Sampling: the weighted sum of the coefficients under each voxel's stencil.
#include <cstring>

#if defined(__GNUC__) && defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/border.hpp"
#include "kernels/kernels.hpp"
#include "kernels/lanes.hpp"
#include "kernels/linear.hpp"
#include "kernels/lines.hpp"
#include "kernels/located.hpp"
#include "kernels/stencil.hpp"

ELASTICND_BEGIN

namespace {

#if defined(__GNUC__) && defined(__AVX2__)
// Returns eight bytes of the source as one number, which takes half the instructions of single copies.
ELASTICND_FLAT int64 load_bytes(const char* source, const int32* offset) {
    auto one = [&](int l) ELASTICND_FLAT_LAMBDA { return load_vector<uint8>(source + offset[l]); };
    __m128i bytes = _mm_cvtsi32_si128(one(0));
    bytes = _mm_insert_epi8(bytes, one(1), 1);
    bytes = _mm_insert_epi8(bytes, one(2), 2);
    bytes = _mm_insert_epi8(bytes, one(3), 3);
    bytes = _mm_insert_epi8(bytes, one(4), 4);
    bytes = _mm_insert_epi8(bytes, one(5), 5);
    bytes = _mm_insert_epi8(bytes, one(6), 6);
    return _mm_cvtsi128_si64(_mm_insert_epi8(bytes, one(7), 7));
}
#endif

// Order 0 copies elements or pixels without converting them to numbers, so every value is preserved.
template <int BYTES, class Offset>
void copy_offsets(const Offset* offset, int count, const char* source, char* to, int64 to_stride) {
    int i = 0;
#if defined(__GNUC__) && defined(__AVX2__)
    if constexpr (BYTES == 1 && sizeof(Offset) == sizeof(int32))
        for (; to_stride == 1 && i + 8 <= count; i += 8) store_vector(to + i, load_bytes(source, offset + i));
#endif
    for (; i + 4 <= count; i += 4)
        for (int l = 0; l < 4; ++l) std::memcpy(to + (i + l) * to_stride, source + offset[i + l], BYTES);
    for (; i < count; ++i) std::memcpy(to + i * to_stride, source + offset[i], BYTES);
}

template <int BYTES>
void copy_row(const SampleJob& job, const Row& row, const char* fill, const char* source, char* to, int64 to_stride) {
    if (row.everywhere && row.inside) return copy_offsets<BYTES>(row.offset, row.count, source, to, to_stride);
    for (int i = 0; i < row.count; ++i) {
        const char* from = fill;
        if (row.everywhere || row.exists[i])
            from = row.inside || !row.leaves[i] ? source + row.offset[i] : at_border(job, row, i, source, fill);
        std::memcpy(to + i * to_stride, from, BYTES);
    }
}

// Computes the sum for one voxel. `weight` points to the weight of its first tap.
template <class T, int TAPS, int AXES, class Lines>
struct StencilSum {
    const char* source;
    const Lines& lines;
    int outer;
    int64 stride[max_axes];

    StencilSum(const SampleJob& job, const char* given, const Lines& of)
        : source(given), lines(of), outer(job.geometry.axes - AXES) {
        for (int k = 0; k < job.geometry.axes; ++k) stride[k] = job.source.stride[k];
    }
    ELASTICND_FLAT T operator()(int64 offset, const T* weight, int i) const {
        const char* at = source + offset;
        if (AXES == max_unrolled_axes && outer > 0) return looped_sum<T, TAPS, AXES>(at, stride, weight, lines, outer);
        fetch_next_lines<TAPS, AXES>(at, stride, i);
        return stencil_sum<T, TAPS, AXES>(at, stride, weight, lines);
    }
};

template <class T, int TAPS, int AXES, class Lines, class AtBorder>
void gather_row(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source,
                const Lines& lines, const AtBorder& at_border, T* values) {
    const StencilSum<T, TAPS, AXES, Lines> sum(job, source, lines);
    const T* weight = &weights[0][0][0];
    if (row.everywhere && row.inside) {
        for (int i = 0; i < row.count; ++i) values[i] = sum(row.offset[i], weight + i, i);
        return;
    }
    const T fill = static_cast<T>(job.geometry.cval);
    for (int i = 0; i < row.count; ++i) {
        if (!row.everywhere && !row.exists[i])
            values[i] = fill;
        else
            values[i] = row.inside || !row.leaves[i] ? sum(row.offset[i], weight + i, i) : at_border(i);
    }
}

// Samples the coefficients, which have the compute type.
template <class T, int ORDER, int AXES>
void gather_coefficients(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source,
                         T* values) {
    const CoefficientLines<T, ORDER + 1> lines;
    gather_row<T, ORDER + 1, AXES>(job, row, weights, source, lines, [](int) { return T(0); }, values);
}

// Samples the image itself, at order 1.
template <class T, int DTYPE, int AXES>
void gather_image(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source, T* values) {
    const T border_value = static_cast<T>(job.geometry.border_value);
    const ImageLines<T, 2, DTYPE> lines = {job.source.stride[job.geometry.axes - 1]};
    gather_row<T, 2, AXES>(
        job, row, weights, source, lines, [&](int i) { return sum_at_border<T>(job, row, i, source, border_value); },
        values);
}

// ---- eight voxels at a time ----------------------------------------------------------------------------------------

// Samples voxels `first` to `last - 1` of a row.
template <class T, int TAPS, int AXES, class Lines>
void gather_located(const SampleJob& job, const Located<T>& row, int first, int last, const WeightRows<T>& weights,
                    const char* source, const Lines& lines, T* values) {
    const StencilSum<T, TAPS, AXES, Lines> sum(job, source, lines);
    const T* weight = &weights[0][0][0];
    for (int i = first; i < last; ++i) values[i] = sum(row.offset[i], weight + i, i);
}

// The same for stencils whose sums along the innermost axis are computed in blocks. The last block ends at `last`.
template <int AXES>
void gather_in_blocks(const SampleJob& job, const Located<float>& row, int first, int last,
                      const WeightRows<float>& weights, const char* source, float* values) {
    constexpr int taps = 4;
    const CoefficientLines<float, taps> lines;
    int64 stride[AXES];
    for (int k = 0; k < AXES; ++k) stride[k] = job.source.stride[k];
    BlockOfLines block;
    for (int from = first; from < last; from += block_voxels) {
        const int i = minimum(from, last - block_voxels);
        for (int l = 0; l < block_voxels; ++l) {
            const char* at = source + row.offset[i + l];
            fetch_next_lines<taps, AXES>(at, stride, i + l);
            block.line[l] = contract_stencil<float, taps, AXES>(at, stride, &weights[0][0][i + l], lines).tap;
        }
        store_vector(values + i, block.dot(&weights[AXES - 1][0][i]));
    }
}

template <class T, int ORDER, int AXES>
void gather_located_coefficients(const SampleJob& job, const Located<T>& row, int first, int last,
                                 const WeightRows<T>& weights, const char* source, T* values) {
    if constexpr (sums_in_blocks<T, ORDER + 1>) {
        gather_in_blocks<AXES>(job, row, first, last, weights, source, values);
    } else {
        const CoefficientLines<T, ORDER + 1> lines;
        gather_located<T, ORDER + 1, AXES>(job, row, first, last, weights, source, lines, values);
    }
}

template <class T, int DTYPE, int AXES>
void gather_located_image(const SampleJob& job, const Located<T>& row, int first, int last,
                          const WeightRows<T>& weights, const char* source, T* values) {
    const int64 stride = job.source.stride[AXES - 1];
#if defined(__GNUC__)
    if constexpr (sizeof(T) == sizeof(float)) {
        if (stride == sizeof(typename Element<DTYPE>::Storage))
            interpolate_located<DTYPE, true, AXES>(job.source.stride, row, first, last, source, values);
        else
            interpolate_located<DTYPE, false, AXES>(job.source.stride, row, first, last, source, values);
        return;
    }
#endif
    const ImageLines<T, 2, DTYPE> lines = {stride};
    gather_located<T, 2, AXES>(job, row, first, last, weights, source, lines, values);
}

// ---- choosing ------------------------------------------------------------------------------------------------------

template <class T>
struct GatherKernels {
    void (*row)(const SampleJob&, const Row&, const WeightRows<T>&, const char*, T*);
    void (*located)(const SampleJob&, const Located<T>&, int first, int last, const WeightRows<T>&, const char*, T*);
};

struct CopyKernels {
    void (*row)(const SampleJob&, const Row&, const char* fill, const char*, char*, int64);
    void (*located)(const int32* offset, int count, const char*, char*, int64);
};

template <class T>
GatherKernels<T> choose_gather(const SampleJob& job) {
    return with_unrolled_axes(job.geometry.axes, [&](auto axes) -> GatherKernels<T> {
        [[maybe_unused]] constexpr int AXES = decltype(axes)::value;  // GCC 12 overlooks its use in the lambdas
        [[maybe_unused]] constexpr int FEW = AXES < max_located_axes ? AXES : max_located_axes;
        if (!job.direct)
            return with_order(job.geometry.order, [](auto order) -> GatherKernels<T> {
                constexpr int ORDER = decltype(order)::value;
                return {gather_coefficients<T, ORDER, AXES>, gather_located_coefficients<T, ORDER, FEW>};
            });
        return with_dtype(job.source.dtype, [](auto dtype) -> GatherKernels<T> {
            constexpr int DTYPE = decltype(dtype)::value;
            // Only element types that are computed in T reach this line.
            constexpr bool computed_in_t = sizeof(typename Element<DTYPE>::Real) == sizeof(T);
            constexpr int OWN = computed_in_t ? DTYPE : own_dtype<T>;
            return {gather_image<T, OWN, AXES>, gather_located_image<T, OWN, FEW>};
        });
    });
}

CopyKernels choose_copy(int bytes) {
    return with_pixel_bytes(bytes, [](auto constant) -> CopyKernels {
        constexpr int BYTES = decltype(constant)::value;
        return {copy_row<BYTES>, copy_offsets<BYTES, int32>};
    });
}

// ---- jobs ----------------------------------------------------------------------------------------------------------

template <class T>
struct GatherScratch {
    Row row;
    Located<T> located;
    WeightRows<T> weights;
    T values[row_length];
};

template <class T>
void sample_as(const SampleJob& job, UnitRange units, void* scratch) {
    auto& own = allocate_scratch<GatherScratch<T>>(scratch);
    Walk walk(job, false, scratch, nullptr);
    const Locator<T> locator(job);
    const GatherKernels<T> gather = choose_gather<T>(job);
    const WeighRow<T> weigh = choose_weigh<T>(job.geometry.order);
    const WeighLocated<T> weigh_located = choose_weigh_located<T>(job.geometry.order);
    // From an image in single precision, interpolate_located computes the weights itself.
    const bool needs_weights = !job.direct || sizeof(T) > sizeof(float);
    const T fill = static_cast<T>(job.geometry.cval);
    const int axes = job.geometry.axes;
    const int64 to_stride = job.output.stride[axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, own.row);
        const bool is_located = locator.locate(walk, own.row, own.located);
        if (is_located) {
            if (needs_weights) weigh_located(own.located, axes, own.weights);
        } else {
            walk.locate(own.row);
            weigh(own.row, axes, job.geometry.derivative, own.weights);
        }
        for (int64 channel = 0; channel < job.channels; ++channel) {
            const char* source = source_plane(job, own.row.item, channel);
            if (is_located) {
                for_each_part(own.located, [&](int first, int last) {
                    gather.located(job, own.located, first, last, own.weights, source, own.values);
                });
                for_each_missing(own.located, [&](int i) { own.values[i] = fill; });
            } else {
                gather.row(job, own.row, own.weights, source, own.values);
            }
            store_row(own_dtype<T>, reinterpret_cast<const char*>(own.values), own.row.count, job.output.dtype,
                      output_row(job, own.row, channel), to_stride);
        }
    }
}

struct CopyScratch {
    Row row;
    Located<NoPlace> located;
};

void sample_copies(const SampleJob& job, UnitRange units, void* scratch) {
    auto& own = allocate_scratch<CopyScratch>(scratch);
    Walk walk(job, false, scratch, nullptr);
    const Locator<NoPlace> locator(job);
    const int size = element_size[job.source.dtype];
    const int most = job.as_pixels ? pixel_lanes : 1;
    char fill[pixel_lanes * sizeof(int64)];
    for (int c = 0; c < most; ++c) std::memcpy(fill + c * size, job.cval_element, static_cast<size_t>(size));
    const CopyKernels copy = choose_copy(most * size);
    const CopyKernels copy_rest = choose_copy(static_cast<int>(job.channels % most) * size);
    const int64 to_stride = job.output.stride[job.geometry.axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, own.row);
        const bool is_located = locator.locate(walk, own.row, own.located);
        if (!is_located) walk.locate(own.row);
        for (int64 channel = 0; channel < job.channels; channel += most) {
            const int64 channels = minimum<int64>(most, job.channels - channel);
            const CopyKernels& kernels = channels == most ? copy : copy_rest;
            const char* source = source_plane(job, own.row.item, channel);
            char* to = output_row(job, own.row, channel);
            if (!is_located) {
                kernels.row(job, own.row, fill, source, to, to_stride);
                continue;
            }
            for_each_part(own.located, [&](int first, int last) {
                kernels.located(own.located.offset + first, last - first, source, to + first * to_stride, to_stride);
            });
            for_each_missing(own.located, [&](int i) {
                std::memcpy(to + i * to_stride, fill, static_cast<size_t>(channels * size));
            });
        }
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
