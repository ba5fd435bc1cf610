// The weights of the control grid along the innermost axis, which all rows of an output share.
#pragma once
#include "elasticnd/dtypes.hpp"
#include "kernels/table.hpp"

ELASTICND_BEGIN

// Converts whole numbers below 2^51 to integers, without the conversion that AVX2 lacks.
inline void to_integers(const double* whole, int count, int64* integer) {
    const double shift = 6755399441055744.0;  // 3 * 2^51: the low bits of a sum are the integer
    const int64 shift_bits = bits_as<int64>(shift);
    for (int i = 0; i < count; ++i) integer[i] = bits_as<int64>(whole[i] + shift) - shift_bits;
}

// Computes the weights of `count` voxels from output index `first` on; those of one tap lie `stride` before those of
// the next. run[i] counts the voxels from i on that lie in the same cell.
void inner_grid_weights(const Geometry& geometry, int64 first, int64 count, int64* cell, int64* run, double* weight,
                        int64 stride);

// Arranges these weights in blocks, unit after unit. The last block of a unit ends where the unit ends, so it may
// overlap the block before it. Units of less than a block have none. Returns false if a block would span too many
// cells. There must be room for max_block_taps weights of every voxel of a block.
bool arrange_inner_blocks(const int64* cell, const double* weight, int64 stride, int64 count, int64 unit_length,
                          GridBlock* blocks, double* block_weight);

ELASTICND_END
