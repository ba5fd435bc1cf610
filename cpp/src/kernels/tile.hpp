// Lines side by side: row r of a tile holds sample r of every line, so that a filter can run over all lines at once.
#pragma once
#include "elasticnd/prefilter.hpp"
#include "kernels/lanes.hpp"
#include "kernels/table.hpp"

ELASTICND_BEGIN

template <class T>
constexpr int tile_lanes = line_bytes / static_cast<int>(sizeof(T));

template <class T>
constexpr int tile_rows = Blocking<T>::block_length + 2 * max_margin;

// Filters `length` rows, which have `margin` more rows before and after them.
template <class T>
inline void filter_tile(T* tile, int length, int margin, int order) {
    constexpr int lanes = 32 / static_cast<int>(sizeof(T));
    filter_block<T, Vector<T, lanes>, tile_lanes<T> / lanes>(reinterpret_cast<Vector<T, lanes>*>(tile), length, margin,
                                                             order);
}

// Transposes four lines of four numbers: from[l][0..4) becomes to[0..4)[l]. The rows of `to` are `stride` apart.
template <class T>
ELASTICND_FLAT void lines_to_rows(const T* const* from, int64 at, T* to, int64 stride) {
#if defined(ELASTICND_SHUFFLES)
    using Quad = Vector<T, 4>;
    const Quad a = load_vector<Quad>(from[0] + at);
    const Quad b = load_vector<Quad>(from[1] + at);
    const Quad c = load_vector<Quad>(from[2] + at);
    const Quad d = load_vector<Quad>(from[3] + at);
    const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const Quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const Quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store_vector(to, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    store_vector(to + stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    store_vector(to + 2 * stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    store_vector(to + 3 * stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
#else
    for (int l = 0; l < 4; ++l)
        for (int i = 0; i < 4; ++i) to[i * stride + l] = from[l][at + i];
#endif
}

// The inverse.
template <class T>
ELASTICND_FLAT void rows_to_lines(const T* from, int64 stride, T* const* to, int64 at) {
#if defined(ELASTICND_SHUFFLES)
    using Quad = Vector<T, 4>;
    const Quad a = load_vector<Quad>(from);
    const Quad b = load_vector<Quad>(from + stride);
    const Quad c = load_vector<Quad>(from + 2 * stride);
    const Quad d = load_vector<Quad>(from + 3 * stride);
    const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const Quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const Quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store_vector(to[0] + at, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    store_vector(to[1] + at, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    store_vector(to[2] + at, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    store_vector(to[3] + at, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
#else
    for (int l = 0; l < 4; ++l)
        for (int i = 0; i < 4; ++i) to[l][at + i] = from[i * stride + l];
#endif
}

// Copies samples [0, count) of `lines` lines to the rows of a tile, or back. Copying to a tile rounds the number of
// lines up to a multiple of four, and needs as many pointers.
template <class T>
inline void lines_to_tile(const T* const* line, int lines, int count, T* tile) {
    constexpr int lanes = tile_lanes<T>;
    for (int l = 0; l < lines; l += 4) {
        int i = 0;
        for (; i + 4 <= count; i += 4) lines_to_rows(line + l, i, tile + i * lanes + l, lanes);
        for (; i < count; ++i)
            for (int m = l; m < l + 4; ++m) tile[i * lanes + m] = line[m][i];
    }
}

template <class T>
inline void tile_to_lines(const T* tile, int lines, int count, T* const* line) {
    constexpr int lanes = tile_lanes<T>;
    int l = 0;
    for (; l + 4 <= lines; l += 4) {
        int i = 0;
        for (; i + 4 <= count; i += 4) rows_to_lines(tile + i * lanes + l, lanes, line + l, i);
        for (; i < count; ++i)
            for (int m = l; m < l + 4; ++m) line[m][i] = tile[i * lanes + m];
    }
    for (; l < lines; ++l)
        for (int i = 0; i < count; ++i) line[l][i] = tile[i * lanes + l];
}

ELASTICND_END
