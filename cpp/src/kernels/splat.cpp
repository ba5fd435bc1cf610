// The transposes of sampling. For the source, each output value is spread over the coefficients under its stencil. For
// the positions, output values times the slopes of the spline are summed for the control grid and the affine matrix.
#include <cstring>

#include "kernels/kernels.hpp"
#include "kernels/lines.hpp"
#include "kernels/located.hpp"
#include "kernels/stencil.hpp"

ELASTICND_BEGIN

namespace {

// ---- onto the image ------------------------------------------------------------------------------------------------

// Adds to taps `first` to `last - 1` along the first axis.
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

// A slab gets its share of every voxel, always in the same order. The sum in a coefficient is therefore the same, bit
// for bit, for any number of slabs. `slab` is null if there is only one.
template <class T, int ORDER, int AXES>
void spread_row(const SampleJob& job, const Planes& image, const Row& row, const WeightRows<T>& weights,
                const Slab* slab, const T* values, char* target) {
    constexpr int taps = ORDER + 1;
    // If slabs divide rows, no lane may lie in another slab.
    constexpr int reach = AXES == 1 ? Taps<T, taps>::lanes : taps;
    const int outer = job.geometry.axes - AXES;
    int64 stride[max_axes];
    for (int k = 0; k < job.geometry.axes; ++k) stride[k] = image.stride[k];
    const double slab_first = slab ? static_cast<double>(slab->first) : 0;
    const double slab_last = slab ? static_cast<double>(slab->last) : 0;
    auto spread = [&](int i) ELASTICND_FLAT_LAMBDA {
        if (!row.everywhere && !row.exists[i]) return;
        fetch_next_lines<taps, AXES>(target + row.offset[i], stride, i);
        const double first = slab ? row.first[0][i] : 0;
        if (!slab || (first >= slab_first && first + reach <= slab_last)) {
            spread_stencil<T, taps, AXES>(target + row.offset[i], stride, &weights[0][0][i], outer, values[i]);
        } else if (first + taps > slab_first && first < slab_last) {
            const int from = static_cast<int>(maximum(slab_first - first, 0.0));
            const int to = static_cast<int>(minimum(slab_last - first, static_cast<double>(taps)));
            spread_part<T, taps, AXES>(target + row.offset[i], stride, &weights[0][0][i], outer, values[i], from, to);
        }
    };
    // Neighbours write to overlapping vectors and would wait for each other. Therefore, voxels from distant parts of
    // the row take turns.
    constexpr int turns = 8;
    const int steps = (row.count + turns - 1) / turns;
    for (int step = 0; step < steps; ++step)
        for (int i = step; i < row.count; i += steps) spread(i);
}

// ---- onto the positions --------------------------------------------------------------------------------------------

// Loops over the taps of axes that are not unrolled; each tap adds a gradient along the other axes, and a sum.
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

// Adds the value of each voxel times its gradient to `gradient`; works on blocks of voxels.
template <int AXES>
void gradient_in_blocks(const SampleJob& job, const Row& row, const WeightRows<float>& weights,
                        const WeightRows<float>& slopes, const char* source, const float* values,
                        float (*gradient)[row_length]) {
    constexpr int taps = 4;
    constexpr int inner = AXES - 1;
    const CoefficientLines<float, taps> lines;
    int64 stride[AXES];
    for (int k = 0; k < AXES; ++k) stride[k] = job.source.stride[k];
    BlockOfLines block[AXES] = {};
    for (int i = 0; i < row.count; i += block_voxels) {
        const int some = minimum(block_voxels, row.count - i);
        for (int l = 0; l < some; ++l) {
            const int v = i + l;
            if (!row.everywhere && !row.exists[v]) {
                for (int k = 0; k < AXES; ++k) block[k].line[l] = BlockOfLines::Four{};
                continue;
            }
            const char* at = source + row.offset[v];
            fetch_next_lines<taps, AXES>(at, stride, v);
            const auto sum =
                contract_gradient<float, taps, AXES>(at, stride, &weights[0][0][v], &slopes[0][0][v], lines);
            for (int k = 0; k < AXES - 2; ++k) block[k].line[l] = sum.steep[k].tap;
            block[inner - 1].line[l] = sum.pair.second().tap;
            block[inner].line[l] = sum.pair.first().tap;
        }
        using Eight = BlockOfLines::Eight;
        const Eight value = load_vector<Eight>(values + i);
        for (int k = 0; k < AXES; ++k) {
            const Eight along = block[k].dot(&(k == inner ? slopes : weights)[inner][0][i]);
            store_vector(gradient[k] + i, load_vector<Eight>(gradient[k] + i) + value * along);
        }
    }
}

// The same, for any order. Values of voxels without a position are zero.
template <class T, int ORDER, int AXES>
void gradient_row(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const WeightRows<T>& slopes,
                  const char* source, const T* values, T (*gradient)[row_length]) {
    constexpr int taps = ORDER + 1;
    const int axes = job.geometry.axes;
    if constexpr (sums_in_blocks<T, taps> && AXES > 1)
        if (axes == AXES) return gradient_in_blocks<AXES>(job, row, weights, slopes, source, values, gradient);
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

// x = A o + b: the gradient of A is the sum of gradients times output indices, and that of b is the sum of gradients.
void add_affine_gradient(const SampleJob& job, const Row& row, int k, const double* gradient, double* affine) {
    const int axes = job.geometry.axes;
    const int inner = axes - 1;
    double sum = 0;
    double moment = 0;
    for (int i = 0; i < row.count; ++i) {
        sum += gradient[i];
        moment += gradient[i] * static_cast<double>(job.geometry.from_origin(inner, row.index[inner] + i));
    }
    double* line = affine + k * (axes + 1);
    for (int j = 0; j < inner; ++j) line[j] += sum * static_cast<double>(job.geometry.from_origin(j, row.index[j]));
    line[inner] += moment;
    line[axes] += sum;
}

// ---- both ----------------------------------------------------------------------------------------------------------

template <class T>
struct RowKernels {
    void (*spread)(const SampleJob&, const Planes&, const Row&, const WeightRows<T>&, const Slab*, const T*, char*);
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
    Located<T> located;
    LocatedDetails<T> details;
    WeightRows<T> weights;
    WeightRows<T> slopes;
    T values[row_length];
    T gradient[max_axes][row_length];
    double of_positions[row_length];
};

bool holds_all(const Geometry& geometry, const Slab& slab) {
    return slab.first <= geometry.box_start[0] && slab.last >= geometry.box_start[0] + geometry.box_extent[0];
}

// Sets row.first along the first axis.
template <class T>
void set_first_taps(const SampleJob& job, const LocatedDetails<T>& details, Row& row) {
    const double start = static_cast<double>(job.geometry.box_start[0]);
    const double stride = static_cast<double>(job.source.stride[0]);
    for (int i = 0; i < row.count; ++i) row.first[0][i] = start + details.lead[i] / stride;
}

// Finds the stencils of one row after another, and their weights.
template <class T>
class StencilFinder {
   public:
    // `slab` is null if all stencils lie in it. With `skips`, rows that do not meet the slab are skipped.
    StencilFinder(const SampleJob& job, const Walk& walk, const Slab* slab, bool skips)
        : job_(job),
          walk_(walk),
          slab_(slab),
          skips_(skips),
          locator_(job),
          weigh_(choose_weigh<T>(job.geometry.order)),
          weigh_located_(choose_weigh_located<T>(job.geometry.order)),
          slope_located_(choose_weigh_located<T, 1>(job.geometry.order)) {
        for (int k = 0; k < job.geometry.axes; ++k) steeper_[k] = job.geometry.derivative[k] + 1;
    }
    // Returns false, and computes no weights, if the row is skipped.
    bool find(SplatScratch<T>& own) {
        is_located_ = locator_.locate(walk_, own.row, own.located, &own.details);
        if (is_located_) {
            set_row(own.located, own.row);
            if (slab_) set_first_taps(job_, own.details, own.row);
        } else {
            walk_.locate(own.row);
        }
        if (slab_ && skips_ && !meets(own.row, job_.geometry.order, *slab_)) return false;
        if (is_located_)
            weigh_located_(own.located, job_.geometry.axes, own.weights);
        else
            weigh_(own.row, job_.geometry.axes, job_.geometry.derivative, own.weights);
        return true;
    }
    // The derivatives of the weights. If `find` took eight voxels at a time, `unfold` multiplies by the missing slopes.
    void find_slopes(SplatScratch<T>& own) const {
        if (is_located_)
            slope_located_(own.located, job_.geometry.axes, own.slopes);
        else
            weigh_(own.row, job_.geometry.axes, steeper_, own.slopes);
    }
    // Converts the gradient along an axis to doubles and, if still needed, from folded coordinates to positions.
    void unfold(SplatScratch<T>& own, int axis) const {
        const T* gradient = own.gradient[axis];
        for (int i = 0; i < own.row.count; ++i) own.of_positions[i] = static_cast<double>(gradient[i]);
        if (!is_located_) return;
        const T* slope = own.details.slope[axis];
        for (int i = 0; i < own.row.count; ++i) own.of_positions[i] *= static_cast<double>(slope[i]);
    }

   private:
    const SampleJob& job_;
    const Walk& walk_;
    const Slab* const slab_;
    const bool skips_;
    const Locator<T> locator_;
    const WeighRow<T> weigh_;
    const WeighLocated<T> weigh_located_;
    const WeighLocated<T> slope_located_;
    int steeper_[max_axes];
    bool is_located_ = false;
};

template <class T>
void splat_as(const SampleJob& job, UnitRange units, const SplatTargets& targets, void* scratch) {
    auto& own = allocate_scratch<SplatScratch<T>>(scratch);
    Row& row = own.row;
    const Slab* const slab = holds_all(job.geometry, targets.slab) ? nullptr : &targets.slab;
    Walk walk(job, slab != nullptr, scratch, targets.grid);
    // The gradient of the grid needs every voxel; that of the image needs the voxels that meet the slab.
    StencilFinder<T> stencils(job, walk, slab, !targets.grid);
    const RowKernels<T> kernels = choose_row_kernels<T>(job.geometry);
    const int axes = job.geometry.axes;
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, row);
        if (!stencils.find(own)) continue;
        if (targets.grid) {
            stencils.find_slopes(own);
            for (int k = 0; k < axes; ++k) std::memset(own.gradient[k], 0, sizeof own.gradient[k]);
        }
        for (int64 channel = 0; channel < job.channels; ++channel) {
            load_row(job.output.dtype, output_row(job, row, channel), job.output.stride[axes - 1], row.count,
                     own_dtype<T>, reinterpret_cast<char*>(own.values));
            for (int i = 0; !row.everywhere && i < row.count; ++i)
                if (!row.exists[i]) own.values[i] = T(0);
            if (targets.image)
                kernels.spread(job, *targets.image, row, own.weights, slab, own.values,
                               targets.image->data + targets.image->offset[row.item * job.channels + channel]);
            if (targets.grid)
                kernels.gradient(job, row, own.weights, own.slopes, source_plane(job, row.item, channel), own.values,
                                 own.gradient);
        }
        for (int k = 0; targets.grid && k < axes; ++k) {
            stencils.unfold(own, k);
            walk.gather_gradient(row, k, own.of_positions);
            if (targets.affine) add_affine_gradient(job, row, k, own.of_positions, targets.affine);
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
