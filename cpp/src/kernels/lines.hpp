// Sums over lines of four coefficients, for eight voxels at a time. Every sum adds in the order of ManyTaps::dot, so
// the bits are the same.
#pragma once
#include "kernels/lanes.hpp"
#include "kernels/located.hpp"
#include "kernels/stencil.hpp"

ELASTICND_BEGIN

template <class T, int TAPS>
constexpr bool sums_in_blocks = sizeof(T) == sizeof(float) && TAPS == 4;

// A line of coefficients for each voxel of a block.
struct BlockOfLines {
    using Four = Vector<float, 4>;
    using Eight = Vector<float, block_voxels>;
    Four line[block_voxels];

    // The dot product of each line with the weights of its voxel. `weight` points to the weight of the first tap for
    // the first voxel.
    ELASTICND_FLAT Eight dot(const float* weight) const {
        Eight tap[4];
        transpose(tap);
        auto product = [&](int t) ELASTICND_FLAT_LAMBDA { return tap[t] * load_vector<Eight>(weight + t * tap_step); };
        return (product(0) + product(1)) + (product(2) + product(3));
    }

   private:
    // Collects each tap of all voxels in one vector.
    ELASTICND_FLAT void transpose(Eight* tap) const {
#if defined(ELASTICND_SHUFFLES)
        // With voxels that are four apart in one vector, halves of vectors need not be exchanged.
        Eight pair[4];
        for (int l = 0; l < 4; ++l) pair[l] = __builtin_shufflevector(line[l], line[l + 4], 0, 1, 2, 3, 4, 5, 6, 7);
        const Eight low = __builtin_shufflevector(pair[0], pair[1], 0, 8, 1, 9, 4, 12, 5, 13);
        const Eight high = __builtin_shufflevector(pair[0], pair[1], 2, 10, 3, 11, 6, 14, 7, 15);
        const Eight next_low = __builtin_shufflevector(pair[2], pair[3], 0, 8, 1, 9, 4, 12, 5, 13);
        const Eight next_high = __builtin_shufflevector(pair[2], pair[3], 2, 10, 3, 11, 6, 14, 7, 15);
        tap[0] = __builtin_shufflevector(low, next_low, 0, 1, 8, 9, 4, 5, 12, 13);
        tap[1] = __builtin_shufflevector(low, next_low, 2, 3, 10, 11, 6, 7, 14, 15);
        tap[2] = __builtin_shufflevector(high, next_high, 0, 1, 8, 9, 4, 5, 12, 13);
        tap[3] = __builtin_shufflevector(high, next_high, 2, 3, 10, 11, 6, 7, 14, 15);
#else
        for (int t = 0; t < 4; ++t)
            for (int l = 0; l < block_voxels; ++l) tap[t][l] = line[l][t];
#endif
    }
};

ELASTICND_END
