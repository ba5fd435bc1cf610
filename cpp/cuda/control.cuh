// Evaluates the control grid for the voxels of a tile. For each row, the grid is contracted along every axis except the
// innermost, and the resulting coefficients are kept in shared memory, so displacements need not be stored.
#pragma once
#include "../include/elasticnd/grid.hpp"
#include "tile.cuh"

ELASTICND_BEGIN

// The transform of a call: where its voxels go.
struct Transform {
    const double* field;         // grid coefficients with an extra one on every side: (items, axes, points + 2 ...)
    const double* weights;       // weights of four coefficients for each output index, axis by axis: (outputs, 4)
    const int64* cells;          // cells of the control grid for these indices: (outputs)
    const double* inverse_maps;  // from output index to image index: (items or 1, axes, axes + 1); may be null
    int64 map_size;              // numbers from one item's map to the next; 0 if all items share one
};

// The number of coefficients along an axis of the control grid, with an extra one on every side. It is at least four,
// because the stencil has four taps.
template <class Index>
__device__ Index extended_points(Index points) {
    return points + 2 > 4 ? points + 2 : 4;
}

// A fused multiply-add on the device, so that the same numbers give the same bits in every kernel.
__device__ inline double multiply_add(double a, double b, double c) {
#if defined(ELASTICND_CUDA)
    return __fma_rn(a, b, c);
#else
    return a * b + c;
#endif
}

// Finds the cell of an output index along an axis, and the weights there. Kernels for two and three axes always read
// both from tables.
template <int AXES>
__device__ typename IndexOf<AXES>::Type find_cell(const Geometry& g, const Transform& transform, int axis,
                                                  typename IndexOf<AXES>::Type index, double* weight) {
    using Index = typename IndexOf<AXES>::Type;
    if constexpr (AXES < 2)
        if (!transform.weights)
            return static_cast<Index>(grid_weights(g.in_frame(axis, index), g.frame[axis], g.grid_shape[axis], weight));
    ELASTICND_UNROLLED
    for (int k = 0; k < axis; ++k) index += static_cast<Index>(g.output[k]);
    ELASTICND_UNROLLED
    for (int tap = 0; tap < 4; ++tap) weight[tap] = transform.weights[int64(4) * index + tap];
    return static_cast<Index>(transform.cells[index]);
}

// Sums the weighted coefficients over LEFT axes of the grid.
template <int LEFT>
struct Contraction {
    template <class Index>
    static __device__ double sum(const double* at, const Index* stride, const double (*weight)[4]) {
        double total = 0;
        repeat<4, (LEFT < 2)>([&](int tap) {
            const double inner = Contraction<LEFT - 1>::sum(at, stride + 1, weight + 1);
            total = multiply_add(pick<4>(weight[0], tap), inner, total);
            at += stride[0];
        });
        return total;
    }
};
template <>
struct Contraction<0> {
    template <class Index>
    static __device__ double sum(const double* at, const Index*, const double (*)[4]) {
        return *at;
    }
};

// The same for a number of axes known only at run time.
__device__ inline double contract_many(int left, const double* at, const int64* stride, const double (*weight)[4]) {
    double total = 0;
    for (int tap = 0; tap < 1 << (2 * left); ++tap) {
        double product = 1;
        int64 offset = 0;
        for (int k = 0; k < left; ++k) {
            const int own = (tap >> (2 * (left - 1 - k))) & 3;
            product *= weight[k][own];
            offset += own * stride[k];
        }
        total = multiply_add(product, at[offset], total);
    }
    return total;
}

// The control grid for one row of output voxels.
template <int AXES>
class GridRow {
   public:
    using Index = typename IndexOf<AXES>::Type;
    static constexpr int most = Tile<AXES>::most_axes;
    __device__ GridRow(const Geometry& g, const Transform& transform, const Place<AXES>& place) {
        const int axes = axes_of<AXES>(g);
        Index stride = 1;
        ELASTICND_UNROLLED
        for (int k = axes - 1; k > 0; --k) {
            stride_[k] = stride;
            stride *= extended_points(static_cast<Index>(g.grid_shape[k]));
        }
        stride_[0] = stride;
        size_ = int64(stride) * extended_points(static_cast<Index>(g.grid_shape[0]));
        field_ = transform.field + place.item * axes * size_;
        ELASTICND_UNROLLED
        for (int k = 0; k < axes - 1; ++k)
            field_ += int64(find_cell<AXES>(g, transform, k, place.index[k], weight_[k])) * stride_[k];
    }
    // Coefficient q of the innermost axis, contracted over all other axes for this row.
    __device__ double at(const Geometry& g, int component, Index q) const {
        const double* from = field_ + component * size_ + q;
        if constexpr (AXES != 0)
            return Contraction<AXES - 1>::sum(from, stride_, weight_);
        else
            return contract_many(g.axes - 1, from, stride_, weight_);
    }

   private:
    const double* field_;
    Index stride_[most];
    int64 size_;
    double weight_[most][4];
};

// Computes the displacement of this thread's voxel. All threads of the block must call it, including those without a
// voxel, whose result is meaningless.
//
// The coefficients of a row pass through shared memory, `window` of them at a time. One pass is enough unless the grid
// is as fine as the image.
template <int AXES>
__device__ void find_displacement(const Geometry& g, const Transform& transform, const Place<AXES>& place,
                                  double* displacement) {
    using Own = Tile<AXES>;
    using Index = typename Place<AXES>::Index;
    const int axes = axes_of<AXES>(g), inner = axes - 1;
    double weight[4];
    if constexpr (AXES == 1) {
        if (!place.active) return;
        const GridRow<AXES> grid(g, transform, place);
        const Index cell = find_cell<AXES>(g, transform, inner, place.index[inner], weight);
        double total = weight[0] * grid.at(g, 0, cell);
        ELASTICND_UNROLLED
        for (int tap = 1; tap < 4; ++tap) total = multiply_add(weight[tap], grid.at(g, 0, cell + tap), total);
        displacement[0] = total;
    } else {
        __shared__ double windows[Own::rows * Own::most_axes * Own::window];
        double* const window = windows + place.own_row * axes * Own::window;
        constexpr int cells = Own::window - 3;  // cells whose four coefficients all lie in a window
        Index held = find_cell<AXES>(g, transform, inner, place.first, weight);
        const Index last = find_cell<AXES>(g, transform, inner, place.first + place.count(g) - 1, weight);
        ELASTICND_ROLLED
        for (; held <= last; held += cells) {
            __syncwarp();
            const int component = place.lane / Own::lanes;
            if (component < axes) {
                const GridRow<AXES> grid(g, transform, place);
                const int left = static_cast<int>(minimum<Index>(last + 4 - held, Own::window));
                ELASTICND_ROLLED
                for (int q = place.lane % Own::lanes; q < left; q += Own::lanes)
                    window[component * Own::window + q] = grid.at(g, component, held + q);
            }
            __syncwarp();
            const Index own = minimum(place.index[inner], static_cast<Index>(g.output[inner]) - 1);
            const Index cell = find_cell<AXES>(g, transform, inner, own, weight) - held;
            if (cell < 0 || cell >= cells) continue;
            ELASTICND_UNROLLED
            for (int k = 0; k < axes; ++k) {
                const double* at = window + k * Own::window + cell;
                double total = weight[0] * at[0];
                ELASTICND_UNROLLED
                for (int tap = 1; tap < 4; ++tap) total = multiply_add(weight[tap], at[tap], total);
                displacement[k] = total;
            }
        }
    }
}

ELASTICND_END
