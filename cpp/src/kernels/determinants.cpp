// Determinants of the Jacobian at voxels, row by row. Along a row, the values and slopes of the field are cubic
// polynomials in each cell of the control grid, and so are the entries of the Jacobian.
#include "kernels/kernels.hpp"
#include "kernels/lanes.hpp"

ELASTICND_BEGIN

namespace {

using Four = Vector<double, 4>;
constexpr int lanes = 4;

ELASTICND_FLAT Four spread(double value) {
    Four all = {};
    for (int l = 0; l < lanes; ++l) all[l] = value;
    return all;
}

// A polynomial in the place within a cell, by powers.
template <int DEGREE>
struct Polynomial {
    double power[DEGREE + 1];

    ELASTICND_FLAT Four at(const Four& place) const {
        Four sum = spread(power[DEGREE]);
        for (int i = DEGREE - 1; i >= 0; --i) sum = sum * place + spread(power[i]);
        return sum;
    }
};

// The spline with four coefficients, inside one cell. Only differences are added to the second coefficient, so that a
// constant is kept exactly.
Polynomial<3> spline_in_cell(const double* coefficient) {
    const double before = coefficient[1] - coefficient[0];
    const double after = coefficient[2] - coefficient[1];
    const double last = coefficient[3] - coefficient[2];
    return {{coefficient[1] + (after - before) / 6, (before + after) / 2, (after - before) / 2,
             ((last - after) - (after - before)) / 6}};
}

Polynomial<2> derivative_of(const Polynomial<3>& spline, double scale) {
    return {{spline.power[1] * scale, 2 * spline.power[2] * scale, 3 * spline.power[3] * scale}};
}

// The Jacobian in one cell; its last column holds the derivatives along the row.
template <int AXES>
struct Jacobian {
    Polynomial<3> outer[AXES][AXES];
    Polynomial<2> along[AXES];

    ELASTICND_FLAT Four entry(int i, int j, const Four& place) const {
        return j == AXES - 1 ? along[i].at(place) : outer[i][j].at(place);
    }
    ELASTICND_FLAT Four determinant(const Four& place) const {
        if constexpr (AXES == 1) {
            return entry(0, 0, place);
        } else if constexpr (AXES == 2) {
            return entry(0, 0, place) * entry(1, 1, place) - entry(0, 1, place) * entry(1, 0, place);
        } else {
            const Four a = entry(0, 0, place), b = entry(0, 1, place), c = entry(0, 2, place);
            const Four d = entry(1, 0, place), e = entry(1, 1, place), f = entry(1, 2, place);
            const Four g = entry(2, 0, place), h = entry(2, 1, place), i = entry(2, 2, place);
            return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
        }
    }
};

// The weighted sum of four arrays that lie `step` numbers apart.
void sum_taps(const double* from, int64 step, const double* weight, int64 count, double* to) {
    for (int64 i = 0; i < count; ++i)
        to[i] = (from[i] * weight[0] + from[i + step] * weight[1]) +
                (from[i + 2 * step] * weight[2] + from[i + 3 * step] * weight[3]);
}

// The weights of a voxel along an outer axis, and their derivatives with respect to the position.
struct AxisWeights {
    int64 cell;
    double value[4];
    double slope[4];
};

AxisWeights weights_of(const Geometry& geometry, int axis, int64 index) {
    const int64 points = geometry.grid_shape[axis];
    const auto at = find_on_grid(static_cast<double>(geometry.start[axis] + index), geometry.image[axis], points);
    AxisWeights weights = {at.cell, {}, {}};
    grid_weights_at(at, points, 0, weights.value);
    grid_weights_at(at, points, 1, weights.slope);
    return weights;
}

// Sums over the outer axes for one row of voxels: each component of the field, and its derivatives along these axes, at
// the coefficients along the row. With three axes, the sums over the first one serve all rows of a plane.
template <int AXES>
class OuterSums {
   public:
    OuterSums(const DeterminantJob& job, double* scratch)
        : job_(job), row_size_(job.grid.extent[AXES - 1]), plane_size_(AXES == 3 ? job.grid.extent[1] * row_size_ : 0) {
        plane_ = scratch;
        row_ = scratch + 2 * AXES * plane_size_;
    }
    void move_to_row(int64 row) {
        if constexpr (AXES == 3) {
            const int64 index = row / job_.geometry.output[1];
            if (index != plane_index_) sum_plane(plane_index_ = index);
            sum_row(weights_of(job_.geometry, 1, row % job_.geometry.output[1]));
        } else if constexpr (AXES == 2) {
            const AxisWeights weights = weights_of(job_.geometry, 0, row);
            for (int i = 0; i < AXES; ++i) {
                const double* from = component(i) + weights.cell * row_size_;
                sum_taps(from, row_size_, weights.slope, row_size_, of_row(i, 0));
                sum_taps(from, row_size_, weights.value, row_size_, of_row(i, 1));
            }
        }
    }
    // For component `i`, its derivative along outer axis `j`; for the last `j`, its value.
    const double* get(int i, int j) const { return AXES == 1 ? component(i) : row_ + (i * AXES + j) * row_size_; }

   private:
    const double* component(int i) const { return job_.grid.coefficients + i * (job_.grid.item_size / AXES); }
    double* of_row(int i, int j) { return row_ + (i * AXES + j) * row_size_; }
    double* of_plane(int i, int derivative) { return plane_ + (i * 2 + derivative) * plane_size_; }
    void sum_plane(int64 index) {
        const AxisWeights weights = weights_of(job_.geometry, 0, index);
        for (int i = 0; i < AXES; ++i) {
            const double* from = component(i) + weights.cell * plane_size_;
            sum_taps(from, plane_size_, weights.value, plane_size_, of_plane(i, 0));
            sum_taps(from, plane_size_, weights.slope, plane_size_, of_plane(i, 1));
        }
    }
    void sum_row(const AxisWeights& weights) {
        const int64 first = weights.cell * row_size_;
        for (int i = 0; i < AXES; ++i) {
            sum_taps(of_plane(i, 1) + first, row_size_, weights.value, row_size_, of_row(i, 0));
            sum_taps(of_plane(i, 0) + first, row_size_, weights.slope, row_size_, of_row(i, 1));
            sum_taps(of_plane(i, 0) + first, row_size_, weights.value, row_size_, of_row(i, 2));
        }
    }

    const DeterminantJob& job_;
    const int64 row_size_, plane_size_;
    double* plane_;
    double* row_;
    int64 plane_index_ = -1;
};

template <int AXES>
Jacobian<AXES> jacobian_in_cell(const DeterminantJob& job, const OuterSums<AXES>& sums, int64 cell) {
    Jacobian<AXES> jacobian;
    for (int i = 0; i < AXES; ++i) {
        for (int j = 0; j < AXES - 1; ++j) {
            jacobian.outer[i][j] = spline_in_cell(sums.get(i, j) + cell);
            jacobian.outer[i][j].power[0] += job.linear[i][j];
        }
        jacobian.along[i] = derivative_of(spline_in_cell(sums.get(i, AXES - 1) + cell), job.cells_per_voxel);
        jacobian.along[i].power[0] += job.linear[i][AXES - 1];
    }
    return jacobian;
}

// The last voxels of a run fill only a part of a vector. Its other places belong to other voxels, whose results are
// dropped.
template <int AXES>
void fill_run(const Jacobian<AXES>& jacobian, const double* place, int64 count, double* to) {
    int64 i = 0;
    for (; i + lanes <= count; i += lanes) store_vector(to + i, jacobian.determinant(load_vector<Four>(place + i)));
    if (i == count) return;
    const Four last = jacobian.determinant(load_vector<Four>(place + i));
    for (int l = 0; i + l < count; ++l) to[i + l] = last[l];
}

template <int AXES>
void fill_rows(const DeterminantJob& job, UnitRange rows, double* scratch) {
    OuterSums<AXES> sums(job, scratch);
    const int64 length = job.geometry.output[AXES - 1];
    for (int64 row = rows.first; row < rows.last; ++row) {
        sums.move_to_row(row);
        for (const CellRun* run = job.runs; run != job.runs + job.run_count; ++run)
            fill_run(jacobian_in_cell(job, sums, run->cell), job.place + run->first, run->count,
                     job.determinants + row * length + run->first);
    }
}

}  // namespace

int64 determinant_scratch(const DeterminantJob& job) {
    const int axes = job.geometry.axes;
    const int64 row = job.grid.extent[axes - 1];
    const int64 plane = axes == 3 ? job.grid.extent[1] * row : 0;
    return (2 * plane + axes * row) * axes * static_cast<int64>(sizeof(double));
}

void determinants(const DeterminantJob& job, UnitRange rows, void* scratch) {
    double* numbers = static_cast<double*>(scratch);
    switch (job.geometry.axes) {
        case 1: return fill_rows<1>(job, rows, numbers);
        case 2: return fill_rows<2>(job, rows, numbers);
        default: return fill_rows<3>(job, rows, numbers);
    }
}

ELASTICND_END
