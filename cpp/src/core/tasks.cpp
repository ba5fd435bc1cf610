// How the work of a deformation is cut: into items, channels, and tasks for threads.
#include "core/tasks.hpp"

#include <algorithm>

namespace elasticnd {
namespace {

constexpr double longest_task = 4e7;  // operations, some 5 ms: an interrupt is seen between tasks

}  // namespace

int64 count_parts(double cost, int64 units) {
    return static_cast<int64>(std::min(static_cast<double>(units), cost / longest_task + 1));
}

int64 count_tasks(double cost, int64 units, int threads) {
    const int64 tasks = count_parts(cost, units);
    if (threads == 1 || cost < worth_a_thread) return tasks;
    const double shares = std::min(8.0 * threads, 4 * cost / worth_a_thread);
    return std::min(units, std::max(tasks, static_cast<int64>(shares)));
}

UnitRange part(int64 units, int64 task, int64 tasks) {
    // Without the overflow of units * task.
    const int64 quotient = units / tasks;
    const int64 rest = units % tasks;
    const int64 first = task * quotient + std::min(task, rest);
    return {first, first + quotient + (task < rest)};
}

Deformation item_of(Deformation deformation, int64 item) {
    const Geometry& geometry = deformation.geometry;
    deformation.points += item * geometry.axes * product(geometry.points, geometry.axes);
    if (deformation.inverse_map) deformation.inverse_map += item * deformation.inverse_map_item_size;
    deformation.image.offset += item * deformation.channels;
    deformation.output.offset += item * deformation.channels;
    deformation.items = 1;
    return deformation;
}

}  // namespace elasticnd
