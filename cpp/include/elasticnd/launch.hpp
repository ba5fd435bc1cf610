// How the CUDA kernels are launched: the threads of a block, and what it works on. The engine in Python has these
// numbers from the core.
#pragma once
#include "platform.hpp"

ELASTICND_BEGIN

constexpr int flat_threads = 256;  // of kernels with a thread for each number
constexpr int evaluation_threads = 128;

// Kernels that visit voxels.
constexpr int tile_threads = 256;
constexpr int tile_blocks = 3;  // that a multiprocessor is to hold at least: what bounds the registers of a thread

// AXES is the number of deformed axes, or 0 for four and more.
template <int AXES>
struct Tile {
    static constexpr int most_axes = AXES ? AXES : max_axes;
    static constexpr int inner = AXES == 1 ? tile_threads : 32;
    static constexpr int rows = tile_threads / inner;
    static constexpr int second = AXES == 1 ? 1 : AXES == 2 ? rows : 4;  // rows along the next axis ...
    static constexpr int third = rows / second;                          // ... and along the one after
    static constexpr int window = 40;                                    // coefficients of a row, at most
};

// Filters take lines side by side into shared memory.
constexpr int filter_threads = 128;
constexpr int filter_lines = 32;
constexpr int filter_length = 64;                // coefficients that a block computes
constexpr int filter_stride = filter_lines + 1;  // odd, so that no two lines share a bank of the memory

ELASTICND_END
