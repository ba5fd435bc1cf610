// A request for one item, prepared for the kernels that visit its voxels.
#include "core/prepared.hpp"

#include <algorithm>

#include "core/tasks.hpp"

namespace elasticnd {
namespace {

constexpr int64 longest_table = 16384;  // voxels of a row: 768 KiB of weights

}  // namespace

Prepared::Prepared(const SampleRequest& one, const ControlGrid& grid) {
    job.geometry = one.job.geometry;
    job.grid = grid.coefficients();
    job.inverse_map = one.inverse_map;
    job.inverse_map_item_size = 0;
    job.items = 1;
    job.channels = one.channels;
    job.direct = false;
    job.as_pixels = false;
    job.output = one.output;
    std::copy_n(one.job.cval_element, sizeof cval_element_, cval_element_);
    job.cval_element = reinterpret_cast<const char*>(cval_element_);
    const int inner = one.job.geometry.axes - 1;
    const int64 extent = one.job.geometry.output[inner];
    // Divides rows into equal parts of whole vectors.
    const int64 parts = std::max<int64>(1, (extent + row_length - 1) / row_length);
    constexpr int64 vector = 8;
    job.unit_length = std::max(vector, ((extent + parts - 1) / parts + vector - 1) / vector * vector);
    job.row_units = (extent + job.unit_length - 1) / job.unit_length;
    outer = product(one.job.geometry.output, inner);
    units = outer * job.row_units;
    // A table of the inner weights pays off if many rows share it.
    job.inner = {nullptr, nullptr, nullptr, nullptr};
    if (outer > 4 && extent <= longest_table) set_inner_weights(extent);
}

void Prepared::set_inner_weights(int64 extent) {
    const auto voxels = static_cast<size_t>(extent);
    cell_.resize(voxels);
    weight_.resize(4 * voxels);
    run_.resize(voxels);
    blocks_.resize(static_cast<size_t>(job.row_units * job.unit_length / block_voxels));
    block_weight_.reset(new double[blocks_.size() * block_voxels * max_block_taps]);  // most of it remains untouched
    const Kernels& kernels = active_kernels();
    kernels.inner_weights(job.geometry, 0, extent, cell_.data(), run_.data(), weight_.data(), extent);
    const bool has_blocks = kernels.inner_blocks(cell_.data(), weight_.data(), extent, extent, job.unit_length,
                                                 blocks_.data(), block_weight_.get());
    job.inner = {cell_.data(), run_.data(), weight_.data(), has_blocks ? blocks_.data() : nullptr};
}

SourceBox Prepared::source_box(const OutputPart& part) const {
    return find_source_box(job.geometry, part, job.grid, job.inverse_map);
}

void Prepared::set_source(const Coefficients& coefficients, const Geometry& boxed) {
    job.geometry = boxed;
    job.source = coefficients.planes();
    job.as_pixels = coefficients.are_pixels();
}

void Prepared::set_image(const SampleRequest& one) {
    const Planes& image = one.image;
    const Box& roi = one.job.roi;
    job.source = image;
    for (int k = 0; k < job.geometry.axes; ++k) {
        job.geometry.box_start[k] = roi.start[k];
        job.geometry.box_extent[k] = roi.extent[k];
        job.source.data += roi.start[k] * image.stride[k];
    }
    job.direct = true;
    const int inner = job.geometry.axes - 1;
    job.as_pixels = are_sampled_as_pixels(one) && image.stride[inner] >= job.channels * element_size[image.dtype];
}

double Prepared::cost(int64 of_units) const {
    double taps = 1;
    for (int k = 0; k < job.geometry.axes; ++k) taps *= job.geometry.order + 1;
    const double voxels = static_cast<double>(job.unit_length);
    const double voxel = 20.0 * job.geometry.axes + static_cast<double>(job.channels) * (10 + taps);
    return static_cast<double>(of_units) * (200 + voxels * voxel);
}

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

}  // namespace elasticnd
