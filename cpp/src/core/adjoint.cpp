// The transposes of sampling and of the displacement: gradients of images, control points and affine maps.
#include <algorithm>
#include <memory>

#include "core/control_grid.hpp"
#include "core/dense.hpp"
#include "core/prepared.hpp"
#include "core/tasks.hpp"

namespace elasticnd {
namespace {

constexpr int64 partial_sums = 64;                 // a sum over all voxels has at most this many parts ...
constexpr int64 largest_partial_sums = 8'000'000;  // ... whose grids together have at most this many numbers
constexpr int64 slabs_per_thread = 1;              // more would balance the work better, but visit more voxels twice

// Units that are adjacent along the first axis, and the coefficients that they reach there. The contributions of each
// group to the gradient of the grid are summed separately, and these sums are then added in order. The number of groups
// depends only on the sizes, so the result is the same for any number of threads.
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
    const int64 most = std::max<int64>(1, largest_partial_sums / prepared.job.grid.item_size);
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

using SplatKernel = void (*)(const SampleJob&, UnitRange, const SplatTargets&, void*);

// Adds to the gradient of the image, in one slab for each task, and to the gradients of the grid and the affine map.
void splat_rows(const Prepared& prepared, SplatKernel kernel, const Planes* image, double* points, double* affine,
                Executor& executor) {
    const Geometry& geometry = prepared.job.geometry;
    const int64 extent = geometry.box_extent[0];
    int64 slabs = 1;
    if (image && executor.threads() > 1 && prepared.cost(prepared.units) > worth_a_thread)
        slabs = std::min<int64>(slabs_per_thread * executor.threads(), std::max<int64>(1, extent / (2 * max_taps)));
    const std::vector<Group> groups = make_groups(prepared, slabs > 1);
    const int64 count = static_cast<int64>(groups.size());

    const int64 affine_size = geometry.axes * (geometry.axes + 1);
    const int64 grid_size = prepared.job.grid.item_size;
    std::vector<double> grids(static_cast<size_t>(points ? count * grid_size : 0));
    std::vector<double> affines(static_cast<size_t>(affine ? count * affine_size : 0));

    // Without an image, groups share no result, so each group is a task.
    const int64 tasks = image ? slabs : count;
    auto run = [&](int64 task) {
        const UnitRange own = part(extent, task, image ? slabs : 1);
        const UnitRange own_groups = part(count, task, tasks);
        void* scratch = scratch_memory(active_kernels().splat_scratch(prepared.job));
        for (int64 g = image ? 0 : task; g < (image ? count : task + 1); ++g) {
            const Group& group = groups[static_cast<size_t>(g)];
            SplatTargets targets = {};
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
                executor.check_interrupt();
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

// Computes the gradients of one item.
void item_adjoint(const SampleRequest& one, const Gradients& gradients, const ControlGrid& grid, Executor& executor);

// Halves the output, so that fewer coefficients are held at a time. The gradient of the image is the sum over both
// halves.
void halves_adjoint(const SampleRequest& one, const Gradients& gradients, const ControlGrid& grid, Executor& executor) {
    std::unique_ptr<ImageSum> image;
    if (gradients.image) image = std::make_unique<ImageSum>(one);
    for (const SampleRequest& half : halves_of(one)) {
        Gradients part = gradients;
        if (image) part.image = &image->new_part();
        item_adjoint(half, part, grid, executor);
        if (image) image->add_part(executor);
    }
    if (image) image->store(*gradients.image, 0, executor);
}

void item_adjoint(const SampleRequest& one, const Gradients& gradients, const ControlGrid& grid, Executor& executor) {
    Geometry boxed = with_whole_box(one.job.geometry);
    const bool filtered = is_filtered(one);
    if (!has_whole_image(one) || is_mostly_border(boxed)) {
        if (gradients.image && has_whole_image(one)) ImageSum(one).store(*gradients.image, 0, executor);
        if (product(one.job.geometry.output, one.job.geometry.axes) == 0) return;
        SourceBox box = find_source_box(boxed, whole_output(boxed), grid.coefficients(), one.inverse_map);
        if (box.outside || (is_mostly_border(boxed) && box.nowhere)) return;
        if (has_whole_image(one)) widen_long_axes(box, boxed);
        boxed = with_box(boxed, box);
        require_in_roi(one, voxels_under_box(boxed, one.job.compute_dtype, filtered));
        if (is_worth_halving(one, boxed)) {
            halves_adjoint(one, gradients, grid, executor);
            return;
        }
    }
    for_channels(one, boxed, false, [&](int64 first, const SampleRequest& some) {
        Prepared prepared(some, grid);
        // Source and target have the same layout, so each stencil is located only once.
        const auto use = filtered ? Coefficients::for_adjoint : Coefficients::unfiltered;
        auto make = [&] {
            return std::make_unique<Coefficients>(boxed, some.job.compute_dtype, some.channels, Coefficients::spaced,
                                                  use);
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
            splat_rows(prepared, active_kernels().splat, target ? &target->planes() : nullptr, gradients.points,
                       gradients.affine, executor);
        if (!target) return;
        source.reset();
        Planes image = *gradients.image;
        image.offset += first;
        target->compute_adjoint(image, executor);
    });
}

}  // namespace

void sample_adjoint(const SampleRequest& request, const Gradients& gradients, Executor& executor) {
    const int64 grid_size =
        request.job.geometry.axes * product(request.job.geometry.grid_shape, request.job.geometry.axes);
    const int64 affine_size = request.job.geometry.axes * (request.job.geometry.axes + 1);
    for_each_item(request, executor, [&](int64 item, const SampleRequest& one, Executor& own) {
        Gradients of_item = {};
        Planes image = {};
        if (gradients.image) {
            image = *gradients.image;
            image.offset += item * request.channels;
            of_item.image = &image;
        }
        if (gradients.points) of_item.points = gradients.points + item * grid_size;
        if (gradients.affine) of_item.affine = gradients.affine + item * affine_size;
        item_adjoint(one, of_item, ControlGrid(one.job.geometry, one.control_points, own), own);
    });
}

void displace_adjoint(const SampleRequest& request, double* points, Executor& executor) {
    const int64 grid_size =
        request.job.geometry.axes * product(request.job.geometry.grid_shape, request.job.geometry.axes);
    for_each_item(request, executor, [&](int64 item, const SampleRequest& one, Executor& own) {
        const ControlGrid grid(one.job.geometry, one.control_points, own);
        const Prepared prepared(one, grid);
        if (prepared.units > 0)
            splat_rows(prepared, active_kernels().displace_adjoint, nullptr, points + item * grid_size, nullptr, own);
    });
}

}  // namespace elasticnd
