// The kernels of `evaluate` and its transpose. They process one position after the other, with the components of a
// control point in a vector.
#include <cstring>

#include "elasticnd/dtypes.hpp"
#include "kernels/kernels.hpp"
#include "kernels/lanes.hpp"

ELASTICND_BEGIN

namespace {

constexpr int most_lanes = 8;

// Where a position lies on the control grid.
struct Located {
    bool exists;
    int64 offset;  // offset of its first coefficient
    double weight[max_axes][grid_derivatives][4];
};

void locate(const EvaluationJob& job, const double* position, Located& located) {
    located.exists = true;
    located.offset = 0;
    for (int k = 0; k < job.axes; ++k) {
        const GridPosition on_grid = find_on_grid(position[k], job.image[k], job.points[k]);
        located.exists &= on_grid.exists;
        located.offset += on_grid.cell * job.stride[k];
        for (int m = 0; m < grid_derivatives && m <= job.order; ++m)
            grid_weights_at(on_grid, job.points[k], m, located.weight[k][m]);
    }
}

// The axes along which one of the derivatives is taken, one for each order.
struct Choice {
    int64 canonical;  // the number of the same axes in ascending order, whose derivative is the same
    bool is_zero;     // more than three derivatives of a cubic along one axis
    int times[max_axes];
};

Choice choice_of(const EvaluationJob& job, int64 number) {
    Choice choice = {};
    for (int64 rest = number, i = 0; i < job.order; ++i, rest /= job.axes) ++choice.times[rest % job.axes];
    for (int k = 0; k < job.axes; ++k) {
        choice.is_zero |= choice.times[k] >= grid_derivatives;
        for (int i = 0; i < choice.times[k]; ++i) choice.canonical = choice.canonical * job.axes + k;
    }
    return choice;
}

// The weights along each axis for a choice of axes.
using Weights = const double* [max_axes];

void choose_weights(const Located& located, const Choice& choice, int axes, Weights& weight) {
    for (int k = 0; k < axes; ++k) weight[k] = located.weight[k][choice.times[k]];
}

// The weighted sum over LEFT axes of the grid, and its transpose.
template <class Lanes, int LEFT>
struct Stencil {
    static ELASTICND_FLAT Lanes sum(const double* at, const int64* stride, const double* const* weight) {
        Lanes total = Stencil<Lanes, LEFT - 1>::sum(at, stride + 1, weight + 1) * weight[0][0];
        for (int tap = 1; tap < 4; ++tap)
            total =
                total + Stencil<Lanes, LEFT - 1>::sum(at + tap * stride[0], stride + 1, weight + 1) * weight[0][tap];
        return total;
    }
    static ELASTICND_FLAT void splat(Lanes value, double* at, const int64* stride, const double* const* weight) {
        for (int tap = 0; tap < 4; ++tap)
            Stencil<Lanes, LEFT - 1>::splat(value * weight[0][tap], at + tap * stride[0], stride + 1, weight + 1);
    }
};
template <class Lanes>
struct Stencil<Lanes, 0> {
    static ELASTICND_FLAT Lanes sum(const double* at, const int64*, const double* const*) {
        return load_vector<Lanes>(at);
    }
    static ELASTICND_FLAT void splat(Lanes value, double* at, const int64*, const double* const*) {
        store_vector(at, load_vector<Lanes>(at) + value);
    }
};

// Calls body(offset, product of the weights) for the taps along all but the last three axes.
template <class Body>
void for_outer_taps(const EvaluationJob& job, const Weights& weight, Body body) {
    const int outer = job.axes - 3;
    for (int tap = 0; tap < 1 << (2 * outer); ++tap) {
        double product = 1;
        int64 offset = 0;
        for (int k = 0; k < outer; ++k) {
            const int own = (tap >> (2 * (outer - 1 - k))) & 3;
            product *= weight[k][own];
            offset += own * job.stride[k];
        }
        body(offset, product);
    }
}

template <class Lanes, int AXES>
ELASTICND_FLAT Lanes stencil_sum(const EvaluationJob& job, const double* at, const Weights& weight) {
    if constexpr (AXES != 0) return Stencil<Lanes, AXES>::sum(at, job.stride, weight);
    const int outer = job.axes - 3;
    Lanes total = {};
    for_outer_taps(job, weight, [&](int64 offset, double product) {
        total = total + Stencil<Lanes, 3>::sum(at + offset, job.stride + outer, weight + outer) * product;
    });
    return total;
}

template <class Lanes, int AXES>
ELASTICND_FLAT void stencil_splat(const EvaluationJob& job, Lanes value, double* at, const Weights& weight) {
    if constexpr (AXES != 0) return Stencil<Lanes, AXES>::splat(value, at, job.stride, weight);
    const int outer = job.axes - 3;
    for_outer_taps(job, weight, [&](int64 offset, double product) {
        Stencil<Lanes, 3>::splat(value * product, at + offset, job.stride + outer, weight + outer);
    });
}

template <class Lanes, int AXES>
void evaluate_some(const EvaluationJob& job, UnitRange some, const double* coefficients, double* values, void*) {
    const double nan = bits_as<double>(0x7ff8000000000000LL);
    Located located;
    for (int64 i = some.first; i < some.last; ++i) {
        locate(job, job.positions + i * job.axes, located);
        double* to = values + i * job.axes * job.derivatives;
        for (int64 number = 0; number < job.derivatives; ++number) {
            const Choice choice = choice_of(job, number);
            double own[most_lanes] = {};
            if (!located.exists) {
                for (double& value : own) value = nan;
            } else if (choice.canonical < number) {
                for (int c = 0; c < job.axes; ++c) own[c] = to[c * job.derivatives + choice.canonical];
            } else if (!choice.is_zero) {
                Weights weight;
                choose_weights(located, choice, job.axes, weight);
                store_vector(own, stencil_sum<Lanes, AXES>(job, coefficients + located.offset, weight));
            }
            for (int c = 0; c < job.axes; ++c) to[c * job.derivatives + number] = own[c];
        }
    }
}

// Sums the gradients of equal derivatives in scratch memory, before spreading them over the grid.
template <class Lanes, int AXES>
void adjoint_of_some(const EvaluationJob& job, UnitRange some, const double* gradient, double* sums, void* scratch) {
    double* together = static_cast<double*>(scratch);
    Located located;
    for (int64 i = some.first; i < some.last; ++i) {
        locate(job, job.positions + i * job.axes, located);
        if (!located.exists) continue;
        std::memset(together, 0, static_cast<size_t>(job.derivatives * most_lanes) * sizeof(double));
        const double* from = gradient + i * job.axes * job.derivatives;
        for (int64 number = 0; number < job.derivatives; ++number) {
            double* own = together + choice_of(job, number).canonical * most_lanes;
            for (int c = 0; c < job.axes; ++c) own[c] += from[c * job.derivatives + number];
        }
        for (int64 number = 0; number < job.derivatives; ++number) {
            const Choice choice = choice_of(job, number);
            if (choice.is_zero || choice.canonical < number) continue;
            Weights weight;
            choose_weights(located, choice, job.axes, weight);
            stencil_splat<Lanes, AXES>(job, load_vector<Lanes>(together + number * most_lanes), sums + located.offset,
                                       weight);
        }
    }
}

using Four = Vector<double, 4>;
using Eight = Vector<double, 8>;

}  // namespace

int64 evaluation_scratch(const EvaluationJob& job) {
    return job.derivatives * most_lanes * static_cast<int64>(sizeof(double));
}

void evaluate(const EvaluationJob& job, UnitRange some, const double* coefficients, double* values, void* scratch) {
    switch (job.axes) {
        case 1: return evaluate_some<Four, 1>(job, some, coefficients, values, scratch);
        case 2: return evaluate_some<Four, 2>(job, some, coefficients, values, scratch);
        case 3: return evaluate_some<Four, 3>(job, some, coefficients, values, scratch);
        case 4: return evaluate_some<Four, 0>(job, some, coefficients, values, scratch);
        default: return evaluate_some<Eight, 0>(job, some, coefficients, values, scratch);
    }
}

void evaluate_adjoint(const EvaluationJob& job, UnitRange some, const double* gradient, double* sums, void* scratch) {
    switch (job.axes) {
        case 1: return adjoint_of_some<Four, 1>(job, some, gradient, sums, scratch);
        case 2: return adjoint_of_some<Four, 2>(job, some, gradient, sums, scratch);
        case 3: return adjoint_of_some<Four, 3>(job, some, gradient, sums, scratch);
        case 4: return adjoint_of_some<Four, 0>(job, some, gradient, sums, scratch);
        default: return adjoint_of_some<Eight, 0>(job, some, gradient, sums, scratch);
    }
}

ELASTICND_END
