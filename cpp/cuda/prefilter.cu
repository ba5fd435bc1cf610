// The prefilter and its transpose: each block of threads filters one block of 32 lines, in shared memory.
#include "../include/elasticnd/prefilter.hpp"
#include "tile.cuh"

ELASTICND_BEGIN

// Filters along one axis: `from` and `to` are (outer, extent, inner), apart from each other. With mirrored ends the
// filter F is symmetric only between the weights 1/2, 1, ..., 1, 1/2 of the samples: its transpose is D F / D.
template <int SOURCE, class T, bool TRANSPOSED>
__global__ void filter(int order, int extension, int64 outer, int64 extent, int64 inner,
                       const typename Element<SOURCE>::Storage* from, T* to) {
    T* const tile = dynamic_shared<T>();
    const int margin = block_margin<T>(order);
    const int64 blocks = ceil_of(extent, filter_length);
    const int64 first_line = blockIdx.x / blocks * filter_lines;
    const int64 start = blockIdx.x % blocks * filter_length;
    const int length = static_cast<int>(extent - start < filter_length ? extent - start : filter_length);
    const int64 total = outer * inner;
    const int lines = static_cast<int>(total - first_line < filter_lines ? total - first_line : filter_lines);
    const bool along = inner < 8;  // neighbours in memory lie along the axis
    const bool weighted = TRANSPOSED && extension == continued_mirrored && extent > 1;

    const int rows = margin + length + margin;
    for (int i = static_cast<int>(threadIdx.x); i < rows * filter_lines; i += filter_threads) {
        const int row = along ? i % rows : i / filter_lines;
        const int line = along ? i / rows : i % filter_lines;
        T value = T(0);
        if (line < lines) {
            const int64 sample = continued_index(start - margin + row, extent, extension);
            const int64 number = first_line + line;
            value = static_cast<T>(
                Element<SOURCE>::load(from[(number / inner * extent + sample) * inner + number % inner]));
            if (weighted && (sample == 0 || sample == extent - 1)) value *= T(2);
        }
        tile[row * filter_stride + line] = value;
    }
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < lines)
        filter_block<T, T, 1>(tile + threadIdx.x, length, margin, order, filter_stride);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < length * filter_lines; i += filter_threads) {
        const int row = along ? i % length : i / filter_lines;
        const int line = along ? i / length : i % filter_lines;
        if (line >= lines) continue;
        const int64 sample = start + row;
        const int64 number = first_line + line;
        T value = tile[(margin + row) * filter_stride + line];
        if (weighted && (sample == 0 || sample == extent - 1)) value *= T(0.5);
        to[(number / inner * extent + sample) * inner + number % inner] = value;
    }
}

ELASTICND_END
