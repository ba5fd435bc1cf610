// Evaluates positions in tasks, with sums that do not depend on the threads.
#include "core/evaluate.hpp"

#include <algorithm>

#include "core/grid_map.hpp"

namespace elasticnd {
namespace {

constexpr int64 positions_together = 1024;  // positions per task, which takes about 100 microseconds
constexpr int64 partial_sums = 64;          // parts of the transpose, whose number does not depend on the threads ...
constexpr int64 largest_sums = 8'000'000;   // ... and whose sums together have at most this many numbers

EvaluationJob job_of(const Evaluation& evaluation, int64 item) {
    EvaluationJob job = evaluation_job(evaluation.job.geometry, evaluation.job.evaluation_order);
    job.positions = evaluation.positions + item * evaluation.count * job.axes;
    return job;
}

int64 values_of_item(const EvaluationJob& job, int64 count) { return count * job.axes * job.derivatives; }

// Calls body(task, positions, scratch memory) for parts of the positions.
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
        // There are as many parts as partial sums. Each part is divided into pieces, between which interrupts are
        // noticed.
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
        // The sums are still interleaved, which does not change the order of the additions.
        std::vector<double> total(static_cast<size_t>(job.size));
        for (size_t first = 0; first < sums.size(); first += total.size())
            for (size_t i = 0; i < total.size(); ++i) total[i] += sums[first + i];
        add_points_gradient(evaluation.job.geometry, separated(total, axes),
                            points + item * axes * product(job.points, axes), executor);
    }
}

}  // namespace elasticnd
