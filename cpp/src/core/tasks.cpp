// Divides a request's work into items, channels, and tasks for threads.
#include "core/tasks.hpp"

#include <algorithm>

namespace elasticnd {
namespace {

constexpr double longest_task = 4e7;  // operations, about 5 ms; interrupts are noticed between tasks

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
    // Dividing first avoids the overflow of units * task.
    const int64 quotient = units / tasks;
    const int64 rest = units % tasks;
    const int64 first = task * quotient + std::min(task, rest);
    return {first, first + quotient + (task < rest)};
}

bool lie_side_by_side(const Planes& image, int64 channels) {
    for (int64 c = 1; c < channels; ++c)
        if (image.offset[c] != image.offset[0] + c * element_size[image.dtype]) return false;
    return channels > 1;
}

SampleRequest item_of(SampleRequest request, int64 item) {
    const Geometry& geometry = request.job.geometry;
    request.control_points += item * geometry.axes * product(geometry.grid_shape, geometry.axes);
    if (request.inverse_map) request.inverse_map += item * request.inverse_map_item_size;
    request.image.offset += item * request.channels;
    request.output.offset += item * request.channels;
    request.items = 1;
    return request;
}

}  // namespace elasticnd
