// Where the voxels of a row sample the source. Positions are doubles; everything that is computed from them stays in
// registers.
#include "kernels/located.hpp"

#if defined(__GNUC__) && defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/lanes.hpp"

ELASTICND_BEGIN

namespace {

constexpr double longest_offset = 2147483647;

#if defined(__GNUC__)

using Four = Vector<double, 4>;
using Integers = Vector<int32, block_voxels>;
using Offsets = Vector<uint32, block_voxels>;

struct Eight {
    Four half[2];
};

ELASTICND_FLAT Four spread(double value) { return Four{value, value, value, value}; }

ELASTICND_FLAT Four floor_of(const Four& x) {
#if defined(__AVX2__)
    return _mm256_floor_pd(x);
#else
    Four whole = {};
    for (int l = 0; l < 4; ++l) whole[l] = floor_of_small(x[l]);
    return whole;
#endif
}

// Converts whole numbers to integers. NaN, and numbers that do not fit, become the lowest integer.
ELASTICND_FLAT Integers to_integers(const Eight& whole) {
#if defined(__AVX2__)
    return (Integers)_mm256_set_m128i(_mm256_cvttpd_epi32(whole.half[1]), _mm256_cvttpd_epi32(whole.half[0]));
#else
    Integers integers = {};
    for (int l = 0; l < block_voxels; ++l) {
        const double x = whole.half[l / 4][l % 4];
        integers[l] = x > -longest_offset && x < longest_offset ? static_cast<int32>(x) : -2147483647 - 1;
    }
    return integers;
#endif
}

ELASTICND_FLAT void store_as(const Eight& values, double* to) { store_vector(to, values); }

ELASTICND_FLAT void store_as(const Eight& values, float* to) {
#if defined(__AVX2__)
    store_vector(to, _mm256_cvtpd_ps(values.half[0]));
    store_vector(to + 4, _mm256_cvtpd_ps(values.half[1]));
#else
    for (int l = 0; l < block_voxels; ++l) to[l] = static_cast<float>(values.half[l / 4][l % 4]);
#endif
}

ELASTICND_FLAT void store_as(const Eight&, NoPlace*) {}

ELASTICND_FLAT bool is_zero(const Integers& integers) {
#if defined(__AVX2__)
    return _mm256_testz_si256((__m256i)integers, (__m256i)integers);
#else
    int32 any = 0;
    for (int l = 0; l < block_voxels; ++l) any |= integers[l];
    return any == 0;
#endif
}

// One component of the displacement. Products with a weight of zero change no sum, since the grid is finite.
ELASTICND_FLAT Eight displacement_of(const double* weight, const double* coefficient, int taps) {
    auto product = [&](int tap, int half) ELASTICND_FLAT_LAMBDA {
        return load_vector<Four>(weight + tap * block_voxels + 4 * half) * spread(coefficient[tap]);
    };
    Eight sum;
    for (int half = 0; half < 2; ++half)
        sum.half[half] = ((product(0, half) + product(1, half)) + product(2, half)) + product(3, half);
    for (int tap = 4; tap < taps; ++tap)
        for (int half = 0; half < 2; ++half) sum.half[half] = sum.half[half] + product(tap, half);
    return sum;
}

// What is added to the coordinate: nothing, the shift to the knots, or also the padding of the image.
enum Shift { no_shift, knot_shift_alone, padding_too };

alignas(32) constexpr double counts[row_length] = {
    0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,  16,  17,  18,  19,  20,  21,
    22,  23,  24,  25,  26,  27,  28,  29,  30,  31,  32,  33,  34,  35,  36,  37,  38,  39,  40,  41,  42,  43,
    44,  45,  46,  47,  48,  49,  50,  51,  52,  53,  54,  55,  56,  57,  58,  59,  60,  61,  62,  63,  64,  65,
    66,  67,  68,  69,  70,  71,  72,  73,  74,  75,  76,  77,  78,  79,  80,  81,  82,  83,  84,  85,  86,  87,
    88,  89,  90,  91,  92,  93,  94,  95,  96,  97,  98,  99,  100, 101, 102, 103, 104, 105, 106, 107, 108, 109,
    110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127};

// Folds the coordinates of a block into the image, and moves its stencils into the source. If the source has all taps,
// this moves only stencils on the last voxel of an image that ends there. If the source box is wrong, it prevents reads
// out of range.
template <int MODE>
void fold_block(const LocatedAxis& own, FoldedBlock& block) {
    const KnotAxis& knots = own.knots;
    int32 lacks[block_voxels];
    for (int l = 0; l < block_voxels; ++l) {
        const Folded folded = fold_coordinate(block.x[l], knots.last, own.reach, MODE);
        const double shifted = folded.x + knots.shift;
        const double tap = maximum(knots.low, minimum(floor_of_small(shifted) - knots.before, knots.high));
        block.x[l] = shifted - (tap + knots.before);
        block.slope[l] = folded.slope;
        block.span[l] = static_cast<int32>(tap + knots.before);
        lacks[l] = folded.exists ? 0 : 1;
    }
    block.missing = 0;
    for (int l = 0; l < block_voxels; ++l) block.missing |= static_cast<uint8>(lacks[l] << l);
}

template <int MODE = 0>
FoldBlock choose_fold_block(int mode) {
    if constexpr (MODE + 1 < mode_count)
        if (mode != MODE) return choose_fold_block<MODE + 1>(mode);
    return fold_block<MODE>;
}

// One axis of a row: what is the same for all its blocks, and where results are stored.
template <class T>
struct AxisOfBlocks {
    const double* grid;
    Four base;
    Four start;
    Four step;
    Four shift;
    Four padding;
    Integers lowest;
    Integers highest;
    Offsets stride;
    T* place;
    T* slope;  // null for none

    AxisOfBlocks(const LocatedAxis& own, const RowAxis& axis, bool steps, T* places, T* slopes)
        : grid(axis.grid),
          // Sums of whole numbers are exact.
          base(spread(steps ? axis.line.base + axis.start : axis.line.base)),
          start(spread(axis.start)),
          step(spread(axis.line.step)),
          shift(spread(axis.line.shift)),
          padding(spread(axis.line.padding)),
          lowest(Integers{} + own.lowest),
          highest(Integers{} + own.highest),
          stride(Offsets{} + static_cast<uint32>(own.stride)),
          place(places),
          slope(slopes) {}
};

// A block, and what the axes located so far have contributed.
struct Block {
    const GridBlock& grid;
    int first;  // first voxel
    uint8 missing;
    Offsets offset;
};

// Adds what one axis contributes to the offsets, and stores the places. `STEPS` is set for the innermost axis, and
// `IS_MAPPED` for all axes of an affine map.
template <class T, bool STEPS, bool IS_MAPPED, int SHIFT>
ELASTICND_FLAT void locate_axis(const AxisOfBlocks<T>& axis, const LocatedAxis& own, FoldBlock fold, Block& block) {
    const Eight displacement = displacement_of(block.grid.weight, axis.grid + block.grid.cell, block.grid.taps);
    Eight x;
    Eight whole;
    Eight rest;
    for (int half = 0; half < 2; ++half) {
        Four place = axis.base;
        if constexpr (STEPS || IS_MAPPED) {
            const Four count = load_vector<Four>(counts + block.first + 4 * half);
            place = place + (IS_MAPPED ? (count + axis.start) * axis.step : count);
        }
        x.half[half] = place + displacement.half[half];
        if (SHIFT == padding_too) x.half[half] = x.half[half] + axis.padding;
        const Four shifted = SHIFT == no_shift ? x.half[half] : x.half[half] + axis.shift;
        // Without places, the order is 0. Coordinates below 1 are then folded, so truncation is right for all others.
        whole.half[half] = std::is_same_v<T, NoPlace> ? shifted : floor_of(shifted);
        rest.half[half] = shifted - whole.half[half];
    }
    Integers span = to_integers(whole);
    if (is_zero((span < axis.lowest) | (span > axis.highest))) {
        store_as(rest, axis.place + block.first);
    } else {
        // A copy: if `fold` took the address of `x`, `x` would be stored in memory for every block.
        FoldedBlock folded;
        store_vector(folded.x, x);
        fold(own, folded);
        store_as(load_vector<Eight>(folded.x), axis.place + block.first);
        span = load_vector<Integers>(folded.span);
        block.missing |= folded.missing;
        for (int l = 0; axis.slope && l < block_voxels; ++l) axis.slope[block.first + l] = T(folded.slope[l]);
    }
    block.offset = block.offset + (Offsets)span * axis.stride;
}

template <class T, int AXES, bool IS_MAPPED, int SHIFT>
void locate_blocks(const LocatedAxis* own, const RowAxis* axis, const GridBlock* blocks, FoldBlock fold,
                   LocatedOrigin origin, Located<T>& row, LocatedDetails<T>* details) {
    constexpr int inner = AXES - 1;
    constexpr bool steps = !IS_MAPPED;
    auto axis_of = [&](int k) {
        return AxisOfBlocks<T>(own[k], axis[k], steps && k == inner, row.place[k],
                               details ? details->slope[k] : nullptr);
    };
    const AxisOfBlocks<T> lead = axis_of(0);
    const AxisOfBlocks<T> middle = axis_of(AXES > 2 ? 1 : 0);
    const AxisOfBlocks<T> last = axis_of(inner);
    int32* const leads = details ? details->lead : nullptr;
    uint8 any_missing = 0;
    for (int i = 0; i < row.blocks; ++i) {
        Block block = {blocks[i], row.first_of(i), 0, Offsets{} + origin.offset};
        if constexpr (AXES > 1) locate_axis<T, false, IS_MAPPED, SHIFT>(lead, own[0], fold, block);
        if constexpr (AXES == 1) locate_axis<T, steps, IS_MAPPED, SHIFT>(last, own[0], fold, block);
        if (leads) store_vector(leads + block.first, block.offset - (Offsets{} + origin.lead));
        if constexpr (AXES > 2) locate_axis<T, false, IS_MAPPED, SHIFT>(middle, own[1], fold, block);
        if constexpr (AXES > 1) locate_axis<T, steps, IS_MAPPED, SHIFT>(last, own[inner], fold, block);
        store_vector(row.offset + block.first, block.offset);
        row.missing[i] = block.missing;
        any_missing |= block.missing;
    }
    row.everywhere = any_missing == 0;
}

template <class T, int AXES, bool IS_MAPPED>
auto choose_locate_blocks(const Geometry& geometry) {
    if (geometry.padding != 0) return locate_blocks<T, AXES, IS_MAPPED, padding_too>;
    return knot_shift(geometry.order) != 0 ? locate_blocks<T, AXES, IS_MAPPED, knot_shift_alone>
                                           : locate_blocks<T, AXES, IS_MAPPED, no_shift>;
}

template <class T, int AXES = 1>
auto choose_locate_blocks(const SampleJob& job) {
    if constexpr (AXES < max_located_axes)
        if (job.geometry.axes != AXES) return choose_locate_blocks<T, AXES + 1>(job);
    return job.inverse_map ? choose_locate_blocks<T, AXES, true>(job.geometry)
                           : choose_locate_blocks<T, AXES, false>(job.geometry);
}

#endif

}  // namespace

template <class T>
Locator<T>::Locator(const SampleJob& job) : job_(job) {
#if defined(__GNUC__)
    if (!set_axes()) return;
    fold_block_ = choose_fold_block(job.geometry.mode);
    locate_blocks_ = choose_locate_blocks<T>(job);
#endif
}

template <class T>
bool Locator<T>::set_axes() {
    const Geometry& geometry = job_.geometry;
    if (geometry.axes > max_located_axes || !job_.grid.finite) return false;
    if (job_.direct && blends_across_border(geometry.mode)) return false;
    double size = 0;  // of the source, in bytes
    double origin = 0;
    for (int k = 0; k < geometry.axes; ++k) {
        if (geometry.derivative[k] > 0 || geometry.box_extent[k] <= geometry.order) return false;
        const KnotAxis knots = knot_axis(job_, k);
        const double first = knots.low + knots.before;
        // At even orders, half of the first and of the last knot span lies beyond the border.
        const double lowest = maximum(knots.shift > 0 ? 1.0 : 0.0, first);
        const double highest = minimum(knots.last - 1, knots.high + knots.before);
        origin -= first * knots.stride;
        size += static_cast<double>(geometry.box_extent[k]) * (knots.stride < 0 ? -knots.stride : knots.stride);
        if (size > longest_offset || origin > longest_offset || origin < -longest_offset || first < -longest_offset ||
            lowest > longest_offset || highest > longest_offset || highest < -longest_offset)
            return false;
        axis_[k] = {knots, reach_of(job_), static_cast<int32>(lowest), static_cast<int32>(highest),
                    static_cast<int32>(knots.stride)};
    }
    const KnotAxis& lead = axis_[0].knots;
    origin_ = {static_cast<uint32>(static_cast<int64>(origin)),
               static_cast<uint32>(static_cast<int64>(origin + (lead.low + lead.before) * lead.stride))};
    return true;
}

template <class T>
bool Locator<T>::locate(const Walk& walk, const Row& row, Located<T>& located, LocatedDetails<T>* details) const {
    if (!locate_blocks_ || row.count < block_voxels) return false;
    const GridBlock* blocks = walk.inner_blocks(row);
    if (!blocks) return false;
    located.count = row.count;
    located.blocks = (row.count + block_voxels - 1) / block_voxels;
    const int axes = job_.geometry.axes;
    const double start = static_cast<double>(job_.geometry.from_origin(axes - 1, row.index[axes - 1]));
    RowAxis axis[max_located_axes];
    for (int k = 0; k < axes; ++k) {
        axis[k] = {walk.position_line(row, k), walk.inner_coefficients(k), start};
        if (!details) continue;
        for (T& slope : details->slope[k]) slope = T(1);
    }
    locate_blocks_(axis_, axis, blocks, fold_block_, origin_, located, details);
    return true;
}

template class Locator<float>;
template class Locator<double>;
template class Locator<NoPlace>;

ELASTICND_END
