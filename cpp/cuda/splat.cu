// The transposes of sampling: the gradient of the image, by atomic additions, and that of the transform, without any.
#include "tile.cuh"

ELASTICND_BEGIN

// Sums in integers, which come out the same in any order: multiples of 2^-26 of the largest gradient, and for doubles
// multiples of 2^-57 besides. There is room for 2^37 of them.
constexpr double coarse_step = 67108864.0;  // 2^26
constexpr double fine_step = 2147483648.0;  // 2^31
__device__ inline void add_fixed(uint64* coarse, uint64* fine, double scaled) {
    const double whole = floor_of(scaled * coarse_step + 0.5);
    atomicAdd(coarse, static_cast<uint64>(static_cast<int64>(whole)));
    if (!fine) return;
    const double rest = floor_of((scaled * coarse_step - whole) * fine_step + 0.5);
    atomicAdd(fine, static_cast<uint64>(static_cast<int64>(rest)));
}

// Adds to the gradient of the coefficients. GRADIENT is the element type of the output's gradient. If FIXED, `target`
// takes what is not finite alone, and the rest goes to integers, in units of 1 / *scale: `size` of them, and for
// doubles as many more.
template <int GRADIENT, class T, int ORDER, int AXES, bool DERIVED, bool FIXED>
__global__ void __launch_bounds__(tile_threads, tile_blocks)
    splat_image(Job job, const double* field, const double* weights, const int64* cells, const double* inverse_maps,
                int64 map_size, int64 tiles, int64 channels, const typename Element<GRADIENT>::Storage* gradient,
                T* target, uint64* fixed, int64 size, const double* scale) {
    const Geometry& g = job.geometry;
    const Transform transform = {field, weights, cells, inverse_maps, map_size};
    const Place<AXES> place(g, blockIdx.x, tiles);
    Stencil<AXES> stencil;
    if (!locate<ORDER>(g, transform, place, stencil)) return;
    if (!stencil.exists) return;
    T weight[Tile<AXES>::most_axes][ORDER + 1];
    weigh_stencil<ORDER, AXES, T, DERIVED>(g, stencil, weight);
    const Strides<AXES> strides(g);
    const int64 voxels = place.voxels(g);
    for (int64 channel = 0; channel < channels; ++channel) {
        const int64 plane = place.item * channels + channel;
        const T value = static_cast<T>(Element<GRADIENT>::load(gradient[plane * voxels + place.voxel(g)]));
        visit_taps<ORDER, AXES, T>(g, strides, stencil, weight, [&](int64 offset, T product, bool exists) {
            if (!exists) return;
            const int64 at = plane * strides.plane + offset;
            const T part = product * value;
            if constexpr (FIXED) {
                if (part - part == 0) {
                    uint64* fine = sizeof(T) == sizeof(double) ? fixed + size + at : nullptr;
                    add_fixed(fixed + at, fine, static_cast<double>(part) * *scale);
                    return;
                }
            }
            atomicAdd(target + at, part);
        });
    }
}

// Integer sums back to numbers.
template <class T>
__global__ void add_from_fixed(const uint64* fixed, int64 size, const double* scale, T* target) {
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= size) return;
    double sum = static_cast<double>(static_cast<int64>(fixed[i]));
    if (sizeof(T) == sizeof(double)) sum += static_cast<double>(static_cast<int64>(fixed[size + i])) / fine_step;
    target[i] += static_cast<T>(sum / coarse_step / *scale);
}

// ---- the transform
// -----------------------------------------------------------------------------------------------------

// What the voxels of a chunk of a tile's rows add, in shared memory until each coefficient has been summed.
template <int AXES>
struct Contributions {
    double value[Tile<AXES>::most_axes][tile_threads];
    double weight[Tile<AXES>::inner][4];
    int64 cell[Tile<AXES>::inner];
};

// Adds what a chunk adds to the sums of its rows: no two blocks share a row, so nothing depends on their order.
// `rows` is (items, axes, outputs but the innermost, points + 2); `moments` (items, axes, rows, 2) holds, for the
// affine map, the sum of the values and that of the values times their index. Called by all threads of the block.
template <int AXES>
__device__ void sum_chunk(const Geometry& g, const Transform& transform, const Place<AXES>& place,
                          Contributions<AXES>& contributions, double* rows, double* moments) {
    using Own = Tile<AXES>;
    const int inner = place.axes - 1;
    const int count =
        static_cast<int>(g.output[inner] - place.first < Own::inner ? g.output[inner] - place.first : Own::inner);
    if (place.own_row == 0 && place.lane < count)
        contributions.cell[place.lane] =
            find_cell(g, transform, inner, place.first + place.lane, contributions.weight[place.lane]);
    __syncthreads();
    const int64 width = extended_points(g.grid_shape[inner]);
    const int64 start = contributions.cell[0];
    const int span = static_cast<int>(contributions.cell[count - 1] + 4 - start);
    const int sums = span + (moments ? 2 : 0);
    int64 all_rows = 1;
    for (int k = 0; k < inner; ++k) all_rows *= g.output[k];
    const int64 entries = static_cast<int64>(Own::rows) * place.axes * sums;
    for (int64 entry = threadIdx.x; entry < entries; entry += tile_threads) {
        const int q = static_cast<int>(entry % sums);
        const int component = static_cast<int>(entry / sums % place.axes);
        const int row = static_cast<int>(entry / sums / place.axes);
        int64 index[Own::most_axes];
        if (!place.row_index(g, row, index)) continue;
        int64 number = 0;
        for (int k = 0; k < inner; ++k) number = number * g.output[k] + index[k];
        number += (place.item * place.axes + component) * all_rows;
        const double* value = contributions.value[component] + row * Own::inner;
        double sum = 0;
        for (int i = 0; i < count; ++i) {
            const int64 tap = start + q - contributions.cell[i];
            if (q >= span)
                sum += q == span ? value[i] : value[i] * static_cast<double>(g.from_origin(inner, place.first + i));
            else if (tap >= 0 && tap < 4)
                sum += value[i] * contributions.weight[i][tap];
        }
        if (q >= span)
            moments[2 * number + (q - span)] += sum;
        else
            rows[number * width + start + q] += sum;
    }
    __syncthreads();
}

// The gradient of the transform, in sums of rows. A block walks along the rows of its tile.
template <int SOURCE, int GRADIENT, class T, int ORDER, int AXES>
__global__ void __launch_bounds__(tile_threads, tile_blocks)
    splat_transform(Job job, const double* field, const double* weights, const int64* cells, const double* inverse_maps,
                    int64 map_size, int64 channels, const typename Element<SOURCE>::Storage* source,
                    const typename Element<GRADIENT>::Storage* gradient, double* rows, double* moments) {
    const Geometry& g = job.geometry;
    using Own = Tile<AXES>;
    __shared__ Contributions<AXES> contributions;
    const Transform transform = {field, weights, cells, inverse_maps, map_size};
    Place<AXES> place(g, blockIdx.x, 1);
    const Strides<AXES> strides(g);
    const int64 voxels = place.voxels(g);
    for (int64 first = 0; first < g.output[place.axes - 1]; first += Own::inner) {
        place.step_to(g, first);
        for (int k = 0; k < place.axes; ++k) contributions.value[k][threadIdx.x] = 0;
        Stencil<AXES> stencil;
        if (locate<ORDER>(g, transform, place, stencil) && stencil.exists) {
            T weight[Own::most_axes][ORDER + 1];
            weigh_stencil<ORDER, AXES, T, true>(g, stencil, weight);
            for (int k = 0; k < place.axes; ++k) {
                T kept[ORDER + 1];
                for (int tap = 0; tap <= ORDER; ++tap) kept[tap] = weight[k][tap];
                weigh<ORDER>(stencil.place[k], stencil.slope[k], g.derivative[k] + 1, weight[k]);
                double sum = 0;
                for (int64 channel = 0; channel < channels; ++channel) {
                    const int64 plane = place.item * channels + channel;
                    const T slope =
                        gather<ORDER, AXES, SOURCE>(g, strides, stencil, weight, source + plane * strides.plane);
                    sum += static_cast<double>(slope) *
                           static_cast<double>(Element<GRADIENT>::load(gradient[plane * voxels + place.voxel(g)]));
                }
                contributions.value[k][threadIdx.x] = sum;
                for (int tap = 0; tap <= ORDER; ++tap) weight[k][tap] = kept[tap];
            }
        }
        sum_chunk(g, transform, place, contributions, rows, moments);
    }
}

// The same for the gradient of a field of displacements, (items, axes, outputs).
template <int AXES>
__global__ void __launch_bounds__(tile_threads, tile_blocks)
    displace_adjoint(Job job, const double* weights, const int64* cells, const double* gradient, double* rows) {
    const Geometry& g = job.geometry;
    using Own = Tile<AXES>;
    __shared__ Contributions<AXES> contributions;
    const Transform transform = {nullptr, weights, cells, nullptr, 0};
    Place<AXES> place(g, blockIdx.x, 1);
    const int64 voxels = place.voxels(g);
    for (int64 first = 0; first < g.output[place.axes - 1]; first += Own::inner) {
        place.step_to(g, first);
        for (int k = 0; k < place.axes; ++k)
            contributions.value[k][threadIdx.x] =
                place.active ? gradient[(place.item * place.axes + k) * voxels + place.voxel(g)] : 0.0;
        sum_chunk(g, transform, place, contributions, rows, nullptr);
    }
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
        if (find_cell(g, transform, axis, middle, weight) < q - 3)
            low = middle + 1;
        else
            high = middle;
    }
    double sum = 0;
    for (int64 m = low; m < g.output[axis]; ++m) {
        const int64 tap = q - find_cell(g, transform, axis, m, weight);
        if (tap < 0) break;
        sum += weight[tap] * from[m * inner];
    }
    to[at] = sum;
}

ELASTICND_END
