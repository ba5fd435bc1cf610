// Converts rows of elements to and from the compute type.
#include <cstring>
#if defined(__GNUC__) && defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/kernels.hpp"
#include "kernels/lanes.hpp"

ELASTICND_BEGIN

namespace {

constexpr int64 piece = 64;  // pixels to gather before converting them, if they are not adjacent

// Compilers vectorise loops over elements at a constant distance.
template <int DTYPE, class T>
void load_adjacent(const char* from, int64 count, char* to) {
    for (int64 i = 0; i < count; ++i) {
        constexpr int64 size = sizeof(typename Element<DTYPE>::Storage);
        const T value = static_cast<T>(load_element<DTYPE>(from + i * size));
        std::memcpy(to + i * static_cast<int64>(sizeof value), &value, sizeof value);
    }
}

template <int DTYPE, class T>
void store_adjacent(const char* from, int64 count, char* to) {
    for (int64 i = 0; i < count; ++i) {
        constexpr int64 size = sizeof(typename Element<DTYPE>::Storage);
        T value;
        std::memcpy(&value, from + i * static_cast<int64>(sizeof value), sizeof value);
        store_element<DTYPE>(to + i * size, static_cast<typename Element<DTYPE>::Real>(value));
    }
}

#if defined(__GNUC__) && defined(__AVX2__)
// Converts eight numbers to integers as `saturate` does for bytes: limits them to the range from 0 to 255, and NaN to
// 0.
inline __m256i saturated_bytes(const char* from) {
    const __m256 value = load_vector<__m256>(from);
    const __m256 kept = _mm256_min_ps(_mm256_max_ps(value, _mm256_setzero_ps()), _mm256_set1_ps(255.0f));
    return _mm256_cvttps_epi32(_mm256_add_ps(kept, _mm256_set1_ps(0.49999997f)));
}

template <>
void store_adjacent<dtype_uint8, float>(const char* from, int64 count, char* to) {
    constexpr int64 together = 32;
    constexpr int64 bytes = 8 * sizeof(float);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing works on halves of vectors
    int64 i = 0;
    for (; i + together <= count; i += together) {
        const char* at = from + i * static_cast<int64>(sizeof(float));
        const __m256i low = _mm256_packs_epi32(saturated_bytes(at), saturated_bytes(at + bytes));
        const __m256i high = _mm256_packs_epi32(saturated_bytes(at + 2 * bytes), saturated_bytes(at + 3 * bytes));
        store_vector(to + i, _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order));
    }
    for (; i < count; ++i) {
        const auto value = load_vector<float>(from + i * static_cast<int64>(sizeof(float)));
        store_element<dtype_uint8>(to + i, value);
    }
}
#endif

using Convert = void (*)(const char*, int64, char*);

Convert choose_load(int dtype, int compute_dtype) {
    return with_dtype(dtype, [&](auto constant) -> Convert {
        constexpr int DTYPE = decltype(constant)::value;
        return compute_dtype == dtype_float64 ? load_adjacent<DTYPE, double> : load_adjacent<DTYPE, float>;
    });
}

Convert choose_store(int dtype, int compute_dtype) {
    return with_dtype(dtype, [&](auto constant) -> Convert {
        constexpr int DTYPE = decltype(constant)::value;
        return compute_dtype == dtype_float64 ? store_adjacent<DTYPE, double> : store_adjacent<DTYPE, float>;
    });
}

}  // namespace

void load_pixels(int dtype, const char* from, int64 stride, int64 count, int channels, int compute_dtype, char* to) {
    const Convert load = choose_load(dtype, compute_dtype);
    const int bytes = channels * element_size[dtype];
    if (stride == bytes) {
        load(from, count * channels, to);
        return;
    }
    with_pixel_bytes(bytes, [&](auto constant) {
        constexpr int BYTES = decltype(constant)::value;
        char pixels[piece * BYTES];
        for (int64 first = 0; first < count; first += piece) {
            const int64 some = minimum(piece, count - first);
            for (int64 i = 0; i < some; ++i) std::memcpy(pixels + i * BYTES, from + (first + i) * stride, BYTES);
            load(pixels, some * channels, to + first * channels * element_size[compute_dtype]);
        }
    });
}

void store_pixels(int compute_dtype, const char* from, int64 count, int channels, int dtype, char* to, int64 stride) {
    const Convert store = choose_store(dtype, compute_dtype);
    const int bytes = channels * element_size[dtype];
    if (stride == bytes) {
        store(from, count * channels, to);
        return;
    }
    with_pixel_bytes(bytes, [&](auto constant) {
        constexpr int BYTES = decltype(constant)::value;
        char pixels[piece * BYTES];
        for (int64 first = 0; first < count; first += piece) {
            const int64 some = minimum(piece, count - first);
            store(from + first * channels * element_size[compute_dtype], some * channels, pixels);
            for (int64 i = 0; i < some; ++i) std::memcpy(to + (first + i) * stride, pixels + i * BYTES, BYTES);
        }
    });
}

void load_row(int dtype, const char* from, int64 stride, int64 count, int compute_dtype, char* to) {
    load_pixels(dtype, from, stride, count, 1, compute_dtype, to);
}

void store_row(int compute_dtype, const char* from, int64 count, int dtype, char* to, int64 stride) {
    store_pixels(compute_dtype, from, count, 1, dtype, to, stride);
}

ELASTICND_END
