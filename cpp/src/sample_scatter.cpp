// The transpose of sampling: each output value is spread over the coefficients under its stencil.
#include "sample_kernels.hpp"
#include "stencil.hpp"

ELASTICND_BEGIN

namespace {

// A slab gets its share of every voxel, in the order of the voxels. So the sum in a coefficient is the same, bit for
// bit, however the coefficients are divided into slabs.
enum Share { share_none, share_part, share_all };

template <int ORDER>
Share share_of(const Row& row, int i, Slab slab) {
    const double first = row.first[0][i];
    if (first >= static_cast<double>(slab.first) && first + ORDER < static_cast<double>(slab.last)) return share_all;
    return first + ORDER < static_cast<double>(slab.first) || first >= static_cast<double>(slab.last) ? share_none
                                                                                                      : share_part;
}

void keep_slab(const SampleJob& job, Slab slab, TapOffsets& taps) {
    for (int tap = 0; tap <= job.geometry.order; ++tap) {
        int64& offset = taps.offset[0][tap];
        if (offset == beyond_border) continue;
        const int64 index = offset / job.source.stride[0];
        if (index < slab.first || index >= slab.last) offset = beyond_border;
    }
}

template <class T, int ORDER, int AXES>
void spread_row(const SampleJob& job, const Row& row, const WeightRows<T>& weights, Slab slab, const T* values,
                char* target) {
    constexpr int taps = ORDER + 1;
    const int outer = job.geometry.axes - AXES;
    const TapOffsets straight = straight_taps(job);
    const StraightLines<T, taps, own_dtype<T>> lines = {sizeof(T)};
    for (int i = 0; i < row.count; ++i) {
        const Kind kind = kind_of(row, i);
        if (kind == kind_nowhere) continue;
        const T* weight = &weights[0][0][i];
        const Share share = kind == kind_interior ? share_of<ORDER>(row, i, slab) : share_part;
        if (share == share_all) {
            spread_stencil<T, taps, AXES>(target + row.offset[i], straight.offset, weight, lines, outer, values[i]);
        } else if (share == share_part) {
            TapOffsets folded = folded_taps(job, row, i);
            keep_slab(job, slab, folded);
            const FoldedLines<T, taps, own_dtype<T>> border = {folded.offset[job.geometry.axes - 1], T(0)};
            spread_stencil<T, taps, AXES>(target, folded.offset, weight, border, outer, values[i]);
        }
    }
}

template <class T>
using SpreadRow = void (*)(const SampleJob&, const Row&, const WeightRows<T>&, Slab, const T*, char*);

template <class T>
SpreadRow<T> choose_spread(const Geometry& geometry) {
    return with_unrolled_axes(geometry.axes, [&](auto axes) -> SpreadRow<T> {
        constexpr int AXES = decltype(axes)::value;
        return with_order(geometry.order,
                          [](auto order) -> SpreadRow<T> { return spread_row<T, decltype(order)::value, AXES>; });
    });
}

template <class T>
void scatter_as(const SampleJob& job, UnitRange units, Slab slab, void* scratch) {
    Walk walk(job, scratch, nullptr);
    Row row;
    WeightRows<T> weights;
    T values[row_length];
    const SpreadRow<T> spread_values = choose_spread<T>(job.geometry);
    const WeighRow<T> weigh = choose_weigh<T>(job.geometry.order);
    const int inner = job.geometry.axes - 1;
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, row);
        walk.place(row);
        locate(job, row);
        weigh(row, job.geometry.axes, job.geometry.derivative, weights);
        for (int64 channel = 0; channel < job.channels; ++channel) {
            load_row(job.output.dtype, output_row(job, row, channel), job.output.stride[inner], row.count, own_dtype<T>,
                     reinterpret_cast<char*>(values));
            spread_values(job, row, weights, slab, values, source_plane(job, row.item, channel));
        }
    }
}

}  // namespace

void scatter_image(const SampleJob& job, UnitRange units, Slab slab, void* scratch) {
    if (job.source.dtype == dtype_float64)
        scatter_as<double>(job, units, slab, scratch);
    else
        scatter_as<float>(job, units, slab, scratch);
}

ELASTICND_END
