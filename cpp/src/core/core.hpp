// The core in C++, without Python, as called by the Python module and the C++ tests.
#pragma once
#include <string>
#include <vector>

#include "core/coefficients.hpp"
#include "core/reach.hpp"
#include "elasticnd/dtypes.hpp"
#include "kernels/table.hpp"
#include "runtime/parallel.hpp"

namespace elasticnd {

// The kernels in use: those that suit the processor, unless others have been chosen by name.
const Kernels& active_kernels();
bool choose_kernels(const std::string& name);
std::vector<std::string> available_kernels();

// A job with its arrays. Images are planes, (items, channels), each over the deformed axes; strides are in bytes. Only
// the part of the image that the output needs, the job's region of interest, must be in memory; `image.data` points to
// where voxel (0, 0, ...) is or would be.
struct SampleRequest {
    Job job;
    int64 items;
    int64 channels;
    const double* control_points;  // displacements of the control points, (items, axes, points...), in C order
    const double* inverse_map;     // (items or 1, axes, axes + 1): from output index to image index; may be null
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

// Whether there are several channels, and the channels of each voxel are adjacent in memory.
bool lie_side_by_side(const Planes& image, int64 channels);

// Fills `output` with the spline of `image` at the positions of the voxels. Throws std::invalid_argument if `roi` is
// too small.
void sample(const SampleRequest& request, Executor& executor);

// Fills `output`, in float64, with the displacement of each voxel; its channels are the components.
void displace(const SampleRequest& request, Executor& executor);

// The transpose of `displace`, applied to `output`: adds to `points`, (items, axes, points...).
void displace_adjoint(const SampleRequest& request, double* points, Executor& executor);

// The results of the transpose of `sample`, applied to `output`. Null gradients are not computed.
struct Gradients {
    const Planes* image;  // filled; if only a part is in memory, only in the voxels that `sample` reads
    double* points;       // (items, axes, points...), added to
    double* affine;       // (items, axes, axes + 1), added to; only with the gradient of the points
};
void sample_adjoint(const SampleRequest& request, const Gradients& gradients, Executor& executor);

// Computes the coefficients of `planes` images in the geometry's box, as a separate array; and the transpose.
void prefilter(const Job& job, int64 planes, const Planes& image, const Planes& coefficients, Executor& executor);
void prefilter_adjoint(const Job& job, int64 planes, const Planes& coefficients, const Planes& image,
                       Executor& executor);

// Output indices [first, last) along each axis.
struct OutputPart {
    int64 first[max_axes];
    int64 last[max_axes];
};
struct SourceBox : Box {
    bool outside;  // no position lies where the image could affect the value
    bool nowhere;  // the output is one voxel, whose position is NaN
};

// A box that contains every coefficient that `sample` reads for a part of the output. It is tight where the field is
// smooth. The request has one item, and neither image nor output is empty.
SourceBox find_source_box(const Geometry& geometry, const OutputPart& part, const GridCoefficients& grid,
                          const double* inverse_map);

// Finds the voxels that `sample` reads for each block of the output, for all items together; none if the block lies
// outside. `blocks` has shape (blocks, axes, 2): the first voxel, counted from the first voxel of the geometry, and the
// extent.
void find_source_voxels(const SampleRequest& request, const std::vector<int64>& blocks, Box* voxels,
                        Executor& executor);

}  // namespace elasticnd
