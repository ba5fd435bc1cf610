// What the drivers pass to the kernels, and the table of kernels of one instruction set. Kernels allocate nothing,
// start no thread, and use nothing from the standard library that could be compiled for the wrong processor.
#pragma once
#include "elasticnd/job.hpp"

namespace elasticnd {

constexpr int pixel_lanes = 4;     // most channels to process together, if they lie side by side
constexpr int min_pixel_axes = 2;  // fewest deformed axes with which channels are sampled together
constexpr int max_pixel_axes = 3;
constexpr int row_length = 128;  // most voxels that a kernel works on at a time

// The coefficients of the control grid, with an extra one on every side, so that a stencil of four never leaves them.
struct GridCoefficients {
    const double* coefficients;  // (items, axes, extent_0, extent_1, ...)
    int64 extent[max_axes];
    int64 item_size;
    bool finite;  // no sum of weighted coefficients overflows or is NaN
};

constexpr int block_voxels = 8;     // voxels in a block of a row
constexpr int max_block_taps = 11;  // most coefficients that a block uses: each voxel may begin a cell

// The weights of the control grid for eight neighbouring voxels of a row.
struct GridBlock {
    int64 cell;            // of the first voxel
    const double* weight;  // (taps, 8): zero for coefficients that a voxel does not use
    int taps;              // the number of coefficients from there on: four, and one for each further cell
};

// The weights of the control grid along the innermost axis, for each voxel of an output row; null if rows are too long.
struct InnerWeights {
    const int64* cell;
    const int64* run;         // number of voxels from here on in the same cell
    const double* weight;     // (4, extent of the output along the innermost axis)
    const GridBlock* blocks;  // those of each unit after the other; null if a block would span too many cells
};

// One image as planes: a plane has the deformed axes of one batch item and one channel.
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
    const double* inverse_map;  // (items or 1, axes, axes + 1): from output index to image index; may be null
    int64 inverse_map_item_size;
    int64 items;
    int64 channels;
    int64 unit_length;         // voxels in a unit; the last one of a row may have fewer
    int64 row_units;           // units in a row of the output
    Planes source;             // coefficients, from the start of the geometry's box; or the image itself
    bool direct;               // `source` is the image, so nothing is held beyond its border
    bool as_pixels;            // channels lie side by side: in output and image, or in Coefficients::as_pixels
    Planes output;             // written by sampling, read by its transposes
    const char* cval_element;  // `cval` as an element, for order 0 and votes, which copy elements
};

// A range of the units into which a job is divided. Each unit has some voxels in a row of one batch item.
struct UnitRange {
    int64 first;
    int64 last;  // exclusive
};

// The coefficients that splatting may change: those of one slab along the first axis.
struct Slab {
    int64 first;
    int64 last;  // exclusive
};

// The gradients to which splatting adds; null ones are skipped.
struct SplatTargets {
    const Planes* image;  // gradient of the coefficients, changed only inside `slab`
    Slab slab;
    double* grid;    // gradient of one item's grid coefficients, shaped like them
    double* affine;  // (axes, axes + 1)
};

// Filters rows of an image along its innermost axis, into rows of coefficients. A row consists of pixels, whose
// channels lie side by side in the image.
struct RowFilterJob {
    int image_dtype;
    int channels;
    int64 image_stride;  // from pixel to pixel, in bytes
    int64 image_extent;
    int dtype;  // float32 or float64
    int order;
    int extension;  // Continuation of the samples
    bool filtered;  // false: the samples themselves are the coefficients
    int padding;
    bool constant;  // the padding holds `border_value` instead of repeating the border of the image
    double border_value;
    int64 wanted_start;  // coefficients of the padded axis to compute
    int64 wanted_stop;
    // Coefficients are adjacent along the axis, and each channel begins `channel_step` elements after the one before.
    // With `as_pixels`, each voxel instead has pixel_lanes adjacent elements, the first of which are those of the
    // channels.
    int64 channel_step;
    bool as_pixels;
};

// Filters lines of samples to coefficients, in memory that both share; or applies the transpose.
struct FilterJob {
    const char* from;  // sample `held_start` of the line that starts at 0
    char* to;          // where result 0 of that line is or would be
    int dtype;         // float32 or float64
    int order;
    int extension;  // Continuation of the samples
    bool transposed;
    int64 extent;        // extent of the whole axis
    int padding;         // how many of its samples pad each end of the image
    bool constant;       // the padding holds a constant, so the transpose drops what it finds there
    int64 held_start;    // samples of the axis in memory; other samples in the padding repeat the nearest one ...
    int64 held_stop;     // ... and are zero for the transpose, which adds results there to the voxel at the border
    int64 wanted_start;  // results to compute; if a call is resumed, whole blocks
    int64 wanted_stop;
    int64 stride;    // along the filtered axis, in elements
    bool resumes;    // continues where the last call on these lines ended, with the same scratch
    bool continues;  // a later call resumes where this one ends
};

// Evaluates the field at positions of one item.
struct EvaluationJob {
    int axes;
    int order;                // order of the derivatives
    int64 derivatives;        // number of derivatives of that order: axes ^ order
    int64 image[max_axes];    // extent of the frame
    int64 points[max_axes];   // control points along each axis
    int64 stride[max_axes];   // strides of the coefficients, in numbers
    int64 size;               // number of coefficients: (extents ..., evaluation_lanes)
    const double* positions;  // (count, axes)
};

// The map of one item: an affine map and the field.
struct MapJob {
    EvaluationJob grid;                      // its positions are not used
    double inverse[max_axes][max_axes + 1];  // from output to image, without the field
    double forward[max_axes][max_axes + 1];  // the inverse of `inverse`
    double forward_determinant;              // determinant of its linear part
    double cells_per_voxel[max_axes];        // cells of the control grid per voxel; 0 where the field is constant
    double tolerance;                        // in voxels
};

// The points at which to invert a map.
struct PointsToSolve {
    const double* targets;  // (count, axes)
    double* positions;      // (count, axes): the first guess, then the best position found
    double* residuals;      // (count): squared distances from the targets to the source positions; NaN without one
    double* ratios;         // (count): of volumes there to those of the affine map alone
    bool damped;            // smaller steps: converges less often, but always to something near
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
    double linear[3][3];     // linear part of the inverse affine map
    double cells_per_voxel;  // along the innermost axis; 0 where the field is constant
    const double* place;     // place of each voxel of a row in its cell; a few more can be read
    const CellRun* runs;     // runs of a row
    int64 run_count;
    double* determinants;  // (extents of the window ...)
};

// The number of components of a control point in memory, side by side; those beyond the number of axes are zero.
inline int evaluation_lanes(int axes) { return axes <= 4 ? 4 : 8; }

struct Kernels {
    const char* name;
    void (*inner_weights)(const Geometry&, int64 first, int64 count, int64* cell, int64* run, double* weight,
                          int64 stride);
    bool (*inner_blocks)(const int64* cell, const double* weight, int64 stride, int64 count, int64 unit_length,
                         GridBlock* blocks, double* block_weight);
    // Bytes of scratch for `sample` and `displace`.
    int64 (*sample_scratch)(const SampleJob&);
    void (*sample)(const SampleJob&, UnitRange, void* scratch);
    void (*displace)(const SampleJob&, UnitRange, void* scratch);
    // The gradients of the grid and the affine map need the coefficients of the image in job.source.
    int64 (*splat_scratch)(const SampleJob&);
    void (*splat)(const SampleJob&, UnitRange, const SplatTargets&, void* scratch);
    // The transpose of `displace`, with the same scratch; adds only to the gradient of the grid.
    void (*displace_adjoint)(const SampleJob&, UnitRange, const SplatTargets&, void* scratch);
    // Computes the values at some positions; the transpose adds to sums shaped like the coefficients.
    int64 (*evaluation_scratch)(const EvaluationJob&);
    void (*evaluate)(const EvaluationJob&, UnitRange, const double* coefficients, double* values, void* scratch);
    void (*evaluate_adjoint)(const EvaluationJob&, UnitRange, const double* gradient, double* sums, void* scratch);
    // Computes source positions, (count, axes), and the ratios of volumes there. `solve_points` inverts this map by
    // Newton's method.
    void (*map_points)(const MapJob&, UnitRange, const double* coefficients, const double* positions, double* places,
                       double* ratios);
    void (*solve_points)(const MapJob&, const PointsToSolve&, UnitRange, const double* coefficients);
    // Computes the determinants in some rows of the window.
    int64 (*determinant_scratch)(const DeterminantJob&);
    void (*determinants)(const DeterminantJob&, UnitRange rows, void* scratch);
    // Bytes of scratch for both kinds of filters.
    int64 (*filter_scratch)();
    // `image[r]` is the first sample of a row, or null if the row lies in a constant padding. `coefficients[r]` is the
    // place of coefficient 0 of the first channel. There are at most rows_together rows.
    void (*filter_rows)(const RowFilterJob&, const char* const* image, char* const* coefficients, int count,
                        void* scratch);
    // Filters the lines that start at the elements `line[0..count)`; at most lines_together lines.
    void (*filter)(const FilterJob&, const int64* line, int count, void* scratch);
    // Converts `count` elements to the compute type, float32 or float64, or back.
    void (*load_row)(int dtype, const char* from, int64 stride, int64 count, int compute_dtype, char* to);
    void (*store_row)(int compute_dtype, const char* from, int64 count, int dtype, char* to, int64 stride);
};

constexpr int line_bytes = 128;  // bytes of adjacent samples that a filter works on: two cache lines
constexpr int rows_together = 64;
// The largest number of rows, up to rows_together, that fills whole tiles of lines.
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
