// Locates the stencils of a row, eight voxels at a time. The results equal those of Walk::locate bit for bit, and take
// fewer instructions.
#pragma once
#include "kernels/walk.hpp"

ELASTICND_BEGIN

constexpr int max_located_axes = 3;

// Replaces the number type in jobs that need no weights, so that no places are stored.
struct NoPlace {
    NoPlace() = default;
    explicit NoPlace(double) {}
};

// A row in blocks of voxels. The last block ends where the row ends, so it may overlap the block before it.
template <class T>
struct Located {
    int count;  // voxels
    int blocks;
    bool everywhere;                           // every voxel has a position
    uint8 missing[row_length / block_voxels];  // for each block, bits of the voxels without one
    int32 offset[row_length];                  // of the first tap in the source, in bytes
    T place[max_located_axes][row_length];     // in the knot span

    int first_of(int block) const { return minimum(block * block_voxels, count - block_voxels); }
};

// What the transposes need in addition.
template <class T>
struct LocatedDetails {
    int32 lead[row_length];                 // what the first axis contributes to the offset, from the source's start
    T slope[max_located_axes][row_length];  // derivative of the folded coordinate
};

// One axis of a job. Coordinates in knot spans `lowest` to `highest` lie on the image, and need no folding.
struct LocatedAxis {
    KnotAxis knots;
    double reach;
    int32 lowest;
    int32 highest;
    int32 stride;  // in bytes
};

// The offsets at which the stencils at knot span 0 begin.
struct LocatedOrigin {
    uint32 offset;
    uint32 lead;  // at the source's first span along the first axis, and at span 0 along the others
};

// The coordinates of the voxels of a row along one axis.
struct RowAxis {
    PositionLine line;
    const double* grid;  // coefficients, contracted along all axes but the innermost
    double start;        // index of the first voxel
};

// The coordinates of a block along one axis, and the results of folding them into the image.
struct FoldedBlock {
    double x[block_voxels];  // coordinates, then places in the knot spans
    double slope[block_voxels];
    int32 span[block_voxels];
    uint8 missing;
};
using FoldBlock = void (*)(const LocatedAxis&, FoldedBlock&);

// The part of the work that is the same for all rows of a job.
template <class T>
class Locator {
   public:
    explicit Locator(const SampleJob& job);

    // Finds the stencils of the row that `walk` has visited. Does nothing and returns false if Walk::locate is needed:
    // for short rows, many axes, derivatives, control grids that are finer than the image or not finite, and stencils
    // that leave the source.
    bool locate(const Walk& walk, const Row& row, Located<T>& located, LocatedDetails<T>* details = nullptr) const;

   private:
    using LocateBlocks = void (*)(const LocatedAxis*, const RowAxis*, const GridBlock*, FoldBlock, LocatedOrigin,
                                  Located<T>&, LocatedDetails<T>*);

    bool set_axes();

    const SampleJob& job_;
    LocatedAxis axis_[max_located_axes];
    LocatedOrigin origin_;
    FoldBlock fold_block_ = nullptr;
    LocateBlocks locate_blocks_ = nullptr;  // null if Walk::locate is needed for all rows
};

// Calls body(first voxel, last voxel + 1) for each part of a row, leaving out blocks without any position.
template <class T, class Body>
inline void for_each_part(const Located<T>& row, Body body) {
    if (row.everywhere) return body(0, row.count);
    constexpr uint8 all = 255;
    for (int block = 0; block < row.blocks; ++block) {
        const int first = block;
        while (block < row.blocks && row.missing[block] != all) ++block;
        if (block > first) body(first * block_voxels, minimum(block * block_voxels, row.count));
    }
}

// Calls body(voxel) for each voxel without a position.
template <class T, class Body>
inline void for_each_missing(const Located<T>& row, Body body) {
    for (int block = 0; !row.everywhere && block < row.blocks; ++block)
        for (int l = 0; l < block_voxels; ++l)
            if (row.missing[block] >> l & 1) body(row.first_of(block) + l);
}

// Sets the same members of `row` as Walk::locate, except places, slopes and first taps.
template <class T>
inline void set_row(const Located<T>& located, Row& row) {
    row.everywhere = located.everywhere;
    row.inside = true;
    for (int i = 0; i < row.count; ++i) row.offset[i] = located.offset[i];
    if (row.everywhere) return;
    for (int i = 0; i < row.count; ++i) row.exists[i] = 1;
    for_each_missing(located, [&](int i) { row.exists[i] = 0; });
}

template <class T, int ORDER, int DERIVATIVE>
void weigh_located(const Located<T>& row, int axes, WeightRows<T>& weights) {
    for (int k = 0; k < axes; ++k) weigh_axis<T, ORDER, DERIVATIVE>(row.place[k], row.count, weights[k]);
}

template <class T>
using WeighLocated = void (*)(const Located<T>&, int axes, WeightRows<T>&);

// The weights of the splines, or of their first derivatives in the knot spans.
template <class T, int DERIVATIVE = 0>
inline WeighLocated<T> choose_weigh_located(int order) {
    return with_order(order, [](auto constant) -> WeighLocated<T> {
        return weigh_located<T, decltype(constant)::value, DERIVATIVE>;
    });
}

ELASTICND_END
