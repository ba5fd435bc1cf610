// Converts image elements to and from the compute type, and pads images for some border modes.
#include "../include/elasticnd/boundary.hpp"
#include "tile.cuh"

ELASTICND_BEGIN

template <int SOURCE, class T>
__global__ void load(int64 size, const typename Element<SOURCE>::Storage* from, T* to) {
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < size) to[i] = static_cast<T>(Element<SOURCE>::load(from[i]));
}

// Converts elements to the compute type, and pads them with the voxel at the border or with `border_value`.
template <int SOURCE, class T>
__global__ void pad(Job job, int64 planes, const typename Element<SOURCE>::Storage* from, T* to) {
    const Geometry& g = job.geometry;
    int64 rest = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64 at = rest;
    int64 offset = 0;
    int64 stride = 1;
    bool inside = true;
    for (int k = g.axes - 1; k >= 0; --k) {
        const int64 extent = g.image[k] + 2 * g.padding;
        const int64 padded = rest % extent - g.padding;
        rest /= extent;
        const int64 voxel = minimum(maximum(padded, int64(0)), g.image[k] - 1);
        inside &= !holds_constant(g.mode) || voxel == padded;
        offset += voxel * stride;
        stride *= g.image[k];
    }
    if (rest >= planes) return;
    to[at] =
        inside ? static_cast<T>(Element<SOURCE>::load(from[rest * stride + offset])) : static_cast<T>(g.border_value);
}

// The transpose of the padding along one axis: (outer, extent + 2 padding, inner) to (outer, extent, inner).
template <class T>
__global__ void pad_adjoint(int mode, int padding, int64 outer, int64 extent, int64 inner, const T* from, T* to) {
    int64 rest = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (rest >= outer * extent * inner) return;
    const int64 at = rest;
    const int64 i = rest % inner;
    rest /= inner;
    const int64 voxel = rest % extent;
    from += rest / extent * (extent + 2 * padding) * inner + i;
    T sum = from[(voxel + padding) * inner];
    if (!holds_constant(mode))
        for (int j = 0; j < padding; ++j) {
            if (voxel == 0) sum += from[j * inner];
            if (voxel == extent - 1) sum += from[(extent + padding + j) * inner];
        }
    to[at] = sum;
}

template <int TARGET, class T>
__global__ void store(int64 size, const T* from, typename Element<TARGET>::Storage* to) {
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < size) to[i] = Element<TARGET>::store(static_cast<typename Element<TARGET>::Real>(from[i]));
}

ELASTICND_END
