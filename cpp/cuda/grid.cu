// The control grid and the affine maps, made ready for the kernels that visit voxels.
#include "../include/elasticnd/affine.hpp"
#include "../include/elasticnd/prefilter.hpp"
#include "control.cuh"

ELASTICND_BEGIN

// The coefficients of the control grid, with one more on every side, mirrored: (planes, points ...) to (planes, points
// + 2
// ...). A block computes a plane, axis after axis, which takes one launch where grids are small.
__global__ void grid_coefficients(Job job, const double* points, double* field) {
    const Geometry& g = job.geometry;
    constexpr int order = 3;
    double* const tile = dynamic_shared<double>();
    const int margin = block_margin<double>(order);
    int64 stride[max_axes], size = 1, count = 1;
    for (int k = g.axes - 1; k >= 0; --k) {
        stride[k] = size;
        size *= extended_points(g.grid_shape[k]);
        count *= g.grid_shape[k];
    }
    points += blockIdx.x * count;
    field += blockIdx.x * size;
    for (int64 i = threadIdx.x; i < count; i += filter_threads) {
        int64 rest = i, at = 0;
        for (int k = g.axes - 1; k >= 0; --k) {
            at += (1 + rest % g.grid_shape[k]) * stride[k];
            rest /= g.grid_shape[k];
        }
        field[at] = points[i];
    }
    for (int axis = 0; axis < g.axes; ++axis) {
        // Axes before this one have their border by now, those behind it not yet.
        const int length = static_cast<int>(g.grid_shape[axis]);
        const int width = static_cast<int>(extended_points(length));
        const int rows = length + 2 * margin;
        int64 lines = 1;
        for (int k = 0; k < g.axes; ++k)
            if (k != axis) lines *= k < axis ? extended_points(g.grid_shape[k]) : g.grid_shape[k];
        auto start_of = [&](int64 line) {
            int64 at = 0;
            for (int k = g.axes - 1; k >= 0; --k) {
                if (k == axis) continue;
                const int64 extent = k < axis ? extended_points(g.grid_shape[k]) : g.grid_shape[k];
                at += (line % extent + (k > axis)) * stride[k];
                line /= extent;
            }
            return at;
        };
        for (int64 first = 0; first < lines; first += filter_lines) {
            const int some = static_cast<int>(lines - first < filter_lines ? lines - first : filter_lines);
            __syncthreads();
            for (int i = static_cast<int>(threadIdx.x); i < rows * some; i += filter_threads) {
                const int64 sample = fold_mirror(i / some - margin, length);
                tile[i / some * filter_stride + i % some] =
                    field[start_of(first + i % some) + (1 + sample) * stride[axis]];
            }
            __syncthreads();
            if (length > 1 && static_cast<int>(threadIdx.x) < some)
                filter_block<double, double, 1>(tile + threadIdx.x, length, margin, order, filter_stride);
            __syncthreads();
            for (int i = static_cast<int>(threadIdx.x); i < width * some; i += filter_threads) {
                const int64 sample = fold_mirror(i / some - 1, length);
                field[start_of(first + i % some) + i / some * stride[axis]] =
                    tile[(margin + sample) * filter_stride + i % some];
            }
        }
    }
}

// One coefficient more on every side of each axis, mirrored: (planes, points ...) to (planes, points + 2 ...).
__global__ void extend_grid(Job job, int64 planes, const double* from, double* to) {
    const Geometry& g = job.geometry;
    int64 rest = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64 at = rest;
    int64 offset = 0;
    int64 stride = 1;
    for (int k = g.axes - 1; k >= 0; --k) {
        const int64 width = extended_points(g.grid_shape[k]);
        offset += fold_mirror(rest % width - 1, g.grid_shape[k]) * stride;
        rest /= width;
        stride *= g.grid_shape[k];
    }
    if (rest < planes) to[at] = from[rest * stride + offset];
}

// The transpose along one axis: (outer, points + 2, inner) to (outer, points, inner).
__global__ void fold_grid(int64 outer, int64 points, int64 inner, const double* from, double* to) {
    int64 rest = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (rest >= outer * points * inner) return;
    const int64 at = rest;
    const int64 width = extended_points(points);
    const int64 i = rest % inner;
    rest /= inner;
    from += rest / points * width * inner + i;
    double sum = 0;
    for (int64 q = 0; q < width; ++q)
        if (fold_mirror(q - 1, points) == rest % points) sum += from[q * inner];
    to[at] = sum;
}

// Sums over an axis of the output what its voxels add: (outer, outputs, inner) to (outer, points + 2, inner).
__global__ void contract_adjoint(Job job, const double* weights, const int64* cells, int axis, int64 outer, int64 inner,
                                 const double* from, double* to) {
    const Geometry& g = job.geometry;
    const int64 width = extended_points(g.grid_shape[axis]);
    int64 rest = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (rest >= outer * width * inner) return;
    const int64 at = rest;
    const int64 i = rest % inner;
    rest /= inner;
    const int64 q = rest % width;
    from += rest / width * g.output[axis] * inner + i;
    const Transform transform = {nullptr, weights, cells, nullptr, 0};
    double weight[4];
    // Cells grow along the axis: those of interest, q - 3 to q, lie together. The first of them by bisection.
    int64 low = 0;
    int64 high = g.output[axis];
    while (low < high) {
        const int64 middle = (low + high) / 2;
        if (find_cell<0>(g, transform, axis, middle, weight) < q - 3)
            low = middle + 1;
        else
            high = middle;
    }
    double sum = 0;
    for (int64 m = low; m < g.output[axis]; ++m) {
        const int64 tap = q - find_cell<0>(g, transform, axis, m, weight);
        if (tap < 0) break;
        sum += weight[tap] * from[m * inner];
    }
    to[at] = sum;
}

// The cell of the control grid and its weights for each output index, axis after axis.
__global__ void tabulate(Job job, int64 size, double* weights, int64* cells) {
    const Geometry& g = job.geometry;
    const int64 number = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (number >= size) return;
    int axis = 0;
    int64 index = number;
    while (index >= g.output[axis]) index -= g.output[axis++];
    cells[number] = grid_weights(g.start[axis] + index, g.image[axis], g.grid_shape[axis], weights + 4 * number);
}

// The maps from output index to image index: the inverses of `forward`, and then that of rotation and zoom, if any.
__global__ void invert(Job job, int64 count, const double* forward, double* inverse_maps) {
    const int axes = job.geometry.axes;
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const int64 size = axes * (axes + 1);
    AffineMap then = {};
    if (job.rotates) load_map(axes, job.inverse_rotation_zoom, then);
    AffineMap map = {}, inverse = {};
    load_map(axes, forward + i * size, map);
    invert_map(axes, map, inverse);
    store_composed(axes, inverse, job.rotates ? &then : nullptr, inverse_maps + i * size);
}

ELASTICND_END
