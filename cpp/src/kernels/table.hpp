// What the drivers hand to the kernels, and the table of kernels of one instruction set. Kernels allocate nothing,
// start no thread and use nothing of the standard library that could be compiled for the wrong processor.
#pragma once
#include "elasticnd/job.hpp"

namespace elasticnd {

constexpr int pixel_lanes = 4;     // channels that are taken together where they lie side by side, at most
constexpr int min_pixel_axes = 2;  // deformed axes with which they are sampled together
constexpr int max_pixel_axes = 3;
constexpr int row_length = 128;  // voxels that a kernel works on at a time, at most

// The coefficients of the control grid, from one before the first to one after the last: a stencil of four never leaves
// them.
struct GridCoefficients {
    const double* coefficients;  // (items, axes, extent_0, extent_1, ...)
    int64 extent[max_axes];
    int64 item_size;
};

// The inner weights of the control grid, for every voxel of a row of the image; null where rows are too long.
struct InnerWeights {
    const int64* cell;
    const int64* run;      // how many voxels from here on lie in the same cell
    const double* weight;  // (4, extent of the output along the innermost axis)
};

// One image with its planes: a plane is the deformed axes at one batch item and one channel.
struct Planes {
    char* data;
    int dtype;
    int64 stride[max_axes];  // in bytes
    const int64* offset;     // (items, channels), in bytes
};

struct SampleJob {
    Geometry geometry;
    GridCoefficients grid;
    InnerWeights inner;
    const double* inverse_map;  // (items or 1, axes, axes + 1): from output index to image index; null for none
    int64 inverse_map_item_size;
    int64 items;
    int64 channels;
    int64 unit_length;         // voxels in a unit, but for the last of a row
    int64 row_units;           // units in a row of the output
    Planes source;             // coefficients, from the geometry's box on; or the image itself
    bool direct;               // `source` is the image: nothing is held beyond its border
    bool as_pixels;            // channels lie side by side, in output and image, or as_pixels among coefficients
    Planes output;             // of the geometry's output extent: written by sampling, read by the derivatives
    const char* cval_element;  // order 0 copies elements: this one where there is no position
};

// A job is cut into units: voxels of one row of one batch item.
struct UnitRange {
    int64 first;
    int64 last;  // exclusive
};

// The coefficients that splatting may touch: along the first axis, those of one slab.
struct Slab {
    int64 first;
    int64 last;  // exclusive
};

// Where splatting adds to. What is null is left out.
struct SplatTargets {
    const Planes* image;  // gradient of the coefficients, inside of `slab` only
    Slab slab;
    double* grid;    // gradient of the grid's coefficients of one item, shaped like these
    double* affine;  // (axes, axes + 1)
};

// Filters rows of an image, along its innermost axis, into rows of coefficients. A row has pixels of so many channels,
// which lie side by side in the image.
struct RowFilterJob {
    int image_dtype;
    int channels;
    int64 image_stride;  // from pixel to pixel, in bytes
    int64 image_extent;
    int dtype;  // float32 or float64
    int order;
    int extension;  // Continuation of the samples
    bool filtered;  // else the samples are taken for coefficients
    int padding;
    bool constant;  // the padding holds `border_value`, not the image's border
    double border_value;
    int64 wanted_start;  // coefficients to compute, of the padded axis
    int64 wanted_stop;
    // Coefficients lie side by side along the axis, those of the next channel `channel_step` elements further; or,
    // where `as_pixels`, pixel_lanes elements for each voxel, of which the first are the channels'.
    int64 channel_step;
    bool as_pixels;
};

// Filters lines of samples to coefficients, in memory that the two share; or, transposed, the other way.
struct FilterJob {
    const char* from;  // sample `held_start` of the line that starts at 0
    char* to;          // where result 0 of that line is or would be
    int dtype;         // float32 or float64
    int order;
    int extension;  // Continuation of the samples
    bool transposed;
    int64 extent;      // of the whole axis
    int padding;       // of these, that continue the image at each end
    bool constant;     // the padding holds a constant, of which the transpose leaves nothing
    int64 held_start;  // the samples of the axis in memory; in the padding, the others repeat the nearest of them ...
    int64 held_stop;   // ... and are zeros for the transpose, which adds what it finds there to the voxel at the border
    int64 wanted_start;  // results to compute; where a call is resumed, whole blocks
    int64 wanted_stop;
    int64 stride;    // along the filtered axis, in elements
    bool resumes;    // goes on where the last call on these lines, with the same scratch, ended
    bool continues;  // will be resumed
};

// Evaluates the field at positions of one item.
struct EvaluationJob {
    int axes;
    int order;                // of the derivatives
    int64 derivatives;        // of that order: axes ^ order
    int64 image[max_axes];    // extent of the frame
    int64 points[max_axes];   // control points
    int64 stride[max_axes];   // of the coefficients, in numbers
    int64 size;               // of the coefficients: (extents ..., evaluation_lanes)
    const double* positions;  // (count, axes)
};

// The map of one item: an affine map and the field.
struct MapJob {
    EvaluationJob grid;                      // without positions
    double inverse[max_axes][max_axes + 1];  // from positions to where they look, but for the field
    double forward[max_axes][max_axes + 1];  // its inverse
    double forward_determinant;              // of the linear part
    double cells_per_voxel[max_axes];        // of the control grid; 0 where the field is constant along an axis
    double tolerance;                        // in voxels
};

// Points at which a map is inverted.
struct PointsToSolve {
    const double* targets;  // (count, axes)
    double* positions;      // (count, axes): the first guess, then the best that was met
    double* residuals;      // (count): how far from the target they look, squared; NaN without a position
    double* ratios;         // (count): of volumes there to those of the affine map alone
    bool damped;            // in smaller steps: converges less often, but always to something near
};

// Voxels of a row that lie in the same cell of the control grid.
struct CellRun {
    int64 cell;
    int64 first;
    int64 count;
};

// The determinants of the Jacobian of one item, of up to three axes, at the voxels of a window of the frame.
struct DeterminantJob {
    Geometry geometry;
    GridCoefficients grid;
    double linear[3][3];     // of the inverse affine map
    double cells_per_voxel;  // of the control grid along the innermost axis; 0 where the field is constant
    const double* place;     // of each voxel of a row in its cell; some more can be read
    const CellRun* runs;     // of a row
    int64 run_count;
    double* determinants;  // (extents of the window ...)
};

// Components of a control point that lie side by side, those that are none being zero.
inline int evaluation_lanes(int axes) { return axes <= 4 ? 4 : 8; }

struct Kernels {
    const char* name;
    void (*inner_weights)(const Geometry&, int64 first, int64 count, int64* cell, int64* run, double* weight,
                          int64 stride);
    // Bytes of scratch for `sample` and `displace`.
    int64 (*sample_scratch)(const SampleJob&);
    void (*sample)(const SampleJob&, UnitRange, void* scratch);
    void (*displace)(const SampleJob&, UnitRange, void* scratch);
    // job.source holds the coefficients of the image, for the gradient of grid and affine.
    int64 (*splat_scratch)(const SampleJob&);
    void (*splat)(const SampleJob&, UnitRange, const SplatTargets&, void* scratch);
    // The transpose of `displace`, by the same scratch: adds to the gradient of the grid alone.
    void (*displace_adjoint)(const SampleJob&, UnitRange, const SplatTargets&, void* scratch);
    // Fills the values of some positions; the transpose adds to sums shaped like the coefficients.
    int64 (*evaluation_scratch)(const EvaluationJob&);
    void (*evaluate)(const EvaluationJob&, UnitRange, const double* coefficients, double* values, void* scratch);
    void (*evaluate_adjoint)(const EvaluationJob&, UnitRange, const double* gradient, double* sums, void* scratch);
    // Where positions look, (count, axes), and the ratios of volumes there; and Newton's method to invert that.
    void (*map_points)(const MapJob&, UnitRange, const double* coefficients, const double* positions, double* places,
                       double* ratios);
    void (*solve_points)(const MapJob&, const PointsToSolve&, UnitRange, const double* coefficients);
    // Fills some rows of the window.
    int64 (*determinant_scratch)(const DeterminantJob&);
    void (*determinants)(const DeterminantJob&, UnitRange rows, void* scratch);
    // Bytes of scratch for both kinds of filters.
    int64 (*filter_scratch)();
    // `image[r]` is the first sample of a row, or null where all lies in a constant padding; `coefficients[r]` the
    // place of coefficient 0 of the first channel. At most rows_together of them.
    void (*filter_rows)(const RowFilterJob&, const char* const* image, char* const* coefficients, int count,
                        void* scratch);
    // Filters the lines that start at `line[0..count)`, in elements; at most lines_together of them.
    void (*filter)(const FilterJob&, const int64* line, int count, void* scratch);
    // Reads `count` elements into the compute type, float32 or float64, or writes them.
    void (*load_row)(int dtype, const char* from, int64 stride, int64 count, int compute_dtype, char* to);
    void (*store_row)(int compute_dtype, const char* from, int64 count, int dtype, char* to, int64 stride);
};

constexpr int line_bytes = 128;  // of samples side by side that a filter works on: two lines of the cache
constexpr int rows_together = 64;
// As many rows as fill whole tiles of lines.
inline int rows_in_tiles(int channels, int64 item) {
    const int rows = line_bytes / static_cast<int>(item) / channels;
    return rows_together / rows * rows;
}
inline int lines_together(int64 item) { return line_bytes / static_cast<int>(item); }

namespace baseline {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}

}  // namespace elasticnd
