// The launch parameters of CUDA kernels: the number of threads in a block, and the region that the block works on. The
// Python engine gets these numbers from the core.
#pragma once
#include "platform.hpp"

ELASTICND_BEGIN

constexpr int flat_threads = 256;  // threads per block in kernels with one thread per number
constexpr int evaluation_threads = 128;

// Threads per block in kernels that visit voxels.
constexpr int tile_threads = 256;

// The minimum number of resident blocks per multiprocessor, which limits each thread to 64, 80, 128 or 255 registers.
// The registers must hold the weights of a stencil along each axis, and whatever else a kernel needs. The constants
// come from measurements: with them, no kernel spills registers to memory.
template <class T, int AXES>
ELASTICND_INLINE constexpr int tile_blocks(int weights, int besides = 0) {
    const int registers = 34 + AXES * weights * static_cast<int>(sizeof(T)) * 5 / 8 + besides;
    return AXES == 0 || registers <= 64 ? 4 : registers <= 80 ? 3 : registers <= 128 ? 2 : 1;
}
constexpr int registers_of_derivatives = 10, registers_of_slopes = 30, registers_of_fixed_sums = 30;
constexpr int registers_of_wide_labels = 16;

// The tile of the output that a block works on. AXES is the number of deformed axes, or 0 for four and more.
template <int AXES>
struct Tile {
    static constexpr int most_axes = AXES ? AXES : max_axes;
    static constexpr int inner = AXES == 1 ? tile_threads : 32;
    static constexpr int rows = tile_threads / inner;
    static constexpr int second = AXES == 1 ? 1 : AXES == 2 ? rows : 4;  // rows along the next axis ...
    static constexpr int third = rows / second;                          // ... and along the axis after that
    static constexpr int window = 40;  // coefficients of a row in shared memory at a time
    // The number of threads that compute one component of a row: the components share the row's warp.
    static constexpr int lanes = AXES == 1 ? tile_threads : AXES == 2 ? 16 : AXES == 3 ? 8 : 4;
};

// Filters load `filter_lines` adjacent lines into shared memory at a time. The prefilter has one thread for each line.
constexpr int filter_threads = 128;  // threads per block in the filter of the control grid
constexpr int filter_lines = 32;
constexpr int filter_length = 64;                // coefficients of a line that a block computes
constexpr int filter_stride = filter_lines + 1;  // odd, so that no two lines share a memory bank

ELASTICND_END
