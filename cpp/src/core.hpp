// The core as plain C++: what the Python module and the C++ tests call.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "dtypes.hpp"
#include "kernels.hpp"
#include "parallel.hpp"

namespace elasticnd {

// Chooses the kernels: by the processor, or the baseline where `name` asks for it.
const Kernels& active_kernels();
bool choose_kernels(const std::string& name);
std::vector<std::string> available_kernels();

// Images are arrays of planes, (items, channels) of them, each over the deformed axes; strides are in bytes.
// `grid` is the filtered control grid, (items, axes, points...), in C order. `job.field` and `job.inner` are set here.

// Fills job.output with the spline of job.source (coefficients; at orders 0 and 1 the image itself) at the positions.
void sample(SampleJob job, const double* grid, Executor& executor);

// Fills job.output, float64, with the displacement of each voxel; a channel is a component.
void displace(SampleJob job, const double* grid, Executor& executor);

// Adds to job.source the transpose of `sample` applied to job.output.
void scatter_image(SampleJob job, const double* grid, Executor& executor);

// Adds to the gradients, (items, axes, points...) and (items, axes, axes + 1), those of <job.output, sample>.
void scatter_grid(SampleJob job, const double* grid, double* grid_gradient, double* affine_gradient,
                  Executor& executor);

// Memory for one call of a kernel; left as it comes, for a kernel writes before it reads.
using Scratch = std::unique_ptr<double[]>;
inline Scratch make_scratch(int64 bytes) { return Scratch(new double[static_cast<size_t>(bytes / 8 + 1)]); }

// Output indices [first, last) along each axis.
struct OutputPart {
    int64 first[max_axes];
    int64 last[max_axes];
};
// Coefficients [start, start + extent) along each axis.
struct Box {
    int64 start[max_axes];
    int64 extent[max_axes];
};

// A box that holds every coefficient which `sample` reads for a part of the output; tight where the field is smooth.
// For image and output that are not empty.
Box find_source_box(const Geometry& geometry, const OutputPart& part, int64 first_item, int64 last_item,
                    const double* grid, const double* affine, int64 affine_item_size);

// What must be in memory so that the coefficients of the geometry's box can be computed: along each axis the box, and
// if `filtered` whole blocks of the prefilter with their margins.
Box held_box(const Geometry& geometry, int dtype, bool filtered);

// Reads the held part of `planes` images, padded at their borders, into float32 or float64 coefficients of the shape
// of `held`, C-ordered planes, and filters them if `filtered`. Right inside the geometry's box.
void prefilter(const Geometry& geometry, bool filtered, int64 planes, const Planes& image, const Planes& coefficients,
               const Box& held, Executor& executor);

// The transpose: filters whole coefficients in place, adds the padding to the border and writes to `image`.
void prefilter_adjoint(const Geometry& geometry, bool filtered, int64 planes, const Planes& coefficients,
                       const Planes& image, Executor& executor);

}  // namespace elasticnd
