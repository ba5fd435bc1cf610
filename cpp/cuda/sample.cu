// Sampling: each thread computes one voxel of the output in all its channels.
#include "../include/elasticnd/votes.hpp"
#include "stencil.cuh"

ELASTICND_BEGIN

// What a thread reads and writes in all channels: planes of coefficients, and one voxel in each plane of the output.
template <int AXES, class Source, class Target>
struct Channels {
    using Index = typename IndexOf<AXES>::Type;
    const Source* source;
    Target* target;
    Index count;

    // Sets target = value(source), channel by channel.
    template <class Value>
    __device__ void compute(const Geometry& g, const Value& value) const {
        const int64 coefficients = Strides<AXES>(g).plane, voxels = Place<AXES>::voxels(g);
        const Source* from = source;
        Target* to = target;
        ELASTICND_ROLLED
        for (Index left = count; left > 0; --left) {
            *to = value(from);
            from += coefficients;
            to += voxels;
        }
    }
};
template <int AXES, class Source, class Target>
__device__ Channels<AXES, Source, Target> channels_of(const Geometry& g, const Place<AXES>& place, int64 channels,
                                                      const Source* source, Target* target) {
    const auto count = static_cast<typename Place<AXES>::Index>(channels);
    const auto planes = place.item * count;
    return {source + planes * Strides<AXES>(g).plane, target + planes * place.voxels(g) + place.voxel(g), count};
}

// SOURCE is the element type of the coefficients, or of the image itself; TARGET is the element type of the output.
template <int SOURCE, int TARGET, class T, int ORDER, int AXES, bool DERIVED>
struct Sampling {
    using Source = typename Element<SOURCE>::Storage;
    using Target = typename Element<TARGET>::Storage;
    using Own = Channels<AXES, Source, Target>;

    static __device__ Target store(T value) {
        return Element<TARGET>::store(static_cast<typename Element<TARGET>::Real>(value));
    }
    static __device__ void compute_inside(const Geometry& g, const Stencil<AXES, T>& stencil, const Own& channels) {
        T weight[Tile<AXES>::most_axes][ORDER + 1];
        weigh_stencil<ORDER, AXES, T, DERIVED>(g, stencil, weight);
        const Strides<AXES> strides(g);
        const int64 first = strides.first(stencil);
        channels.compute(g, [&](const Source* plane) {
            return store(InnerSum<AXES, ORDER + 1, SOURCE, T>::of(plane + first, strides.value, weight));
        });
    }
    static __device__ ELASTICND_APART void compute_folded(const Geometry& g, Position<AXES> position, Own channels) {
        Stencil<AXES, T> stencil;
        find_folded<ORDER>(g, position, stencil);
        if (!stencil.exists) {
            channels.compute(g, [&](const Source*) { return store(static_cast<T>(g.cval)); });
            return;
        }
        if constexpr (AXES != 0)
            if (stencil.inside) return compute_inside(g, stencil, channels);
        T weight[Tile<AXES>::most_axes][ORDER + 1];
        weigh_stencil<ORDER, AXES, T, DERIVED>(g, stencil, weight);
        const Strides<AXES> strides(g);
        const FoldedTaps<ORDER, AXES, T> taps(g, strides, stencil);
        const Weights<ORDER, AXES, T> weights = {weight};
        channels.compute(g, [&](const Source* plane) { return store(sum_folded<SOURCE>(g, taps, weights, plane)); });
    }
};

template <int SOURCE, int TARGET, class T, int ORDER, int AXES, bool DERIVED>
__global__ void __launch_bounds__(tile_threads,
                                  (tile_blocks<T, AXES>(ORDER + 1, DERIVED ? registers_of_derivatives : 0)))
    sample(const __grid_constant__ Job job, const double* field, const double* weights, const int64* cells,
           const double* inverse_maps, int64 map_size, int64 tiles, int64 channels,
           const typename Element<SOURCE>::Storage* source, typename Element<TARGET>::Storage* target) {
    using Own = Sampling<SOURCE, TARGET, T, ORDER, AXES, DERIVED>;
    const Geometry& g = job.geometry;
    const Transform transform = {field, weights, cells, inverse_maps, map_size};
    const Place<AXES> place(g, tiles);
    Position<AXES> position;
    if (!find_position(g, transform, place, position)) return;
    const auto own = channels_of(g, place, channels, source, target);
    if constexpr (AXES != 0) {
        Stencil<AXES, T> stencil;
        if (find_inside<ORDER>(g, position, stencil)) return Own::compute_inside(g, stencil, own);
    }
    Own::compute_folded(g, position, own);
}

// Copies the element nearest to a position, or `fill` where there is none.
template <class Storage, int AXES>
__device__ ELASTICND_APART void copy_folded(const Geometry& g, Position<AXES> position, Storage fill,
                                            Channels<AXES, Storage, Storage> channels) {
    Stencil<AXES, double> stencil;
    find_folded<0>(g, position, stencil);
    const Strides<AXES> strides(g);
    int64 offset = 0;
    bool exists = stencil.exists;
    ELASTICND_ROLLED
    for (int k = 0; k < axes_of<AXES>(g); ++k) {
        const auto index = fold_index(pick<AXES>(stencil.first, k), coefficients_of<AXES>(g, k), g.mode);
        exists &= index >= 0;
        offset += int64(index) * pick<AXES>(strides.value, k);
    }
    channels.compute(g, [&](const Storage* plane) { return exists ? plane[offset] : fill; });
}

// Order 0 copies elements bit by bit, so that every value survives.
template <class Storage, int AXES>
__global__ void __launch_bounds__(tile_threads, (tile_blocks<double, AXES>(1)))
    copy(const __grid_constant__ Job job, const double* field, const double* weights, const int64* cells,
         const double* inverse_maps, int64 map_size, int64 tiles, int64 channels, const Storage* source,
         Storage* target) {
    const Geometry& g = job.geometry;
    const Transform transform = {field, weights, cells, inverse_maps, map_size};
    const Place<AXES> place(g, tiles);
    Position<AXES> position;
    if (!find_position(g, transform, place, position)) return;
    const auto own = channels_of(g, place, channels, source, target);
    if constexpr (AXES != 0) {
        Stencil<AXES, double> stencil;
        if (find_inside<0>(g, position, stencil)) {
            const int64 first = Strides<AXES>(g).first(stencil);
            return own.compute(g, [&](const Storage* plane) { return plane[first]; });
        }
    }
    Storage fill;
    ELASTICND_MEMCPY(&fill, job.cval_element, sizeof fill);
    copy_folded(g, position, fill, own);
}

// The label that wins the votes of the voxels under a stencil of order 1.
template <int DTYPE, int AXES>
class Election {
   public:
    using Label = Bits<DTYPE>;

    __device__ Election(const Geometry& g, const Stencil<AXES, double>& stencil, Label border_value)
        : weights_(g.axes), border_value_(border_value) {
        const Strides<AXES> strides(g);
        ELASTICND_UNROLLED
        for (int k = 0; k < axes_of<AXES>(g); ++k) {
            weights_.add(k, stencil.place[k]);
            ELASTICND_UNROLLED
            for (int one = 0; one < 2; ++one) {
                auto index = stencil.first[k] + one;
                if (!stencil.inside) index = fold_index(index, coefficients_of<AXES>(g, k), g.mode);
                along_[k][one] = index < 0 ? no_index : int64(index) * strides.value[k];
            }
        }
    }
    __device__ void compute(const Geometry& g, const Channels<AXES, Label, Label>& channels) const {
        channels.compute(g, [&](const Label* plane) {
            Label label[vote_taps<AXES>];
            bool alike = true;
            ELASTICND_UNROLLED
            for (int tap = 0; tap < weights_.taps(); ++tap) {
                label[tap] = label_of<DTYPE>(element(plane, tap));
                alike &= label[tap] == label[0];
            }
            return element(plane, alike ? weights_.nearest : winning_tap(weights_, label));
        });
    }

   private:
    __device__ Label element(const Label* plane, int tap) const {
        const int axes = AXES ? AXES : weights_.axes;
        int64 offset = 0;
        bool exists = true;
        ELASTICND_UNROLLED
        for (int k = 0; k < axes; ++k) {
            const int64 along = tap >> (axes - 1 - k) & 1 ? along_[k][1] : along_[k][0];
            exists &= along != no_index;
            offset += exists ? along : 0;
        }
        return exists ? plane[offset] : border_value_;
    }
    TapWeights<AXES> weights_;
    Label border_value_;
    int64 along_[Tile<AXES>::most_axes][2];  // offsets of the taps; no_index where the constant replaces a tap
};

template <int DTYPE, int AXES>
__device__ ELASTICND_APART void elect_folded(const Geometry& g, Position<AXES> position, Bits<DTYPE> border_value,
                                             Channels<AXES, Bits<DTYPE>, Bits<DTYPE>> channels) {
    Stencil<AXES, double> stencil;
    find_folded<1>(g, position, stencil);
    if (stencil.exists)
        Election<DTYPE, AXES>(g, stencil, border_value).compute(g, channels);
    else
        channels.compute(g, [&](const Bits<DTYPE>*) { return border_value; });
}

// Samples labels by votes.
template <int DTYPE, int AXES>
__global__ void __launch_bounds__(tile_threads,
                                  (tile_blocks<double, AXES>(2,
                                                             sizeof(Bits<DTYPE>) > 4 ? registers_of_wide_labels : 0)))
    elect(const __grid_constant__ Job job, const double* field, const double* weights, const int64* cells,
          const double* inverse_maps, int64 map_size, int64 tiles, int64 channels, const Bits<DTYPE>* source,
          Bits<DTYPE>* target) {
    const Geometry& g = job.geometry;
    const Transform transform = {field, weights, cells, inverse_maps, map_size};
    const Place<AXES> place(g, tiles);
    Position<AXES> position;
    if (!find_position(g, transform, place, position)) return;
    const auto own = channels_of(g, place, channels, source, target);
    Bits<DTYPE> border_value;
    ELASTICND_MEMCPY(&border_value, job.cval_element, sizeof border_value);
    if constexpr (AXES != 0) {
        Stencil<AXES, double> stencil;
        if (find_inside<1>(g, position, stencil)) {
            Election<DTYPE, AXES>(g, stencil, border_value).compute(g, own);
            return;
        }
    }
    elect_folded<DTYPE>(g, position, border_value, own);
}

// Computes the displacement of each voxel: (items, axes, outputs).
template <int AXES>
__global__ void __launch_bounds__(tile_threads, (tile_blocks<double, AXES>(1)))
    displace(const __grid_constant__ Job job, const double* field, const double* weights, const int64* cells,
             int64 tiles, double* target) {
    const Geometry& g = job.geometry;
    const Transform transform = {field, weights, cells, nullptr, 0};
    const Place<AXES> place(g, tiles);
    double displacement[Tile<AXES>::most_axes];
    find_displacement(g, transform, place, displacement);
    if (!place.active) return;
    const int axes = axes_of<AXES>(g);
    const int64 voxels = place.voxels(g);
    target += place.item * axes * voxels + place.voxel(g);
    ELASTICND_UNROLLED
    for (int k = 0; k < axes; ++k) target[k * voxels] = displacement[k];
}

ELASTICND_END
