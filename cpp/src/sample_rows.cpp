#include <cstring>

#include "rows.hpp"

ELASTICND_BEGIN

namespace {

// The cell of the control grid that full-frame index f lies in, and the weights of its four coefficients.
inline int64 grid_weights(int64 f, int64 extent, int64 points, double* weight) {
    double g = 0;
    if (extent > 1 && points > 1)
        g = static_cast<double>(f) * static_cast<double>(points - 1) / static_cast<double>(extent - 1);
    const int64 cell = maximum(minimum(floor_to_integer(g), points - 2), 0LL);
    spline_weights<3, 0>(g - static_cast<double>(cell), weight);
    return cell;
}

// floor for |x| < 2^51 by rounding to nearest: vectorises in every instruction set.
inline double fast_floor(double x) {
    const double shift = 6755399441055744.0;  // 3 * 2^51
    const double nearest = (x + shift) - shift;
    return nearest - (nearest > x ? 1.0 : 0.0);
}

}  // namespace

void inner_grid_weights(const Geometry& geometry, int64 first, int64 count, int64* cell, int64* run, double* weight,
                        int64 stride) {
    const int k = geometry.axes - 1;
    for (int64 i = count - 1; i >= 0; --i) {
        double w[4];
        cell[i] = grid_weights(geometry.crop[k] + first + i, geometry.image[k], geometry.points[k], w);
        run[i] = i + 1 < count && cell[i + 1] == cell[i] ? run[i + 1] + 1 : 1;
        for (int tap = 0; tap < 4; ++tap) weight[tap * stride + i] = w[tap];
    }
}

int64 Walk::scratch_size(const SampleJob& job) {
    int64 doubles = 0;
    int64 size = job.geometry.axes;
    for (int k = job.geometry.axes - 1; k > 0; --k) {
        size *= job.field.extent[k];
        doubles += 2 * size;
    }
    return static_cast<int64>(sizeof(double)) * (doubles + 6 * row_length);
}

Walk::Walk(const SampleJob& job, void* scratch, double* grid_gradient)
    : job_(job), geometry_(job.geometry), transposed_(grid_gradient != nullptr), item_(-1) {
    const int axes = geometry_.axes;
    chunks_ = (geometry_.output[axes - 1] + row_length - 1) / row_length;
    double* free = static_cast<double*>(scratch);
    int64 size = 1;
    for (int k = axes - 1; k >= 0; --k) {
        size *= job.field.extent[k];
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
}

void Walk::set_inner_weights(const Row& row) {
    const int k = geometry_.axes - 1;
    int64 stride = row_length;
    const double* weight = inner_weight_buffer_;
    if (job_.inner.cell) {
        stride = geometry_.output[k];
        weight = job_.inner.weight + row.index[k];
        inner_cell_ = job_.inner.cell + row.index[k];
        inner_run_ = job_.inner.run + row.index[k];
    } else {
        inner_grid_weights(geometry_, row.index[k], row.count, inner_cell_buffer_, inner_run_buffer_,
                           inner_weight_buffer_, stride);
        inner_cell_ = inner_cell_buffer_;
        inner_run_ = inner_run_buffer_;
    }
    for (int tap = 0; tap < 4; ++tap) inner_weight_[tap] = weight + tap * stride;
}

void Walk::contract(int axis, int64 index) {
    double* weight = weight_[axis];
    cell_[axis] = grid_weights(geometry_.crop[axis] + index, geometry_.image[axis], geometry_.points[axis], weight);
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
    int64 rest = unit / chunks_;
    row.index[inner] = (unit - rest * chunks_) * row_length;
    row.count = static_cast<int>(minimum<int64>(row_length, geometry_.output[inner] - row.index[inner]));
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
        level_[0] = job_.field.coefficients + row.item * job_.field.item_size;
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

void Walk::displacement(const Row& row, int component, double* values) const {
    const int inner = geometry_.axes - 1;
    const double* grid = level_[inner] + component * level_size_[inner];
    const double *w0 = inner_weight_[0], *w1 = inner_weight_[1], *w2 = inner_weight_[2], *w3 = inner_weight_[3];
    for (int i = 0; i < row.count;) {
        const int64 cell = inner_cell_[i];
        const int stop = static_cast<int>(minimum<int64>(row.count, i + inner_run_[i]));
        const double c0 = grid[cell], c1 = grid[cell + 1], c2 = grid[cell + 2], c3 = grid[cell + 3];
        for (; i < stop; ++i) values[i] = ((w0[i] * c0 + w1[i] * c1) + w2[i] * c2) + w3[i] * c3;
    }
}

void Walk::place(Row& row) const {
    const int axes = geometry_.axes;
    const int inner = axes - 1;
    const double start = static_cast<double>(row.index[inner]);
    for (int k = 0; k < axes; ++k) {
        double base = static_cast<double>(geometry_.crop[k]);
        double step = k == inner ? 1 : 0;
        if (job_.affine) {
            const double* line = job_.affine + row.item * job_.affine_item_size + k * (axes + 1);
            base += line[axes];
            for (int j = 0; j < inner; ++j) base += line[j] * static_cast<double>(row.index[j]);
            step = line[inner];
        } else if (k != inner) {
            base += static_cast<double>(row.index[k]);
        }
        double* x = row.position[k];
        displacement(row, k, x);
        for (int i = 0; i < row.count; ++i) x[i] = (base + step * (start + i)) + x[i];
    }
}

void Walk::gather_gradient(const Row& row, int component, const double* gradient) {
    const int inner = geometry_.axes - 1;
    double* grid = gradient_[inner] + component * level_size_[inner];
    for (int i = 0; i < row.count;) {
        const int64 cell = inner_cell_[i];
        const int stop = static_cast<int>(minimum<int64>(row.count, i + inner_run_[i]));
        for (int tap = 0; tap < 4; ++tap) {
            double sum = 0;
            for (int j = i; j < stop; ++j) sum += inner_weight_[tap][j] * gradient[j];
            grid[cell + tap] += sum;
        }
        i = stop;
    }
}

void Walk::flush() {
    if (current_[0] >= 0)
        for (int k = geometry_.axes - 2; k >= 0; --k) expand(k);
}

void locate(const SampleJob& job, Row& row) {
    const Geometry& geometry = job.geometry;
    const int count = row.count;
    bool nowhere[row_length];
    bool any_nowhere = false;
    std::memset(nowhere, 0, sizeof nowhere);
    for (int i = 0; i < count; ++i) {
        row.margin[i] = 0;
        row.sum[i] = 0;
    }
    const double shift = knot_shift(geometry.order);
    const double reach = geometry.order / 2;
    for (int k = 0; k < geometry.axes; ++k) {
        double* x = row.position[k];
        double* first = row.first[k];
        const int64 extent = geometry.image[k] + 2 * geometry.padding;
        const double padding = geometry.padding;
        const double last = static_cast<double>(extent - 1);
        int64 outside = 0;  // as wide as the coordinates, so that the loop becomes vectors
        for (int i = 0; i < count; ++i) {
            x[i] += padding;
            outside |= x[i] >= 0 ? 0LL : 1LL;
            outside |= x[i] <= last ? 0LL : 1LL;
        }
        std::memset(row.slope[k], 1, sizeof row.slope[k]);
        if (outside)
            for (int i = 0; i < count; ++i) {
                if (x[i] >= 0 && x[i] <= last) continue;
                const Folded folded = fold_coordinate(x[i], extent, geometry.mode);
                x[i] = folded.exists ? folded.x : 0;
                row.slope[k][i] = static_cast<signed char>(folded.slope);
                nowhere[i] |= !folded.exists;
                any_nowhere |= !folded.exists;
            }
        const double low = static_cast<double>(geometry.box_start[k]);
        const double high = low + static_cast<double>(geometry.box_extent[k] - 1 - geometry.order);
        const double stride = static_cast<double>(job.source.stride[k]);
        for (int i = 0; i < count; ++i) {
            const double shifted = x[i] + shift;
            const double whole = fast_floor(shifted);
            const double tap = whole - reach;
            x[i] = shifted - whole;
            first[i] = tap;
            row.margin[i] = minimum(row.margin[i], minimum(tap - low, high - tap));
            row.sum[i] += (tap - low) * stride;
        }
    }
    int64 border = 0;
    for (int i = 0; i < count; ++i) border |= row.margin[i] < 0 ? 1LL : 0LL;
    for (int i = 0; i < count; ++i) row.offset[i] = static_cast<int64>(row.sum[i]);
    row.all_interior = !border && !any_nowhere;
    if (row.all_interior) return;
    for (int i = 0; i < count; ++i)
        row.kind[i] = nowhere[i] ? kind_nowhere : row.margin[i] < 0 ? kind_border : kind_interior;
}

ELASTICND_END
