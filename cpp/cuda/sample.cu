// Sampling: each thread computes one voxel of the output, in all its channels.
#include "tile.cuh"

ELASTICND_BEGIN

// SOURCE is the element type of the coefficients, or of the image itself; TARGET that of the output.
template <int SOURCE, int TARGET, class T, int ORDER, int AXES, bool DERIVED>
__global__ void __launch_bounds__(tile_threads, tile_blocks)
    sample(Job job, const double* field, const double* weights, const int64* cells, const double* inverse_maps,
           int64 map_size, int64 tiles, int64 channels, const typename Element<SOURCE>::Storage* source,
           typename Element<TARGET>::Storage* target) {
    const Geometry& g = job.geometry;
    using Real = typename Element<TARGET>::Real;
    const Transform transform = {field, weights, cells, inverse_maps, map_size};
    const Place<AXES> place(g, blockIdx.x, tiles);
    Stencil<AXES> stencil;
    if (!locate<ORDER>(g, transform, place, stencil)) return;
    T weight[Tile<AXES>::most_axes][ORDER + 1];
    weigh_stencil<ORDER, AXES, T, DERIVED>(g, stencil, weight);
    const Strides<AXES> strides(g);
    const int64 voxels = place.voxels(g);
    typename Element<TARGET>::Storage* to = target + place.item * channels * voxels + place.voxel(g);
    for (int64 channel = 0; channel < channels; ++channel) {
        T value = static_cast<T>(g.cval);
        if (stencil.exists)
            value = gather<ORDER, AXES, SOURCE>(g, strides, stencil, weight,
                                                source + (place.item * channels + channel) * strides.plane);
        to[channel * voxels] = Element<TARGET>::store(static_cast<Real>(value));
    }
}

// Order 0 copies elements, whatever they are, so that every value survives.
template <class Storage, int AXES>
__global__ void __launch_bounds__(tile_threads, tile_blocks)
    copy(Job job, const double* field, const double* weights, const int64* cells, const double* inverse_maps,
         int64 map_size, int64 tiles, int64 channels, const Storage* source, Storage* target) {
    const Geometry& g = job.geometry;
    const Transform transform = {field, weights, cells, inverse_maps, map_size};
    const Place<AXES> place(g, blockIdx.x, tiles);
    Stencil<AXES> stencil;
    if (!locate<0>(g, transform, place, stencil)) return;
    const Strides<AXES> strides(g);
    const int64 voxels = place.voxels(g);
    int64 offset = 0;
    bool exists = stencil.exists;
    for (int k = 0; k < place.axes; ++k) {
        const int64 index = fold_index(stencil.first[k], g.image[k], g.mode);
        exists &= index != no_index;
        if (exists) offset += index * strides.value[k];
    }
    Storage fill;
    ELASTICND_MEMCPY(&fill, job.cval_element, sizeof fill);
    Storage* to = target + place.item * channels * voxels + place.voxel(g);
    for (int64 channel = 0; channel < channels; ++channel)
        to[channel * voxels] = exists ? source[(place.item * channels + channel) * strides.plane + offset] : fill;
}

// The displacement of each voxel, (items, axes, outputs).
template <int AXES>
__global__ void __launch_bounds__(tile_threads, tile_blocks)
    displace(Job job, const double* field, const double* weights, const int64* cells, int64 tiles, double* target) {
    const Geometry& g = job.geometry;
    const Transform transform = {field, weights, cells, nullptr, 0};
    const Place<AXES> place(g, blockIdx.x, tiles);
    double displacement[Tile<AXES>::most_axes];
    if (!find_displacement(g, transform, place, displacement)) return;
    const int64 voxels = place.voxels(g);
    for (int k = 0; k < place.axes; ++k)
        target[(place.item * place.axes + k) * voxels + place.voxel(g)] = displacement[k];
}

ELASTICND_END
