// The affine maps, prepared for the kernels that visit voxels.
#include "../include/elasticnd/affine.hpp"
#include "tile.cuh"

ELASTICND_BEGIN

// Computes the maps from output index to image index: the inverse of each map in `forward`, followed by the inverse of
// rotation and zoom, if any. If `forward` is null, the inverse of rotation and zoom alone. With many axes, the matrices
// lie in shared memory, two for each thread.
template <int AXES>
__global__ void invert(const __grid_constant__ Job job, int64 count, const double* forward, double* inverse_maps) {
    const int axes = axes_of<AXES>(job.geometry);
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const int64 size = axes * (axes + 1);
    if (!forward) {
        ELASTICND_ROLLED
        for (int64 k = 0; k < size; ++k) inverse_maps[i * size + k] = job.inverse_rotation_zoom[k];
        return;
    }
    const auto compute = [&](AffineMap& map, AffineMap& inverse) {
        load_map(axes, forward + i * size, map);
        invert_in_place(axes, map, inverse);
        store_composed(axes, inverse, job.rotates ? job.inverse_rotation_zoom : nullptr, inverse_maps + i * size);
    };
    if constexpr (AXES != 0) {
        AffineMap map, inverse;
        compute(map, inverse);
    } else {
        AffineMap* const maps = dynamic_shared<AffineMap>() + 2 * threadIdx.x;
        compute(maps[0], maps[1]);
    }
}

ELASTICND_END
