// A call for one image, described by plain numbers. Its bytes are the same for the compiled module, XLA's handlers and
// CUDA kernels.
#pragma once
#include "platform.hpp"

namespace elasticnd {

// The indices [start, start + extent) along each axis. Boxes of coefficients may extend beyond the border; boxes of
// voxels may be empty.
struct Box {
    int64 start[max_axes];
    int64 extent[max_axes];
};

// The properties of one image that kernels need: extents, order and border.
struct Geometry {
    int axes;                      // number of deformed axes
    int order;                     // spline order of the image
    int mode;                      // Mode in boundary.hpp
    int padding;                   // number of coefficients that pad each end of an axis
    int votes;                     // 1: labels are sampled by votes, see votes.hpp
    int derivative[max_axes];      // how often the spline is differentiated along each axis
    int64 image[max_axes];         // extent of the whole image
    int64 grid_shape[max_axes];    // control points along each axis
    int64 start[max_axes];         // first output voxel to compute ...
    int64 output[max_axes];        // ... and how many to compute
    int64 origin[max_axes];        // output voxel that is the origin of the affine map
    int64 box_start[max_axes];     // first coefficient of the coefficient array ...
    int64 box_extent[max_axes];    // ... and its extent
    int64 frame[max_axes];         // extent of the frame, which the control grid spans
    double frame_start[max_axes];  // position in the frame of output voxel 0 ...
    double frame_step[max_axes];   // ... and the step from one output voxel to the next, which is positive
    double cval;                   // output where the border mode has no value
    double border_value;           // coefficients beyond the border in mode grid-constant

    // The index of an output voxel, counted from the origin of the affine map.
    ELASTICND_INLINE int64 from_origin(int axis, int64 index) const { return start[axis] - origin[axis] + index; }
    // The position in the frame of the output voxel `index`, counted from the first voxel to compute.
    ELASTICND_INLINE double in_frame(int axis, int64 index) const {
        return frame_start[axis] + frame_step[axis] * static_cast<double>(start[axis] + index);
    }
};

// Python builds this struct in elasticnd/_job.py; a test compares the two layouts.
struct Job {
    Geometry geometry;
    int batch_axes;                 // leading axes of the arrays; their items have separate control grids
    int dtype;                      // DType of image and output, in dtypes.hpp
    int compute_dtype;              // dtype_float32 or dtype_float64
    int filtered;                   // 0: the image already consists of coefficients
    int evaluation_order;           // order of the derivatives that an evaluation computes
    int rotates;                    // 0: there is no inverse_rotation_zoom
    unsigned char cval_element[8];  // `cval` as an element, for order 0 and votes, which copy elements
    Box roi;                        // the voxels of the image that are in memory
    double inverse_rotation_zoom[max_axes * (max_axes + 1)];  // (axes, axes + 1), then zeros
};

// Every field of a job, for the comparison of the layouts.
#define ELASTICND_JOB_FIELDS(FIELD)                                                                               \
    FIELD(geometry.axes) FIELD(geometry.order) FIELD(geometry.mode) FIELD(geometry.padding) FIELD(geometry.votes) \
    FIELD(geometry.derivative) FIELD(geometry.image) FIELD(geometry.grid_shape) FIELD(geometry.start)             \
    FIELD(geometry.output) FIELD(geometry.origin) FIELD(geometry.box_start) FIELD(geometry.box_extent)            \
    FIELD(geometry.frame) FIELD(geometry.frame_start) FIELD(geometry.frame_step) FIELD(geometry.cval)             \
    FIELD(geometry.border_value) FIELD(batch_axes) FIELD(dtype) FIELD(compute_dtype) FIELD(filtered)              \
    FIELD(evaluation_order) FIELD(rotates) FIELD(cval_element) FIELD(roi.start) FIELD(roi.extent)                 \
    FIELD(inverse_rotation_zoom)

}  // namespace elasticnd
