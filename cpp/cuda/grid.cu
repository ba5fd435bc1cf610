// Tables and sums for the control grid, axis by axis.
#include "control.cuh"

ELASTICND_BEGIN

// Adds a mirrored coefficient on every side of each axis: (planes, points ...) to (planes, points + 2 ...).
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

// The transpose of `extend_grid` along one axis: (outer, points + 2, inner) to (outer, points, inner).
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

// Sums the contributions of the voxels along an axis of the output: (outer, outputs, inner) to (outer, points + 2,
// inner).
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
    // Cells increase along the axis, so the voxels in cells q - 3 to q are contiguous. Bisection finds the first of
    // them.
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
        sum += pick<4>(weight, static_cast<int>(tap)) * from[m * inner];
    }
    to[at] = sum;
}

// Adds up the sums of the sections of each row: (outer, sections, inner) to (outer, inner).
__global__ void add_sections(int64 outer, int64 sections, int64 inner, const double* from, double* to) {
    const int64 at = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= outer * inner) return;
    from += at / inner * sections * inner + at % inner;
    double sum = 0;
    for (int64 section = 0; section < sections; ++section) sum += from[section * inner];
    to[at] = sum;
}

// Computes the gradients of the inverse maps, (items, axes, axes + 1), from the moments of rows, (items, sections,
// axes, rows, 2). The two moments of a row are the sum of its values, and the sum of its values times their innermost
// index. A block computes one number.
__global__ void sum_moments(Job job, int64 sections, int64 rows, const double* moments, double* gradient) {
    const Geometry& g = job.geometry;
    __shared__ double sums[flat_threads];
    const int column = static_cast<int>(blockIdx.x % (g.axes + 1));
    const int64 line = blockIdx.x / (g.axes + 1);
    const int64 item = line / g.axes, component = line % g.axes;
    int64 inner = 1;  // rows between consecutive indices along the axis of this column
    for (int k = column + 1; k < g.axes - 1; ++k) inner *= g.output[k];
    double sum = 0;
    for (int64 section = 0; section < sections; ++section) {
        const double* from = moments + ((item * sections + section) * g.axes + component) * rows * 2;
        for (int64 row = threadIdx.x; row < rows; row += flat_threads) {
            const double value = from[2 * row + (column == g.axes - 1)];
            const bool times_index = column < g.axes - 1;
            sum += times_index ? value * static_cast<double>(g.from_origin(column, row / inner % g.output[column]))
                               : value;
        }
    }
    sums[threadIdx.x] = sum;
    for (int half = flat_threads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) gradient[blockIdx.x] = sums[0];
}

// Tabulates the cell of the control grid, and the weights there, for each output index, axis by axis.
__global__ void tabulate(Job job, int64 size, double* weights, int64* cells) {
    const Geometry& g = job.geometry;
    const int64 number = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (number >= size) return;
    int axis = 0;
    int64 index = number;
    while (index >= g.output[axis]) index -= g.output[axis++];
    cells[number] = grid_weights(g.in_frame(axis, index), g.frame[axis], g.grid_shape[axis], weights + 4 * number);
}

ELASTICND_END
