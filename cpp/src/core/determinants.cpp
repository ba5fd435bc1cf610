// Computes determinants in tasks of several rows, and prepares what all rows share.
#include "core/determinants.hpp"

#include <algorithm>

#include "core/grid_map.hpp"
#include "elasticnd/grid.hpp"

namespace elasticnd {
namespace {

constexpr int64 voxels_together = 16384;  // voxels per task, which takes some 100 microseconds
constexpr int64 readable = 8;             // places after the last voxel of a row, for whole vectors

// Where the voxels of a row lie in the cells of the control grid.
struct RowPlaces {
    explicit RowPlaces(const Geometry& geometry) {
        const int axis = geometry.axes - 1;
        place.resize(static_cast<size_t>(geometry.output[axis] + readable));
        for (int64 i = 0; i < geometry.output[axis]; ++i) {
            const auto at = common::find_on_grid(static_cast<double>(geometry.start[axis] + i), geometry.image[axis],
                                                 geometry.grid_shape[axis]);
            place[static_cast<size_t>(i)] = at.place;
            if (runs.empty() || runs.back().cell != at.cell) runs.push_back({at.cell, i, 0});
            ++runs.back().count;
        }
    }
    std::vector<double> place;
    std::vector<CellRun> runs;
};

}  // namespace

void compute_determinants(const DeterminantQuery& query, double* determinants, Executor& executor) {
    const Geometry& geometry = query.geometry;
    const int axes = geometry.axes;
    const int64 voxels = product(geometry.output, axes);
    if (voxels == 0) return;
    const RowPlaces places(geometry);
    const int64 rows = voxels / geometry.output[axes - 1];
    const int64 together = std::max<int64>(1, voxels_together / geometry.output[axes - 1]);
    for (int64 item = 0; item < query.items; ++item) {
        const double* points = query.control_points + item * axes * product(geometry.grid_shape, axes);
        const ControlGrid grid(geometry, points, executor);
        DeterminantJob job = {};
        job.geometry = geometry;
        job.grid = grid.coefficients();
        job.cells_per_voxel = cells_per_voxel(geometry, axes - 1);
        job.place = places.place.data();
        job.runs = places.runs.data();
        job.run_count = static_cast<int64>(places.runs.size());
        job.determinants = determinants + item * voxels;
        for (int i = 0; i < axes; ++i)
            for (int j = 0; j < axes; ++j)
                job.linear[i][j] =
                    query.linear ? query.linear[item * query.linear_item_size + i * axes + j] : double(i == j);
        executor.run((rows + together - 1) / together, [&](int64 task) {
            const UnitRange some = {task * together, std::min(rows, (task + 1) * together)};
            active_kernels().determinants(job, some, scratch_memory(active_kernels().determinant_scratch(job)));
        });
    }
}

}  // namespace elasticnd
