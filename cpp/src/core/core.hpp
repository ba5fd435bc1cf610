// The core in plain C++, as called by the Python module and the C++ tests.
#pragma once
#include <string>
#include <vector>

#include "core/coefficients.hpp"
#include "core/reach.hpp"
#include "elasticnd/dtypes.hpp"
#include "kernels/table.hpp"
#include "runtime/parallel.hpp"

namespace elasticnd {

// Chooses the kernels for the processor, or the baseline if `name` requests it.
const Kernels& active_kernels();
bool choose_kernels(const std::string& name);
std::vector<std::string> available_kernels();

// A job with its arrays. Images are arrays of planes, (items, channels), each over the deformed axes; strides are in
// bytes. Only the part of the image that the output needs, the job's region of interest, must be in memory; its data
// begin where voxel (0, 0, ...) is or would be.
struct SampleRequest {
    Job job;
    int64 items;
    int64 channels;
    const double* control_points;  // their displacements, (items, axes, points...), in C order
    const double* inverse_map;     // (items or 1, axes, axes + 1): from output index to image index; null for none
    int64 inverse_map_item_size;
    Planes image;
    Planes output;
};

// One item of a request, as a request.
SampleRequest item_of(SampleRequest request, int64 item);

// The number of elements of an array.
inline int64 product(const int64* extent, int axes) {
    int64 size = 1;
    for (int k = 0; k < axes; ++k) size *= extent[k];
    return size;
}

// Whether there are several channels, whose elements are adjacent in each voxel.
bool lie_side_by_side(const Planes& image, int64 channels);

// Fills `output` with the spline of `image` at the positions. Throws std::invalid_argument if `roi` is too small.
void sample(const SampleRequest& request, Executor& executor);

// Fills `output`, float64, with the displacement of each voxel; a channel is a component.
void displace(const SampleRequest& request, Executor& executor);

// The transpose of `displace`, applied to `output`: adds to `points`, (items, axes, points...).
void displace_adjoint(const SampleRequest& request, double* points, Executor& executor);

// The transposes of `sample`, applied to `output`. Null gradients are not computed.
struct Gradients {
    const Planes* image;  // filled; for a part of the image, only the voxels that `sample` reads
    double* points;       // (items, axes, points...), added to
    double* affine;       // (items, axes, axes + 1), added to; only with the gradient of the points
};
void sample_adjoint(const SampleRequest& request, const Gradients& gradients, Executor& executor);

// The coefficients in the geometry's box, of `planes` images, as a separate array; and the transpose.
void prefilter(const Job& job, int64 planes, const Planes& image, const Planes& coefficients, Executor& executor);
void prefilter_adjoint(const Job& job, int64 planes, const Planes& coefficients, const Planes& image,
                       Executor& executor);

// Output indices [first, last) along each axis.
struct OutputPart {
    int64 first[max_axes];
    int64 last[max_axes];
};
struct SourceBox : Box {
    bool outside;  // no position lies where a value of the image could matter
    bool nowhere;  // of one voxel: its position is NaN
};

// A box that contains every coefficient that `sample` reads for a part of the output; tight where the field is smooth.
// For one item, and for an image and output that are not empty.
SourceBox find_source_box(const Geometry& geometry, const OutputPart& part, const GridCoefficients& grid,
                          const double* inverse_map);

// For blocks of the output, the voxels that `sample` reads, for all items together; none if all lie outside. `blocks`
// has (blocks, axes, 2) numbers: first voxel, counted from that of the geometry, and extent.
void find_source_voxels(const SampleRequest& request, const std::vector<int64>& blocks, Box* voxels,
                        Executor& executor);

}  // namespace elasticnd
