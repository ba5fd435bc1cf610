// The weights of the control grid along the innermost axis, which all rows of an output share.
#include "kernels/inner_weights.hpp"

#include <cstring>

#include "elasticnd/boundary.hpp"
#include "elasticnd/grid.hpp"

ELASTICND_BEGIN

namespace {

// Returns how many coefficients, from the first of the first voxel on, a block uses; or 0 if they are too many.
int taps_of_block(const int64* cell) {
    int64 last = cell[0];
    for (int l = 1; l < block_voxels; ++l) {
        if (cell[l] < cell[0]) return 0;
        last = maximum(last, cell[l]);
    }
    const int64 taps = last - cell[0] + 4;
    return taps <= max_block_taps ? static_cast<int>(taps) : 0;
}

// Fills the weights of a block, from those of its first voxel on.
void fill_block(const int64* cell, const double* weight, int64 stride, int taps, double* to) {
    if (taps == 4) {
        for (int tap = 0; tap < 4; ++tap)
            std::memcpy(to + tap * block_voxels, weight + tap * stride, block_voxels * sizeof(double));
        return;
    }
    for (int i = 0; i < taps * block_voxels; ++i) to[i] = 0;
    for (int l = 0; l < block_voxels; ++l)
        for (int tap = 0; tap < 4; ++tap) to[(cell[l] - cell[0] + tap) * block_voxels + l] = weight[tap * stride + l];
}

}  // namespace

void inner_grid_weights(const Geometry& geometry, int64 first, int64 count, int64* cell, int64* run, double* weight,
                        int64 stride) {
    const int k = geometry.axes - 1;
    const int64 extent = geometry.frame[k];
    const int64 points = geometry.grid_shape[k];
    const bool varies = extent > 1 && points > 1;
    const double start = static_cast<double>(geometry.start[k] + first);
    const double frame_start = geometry.frame_start[k];
    const double frame_step = geometry.frame_step[k];
    const double cells = varies ? static_cast<double>(points - 1) : 0;
    const double voxels = varies ? static_cast<double>(extent - 1) : 1;
    const double last = static_cast<double>(maximum<int64>(points - 2, 0));
    double whole[row_length];
    for (int64 done = 0; done < count; done += row_length) {
        const int some = static_cast<int>(minimum<int64>(row_length, count - done));
        double* w = weight + done;
        for (int i = 0; i < some; ++i) {
            const double f = frame_start + frame_step * (start + static_cast<double>(done) + i);
            const double g = f * cells / voxels;
            whole[i] = maximum(minimum(floor_of_small(g), last), 0.0);
            double weights[4];
            spline_weights<3, 0>(g - whole[i], weights);
            for (int tap = 0; tap < 4; ++tap) w[tap * stride + i] = weights[tap];
        }
        for (int i = 0; points == 1 && i < some; ++i) single_point_weights(w + i, stride);
        to_integers(whole, some, cell + done);
    }
    for (int64 i = count - 1; i >= 0; --i) run[i] = i + 1 < count && cell[i + 1] == cell[i] ? run[i + 1] + 1 : 1;
}

bool arrange_inner_blocks(const int64* cell, const double* weight, int64 stride, int64 count, int64 unit_length,
                          GridBlock* blocks, double* block_weight) {
    for (int64 start = 0; start < count; start += unit_length) {
        const int64 voxels = minimum(unit_length, count - start);
        GridBlock* block = blocks + start / block_voxels;
        for (int64 at = 0; at < voxels && voxels >= block_voxels; at += block_voxels) {
            const int64 first = start + minimum(at, voxels - block_voxels);
            const int taps = taps_of_block(cell + first);
            if (taps == 0) return false;
            fill_block(cell + first, weight + first, stride, taps, block_weight);
            *block++ = {cell[first], block_weight, taps};
            block_weight += taps * block_voxels;
        }
    }
    return true;
}

ELASTICND_END
