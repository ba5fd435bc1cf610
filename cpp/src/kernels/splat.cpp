// The transposes of sampling. In its source: each output value is spread over the coefficients under its stencil. In
// the positions: its product with the gradient there is gathered onto the control grid and the affine matrix.
#include <cstring>

#include "kernels/kernels.hpp"
#include "kernels/stencil.hpp"

ELASTICND_BEGIN

namespace {

// ---- onto the image ------------------------------------------------------------------------------------------------

// Taps first to last - 1 along the first axis.
template <class T, int TAPS, int AXES>
void spread_part(char* at, const int64* stride, const T* weight, int outer, T value, int first, int last) {
    const int64 element = sizeof(T);
    if (outer > 0) {
        for_each_outer_tap<TAPS>(outer, [&](const int* tap) {
            if (tap[0] < first || tap[0] >= last) return;
            char* place = at;
            T share = value;
            for (int k = 0; k < outer; ++k) {
                place += tap[k] * stride[k];
                share *= weight[k * axis_step + tap[k] * tap_step];
            }
            spread_stencil<T, TAPS, AXES>(place, stride + outer, weight + outer * axis_step, 0, share);
        });
    } else if constexpr (AXES == 1) {
        for (int tap = first; tap < last; ++tap) {
            T sum;
            std::memcpy(&sum, at + tap * element, sizeof sum);
            sum += weight[tap * tap_step] * value;
            std::memcpy(at + tap * element, &sum, sizeof sum);
        }
    } else if constexpr (AXES == 2) {
        const Taps<T, TAPS> inner = Taps<T, TAPS>::gather(weight + axis_step, tap_step);
        for (int tap = first; tap < last; ++tap)
            add_line<T, TAPS>(at + tap * stride[0], inner.scaled(weight[tap * tap_step]), value);
    } else {
        for (int tap = first; tap < last; ++tap)
            spread_stencil<T, TAPS, AXES - 1>(at + tap * stride[0], stride + 1, weight + axis_step, 0,
                                              value * weight[tap * tap_step]);
    }
}

// A slab gets its share of every voxel, always in one order. So the sum in a coefficient is the same, bit for
// bit, however the coefficients are divided into slabs.
template <class T, int ORDER, int AXES>
void spread_row(const SampleJob& job, const Planes& image, const Row& row, const WeightRows<T>& weights, Slab slab,
                const T* values, char* target) {
    constexpr int taps = ORDER + 1;
    // Where the slabs divide rows, no lane may lie in another slab.
    constexpr int reach = AXES == 1 ? Taps<T, taps>::lanes : taps;
    const int outer = job.geometry.axes - AXES;
    int64 stride[max_axes];
    for (int k = 0; k < job.geometry.axes; ++k) stride[k] = image.stride[k];
    const double slab_first = static_cast<double>(slab.first);
    const double slab_last = static_cast<double>(slab.last);
    auto spread = [&](int i) ELASTICND_FLAT_LAMBDA {
        if (!row.everywhere && !row.exists[i]) return;
        fetch_next_lines<taps, AXES>(target + row.offset[i], stride, i);
        const double first = row.first[0][i];
        if (first >= slab_first && first + reach <= slab_last) {
            spread_stencil<T, taps, AXES>(target + row.offset[i], stride, &weights[0][0][i], outer, values[i]);
        } else if (first + taps > slab_first && first < slab_last) {
            const int from = static_cast<int>(maximum(slab_first - first, 0.0));
            const int to = static_cast<int>(minimum(slab_last - first, static_cast<double>(taps)));
            spread_part<T, taps, AXES>(target + row.offset[i], stride, &weights[0][0][i], outer, values[i], from, to);
        }
    };
    // Neighbours write to overlapping vectors, and would wait for each other. So voxels from all over the row take
    // turns.
    constexpr int turns = 8;
    const int steps = (row.count + turns - 1) / turns;
    for (int step = 0; step < steps; ++step)
        for (int i = step; i < row.count; i += steps) spread(i);
}

// ---- onto the positions --------------------------------------------------------------------------------------------

// With axes that are not unrolled: of each of their taps, the gradient along the others, and the sum.
template <class T, int TAPS, int AXES>
void looped_gradient(const char* at, const int64* stride, const T* weight, const T* slope, int axes, T* along) {
    const int outer = axes - AXES;
    const CoefficientLines<T, TAPS> lines;
    const T* inner_weight = weight + outer * axis_step;
    for (int k = 0; k < axes; ++k) along[k] = T(0);
    for_each_outer_tap<TAPS>(outer, [&](const int* tap) {
        const char* place = at;
        T factor = T(1);
        for (int k = 0; k < outer; ++k) {
            place += tap[k] * stride[k];
            factor *= weight[k * axis_step + tap[k] * tap_step];
        }
        T of_inner[AXES];
        stencil_gradient<T, TAPS, AXES>(place, stride + outer, inner_weight, slope + outer * axis_step, lines,
                                        of_inner);
        for (int k = 0; k < AXES; ++k) along[outer + k] += factor * of_inner[k];
        const T sum = stencil_sum<T, TAPS, AXES>(place, stride + outer, inner_weight, lines);
        for (int sloped = 0; sloped < outer; ++sloped) {
            T share = sum;
            for (int k = 0; k < outer; ++k) share *= (k == sloped ? slope : weight)[k * axis_step + tap[k] * tap_step];
            along[sloped] += share;
        }
    });
}

// Adds value * gradient to `gradient` for each voxel of a row.
template <class T, int ORDER, int AXES>
void gradient_row(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const WeightRows<T>& slopes,
                  const char* source, const T* values, T (*gradient)[row_length]) {
    constexpr int taps = ORDER + 1;
    const int axes = job.geometry.axes;
    const CoefficientLines<T, taps> lines;
    int64 stride[max_axes];
    for (int k = 0; k < axes; ++k) stride[k] = job.source.stride[k];
    for (int i = 0; i < row.count; ++i) {
        if (!row.everywhere && !row.exists[i]) continue;
        fetch_next_lines<taps, AXES>(source + row.offset[i], stride, i);
        const T* weight = &weights[0][0][i];
        const T* slope = &slopes[0][0][i];
        T along[max_axes];
        if constexpr (AXES == max_unrolled_axes) {
            if (axes > AXES) {
                looped_gradient<T, taps, AXES>(source + row.offset[i], stride, weight, slope, axes, along);
                for (int k = 0; k < axes; ++k) gradient[k][i] += values[i] * along[k];
                continue;
            }
        }
        stencil_gradient<T, taps, AXES>(source + row.offset[i], stride, weight, slope, lines, along);
        for (int k = 0; k < AXES; ++k) gradient[k][i] += values[i] * along[k];
    }
}

// x = A o + ...: the gradient of A is the sum of gradient times output index, that of the offset the sum of gradients.
template <class T>
void add_affine_gradient(const SampleJob& job, const Row& row, int k, const T* gradient, double* affine) {
    const int axes = job.geometry.axes;
    const int inner = axes - 1;
    double sum = 0;
    double moment = 0;
    for (int i = 0; i < row.count; ++i) {
        sum += static_cast<double>(gradient[i]);
        moment += static_cast<double>(gradient[i]) *
                  static_cast<double>(job.geometry.from_origin(inner, row.index[inner] + i));
    }
    double* line = affine + k * (axes + 1);
    for (int j = 0; j < inner; ++j) line[j] += sum * static_cast<double>(job.geometry.from_origin(j, row.index[j]));
    line[inner] += moment;
    line[axes] += sum;
}

// ---- both ----------------------------------------------------------------------------------------------------------

template <class T>
struct RowKernels {
    void (*spread)(const SampleJob&, const Planes&, const Row&, const WeightRows<T>&, Slab, const T*, char*);
    void (*gradient)(const SampleJob&, const Row&, const WeightRows<T>&, const WeightRows<T>&, const char*, const T*,
                     T (*)[row_length]);
};

template <class T>
RowKernels<T> choose_row_kernels(const Geometry& geometry) {
    return with_unrolled_axes(geometry.axes, [&](auto axes) {
        [[maybe_unused]] constexpr int AXES = decltype(axes)::value;  // GCC 12 overlooks its use in the lambda
        return with_order(geometry.order, [](auto constant) -> RowKernels<T> {
            constexpr int ORDER = decltype(constant)::value;
            return {spread_row<T, ORDER, AXES>, gradient_row<T, ORDER, AXES>};
        });
    });
}

template <class T>
struct SplatScratch {
    Row row;
    WeightRows<T> weights;
    WeightRows<T> slopes;
    T values[row_length];
    T gradient[max_axes][row_length];
};

template <class T>
void splat_as(const SampleJob& job, UnitRange units, const SplatTargets& targets, void* scratch) {
    auto& own = allocate_scratch<SplatScratch<T>>(scratch);
    Row& row = own.row;
    Walk walk(job, true, scratch, targets.grid);
    const RowKernels<T> kernels = choose_row_kernels<T>(job.geometry);
    const WeighRow<T> weigh = choose_weigh<T>(job.geometry.order);
    const int axes = job.geometry.axes;
    int steeper[max_axes];
    for (int k = 0; k < axes; ++k) steeper[k] = job.geometry.derivative[k] + 1;
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, row);
        // The gradient of the grid needs every voxel, that of the image those that meet the slab.
        if (!walk.locate(row, targets.grid ? nullptr : &targets.slab)) continue;
        weigh(row, axes, job.geometry.derivative, own.weights);
        if (targets.grid) {
            weigh(row, axes, steeper, own.slopes);
            for (int k = 0; k < axes; ++k) std::memset(own.gradient[k], 0, sizeof own.gradient[k]);
        }
        for (int64 channel = 0; channel < job.channels; ++channel) {
            load_row(job.output.dtype, output_row(job, row, channel), job.output.stride[axes - 1], row.count,
                     own_dtype<T>, reinterpret_cast<char*>(own.values));
            if (targets.image)
                kernels.spread(job, *targets.image, row, own.weights, targets.slab, own.values,
                               targets.image->data + targets.image->offset[row.item * job.channels + channel]);
            if (targets.grid)
                kernels.gradient(job, row, own.weights, own.slopes, source_plane(job, row.item, channel), own.values,
                                 own.gradient);
        }
        for (int k = 0; targets.grid && k < axes; ++k) {
            walk.gather_gradient(row, k, own.gradient[k]);
            if (targets.affine) add_affine_gradient(job, row, k, own.gradient[k], targets.affine);
        }
    }
    if (targets.grid) walk.flush();
}

struct DisplacementScratch {
    Row row;
    double values[row_length];
};

}  // namespace

void displace_adjoint(const SampleJob& job, UnitRange units, const SplatTargets& targets, void* scratch) {
    auto& own = allocate_scratch<DisplacementScratch>(scratch);
    Walk walk(job, false, scratch, targets.grid);
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, own.row);
        for (int component = 0; component < job.geometry.axes; ++component) {
            load_row(dtype_float64, output_row(job, own.row, component), job.output.stride[job.geometry.axes - 1],
                     own.row.count, dtype_float64, reinterpret_cast<char*>(own.values));
            walk.gather_gradient(own.row, component, own.values);
        }
    }
    walk.flush();
}

void splat(const SampleJob& job, UnitRange units, const SplatTargets& targets, void* scratch) {
    if (job.source.dtype == dtype_float64)
        splat_as<double>(job, units, targets, scratch);
    else
        splat_as<float>(job, units, targets, scratch);
}

int64 splat_scratch_size() { return static_cast<int64>(sizeof(SplatScratch<double>)); }

ELASTICND_END
