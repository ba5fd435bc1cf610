// The walk over the units of a job: positions of a row of voxels, and where their stencils lie.
#include "kernels/walk.hpp"

#include <cstring>

#include "kernels/lanes.hpp"

ELASTICND_BEGIN

namespace {

template <int MODE>
void fold_row_of(double* x, double last, double reach, int count, double* slope, int64* exists) {
    for (int i = 0; i < count; ++i) {
        const Folded folded = fold_coordinate(x[i], last, reach, MODE);
        x[i] = folded.x;
        slope[i] = folded.slope;
        exists[i] = folded.exists ? exists[i] : 0;
    }
}

template <int MODE = 0>
void fold_row(int mode, double* x, double last, double reach, int count, double* slope, int64* exists) {
    if constexpr (MODE < mode_count) {
        if (mode == MODE)
            fold_row_of<MODE>(x, last, reach, count, slope, exists);
        else
            fold_row<MODE + 1>(mode, x, last, reach, count, slope, exists);
    }
}

}  // namespace

KnotAxis knot_axis(const SampleJob& job, int axis) {
    const Geometry& geometry = job.geometry;
    const int64 last = geometry.image[axis] + 2 * geometry.padding - 1;
    const int64 low = geometry.box_start[axis];
    int64 high = low + geometry.box_extent[axis] - 1 - geometry.order;
    if (ends_at_last_voxel(geometry.order, geometry.mode, geometry.image[axis]))
        high = minimum(high, geometry.image[axis] - 2);
    const int taps_before = geometry.order / 2;
    return {static_cast<double>(last), knot_shift(geometry.order), static_cast<double>(taps_before),
            static_cast<double>(low),  static_cast<double>(high),  static_cast<double>(job.source.stride[axis])};
}

double reach_of(const SampleJob& job) {
    return job.direct && !blends_across_border(job.geometry.mode) ? 0 : border_reach(job.geometry.order);
}

namespace {

// Converts coordinates to first taps and places in the knot span. If the source has all taps, the clamp changes only
// stencils on the last voxel of an image that ends there. If the source box is wrong, it prevents reads out of range.
template <bool KEEP_FIRST>
void split_row(const KnotAxis& split, int count, double* x, double* first, double* sum) {
    for (int i = 0; i < count; ++i) {
        const double shifted = x[i] + split.shift;
        const double tap = maximum(split.low, minimum(floor_of_small(shifted) - split.before, split.high));
        x[i] = shifted - (tap + split.before);
        if constexpr (KEEP_FIRST) first[i] = tap;
        sum[i] += (tap - split.low) * split.stride;
    }
}

constexpr int64 blocks_of_row = row_length / block_voxels;

}  // namespace

int64 Walk::scratch_size(const SampleJob& job) {
    int64 doubles = 0;
    int64 size = job.geometry.axes;
    for (int k = job.geometry.axes - 1; k > 0; --k) {
        size *= job.grid.extent[k];
        doubles += 2 * size;
    }
    const int64 row =
        (6 + max_block_taps) * row_length + blocks_of_row * static_cast<int64>(sizeof(GridBlock) / sizeof(double));
    return static_cast<int64>(sizeof(double)) * (doubles + row);
}

Walk::Walk(const SampleJob& job, bool keeps_first, void* scratch, double* grid_gradient)
    : job_(job), geometry_(job.geometry), transposed_(grid_gradient != nullptr) {
    const int axes = geometry_.axes;
    const bool blends = blends_across_border(geometry_.mode);
    reach_ = reach_of(job);
    may_leave_ = job.direct && blends;
    for (int k = 0; k < axes; ++k) may_leave_ |= job.direct && geometry_.box_extent[k] <= geometry_.order;
    keeps_first_ = keeps_first || may_leave_;
    double* free = static_cast<double*>(scratch);
    int64 size = 1;
    for (int k = axes - 1; k >= 0; --k) {
        size *= job.grid.extent[k];
        level_size_[k] = size;
        current_[k] = -1;
        if (k == 0) break;
        owned_[k] = free;
        gradient_[k] = free + size * axes;
        free += 2 * size * axes;
        for (int64 i = 0; i < size * axes; ++i) gradient_[k][i] = 0;
    }
    gradient_[0] = grid_gradient;
    inner_weight_buffer_ = free;
    inner_cell_buffer_ = reinterpret_cast<int64*>(free + 4 * row_length);
    inner_run_buffer_ = inner_cell_buffer_ + row_length;
    block_weight_buffer_ = free + 6 * row_length;
    block_buffer_ = reinterpret_cast<GridBlock*>(block_weight_buffer_ + max_block_taps * row_length);
}

void Walk::set_inner_weights(const Row& row) {
    const int k = geometry_.axes - 1;
    int64 stride = row_length;
    const double* weight = inner_weight_buffer_;
    if (job_.inner.cell) {
        stride = geometry_.output[k];
        weight = job_.inner.weight + row.index[k];
        inner_.cell = job_.inner.cell + row.index[k];
        inner_.run = job_.inner.run + row.index[k];
    } else {
        inner_grid_weights(geometry_, row.index[k], row.count, inner_cell_buffer_, inner_run_buffer_,
                           inner_weight_buffer_, stride);
        inner_.cell = inner_cell_buffer_;
        inner_.run = inner_run_buffer_;
    }
    for (int tap = 0; tap < 4; ++tap) inner_.weight[tap] = weight + tap * stride;
    inner_.coefficients = level_[k];
    inner_.component_size = level_size_[k];
}

const double* Walk::inner_coefficients(int component) const {
    return inner_.coefficients + component * inner_.component_size;
}

const GridBlock* Walk::inner_blocks(const Row& row) const {
    if (job_.inner.cell)
        return job_.inner.blocks ? job_.inner.blocks + row.index[geometry_.axes - 1] / block_voxels : nullptr;
    const bool fits = arrange_inner_blocks(inner_.cell, inner_.weight[0], row_length, row.count, row_length,
                                           block_buffer_, block_weight_buffer_);
    return fits ? block_buffer_ : nullptr;
}

void Walk::contract(int axis, int64 index) {
    double* weight = weight_[axis];
    cell_[axis] =
        grid_weights(geometry_.in_frame(axis, index), geometry_.frame[axis], geometry_.grid_shape[axis], weight);
    const int64 rest = level_size_[axis + 1];
    double* to = owned_[axis + 1];
    for (int component = 0; component < geometry_.axes; ++component) {
        const double* from = level_[axis] + component * level_size_[axis] + cell_[axis] * rest;
        for (int64 i = 0; i < rest; ++i)
            to[i] = ((weight[0] * from[i] + weight[1] * from[rest + i]) + weight[2] * from[2 * rest + i]) +
                    weight[3] * from[3 * rest + i];
        to += rest;
    }
    level_[axis + 1] = owned_[axis + 1];
}

// The transpose of contract: moves the gradient of level axis + 1 to level axis and leaves zeros.
void Walk::expand(int axis) {
    const double* weight = weight_[axis];
    const int64 rest = level_size_[axis + 1];
    double* from = gradient_[axis + 1];
    for (int component = 0; component < geometry_.axes; ++component) {
        double* to = gradient_[axis] + component * level_size_[axis] + cell_[axis] * rest;
        for (int tap = 0; tap < 4; ++tap)
            for (int64 i = 0; i < rest; ++i) to[tap * rest + i] += weight[tap] * from[i];
        for (int64 i = 0; i < rest; ++i) from[i] = 0;
        from += rest;
    }
}

void Walk::visit(int64 unit, Row& row) {
    const int inner = geometry_.axes - 1;
    int64 rest = unit / job_.row_units;
    row.index[inner] = (unit - rest * job_.row_units) * job_.unit_length;
    row.count = static_cast<int>(minimum(job_.unit_length, geometry_.output[inner] - row.index[inner]));
    for (int k = inner - 1; k >= 0; --k) {
        row.index[k] = rest % geometry_.output[k];
        rest /= geometry_.output[k];
    }
    row.item = rest;

    int changed = inner;
    for (int k = inner - 1; k >= 0; --k)
        if (current_[k] != row.index[k]) changed = k;
    if (item_ != row.item) {
        item_ = row.item;
        level_[0] = job_.grid.coefficients + row.item * job_.grid.item_size;
        changed = 0;
    }
    if (transposed_ && current_[0] >= 0)
        for (int k = inner - 1; k >= changed; --k) expand(k);
    for (int k = changed; k < inner; ++k) {
        contract(k, row.index[k]);
        current_[k] = row.index[k];
    }
    set_inner_weights(row);
}

// Calls body(first voxel, last, coefficients) for the runs of a row's voxels that lie in one cell.
template <class Body>
void Walk::for_each_run(const Row& row, int component, Body body) const {
    const double* grid = inner_.coefficients + component * inner_.component_size;
    for (int i = 0; i < row.count;) {
        const int stop = static_cast<int>(minimum<int64>(row.count, i + inner_.run[i]));
        body(i, stop, grid + inner_.cell[i]);
        i = stop;
    }
}

void Walk::displacement(const Row& row, int component, double* values) const {
    const double *w0 = inner_.weight[0], *w1 = inner_.weight[1], *w2 = inner_.weight[2], *w3 = inner_.weight[3];
    for_each_run(row, component, [&](int first, int last, const double* c) {
        const double c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3];
        for (int i = first; i < last; ++i) values[i] = ((w0[i] * c0 + w1[i] * c1) + w2[i] * c2) + w3[i] * c3;
    });
}

PositionLine Walk::position_line(const Row& row, int axis) const {
    const int inner = geometry_.axes - 1;
    PositionLine line = {static_cast<double>(geometry_.origin[axis]), axis == inner ? 1.0 : 0.0,
                         static_cast<double>(geometry_.padding), knot_shift(geometry_.order)};
    if (job_.inverse_map) {
        const double* map = job_.inverse_map + row.item * job_.inverse_map_item_size + axis * (geometry_.axes + 1);
        line.base += map[geometry_.axes];
        for (int j = 0; j < inner; ++j)
            line.base += map[j] * static_cast<double>(geometry_.from_origin(j, row.index[j]));
        line.step = map[inner];
    } else if (axis != inner) {
        line.base += static_cast<double>(geometry_.from_origin(axis, row.index[axis]));
    }
    return line;
}

// Computes the coordinates along one axis. Returns whether any of them lies outside [0, last].
bool Walk::find_positions(const Row& row, int axis, double last, double* x) const {
    const int inner = geometry_.axes - 1;
    const double start = static_cast<double>(geometry_.from_origin(inner, row.index[inner]));
    const PositionLine line = position_line(row, axis);
    const double base = line.base;
    const double step = line.step;
    const double padding = line.padding;
    const double *w0 = inner_.weight[0], *w1 = inner_.weight[1], *w2 = inner_.weight[2], *w3 = inner_.weight[3];
    using Four = Vector<double, 4>;
    const Four steps = {0, 1, 2, 3};
    const Four one = {1, 1, 1, 1};
    for_each_run(row, axis, [&](int from, int to, const double* c) {
        const double c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3];
        int i = from;
        // Four at a time, which pays off even for short runs.
        for (; i + 4 <= to; i += 4) {
            const Four displacement =
                ((load_vector<Four>(w0 + i) * c0 + load_vector<Four>(w1 + i) * c1) + load_vector<Four>(w2 + i) * c2) +
                load_vector<Four>(w3 + i) * c3;
            const Four place = one * base + (steps + one * (start + i)) * step;
            store_vector(x + i, (place + displacement) + one * padding);
        }
        for (; i < to; ++i) {
            const double displacement = ((w0[i] * c0 + w1[i] * c1) + w2[i] * c2) + w3[i] * c3;
            x[i] = ((base + step * (start + i)) + displacement) + padding;
        }
    });
    int64 outside = 0;  // as wide as the coordinates, so that the loop becomes vectors
    for (int i = 0; i < row.count; ++i) outside |= ((x[i] >= 0) & (x[i] <= last)) ? 0LL : 1LL;
    return outside;
}

bool meets(const Row& row, int order, Slab slab) {
    const double lowest = static_cast<double>(slab.first - order);
    const double highest = static_cast<double>(slab.last - 1);
    int64 met = 0;
    for (int i = 0; i < row.count; ++i) met |= ((row.first[0][i] >= lowest) & (row.first[0][i] <= highest)) ? 1LL : 0LL;
    return met;
}

void Walk::locate(Row& row) const {
    const int count = row.count;
    bool clean = true;
    row.inside = true;
    for (int i = 0; i < count; ++i) row.sum[i] = 0;
    for (int k = 0; k < geometry_.axes; ++k) {
        double* x = row.place[k];
        const KnotAxis split = knot_axis(job_, k);
        row.folded[k] = find_positions(row, k, split.last, x);
        if (row.folded[k]) {
            for (int i = 0; clean && i < count; ++i) row.exists[i] = 1;
            clean = false;
            fold_row(geometry_.mode, x, split.last, reach_, count, row.slope[k], row.exists);
        }
        if (may_leave_) find_leaving(k, row);
        if (keeps_first_)
            split_row<true>(split, count, x, row.first[k], row.sum);
        else
            split_row<false>(split, count, x, nullptr, row.sum);
    }
    to_integers(row.sum, count, row.offset);
    int64 missing = 0;
    for (int i = 0; !clean && i < count; ++i) missing |= row.exists[i] ^ 1;
    row.everywhere = !missing;
}

// Finds the voxels whose stencil leaves the image: the source of a direct job has nothing beyond the border.
void Walk::find_leaving(int axis, Row& row) const {
    const KnotAxis split = knot_axis(job_, axis);
    if (axis == 0) std::memset(row.leaves, 0, sizeof row.leaves);
    for (int i = 0; i < row.count; ++i) {
        const double tap = floor_of_small(row.place[axis][i] + split.shift) - split.before;
        row.leaves[i] |= tap < split.low || tap > split.high;
        row.inside &= !row.leaves[i];
    }
}

void Walk::gather_gradient(const Row& row, int component, const double* gradient) {
    using Four = Vector<double, 4>;
    const int inner = geometry_.axes - 1;
    double* grid = gradient_[inner] + component * level_size_[inner];
    for (int i = 0; i < row.count;) {
        const int stop = static_cast<int>(minimum<int64>(row.count, i + inner_.run[i]));
        double* to = grid + inner_.cell[i];
        // Four sums for each tap, so that they are computed in parallel.
        Four sum[4] = {};
        for (; i + 4 <= stop; i += 4) {
            const Four values = load_vector<Four>(gradient + i);
            for (int tap = 0; tap < 4; ++tap) sum[tap] = sum[tap] + load_vector<Four>(inner_.weight[tap] + i) * values;
        }
        for (; i < stop; ++i)
            for (int tap = 0; tap < 4; ++tap) sum[tap][0] += inner_.weight[tap][i] * gradient[i];
        for (int tap = 0; tap < 4; ++tap) to[tap] += (sum[tap][0] + sum[tap][1]) + (sum[tap][2] + sum[tap][3]);
    }
}

void Walk::flush() {
    if (current_[0] >= 0)
        for (int k = geometry_.axes - 2; k >= 0; --k) expand(k);
}

ELASTICND_END
