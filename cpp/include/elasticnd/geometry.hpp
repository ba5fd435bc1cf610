// What a kernel needs to know of one image: extents, order and border, as plain numbers.
#pragma once
#include "platform.hpp"

namespace elasticnd {

// Python builds this struct (elasticnd/_geometry.py); a test compares the two layouts.
struct Geometry {
    int axes;                    // deformed axes
    int order;                   // spline order of the image
    int mode;                    // Mode, boundary.hpp
    int padding;                 // coefficients added before and after each axis
    int derivative[max_axes];    // how often the spline is differentiated along each axis
    int64 image[max_axes];       // extent of the whole image
    int64 points[max_axes];      // control points
    int64 start[max_axes];       // first voxel of the frame that is computed ...
    int64 output[max_axes];      // ... and how many are
    int64 origin[max_axes];      // voxel of the frame from which the affine map counts
    int64 box_start[max_axes];   // first coefficient that the coefficient array holds ...
    int64 box_extent[max_axes];  // ... and how many it holds
    double fill;                 // value where there is no position
    double beyond;               // value of the coefficients beyond the border in grid-constant

    // The index that the affine map takes for an output voxel.
    ELASTICND_INLINE int64 from_origin(int axis, int64 index) const { return start[axis] - origin[axis] + index; }
};

}  // namespace elasticnd
