// Which voxels `sample` reads for blocks of the output.
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
                find_source_box(part.geometry, whole_output(part.geometry), grid.coefficients(), part.inverse_map);
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
