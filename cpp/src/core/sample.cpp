// Sampling, and the displacement of every voxel: finds the coefficients to compute, and divides the work into tasks.
#include "core/control_grid.hpp"
#include "core/prepared.hpp"
#include "core/tasks.hpp"

namespace elasticnd {
namespace {

void sample_image(const SampleRequest& one, const ControlGrid& grid, Executor& executor) {
    Prepared prepared(one, grid);
    if (!has_whole_image(one)) require_in_roi(one, voxels_read(one, prepared.source_box()));
    prepared.set_image(one);
    run_rows(prepared, active_kernels().sample, executor);
}

void sample_coefficients(const SampleRequest& one, const ControlGrid& grid, Executor& executor) {
    Geometry boxed = with_whole_box(one.job.geometry);
    bool outside = false;
    if (!is_whole(boxed) || one.inverse_map || !has_whole_image(one) || is_mostly_border(boxed)) {
        const SourceBox box = find_source_box(boxed, whole_output(boxed), grid.coefficients(), one.inverse_map);
        require_in_roi(one, voxels_read(one, box));
        boxed = with_box(boxed, box);
        outside = box.outside || (is_mostly_border(with_whole_box(one.job.geometry)) && box.nowhere);
    }
    if (!outside && is_worth_halving(one, boxed)) {
        for (const SampleRequest& half : halves_of(one)) sample_coefficients(half, grid, executor);
        return;
    }
    for_channels(one, boxed, are_sampled_as_pixels(one), [&](int64, const SampleRequest& some) {
        Prepared prepared(some, grid);
        // If all positions lie outside, no coefficient is read.
        const Geometry held = outside ? with_least_box(boxed) : boxed;
        const auto use = is_filtered(some) ? Coefficients::computed : Coefficients::unfiltered;
        const auto layout = are_sampled_as_pixels(some) ? Coefficients::as_pixels : Coefficients::spaced;
        Coefficients coefficients(held, some.job.compute_dtype, some.channels, layout, use);
        if (!outside) coefficients.compute(some.image, executor);
        prepared.set_source(coefficients, held);
        run_rows(prepared, active_kernels().sample, executor);
    });
}

}  // namespace

void sample(const SampleRequest& request, Executor& executor) {
    if (product(request.job.geometry.output, request.job.geometry.axes) == 0) return;
    for_each_item(request, executor, [](int64, const SampleRequest& one, Executor& own) {
        const ControlGrid grid(one.job.geometry, one.control_points, own);
        if (samples_image_itself(one))
            sample_image(one, grid, own);
        else
            sample_coefficients(one, grid, own);
    });
}

void displace(const SampleRequest& request, Executor& executor) {
    if (product(request.job.geometry.output, request.job.geometry.axes) == 0) return;
    for_each_item(request, executor, [](int64, const SampleRequest& one, Executor& own) {
        const ControlGrid grid(one.job.geometry, one.control_points, own);
        run_rows(Prepared(one, grid), active_kernels().displace, own);
    });
}

}  // namespace elasticnd
