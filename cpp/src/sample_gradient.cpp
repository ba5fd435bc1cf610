// The gradient of sampling with respect to the positions, gathered onto the control grid and the affine matrix.
#include "sample_kernels.hpp"
#include "stencil.hpp"

ELASTICND_BEGIN

namespace {

template <class T, int TAPS>
void copy_taps(const T* from, T* to, int axis) {
    for (int tap = 0; tap < TAPS; ++tap)
        to[axis * axis_step + tap * tap_step] = from[axis * axis_step + tap * tap_step];
}

// With axes that are not unrolled: one sum per axis, with the slopes in the place of that axis' weights.
template <class T, int TAPS, int AXES, class Lines>
void gradient_by_sums(const char* source, const TapOffsets& taps, const T* weight, const T* slope, const Lines& lines,
                      int axes, T* along) {
    T mixed[max_axes * axis_step];
    for (int k = 0; k < axes; ++k) copy_taps<T, TAPS>(weight, mixed, k);
    for (int k = 0; k < axes; ++k) {
        copy_taps<T, TAPS>(slope, mixed, k);
        along[k] = stencil_sum<T, TAPS, AXES>(source, taps.offset, mixed, lines, axes - AXES);
        copy_taps<T, TAPS>(weight, mixed, k);
    }
}

// Adds value * gradient to `gradient` for each voxel of a row.
template <class T, int ORDER, int AXES>
void gradient_row(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const WeightRows<T>& slopes,
                  const char* source, const T* values, double (*gradient)[row_length]) {
    constexpr int taps = ORDER + 1;
    const int axes = job.geometry.axes;
    const T beyond = static_cast<T>(job.geometry.beyond);
    const TapOffsets straight = straight_taps(job);
    const StraightLines<T, taps, own_dtype<T>> lines = {sizeof(T)};
    for (int i = 0; i < row.count; ++i) {
        const Kind kind = kind_of(row, i);
        if (kind == kind_nowhere) continue;
        const T* weight = &weights[0][0][i];
        const T* slope = &slopes[0][0][i];
        T along[max_axes];
        if (kind == kind_interior && axes == AXES) {
            stencil_gradient<T, taps, AXES>(source + row.offset[i], straight.offset, weight, slope, lines, along);
        } else {
            const TapOffsets folded = folded_taps(job, row, i);
            const FoldedLines<T, taps, own_dtype<T>> border = {folded.offset[axes - 1], beyond};
            if (axes == AXES)
                stencil_gradient<T, taps, AXES>(source, folded.offset, weight, slope, border, along);
            else
                gradient_by_sums<T, taps, AXES>(source, folded, weight, slope, border, axes, along);
        }
        for (int k = 0; k < axes; ++k) gradient[k][i] += static_cast<double>(values[i]) * static_cast<double>(along[k]);
    }
}

template <class T>
using GradientRow = void (*)(const SampleJob&, const Row&, const WeightRows<T>&, const WeightRows<T>&, const char*,
                             const T*, double (*)[row_length]);

template <class T>
GradientRow<T> choose_gradient(const Geometry& geometry) {
    return with_unrolled_axes(geometry.axes, [&](auto axes) -> GradientRow<T> {
        constexpr int AXES = decltype(axes)::value;
        return with_order(geometry.order,
                          [](auto order) -> GradientRow<T> { return gradient_row<T, decltype(order)::value, AXES>; });
    });
}

// x = A o + ...: the gradient of A is the sum of gradient times output index, that of the offset the sum of gradients.
void add_affine_gradient(const SampleJob& job, const Row& row, double (*gradient)[row_length], double* affine) {
    const int axes = job.geometry.axes;
    const int inner = axes - 1;
    for (int k = 0; k < axes; ++k) {
        double sum = 0;
        double moment = 0;
        for (int i = 0; i < row.count; ++i) {
            sum += gradient[k][i];
            moment += gradient[k][i] * static_cast<double>(row.index[inner] + i);
        }
        double* line = affine + k * (axes + 1);
        for (int j = 0; j < inner; ++j) line[j] += sum * static_cast<double>(row.index[j]);
        line[inner] += moment;
        line[axes] += sum;
    }
}

template <class T>
void gradient_as(const SampleJob& job, UnitRange units, double* grid_gradient, double* affine_gradient, void* scratch) {
    Walk walk(job, scratch, grid_gradient);
    Row row;
    WeightRows<T> weights;
    WeightRows<T> slopes;
    T values[row_length];
    double gradient[max_axes][row_length];
    const GradientRow<T> add_gradient = choose_gradient<T>(job.geometry);
    const WeighRow<T> weigh = choose_weigh<T>(job.geometry.order);
    const int axes = job.geometry.axes;
    int once[max_axes];
    int again[max_axes];
    for (int k = 0; k < axes; ++k) {
        once[k] = job.geometry.derivative[k];
        again[k] = once[k] + 1;
    }
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, row);
        walk.place(row);
        locate(job, row);
        weigh(row, axes, once, weights);
        weigh(row, axes, again, slopes);
        for (int k = 0; k < axes; ++k)
            for (int i = 0; i < row.count; ++i) gradient[k][i] = 0;
        for (int64 channel = 0; channel < job.channels; ++channel) {
            load_row(job.output.dtype, output_row(job, row, channel), job.output.stride[axes - 1], row.count,
                     own_dtype<T>, reinterpret_cast<char*>(values));
            add_gradient(job, row, weights, slopes, source_plane(job, row.item, channel), values, gradient);
        }
        for (int k = 0; k < axes; ++k) walk.gather_gradient(row, k, gradient[k]);
        add_affine_gradient(job, row, gradient, affine_gradient);
    }
    walk.flush();
}

}  // namespace

void scatter_grid(const SampleJob& job, UnitRange units, double* grid_gradient, double* affine_gradient,
                  void* scratch) {
    if (job.source.dtype == dtype_float64)
        gradient_as<double>(job, units, grid_gradient, affine_gradient, scratch);
    else
        gradient_as<float>(job, units, grid_gradient, affine_gradient, scratch);
}

ELASTICND_END
