// Cuts sampling and its transposes into tasks.
#include <algorithm>
#include <memory>

#include "../include/elasticnd/boundary.hpp"
#include "core.hpp"

namespace elasticnd {
namespace {

int64 product(const int64* extent, int axes) {
    int64 size = 1;
    for (int k = 0; k < axes; ++k) size *= extent[k];
    return size;
}

// Walks a C-ordered index through `extent`; false after the last.
bool advance(int64* index, const int64* extent, int axes) {
    for (int k = axes - 1; k >= 0; --k) {
        if (++index[k] < extent[k]) return true;
        index[k] = 0;
    }
    return false;
}

// The control grid with one more coefficient on every side, mirrored: what a stencil of four can reach.
class UnfoldedGrid {
   public:
    UnfoldedGrid(const Geometry& geometry, int64 items) : geometry_(geometry), items_(items) {
        for (int k = 0; k < geometry.axes; ++k) field_.extent[k] = std::max<int64>(geometry.points[k] + 2, 4);
        points_ = product(geometry.points, geometry.axes);
        size_ = product(field_.extent, geometry.axes);
        field_.item_size = size_ * geometry.axes;
        values_.resize(static_cast<size_t>(items * field_.item_size));
        field_.coefficients = values_.data();
    }
    void unfold(const double* grid) {
        for_each([&](int64 unfolded, int64 point) { values_[static_cast<size_t>(unfolded)] = grid[point]; });
    }
    void fold_onto(double* grid) const {
        for_each([&](int64 unfolded, int64 point) { grid[point] += values_[static_cast<size_t>(unfolded)]; });
    }
    const Field& field() const { return field_; }
    double* item(int64 i) { return values_.data() + i * field_.item_size; }

   private:
    template <class Body>
    void for_each(Body body) const {
        int64 index[max_axes] = {};
        do {
            int64 unfolded = 0;
            int64 point = 0;
            for (int k = 0; k < geometry_.axes; ++k) {
                unfolded = unfolded * field_.extent[k] + index[k];
                point = point * geometry_.points[k] + common::fold_mirror(index[k] - 1, geometry_.points[k]);
            }
            for (int64 c = 0; c < items_ * geometry_.axes; ++c) body(c * size_ + unfolded, c * points_ + point);
        } while (advance(index, field_.extent, geometry_.axes));
    }

    const Geometry& geometry_;
    int64 items_;
    int64 points_;
    int64 size_;
    Field field_;
    std::vector<double> values_;
};

constexpr int64 longest_table = 16384;  // voxels of a row: 768 KiB of weights

// A job, made ready for the kernels.
class Prepared {
   public:
    Prepared(SampleJob job, const double* grid) : job(job), grid_(this->job.geometry, job.items) {
        const Geometry& geometry = this->job.geometry;
        const int inner = geometry.axes - 1;
        grid_.unfold(grid);
        this->job.field = grid_.field();
        row_units = (geometry.output[inner] + row_length - 1) / row_length;
        outer = product(geometry.output, inner);
        units = job.items * outer * row_units;
        // A table of the inner weights pays where many rows share it.
        this->job.inner = {nullptr, nullptr, nullptr};
        if (units > 0 && job.items * outer > 4 && geometry.output[inner] <= longest_table) {
            const int64 extent = geometry.output[inner];
            cell_.resize(static_cast<size_t>(extent));
            weight_.resize(static_cast<size_t>(4 * extent));
            run_.resize(static_cast<size_t>(extent));
            active_kernels().inner_weights(geometry, 0, extent, cell_.data(), run_.data(), weight_.data(), extent);
            this->job.inner = {cell_.data(), run_.data(), weight_.data()};
        }
    }

    // A rough count of the operations that so many units take. In floating point, for it can pass 2^63.
    double cost(int64 of_units) const {
        double taps = 1;
        for (int k = 0; k < job.geometry.axes; ++k) taps *= job.geometry.order + 1;
        const double voxels =
            std::min<double>(row_length, static_cast<double>(job.geometry.output[job.geometry.axes - 1]));
        const double voxel = 20.0 * job.geometry.axes + static_cast<double>(job.channels) * (10 + taps);
        return static_cast<double>(of_units) * (200 + voxels * voxel);
    }

    Scratch scratch() const { return make_scratch(active_kernels().sample_scratch(job)); }

    SampleJob job;
    int64 row_units;  // units in a row
    int64 outer;      // rows in an item
    int64 units;

   private:
    UnfoldedGrid grid_;
    std::vector<int64> cell_;
    std::vector<int64> run_;
    std::vector<double> weight_;
};

constexpr int64 partial_sums = 64;                 // parts of a sum over all voxels ...
constexpr int64 largest_partial_sums = 8'000'000;  // ... whose grids have at most so many numbers
constexpr double worth_a_thread = 4e5;             // operations below which waking a thread costs more than it brings
constexpr double longest_task = 4e7;               // operations, some 20 ms: an interrupt is seen between tasks

// In how many parts to do units that can be divided, so that none takes too long.
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

using RowKernel = void (*)(const SampleJob&, UnitRange, void*);

void run_rows(const Prepared& prepared, RowKernel kernel, Executor& executor) {
    if (prepared.units <= 0) return;
    const int64 tasks = count_tasks(prepared.cost(prepared.units), prepared.units, executor.threads());
    executor.run(tasks, [&](int64 task) {
        const auto scratch = prepared.scratch();
        kernel(prepared.job, part(prepared.units, task, tasks), scratch.get());
    });
}

}  // namespace

void sample(SampleJob job, const double* grid, Executor& executor) {
    run_rows(Prepared(job, grid), active_kernels().sample, executor);
}

void displace(SampleJob job, const double* grid, Executor& executor) {
    run_rows(Prepared(job, grid), active_kernels().displace, executor);
}

void scatter_image(SampleJob job, const double* grid, Executor& executor) {
    const Prepared prepared(job, grid);
    if (prepared.units <= 0) return;
    const Geometry& geometry = prepared.job.geometry;
    const int64 extent = geometry.box_extent[0];
    const int64 item_units = prepared.units / job.items;
    // Groups of units along the first output axis, so that a slab can pass over those that cannot reach it.
    const bool one_axis = geometry.axes == 1;
    const int64 lead = one_axis ? item_units : geometry.output[0];
    const int64 lead_units = item_units / lead;
    const int64 lead_step = one_axis ? row_length : 1;
    int64 slabs = 1;
    if (executor.threads() > 1 && prepared.cost(item_units) > worth_a_thread && job.items < 2 * executor.threads())
        slabs = std::min<int64>(executor.threads(), std::max<int64>(1, extent / (2 * max_taps)));

    const int64 groups = slabs == 1 ? 1 : std::min<int64>(lead, 64);

    struct Reach {
        UnitRange units;
        int64 first;
        int64 last;
    };
    std::vector<Reach> reaches;
    for (int64 item = 0; item < job.items; ++item)
        for (int64 group = 0; group < groups; ++group) {
            const UnitRange leading = part(lead, group, groups);
            OutputPart patch = {};
            for (int k = 0; k < geometry.axes; ++k) patch.last[k] = geometry.output[k];
            patch.first[0] = leading.first * lead_step;
            patch.last[0] = std::min(leading.last * lead_step, geometry.output[0]);
            Box box = {};
            box.extent[0] = extent;
            if (slabs > 1)
                box = find_source_box(geometry, patch, item, item + 1, grid, job.affine, job.affine_item_size);
            const int64 start = item * item_units;
            reaches.push_back({{start + leading.first * lead_units, start + leading.last * lead_units},
                               box.start[0],
                               box.start[0] + box.extent[0]});
        }
    executor.run(job.items * slabs, [&](int64 task) {
        const int64 item = task / slabs;
        const UnitRange own = part(extent, task % slabs, slabs);
        const auto scratch = prepared.scratch();
        for (int64 group = item * groups; group < (item + 1) * groups; ++group) {
            const Reach& reach = reaches[static_cast<size_t>(group)];
            if (reach.last <= own.first || reach.first >= own.last) continue;
            const int64 count = reach.units.last - reach.units.first;
            const int64 pieces = count_parts(prepared.cost(count), count);
            for (int64 piece = 0; piece < pieces; ++piece) {
                UnitRange units = part(count, piece, pieces);
                units.first += reach.units.first;
                units.last += reach.units.first;
                executor.checkpoint();
                active_kernels().scatter_image(prepared.job, units, {own.first, own.last}, scratch.get());
            }
        }
    });
}

void scatter_grid(SampleJob job, const double* grid, double* grid_gradient, double* affine_gradient,
                  Executor& executor) {
    const Prepared prepared(job, grid);
    if (prepared.units <= 0) return;
    const Geometry& geometry = prepared.job.geometry;
    const int64 item_units = prepared.units / job.items;
    const int64 affine_size = geometry.axes * (geometry.axes + 1);
    // Every part sums on its own, then the parts are added in their order. How many there are depends on the sizes
    // alone, so that the sum is the same for any number of threads.
    const int64 most = std::max<int64>(1, largest_partial_sums / (job.items * prepared.job.field.item_size));
    const int64 parts = std::min({item_units, std::max<int64>(1, partial_sums / job.items), most});
    std::vector<std::unique_ptr<UnfoldedGrid>> grids;
    for (int64 p = 0; p < parts; ++p) grids.push_back(std::make_unique<UnfoldedGrid>(geometry, job.items));
    std::vector<double> affines(static_cast<size_t>(parts * job.items * affine_size));
    executor.run(job.items * parts, [&](int64 task) {
        const int64 item = task / parts;
        const int64 p = task % parts;
        const UnitRange own = part(item_units, p, parts);
        const auto scratch = prepared.scratch();
        const int64 count = own.last - own.first;
        const int64 pieces = count_parts(prepared.cost(count), count);
        for (int64 piece = 0; piece < pieces; ++piece) {
            UnitRange units = part(count, piece, pieces);
            units.first += own.first + item * item_units;
            units.last += own.first + item * item_units;
            executor.checkpoint();
            active_kernels().scatter_grid(prepared.job, units, grids[static_cast<size_t>(p)]->item(item),
                                          affines.data() + (p * job.items + item) * affine_size, scratch.get());
        }
    });
    for (int64 p = 0; p < parts; ++p) {
        grids[static_cast<size_t>(p)]->fold_onto(grid_gradient);
        for (int64 i = 0; i < job.items * affine_size; ++i)
            affine_gradient[i] += affines[static_cast<size_t>(p * job.items * affine_size + i)];
    }
}

}  // namespace elasticnd
