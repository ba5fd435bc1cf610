// Finds the voxels that `sample` reads for blocks of the output.
#include <algorithm>

#include "core/control_grid.hpp"
#include "core/extents.hpp"

namespace elasticnd {
namespace {

void cover(Box& all, const Box& other, int axes) {
    for (int k = 0; k < axes; ++k) {
        const int64 stop = std::max(all.start[k] + all.extent[k], other.start[k] + other.extent[k]);
        all.start[k] = std::min(all.start[k], other.start[k]);
        all.extent[k] = stop - all.start[k];
    }
}

}  // namespace

void find_source_voxels(const SampleRequest& request, const std::vector<int64>& blocks, Box* voxels,
                        Executor& executor) {
    const int axes = request.job.geometry.axes;
    const int64 count = static_cast<int64>(blocks.size()) / (2 * axes);
    std::fill_n(voxels, count, Box{});
    for (int64 item = 0; item < request.items; ++item) {
        const SampleRequest one = item_of(request, item);
        const ControlGrid grid(one.job.geometry, one.control_points, executor);
        executor.run(count, [&](int64 block) {
            SampleRequest part = one;
            for (int k = 0; k < axes; ++k) {
                part.job.geometry.start[k] += blocks[static_cast<size_t>(2 * (block * axes + k))];
                part.job.geometry.output[k] = blocks[static_cast<size_t>(2 * (block * axes + k) + 1)];
            }
            const SourceBox box = find_source_box(part.job.geometry, whole_output(part.job.geometry),
                                                  grid.coefficients(), part.inverse_map);
            const Box read = voxels_read(part, box);
            if (read.extent[0] == 0) return;
            if (voxels[block].extent[0] == 0)
                voxels[block] = read;
            else
                cover(voxels[block], read, axes);
        });
    }
}

}  // namespace elasticnd
