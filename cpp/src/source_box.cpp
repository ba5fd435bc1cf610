// Which coefficients an output patch can reach, before any position is computed: inside a cell of the control grid a
// cubic B-spline lies between the smallest and the largest of the coefficients that it blends.
#include <algorithm>
#include <cmath>

#include "../include/elasticnd/boundary.hpp"
#include "../include/elasticnd/spline.hpp"
#include "core.hpp"

namespace elasticnd {
namespace {

struct Range {
    double low;
    double high;
    void add(Range other) {
        low += other.low;
        high += other.high;
    }
    void cover(Range other) {
        low = other.low < low ? other.low : low;
        high = other.high > high ? other.high : high;
    }
};

Range scaled(double factor, Range range) {
    return factor < 0 ? Range{factor * range.high, factor * range.low} : Range{factor * range.low, factor * range.high};
}

// The cells of the control grid that a range of full-frame indices meets, along one axis.
struct Cells {
    int64 first;
    int64 count;
    double width;  // of a cell, in voxels
    Range voxels;

    Cells(int64 start, int64 stop, int64 extent, int64 points)
        : voxels{static_cast<double>(start), static_cast<double>(stop - 1)} {
        const bool varies = extent > 1 && points > 1;
        width = varies ? static_cast<double>(extent - 1) / static_cast<double>(points - 1) : INFINITY;
        first = varies ? cell(voxels.low, points) : 0;
        count = varies ? cell(voxels.high, points) - first + 1 : 1;
    }
    int64 cell(double f, int64 points) const { return std::clamp<int64>(static_cast<int64>(f / width), 0, points - 2); }
    // Takes all cells for one.
    void merge() {
        count = 1;
        width = INFINITY;
    }
    // The voxels in the cell `index` after the first, a little more than these.
    Range within(int64 index) const {
        if (std::isinf(width)) return voxels;
        const double start = static_cast<double>(first + index) * width;
        return {std::max(voxels.low, start - 1), std::min(voxels.high, start + width + 1)};
    }
};

// For one component, the bounds of the displacement in every cell of the patch.
class CellBounds {
   public:
    CellBounds(const Geometry& geometry, const std::vector<Cells>& cells, const double* component) {
        const int axes = geometry.axes;
        std::vector<int64> extent(static_cast<size_t>(axes));
        int64 size = 1;
        for (int k = 0; k < axes; ++k) size *= extent[static_cast<size_t>(k)] = cells[static_cast<size_t>(k)].count + 3;
        bounds.resize(static_cast<size_t>(size));
        for (int64 i = 0; i < size; ++i) {
            int64 rest = i;
            int64 point = 0;
            int64 stride = 1;
            for (int k = axes - 1; k >= 0; --k) {
                const size_t axis = static_cast<size_t>(k);
                const int64 index = cells[axis].first - 1 + rest % extent[axis];
                point += stride * common::fold_mirror(index, geometry.points[k]);
                stride *= geometry.points[k];
                rest /= extent[axis];
            }
            bounds[static_cast<size_t>(i)] = {component[point], component[point]};
        }
        for (size_t k = 0; k < extent.size(); ++k) cover_four(extent, k);
    }

    std::vector<Range> bounds;  // in C order of the cells

   private:
    // Replaces each window of four along an axis by its bounds; the axis gets three shorter.
    void cover_four(std::vector<int64>& extent, size_t axis) {
        int64 before = 1;
        int64 after = 1;
        for (size_t k = 0; k < axis; ++k) before *= extent[k];
        for (size_t k = axis + 1; k < extent.size(); ++k) after *= extent[k];
        const int64 windows = extent[axis] - 3;
        std::vector<Range> covered(static_cast<size_t>(before * windows * after));
        for (int64 b = 0; b < before; ++b)
            for (int64 w = 0; w < windows; ++w)
                for (int64 a = 0; a < after; ++a) {
                    const Range* from = &bounds[static_cast<size_t>((b * extent[axis] + w) * after + a)];
                    Range range = *from;
                    for (int tap = 1; tap < 4; ++tap) range.cover(from[tap * after]);
                    covered[static_cast<size_t>((b * windows + w) * after + a)] = range;
                }
        extent[axis] = windows;
        bounds.swap(covered);
    }
};

constexpr int64 most_cells = 200'000;  // beyond, one bound for all cells is cheaper than what a tighter one saves

std::vector<Range> whole_bounds(const double* component, int64 points) {
    Range range = {component[0], component[0]};
    for (int64 i = 1; i < points; ++i) range.cover({component[i], component[i]});
    return {range};
}

// Positions along an axis to the coefficients that their stencils touch after folding, as [first, last].
void fold_range(const Geometry& geometry, Range x, int64 last, int64& first_held, int64& last_held) {
    const bool bounded = x.low > -1e15 && x.high < 1e15;  // false for NaN as well
    first_held = 0;
    last_held = last;
    if (!bounded) return;
    const double slack = 1e-3;  // far above the rounding of a position, far below a voxel
    const double end = static_cast<double>(last);
    x.low += geometry.padding - slack;
    x.high += geometry.padding + slack;
    if (geometry.mode == mode_constant) {
        x.low = std::clamp(x.low, 0.0, end);
        x.high = std::clamp(x.high, 0.0, end);
    }
    const double shift = common::knot_shift(geometry.order);
    int64 a = common::floor_to_integer(x.low + shift) - geometry.order / 2;
    int64 b = common::floor_to_integer(x.high + shift) - geometry.order / 2 + geometry.order;
    const bool leaves = a < 0 || b > last;
    if (leaves && (geometry.mode == mode_wrap || geometry.mode == mode_grid_wrap)) return;
    if (geometry.mode != mode_nearest && geometry.mode != mode_grid_constant) {
        if (-a > last || b > 2 * last) return;
        const int64 low = a;
        if (b > last) a = std::min(a, 2 * last - b);
        if (low < 0) b = std::max(b, -low);
    }
    first_held = std::clamp<int64>(a, 0, last);
    last_held = std::clamp<int64>(b, first_held, last);
}

}  // namespace

Box find_source_box(const Geometry& geometry, const OutputPart& part, int64 first_item, int64 last_item,
                    const double* grid, const double* affine, int64 affine_item_size) {
    const int axes = geometry.axes;
    std::vector<Cells> cells;
    int64 cell_count = 1;
    int64 points = 1;
    for (int k = 0; k < axes; ++k) {
        cells.emplace_back(geometry.crop[k] + part.first[k], geometry.crop[k] + part.last[k], geometry.image[k],
                           geometry.points[k]);
        cell_count *= cells.back().count;
        points *= geometry.points[k];
    }
    const bool merged = cell_count > most_cells;
    if (merged) {
        for (Cells& along : cells) along.merge();
        cell_count = 1;
    }
    Range x[max_axes];
    for (int k = 0; k < axes; ++k) x[k] = {INFINITY, -INFINITY};
    bool known = true;
    for (int64 item = first_item; item < last_item; ++item)
        for (int k = 0; k < axes; ++k) {
            const double* component = grid + (item * axes + k) * points;
            const std::vector<Range> bounds =
                merged ? whole_bounds(component, points) : CellBounds(geometry, cells, component).bounds;
            const double* line = affine ? affine + item * affine_item_size + k * (axes + 1) : nullptr;
            for (int64 i = 0; i < cell_count; ++i) {
                Range place = bounds[static_cast<size_t>(i)];
                int64 rest = i;
                for (int j = axes - 1; j >= 0; --j) {
                    const Cells& along = cells[static_cast<size_t>(j)];
                    const Range full = along.within(rest % along.count);
                    rest /= along.count;
                    const double crop = static_cast<double>(geometry.crop[j]);
                    if (line)
                        place.add(scaled(line[j], {full.low - crop, full.high - crop}));
                    else if (j == k)
                        place.add(full);
                }
                if (line) {
                    const double offset = line[axes] + static_cast<double>(geometry.crop[k]);
                    place.add({offset, offset});
                }
                known &= place.low <= place.high;  // false for NaN
                x[k].cover(place);
            }
        }
    Box box;
    for (int k = 0; k < axes; ++k) {
        const int64 last = geometry.image[k] + 2 * geometry.padding - 1;
        int64 last_held;
        fold_range(geometry, known ? x[k] : Range{NAN, NAN}, last, box.start[k], last_held);
        box.extent[k] = last_held - box.start[k] + 1;
    }
    return box;
}

}  // namespace elasticnd
