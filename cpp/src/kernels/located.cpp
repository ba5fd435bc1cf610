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

// The coordinates of the voxels of a row along one axis.
struct RowAxis {
    PositionLine line;
    const double* grid;  // coefficients, contracted along all axes but the innermost
    double start;        // index of the first voxel
};

// How the voxels of blocks lie on the control grid: all in one cell, each block in at most two neighbouring cells, or
// in any cells.
enum Cells { same_cell, two_cells, many_cells };

// Consecutive blocks of a row that are located in the same way.
struct Stretch {
    Cells cells;
    int first;  // first voxel
    int block;  // first block
    int blocks;
};

struct Stretches {
    int count = 0;
    Stretch of[row_length / block_length];

    void add(const Stretch& stretch) {
        Stretch* before = count > 0 ? &of[count - 1] : nullptr;
        if (before && before->cells == stretch.cells && stretch.cells != same_cell &&
            before->first + before->blocks * block_length == stretch.first)
            before->blocks += stretch.blocks;
        else
            of[count++] = stretch;
    }
};

// Blocks in one cell become a stretch of their own only if there are enough of them to pay for the branches.
constexpr int min_same = 3;

template <class T>
Stretches stretches_of(const InnerGrid& inner, const Located<T>& row) {
    Stretches stretches;
    for (int block = 0; block < row.blocks;) {
        const int first = row.first_of(block);
        const int64 run = inner.run[first];
        Stretch stretch = {two_cells, first, block, 1};
        if (run >= block_length) {
            const int whole = static_cast<int>(minimum<int64>(run, row.count - first)) / block_length;
            stretch.blocks = maximum(whole, 1);
            if (whole >= min_same) stretch.cells = same_cell;
        } else if (inner.cell[first + run] != inner.cell[first] + 1 || run + inner.run[first + run] < block_length) {
            stretch.cells = many_cells;
        }
        stretches.add(stretch);
        block += stretch.blocks;
    }
    return stretches;
}

#if defined(__GNUC__)

using Four = Vector<double, 4>;
using Integers = Vector<int32, block_length>;
using Offsets = Vector<uint32, block_length>;

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
    for (int l = 0; l < block_length; ++l) {
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
    for (int l = 0; l < block_length; ++l) to[l] = static_cast<float>(values.half[l / 4][l % 4]);
#endif
}

ELASTICND_FLAT void store_as(const Eight&, NoPlace*) {}

ELASTICND_FLAT bool is_zero(const Integers& integers) {
#if defined(__AVX2__)
    return _mm256_testz_si256((__m256i)integers, (__m256i)integers);
#else
    int32 any = 0;
    for (int l = 0; l < block_length; ++l) any |= integers[l];
    return any == 0;
#endif
}

// The four coefficients for each voxel of a block, whose voxels all lie in one cell of the control grid.
struct OneCell {
    static constexpr bool is_same = true;
    Four coefficient[4];
    ELASTICND_FLAT OneCell(const double* grid, const InnerGrid& inner, int64 i) {
        for (int tap = 0; tap < 4; ++tap) coefficient[tap] = spread(grid[inner.cell[i] + tap]);
    }
    ELASTICND_FLAT Four operator()(int tap, int) const { return coefficient[tap]; }
};

// The same for a block whose last voxels may lie in the next cell.
struct TwoCells {
    static constexpr bool is_same = false;
    Four coefficient[5];
    Vector<int64, 4> in_next[2];
    ELASTICND_FLAT TwoCells(const double* grid, const InnerGrid& inner, int64 i) {
        const double* at = grid + inner.cell[i];
        const int64 run = inner.run[i];
        for (int tap = 0; tap < 4; ++tap) coefficient[tap] = spread(at[tap]);
        coefficient[4] = spread(at[run < block_length ? 4 : 3]);  // the grid may end there
        const Vector<int64, 4> lanes = {0, 1, 2, 3};
        for (int half = 0; half < 2; ++half) in_next[half] = lanes + 4 * half >= run;
    }
    ELASTICND_FLAT Four operator()(int tap, int half) const {
        return in_next[half] ? coefficient[tap + 1] : coefficient[tap];
    }
};

// The same for a block whose voxels lie in any cells.
struct ManyCells {
    static constexpr bool is_same = false;
    const double* grid;
    const int64* cell;
    ELASTICND_FLAT ManyCells(const double* given, const InnerGrid& inner, int64 i)
        : grid(given), cell(inner.cell + i) {}
    ELASTICND_FLAT Four operator()(int tap, int half) const {
        const double* at = grid + tap;
        const int64* some = cell + 4 * half;
        return Four{at[some[0]], at[some[1]], at[some[2]], at[some[3]]};
    }
};

// The change of the coordinate from voxel to voxel.
enum Step { no_step, one_step, any_step };

// What is added to the coordinate: nothing, the shift to the knots, or also the padding of the image.
enum Shift { no_shift, knot_shift_alone, padding_too };

alignas(32) constexpr double counts[row_length] = {
    0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,  16,  17,  18,  19,  20,  21,
    22,  23,  24,  25,  26,  27,  28,  29,  30,  31,  32,  33,  34,  35,  36,  37,  38,  39,  40,  41,  42,  43,
    44,  45,  46,  47,  48,  49,  50,  51,  52,  53,  54,  55,  56,  57,  58,  59,  60,  61,  62,  63,  64,  65,
    66,  67,  68,  69,  70,  71,  72,  73,  74,  75,  76,  77,  78,  79,  80,  81,  82,  83,  84,  85,  86,  87,
    88,  89,  90,  91,  92,  93,  94,  95,  96,  97,  98,  99,  100, 101, 102, 103, 104, 105, 106, 107, 108, 109,
    110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127};

// Where the results for a part of a row are stored. Offsets are stored block after block.
template <class T>
struct Target {
    uint8* missing;
    int32* offset;
    T* place;
    T* slope;  // null for none
};

// Folds the coordinates of a block into the image, and moves its stencils into the source. If the source has all taps,
// this moves only stencils on the last voxel of an image that ends there. If the source box is wrong, it prevents reads
// out of range.
template <class T, int MODE>
void fold_block(const LocatedAxis& own, const double* coordinates, int64 at, Target<T> to) {
    double x[block_length];
    double slope[block_length];
    int32 lacks[block_length];
    int32 span[block_length];
    std::memcpy(x, coordinates, sizeof x);
    const KnotAxis& knots = own.knots;
    for (int l = 0; l < block_length; ++l) {
        const Folded folded = fold_coordinate(x[l], knots.last, own.reach, MODE);
        const double shifted = folded.x + knots.shift;
        const double tap = maximum(knots.low, minimum(floor_of_small(shifted) - knots.before, knots.high));
        x[l] = shifted - (tap + knots.before);
        slope[l] = folded.slope;
        span[l] = static_cast<int32>(tap + knots.before);
        lacks[l] = folded.exists ? 0 : 1;
    }
    store_as(load_vector<Eight>(x), to.place + at);
    for (int l = 0; to.slope && l < block_length; ++l) to.slope[at + l] = T(slope[l]);
    uint8* const missing = to.missing + at / block_length;
    for (int l = 0; l < block_length; ++l) *missing |= static_cast<uint8>(lacks[l] << l);
    const Offsets stride = Offsets{} + static_cast<uint32>(own.stride);
    store_vector(to.offset + at, load_vector<Offsets>(to.offset + at) + load_vector<Offsets>(span) * stride);
}

template <class T>
using FoldBlock = void (*)(const LocatedAxis&, const double* coordinates, int64 at, Target<T> to);

template <class T, int MODE = 0>
FoldBlock<T> choose_fold_block(int mode) {
    if constexpr (MODE + 1 < mode_count)
        if (mode != MODE) return choose_fold_block<T, MODE + 1>(mode);
    return fold_block<T, MODE>;
}

// Adds what one axis contributes to the stencils of some blocks; the offsets of the first axis begin at `origin`.
template <class T, bool IS_FIRST, int STEP, int SHIFT, class Coefficients>
void locate_stretch(const LocatedAxis& own, const RowAxis& axis, const InnerGrid& inner, const Stretch& stretch,
                    FoldBlock<T> fold, int32 origin, Target<T> to) {
    Coefficients coefficient(axis.grid, inner, stretch.first);
    const double* weight[4];
    for (int tap = 0; tap < 4; ++tap) weight[tap] = inner.weight[tap] + stretch.first;
    const double* count = counts + stretch.first;
    // Sums of whole numbers are exact.
    const Four base = spread(STEP == one_step ? axis.line.base + axis.start : axis.line.base);
    const Integers lowest = Integers{} + own.lowest;
    const Integers highest = Integers{} + own.highest;
    const Offsets stride = Offsets{} + static_cast<uint32>(own.stride);
    const int64 length = stretch.blocks * block_length;
    int32* const offset = to.offset;
    T* const place_of = to.place;
    for (int64 i = 0; i < length; i += block_length) {
        if constexpr (!Coefficients::is_same) coefficient = Coefficients(axis.grid, inner, stretch.first + i);
        Eight x;
        Eight whole;
        Eight rest;
        for (int half = 0; half < 2; ++half) {
            const int64 at = i + 4 * half;
            const Four displacement = ((load_vector<Four>(weight[0] + at) * coefficient(0, half) +
                                        load_vector<Four>(weight[1] + at) * coefficient(1, half)) +
                                       load_vector<Four>(weight[2] + at) * coefficient(2, half)) +
                                      load_vector<Four>(weight[3] + at) * coefficient(3, half);
            Four place = base;
            if (STEP == one_step) place = place + load_vector<Four>(count + at);
            if (STEP == any_step) place = place + (load_vector<Four>(count + at) + spread(axis.start)) * axis.line.step;
            x.half[half] = place + displacement;
            if (SHIFT == padding_too) x.half[half] = x.half[half] + spread(axis.line.padding);
            const Four shifted = SHIFT == no_shift ? x.half[half] : x.half[half] + spread(axis.line.shift);
            whole.half[half] = floor_of(shifted);
            rest.half[half] = shifted - whole.half[half];
        }
        const Offsets before = IS_FIRST ? Offsets{} + static_cast<uint32>(origin) : load_vector<Offsets>(offset + i);
        const Integers span = to_integers(whole);
        if (is_zero((span < lowest) | (span > highest))) {
            store_as(rest, place_of + i);
            store_vector(offset + i, before + (Offsets)span * stride);
        } else {
            // A copy: if `fold` took the address of `x`, `x` would be stored in memory for every block.
            double coordinates[block_length];
            store_vector(coordinates, x);
            store_vector(offset + i, before);
            fold(own, coordinates, i, to);
        }
    }
}

// Where the results for one axis of a row are stored.
template <class T>
struct AxisTarget {
    Located<T>& row;
    T* place;
    T* slope;  // null for none

    Target<T> of(const Stretch& stretch) const {
        return {row.missing + stretch.block, row.offset + stretch.block * block_length, place + stretch.first,
                slope ? slope + stretch.first : nullptr};
    }
};

template <class T, bool IS_FIRST, int STEP, int SHIFT>
void locate_stretches(const LocatedAxis& own, const RowAxis& axis, const InnerGrid& inner, const Stretches& stretches,
                      FoldBlock<T> fold, int32 origin, const AxisTarget<T>& to) {
    for (int s = 0; s < stretches.count; ++s) {
        const Stretch& one = stretches.of[s];
        const auto locate = one.cells == same_cell   ? locate_stretch<T, IS_FIRST, STEP, SHIFT, OneCell>
                            : one.cells == two_cells ? locate_stretch<T, IS_FIRST, STEP, SHIFT, TwoCells>
                                                     : locate_stretch<T, IS_FIRST, STEP, SHIFT, ManyCells>;
        locate(own, axis, inner, one, fold, origin, to.of(one));
    }
}

template <class T, bool IS_FIRST, int STEP>
void locate_axis(const LocatedAxis& own, const RowAxis& axis, const InnerGrid& inner, const Stretches& stretches,
                 FoldBlock<T> fold, int32 origin, const AxisTarget<T>& to) {
    if (axis.line.padding != 0)
        locate_stretches<T, IS_FIRST, STEP, padding_too>(own, axis, inner, stretches, fold, origin, to);
    else if (axis.line.shift != 0)
        locate_stretches<T, IS_FIRST, STEP, knot_shift_alone>(own, axis, inner, stretches, fold, origin, to);
    else
        locate_stretches<T, IS_FIRST, STEP, no_shift>(own, axis, inner, stretches, fold, origin, to);
}

template <class T>
using LocateAxis = void (*)(const LocatedAxis&, const RowAxis&, const InnerGrid&, const Stretches&, FoldBlock<T>,
                            int32 origin, const AxisTarget<T>&);

template <class T, bool IS_FIRST>
LocateAxis<T> choose_locate_axis(bool is_mapped, bool is_inner) {
    if (is_mapped) return locate_axis<T, IS_FIRST, any_step>;
    return is_inner ? locate_axis<T, IS_FIRST, one_step> : locate_axis<T, IS_FIRST, no_step>;
}

// Moves the offsets of the last block, so that they end with the row.
void move_last_block(int blocks, int count, int32* offset) {
    const auto last = load_vector<Integers>(offset + (blocks - 1) * block_length);
    store_vector(offset + count - block_length, last);
}

// Stores what the first axis contributes to the offsets, which begin at `origin`; other axes are added later.
template <class T>
void keep_lead(const Located<T>& row, uint32 origin, int32* lead) {
    for (int block = 0; block < row.blocks; ++block) {
        const auto offset = load_vector<Offsets>(row.offset + block * block_length);
        store_vector(lead + block * block_length, offset - (Offsets{} + origin));
    }
    move_last_block(row.blocks, row.count, lead);
}

#endif

}  // namespace

Locator::Locator(const SampleJob& job) : job_(job) {
#if defined(__GNUC__)
    const Geometry& geometry = job.geometry;
    if (geometry.axes > max_located_axes || (job.direct && blends_across_border(geometry.mode))) return;
    double size = 0;  // of the source, in bytes
    double origin = 0;
    for (int k = 0; k < geometry.axes; ++k) {
        if (geometry.derivative[k] > 0 || geometry.box_extent[k] <= geometry.order) return;
        const KnotAxis knots = knot_axis(job, k);
        const double first = knots.low + knots.before;
        // At even orders, half of the first and of the last knot span lies beyond the border.
        const double lowest = maximum(knots.shift > 0 ? 1.0 : 0.0, first);
        const double highest = minimum(knots.last - 1, knots.high + knots.before);
        origin -= first * knots.stride;
        size += static_cast<double>(geometry.box_extent[k]) * (knots.stride < 0 ? -knots.stride : knots.stride);
        if (size > longest_offset || origin > longest_offset || origin < -longest_offset || first < -longest_offset ||
            lowest > longest_offset || highest > longest_offset || highest < -longest_offset)
            return;
        axis_[k] = {knots, reach_of(job), static_cast<int32>(lowest), static_cast<int32>(highest),
                    static_cast<int32>(knots.stride)};
    }
    origin_ = static_cast<int32>(origin);
    const KnotAxis& lead = axis_[0].knots;
    lead_origin_ = static_cast<uint32>(static_cast<int64>(origin + (lead.low + lead.before) * lead.stride));
    is_possible_ = true;
#endif
}

template <class T>
bool Locator::locate(const Walk& walk, const Row& row, Located<T>& located, LocatedDetails<T>* details) const {
#if defined(__GNUC__)
    if (!is_possible_ || row.count < block_length) return false;
    located.count = row.count;
    located.blocks = (row.count + block_length - 1) / block_length;
    std::memset(located.missing, 0, sizeof located.missing);
    const int inner = job_.geometry.axes - 1;
    const InnerGrid grid = walk.inner_grid();
    const Stretches stretches = stretches_of(grid, located);
    const auto fold = choose_fold_block<T>(job_.geometry.mode);
    const double start = static_cast<double>(job_.geometry.from_origin(inner, row.index[inner]));
    for (int k = 0; k <= inner; ++k) {
        const RowAxis axis = {walk.position_line(row, k), grid.coefficients + k * grid.component_size, start};
        const bool is_mapped = job_.inverse_map;
        const auto locate_one = k == 0 ? choose_locate_axis<T, true>(is_mapped, k == inner)
                                       : choose_locate_axis<T, false>(is_mapped, k == inner);
        T* const slope = details ? details->slope[k] : nullptr;
        if (slope)
            for (int i = 0; i < row_length; ++i) slope[i] = T(1);
        locate_one(axis_[k], axis, grid, stretches, fold, origin_, {located, located.place[k], slope});
        if (details && k == 0) keep_lead(located, lead_origin_, details->lead);
    }
    move_last_block(located.blocks, located.count, located.offset);
    const uint8 none[sizeof located.missing] = {};
    located.everywhere = std::memcmp(located.missing, none, sizeof none) == 0;
    return true;
#else
    return false;
#endif
}
template bool Locator::locate(const Walk&, const Row&, Located<float>&, LocatedDetails<float>*) const;
template bool Locator::locate(const Walk&, const Row&, Located<double>&, LocatedDetails<double>*) const;
template bool Locator::locate(const Walk&, const Row&, Located<NoPlace>&, LocatedDetails<NoPlace>*) const;

ELASTICND_END
