// The coefficients of a small control grid, computed in one launch.
#include "../include/elasticnd/prefilter.hpp"
#include "control.cuh"

ELASTICND_BEGIN

// Computes the coefficients, with an extra mirrored one on every side: (planes, points ...) to (planes, points + 2
// ...). Each block computes one plane, axis by axis.
template <int AXES>
__global__ void __launch_bounds__(filter_threads)
    grid_coefficients(const __grid_constant__ Job job, const double* points, double* field) {
    constexpr int order = 3, margin = block_margin<double>(order), most = Tile<AXES>::most_axes;
    const Geometry& g = job.geometry;
    const int axes = axes_of<AXES>(g);
    double* const tile = dynamic_shared<double>();
    int64 stride[most], size = 1, count = 1;
    ELASTICND_UNROLLED
    for (int k = axes - 1; k >= 0; --k) {
        stride[k] = size;
        size *= extended_points(g.grid_shape[k]);
        count *= g.grid_shape[k];
    }
    points += blockIdx.x * count;
    field += blockIdx.x * size;
    ELASTICND_ROLLED
    for (int64 i = threadIdx.x; i < count; i += filter_threads) {
        int64 rest = i, at = 0;
        ELASTICND_UNROLLED
        for (int k = axes - 1; k >= 0; --k) {
            at += (1 + rest % g.grid_shape[k]) * stride[k];
            rest /= g.grid_shape[k];
        }
        field[at] = points[i];
    }
    ELASTICND_ROLLED
    for (int axis = 0; axis < axes; ++axis) {
        // Axes before this one already have their extra coefficients; those after it do not yet.
        const int length = static_cast<int>(g.grid_shape[axis]);
        const int width = static_cast<int>(extended_points(length));
        const int rows = length + 2 * margin;
        const int64 step = pick<AXES>(stride, axis);
        const auto extent_of = [&](int k) { return k < axis ? extended_points(g.grid_shape[k]) : g.grid_shape[k]; };
        int64 lines = 1;
        ELASTICND_UNROLLED
        for (int k = 0; k < axes; ++k)
            if (k != axis) lines *= extent_of(k);
        const auto start_of = [&](int64 line) {
            int64 at = 0;
            ELASTICND_UNROLLED
            for (int k = axes - 1; k >= 0; --k) {
                if (k == axis) continue;
                at += (line % extent_of(k) + (k > axis)) * stride[k];
                line /= extent_of(k);
            }
            return at;
        };
        ELASTICND_ROLLED
        for (int64 first = 0; first < lines; first += filter_lines) {
            const int some = static_cast<int>(minimum<int64>(lines - first, filter_lines));
            __syncthreads();
            ELASTICND_ROLLED
            for (int i = static_cast<int>(threadIdx.x); i < rows * some; i += filter_threads) {
                const int sample = fold_mirror(i / some - margin, length);
                tile[i / some * filter_stride + i % some] = field[start_of(first + i % some) + (1 + sample) * step];
            }
            __syncthreads();
            if (length > 1 && static_cast<int>(threadIdx.x) < some)
                filter_block<double, double, 1>(tile + threadIdx.x, length, margin, order, filter_stride);
            __syncthreads();
            ELASTICND_ROLLED
            for (int i = static_cast<int>(threadIdx.x); i < width * some; i += filter_threads) {
                const int sample = fold_mirror(i / some - 1, length);
                field[start_of(first + i % some) + i / some * step] =
                    tile[(margin + sample) * filter_stride + i % some];
            }
        }
    }
}

ELASTICND_END
