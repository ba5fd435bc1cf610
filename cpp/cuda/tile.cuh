// From blocks of threads to voxels, and from voxels to stencils: what the kernels that visit voxels share.
//
// A block works on a tile of the output: 32 voxels of the innermost axis (256 of a single axis) in eight rows that lie
// together. The control grid, contracted along every axis but the innermost, is kept for these rows in shared memory;
// no displacement is ever stored.
#pragma once
#include "../include/elasticnd/boundary.hpp"
#include "../include/elasticnd/dtypes.hpp"
#include "../include/elasticnd/grid.hpp"
#include "../include/elasticnd/job.hpp"
#include "../include/elasticnd/launch.hpp"

ELASTICND_BEGIN

// A loop that is not to be unrolled.
#if defined(ELASTICND_CUDA)
#define ELASTICND_ROLLED _Pragma("unroll 1")
#else
#define ELASTICND_ROLLED
#endif

// Where the voxels of a call go.
struct Transform {
    const double* field;    // coefficients of the control grid, one more on every side: (items, axes, points + 2 ...)
    const double* weights;  // of the control grid for each output index, axis after axis: (outputs, 4); or null
    const int64* cells;     // (outputs)
    const double* inverse_maps;  // from output index to image index, (items or 1, axes, axes + 1); null for none
    int64 map_size;              // from one item's map to the next
};

// As many numbers as the launch asks for.
template <class T>
__device__ T* dynamic_shared() {
#if defined(ELASTICND_CUDA)
    extern __shared__ double dynamic_memory[];
    return reinterpret_cast<T*>(dynamic_memory);
#else
    return static_cast<T*>(dynamic_shared_memory());
#endif
}

// Coefficients of an axis of the control grid, with one more on every side; the stencil of four takes four at least.
__device__ inline int64 extended_points(int64 points) { return points + 2 > 4 ? points + 2 : 4; }

__device__ inline int64 ceil_of(int64 a, int64 b) { return (a + b - 1) / b; }

// The cell of an output index along an axis, and its weights.
__device__ inline int64 find_cell(const Geometry& g, const Transform& transform, int axis, int64 index,
                                  double* weight) {
    if (!transform.weights) return grid_weights(g.start[axis] + index, g.image[axis], g.grid_shape[axis], weight);
    for (int k = 0; k < axis; ++k) index += g.output[k];
    for (int tap = 0; tap < 4; ++tap) weight[tap] = transform.weights[4 * index + tap];
    return transform.cells[index];
}

// Sums over LEFT axes of the grid, from the outermost on.
template <int LEFT>
struct Contraction {
    static __device__ double sum(const double* at, const int64* stride, const double (*weight)[4]) {
        double total = 0;
        for (int tap = 0; tap < 4; ++tap)
            total += weight[0][tap] * Contraction<LEFT - 1>::sum(at + tap * stride[0], stride + 1, weight + 1);
        return total;
    }
};
template <>
struct Contraction<0> {
    static __device__ double sum(const double* at, const int64*, const double (*)[4]) { return *at; }
};

// The same for a number of axes that is known late.
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
        total += product * at[offset];
    }
    return total;
}

// One row of output voxels, and the control grid for it.
template <int AXES>
class GridRow {
   public:
    static constexpr int most = Tile<AXES>::most_axes;
    __device__ GridRow(const Geometry& g, const Transform& transform, int64 item, const int64* index)
        : axes_(AXES ? AXES : g.axes) {
        int64 size = 1;
        for (int k = axes_ - 1; k >= 0; --k) {
            stride_[k] = size;
            size *= extended_points(g.grid_shape[k]);
        }
        size_ = size;
        field_ = transform.field + item * axes_ * size;
        for (int k = 0; k < axes_ - 1; ++k) field_ += find_cell(g, transform, k, index[k], weight_[k]) * stride_[k];
    }
    // The grid contracted to this row, at coefficient q of the innermost axis.
    __device__ double at(int component, int64 q) const {
        const double* from = field_ + component * size_ + q;
        if constexpr (AXES != 0) return Contraction<AXES - 1>::sum(from, stride_, weight_);
        return contract_many(axes_ - 1, from, stride_, weight_);
    }

   private:
    int axes_;
    const double* field_;
    int64 stride_[most];
    int64 size_;
    double weight_[most][4];
};

// The voxels that a block, and a thread of it, works on.
template <int AXES>
class Place {
   public:
    using Own = Tile<AXES>;
    static constexpr int most = Own::most_axes;

    // `tiles` counts the tiles of a row that have a block of their own; 1 where a block walks along its rows.
    __device__ Place(const Geometry& g, int64 block, int64 tiles) : axes(AXES ? AXES : g.axes) {
        const int inner = axes - 1;
        first = block % tiles * Own::inner;
        block /= tiles;
        for (int k = inner - 1; k >= 0; --k) {
            const int64 step = step_of(k);
            const int64 count = ceil_of(g.output[k], step);
            origin_[k] = block % count * step;
            block /= count;
        }
        item = block;
        lane = static_cast<int>(threadIdx.x) % Own::inner;
        own_row = static_cast<int>(threadIdx.x) / Own::inner;
        active_row = row_index(g, own_row, index);
        step_to(g, first);
    }
    // Moves along the rows.
    __device__ void step_to(const Geometry& g, int64 start) {
        first = start;
        index[axes - 1] = start + lane;
        active = active_row && index[axes - 1] < g.output[axes - 1];
    }
    // The outer indices of a row of the tile. False for one beyond the output; then they are those of the last one.
    __device__ bool row_index(const Geometry& g, int row, int64* to) const {
        bool inside = true;
        for (int k = axes - 2; k >= 0; --k) {
            int64 own = origin_[k];
            if (k == axes - 2) own += row % Own::second;
            if (k == axes - 3) own += row / Own::second;
            inside &= own < g.output[k];
            to[k] = own < g.output[k] ? own : g.output[k] - 1;
        }
        return inside;
    }
    // The voxels of a plane of the output.
    __device__ int64 voxels(const Geometry& g) const {
        int64 count = 1;
        for (int k = 0; k < axes; ++k) count *= g.output[k];
        return count;
    }
    // The number of this thread's voxel in its plane.
    __device__ int64 voxel(const Geometry& g) const {
        int64 number = 0;
        for (int k = 0; k < axes; ++k) number = number * g.output[k] + index[k];
        return number;
    }

    int axes;
    int64 item;
    int64 first;  // index of the tile's first voxel along its rows
    int lane;
    int own_row;
    int64 index[most];
    bool active_row;
    bool active;

   private:
    __device__ int64 step_of(int axis) const {
        return axis == axes - 2 ? Own::second : axis == axes - 3 ? Own::third : 1;
    }
    int64 origin_[most];
};

// The control grid of a tile's rows, in shared memory. Where the cells of a tile are too many, which takes a grid as
// fine as the image, each voxel contracts the grid for itself.
template <int AXES>
class Window {
   public:
    using Own = Tile<AXES>;
    static constexpr int size = AXES == 1 ? 1 : Own::rows * Own::most_axes * Own::window;

    __device__ Window(const Geometry& g, const Transform& transform, double* shared)
        : g_(g), transform_(transform), shared_(shared) {}

    // Called by all threads of the block.
    __device__ void fill(const Place<AXES>& place) {
        const int inner = place.axes - 1;
        const int64 end = place.first + Own::inner < g_.output[inner] ? place.first + Own::inner : g_.output[inner];
        double weight[4];
        start_ = find_cell(g_, transform_, inner, place.first, weight);
        span_ = find_cell(g_, transform_, inner, end - 1, weight) + 4 - start_;
        if (!is_held()) return;
        __syncthreads();
        const int entries = Own::rows * place.axes * static_cast<int>(span_);
        for (int entry = static_cast<int>(threadIdx.x); entry < entries; entry += tile_threads) {
            const int q = entry % static_cast<int>(span_);
            const int component = entry / static_cast<int>(span_) % place.axes;
            const int row = entry / static_cast<int>(span_) / place.axes;
            int64 index[Own::most_axes];
            place.row_index(g_, row, index);
            const GridRow<AXES> grid(g_, transform_, place.item, index);
            shared_[(row * place.axes + component) * Own::window + q] = grid.at(component, start_ + q);
        }
        __syncthreads();
    }

    // The displacement of this thread's voxel.
    __device__ void displacement(const Place<AXES>& place, double* component) const {
        double weight[4];
        const int64 cell = find_cell(g_, transform_, place.axes - 1, place.index[place.axes - 1], weight);
        if (is_held()) {
            for (int k = 0; k < place.axes; ++k) {
                const double* at = shared_ + (place.own_row * place.axes + k) * Own::window + (cell - start_);
                component[k] = ((weight[0] * at[0] + weight[1] * at[1]) + weight[2] * at[2]) + weight[3] * at[3];
            }
            return;
        }
        const GridRow<AXES> grid(g_, transform_, place.item, place.index);
        for (int k = 0; k < place.axes; ++k)
            component[k] =
                ((weight[0] * grid.at(k, cell) + weight[1] * grid.at(k, cell + 1)) + weight[2] * grid.at(k, cell + 2)) +
                weight[3] * grid.at(k, cell + 3);
    }

   private:
    __device__ bool is_held() const { return AXES != 1 && span_ <= Own::window; }
    const Geometry& g_;
    const Transform& transform_;
    double* shared_;
    int64 start_;
    int64 span_;
};

// Where a voxel samples the image.
template <int AXES>
struct Stencil {
    static constexpr int most = Tile<AXES>::most_axes;
    int64 first[most];   // coefficient of the first tap
    double place[most];  // in the knot span
    double slope[most];  // derivative of the folded coordinate
    bool exists;
    bool inside;  // no tap beyond the border
};

template <int ORDER, int AXES>
__device__ Stencil<AXES> find_stencil(const Geometry& g, const Transform& transform, const Place<AXES>& place,
                                      const double* displacement) {
    Stencil<AXES> stencil;
    stencil.exists = true;
    stencil.inside = true;
    for (int k = 0; k < place.axes; ++k) {
        double base = static_cast<double>(g.origin[k]);
        if (transform.inverse_maps) {
            const double* line = transform.inverse_maps + place.item * transform.map_size + k * (place.axes + 1);
            base += line[place.axes];
            for (int j = 0; j < place.axes; ++j)
                base += line[j] * static_cast<double>(g.from_origin(j, place.index[j]));
        } else {
            base += static_cast<double>(g.from_origin(k, place.index[k]));
        }
        const int64 extent = g.image[k] + 2 * g.padding;
        const double last = static_cast<double>(extent - 1);
        double x = base + displacement[k] + g.padding;
        stencil.slope[k] = 1;
        if (!(x >= 0 && x <= last)) {
            const Folded folded = fold_coordinate(x, last, border_reach(ORDER), g.mode);
            x = folded.x;
            stencil.slope[k] = folded.slope;
            stencil.exists &= folded.exists;
        }
        const double shifted = x + knot_shift(ORDER);
        const double knot = floor_of(shifted);
        stencil.place[k] = shifted - knot;
        stencil.first[k] = static_cast<int64>(knot) - ORDER / 2;
        if (ends_at_last_voxel(ORDER, g.mode, extent) && stencil.first[k] == extent - 1) {
            stencil.place[k] += 1;
            stencil.first[k] -= 1;
        }
        stencil.inside &= stencil.first[k] >= 0 && stencil.first[k] + ORDER < extent;
    }
    return stencil;
}

// The displacement of this thread's voxel. False for threads that have none; called by all threads of the block.
template <int AXES>
__device__ bool find_displacement(const Geometry& g, const Transform& transform, const Place<AXES>& place,
                                  double* displacement) {
    __shared__ double shared[Window<AXES>::size];
    Window<AXES> window(g, transform, shared);
    window.fill(place);
    if (place.active) window.displacement(place, displacement);
    return place.active;
}

// Its stencil.
template <int ORDER, int AXES>
__device__ bool locate(const Geometry& g, const Transform& transform, const Place<AXES>& place,
                       Stencil<AXES>& stencil) {
    double displacement[Tile<AXES>::most_axes];
    if (!find_displacement(g, transform, place, displacement)) return false;
    stencil = find_stencil<ORDER>(g, transform, place, displacement);
    return true;
}

// The weights along an axis, differentiated `derivative` times: by the chain rule through the fold, an odd derivative
// changes its sign where the image is mirrored.
template <int ORDER, class T>
__device__ void weigh(double place, double slope, int derivative, T* weight) {
    static_assert(max_order == 5, "each derivative needs a case here, up to the first that is zero at every order");
    const T s = static_cast<T>(place);
    switch (derivative) {
        case 0: spline_weights<ORDER, 0>(s, weight); return;
        case 1: spline_weights<ORDER, 1>(s, weight); break;
        case 2: spline_weights<ORDER, 2>(s, weight); break;
        case 3: spline_weights<ORDER, 3>(s, weight); break;
        case 4: spline_weights<ORDER, 4>(s, weight); break;
        case 5: spline_weights<ORDER, 5>(s, weight); break;
        default: spline_weights<ORDER, 6>(s, weight);
    }
    const T factor = static_cast<T>(derivative % 2 ? slope : slope * slope);
    for (int tap = 0; tap <= ORDER; ++tap) weight[tap] *= factor;
}

// The weights of a voxel's stencil.
template <int ORDER, int AXES, class T, bool DERIVED>
__device__ void weigh_stencil(const Geometry& g, const Stencil<AXES>& stencil, T (*weight)[ORDER + 1]) {
    const int axes = AXES ? AXES : g.axes;
    for (int k = 0; k < axes; ++k)
        if constexpr (DERIVED)
            weigh<ORDER>(stencil.place[k], stencil.slope[k], g.derivative[k], weight[k]);
        else
            spline_weights<ORDER, 0>(static_cast<T>(stencil.place[k]), weight[k]);
}

// Strides of a plane of coefficients, or of the image, in elements.
template <int AXES>
struct Strides {
    int64 value[Tile<AXES>::most_axes];
    int64 plane;
    __device__ explicit Strides(const Geometry& g) {
        const int axes = AXES ? AXES : g.axes;
        plane = 1;
        for (int k = axes - 1; k >= 0; --k) {
            value[k] = plane;
            plane *= g.image[k] + 2 * g.padding;
        }
    }
};

// Calls body(offset of a tap from the first one, its weight) for the taps of LEFT axes.
template <int LEFT, int TAPS, class T>
struct Taps {
    template <class Body>
    static __device__ void visit(int64 offset, T product, const int64* stride, const T (*weight)[TAPS],
                                 const Body& body) {
        for (int tap = 0; tap < TAPS; ++tap)
            Taps<LEFT - 1, TAPS, T>::visit(offset + tap * stride[0], product * weight[0][tap], stride + 1, weight + 1,
                                           body);
    }
};
template <int TAPS, class T>
struct Taps<0, TAPS, T> {
    template <class Body>
    static __device__ void visit(int64 offset, T product, const int64*, const T (*)[TAPS], const Body& body) {
        body(offset, product);
    }
};

// Calls body(offset of a tap in the plane, its weight, whether there is such a coefficient) for the taps of a stencil
// that may leave the image, one after the other: few voxels come here, and few registers are to be spent on them.
template <int ORDER, int AXES, class T, class Body>
__device__ void visit_folded(const Geometry& g, const Strides<AXES>& strides, const Stencil<AXES>& stencil,
                             const T (*weight)[ORDER + 1], const Body& body) {
    const int axes = AXES ? AXES : g.axes;
    int tap[Tile<AXES>::most_axes] = {};
    for (;;) {
        int64 offset = 0;
        T product = T(1);
        bool exists = true;
        ELASTICND_ROLLED
        for (int k = 0; k < axes; ++k) {
            int64 index = stencil.first[k] + tap[k];
            if (!stencil.inside) index = fold_index(index, g.image[k] + 2 * g.padding, g.mode);
            exists &= index != no_index;
            if (exists) offset += index * strides.value[k];
            product *= weight[k][tap[k]];
        }
        body(offset, product, exists);
        int k = axes - 1;
        while (k >= 0 && ++tap[k] > ORDER) tap[k--] = 0;
        if (k < 0) return;
    }
}

// The same for any stencil.
template <int ORDER, int AXES, class T, class Body>
__device__ void visit_taps(const Geometry& g, const Strides<AXES>& strides, const Stencil<AXES>& stencil,
                           const T (*weight)[ORDER + 1], const Body& body) {
    if constexpr (AXES != 0) {
        if (stencil.inside) {
            int64 start = 0;
            for (int k = 0; k < AXES; ++k) start += stencil.first[k] * strides.value[k];
            Taps<AXES, ORDER + 1, T>::visit(start, T(1), strides.value, weight,
                                            [&](int64 offset, T product) { body(offset, product, true); });
            return;
        }
    }
    visit_folded<ORDER, AXES, T>(g, strides, stencil, weight, body);
}

// The sum of the weighted coefficients under a stencil that lies inside, axis within axis: fewest operations.
template <int LEFT, int TAPS, int DTYPE, class T>
struct InnerSum {
    using Storage = typename Element<DTYPE>::Storage;
    static __device__ T of(const Storage* from, const int64* stride, const T (*weight)[TAPS]) {
        T total = T(0);
        for (int tap = 0; tap < TAPS; ++tap)
            total +=
                weight[0][tap] * InnerSum<LEFT - 1, TAPS, DTYPE, T>::of(from + tap * stride[0], stride + 1, weight + 1);
        return total;
    }
};
template <int TAPS, int DTYPE, class T>
struct InnerSum<0, TAPS, DTYPE, T> {
    using Storage = typename Element<DTYPE>::Storage;
    static __device__ T of(const Storage* from, const int64*, const T (*)[TAPS]) {
        return static_cast<T>(Element<DTYPE>::load(*from));
    }
};

// The spline under a stencil; `beyond` stands for coefficients that are not there.
template <int ORDER, int AXES, int DTYPE, class T>
__device__ T gather(const Geometry& g, const Strides<AXES>& strides, const Stencil<AXES>& stencil,
                    const T (*weight)[ORDER + 1], const typename Element<DTYPE>::Storage* plane) {
    if constexpr (AXES != 0) {
        if (stencil.inside) {
            for (int k = 0; k < AXES; ++k) plane += stencil.first[k] * strides.value[k];
            return InnerSum<AXES, ORDER + 1, DTYPE, T>::of(plane, strides.value, weight);
        }
    }
    double total = 0;  // of up to 6^8 terms, one after the other
    const T beyond = static_cast<T>(g.border_value);
    visit_folded<ORDER, AXES, T>(g, strides, stencil, weight, [&](int64 offset, T product, bool exists) {
        total += product * (exists ? static_cast<T>(Element<DTYPE>::load(plane[offset])) : beyond);
    });
    return static_cast<T>(total);
}

ELASTICND_END
