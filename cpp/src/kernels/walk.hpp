// From output voxels to stencils: the walk over the units of a job that all sampling kernels share.
#pragma once
#include "elasticnd/boundary.hpp"
#include "elasticnd/grid.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/inner_weights.hpp"
#include "kernels/table.hpp"

ELASTICND_BEGIN

// Up to row_length neighbouring voxels along the innermost axis, and where each of them samples the source.
struct Row {
    int count;
    int64 item;
    int64 index[max_axes];     // output index of the first voxel
    bool everywhere;           // every voxel has a position; else `exists` is set
    bool inside;               // every stencil lies in the source; else `leaves` is set. False for direct jobs only.
    bool folded[max_axes];     // some coordinate was folded; else `slope` is not set
    int64 exists[row_length];  // 0 or 1: as wide as the coordinates, so that loops become vectors
    bool leaves[row_length];
    int64 offset[row_length];            // of the first tap in the source, in bytes
    double slope[max_axes][row_length];  // derivative of the folded coordinate
    double place[max_axes][row_length];  // coordinate, then its place in the knot span
    double first[max_axes][row_length];  // index of the first tap; set on demand
    double sum[row_length];
};

// Whether any stencil of the row meets the slab. Requires row.first.
bool meets(const Row& row, int order, Slab slab);

// The coordinates of a row along one axis without the displacement: base + step * index. The padding and the shift to
// the knots are added last.
struct PositionLine {
    double base;
    double step;
    double padding;
    double shift;
};

// How coordinates along one axis are folded into the image and split into first taps and places.
struct KnotAxis {
    double last;    // last coordinate in the image, with its padding
    double shift;   // added to make knot spans begin at integers
    double before;  // index of the knot span minus that of the first tap
    double low;     // lowest and highest first tap of stencils in the source
    double high;
    double stride;  // in bytes
};
KnotAxis knot_axis(const SampleJob& job, int axis);
// How far beyond the border a coordinate may lie without being moved.
double reach_of(const SampleJob& job);

// The control grid along the innermost axis, for the voxels of a row.
struct InnerGrid {
    const int64* cell;
    const int64* run;  // how many voxels from here on lie in the same cell
    const double* weight[4];
    const double* coefficients;  // contracted along all other axes: one component after the other
    int64 component_size;
};

// Visits the units of a job. Each visit contracts the control grid along the axes whose index has changed, except the
// innermost.
class Walk {
   public:
    // `keeps_first` requests row.first. `grid_gradient` is null except for the transposed walk, which adds to it.
    Walk(const SampleJob& job, bool keeps_first, void* scratch, double* grid_gradient);

    // Sets `row` to the voxels of a unit, and contracts the control grid.
    void visit(int64 unit, Row& row);
    PositionLine position_line(const Row& row, int axis) const;
    // The coefficients of one component along the innermost axis, contracted along all other axes.
    const double* inner_coefficients(int component) const;
    // The blocks of the row that was visited last; null if a block would span too many cells.
    const GridBlock* inner_blocks(const Row& row) const;
    // Finds the stencils of a row's voxels.
    void locate(Row& row) const;
    // Computes one component of the displacement, for `displace`.
    void displacement(const Row& row, int component, double* values) const;
    // The transpose of `displacement`: adds to the gradient of the contracted grid.
    void gather_gradient(const Row& row, int component, const double* gradient);
    // Ends the transposed walk: adds the gradient of the contracted grid to that of the control grid.
    void flush();

    static int64 scratch_size(const SampleJob& job);

   private:
    void set_inner_weights(const Row& row);
    void contract(int axis, int64 index);
    void expand(int axis);
    template <class Body>
    void for_each_run(const Row& row, int component, Body body) const;
    bool find_positions(const Row& row, int axis, double last, double* x) const;
    void find_leaving(int axis, Row& row) const;

    const SampleJob& job_;
    const Geometry& geometry_;
    bool transposed_;
    double reach_;  // how far beyond the border a coordinate may lie
    bool keeps_first_;
    bool may_leave_;           // a stencil may reach beyond what the source holds
    int64 current_[max_axes];  // outer indices at which `level_` is contracted
    int64 item_ = -1;
    const double* level_[max_axes];  // level k is contracted along axes 0 .. k - 1
    double* gradient_[max_axes];
    double* owned_[max_axes];
    int64 level_size_[max_axes];  // of one component
    int64 cell_[max_axes];
    double weight_[max_axes][4];
    int64* inner_cell_buffer_;
    int64* inner_run_buffer_;
    double* inner_weight_buffer_;
    GridBlock* block_buffer_;
    double* block_weight_buffer_;
    InnerGrid inner_;
};

// Rows of weights, [axis][tap][voxel].
template <class T>
using WeightRows = T[max_axes][max_taps][row_length];

template <class T, int ORDER, int DERIVATIVE, class Place>
void weigh_axis(const Place* place, int count, T (*weights)[row_length]) {
    for (int i = 0; i < count; ++i) {
        T weight[ORDER + 1];
        spline_weights<ORDER, DERIVATIVE>(static_cast<T>(place[i]), weight);
        for (int tap = 0; tap <= ORDER; ++tap) weights[tap][i] = weight[tap];
    }
}

template <class T, int ORDER, class Place>
void weigh_axis(const Place* place, int count, int derivative, T (*weights)[row_length]) {
    if (derivative == 0)
        weigh_axis<T, ORDER, 0>(place, count, weights);
    else if (derivative > ORDER)
        weigh_axis<T, ORDER, ORDER + 1>(place, count, weights);
    else
        with_order(derivative,
                   [&](auto constant) { weigh_axis<T, ORDER, decltype(constant)::value>(place, count, weights); });
}

// Computes the weights of every voxel of a row, differentiated `derivative[k]` times along axis k. By the chain rule,
// odd derivatives change their sign where the image is mirrored.
template <class T, int ORDER>
void weigh_row(const Row& row, int axes, const int* derivative, WeightRows<T>& weights) {
    for (int k = 0; k < axes; ++k) {
        weigh_axis<T, ORDER>(row.place[k], row.count, derivative[k], weights[k]);
        if (derivative[k] == 0 || !row.folded[k]) continue;
        for (int tap = 0; tap <= ORDER; ++tap)
            for (int i = 0; i < row.count; ++i) {
                const T slope = static_cast<T>(row.slope[k][i]);
                weights[k][tap][i] *= derivative[k] % 2 ? slope : slope * slope;
            }
    }
}

template <class T>
using WeighRow = void (*)(const Row&, int axes, const int* derivative, WeightRows<T>&);

template <class T>
inline WeighRow<T> choose_weigh(int order) {
    return with_order(order, [](auto constant) -> WeighRow<T> { return weigh_row<T, decltype(constant)::value>; });
}

ELASTICND_END
