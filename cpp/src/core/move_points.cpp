// Inverts the map of a deformation at points by Newton's method and, where that fails, again with starts from a table.
#include "core/move_points.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/grid_map.hpp"

namespace elasticnd {
namespace {

constexpr int64 points_together = 256;  // points per task, which takes about 100 microseconds
constexpr int64 retries_together = 16;
constexpr int64 most_entries = 2'000'000;  // most entries of a table
constexpr int samples_per_cell = 4;
constexpr double border_cells = 1;  // number of cells by which the table extends beyond the frame
constexpr int most_starts = 8;      // entries of the table from which a point is retried

template <class Body>
void for_parts(int64 count, int64 together, Executor& executor, Body body) {
    executor.run((count + together - 1) / together,
                 [&](int64 task) { body(UnitRange{task * together, std::min(count, (task + 1) * together)}); });
}

double infinity() { return std::numeric_limits<double>::infinity(); }

// The source positions of a lattice, which covers the frame and slightly more.
class Table {
   public:
    Table(const MapJob& job, const std::vector<double>& coefficients, Executor& executor)
        : job_(job), axes_(job.grid.axes) {
        for (int per_cell = samples_per_cell; per_cell > 0; --per_cell)
            if (set_lattice(per_cell)) break;
        if (size_ == 0) return;
        std::vector<double> positions(static_cast<size_t>(size_ * axes_));
        places_.resize(positions.size());
        ratios_.resize(static_cast<size_t>(size_));
        for_parts(size_, 4 * points_together, executor, [&](UnitRange some) {
            for (int64 i = some.first; i < some.last; ++i) position_of(i, positions.data() + i * axes_);
            active_kernels().map_points(job_, some, coefficients.data(), positions.data(), places_.data(),
                                        ratios_.data());
        });
        set_largest(coefficients);
    }

    // Finds the entries near which the map can reach `target`: local minima of the distance to it among neighbours
    // along the axes, nearest first. Entries are indices into the lattice.
    void find_starts(const double* target, std::vector<int64>& starts) const {
        starts.clear();
        if (size_ == 0) return;
        int64 first[max_axes], last[max_axes];
        set_window(target, first, last);
        std::vector<std::pair<double, int64>> found;
        int64 index[max_axes];
        std::copy_n(first, axes_, index);
        for (;;) {
            int64 entry = 0;
            for (int k = 0; k < axes_; ++k) entry += index[k] * stride_[k];
            const double own = distance(entry, target);
            if (own < infinity() && is_minimum(entry, index, own, target)) found.emplace_back(own, entry);
            int k = axes_ - 1;
            while (k >= 0 && ++index[k] > last[k]) index[k] = first[k], --k;
            if (k < 0) break;
        }
        const size_t count = std::min<size_t>(most_starts, found.size());
        std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(count), found.end());
        for (size_t i = 0; i < count; ++i) starts.push_back(found[i].second);
    }

    void position_of(int64 entry, double* position) const {
        for (int k = 0; k < axes_; ++k) {
            const int64 index = entry / stride_[k] % extent_[k];
            position[k] = start_[k] + static_cast<double>(index) * step_[k];
        }
    }

   private:
    // Returns false if the table would be too large.
    bool set_lattice(int per_cell) {
        double size = 1;
        for (int k = axes_ - 1; k >= 0; --k) {
            const double cells = job_.cells_per_voxel[k];
            const double frame = static_cast<double>(std::max<int64>(job_.grid.image[k] - 1, 1));
            const double spacing = cells > 0 ? 1 / cells : frame;
            start_[k] = -border_cells * spacing;
            step_[k] = spacing / per_cell;
            const double count = std::round((frame + 2 * border_cells * spacing) / step_[k]) + 1;
            stride_[k] = static_cast<int64>(size);
            extent_[k] = static_cast<int64>(std::min(count, 1e9));
            size *= count;
            if (size > static_cast<double>(most_entries)) return false;
        }
        size_ = static_cast<int64>(size);
        return true;
    }

    // The coefficients bound the field, and so the distance of positions from those of the affine map alone.
    void set_largest(const std::vector<double>& coefficients) {
        const int lanes = evaluation_lanes(axes_);
        double component[max_axes] = {};
        for (size_t i = 0; i < coefficients.size(); ++i) {
            const size_t lane = i % static_cast<size_t>(lanes);
            if (lane < static_cast<size_t>(axes_))
                component[lane] = std::max(component[lane], std::abs(coefficients[i]));
        }
        for (int k = 0; k < axes_; ++k) {
            largest_[k] = 0;
            for (int l = 0; l < axes_; ++l) largest_[k] += std::abs(job_.forward[k][l]) * component[l];
        }
    }

    void set_window(const double* target, int64* first, int64* last) const {
        for (int k = 0; k < axes_; ++k) {
            double middle = job_.forward[k][axes_];
            for (int l = 0; l < axes_; ++l) middle += job_.forward[k][l] * target[l];
            const double end = static_cast<double>(extent_[k] - 1);
            const double low = std::floor((middle - largest_[k] - start_[k]) / step_[k]) - 1;
            const double high = std::ceil((middle + largest_[k] - start_[k]) / step_[k]) + 1;
            first[k] = static_cast<int64>(std::clamp(low, 0.0, end));
            last[k] = static_cast<int64>(std::clamp(high, 0.0, end));
        }
    }

    // The squared distance; infinite in folds.
    double distance(int64 entry, const double* target) const {
        if (!(ratios_[static_cast<size_t>(entry)] > 0)) return infinity();
        double sum = 0;
        for (int k = 0; k < axes_; ++k) {
            const double difference = places_[static_cast<size_t>(entry * axes_ + k)] - target[k];
            sum += difference * difference;
        }
        return sum;
    }

    bool is_minimum(int64 entry, const int64* index, double own, const double* target) const {
        for (int k = 0; k < axes_; ++k) {
            if (index[k] > 0 && distance(entry - stride_[k], target) < own) return false;
            if (index[k] < extent_[k] - 1 && distance(entry + stride_[k], target) <= own) return false;
        }
        return true;
    }

    const MapJob& job_;
    int axes_;
    int64 size_ = 0;
    int64 extent_[max_axes];
    int64 stride_[max_axes];
    double start_[max_axes];
    double step_[max_axes];
    double largest_[max_axes];
    std::vector<double> places_;
    std::vector<double> ratios_;
};

// Solves for the points of one item.
class Solver {
   public:
    Solver(const MapJob& job, const std::vector<double>& coefficients, const PointsToSolve& points, int64 count)
        : job_(job), coefficients_(coefficients), points_(points), count_(count), axes_(job.grid.axes) {}

    // For nearly all points, full steps converge from the position to which the affine map alone moves the point. In
    // folds, entries of the table are tried too. For the rest, damped steps come as close as they can.
    void solve(Executor& executor) {
        for_parts(count_, points_together, executor, [&](UnitRange some) {
            for (int64 i = some.first; i < some.last; ++i) start_at_affine(i, points_.positions + i * axes_);
            active_kernels().solve_points(job_, points_, some, coefficients_.data());
        });
        std::vector<int64> failed;
        for (int64 i = 0; i < count_; ++i)
            if (is_finite(points_.targets + i * axes_) && !is_good(i)) failed.push_back(i);
        if (failed.empty()) return;
        const Table table(job_, coefficients_, executor);
        for_parts(static_cast<int64>(failed.size()), retries_together, executor, [&](UnitRange some) {
            std::vector<int64> starts;
            for (int64 i = some.first; i < some.last; ++i) {
                table.find_starts(points_.targets + failed[static_cast<size_t>(i)] * axes_, starts);
                retry(table, starts, failed[static_cast<size_t>(i)]);
            }
        });
    }

   private:
    bool is_finite(const double* target) const {
        double sum = 0;
        for (int k = 0; k < axes_; ++k) sum += target[k] * 0;
        return sum == 0;
    }

    bool has_converged(double residual) const { return residual <= job_.tolerance * job_.tolerance; }
    bool is_good(int64 i) const { return has_converged(points_.residuals[i]) && points_.ratios[i] > 0; }

    void start_at_affine(int64 i, double* position) const {
        const double* target = points_.targets + i * axes_;
        for (int k = 0; k < axes_; ++k) {
            double sum = job_.forward[k][axes_];
            for (int l = 0; l < axes_; ++l) sum += job_.forward[k][l] * target[l];
            position[k] = sum;
        }
    }

    void retry(const Table& table, const std::vector<int64>& starts, int64 i) {
        double position[max_axes];
        for (const bool damped : {false, true}) {
            for (const int64 start : starts) {
                table.position_of(start, position);
                try_from(position, damped, i);
                if (is_good(i)) return;
            }
            if (has_converged(points_.residuals[i])) return;
        }
        start_at_affine(i, position);
        try_from(position, true, i);
    }

    void try_from(double* position, bool damped, int64 i) {
        double residual, ratio;
        const PointsToSolve one = {points_.targets + i * axes_, position, &residual, &ratio, damped};
        active_kernels().solve_points(job_, one, UnitRange{0, 1}, coefficients_.data());
        if (!is_better(residual, ratio, i)) return;
        std::copy_n(position, axes_, points_.positions + i * axes_);
        points_.residuals[i] = residual;
        points_.ratios[i] = ratio;
    }

    // A solution is better than none, and one outside folds is better than one inside. Without a solution, nearer is
    // better.
    bool is_better(double residual, double ratio, int64 i) const {
        const bool solves = has_converged(residual), solved = has_converged(points_.residuals[i]);
        if (solves != solved) return solves;
        return solves ? ratio > 0 && !(points_.ratios[i] > 0) : !(residual >= points_.residuals[i]);
    }

    const MapJob& job_;
    const std::vector<double>& coefficients_;
    const PointsToSolve& points_;
    int64 count_;
    int axes_;
};

}  // namespace

void move_points(const Movement& movement, const MovedPoints& moved, Executor& executor) {
    if (movement.count == 0) return;
    const int axes = movement.geometry.axes;
    for (int64 item = 0; item < movement.items; ++item) {
        const double* map =
            movement.inverse_map ? movement.inverse_map + item * movement.inverse_map_item_size : nullptr;
        MapJob job = map_job(movement.geometry, map);
        job.tolerance = movement.tolerance;
        const double* control_points =
            movement.control_points + item * axes * product(movement.geometry.grid_shape, axes);
        const ControlGrid grid(movement.geometry, control_points, executor);
        const std::vector<double> coefficients = interleaved(grid.coefficients(), axes);
        const int64 first = item * movement.count;
        const PointsToSolve points = {movement.targets + first * axes, moved.positions + first * axes,
                                      moved.residuals + first, moved.ratios + first, false};
        Solver(job, coefficients, points, movement.count).solve(executor);
        for (int64 i = 0; i < movement.count; ++i) points.residuals[i] = std::sqrt(points.residuals[i]);
    }
}

}  // namespace elasticnd
