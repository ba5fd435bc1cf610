// Stencils whose taps are pixels: up to pixel_lanes channels that lie side by side, in the lanes of a vector. Lanes
// beyond the channels hold arbitrary values. Sums have the same order, and hence the same bits, as for one channel.
#pragma once
#if defined(__GNUC__) && defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/stencil.hpp"

ELASTICND_BEGIN

template <class T>
using Pixel = Vector<T, pixel_lanes>;
template <class T>
using PixelPair = Vector<T, 2 * pixel_lanes>;

template <class T>
ELASTICND_FLAT PixelPair<T> join_pixels(const Pixel<T>& first, const Pixel<T>& second) {
#if defined(ELASTICND_SHUFFLES)
    return __builtin_shufflevector(first, second, 0, 1, 2, 3, 4, 5, 6, 7);
#else
    PixelPair<T> pair;
    for (int l = 0; l < 2 * pixel_lanes; ++l) pair[l] = l < pixel_lanes ? first[l] : second[l - pixel_lanes];
    return pair;
#endif
}

// The pixel that begins at lane FIRST. Lanes beyond the end of the pair are arbitrary.
template <class T, int FIRST>
ELASTICND_FLAT Pixel<T> pixel_of(const PixelPair<T>& pair) {
    constexpr int lanes = 2 * pixel_lanes;
#if defined(ELASTICND_SHUFFLES)
    return __builtin_shufflevector(pair, pair, FIRST, (FIRST + 1) % lanes, (FIRST + 2) % lanes, (FIRST + 3) % lanes);
#else
    Pixel<T> pixel;
    for (int l = 0; l < pixel_lanes; ++l) pixel[l] = pair[(FIRST + l) % lanes];
    return pixel;
#endif
}

template <class T>
ELASTICND_FLAT Pixel<T> spread_over_pixel(T value) {
    return Pixel<T>{value, value, value, value};
}

// Joins halves of two vectors that each repeat one number, which is cheaper than filling one vector.
template <class T>
ELASTICND_FLAT PixelPair<T> spread_over_pixels(T first, T second) {
#if defined(ELASTICND_SHUFFLES)
    const PixelPair<T> low = {first, first, first, first, first, first, first, first};
    const PixelPair<T> high = {second, second, second, second, second, second, second, second};
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 12, 13, 14, 15);
#else
    return join_pixels<T>(spread_over_pixel(first), spread_over_pixel(second));
#endif
}

// A line of taps along the innermost axis, in pairs. The second pixel of a pair begins SHIFT lanes after the middle.
template <class T, int TAPS, int SHIFT>
struct PixelTaps {
    static constexpr int pairs = (TAPS + 1) / 2;
    PixelPair<T> pair[pairs];

    // Reads weights that lie `stride` elements apart, and repeats them for every channel.
    static ELASTICND_FLAT PixelTaps gather(const T* from, int stride) {
        PixelTaps taps;
        for (int p = 0; p < pairs; ++p) {
            const T second = 2 * p + 1 < TAPS ? from[(2 * p + 1) * stride] : T(0);
            taps.pair[p] = spread_over_pixels(from[2 * p * stride], second);
        }
        return taps;
    }
    ELASTICND_FLAT PixelTaps scaled(T factor) const {
        PixelTaps taps;
        for (int p = 0; p < pairs; ++p) taps.pair[p] = pair[p] * factor;
        return taps;
    }
    ELASTICND_FLAT void add(const PixelTaps& other) {
        for (int p = 0; p < pairs; ++p) pair[p] = pair[p] + other.pair[p];
    }
    // Sums in the order of Taps::dot, where the lanes beyond the taps are zero.
    ELASTICND_FLAT Pixel<T> dot(const PixelTaps& other) const {
        PixelTaps product;
        for (int p = 0; p < pairs; ++p) product.pair[p] = pair[p] * other.pair[p];
        const Pixel<T> first = product.template tap<0>();
        if constexpr (TAPS == 1) {
            return first;
        } else if constexpr (TAPS == 2) {
            return first + product.template tap<1>();
        } else if constexpr (TAPS <= 4) {
            return (first + product.template tap<1>()) + (product.template tap<2>() + product.template tap<3>());
        } else {
            return ((first + product.template tap<4>()) + (product.template tap<1>() + product.template tap<5>())) +
                   ((product.template tap<2>() + spread_over_pixel(T(0))) +
                    (product.template tap<3>() + spread_over_pixel(T(0))));
        }
    }

   private:
    template <int TAP>
    ELASTICND_FLAT Pixel<T> tap() const {
        if constexpr (TAP >= TAPS)
            return spread_over_pixel(T(0));
        else
            return pixel_of<T, TAP % 2 ? pixel_lanes + SHIFT : 0>(pair[TAP / 2]);
    }
};

// Reads coefficients, pixel_lanes of them for each pixel, with readable memory after the last.
template <class T, int TAPS>
struct CoefficientPixels {
    using Line = PixelTaps<T, TAPS, 0>;
    ELASTICND_FLAT Line operator()(const char* at) const {
        Line line;
        for (int p = 0; p < Line::pairs; ++p)
            line.pair[p] = load_vector<PixelPair<T>>(at + p * static_cast<int64>(sizeof(PixelPair<T>)));
        return line;
    }
};

// Reads pixel_lanes elements from each of two places.
template <class T, int DTYPE>
ELASTICND_FLAT PixelPair<T> load_pixel_pair(const char* first, const char* second) {
    if constexpr (DTYPE == own_dtype<T>) {
        return join_pixels<T>(load_vector<Pixel<T>>(first), load_vector<Pixel<T>>(second));
    } else {
#if defined(__GNUC__) && defined(__AVX2__)
        if constexpr (DTYPE == dtype_uint8) {
            // GCC 12 would split this conversion.
            const __m128i bytes = _mm_unpacklo_epi32(_mm_loadu_si32(first), _mm_loadu_si32(second));
            return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
        }
#endif
        constexpr int64 size = sizeof(typename Element<DTYPE>::Storage);
        PixelPair<T> pair;
        for (int l = 0; l < pixel_lanes; ++l) {
            pair[l] = static_cast<T>(load_element<DTYPE>(first + l * size));
            pair[pixel_lanes + l] = static_cast<T>(load_element<DTYPE>(second + l * size));
        }
        return pair;
    }
}

// Reads two pixels of an image that lie `stride` bytes apart and do not overlap. The first pixel is read from its first
// channel on, and the second up to its last channel, so that no memory outside the two is accessed.
template <class T, int DTYPE, int CHANNELS>
struct ImagePixels {
    static constexpr int shift = pixel_lanes - CHANNELS;
    using Line = PixelTaps<T, 2, shift>;
    int64 stride;
    ELASTICND_FLAT Line operator()(const char* at) const {
        constexpr int64 size = sizeof(typename Element<DTYPE>::Storage);
        return {{load_pixel_pair<T, DTYPE>(at, at + stride - shift * size)}};
    }
};

ELASTICND_END
