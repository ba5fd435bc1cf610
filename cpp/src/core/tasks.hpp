// Divides a request's work into items, channels, and tasks for threads.
#pragma once
#include <algorithm>

#include "core/extents.hpp"
#include "runtime/parallel.hpp"

namespace elasticnd {

constexpr double worth_a_thread = 1e6;  // operations, about 50 microseconds: less work is not worth waking a thread

// The number of parts into which to divide units, such that none takes too long. A cost is a rough count of operations.
int64 count_parts(double cost, int64 units);

int64 count_tasks(double cost, int64 units, int threads);

// The units of one of `tasks` tasks.
UnitRange part(int64 units, int64 task, int64 tasks);

// Calls body(item, its request, executor). Many small items run in parallel, each on one thread.
template <class Body>
void for_each_item(const SampleRequest& request, Executor& executor, Body body) {
    const Geometry& geometry = request.job.geometry;
    const int64 voxels =
        request.channels * (product(request.job.roi.extent, geometry.axes) + product(geometry.output, geometry.axes));
    constexpr int64 small = int64(1) << 22;
    const bool side_by_side = request.items > 1 && voxels < small && executor.threads() > 1 &&
                              (request.items >= 4 * executor.threads() || voxels < small / 64);
    if (!side_by_side) {
        for (int64 item = 0; item < request.items; ++item) body(item, item_of(request, item), executor);
        return;
    }
    executor.run(request.items, [&](int64 item) {
        InlineExecutor own(executor);
        body(item, item_of(request, item), own);
    });
}

constexpr int64 channels_bytes = int64(1) << 23;  // bytes of coefficients to hold at a time, unless one plane is larger
constexpr int64 pixels_bytes = int64(1) << 28;    // bytes up to which whole pixels are held at a time

// Calls body(first channel, request for some channels) for as many channels as are held at a time, or for whole pixels.
template <class Body>
void for_channels(const SampleRequest& one, const Geometry& boxed, bool as_pixels, Body body) {
    const double plane = 8.0 * std::max(size_of(one.job.roi.extent, one.job.geometry.axes),  // bytes, at most
                                        size_of(boxed.box_extent, one.job.geometry.axes) / mostly_border);
    const double most = static_cast<double>(channels_bytes) / std::max(8.0, plane);
    int64 together = std::max<int64>(1, static_cast<int64>(most));
    if (as_pixels && pixel_lanes * plane <= static_cast<double>(pixels_bytes))
        together = std::max<int64>(pixel_lanes, together / pixel_lanes * pixel_lanes);
    for (int64 first = 0; first < one.channels; first += together) {
        SampleRequest some = one;
        some.channels = std::min(together, one.channels - first);
        some.image.offset += first;
        some.output.offset += first;
        body(first, some);
    }
}

}  // namespace elasticnd
