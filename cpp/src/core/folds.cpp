// Guaranteed bounds of the volume ratio det J / det L. In each cell of the control grid, the ratio is a polynomial.
// Cells are subdivided where the Bernstein coefficients do not decide.
//
// With A = L^-1 dd/df, the ratio for s times the field is det(I + sA) = 1 + s e_1 + ... + s^n e_n. Each e_k is a sum of
// principal minors of A, with degree 3n - 1 or less along each axis.
#include "core/folds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <queue>

#include "core/bernstein.hpp"
#include "core/control_grid.hpp"

namespace elasticnd {
namespace {

constexpr double rounding = std::numeric_limits<double>::epsilon();
constexpr double operations = 300;    // the most operations that round a coefficient, one after the other
constexpr double open_numbers = 4e6;  // numbers in polynomials that wait for subdivision: 32 MB
constexpr int64 most_subdivisions = 20'000;
constexpr double infinity = std::numeric_limits<double>::infinity();

// The coefficients of L^-1 d, and the cells of the control grid that the window covers.
class Field {
   public:
    Field(const Geometry& geometry, const double* control_points, const double* forward, Executor& executor)
        : axes(geometry.axes) {
        const ControlGrid grid(geometry, control_points, executor);
        const GridCoefficients& from = grid.coefficients();
        component_size = from.item_size / axes;
        coefficients.assign(static_cast<size_t>(from.item_size), 0.0);
        std::copy_n(from.extent, axes, extent);
        double largest[max_axes] = {};
        for (int j = 0; j < axes; ++j)
            for (int64 c = 0; c < component_size; ++c)
                largest[j] = std::max(largest[j], std::abs(from.coefficients[j * component_size + c]));
        for (int i = 0; i < axes; ++i) {
            double size = 0;
            for (int j = 0; j < axes; ++j) {
                const double factor = forward ? forward[i * axes + j] : i == j;
                size += std::abs(factor) * largest[j];
                for (int64 c = 0; c < component_size; ++c)
                    coefficients[static_cast<size_t>(i * component_size + c)] +=
                        factor * from.coefficients[j * component_size + c];
            }
            error[i] = 100 * rounding * size;
        }
        int64 step = 1;
        for (int k = axes - 1; k >= 0; --k) {
            stride[k] = step;
            step *= extent[k];
            set_window(geometry, k);
        }
    }

    double largest_change(int component, int axis) const;

    int axes;
    std::vector<double> coefficients;  // (axes, extent ...)
    int64 component_size;
    int64 extent[max_axes];
    int64 stride[max_axes];
    double scale[max_axes];      // cells per voxel; 0 if the field is constant along an axis
    double error[max_axes];      // rounding error of each component
    int64 first_cell[max_axes];  // first of the cells that the window touches
    int64 last_cell[max_axes];
    double low[max_axes];  // bounds of the window, in cells
    double high[max_axes];

   private:
    void set_window(const Geometry& geometry, int k) {
        const double cells = static_cast<double>(geometry.grid_shape[k] - 1);
        const double voxels = static_cast<double>(geometry.image[k] - 1);
        const bool varies = cells > 0 && voxels > 0;
        const double start = static_cast<double>(geometry.start[k]);
        const double end = static_cast<double>(geometry.start[k] + geometry.output[k] - 1);
        scale[k] = varies ? cells / voxels : 0;
        low[k] = varies ? start * cells / voxels : 0;
        high[k] = varies ? end * cells / voxels : 0;
        const int64 last = std::max<int64>(geometry.grid_shape[k] - 2, 0);
        first_cell[k] = std::min(static_cast<int64>(low[k]), last);
        last_cell[k] = std::clamp(static_cast<int64>(std::ceil(high[k])) - 1, first_cell[k], last);
    }
};

// An upper bound of the derivative of a component along an axis, over the cells of the window: coefficients bound their
// B-spline.
double Field::largest_change(int component, int axis) const {
    if (scale[axis] == 0) return 0;
    const double* from = coefficients.data() + component * component_size;
    int64 index[max_axes];
    std::copy_n(first_cell, axes, index);
    double largest = 0;
    for (;;) {
        int64 at = 0;
        for (int k = 0; k < axes; ++k) at += index[k] * stride[k];
        largest = std::max(largest, std::abs(from[at + stride[axis]] - from[at]));
        int k = axes - 1;
        while (k >= 0 && ++index[k] > last_cell[k] + (k == axis ? 2 : 3)) index[k] = first_cell[k], --k;
        if (k < 0) break;
    }
    return (largest + 2 * error[component]) * scale[axis];
}

// Calls body(cell) for every cell that the window touches.
template <class Body>
void for_cells(const Field& field, Body body) {
    int64 cell[max_axes];
    std::copy_n(field.first_cell, field.axes, cell);
    for (;;) {
        body(cell);
        int k = field.axes - 1;
        while (k >= 0 && ++cell[k] > field.last_cell[k]) cell[k] = field.first_cell[k], --k;
        if (k < 0) return;
    }
}

// Sets one component of L^-1 d in a cell.
void set_component(const Field& field, int component, const int64* cell, Bernstein& polynomial) {
    static constexpr double bezier[4][4] = {{1, 4, 1, 0}, {0, 4, 2, 0}, {0, 2, 4, 0}, {0, 1, 4, 1}};
    const double* from = field.coefficients.data() + component * field.component_size;
    for (int k = 0; k < most_variables; ++k) polynomial.extent[k] = k < field.axes ? 4 : 1;
    int64 step[most_variables] = {};
    for (int k = 0; k < field.axes; ++k) {
        from += cell[k] * field.stride[k];
        step[k] = field.stride[k];
    }
    double* to = polynomial.value;
    for (int i = 0; i < polynomial.extent[0]; ++i)
        for (int j = 0; j < polynomial.extent[1]; ++j)
            for (int k = 0; k < polynomial.extent[2]; ++k) *to++ = from[i * step[0] + j * step[1] + k * step[2]];
    for (int variable = 0; variable < field.axes; ++variable) {
        const int stride = polynomial.stride(variable);
        for (int at = 0; at < polynomial.size(); ++at) {
            if (at / stride % 4 != 0) continue;
            double* line = polynomial.value + at;
            double tap[4];
            for (int i = 0; i < 4; ++i) tap[i] = line[i * stride];
            for (int i = 0; i < 4; ++i)
                line[i * stride] =
                    (bezier[i][0] * tap[0] + bezier[i][1] * tap[1] + bezier[i][2] * tap[2] + bezier[i][3] * tap[3]) / 6;
        }
    }
}

// Sets its derivative along an axis, per voxel.
void set_slope(const Field& field, int axis, const Bernstein& component, Bernstein& slope) {
    std::copy_n(component.extent, most_variables, slope.extent);
    slope.extent[axis] = 3;
    const int stride = component.stride(axis);
    int at = 0;
    for (int from = 0; from < component.size(); ++from)
        if (from / stride % 4 != 3)
            slope.value[at++] = 3 * field.scale[axis] * (component.value[from + stride] - component.value[from]);
}

// The polynomials e_1 ... e_n of a cell, restricted to the window.
class Cell {
   public:
    Cell(const Field& field, const int64* cell) : axes_(field.axes) {
        double sizes = 1, lost = 0;
        for (int i = 0; i < axes_; ++i) {
            double size = 1, own = 0;
            Bernstein component;
            set_component(field, i, cell, component);
            for (int j = 0; j < axes_; ++j) {
                Bernstein& slope = slope_[i][j];
                set_slope(field, j, component, slope);
                double largest = 0;
                for (int c = 0; c < slope.size(); ++c) largest = std::max(largest, std::abs(slope.value[c]));
                size += largest;
                own += 6 * field.scale[j] * field.error[i];
                scale_by_binomials(slope);
            }
            sizes *= size + own;
            lost += own / size;
        }
        error = sizes * (operations * rounding + lost);
        for (int k = 0; k < axes_; ++k) {
            low_[k] = std::clamp(field.low[k] - static_cast<double>(cell[k]), 0.0, 1.0);
            high_[k] = std::clamp(field.high[k] - static_cast<double>(cell[k]), 0.0, 1.0);
        }
    }

    // Sets the sum of all principal minors with this many rows.
    void set_invariant(int rows, Bernstein& sum) const {
        int extent[most_variables] = {1, 1, 1};
        for (int k = 0; k < axes_; ++k) extent[k] = 3 * axes_;
        std::copy_n(extent, most_variables, sum.extent);
        std::fill_n(sum.value, sum.size(), 0.0);
        for (int mask = 1; mask < 1 << axes_; ++mask) {
            int chosen[most_variables];
            int count = 0;
            for (int k = 0; k < axes_; ++k)
                if (mask >> k & 1) chosen[count++] = k;
            if (count != rows) continue;
            Bernstein minor;
            set_minor(chosen, chosen, rows, minor);
            elevate(extent, minor);
            add(minor, 1, sum);
        }
        unscale_by_binomials(sum);
        for (int k = 0; k < axes_; ++k) restrict_to(k, low_[k], high_[k], sum);
    }

    double error;  // rounding error of the ratio

   private:
    // Expands a minor along its first row.
    void set_minor(const int* row, const int* column, int count, Bernstein& minor) const {
        if (count == 1) {
            minor = slope_[row[0]][column[0]];
            return;
        }
        for (int c = 0; c < count; ++c) {
            int rest[most_variables];
            int left = 0;
            for (int k = 0; k < count; ++k)
                if (k != c) rest[left++] = column[k];
            Bernstein smaller, term;
            set_minor(row + 1, rest, count - 1, smaller);
            multiply(slope_[row[0]][column[c]], smaller, term);
            if (c == 0)
                minor = term;
            else
                add(term, c % 2 ? -1 : 1, minor);
        }
    }

    int axes_;
    double low_[most_variables];
    double high_[most_variables];
    Bernstein slope_[most_variables][most_variables];
};

// A part of a cell: the coefficients of its polynomials, and the least value that the measure can have there.
struct Part {
    double least;
    std::unique_ptr<double[]> values;
};
struct IsLess {
    bool operator()(const Part& left, const Part& right) const { return left.least > right.least; }
};

// Finds the smallest value of a measure over all parts. `Measure::at` computes a value from the coefficients at one
// index of all polynomials, or returns its last argument if the value is larger. The least of these values bounds the
// measure from below; at a corner, the measure attains it.
template <class Measure>
class Search {
   public:
    Search(const Field& field, const Measure& measure, double tolerance, double most)
        : axes_(field.axes), measure_(measure), tolerance_(tolerance), upper(most), lower(most) {
        for (int k = 0; k < axes_; ++k) extent_[k] = 3 * axes_;
        size_ = extent_[0] * extent_[1] * extent_[2];
        capacity_ = static_cast<size_t>(open_numbers / static_cast<double>(size_ * measure.count()));
    }

    int size() const { return size_; }

    void push(std::unique_ptr<double[]> values) {
        for (int corner = 0; corner < 1 << axes_; ++corner) {
            int at = 0;
            for (int k = 0; k < axes_; ++k) at = at * extent_[k] + (corner >> k & 1 ? extent_[k] - 1 : 0);
            upper = std::min(upper, measure_.at(values.get(), size_, at, upper));
        }
        double least = upper;
        for (int i = 0; i < size_; ++i) least = std::min(least, measure_.at(values.get(), size_, i, least));
        if (least >= upper - tolerance_ || open_.size() >= capacity_)
            lower = std::min(lower, least);
        else
            open_.push({least, std::move(values)});
    }

    void run(Executor& executor) {
        int64 subdivisions = 0;
        while (!open_.empty() && open_.top().least < upper - tolerance_ && open_.top().least < lower) {
            if (++subdivisions > most_subdivisions) break;
            executor.check_interrupt();
            const std::unique_ptr<double[]> values = std::move(const_cast<Part&>(open_.top()).values);
            open_.pop();
            subdivide(values.get(), 0);
        }
        if (!open_.empty()) lower = std::min(lower, open_.top().least);
    }

   private:
    void subdivide(const double* values, int axis) {
        const int numbers = size_ * measure_.count();
        std::unique_ptr<double[]> left(new double[numbers]), right(new double[numbers]);
        halve(extent_, measure_.count(), axis, values, left.get(), right.get());
        for (std::unique_ptr<double[]>* half : {&left, &right}) {
            if (axis + 1 < axes_)
                subdivide(half->get(), axis + 1);
            else
                push(std::move(*half));
        }
    }

    int axes_;
    const Measure& measure_;
    double tolerance_;
    int extent_[most_variables] = {1, 1, 1};
    int size_;
    size_t capacity_;
    std::priority_queue<Part, std::vector<Part>, IsLess> open_;

   public:
    double upper;
    double lower;
};

// The measure for bounds: the ratio itself.
struct Ratio {
    int count() const { return 1; }
    double at(const double* values, int, int index, double) const { return values[index]; }
};

// The measure for scales: the first factor s in [0, most] at which 1 + s e_1 + s^2 e_2 + s^3 e_3 falls below the
// margin.
struct Factor {
    int axes;
    double margin;

    int count() const { return axes; }
    double at(const double* values, int size, int index, double most) const {
        double e[3] = {};
        for (int k = 0; k < axes; ++k) e[k] = values[k * size + index];
        const double falls = std::min(e[0], 0.0) + most * (std::min(e[1], 0.0) + most * std::min(e[2], 0.0));
        if (1 - margin + most * falls >= 0) return most;
        auto value = [&](double s) { return 1 - margin + s * (e[0] + s * (e[1] + s * e[2])); };
        // The polynomial is monotonic between its turning points.
        double stops[4] = {0, most, most, most};
        const double half = e[1] * e[1] - 3 * e[0] * e[2];
        if (half > 0) {
            const double q = -(e[1] + (e[1] >= 0 ? std::sqrt(half) : -std::sqrt(half)));
            const double turns[2] = {q / (3 * e[2]), e[0] / q};
            for (int i = 0; i < 2; ++i)
                if (turns[i] > 0 && turns[i] < most) stops[1 + i] = turns[i];
            std::sort(stops + 1, stops + 3);
        }
        for (int i = 0; i < 3; ++i) {
            if (value(stops[i + 1]) >= 0) continue;
            double low = stops[i], high = stops[i + 1];
            for (int step = 0; step < 40; ++step) {
                const double middle = (low + high) / 2;
                (value(middle) >= 0 ? low : high) = middle;
            }
            return low;
        }
        return most;
    }
};

bool is_finite(const Field& field) {
    double sum = 0;
    for (const double value : field.coefficients) sum += value * 0;
    return sum == 0;
}

// For each row of A, a bound of the sum of its entries' absolute values.
std::vector<double> row_sums(const Field& field) {
    std::vector<double> sums(static_cast<size_t>(field.axes), 0.0);
    for (int i = 0; i < field.axes; ++i)
        for (int j = 0; j < field.axes; ++j) sums[static_cast<size_t>(i)] += field.largest_change(i, j);
    return sums;
}

// A lower bound of det(I + sA). With a dominant diagonal, the determinant is at least the product over all rows of
// 1 - s * sum (Ostrowski); otherwise, it is at least minus the product of 1 + s * sum.
double least_of_dominant(const std::vector<double>& sums, double s) {
    double least = 1, size = 1;
    bool is_dominant = true;
    for (const double sum : sums) {
        is_dominant &= s * sum < 1;
        least *= 1 - s * sum;
        size *= 1 + s * sum;
    }
    return (is_dominant ? least : -size) - operations * rounding * size;
}

FoldBounds bound(const Field& field, double tolerance, Executor& executor) {
    if (!is_finite(field)) return {std::nan(""), std::nan(""), false};
    if (field.axes > most_variables) return {least_of_dominant(row_sums(field), 1), infinity, false};
    const Ratio ratio;
    Search<Ratio> search(field, ratio, 0.99 * tolerance, infinity);  // the rest allows for rounding
    double error = 0;
    for_cells(field, [&](const int64* index) {
        executor.check_interrupt();
        const Cell cell(field, index);
        error = std::max(error, cell.error);
        std::unique_ptr<double[]> values(new double[search.size()]);
        std::fill_n(values.get(), search.size(), 1.0);
        for (int rows = 1; rows <= field.axes; ++rows) {
            Bernstein invariant;
            cell.set_invariant(rows, invariant);
            for (int i = 0; i < search.size(); ++i) values[i] += invariant.value[i];
        }
        search.push(std::move(values));
    });
    search.run(executor);
    const double lower = std::min(search.lower, search.upper) - error;
    const double upper = search.upper + error;
    return {lower, upper, upper - lower <= tolerance};
}

double largest_scale(const Field& field, double margin, double tolerance, Executor& executor) {
    if (!is_finite(field)) return 0;
    if (field.axes > most_variables) {
        const std::vector<double> sums = row_sums(field);
        if (least_of_dominant(sums, 1) >= margin) return 1;
        double low = 0, high = 1;
        for (int step = 0; step < 40; ++step) {
            const double middle = (low + high) / 2;
            (least_of_dominant(sums, middle) >= margin ? low : high) = middle;
        }
        return low;
    }
    double error = 0;
    for_cells(field, [&](const int64* index) { error = std::max(error, Cell(field, index).error); });
    const Factor factor = {field.axes, margin + error};
    if (factor.margin >= 1) return 0;
    Search<Factor> search(field, factor, tolerance, 1);
    for_cells(field, [&](const int64* index) {
        executor.check_interrupt();
        const Cell cell(field, index);
        std::unique_ptr<double[]> values(new double[search.size() * field.axes]);
        for (int rows = 1; rows <= field.axes; ++rows) {
            Bernstein invariant;
            cell.set_invariant(rows, invariant);
            std::copy_n(invariant.value, search.size(), values.get() + (rows - 1) * search.size());
        }
        search.push(std::move(values));
    });
    search.run(executor);
    return std::min(search.lower, search.upper);
}

// Calls body(item, its field, executor), with items in parallel.
template <class Body>
void for_fields(const FoldQuery& query, Executor& executor, Body body) {
    const int axes = query.geometry.axes;
    const int64 size = axes * product(query.geometry.grid_shape, axes);
    executor.run(query.items, [&](int64 item) {
        InlineExecutor own(executor);
        const double* forward = query.forward ? query.forward + item * query.forward_item_size : nullptr;
        body(item, Field(query.geometry, query.control_points + item * size, forward, own), own);
    });
}

}  // namespace

void bound_folds(const FoldQuery& query, FoldBounds* bounds, Executor& executor) {
    for_fields(query, executor, [&](int64 item, const Field& field, Executor& own) {
        bounds[item] = bound(field, query.tolerance, own);
    });
}

void find_largest_scales(const FoldQuery& query, double margin, double* scales, Executor& executor) {
    // Scales are rounded down to few bits, so that multiplying by them does not round.
    constexpr double steps = 1024;
    for_fields(query, executor, [&](int64 item, const Field& field, Executor& own) {
        scales[item] = std::floor(largest_scale(field, margin, query.tolerance, own) * steps) / steps;
    });
}

}  // namespace elasticnd
