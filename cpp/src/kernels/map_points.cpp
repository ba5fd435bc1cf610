// The map of a deformation and its Jacobian at single positions, and Newton's method to invert it.
#include "elasticnd/dtypes.hpp"
#include "kernels/kernels.hpp"
#include "kernels/lanes.hpp"

ELASTICND_BEGIN

namespace {

constexpr int most_steps = 25;
constexpr int most_damped_steps = 100;
constexpr int most_halvings = 8;
constexpr double least_decrease = 1e-4;  // least decrease of the residual by a full step; less is no progress
constexpr double aim = 0.1;              // part of the tolerance to aim at, so that another full step is seldom needed
constexpr double largest_size = 1e300;
constexpr double singular = 1e-9;  // below this ratio of volumes, the Jacobian yields no step

// The weights of the four coefficients along each axis, and their slopes.
struct Weights {
    double value[max_axes][4];
    double slope[max_axes][4];
};

// The displacement, and its derivative along each of LEFT axes, beginning with `axis`.
template <class Lanes, int LEFT>
struct Slopes {
    static ELASTICND_FLAT void sum(const double* at, const int64* stride, const Weights& weight, int axis,
                                   Lanes* total) {
        for (int tap = 0; tap < 4; ++tap) {
            Lanes part[LEFT];
            Slopes<Lanes, LEFT - 1>::sum(at + tap * stride[axis], stride, weight, axis + 1, part);
            add_tap(weight, axis, tap, LEFT, part, total);
        }
    }
    static ELASTICND_FLAT void add_tap(const Weights& weight, int axis, int tap, int left, const Lanes* part,
                                       Lanes* total) {
        const double value = weight.value[axis][tap];
        if (tap == 0) {
            total[0] = part[0] * value;
            total[1] = part[0] * weight.slope[axis][tap];
            for (int k = 1; k < left; ++k) total[k + 1] = part[k] * value;
        } else {
            total[0] = total[0] + part[0] * value;
            total[1] = total[1] + part[0] * weight.slope[axis][tap];
            for (int k = 1; k < left; ++k) total[k + 1] = total[k + 1] + part[k] * value;
        }
    }
};
template <class Lanes>
struct Slopes<Lanes, 0> {
    static ELASTICND_FLAT void sum(const double* at, const int64*, const Weights&, int, Lanes* total) {
        total[0] = load_vector<Lanes>(at);
    }
};

template <class Lanes>
void sum_of_many(int axes, const double* at, const int64* stride, const Weights& weight, int axis, Lanes* total) {
    if (axes - axis == 3) return Slopes<Lanes, 3>::sum(at, stride, weight, axis, total);
    for (int tap = 0; tap < 4; ++tap) {
        Lanes part[max_axes];
        sum_of_many<Lanes>(axes, at + tap * stride[axis], stride, weight, axis + 1, part);
        Slopes<Lanes, 1>::add_tap(weight, axis, tap, axes - axis, part, total);
    }
}

// A position, and the difference between where the map takes it and the target.
template <int AXES>
struct State {
    static constexpr int most = AXES == 0 ? max_axes : AXES;
    double position[most];
    double difference[most];
    double jacobian[most][most];
    double size;   // squared length of the difference; NaN if there is no position
    double ratio;  // ratio of volumes to those of the affine map alone; set by `newton_step`
};

template <class Lanes, int AXES>
void find(const MapJob& job, const double* coefficients, const double* target, State<AXES>& state) {
    const int axes = AXES == 0 ? job.grid.axes : AXES;
    Weights weight;
    bool exists = true;
    int64 offset = 0;
    for (int k = 0; k < axes; ++k) {
        const GridPosition on_grid = find_on_grid(state.position[k], job.grid.image[k], job.grid.points[k]);
        exists &= on_grid.exists;
        offset += on_grid.cell * job.grid.stride[k];
        grid_weights_at(on_grid, job.grid.points[k], 0, weight.value[k]);
        grid_weights_at(on_grid, job.grid.points[k], 1, weight.slope[k]);
    }
    if (!exists) {
        state.size = bits_as<double>(0x7ff8000000000000LL);
        return;
    }
    Lanes total[max_axes + 1];
    if constexpr (AXES == 0)
        sum_of_many<Lanes>(axes, coefficients + offset, job.grid.stride, weight, 0, total);
    else
        Slopes<Lanes, AXES>::sum(coefficients + offset, job.grid.stride, weight, 0, total);
    state.size = 0;
    for (int i = 0; i < axes; ++i) {
        double x = job.inverse[i][axes];
        for (int j = 0; j < axes; ++j) {
            x += job.inverse[i][j] * state.position[j];
            state.jacobian[i][j] = job.inverse[i][j] + total[j + 1][i];
        }
        state.difference[i] = (x + total[0][i]) - target[i];
        state.size += state.difference[i] * state.difference[i];
    }
}

// Solves matrix * step = value by elimination; returns the determinant. Overwrites the matrix.
template <int AXES, int MOST>
double solve(int n, double (&matrix)[MOST][MOST], const double* value, double* step) {
    const int axes = AXES == 0 ? n : AXES;
    double determinant = 1;
    for (int i = 0; i < axes; ++i) step[i] = value[i];
    for (int column = 0; column < axes; ++column) {
        int pivot = column;
        double largest = -1;
        for (int i = column; i < axes; ++i) {
            const double size = matrix[i][column] < 0 ? -matrix[i][column] : matrix[i][column];
            if (size > largest) {
                largest = size;
                pivot = i;
            }
        }
        if (pivot != column) {
            determinant = -determinant;
            for (int j = column; j < axes; ++j) {
                const double kept = matrix[pivot][j];
                matrix[pivot][j] = matrix[column][j];
                matrix[column][j] = kept;
            }
            const double kept = step[pivot];
            step[pivot] = step[column];
            step[column] = kept;
        }
        determinant *= matrix[column][column];
        for (int i = column + 1; i < axes; ++i) {
            const double factor = matrix[i][column] / matrix[column][column];
            for (int j = column + 1; j < axes; ++j) matrix[i][j] -= factor * matrix[column][j];
            step[i] -= factor * step[column];
        }
    }
    for (int i = axes - 1; i >= 0; --i) {
        for (int j = i + 1; j < axes; ++j) step[i] -= matrix[i][j] * step[j];
        step[i] /= matrix[i][i];
    }
    return determinant;
}

// Computes Newton's step, which is to be subtracted, and the ratio of volumes. Where the Jacobian is singular, the step
// is that of the affine map.
template <int AXES>
void newton_step(const MapJob& job, State<AXES>& state, double* step) {
    const int axes = AXES == 0 ? job.grid.axes : AXES;
    double matrix[State<AXES>::most][State<AXES>::most];
    for (int i = 0; i < axes; ++i)
        for (int j = 0; j < axes; ++j) matrix[i][j] = state.jacobian[i][j];
    state.ratio = solve<AXES>(axes, matrix, state.difference, step) * job.forward_determinant;
    if (state.ratio > singular || state.ratio < -singular) return;
    for (int i = 0; i < axes; ++i) {
        step[i] = 0;
        for (int j = 0; j < axes; ++j) step[i] += job.forward[i][j] * state.difference[j];
    }
}

// The factor by which to shorten a step, so that it is no longer than the distance between control points along any
// axis.
inline double limit(const MapJob& job, int axes, const double* step) {
    double longest = 1;
    for (int k = 0; k < axes; ++k) {
        const double cells = (step[k] < 0 ? -step[k] : step[k]) * job.cells_per_voxel[k];
        longest = maximum(longest, cells);
    }
    return 1 / longest;
}

// Moves from a state to one whose difference and next step are well within the tolerance. If damped, each step is
// halved until the difference decreases, and the result is the best state that can be reached in this way.
template <class Lanes, int AXES>
void approach(const MapJob& job, const double* coefficients, const double* target, bool damped, State<AXES>& state) {
    const int axes = AXES == 0 ? job.grid.axes : AXES;
    const double enough = job.tolerance * aim;
    State<AXES> other;
    State<AXES>* current = &state;
    State<AXES>* trial = &other;
    const int steps = damped ? most_damped_steps : most_steps;
    const int trials = damped ? most_halvings + 1 : 1;
    for (int i = 0; i < steps; ++i) {
        double step[max_axes];
        newton_step(job, *current, step);
        double factor = limit(job, axes, step);
        bool is_small = current->size <= enough * enough;
        for (int k = 0; k < axes; ++k) is_small &= step[k] <= enough && -step[k] <= enough;
        bool goes_on = false;
        for (int half = 0; !is_small && !goes_on && half < trials; ++half, factor /= 2) {
            for (int k = 0; k < axes; ++k) trial->position[k] = current->position[k] - factor * step[k];
            find<Lanes>(job, coefficients, target, *trial);
            const double decrease = 1 - least_decrease * factor;
            const double most = damped ? current->size * decrease * decrease : largest_size;
            goes_on = trial->size < most;
        }
        if (!goes_on) break;
        State<AXES>* const next = trial;
        trial = current;
        current = next;
    }
    double step[max_axes];
    newton_step(job, *current, step);
    if (current != &state) state = *current;
}

template <class Lanes, int AXES>
void map_some(const MapJob& job, UnitRange some, const double* coefficients, const double* positions, double* places,
              double* ratios) {
    const int axes = AXES == 0 ? job.grid.axes : AXES;
    const double origin[max_axes] = {};
    State<AXES> state;
    double step[max_axes];
    for (int64 i = some.first; i < some.last; ++i) {
        for (int k = 0; k < axes; ++k) state.position[k] = positions[i * axes + k];
        find<Lanes>(job, coefficients, origin, state);
        newton_step(job, state, step);
        for (int k = 0; k < axes; ++k) places[i * axes + k] = state.difference[k];
        ratios[i] = state.ratio;
    }
}

template <class Lanes, int AXES>
void solve_some(const MapJob& job, const PointsToSolve& points, UnitRange some, const double* coefficients) {
    const int axes = AXES == 0 ? job.grid.axes : AXES;
    State<AXES> state;
    for (int64 i = some.first; i < some.last; ++i) {
        const double* target = points.targets + i * axes;
        double* position = points.positions + i * axes;
        for (int k = 0; k < axes; ++k) state.position[k] = position[k];
        find<Lanes>(job, coefficients, target, state);
        if (!(state.size - state.size == 0)) {  // there is no position
            points.residuals[i] = points.ratios[i] = bits_as<double>(0x7ff8000000000000LL);
            for (int k = 0; k < axes; ++k) position[k] = bits_as<double>(0x7ff8000000000000LL);
            continue;
        }
        approach<Lanes>(job, coefficients, target, points.damped, state);
        for (int k = 0; k < axes; ++k) position[k] = state.position[k];
        points.residuals[i] = state.size;
        points.ratios[i] = state.ratio;
    }
}

using Four = Vector<double, 4>;
using Eight = Vector<double, 8>;

}  // namespace

void map_points(const MapJob& job, UnitRange some, const double* coefficients, const double* positions, double* places,
                double* ratios) {
    switch (job.grid.axes) {
        case 1: return map_some<Four, 1>(job, some, coefficients, positions, places, ratios);
        case 2: return map_some<Four, 2>(job, some, coefficients, positions, places, ratios);
        case 3: return map_some<Four, 3>(job, some, coefficients, positions, places, ratios);
        case 4: return map_some<Four, 0>(job, some, coefficients, positions, places, ratios);
        default: return map_some<Eight, 0>(job, some, coefficients, positions, places, ratios);
    }
}

void solve_points(const MapJob& job, const PointsToSolve& points, UnitRange some, const double* coefficients) {
    switch (job.grid.axes) {
        case 1: return solve_some<Four, 1>(job, points, some, coefficients);
        case 2: return solve_some<Four, 2>(job, points, some, coefficients);
        case 3: return solve_some<Four, 3>(job, points, some, coefficients);
        case 4: return solve_some<Four, 0>(job, points, some, coefficients);
        default: return solve_some<Eight, 0>(job, points, some, coefficients);
    }
}

ELASTICND_END
