// The control grid and the affine maps, made ready for the kernels that visit voxels.
#include "../include/elasticnd/affine.hpp"
#include "tile.cuh"

ELASTICND_BEGIN

// One coefficient more on every side of each axis, mirrored: (planes, points ...) to (planes, points + 2 ...).
__global__ void extend_grid(Geometry g, int64 planes, const double* from, double* to) {
    int64 rest = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64 at = rest;
    int64 offset = 0;
    int64 stride = 1;
    for (int k = g.axes - 1; k >= 0; --k) {
        const int64 width = g.points[k] + 2 > 4 ? g.points[k] + 2 : 4;
        offset += fold_mirror(rest % width - 1, g.points[k]) * stride;
        rest /= width;
        stride *= g.points[k];
    }
    if (rest < planes) to[at] = from[rest * stride + offset];
}

// The transpose along one axis: (outer, points + 2, inner) to (outer, points, inner).
__global__ void fold_grid(int64 outer, int64 points, int64 inner, const double* from, double* to) {
    int64 rest = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (rest >= outer * points * inner) return;
    const int64 at = rest;
    const int64 width = points + 2 > 4 ? points + 2 : 4;
    const int64 i = rest % inner;
    rest /= inner;
    from += rest / points * width * inner + i;
    double sum = 0;
    for (int64 q = 0; q < width; ++q)
        if (fold_mirror(q - 1, points) == rest % points) sum += from[q * inner];
    to[at] = sum;
}

// The cell of the control grid and its weights for each output index, axis after axis.
__global__ void tabulate(Geometry g, int64 size, double* weights, int64* cells) {
    const int64 number = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (number >= size) return;
    int axis = 0;
    int64 index = number;
    while (index >= g.output[axis]) index -= g.output[axis++];
    cells[number] = grid_weights(g.crop[axis] + index, g.image[axis], g.points[axis], weights + 4 * number);
}

// The maps from output index to image index: the inverses of `forward`, and then `fixed`, if they are not null.
__global__ void invert(int axes, int64 count, const double* forward, const double* fixed, double* maps) {
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const int64 size = axes * (axes + 1);
    AffineMap then = {};
    if (fixed) load_map(axes, fixed, then);
    AffineMap map = {}, inverse = {};
    load_map(axes, forward + i * size, map);
    invert_map(axes, map, inverse);
    store_composed(axes, inverse, fixed ? &then : nullptr, maps + i * size);
}

ELASTICND_END
