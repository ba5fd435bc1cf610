// From displacements to the stencils of the image's spline, and sums over their taps.
//
// Voxels whose stencil lies inside the image take a short, unrolled path. All others first apply the border mode, with
// rolled loops in functions that are not inlined (ELASTICND_APART): there are few such voxels, and they must not cost
// the short path registers or instructions.
#pragma once
#include "../include/elasticnd/boundary.hpp"
#include "../include/elasticnd/spline.hpp"
#include "control.cuh"

ELASTICND_BEGIN

// Where a voxel samples the image.
template <int AXES, class T>
struct Stencil {
    static constexpr int most = Tile<AXES>::most_axes;
    typename IndexOf<AXES>::Type first[most];  // index of the first tap's coefficient
    T place[most];                             // position within the knot span
    T slope[most];                             // derivative of the folded coordinate
    bool exists;
    bool inside;  // no tap lies beyond the border
};

template <int AXES>
__device__ typename IndexOf<AXES>::Type coefficients_of(const Geometry& g, int axis) {
    return static_cast<typename IndexOf<AXES>::Type>(g.image[axis] + 2 * g.padding);
}

// The position of a voxel among the coefficients, before the border mode is applied.
template <int AXES>
struct Position {
    double x[Tile<AXES>::most_axes];
};

template <int AXES>
__device__ void add_origin(const Geometry& g, const Transform& transform, const Place<AXES>& place,
                           const double* displacement, double* x) {
    const int axes = axes_of<AXES>(g);
    double base[Tile<AXES>::most_axes];
    ELASTICND_UNROLLED
    for (int k = 0; k < axes; ++k)
        base[k] = static_cast<double>(static_cast<typename IndexOf<AXES>::Type>(g.start[k]) + place.index[k]);
    if (transform.inverse_maps) {
        const double* line = transform.inverse_maps + place.item * transform.map_size;
        ELASTICND_UNROLLED
        for (int k = 0; k < axes; ++k, line += axes + 1) {
            base[k] = static_cast<double>(g.origin[k]) + line[axes];
            ELASTICND_UNROLLED
            for (int j = 0; j < axes; ++j)
                base[k] = multiply_add(line[j], static_cast<double>(g.from_origin(j, place.index[j])), base[k]);
        }
    }
    ELASTICND_UNROLLED
    for (int k = 0; k < axes; ++k) x[k] = base[k] + displacement[k] + g.padding;
}

// The floor of x. If it does not fit in 32 bits, the result is a number that is not the index of a coefficient.
__device__ inline int floor_to_int(double x) {
#if defined(ELASTICND_CUDA)
    return __double2int_rd(x);  // saturates; NaN becomes the lowest number
#else
    return x >= -2147483648.0 && x < 2147483648.0 ? static_cast<int>(floor_of(x)) : no_index_of<int>;
#endif
}

// Finds the stencil at a position, and returns whether it lies inside the image.
template <int ORDER, int AXES, class T>
__device__ bool find_inside(const Geometry& g, const Position<AXES>& position, Stencil<AXES, T>& stencil) {
    stencil.exists = true;
    stencil.inside = true;
    ELASTICND_UNROLLED
    for (int k = 0; k < AXES; ++k) {
        const double x = position.x[k];
        const double shifted = ORDER % 2 ? x : x + knot_shift(ORDER);
        const int knot = floor_to_int(shifted);
        const unsigned first = static_cast<unsigned>(knot) - ORDER / 2;  // a negative index becomes a large number
        const int taken = coefficients_of<AXES>(g, k) - ORDER;
        stencil.inside &= first < static_cast<unsigned>(maximum(taken, 0));
        // Only at order 0 can the stencil lie inside the image while the position lies outside.
        if (ORDER == 0) stencil.inside &= x >= 0 && x <= static_cast<double>(taken - 1);
        stencil.first[k] = static_cast<int>(first);
        stencil.place[k] = static_cast<T>(shifted - static_cast<double>(knot));
        stencil.slope[k] = T(1);
    }
    return stencil.inside;
}

// Finds the stencil at any position, which the border mode first maps into the image.
template <int ORDER, int AXES, class T>
__device__ void find_folded(const Geometry& g, const Position<AXES>& position, Stencil<AXES, T>& stencil) {
    using Index = typename IndexOf<AXES>::Type;
    stencil.exists = true;
    stencil.inside = true;
    ELASTICND_ROLLED
    for (int k = 0; k < axes_of<AXES>(g); ++k) {
        const Index extent = coefficients_of<AXES>(g, k);
        const double last = static_cast<double>(extent - 1);
        Folded folded = {pick<AXES>(position.x, k), 1, true};
        if (!(folded.x >= 0 && folded.x <= last)) folded = fold_coordinate(folded.x, last, border_reach(ORDER), g.mode);
        const double shifted = folded.x + knot_shift(ORDER);
        const double knot = floor_of(shifted);
        T place = static_cast<T>(shifted - knot);
        Index first = static_cast<Index>(knot) - ORDER / 2;
        if (ends_at_last_voxel(ORDER, g.mode, extent) && first == extent - 1) {
            place += T(1);
            first -= 1;
        }
        put<AXES>(stencil.first, k, first);
        put<AXES>(stencil.place, k, place);
        put<AXES>(stencil.slope, k, static_cast<T>(folded.slope));
        stencil.exists &= folded.exists;
        stencil.inside &= first >= 0 && first + ORDER < extent;
    }
}

// Finds the position of this thread's voxel, and returns false for threads without one. All threads of the block must
// call it.
template <int AXES>
__device__ bool find_position(const Geometry& g, const Transform& transform, const Place<AXES>& place,
                              Position<AXES>& position) {
    double displacement[Tile<AXES>::most_axes];
    find_displacement(g, transform, place, displacement);
    if (!place.active) return false;
    add_origin(g, transform, place, displacement, position.x);
    return true;
}

// ---- weights --------------------------------------------------------------------------------------------------------

// The weights along an axis, differentiated `derivative` times. By the chain rule, the slope of the folded coordinate
// is a factor of each derivative, so odd derivatives change sign where the image is mirrored.
template <int ORDER, class T>
__device__ void weigh(T s, T slope, int derivative, T* weight) {
    static_assert(max_order == 5, "each derivative needs a case here, up to the first that is zero at every order");
    switch (derivative) {
        case 0: spline_weights<ORDER, 0>(s, weight); return;
        case 1: spline_weights<ORDER, 1>(s, weight); break;
        case 2: spline_weights<ORDER, 2>(s, weight); break;
        case 3: spline_weights<ORDER, 3>(s, weight); break;
        case 4: spline_weights<ORDER, 4>(s, weight); break;
        case 5: spline_weights<ORDER, 5>(s, weight); break;
        default: spline_weights<ORDER, 6>(s, weight);
    }
    const T factor = derivative % 2 ? slope : slope * slope;
    ELASTICND_UNROLLED
    for (int tap = 0; tap <= ORDER; ++tap) weight[tap] *= factor;
}

// The weights of a voxel's stencil along each axis; with DERIVED, differentiated as the call demands.
template <int ORDER, int AXES, class T, bool DERIVED>
__device__ void weigh_stencil(const Geometry& g, const Stencil<AXES, T>& stencil, T (*weight)[ORDER + 1]) {
    ELASTICND_UNROLLED
    for (int k = 0; k < axes_of<AXES>(g); ++k)
        if constexpr (DERIVED)
            weigh<ORDER>(stencil.place[k], stencil.slope[k], g.derivative[k], weight[k]);
        else
            spline_weights<ORDER, 0>(stencil.place[k], weight[k]);
}

// Weights by axis and tap. SlopeWeights has slopes along the differentiated axis.
template <int ORDER, int AXES, class T>
struct Weights {
    static constexpr int taps = AXES ? ORDER + 1 : 0;
    const T (*weight)[ORDER + 1];
    __device__ T operator()(int axis, int tap) const { return pick<taps>(weight[axis], tap); }
};
template <int ORDER, int AXES, class T>
struct SlopeWeights {
    static constexpr int taps = AXES ? ORDER + 1 : 0;
    const T (*weight)[ORDER + 1];
    const T (*derived)[ORDER + 1];
    int differentiated;  // the axis along which to differentiate
    __device__ T operator()(int axis, int tap) const {
        const T own = pick<taps>(weight[axis], tap), slope = pick<taps>(derived[axis], tap);
        return axis == differentiated ? slope : own;
    }
};

// The slopes of these weights: the weights differentiated once more.
template <int ORDER, int AXES, class T, bool DERIVED>
__device__ void weigh_slopes(const Geometry& g, const Stencil<AXES, T>& stencil, T (*weight)[ORDER + 1]) {
    ELASTICND_UNROLLED
    for (int k = 0; k < axes_of<AXES>(g); ++k)
        weigh<ORDER>(stencil.place[k], stencil.slope[k], (DERIVED ? g.derivative[k] : 0) + 1, weight[k]);
}

// ---- taps -----------------------------------------------------------------------------------------------------------

// Strides of a plane of coefficients, or of the image, in elements.
template <int AXES>
struct Strides {
    using Index = typename IndexOf<AXES>::Type;
    Index value[Tile<AXES>::most_axes];
    int64 plane;
    __device__ explicit Strides(const Geometry& g) {
        Index stride = 1;
        ELASTICND_UNROLLED
        for (int k = axes_of<AXES>(g) - 1; k > 0; --k) {
            value[k] = stride;
            stride *= coefficients_of<AXES>(g, k);
        }
        value[0] = stride;
        plane = int64(stride) * coefficients_of<AXES>(g, 0);
    }
    // The offset of the first tap of a stencil inside the image.
    template <class T>
    __device__ int64 first(const Stencil<AXES, T>& stencil) const {
        int64 offset = 0;
        ELASTICND_UNROLLED
        for (int k = 0; k < AXES; ++k) offset += int64(stencil.first[k]) * value[k];
        return offset;
    }
};

// Loops over inner axes are unrolled up to this many taps in total: longer code is no faster, and compiles slowly.
constexpr int most_unrolled = 64;
constexpr int fewer_unrolled = 16;  // for kernels that need more registers
ELASTICND_INLINE constexpr int taps_of(int axes, int taps) { return axes == 0 ? 1 : taps * taps_of(axes - 1, taps); }

// Calls body(offset of a tap in the plane, its weight) for the taps of a stencil inside the image.
template <int LEFT, int TAPS, class T, int MOST = most_unrolled>
struct Taps {
    template <class Index, class Body>
    static __device__ void visit(int64 offset, T product, const Index* stride, const T (*weight)[TAPS],
                                 const Body& body) {
        repeat<TAPS, (taps_of(LEFT, TAPS) <= MOST)>([&](int tap) {
            Taps<LEFT - 1, TAPS, T, MOST>::visit(offset, product * pick<TAPS>(weight[0], tap), stride + 1, weight + 1,
                                                 body);
            offset += stride[0];
        });
    }
};
template <int TAPS, class T, int MOST>
struct Taps<0, TAPS, T, MOST> {
    template <class Index, class Body>
    static __device__ void visit(int64 offset, T product, const Index*, const T (*)[TAPS], const Body& body) {
        body(offset, product);
    }
};

// Calls body(offset of a tap in the plane, its weight, whether the coefficient exists) for each tap of a stencil that
// may leave the image. weight(axis, tap) is the weight along an axis.
template <int ORDER, int AXES, class T>
class FoldedTaps {
   public:
    __device__ FoldedTaps(const Geometry& g, const Strides<AXES>& strides, const Stencil<AXES, T>& stencil)
        : strides_(strides) {
        ELASTICND_ROLLED
        for (int k = 0; k < AXES; ++k) {
            const int extent = coefficients_of<AXES>(g, k), first = pick<AXES>(stencil.first, k);
            ELASTICND_ROLLED
            for (int tap = 0; tap <= ORDER; ++tap)
                put<AXES*(ORDER + 1)>(index_, k * (ORDER + 1) + tap, fold_index(first + tap, extent, g.mode));
        }
    }
    template <class Weight, class Body>
    __device__ void visit(const Weight& weight, const Body& body) const {
        visit_from<0>(0, T(1), true, weight, body);
    }

   private:
    template <int AXIS, class Weight, class Body>
    __device__ void visit_from(int64 offset, T product, bool exists, const Weight& weight, const Body& body) const {
        const auto visit_tap = [&](int tap) {
            const int index = pick<ORDER + 1>(index_ + AXIS * (ORDER + 1), tap);
            const int64 own = offset + int64(index) * strides_.value[AXIS];
            const bool is_there = exists && index != no_index_of<int>;
            if constexpr (AXIS == AXES - 1)
                body(own, product * weight(AXIS, tap), is_there);
            else
                visit_from<AXIS + 1>(own, product * weight(AXIS, tap), is_there, weight, body);
        };
        if constexpr (AXIS == AXES - 1) {
            ELASTICND_UNROLLED
            for (int tap = 0; tap <= ORDER; ++tap) visit_tap(tap);
        } else {
            ELASTICND_ROLLED
            for (int tap = 0; tap <= ORDER; ++tap) visit_tap(tap);
        }
    }

    const Strides<AXES>& strides_;
    int index_[AXES * (ORDER + 1)];  // index of each tap along each axis; no_index where there is no coefficient
};

// The same for a number of axes known only at run time.
template <int ORDER, class T>
class FoldedTaps<ORDER, 0, T> {
   public:
    __device__ FoldedTaps(const Geometry& g, const Strides<0>& strides, const Stencil<0, T>& stencil)
        : g_(g), strides_(strides), stencil_(stencil) {}

    template <class Weight, class Body>
    __device__ void visit(const Weight& weight, const Body& body) const {
        int tap[max_axes] = {};
        for (;;) {
            int64 offset = 0;
            T product = T(1);
            bool exists = true;
            for (int k = 0; k < g_.axes; ++k) {
                int64 index = stencil_.first[k] + tap[k];
                if (!stencil_.inside) index = fold_index(index, coefficients_of<0>(g_, k), g_.mode);
                exists &= index != no_index;
                if (exists) offset += index * strides_.value[k];
                product *= weight(k, tap[k]);
            }
            body(offset, product, exists);
            int k = g_.axes - 1;
            while (k >= 0 && ++tap[k] > ORDER) tap[k--] = 0;
            if (k < 0) return;
        }
    }

   private:
    const Geometry& g_;
    const Strides<0>& strides_;
    const Stencil<0, T>& stencil_;
};

// ---- sums -----------------------------------------------------------------------------------------------------------

// The weighted sum of the coefficients under a stencil inside the image. Summing axis within axis takes the fewest
// operations.
template <int LEFT, int TAPS, int DTYPE, class T>
struct InnerSum {
    using Storage = typename Element<DTYPE>::Storage;
    template <class Index>
    static __device__ T of(const Storage* from, const Index* stride, const T (*weight)[TAPS]) {
        T total = T(0);
        repeat<TAPS, (taps_of(LEFT, TAPS) <= most_unrolled)>([&](int tap) {
            total += pick<TAPS>(weight[0], tap) * InnerSum<LEFT - 1, TAPS, DTYPE, T>::of(from, stride + 1, weight + 1);
            from += stride[0];
        });
        return total;
    }
};
template <int TAPS, int DTYPE, class T>
struct InnerSum<0, TAPS, DTYPE, T> {
    using Storage = typename Element<DTYPE>::Storage;
    template <class Index>
    static __device__ T of(const Storage* from, const Index*, const T (*)[TAPS]) {
        return static_cast<T>(Element<DTYPE>::load(*from));
    }
};

// The same sum together with its slope along each axis, for which `derived` replaces `weight`. Each coefficient is read
// only once.
template <int LEFT, int TAPS, int DTYPE, class T>
struct InnerSlopes {
    using Storage = typename Element<DTYPE>::Storage;
    template <class Index>
    static __device__ T of(const Storage* from, const Index* stride, const T (*weight)[TAPS], const T (*derived)[TAPS],
                           T* slopes) {
        T total = T(0);
        ELASTICND_UNROLLED
        for (int k = 0; k < LEFT; ++k) slopes[k] = T(0);
        repeat<TAPS, (taps_of(LEFT, TAPS) <= fewer_unrolled)>([&](int tap) {
            T inner_slopes[LEFT];  // one more than needed
            const T inner =
                InnerSlopes<LEFT - 1, TAPS, DTYPE, T>::of(from, stride + 1, weight + 1, derived + 1, inner_slopes);
            const T own = pick<TAPS>(weight[0], tap);
            total += own * inner;
            slopes[0] += pick<TAPS>(derived[0], tap) * inner;
            ELASTICND_UNROLLED
            for (int k = 1; k < LEFT; ++k) slopes[k] += own * inner_slopes[k - 1];
            from += stride[0];
        });
        return total;
    }
};
template <int TAPS, int DTYPE, class T>
struct InnerSlopes<0, TAPS, DTYPE, T> {
    using Storage = typename Element<DTYPE>::Storage;
    template <class Index>
    static __device__ T of(const Storage* from, const Index*, const T (*)[TAPS], const T (*)[TAPS], T*) {
        return static_cast<T>(Element<DTYPE>::load(*from));
    }
};

// The sum under a stencil that may leave the image; the constant of the border mode replaces missing coefficients.
template <int DTYPE, int ORDER, int AXES, class T, class Weight>
__device__ T sum_folded(const Geometry& g, const FoldedTaps<ORDER, AXES, T>& taps, const Weight& weight,
                        const typename Element<DTYPE>::Storage* plane) {
    double total = 0;  // a double, because up to 6^8 terms are added one after the other
    const T border_value = static_cast<T>(g.border_value);
    taps.visit(weight, [&](int64 offset, T product, bool exists) {
        total += product * (exists ? static_cast<T>(Element<DTYPE>::load(plane[offset])) : border_value);
    });
    return static_cast<T>(total);
}

ELASTICND_END
