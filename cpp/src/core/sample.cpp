// Sampling and its transposes: the coefficients that they need, and their work cut into tasks.
#include <algorithm>
#include <array>
#include <memory>
#include <stdexcept>

#include "core/control_grid.hpp"
#include "core/core.hpp"
#include "core/dense.hpp"
#include "elasticnd/boundary.hpp"
#include "elasticnd/prefilter.hpp"

namespace elasticnd {
namespace {

// ---- a job ----------------------------------------------------------------------------------------------------------

constexpr int64 longest_table = 16384;  // voxels of a row: 768 KiB of weights

OutputPart whole_output(const Geometry& geometry) {
    OutputPart all = {};
    std::copy_n(geometry.output, geometry.axes, all.last);
    return all;
}

// A job for one item, made ready for the kernels, by the item's grid.
class Prepared {
   public:
    Prepared(const Deformation& one, const ControlGrid& grid) {
        job.geometry = one.geometry;
        job.field = grid.field();
        job.affine = one.affine;
        job.affine_item_size = 0;
        job.items = 1;
        job.channels = one.channels;
        job.direct = false;
        job.output = one.output;
        job.fill_element = one.fill_element;
        const int inner = one.geometry.axes - 1;
        const int64 extent = one.geometry.output[inner];
        // Rows in even parts, of whole vectors.
        const int64 parts = std::max<int64>(1, (extent + row_length - 1) / row_length);
        constexpr int64 vector = 8;
        job.unit_length = std::max(vector, ((extent + parts - 1) / parts + vector - 1) / vector * vector);
        job.row_units = (extent + job.unit_length - 1) / job.unit_length;
        outer = product(one.geometry.output, inner);
        units = outer * job.row_units;
        // A table of the inner weights pays where many rows share it.
        job.inner = {nullptr, nullptr, nullptr};
        if (outer > 4 && extent <= longest_table) {
            cell_.resize(static_cast<size_t>(extent));
            weight_.resize(static_cast<size_t>(4 * extent));
            run_.resize(static_cast<size_t>(extent));
            active_kernels().inner_weights(one.geometry, 0, extent, cell_.data(), run_.data(), weight_.data(), extent);
            job.inner = {cell_.data(), run_.data(), weight_.data()};
        }
    }

    // The coefficients that a part of the output, or all of it, can reach.
    SourceBox source_box(const OutputPart& part) const {
        return find_source_box(job.geometry, part, job.field, job.affine);
    }
    SourceBox source_box() const { return source_box(whole_output(job.geometry)); }

    // The coefficients that the source holds.
    void set_source(const Coefficients& coefficients, const Geometry& boxed) {
        job.geometry = boxed;
        job.source = coefficients.planes();
    }
    // The source is the image.
    void set_source(const Planes& image, const Box& held) {
        job.source = image;
        for (int k = 0; k < job.geometry.axes; ++k) {
            job.geometry.box_start[k] = held.start[k];
            job.geometry.box_extent[k] = held.extent[k];
            job.source.data += held.start[k] * image.stride[k];
        }
        job.direct = true;
    }

    // A rough count of the operations that so many units take. In floating point, for it can pass 2^63.
    double cost(int64 of_units) const {
        double taps = 1;
        for (int k = 0; k < job.geometry.axes; ++k) taps *= job.geometry.order + 1;
        const double voxels = static_cast<double>(job.unit_length);
        const double voxel = 20.0 * job.geometry.axes + static_cast<double>(job.channels) * (10 + taps);
        return static_cast<double>(of_units) * (200 + voxels * voxel);
    }

    SampleJob job;
    int64 outer;  // rows of the output
    int64 units;

   private:
    std::vector<int64> cell_;
    std::vector<int64> run_;
    std::vector<double> weight_;
};

bool samples_image_itself(const Deformation& deformation) {
    const Geometry& geometry = deformation.geometry;
    if (geometry.order > 1) return false;
    for (int k = 0; k < geometry.axes; ++k)
        if (geometry.derivative[k] > 0) return false;
    return true;
}

bool is_whole(const Geometry& geometry) {
    return std::equal(geometry.output, geometry.output + geometry.axes, geometry.image);
}

bool holds_whole_image(const Deformation& deformation) {
    const Geometry& geometry = deformation.geometry;
    return std::equal(geometry.image, geometry.image + geometry.axes, deformation.held.extent);
}

Geometry with_box(Geometry geometry, const Box& box) {
    std::copy_n(box.start, max_axes, geometry.box_start);
    std::copy_n(box.extent, max_axes, geometry.box_extent);
    return geometry;
}

// ---- images of few voxels -------------------------------------------------------------------------------------------

constexpr double mostly_border = 16;            // times as many coefficients as voxels: they are not held all
constexpr double largest_box = int64(1) << 27;  // bytes of their coefficients that are held at a time, if need be

double size_of(const int64* extent, int axes) {
    double size = 1;
    for (int k = 0; k < axes; ++k) size *= static_cast<double>(extent[k]);
    return size;
}

// Whether most coefficients would lie beyond the border or in the padding. Along one axis these are few; with many
// axes, even a small image has billions.
bool is_mostly_border(const Geometry& boxed) {
    constexpr double many = int64(1) << 20;
    const double coefficients = size_of(boxed.box_extent, boxed.axes);
    return coefficients > many && coefficients > mostly_border * size_of(boxed.image, boxed.axes);
}

// Parts of the output reach fewer coefficients.
bool is_worth_halving(const Deformation& one, const Geometry& boxed) {
    const double bytes = size_of(boxed.box_extent, boxed.axes) * (one.arithmetic == dtype_float64 ? 8 : 4);
    return bytes > largest_box && is_mostly_border(boxed) && size_of(one.geometry.output, one.geometry.axes) > 1;
}

// The two halves of the output, along its longest axis.
std::array<Deformation, 2> halves_of(const Deformation& one) {
    const int64* output = one.geometry.output;
    const auto axis = std::max_element(output, output + one.geometry.axes) - output;
    const int64 half = output[axis] / 2;
    Deformation first = one;
    Deformation second = one;
    first.geometry.output[axis] = half;
    second.geometry.output[axis] -= half;
    second.geometry.start[axis] += half;
    second.output.data += half * one.output.stride[axis];
    return {first, second};
}

// The box again whole along axes of several blocks of the prefilter. Of these, the transpose of the filter reaches some
// voxels or not as the box has it, though with no more than rounding errors: of a whole image, always all.
void widen_long_axes(Box& box, const Geometry& whole) {
    for (int k = 0; k < whole.axes; ++k) {
        if (padded_extent(whole, k) <= common::Blocking<float>::block_length) continue;
        box.start[k] = whole.box_start[k];
        box.extent[k] = whole.box_extent[k];
    }
}

// A box of no more than a stencil, where none is read.
Geometry with_least_box(Geometry geometry) {
    std::fill_n(geometry.box_extent, geometry.axes, geometry.order + 1);
    return geometry;
}

// ---- parts of images ------------------------------------------------------------------------------------------------

bool is_filtered(const Deformation& deformation) { return deformation.filtered && deformation.geometry.order > 1; }

// The voxels from which a box of coefficients is had.
Box voxels_read(const Deformation& deformation, const SourceBox& box) {
    if (box.outside) return {};
    const Geometry boxed = with_box(deformation.geometry, box);
    if (samples_image_itself(deformation)) return voxels_in_box(boxed);
    return voxels_under_box(boxed, deformation.arithmetic, is_filtered(deformation));
}

void require_held(const Deformation& deformation, const Box& voxels) {
    const Box& held = deformation.held;
    for (int k = 0; k < deformation.geometry.axes; ++k) {
        const bool inside =
            voxels.start[k] >= held.start[k] && voxels.start[k] + voxels.extent[k] <= held.start[k] + held.extent[k];
        if (voxels.extent[k] > 0 && !inside)
            throw std::invalid_argument("elasticnd._core: the part of the image lacks voxels that are read");
    }
}

void cover(Box& all, const Box& other, int axes) {
    for (int k = 0; k < axes; ++k) {
        const int64 stop = std::max(all.start[k] + all.extent[k], other.start[k] + other.extent[k]);
        all.start[k] = std::min(all.start[k], other.start[k]);
        all.extent[k] = stop - all.start[k];
    }
}

// ---- tasks ----------------------------------------------------------------------------------------------------------

constexpr int64 partial_sums = 64;                 // parts of a sum over all voxels ...
constexpr int64 largest_partial_sums = 8'000'000;  // ... whose grids have at most so many numbers
constexpr int64 slabs_per_thread = 1;              // more share out the work better, but meet more voxels twice
constexpr double worth_a_thread = 1e6;            // operations, some 50 microseconds: below, waking a thread costs more
constexpr double longest_task = 4e7;              // operations, some 5 ms: an interrupt is seen between tasks
constexpr int64 channels_bytes = int64(1) << 23;  // of coefficients that are held at a time, if a plane is no more

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
    const int64 tasks = count_tasks(prepared.cost(prepared.units), prepared.units, executor.threads());
    auto run = [&](int64 task) {
        void* scratch = scratch_memory(active_kernels().sample_scratch(prepared.job));
        kernel(prepared.job, part(prepared.units, task, tasks), scratch);
    };
    if (tasks == 1)
        run(0);
    else
        executor.run(tasks, run);
}

// Calls body(item, its deformation, executor). Many small items run side by side, each on one thread.
template <class Body>
void for_each_item(const Deformation& deformation, Executor& executor, Body body) {
    const Geometry& geometry = deformation.geometry;
    const int64 voxels = deformation.channels *
                         (product(deformation.held.extent, geometry.axes) + product(geometry.output, geometry.axes));
    constexpr int64 small = int64(1) << 22;
    const bool side_by_side = deformation.items > 1 && voxels < small && executor.threads() > 1 &&
                              (deformation.items >= 4 * executor.threads() || voxels < small / 64);
    if (!side_by_side) {
        for (int64 item = 0; item < deformation.items; ++item) body(item, item_of(deformation, item), executor);
        return;
    }
    executor.run(deformation.items, [&](int64 item) {
        InlineExecutor own(executor);
        body(item, item_of(deformation, item), own);
    });
}

// Calls body(first channel, deformation of some channels): as many as are held at a time.
template <class Body>
void for_channels(const Deformation& one, const Geometry& boxed, Body body) {
    const double plane = 8.0 * std::max(size_of(one.held.extent, one.geometry.axes),  // bytes, at most
                                        size_of(boxed.box_extent, one.geometry.axes) / mostly_border);
    const double most = static_cast<double>(channels_bytes) / std::max(8.0, plane);
    const int64 together = std::max<int64>(1, static_cast<int64>(most));
    for (int64 first = 0; first < one.channels; first += together) {
        Deformation some = one;
        some.channels = std::min(together, one.channels - first);
        some.image.offset += first;
        some.output.offset += first;
        body(first, some);
    }
}

}  // namespace

Deformation item_of(Deformation deformation, int64 item) {
    const Geometry& geometry = deformation.geometry;
    deformation.points += item * geometry.axes * product(geometry.points, geometry.axes);
    if (deformation.affine) deformation.affine += item * deformation.affine_item_size;
    deformation.image.offset += item * deformation.channels;
    deformation.output.offset += item * deformation.channels;
    deformation.items = 1;
    return deformation;
}

namespace {

void sample_image(const Deformation& one, const ControlGrid& grid, Executor& executor) {
    Prepared prepared(one, grid);
    if (!holds_whole_image(one)) require_held(one, voxels_read(one, prepared.source_box()));
    prepared.set_source(one.image, one.held);
    run_rows(prepared, active_kernels().sample, executor);
}

void sample_coefficients(const Deformation& one, const ControlGrid& grid, Executor& executor) {
    Geometry boxed = with_whole_box(one.geometry);
    bool outside = false;
    if (!is_whole(boxed) || one.affine || !holds_whole_image(one) || is_mostly_border(boxed)) {
        const SourceBox box = find_source_box(boxed, whole_output(boxed), grid.field(), one.affine);
        require_held(one, voxels_read(one, box));
        boxed = with_box(boxed, box);
        outside = box.outside || (is_mostly_border(with_whole_box(one.geometry)) && box.nowhere);
    }
    if (!outside && is_worth_halving(one, boxed)) {
        for (const Deformation& half : halves_of(one)) sample_coefficients(half, grid, executor);
        return;
    }
    for_channels(one, boxed, [&](int64, const Deformation& some) {
        Prepared prepared(some, grid);
        // Where all lies outside, no coefficient is read.
        const Geometry held = outside ? with_least_box(boxed) : boxed;
        const auto use = is_filtered(some) ? Coefficients::computed : Coefficients::unfiltered;
        Coefficients coefficients(held, some.arithmetic, some.channels, Coefficients::spaced, use);
        if (!outside) coefficients.compute(some.image, executor);
        prepared.set_source(coefficients, held);
        run_rows(prepared, active_kernels().sample, executor);
    });
}

}  // namespace

void sample(const Deformation& deformation, Executor& executor) {
    if (product(deformation.geometry.output, deformation.geometry.axes) == 0) return;
    for_each_item(deformation, executor, [](int64, const Deformation& one, Executor& own) {
        const ControlGrid grid(one.geometry, one.points, own);
        if (samples_image_itself(one))
            sample_image(one, grid, own);
        else
            sample_coefficients(one, grid, own);
    });
}

Box whole_image(const Geometry& geometry) {
    Box all = {};
    std::copy_n(geometry.image, geometry.axes, all.extent);
    return all;
}

void find_source_voxels(const Deformation& deformation, const std::vector<int64>& blocks, Box* voxels,
                        Executor& executor) {
    const int axes = deformation.geometry.axes;
    const int64 count = static_cast<int64>(blocks.size()) / (2 * axes);
    std::fill_n(voxels, count, Box{});
    for (int64 item = 0; item < deformation.items; ++item) {
        const Deformation one = item_of(deformation, item);
        const ControlGrid grid(one.geometry, one.points, executor);
        executor.run(count, [&](int64 block) {
            Deformation part = one;
            for (int k = 0; k < axes; ++k) {
                part.geometry.start[k] += blocks[static_cast<size_t>(2 * (block * axes + k))];
                part.geometry.output[k] = blocks[static_cast<size_t>(2 * (block * axes + k) + 1)];
            }
            const SourceBox box =
                find_source_box(part.geometry, whole_output(part.geometry), grid.field(), part.affine);
            const Box read = voxels_read(part, box);
            if (read.extent[0] == 0) return;
            if (voxels[block].extent[0] == 0)
                voxels[block] = read;
            else
                cover(voxels[block], read, axes);
        });
    }
}

void displace(const Deformation& deformation, Executor& executor) {
    if (product(deformation.geometry.output, deformation.geometry.axes) == 0) return;
    for_each_item(deformation, executor, [](int64, const Deformation& one, Executor& own) {
        const ControlGrid grid(one.geometry, one.points, own);
        run_rows(Prepared(one, grid), active_kernels().displace, own);
    });
}

// ---- the transposes -------------------------------------------------------------------------------------------------

namespace {

// Units that lie together along the first axis, and the coefficients that they reach there. What a group adds to the
// gradient of the grid is summed apart, and the groups then in their order; how many there are depends on the sizes
// alone, so that the sum is the same for any number of threads.
struct Group {
    UnitRange units;
    Slab reach;
};

std::vector<Group> make_groups(const Prepared& prepared, bool find_reach) {
    const Geometry& geometry = prepared.job.geometry;
    const bool one_axis = geometry.axes == 1;
    const int64 lead = one_axis ? prepared.units : geometry.output[0];
    const int64 lead_units = prepared.units / lead;
    const int64 lead_step = one_axis ? prepared.job.unit_length : 1;
    const int64 most = std::max<int64>(1, largest_partial_sums / prepared.job.field.item_size);
    const int64 count = std::min({lead, partial_sums, most});
    std::vector<Group> groups;
    for (int64 g = 0; g < count; ++g) {
        const UnitRange leading = part(lead, g, count);
        OutputPart patch = {};
        std::copy_n(geometry.output, geometry.axes, patch.last);
        patch.first[0] = leading.first * lead_step;
        patch.last[0] = std::min(leading.last * lead_step, geometry.output[0]);
        Slab reach = {geometry.box_start[0], geometry.box_start[0] + geometry.box_extent[0]};
        if (find_reach) {
            const Box box = prepared.source_box(patch);
            reach = {box.start[0], box.start[0] + box.extent[0]};
        }
        groups.push_back({{leading.first * lead_units, leading.last * lead_units}, reach});
    }
    return groups;
}

using ScatterKernel = void (*)(const SampleJob&, UnitRange, const ScatterTargets&, void*);

// Adds to the image's gradient, inside of slabs, and to that of the grid and the affine map.
void scatter_some(const Prepared& prepared, ScatterKernel kernel, const Planes* image, double* points, double* affine,
                  Executor& executor) {
    const Geometry& geometry = prepared.job.geometry;
    const int64 extent = geometry.box_extent[0];
    int64 slabs = 1;
    if (image && executor.threads() > 1 && prepared.cost(prepared.units) > worth_a_thread)
        slabs = std::min<int64>(slabs_per_thread * executor.threads(), std::max<int64>(1, extent / (2 * max_taps)));
    const std::vector<Group> groups = make_groups(prepared, slabs > 1);
    const int64 count = static_cast<int64>(groups.size());

    const int64 affine_size = geometry.axes * (geometry.axes + 1);
    const int64 grid_size = prepared.job.field.item_size;
    std::vector<double> grids(static_cast<size_t>(points ? count * grid_size : 0));
    std::vector<double> affines(static_cast<size_t>(affine ? count * affine_size : 0));

    // Without an image there is nothing to share: each group is a task.
    const int64 tasks = image ? slabs : count;
    auto run = [&](int64 task) {
        const UnitRange own = part(extent, task, image ? slabs : 1);
        const UnitRange own_groups = part(count, task, tasks);
        void* scratch = scratch_memory(active_kernels().scatter_scratch(prepared.job));
        for (int64 g = image ? 0 : task; g < (image ? count : task + 1); ++g) {
            const Group& group = groups[static_cast<size_t>(g)];
            ScatterTargets targets = {};
            targets.slab = {geometry.box_start[0] + own.first, geometry.box_start[0] + own.last};
            if (image && group.reach.last > targets.slab.first && group.reach.first < targets.slab.last)
                targets.image = image;
            if (points && g >= own_groups.first && g < own_groups.last) {
                targets.grid = grids.data() + g * grid_size;
                targets.affine = affine ? affines.data() + g * affine_size : nullptr;
            }
            if (!targets.image && !targets.grid) continue;
            const int64 units = group.units.last - group.units.first;
            const int64 pieces = count_parts(prepared.cost(units), units);
            for (int64 piece = 0; piece < pieces; ++piece) {
                UnitRange range = part(units, piece, pieces);
                range.first += group.units.first;
                range.last += group.units.first;
                executor.checkpoint();
                kernel(prepared.job, range, targets, scratch);
            }
        }
    };
    if (tasks == 1)
        run(0);
    else
        executor.run(tasks, run);
    if (!points) return;

    for (int64 g = 0; affine && g < count; ++g)
        for (int64 i = 0; i < affine_size; ++i) affine[i] += affines[static_cast<size_t>(g * affine_size + i)];
    add_points_gradient(geometry, grids, points, executor);
}

// The gradients of one item.
void scatter_item(const Deformation& one, const Gradients& gradients, const ControlGrid& grid, Executor& executor);

// Where the coefficients are many more than the voxels: as many at a time as the memory has room for, so that the
// gradient of the image is a sum over parts of the output.
void scatter_parts(const Deformation& one, const Gradients& gradients, const ControlGrid& grid, Executor& executor) {
    std::unique_ptr<ImageSum> image;
    if (gradients.image) image = std::make_unique<ImageSum>(one);
    for (const Deformation& half : halves_of(one)) {
        Gradients part = gradients;
        if (image) part.image = &image->new_part();
        scatter_item(half, part, grid, executor);
        if (image) image->add_part(executor);
    }
    if (image) image->store(*gradients.image, 0, executor);
}

void scatter_item(const Deformation& one, const Gradients& gradients, const ControlGrid& grid, Executor& executor) {
    Geometry boxed = with_whole_box(one.geometry);
    const bool filtered = is_filtered(one);
    if (!holds_whole_image(one) || is_mostly_border(boxed)) {
        if (gradients.image && holds_whole_image(one)) ImageSum(one).store(*gradients.image, 0, executor);
        if (product(one.geometry.output, one.geometry.axes) == 0) return;
        SourceBox box = find_source_box(boxed, whole_output(boxed), grid.field(), one.affine);
        if (box.outside || (is_mostly_border(boxed) && box.nowhere)) return;
        if (holds_whole_image(one)) widen_long_axes(box, boxed);
        boxed = with_box(boxed, box);
        require_held(one, voxels_under_box(boxed, one.arithmetic, filtered));
        if (is_worth_halving(one, boxed)) {
            scatter_parts(one, gradients, grid, executor);
            return;
        }
    }
    for_channels(one, boxed, [&](int64 first, const Deformation& some) {
        Prepared prepared(some, grid);
        // Both of one layout: where a stencil lies is found once.
        const auto use = filtered ? Coefficients::pulled : Coefficients::unfiltered;
        auto make = [&] {
            return std::make_unique<Coefficients>(boxed, some.arithmetic, some.channels, Coefficients::spaced, use);
        };
        std::unique_ptr<Coefficients> source;
        std::unique_ptr<Coefficients> target;
        if (gradients.points) {
            source = make();
            source->compute(some.image, executor);
            prepared.set_source(*source, boxed);
        }
        if (gradients.image) {
            target = make();
            target->clear(executor);
            if (!source) prepared.set_source(*target, boxed);
        }
        if (prepared.units > 0)
            scatter_some(prepared, active_kernels().scatter, target ? &target->planes() : nullptr, gradients.points,
                         gradients.affine, executor);
        if (!target) return;
        source.reset();
        Planes image = *gradients.image;
        image.offset += first;
        target->pull(image, executor);
    });
}

}  // namespace

void scatter(const Deformation& deformation, const Gradients& gradients, Executor& executor) {
    const int64 grid_size = deformation.geometry.axes * product(deformation.geometry.points, deformation.geometry.axes);
    const int64 affine_size = deformation.geometry.axes * (deformation.geometry.axes + 1);
    for_each_item(deformation, executor, [&](int64 item, const Deformation& one, Executor& own) {
        Gradients of_item = {};
        Planes image = {};
        if (gradients.image) {
            image = *gradients.image;
            image.offset += item * deformation.channels;
            of_item.image = &image;
        }
        if (gradients.points) of_item.points = gradients.points + item * grid_size;
        if (gradients.affine) of_item.affine = gradients.affine + item * affine_size;
        scatter_item(one, of_item, ControlGrid(one.geometry, one.points, own), own);
    });
}

void displace_adjoint(const Deformation& deformation, double* points, Executor& executor) {
    const int64 grid_size = deformation.geometry.axes * product(deformation.geometry.points, deformation.geometry.axes);
    for_each_item(deformation, executor, [&](int64 item, const Deformation& one, Executor& own) {
        const ControlGrid grid(one.geometry, one.points, own);
        const Prepared prepared(one, grid);
        if (prepared.units > 0)
            scatter_some(prepared, active_kernels().displace_adjoint, nullptr, points + item * grid_size, nullptr, own);
    });
}

}  // namespace elasticnd
