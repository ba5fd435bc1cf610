// From output voxels to stencils: the walk over the units of a job that all sampling kernels share.
#pragma once
#include "../include/elasticnd/boundary.hpp"
#include "../include/elasticnd/spline.hpp"
#include "dispatch.hpp"
#include "kernels.hpp"

ELASTICND_BEGIN

enum Kind : unsigned char { kind_interior, kind_border, kind_nowhere };

// Up to row_length neighbouring voxels along the innermost axis: where each samples the image.
struct Row {
    int count;
    int64 item;
    int64 index[max_axes];  // output index of the first voxel
    bool all_interior;      // then `kind` is not set
    Kind kind[row_length];
    int64 offset[row_length];                 // of the first tap in the source, in bytes, for interior voxels
    signed char slope[max_axes][row_length];  // derivative of the folded coordinate
    double position[max_axes][row_length];    // coordinate, then its place in the knot span
    double first[max_axes][row_length];       // index of the first tap
    double margin[row_length];
    double sum[row_length];
};

// Follows the units of a job. Walking on to a unit contracts the control grid along every axis but the innermost, as
// far as these indices changed.
class Walk {
   public:
    // `grid_gradient` is null but for the transposed walk, which adds to it.
    Walk(const SampleJob& job, void* scratch, double* grid_gradient);

    // Sets `row` to the voxels of a unit; contracts the control grid.
    void visit(int64 unit, Row& row);
    // Fills row.position with the coordinates of the voxels in the image.
    void place(Row& row) const;
    // Fills row.position with one component of the displacement, for `displace`.
    void displacement(const Row& row, int component, double* values) const;
    // The transpose of `place`: adds the gradient of the coordinates to that of the contracted grid.
    void gather_gradient(const Row& row, int component, const double* gradient);
    // Ends the transposed walk: hands the gradient of the contracted grid on to the grid.
    void flush();

    static int64 scratch_size(const SampleJob& job);

   private:
    void set_inner_weights(const Row& row);
    void contract(int axis, int64 index);
    void expand(int axis);

    const SampleJob& job_;
    const Geometry& geometry_;
    bool transposed_;
    int64 chunks_;             // units in a row
    int64 current_[max_axes];  // outer indices that `level_` is contracted at
    int64 item_;
    const double* level_[max_axes];  // level k is contracted along axes 0 .. k - 1
    double* gradient_[max_axes];
    double* owned_[max_axes];
    int64 level_size_[max_axes];  // of one component
    int64 cell_[max_axes];
    double weight_[max_axes][4];
    int64* inner_cell_buffer_;
    int64* inner_run_buffer_;
    double* inner_weight_buffer_;
    const int64* inner_cell_;
    const int64* inner_run_;
    const double* inner_weight_[4];
};

// Weights of the control grid for `count` voxels from output index `first` on, along the innermost axis. run[i] is how
// many voxels from i on lie in the same cell.
void inner_grid_weights(const Geometry& geometry, int64 first, int64 count, int64* cell, int64* run, double* weight,
                        int64 stride);

// Finds the stencils of a row's voxels: folds the coordinates at the border, splits them into first tap and place
// in the knot span, and sorts the voxels by kind.
void locate(const SampleJob& job, Row& row);

inline Kind kind_of(const Row& row, int i) { return row.all_interior ? kind_interior : row.kind[i]; }

// Rows of weights, [axis][tap][voxel].
template <class T>
using WeightRows = T[max_axes][max_taps][row_length];

template <class T, int ORDER, int DERIVATIVE>
void weigh_axis(const double* place, int count, T (*weights)[row_length]) {
    for (int i = 0; i < count; ++i) {
        T weight[ORDER + 1];
        spline_weights<ORDER, DERIVATIVE>(static_cast<T>(place[i]), weight);
        for (int tap = 0; tap <= ORDER; ++tap) weights[tap][i] = weight[tap];
    }
}

// The weights of every voxel of a row, differentiated `derivative[k]` times along axis k. By the chain rule through the
// fold, an odd derivative changes its sign where the image is mirrored.
template <class T, int ORDER>
void weigh_row(const Row& row, int axes, const int* derivative, WeightRows<T>& weights) {
    for (int k = 0; k < axes; ++k) {
        if (derivative[k] == 0) {
            weigh_axis<T, ORDER, 0>(row.position[k], row.count, weights[k]);
            continue;
        }
        if (derivative[k] > ORDER)
            weigh_axis<T, ORDER, ORDER + 1>(row.position[k], row.count, weights[k]);
        else
            with_order(derivative[k], [&](auto constant) {
                weigh_axis<T, ORDER, decltype(constant)::value>(row.position[k], row.count, weights[k]);
            });
        for (int i = 0; i < row.count; ++i) {
            const int slope = derivative[k] % 2 ? row.slope[k][i] : row.slope[k][i] * row.slope[k][i];
            for (int tap = 0; tap <= ORDER; ++tap) weights[k][tap][i] *= T(slope);
        }
    }
}

template <class T>
using WeighRow = void (*)(const Row&, int axes, const int* derivative, WeightRows<T>&);

template <class T>
inline WeighRow<T> choose_weigh(int order) {
    return with_order(order, [](auto constant) -> WeighRow<T> { return weigh_row<T, decltype(constant)::value>; });
}

// Where the taps of a stencil lie, along each axis, in bytes; beyond_border for those that the border mode leaves out.
struct TapOffsets {
    int64 offset[max_axes][max_taps];
};

// From the first tap of an interior voxel.
inline TapOffsets straight_taps(const SampleJob& job) {
    TapOffsets taps;
    for (int k = 0; k < job.geometry.axes; ++k)
        for (int tap = 0; tap <= job.geometry.order; ++tap) taps.offset[k][tap] = tap * job.source.stride[k];
    return taps;
}

// From the start of the source, for a border voxel.
inline TapOffsets folded_taps(const SampleJob& job, const Row& row, int i) {
    const Geometry& geometry = job.geometry;
    TapOffsets taps;
    for (int k = 0; k < geometry.axes; ++k) {
        const int64 extent = geometry.image[k] + 2 * geometry.padding;
        const int64 first = static_cast<int64>(row.first[k][i]);
        for (int tap = 0; tap <= geometry.order; ++tap) {
            const int64 index = fold_index(first + tap, extent, geometry.mode);
            if (index == beyond_border) {
                taps.offset[k][tap] = beyond_border;
                continue;
            }
            // The box holds every tap; the clamp only keeps a wrong box from becoming a wrong read.
            const int64 held = minimum(maximum(index - geometry.box_start[k], 0LL), geometry.box_extent[k] - 1);
            taps.offset[k][tap] = held * job.source.stride[k];
        }
    }
    return taps;
}

ELASTICND_END
