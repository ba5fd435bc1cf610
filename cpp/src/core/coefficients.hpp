// The spline coefficients of an image in memory: the prefilter and its transpose.
#pragma once
#include <memory>
#include <vector>

#include "core/reach.hpp"
#include "kernels/table.hpp"
#include "runtime/memory.hpp"
#include "runtime/parallel.hpp"

namespace elasticnd {

// The geometry with a box of all coefficients, including those beyond the border.
Geometry with_whole_box(Geometry geometry);

// The coefficients in the geometry's box, for several planes, in float32 or float64. The innermost axis is contiguous.
// Memory after the last coefficient can be read, so that stencils may use whole vectors.
class Coefficients {
   public:
    enum Layout {
        spaced,  // rows are aligned for vectors and caches
        packed,  // C order without gaps
        // Spaced, with pixel_lanes planes side by side; unused planes hold arbitrary values. Not for the adjoint.
        as_pixels
    };
    // The adjoint needs memory for everything that the transposed filter reaches. If unfiltered, the samples themselves
    // are the coefficients.
    enum Use { computed, for_adjoint, unfiltered };
    Coefficients(const Geometry& geometry, int dtype, int64 planes, Layout layout, Use use);

    // Computes the coefficients of every plane of `image`.
    void compute(const Planes& image, Executor& executor);

    // Applies the transpose: adds each coefficient beyond the border to the one that it repeats, filters the sums, and
    // writes the voxels that the filter reaches, voxels_under_box, to `image`.
    void compute_adjoint(const Planes& image, Executor& executor);

    void clear(Executor& executor);

    // The planes of coefficients, from the start of the box.
    const Planes& planes() const { return planes_; }
    bool are_pixels() const { return lanes_ > 1; }
    int64 size() const { return size_; }  // bytes of all planes

   private:
    using Ranges = Range[max_axes];

    Range planes_of(Range channels) const;
    void continue_row(int64 line, int channels);
    void compute_rows(const Planes& image, const Ranges& rows, Range channels, bool side_by_side, Executor& executor);
    void compute_rows_part(const RowFilterJob& job, const Planes& image, const Ranges& rows, int64 channel,
                           int64 first_row, int64 last_row, bool continued);
    void compute_lines(int axis, const Ranges& lines, int64 first_plane, int64 last_plane, Executor& executor);
    void slice_adjoint(const Planes& image, Ranges& lines, int64 first_plane, int64 last_plane, Executor& executor);
    void lines_adjoint(int axis, const Ranges& lines, int64 first_plane, int64 last_plane, Executor& executor);
    void store_rows(const Planes& image, const Ranges& rows, int64 first_plane, int64 last_plane, Executor& executor);
    Range reached_voxels(int axis) const;
    void place_samples(int axis, Range samples);
    Range place_of(int axis, Range samples) const;
    int64 slice_of(const Ranges& all, int64 index, Ranges& slice) const;
    void overwrite_border(Executor& executor);
    void overwrite(int axis, Range indices, Executor& executor);
    void filter_in_parts(int axis, bool transposed, const int64* line, int count, void* scratch, Executor& executor);
    void continue_lines(int axis, const int64* line, int count);
    void continue_all(Executor& executor);
    void fold_all(Executor& executor);
    void fold_lines(int axis, const int64* line, int count);
    template <class Body>
    void for_each_group(int axis, const Ranges& lines, int64 first_plane, int64 last_plane, Executor& executor,
                        Body body);
    int64 extent(int axis) const { return padded_extent(geometry_, axis); }

    Geometry geometry_;
    int axes_;
    int dtype_;
    int64 item_;      // bytes of a coefficient
    int lanes_;       // planes that lie side by side
    int64 channels_;  // planes of the image
    int64 count_;     // planes in memory, in groups of lanes_
    // Whether most of the box repeats the rest of it. If so, only the rest is filtered, along all axes, and then
    // repeated, which gives the same coefficients.
    bool continues_last_;
    bool filtered_axis_[max_axes];
    // A coefficient of the box beyond the border, and the one that it repeats.
    struct Continued {
        int64 outer;
        int64 from;
    };
    static constexpr int most_continued = 2 * (2 * max_order + 1);
    int continued_count_[max_axes];
    Continued continued_[max_axes][most_continued];
    Ranges needed_;           // coefficients of the axis from which the whole box can be made
    Ranges filtered_;         // distinct samples that the filter reads to compute them
    Ranges reached_;          // samples that the transposed filter reaches
    Ranges done_;             // what an axis holds once it is filtered and continued
    Ranges held_;             // everything in memory
    int64 shift_[max_axes];   // how far samples lie from the coefficients of the same index
    int64 stride_[max_axes];  // in elements
    int64 plane_stride_;
    int64 size_;
    std::unique_ptr<Memory> memory_;
    char* origin_;  // coefficient (0, 0, ...) of plane 0, which need not be in memory
    std::vector<int64> offset_;
    Planes planes_;
};

}  // namespace elasticnd
