// How the voxels of the output are assigned to blocks of threads.
//
// A block works on a tile of the output: eight adjacent rows, one for each warp, of 32 voxels along the innermost axis,
// or 256 voxels of a single axis. Kernels for one, two and three axes are compiled separately, so that all loops over
// axes are unrolled, and per-axis values stay in registers. Kernels with AXES = 0 serve more axes, and extents that
// exceed 32 bits.
#pragma once
#include "../include/elasticnd/dtypes.hpp"
#include "../include/elasticnd/job.hpp"
#include "../include/elasticnd/launch.hpp"

ELASTICND_BEGIN

// Shared memory of the size that the launch requests.
template <class T>
__device__ T* dynamic_shared() {
#if defined(ELASTICND_CUDA)
    extern __shared__ double dynamic_memory[];
    return reinterpret_cast<T*>(dynamic_memory);
#else
    return static_cast<T*>(dynamic_shared_memory());
#endif
}

__device__ inline int64 ceil_of(int64 a, int64 b) { return (a + b - 1) / b; }

// The type of indices along an axis, strides, and row numbers. If these do not fit in 32 bits, the engine chooses
// kernels with AXES = 0. Voxel numbers within a plane are always int64.
template <int AXES>
struct IndexOf {
    using Type = int;
};
template <>
struct IndexOf<0> {
    using Type = int64;
};

template <int AXES>
__device__ int axes_of(const Geometry& g) {
    if constexpr (AXES != 0) return AXES;
    return g.axes;
}

// Read or write element k of an array in a rolled loop. They compare k with each index, because an index unknown to the
// compiler would move the array from registers to memory. COUNT is 0 for arrays that are in memory anyway.
template <int COUNT, class T>
__device__ T pick(const T* values, int k) {
    if constexpr (COUNT == 0) return values[k];
    T value = values[0];
    ELASTICND_UNROLLED
    for (int i = 1; i < COUNT; ++i)
        if (i == k) value = values[i];
    return value;
}
template <int COUNT, class T>
__device__ void put(T* values, int k, T value) {
    if constexpr (COUNT == 0) {
        values[k] = value;
    } else {
        ELASTICND_UNROLLED
        for (int i = 0; i < COUNT; ++i)
            if (i == k) values[i] = value;
    }
}

// Calls body(tap) for all taps along an axis, in an unrolled or a rolled loop.
template <int TAPS, bool UNROLLED, class Body>
__device__ void repeat(const Body& body) {
    if constexpr (UNROLLED) {
        ELASTICND_UNROLLED
        for (int tap = 0; tap < TAPS; ++tap) body(tap);
    } else {
        ELASTICND_ROLLED
        for (int tap = 0; tap < TAPS; ++tap) body(tap);
    }
}

// The voxels that a block works on, and the one that belongs to this thread.
template <int AXES>
class Place {
   public:
    using Own = Tile<AXES>;
    using Index = typename IndexOf<AXES>::Type;
    static constexpr int most = Own::most_axes;

    // `tiles` is the number of blocks that share a row.
    __device__ Place(const Geometry& g, int64 tiles)
        : lane(static_cast<int>(threadIdx.x % Own::inner)), own_row(static_cast<int>(threadIdx.x / Own::inner)) {
        if constexpr (AXES != 0) {
            const unsigned own_tiles = static_cast<unsigned>(tiles);
            item = static_cast<int>(blockIdx.x / own_tiles);
            if constexpr (AXES > 1)
                settle(g, AXES - 2, static_cast<int>(blockIdx.y) * Own::second + own_row % Own::second);
            if constexpr (AXES > 2)
                settle(g, AXES - 3, static_cast<int>(blockIdx.z) * Own::third + own_row / Own::second);
            step_to(g, static_cast<int>(blockIdx.x % own_tiles) * Own::inner);
        } else {
            int64 block = blockIdx.x;
            const int64 tile = block % tiles;
            block /= tiles;
            const int inner = g.axes - 1;
            // With few axes, the tile has fewer rows of voxels than the block has rows of threads.
            active_row = own_row < (inner > 1 ? Own::rows : inner == 1 ? Own::second : 1);
            for (int k = inner - 1; k >= 0; --k) {
                const int step = k == inner - 1 ? Own::second : k == inner - 2 ? Own::third : 1;
                const int own = k == inner - 1 ? own_row % Own::second : k == inner - 2 ? own_row / Own::second : 0;
                const int64 count = ceil_of(g.output[k], step);
                settle(g, k, block % count * step + own);
                block /= count;
            }
            item = block;
            step_to(g, tile * Own::inner);
        }
    }
    // Moves to the voxels from index `start` of the rows.
    __device__ void step_to(const Geometry& g, Index start) {
        const int inner = axes_of<AXES>(g) - 1;
        first = start;
        index[inner] = start + lane;
        active = active_row && index[inner] < static_cast<Index>(g.output[inner]);
    }
    // The number of voxels in each row of the tile.
    __device__ int count(const Geometry& g) const {
        const Index left = static_cast<Index>(g.output[axes_of<AXES>(g) - 1]) - first;
        return left < Own::inner ? static_cast<int>(left) : Own::inner;
    }
    // The number of rows in a plane of the output, and the number of voxels.
    __device__ static Index rows(const Geometry& g) {
        Index count = 1;
        ELASTICND_UNROLLED
        for (int k = 0; k < axes_of<AXES>(g) - 1; ++k) count *= static_cast<Index>(g.output[k]);
        return count;
    }
    __device__ static int64 voxels(const Geometry& g) {
        return int64(rows(g)) * static_cast<Index>(g.output[axes_of<AXES>(g) - 1]);
    }
    // The index of this thread's row in its plane, and the index of its voxel.
    __device__ Index row(const Geometry& g) const {
        Index number = 0;
        ELASTICND_UNROLLED
        for (int k = 0; k < axes_of<AXES>(g) - 1; ++k) number = number * static_cast<Index>(g.output[k]) + index[k];
        return number;
    }
    __device__ int64 voxel(const Geometry& g) const {
        const int inner = axes_of<AXES>(g) - 1;
        return int64(row(g)) * static_cast<Index>(g.output[inner]) + index[inner];
    }

    Index item;
    int lane;
    int own_row;
    Index first;  // index of the tile's first voxel along its rows
    Index index[most];
    bool active_row = true;
    bool active;

   private:
    // Sets the index along an outer axis. Threads beyond the output get the index of the last row, and are inactive.
    __device__ void settle(const Geometry& g, int axis, Index own) {
        const Index output = static_cast<Index>(g.output[axis]);
        active_row &= own < output;
        index[axis] = own < output ? own : output - 1;
    }
};

// Waits for the threads of a row, whose writes to shared memory are then visible to each other.
template <int AXES>
__device__ void synchronize_row() {
    if constexpr (AXES == 1)
        __syncthreads();
    else
        __syncwarp();
}

ELASTICND_END
