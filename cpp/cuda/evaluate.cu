// The displacement and its derivatives at arbitrary positions, and the transpose with respect to the control points.
#include "control.cuh"

ELASTICND_BEGIN

// A position located on the control grid of its batch item.
template <int AXES>
struct OnGrid {
    static constexpr int most = Tile<AXES>::most_axes;
    GridPosition axis[most];
    int64 stride[most];
    int64 first;  // index of the first tap's coefficient, within one component
    int64 size;   // number of coefficients of one component
    bool exists;

    __device__ OnGrid(const Geometry& g, const double* position) : first(0), size(1), exists(true) {
        ELASTICND_UNROLLED
        for (int k = axes_of<AXES>(g) - 1; k >= 0; --k) {
            stride[k] = size;
            size *= extended_points(g.grid_shape[k]);
            axis[k] = find_on_grid(position[k], g.image[k], g.grid_shape[k]);
            first += axis[k].cell * stride[k];
            exists &= axis[k].exists;
        }
    }
    // Computes the weights along each axis for derivative `number`, whose digits in base `axes` name the axes to
    // differentiate along.
    __device__ void weigh(const Geometry& g, int order, int64 number, double (*weight)[4]) const {
        const int axes = axes_of<AXES>(g);
        ELASTICND_UNROLLED
        for (int k = 0; k < axes; ++k) {
            int times = 0;
            int64 digits = number;
            ELASTICND_ROLLED
            for (int i = 0; i < order; ++i, digits /= axes) times += digits % axes == k;
            grid_weights_at(axis[k], g.grid_shape[k], times, weight[k]);
        }
    }
};

// Computes the values, (items, count, axes, axes ^ order), with one thread for each position.
template <int AXES>
__global__ void evaluate(const __grid_constant__ Job job, int64 size, int64 count, int64 derivatives,
                         const double* field, const double* positions, double* values) {
    const Geometry& g = job.geometry;
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int axes = axes_of<AXES>(g);
    const OnGrid<AXES> place(g, positions + i * axes);
    const double* from = field + i / count * axes * place.size + place.first;
    values += i * axes * derivatives;
    ELASTICND_ROLLED
    for (int64 number = 0; number < derivatives; ++number) {
        double weight[OnGrid<AXES>::most][4];
        place.weigh(g, job.evaluation_order, number, weight);
        ELASTICND_ROLLED
        for (int c = 0; c < axes; ++c) {
            double value;
            if constexpr (AXES != 0)
                value = Contraction<AXES>::sum(from + c * place.size, place.stride, weight);
            else
                value = contract_many(axes, from + c * place.size, place.stride, weight);
            values[c * derivatives + number] = place.exists ? value : bits_as<double>(0x7ff8000000000000LL);
        }
    }
}

// Each block adds to its own sums, shaped like the coefficients, so the results do not depend on the order of threads.
// A block processes its positions one after the other; each of its threads handles some of their taps.
template <int AXES>
__global__ void evaluate_adjoint(const __grid_constant__ Job job, int64 count, int64 together, int64 derivatives,
                                 const double* gradient, const double* positions, double* sums) {
    const Geometry& g = job.geometry;
    const int axes = axes_of<AXES>(g);
    constexpr int taps = AXES ? 4 : 0;
    const int64 parts = ceil_of(count, together);
    const int64 item = blockIdx.x / parts;
    const int64 start = blockIdx.x % parts * together;
    const int64 stop = start + together < count ? start + together : count;
    for (int64 i = item * count + start; i < item * count + stop; ++i) {
        const OnGrid<AXES> place(g, positions + i * axes);
        double* to = sums + static_cast<int64>(blockIdx.x) * axes * place.size + place.first;
        const double* from = gradient + i * axes * derivatives;
        __syncthreads();
        for (int tap = static_cast<int>(threadIdx.x); place.exists && tap < 1 << (2 * axes);
             tap += evaluation_threads) {
            int64 offset = 0;
            ELASTICND_UNROLLED
            for (int k = 0; k < axes; ++k) offset += ((tap >> (2 * (axes - 1 - k))) & 3) * place.stride[k];
            ELASTICND_ROLLED
            for (int64 number = 0; number < derivatives; ++number) {
                double weight[OnGrid<AXES>::most][4];
                place.weigh(g, job.evaluation_order, number, weight);
                double product = 1;
                ELASTICND_UNROLLED
                for (int k = 0; k < axes; ++k) product *= pick<taps>(weight[k], (tap >> (2 * (axes - 1 - k))) & 3);
                ELASTICND_ROLLED
                for (int c = 0; c < axes; ++c) to[c * place.size + offset] += product * from[c * derivatives + number];
            }
        }
    }
}

ELASTICND_END
