// The transposes of sampling: the gradient of the image, which needs atomic additions, and the gradient of the
// transform, which does not.
#include "stencil.cuh"

ELASTICND_BEGIN

// Adds atomically to global memory. In functions that are not inlined, the compiler cannot tell which kind of memory a
// pointer refers to, hence the assumption.
template <class T>
__device__ void atomic_add(T* address, T value) {
#if defined(ELASTICND_CUDA)
    __builtin_assume(__isGlobal(address));
#endif
    atomicAdd(address, value);
}

// Adds a number in the form of integers, whose sums are the same in any order. The unit of the coarse sum is 2^-26 of
// the largest gradient; for doubles, the fine sum collects the remainders in units of 2^-57. There is room for 2^37
// terms.
constexpr double coarse_step = 67108864.0;  // 2^26
constexpr double fine_step = 2147483648.0;  // 2^31
__device__ inline void add_fixed(uint64* coarse, uint64* fine, double scaled) {
    const double whole = floor_of(scaled * coarse_step + 0.5);
    atomic_add(coarse, static_cast<uint64>(static_cast<int64>(whole)));
    if (!fine) return;
    const double rest = floor_of((scaled * coarse_step - whole) * fine_step + 0.5);
    atomic_add(fine, static_cast<uint64>(static_cast<int64>(rest)));
}

// The gradient of the coefficients, beginning at some plane. With FIXED, only values that are not finite are added to
// `target`. All others are multiplied by `*scale` and added to `size` integers, or twice as many for doubles.
template <class T, bool FIXED>
struct Sums {
    T* target;
    __device__ Sums(T* target, uint64*, int64, const double*) : target(target) {}
    __device__ Sums from(int64 plane) const { return {target + plane, nullptr, 0, nullptr}; }
    __device__ void add(int64 at, T part) const { atomic_add(target + at, part); }
};
template <class T>
struct Sums<T, true> {
    T* target;
    uint64* integers;
    int64 size;
    const double* scale;
    __device__ Sums(T* target, uint64* integers, int64 size, const double* scale)
        : target(target), integers(integers), size(size), scale(scale) {}
    __device__ Sums from(int64 plane) const { return {target + plane, integers + plane, size, scale}; }
    __device__ void add(int64 at, T part) const {
        if (part - part == 0) {
            uint64* fine = sizeof(T) == sizeof(double) ? integers + size + at : nullptr;
            add_fixed(integers + at, fine, static_cast<double>(part) * *scale);
        } else {
            atomic_add(target + at, part);
        }
    }
};

// What a thread adds to the gradient of the coefficients, in all channels. GRADIENT is the element type of the output's
// gradient.
template <int GRADIENT, class T, int ORDER, int AXES, bool DERIVED, bool FIXED>
struct Splatting {
    using Index = typename IndexOf<AXES>::Type;
    using Storage = typename Element<GRADIENT>::Storage;
    const Storage* gradient;  // at this voxel
    Sums<T, FIXED> sums;      // of this item
    Index channels;

    // Calls visit(value, sums) for each channel.
    template <class Visit>
    __device__ void spread(const Geometry& g, const Visit& visit) const {
        const int64 coefficients = Strides<AXES>(g).plane, voxels = Place<AXES>::voxels(g);
        const Storage* from = gradient;
        Sums<T, FIXED> to = sums;
        ELASTICND_ROLLED
        for (Index left = channels; left > 0; --left) {
            visit(static_cast<T>(Element<GRADIENT>::load(*from)), to);
            from += voxels;
            to = to.from(coefficients);
        }
    }
    __device__ void spread_inside(const Geometry& g, const Stencil<AXES, T>& stencil) const {
        T weight[Tile<AXES>::most_axes][ORDER + 1];
        weigh_stencil<ORDER, AXES, T, DERIVED>(g, stencil, weight);
        const Strides<AXES> strides(g);
        const int64 first = strides.first(stencil);
        spread(g, [&](T value, const Sums<T, FIXED>& to) {
            Taps<AXES, ORDER + 1, T, FIXED ? ORDER + 1 : fewer_unrolled>::visit(
                first, T(1), strides.value, weight, [&](int64 at, T product) { to.add(at, product * value); });
        });
    }
    static __device__ ELASTICND_APART void spread_folded(const Geometry& g, Position<AXES> position, Splatting own) {
        Stencil<AXES, T> stencil;
        find_folded<ORDER>(g, position, stencil);
        if (!stencil.exists) return;
        if constexpr (AXES != 0)
            if (stencil.inside) return own.spread_inside(g, stencil);
        T weight[Tile<AXES>::most_axes][ORDER + 1];
        weigh_stencil<ORDER, AXES, T, DERIVED>(g, stencil, weight);
        const Strides<AXES> strides(g);
        const FoldedTaps<ORDER, AXES, T> taps(g, strides, stencil);
        own.spread(g, [&](T value, const Sums<T, FIXED>& to) {
            taps.visit(Weights<ORDER, AXES, T>{weight}, [&](int64 offset, T product, bool exists) {
                if (exists) to.add(offset, product * value);
            });
        });
    }
};

// Adds the contributions of all voxels to the gradient of the coefficients.
template <int GRADIENT, class T, int ORDER, int AXES, bool DERIVED, bool FIXED>
__global__ void __launch_bounds__(tile_threads, (tile_blocks<T, AXES>(ORDER + 1, DERIVED* registers_of_derivatives +
                                                                                     FIXED * registers_of_fixed_sums)))
    splat_image(const __grid_constant__ Job job, const double* field, const double* weights, const int64* cells,
                const double* inverse_maps, int64 map_size, int64 tiles, int64 channels,
                const typename Element<GRADIENT>::Storage* gradient, T* target, uint64* integers, int64 size,
                const double* scale) {
    using Own = Splatting<GRADIENT, T, ORDER, AXES, DERIVED, FIXED>;
    const Geometry& g = job.geometry;
    const Transform transform = {field, weights, cells, inverse_maps, map_size};
    const Place<AXES> place(g, tiles);
    Position<AXES> position;
    if (!find_position(g, transform, place, position)) return;
    const auto count = static_cast<typename Own::Index>(channels);
    const auto planes = place.item * count;
    const Sums<T, FIXED> sums(target, integers, size, scale);
    const Own own = {gradient + planes * place.voxels(g) + place.voxel(g), sums.from(planes * Strides<AXES>(g).plane),
                     count};
    if constexpr (AXES != 0) {
        Stencil<AXES, T> stencil;
        if (find_inside<ORDER>(g, position, stencil)) return own.spread_inside(g, stencil);
    }
    Own::spread_folded(g, position, own);
}

// Converts integer sums back to numbers, and adds them to `target`.
template <class T>
__global__ void add_from_fixed(const uint64* integers, int64 size, const double* scale, T* target) {
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= size) return;
    double sum = static_cast<double>(static_cast<int64>(integers[i]));
    if (sizeof(T) == sizeof(double)) sum += static_cast<double>(static_cast<int64>(integers[size + i])) / fine_step;
    target[i] += static_cast<T>(sum / coarse_step / *scale);
}

// ---- the transform --------------------------------------------------------------------------------------------------

// The contributions of the voxels in one chunk of a tile's rows, kept in shared memory until they have been summed for
// each coefficient.
template <int AXES>
struct Contributions {
    double value[Tile<AXES>::most_axes][tile_threads];
    double weight[Tile<AXES>::inner][4];
    typename IndexOf<AXES>::Type cell[Tile<AXES>::inner];
};

// The section of its tile's rows that a block works on. Rows are split into `sections`, each with its own sums.
template <int AXES>
struct Section {
    using Index = typename Place<AXES>::Index;
    Index begin, end;
    int64 sums;  // index of this section's sums among those of all items
    __device__ Section(const Geometry& g, const Place<AXES>& place, int64 sections, int64 length) {
        const Index number = place.first / Tile<AXES>::inner;
        const int64 start = number * length;
        const int64 output = g.output[axes_of<AXES>(g) - 1];
        begin = static_cast<Index>(minimum(start, output));
        end = static_cast<Index>(minimum(start + length, output));
        sums = place.item * sections + number;
    }
};

// Adds the contributions of a chunk to the sums of its rows. No two blocks share a sum, so the results do not depend on
// the order of blocks. `rows` has shape (items, sections, axes, outputs except the innermost, points + 2). `moments`
// serves the affine map and has shape (items, sections, axes, rows, 2): the sum of the values, and the sum of the
// values times their index. All threads of the block must call it.
template <int AXES>
__device__ void sum_chunk(const Geometry& g, const Transform& transform, const Place<AXES>& place, int64 sums,
                          Contributions<AXES>& contributions, double* rows, double* moments) {
    using Own = Tile<AXES>;
    using Index = typename Place<AXES>::Index;
    const int axes = axes_of<AXES>(g), inner = axes - 1;
    const int count = place.count(g);
    if (place.own_row == 0 && place.lane < count)
        contributions.cell[place.lane] =
            find_cell<AXES>(g, transform, inner, place.first + place.lane, contributions.weight[place.lane]);
    __syncthreads();
    const Index start = contributions.cell[0];
    const int span = static_cast<int>(contributions.cell[count - 1] + 4 - start);
    const int component = place.lane / Own::lanes;
    if (place.active_row && component < axes) {
        const int64 number = (sums * axes + component) * place.rows(g) + place.row(g);
        const double* value = contributions.value[component] + place.own_row * Own::inner;
        rows += number * extended_points(g.grid_shape[inner]) + start;
        ELASTICND_ROLLED
        for (int q = place.lane % Own::lanes; q < span; q += Own::lanes) {
            double sum = 0;
            ELASTICND_ROLLED
            for (int i = 0; i < count; ++i) {
                const int tap = static_cast<int>(start - contributions.cell[i]) + q;
                if (tap >= 0 && tap < 4) sum = multiply_add(value[i], contributions.weight[i][tap], sum);
            }
            rows[q] += sum;
        }
        if (moments && place.lane % Own::lanes < 2) {
            const bool times_index = place.lane % Own::lanes;
            const double from = static_cast<double>(g.from_origin(inner, place.first));
            double sum = 0;
            ELASTICND_ROLLED
            for (int i = 0; i < count; ++i) sum = multiply_add(value[i], times_index ? from + i : 1.0, sum);
            moments[2 * number + times_index] += sum;
        }
    }
    __syncthreads();
}

// What a thread adds to the gradient of the transform: the products of its voxel's slopes and gradient, summed over all
// channels.
template <int SOURCE, int GRADIENT, class T, int ORDER, int AXES, bool DERIVED>
struct SlopeProducts {
    using Index = typename IndexOf<AXES>::Type;
    using Source = typename Element<SOURCE>::Storage;
    using Gradient = typename Element<GRADIENT>::Storage;
    static constexpr int most = Tile<AXES>::most_axes;
    const Source* source;      // of this item
    const Gradient* gradient;  // at this voxel
    double* sums;              // one for each axis, `tile_threads` apart
    Index channels;

    template <class FindSlopes>
    __device__ void sum(const Geometry& g, const FindSlopes& find_slopes) const {
        const int64 coefficients = Strides<AXES>(g).plane, voxels = Place<AXES>::voxels(g);
        const Source* from = source;
        const Gradient* own = gradient;
        double total[most] = {};
        ELASTICND_ROLLED
        for (Index left = channels; left > 0; --left) {
            T slopes[most];
            find_slopes(from, slopes);
            const double value = static_cast<double>(Element<GRADIENT>::load(*own));
            ELASTICND_UNROLLED
            for (int k = 0; k < axes_of<AXES>(g); ++k)
                total[k] = multiply_add(static_cast<double>(slopes[k]), value, total[k]);
            from += coefficients;
            own += voxels;
        }
        ELASTICND_UNROLLED
        for (int k = 0; k < axes_of<AXES>(g); ++k) sums[k * tile_threads] = total[k];
    }
    __device__ void sum_inside(const Geometry& g, const Stencil<AXES, T>& stencil) const {
        T weight[most][ORDER + 1], derived[most][ORDER + 1];
        weigh_stencil<ORDER, AXES, T, DERIVED>(g, stencil, weight);
        weigh_slopes<ORDER, AXES, T, DERIVED>(g, stencil, derived);
        const Strides<AXES> strides(g);
        const int64 first = strides.first(stencil);
        sum(g, [&](const Source* plane, T* slopes) {
            InnerSlopes<AXES, ORDER + 1, SOURCE, T>::of(plane + first, strides.value, weight, derived, slopes);
        });
    }
    static __device__ void sum_folded_taps(const Geometry& g, const Position<AXES>& position,
                                           const SlopeProducts& own) {
        Stencil<AXES, T> stencil;
        find_folded<ORDER>(g, position, stencil);
        if (!stencil.exists) return;
        if constexpr (AXES != 0)
            if (stencil.inside) return own.sum_inside(g, stencil);
        T weight[most][ORDER + 1], derived[most][ORDER + 1];
        weigh_stencil<ORDER, AXES, T, DERIVED>(g, stencil, weight);
        weigh_slopes<ORDER, AXES, T, DERIVED>(g, stencil, derived);
        const Strides<AXES> strides(g);
        const FoldedTaps<ORDER, AXES, T> taps(g, strides, stencil);
        own.sum(g, [&](const Source* plane, T* slopes) {
            ELASTICND_ROLLED
            for (int k = 0; k < axes_of<AXES>(g); ++k) {
                const SlopeWeights<ORDER, AXES, T> own_weight = {weight, derived, k};
                put<AXES>(slopes, k, sum_folded<SOURCE>(g, taps, own_weight, plane));
            }
        });
    }
};

// Computes the gradient of the transform as sums over rows. A block walks along the rows of its tile, or along one
// section of them.
template <int SOURCE, int GRADIENT, class T, int ORDER, int AXES, bool DERIVED>
__global__ void __launch_bounds__(tile_threads, (tile_blocks<T, AXES>(2 * (ORDER + 1), registers_of_slopes)))
    splat_transform(const __grid_constant__ Job job, const double* field, const double* weights, const int64* cells,
                    const double* inverse_maps, int64 map_size, int64 sections, int64 length, int64 channels,
                    const typename Element<SOURCE>::Storage* source,
                    const typename Element<GRADIENT>::Storage* gradient, double* rows, double* moments) {
    using Own = SlopeProducts<SOURCE, GRADIENT, T, ORDER, AXES, DERIVED>;
    using Index = typename Place<AXES>::Index;
    const Geometry& g = job.geometry;
    __shared__ Contributions<AXES> contributions;
    const Transform transform = {field, weights, cells, inverse_maps, map_size};
    const int axes = axes_of<AXES>(g);
    Place<AXES> place(g, sections);
    const Section<AXES> section(g, place, sections, length);
    ELASTICND_ROLLED
    for (Index first = section.begin; first < section.end; first += Tile<AXES>::inner) {
        place.step_to(g, first);
        double* const sums = &contributions.value[0][threadIdx.x];
        ELASTICND_UNROLLED
        for (int k = 0; k < axes; ++k) sums[k * tile_threads] = 0;
        Position<AXES> position;
        if (find_position(g, transform, place, position)) {
            const auto count = static_cast<typename Own::Index>(channels);
            const auto planes = place.item * count;
            const Own own = {source + planes * Strides<AXES>(g).plane,
                             gradient + planes * place.voxels(g) + place.voxel(g), sums, count};
            Stencil<AXES, T> stencil;
            bool is_inside = false;
            if constexpr (AXES != 0) is_inside = find_inside<ORDER>(g, position, stencil);
            if constexpr (AXES != 0)
                if (is_inside) own.sum_inside(g, stencil);
            if (!is_inside) Own::sum_folded_taps(g, position, own);
        }
        sum_chunk(g, transform, place, section.sums, contributions, rows, moments);
    }
}

// The same for the gradient of a displacement field, (items, axes, outputs).
template <int AXES>
__global__ void __launch_bounds__(tile_threads, (tile_blocks<double, AXES>(1)))
    displace_adjoint(const __grid_constant__ Job job, const double* weights, const int64* cells, int64 sections,
                     int64 length, const double* gradient, double* rows) {
    const Geometry& g = job.geometry;
    using Own = Tile<AXES>;
    using Index = typename Place<AXES>::Index;
    __shared__ Contributions<AXES> contributions;
    const Transform transform = {nullptr, weights, cells, nullptr, 0};
    const int axes = axes_of<AXES>(g);
    Place<AXES> place(g, sections);
    const Section<AXES> section(g, place, sections, length);
    const int64 voxels = place.voxels(g);
    gradient += int64(place.item) * axes * voxels;
    ELASTICND_ROLLED
    for (Index first = section.begin; first < section.end; first += Own::inner) {
        place.step_to(g, first);
        ELASTICND_UNROLLED
        for (int k = 0; k < axes; ++k)
            contributions.value[k][threadIdx.x] = place.active ? gradient[k * voxels + place.voxel(g)] : 0.0;
        sum_chunk(g, transform, place, section.sums, contributions, rows, nullptr);
    }
}

ELASTICND_END
