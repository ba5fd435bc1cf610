// Order 1 for images with one channel, eight voxels at a time. Every sum has the same order, and hence the same bits,
// as in stencil_sum.
#pragma once
#if defined(__GNUC__) && defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/lanes.hpp"
#include "kernels/located.hpp"
#include "kernels/stencil.hpp"

ELASTICND_BEGIN

#if defined(__GNUC__)

using EightFloats = Vector<float, block_voxels>;
using EightShorts = Vector<uint16, block_voxels>;

// Two neighbours along the innermost axis for each of eight voxels.
struct EightPairs {
    EightFloats first;
    EightFloats second;

    ELASTICND_FLAT EightPairs scaled(const EightFloats& factor) const { return {first * factor, second * factor}; }
    ELASTICND_FLAT void add(const EightPairs& other) {
        first = first + other.first;
        second = second + other.second;
    }
};

// `one(l)` returns the value of voxel `l` among the eight.
template <class V, class One>
ELASTICND_FLAT V eight_of(One one) {
    return V{one(0), one(1), one(2), one(3), one(4), one(5), one(6), one(7)};
}

ELASTICND_FLAT EightFloats floats_of(const EightShorts& integers) {
#if defined(__AVX2__)
    return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32((__m128i)integers));
#endif
    return __builtin_convertvector(__builtin_convertvector(integers, Vector<int32, 8>), EightFloats);
}

// Inserts element by element with explicit instructions, because GCC 12 by itself would use more.
ELASTICND_FLAT EightShorts load_shorts(const char* line, const int32* offset) {
    auto one = [&](int l) ELASTICND_FLAT_LAMBDA { return load_vector<uint16>(line + offset[l]); };
#if defined(__AVX2__)
    __m128i shorts = _mm_cvtsi32_si128(one(0));
    shorts = _mm_insert_epi16(shorts, one(1), 1);
    shorts = _mm_insert_epi16(shorts, one(2), 2);
    shorts = _mm_insert_epi16(shorts, one(3), 3);
    shorts = _mm_insert_epi16(shorts, one(4), 4);
    shorts = _mm_insert_epi16(shorts, one(5), 5);
    shorts = _mm_insert_epi16(shorts, one(6), 6);
    return (EightShorts)_mm_insert_epi16(shorts, one(7), 7);
#else
    return eight_of<EightShorts>(one);
#endif
}

// Processors that have these vectors are little-endian, so the first byte is the low one.
ELASTICND_FLAT EightPairs load_byte_pairs(const char* line, const int32* offset) {
    const EightShorts pairs = load_shorts(line, offset);
    return {floats_of(pairs & 255), floats_of(pairs >> 8)};
}

#if defined(ELASTICND_SHUFFLES)
ELASTICND_FLAT EightPairs load_float_pairs(const char* line, const int32* offset) {
    using Four = Vector<uint64, 4>;
    auto pair = [&](int l) ELASTICND_FLAT_LAMBDA { return load_vector<uint64>(line + offset[l]); };
    // In this order, halves of vectors need not be exchanged.
    const auto low = (EightFloats)Four{pair(0), pair(1), pair(4), pair(5)};
    const auto high = (EightFloats)Four{pair(2), pair(3), pair(6), pair(7)};
    return {__builtin_shufflevector(low, high, 0, 2, 8, 10, 4, 6, 12, 14),
            __builtin_shufflevector(low, high, 1, 3, 9, 11, 5, 7, 13, 15)};
}
#endif

template <int DTYPE, bool ARE_ADJACENT>
ELASTICND_FLAT EightPairs load_pairs(const char* line, const int32* offset, [[maybe_unused]] int64 stride) {
    if constexpr (ARE_ADJACENT && DTYPE == dtype_uint8) return load_byte_pairs(line, offset);
#if defined(ELASTICND_SHUFFLES)
    if constexpr (ARE_ADJACENT && DTYPE == dtype_float32) return load_float_pairs(line, offset);
#endif
    auto element = [&](const char* at) ELASTICND_FLAT_LAMBDA { return static_cast<float>(load_element<DTYPE>(at)); };
    return {eight_of<EightFloats>([&](int l) ELASTICND_FLAT_LAMBDA { return element(line + offset[l]); }),
            eight_of<EightFloats>([&](int l) ELASTICND_FLAT_LAMBDA { return element(line + offset[l] + stride); })};
}

// Contracts all but the innermost of AXES axes, as contract_stencil does.
template <int DTYPE, bool ARE_ADJACENT, int AXES>
ELASTICND_FLAT EightPairs contract_pairs(const char* line, const int32* offset, const int64* stride,
                                         const EightFloats* place) {
    if constexpr (AXES == 1) {
        return load_pairs<DTYPE, ARE_ADJACENT>(line, offset, stride[0]);
    } else {
        const EightFloats one = EightFloats{} + 1.0f;
        EightPairs sum =
            contract_pairs<DTYPE, ARE_ADJACENT, AXES - 1>(line, offset, stride + 1, place + 1).scaled(one - place[0]);
        sum.add(contract_pairs<DTYPE, ARE_ADJACENT, AXES - 1>(line + stride[0], offset, stride + 1, place + 1)
                    .scaled(place[0]));
        return sum;
    }
}

// Computes blocks of eight voxels; the last block ends at `last`. `values` begins with voxel 0 of the row.
template <int DTYPE, bool ARE_ADJACENT, int AXES>
void interpolate_located(const int64* stride, const Located<float>& row, int first, int last, const char* source,
                         float* values) {
    for (int64 from = first; from < last; from += block_voxels) {
        const int64 i = minimum<int64>(from, last - block_voxels);
        EightFloats place[AXES];
        for (int k = 0; k < AXES; ++k) place[k] = load_vector<EightFloats>(row.place[k] + i);
        const EightPairs pairs = contract_pairs<DTYPE, ARE_ADJACENT, AXES>(source, row.offset + i, stride, place);
        const EightFloats inner = place[AXES - 1];
        store_vector(values + i, pairs.first * (1.0f - inner) + pairs.second * inner);
    }
}

#endif

ELASTICND_END
