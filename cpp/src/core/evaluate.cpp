// The driver of evaluation: positions cut into tasks, and sums that do not depend on the threads.
#include "core/evaluate.hpp"

#include <algorithm>

#include "core/control_grid.hpp"

namespace elasticnd {
namespace {

constexpr int64 positions_together = 1024;  // in a task: some 100 microseconds
constexpr int64 partial_sums = 64;          // parts of the transpose, whose sum does not depend on the threads ...
constexpr int64 largest_sums = 8'000'000;   // ... and that have at most so many numbers

// The coefficients with the components of a control point side by side, as the kernels take them, and back.
std::vector<double> interleaved(const GridCoefficients& grid, int axes) {
    const int lanes = evaluation_lanes(axes);
    const int64 size = grid.item_size / axes;
    std::vector<double> together(static_cast<size_t>(size * lanes));
    for (int component = 0; component < axes; ++component)
        for (int64 i = 0; i < size; ++i)
            together[static_cast<size_t>(i * lanes + component)] = grid.coefficients[component * size + i];
    return together;
}

std::vector<double> separated(const std::vector<double>& together, int axes) {
    const int lanes = evaluation_lanes(axes);
    const int64 size = static_cast<int64>(together.size()) / lanes;
    std::vector<double> apart(static_cast<size_t>(size * axes));
    for (int component = 0; component < axes; ++component)
        for (int64 i = 0; i < size; ++i)
            apart[static_cast<size_t>(component * size + i)] = together[static_cast<size_t>(i * lanes + component)];
    return apart;
}

EvaluationJob job_of(const Evaluation& evaluation, int64 item) {
    EvaluationJob job = {};
    job.axes = evaluation.job.geometry.axes;
    job.order = evaluation.job.evaluation_order;
    job.derivatives = 1;
    for (int i = 0; i < job.order; ++i) job.derivatives *= job.axes;
    std::copy_n(evaluation.job.geometry.image, job.axes, job.image);
    std::copy_n(evaluation.job.geometry.grid_shape, job.axes, job.points);
    int64 step = evaluation_lanes(job.axes);
    for (int k = job.axes - 1; k >= 0; --k) {
        job.stride[k] = step;
        step *= std::max<int64>(job.points[k] + 2, 4);
    }
    job.size = step;
    job.positions = evaluation.positions + item * evaluation.count * job.axes;
    return job;
}

int64 values_of_item(const EvaluationJob& job, int64 count) { return count * job.axes * job.derivatives; }

// Calls body(first position, last) for parts of the positions, with scratch memory.
template <class Body>
void for_parts(const EvaluationJob& job, int64 count, int64 together, Executor& executor, Body body) {
    executor.run((count + together - 1) / together, [&](int64 task) {
        void* scratch = scratch_memory(active_kernels().evaluation_scratch(job));
        body(task, UnitRange{task * together, std::min(count, (task + 1) * together)}, scratch);
    });
}

}  // namespace

void evaluate(const Evaluation& evaluation, const double* points, double* values, Executor& executor) {
    if (evaluation.count == 0) return;
    const int axes = evaluation.job.geometry.axes;
    for (int64 item = 0; item < evaluation.items; ++item) {
        EvaluationJob job = job_of(evaluation, item);
        const ControlGrid grid(evaluation.job.geometry, points + item * axes * product(job.points, axes), executor);
        const std::vector<double> coefficients = interleaved(grid.coefficients(), axes);
        double* own = values + item * values_of_item(job, evaluation.count);
        for_parts(job, evaluation.count, positions_together, executor, [&](int64, UnitRange some, void* scratch) {
            active_kernels().evaluate(job, some, coefficients.data(), own, scratch);
        });
    }
}

void evaluate_adjoint(const Evaluation& evaluation, const double* gradient, double* points, Executor& executor) {
    if (evaluation.count == 0) return;
    const int axes = evaluation.job.geometry.axes;
    for (int64 item = 0; item < evaluation.items; ++item) {
        const EvaluationJob job = job_of(evaluation, item);
        // As many parts as there may be sums; each in pieces, between which an interrupt is seen.
        const int64 parts = std::clamp<int64>(largest_sums / job.size, 1, partial_sums);
        const int64 together = std::max(positions_together, (evaluation.count + parts - 1) / parts);
        std::vector<double> sums(static_cast<size_t>((evaluation.count + together - 1) / together * job.size));
        const double* own = gradient + item * values_of_item(job, evaluation.count);
        for_parts(job, evaluation.count, together, executor, [&](int64 task, UnitRange some, void* scratch) {
            for (int64 first = some.first; first < some.last; first += positions_together) {
                executor.check_interrupt();
                const UnitRange piece = {first, std::min(some.last, first + positions_together)};
                active_kernels().evaluate_adjoint(job, piece, own, sums.data() + task * job.size, scratch);
            }
        });
        // Interleaving keeps the order of the sums.
        std::vector<double> total(static_cast<size_t>(job.size));
        for (size_t first = 0; first < sums.size(); first += total.size())
            for (size_t i = 0; i < total.size(); ++i) total[i] += sums[first + i];
        add_points_gradient(evaluation.job.geometry, separated(total, axes),
                            points + item * axes * product(job.points, axes), executor);
    }
}

}  // namespace elasticnd
