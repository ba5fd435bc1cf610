// The core as plain C++: what the Python module and the C++ tests call.
#pragma once
#include <string>
#include <vector>

#include "core/coefficients.hpp"
#include "core/reach.hpp"
#include "elasticnd/dtypes.hpp"
#include "kernels/table.hpp"
#include "runtime/parallel.hpp"

namespace elasticnd {

// Chooses the kernels: by the processor, or the baseline where `name` asks for it.
const Kernels& active_kernels();
bool choose_kernels(const std::string& name);
std::vector<std::string> available_kernels();

// A job with its arrays. Images are arrays of planes, (items, channels) of them, each over the deformed axes; strides
// are in bytes. Of the image, it is enough to have what the output is made of, the job's region of interest; its data
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

// Whether there are several channels, whose elements lie one behind the other in each voxel.
bool lie_side_by_side(const Planes& image, int64 channels);

// Fills `output` with the spline of `image` at the positions. Throws std::invalid_argument if `roi` is too little.
void sample(const SampleRequest& request, Executor& executor);

// Fills `output`, float64, with the displacement of each voxel; a channel is a component.
void displace(const SampleRequest& request, Executor& executor);

// The transpose of `displace`, applied to `output`: adds to `points`, (items, axes, points...).
void displace_adjoint(const SampleRequest& request, double* points, Executor& executor);

// The transposes of `sample`, applied to `output`. What is null is left out.
struct Gradients {
    const Planes* image;  // filled; of a part of the image, if anything, the voxels that `sample` reads
    double* points;       // (items, axes, points...), added to
    double* affine;       // (items, axes, axes + 1), added to; only with those of the points
};
void sample_adjoint(const SampleRequest& request, const Gradients& gradients, Executor& executor);

// The coefficients in the geometry's box, of `planes` images, as an array of their own; and the transpose.
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

// A box that holds every coefficient which `sample` reads for a part of the output; tight where the field is smooth.
// For one item; for image and output that are not empty.
SourceBox find_source_box(const Geometry& geometry, const OutputPart& part, const GridCoefficients& grid,
                          const double* inverse_map);

// For blocks of the output, the voxels that `sample` reads, for all items together; none where all lies outside.
// `blocks` has (blocks, axes, 2) numbers: first voxel, counted from that of the geometry, and extent.
void find_source_voxels(const SampleRequest& request, const std::vector<int64>& blocks, Box* voxels,
                        Executor& executor);

}  // namespace elasticnd
