// Finds the coefficients that an output patch can reach, before any position is computed. Inside a cell of the control
// grid, a cubic B-spline lies between the smallest and the largest of the coefficients that it blends; tighter bounds
// are used where they pay off.
#include <algorithm>
#include <cmath>

#include "core/core.hpp"
#include "elasticnd/boundary.hpp"
#include "elasticnd/grid.hpp"
#include "elasticnd/spline.hpp"

namespace elasticnd {
namespace {

struct Interval {
    double low;
    double high;
    void add(Interval other) {
        low += other.low;
        high += other.high;
    }
    void cover(Interval other) {
        low = other.low < low ? other.low : low;
        high = other.high > high ? other.high : high;
    }
};

Interval scaled(double factor, Interval range) {
    return factor < 0 ? Interval{factor * range.high, factor * range.low}
                      : Interval{factor * range.low, factor * range.high};
}

// The cells of the control grid that contain a range of output voxels, along one axis.
struct Cells {
    int64 first;
    int64 count;
    double width;        // width of a cell, in voxels of the frame
    double frame_start;  // position in the frame of output voxel 0 ...
    double frame_step;   // ... and the step from one voxel to the next
    Interval voxels;

    Cells(const Geometry& geometry, int axis, int64 first_voxel, int64 last_voxel)
        : frame_start(geometry.frame_start[axis]),
          frame_step(geometry.frame_step[axis]),
          voxels{static_cast<double>(geometry.start[axis] + first_voxel),
                 static_cast<double>(geometry.start[axis] + last_voxel - 1)} {
        const int64 extent = geometry.frame[axis];
        const int64 points = geometry.grid_shape[axis];
        const bool varies = extent > 1 && points > 1;
        width = varies ? static_cast<double>(extent - 1) / static_cast<double>(points - 1) : INFINITY;
        first = varies ? cell(voxels.low, points) : 0;
        count = varies ? cell(voxels.high, points) - first + 1 : 1;
    }
    double in_frame(double voxel) const { return frame_start + frame_step * voxel; }
    int64 cell(double voxel, int64 points) const {
        return std::clamp<int64>(static_cast<int64>(in_frame(voxel) / width), 0, points - 2);
    }
    // Treats all cells as one.
    void merge() {
        count = 1;
        width = INFINITY;
    }
    // The voxels in cell `index`, counted from the first, with a small margin.
    Interval within(int64 index) const {
        if (std::isinf(width)) return voxels;
        const double start = (static_cast<double>(first + index) * width - frame_start) / frame_step;
        return {std::max(voxels.low, start - 1), std::min(voxels.high, start + width / frame_step + 1)};
    }
    // The range of these voxels as places in the cell, from 0 to 1.
    Interval places(int64 index) const {
        if (std::isinf(width)) return {0, 0};
        const double start = static_cast<double>(first + index) * width;
        const Interval full = within(index);
        return {std::clamp((in_frame(full.low) - start) / width, 0.0, 1.0),
                std::clamp((in_frame(full.high) - start) / width, 0.0, 1.0)};
    }
};

// The polar form of a cubic polynomial, given by its Bernstein coefficients on [0, 1]: the symmetric function that is
// linear in each argument, and that equals the polynomial if its three arguments are equal.
double polar_form(const double* bernstein, double r, double s, double t) {
    double level[4] = {bernstein[0], bernstein[1], bernstein[2], bernstein[3]};
    const double arguments[] = {r, s, t};
    for (int step = 0; step < 3; ++step)
        for (int i = 0; i < 3 - step; ++i) level[i] += arguments[step] * (level[i + 1] - level[i]);
    return level[0];
}

// Turns four coefficients of a cubic B-spline, `stride` apart, into the Bernstein coefficients of its piece between two
// places of the cell. These bound the piece; the shorter it is, the tighter the bounds (G. Farin, "Curves and Surfaces
// for CAGD").
void restrict_line(double* line, int64 stride, Interval places) {
    const double c[] = {line[0], line[stride], line[2 * stride], line[3 * stride]};
    const double bernstein[] = {(c[0] + 4 * c[1] + c[2]) / 6, (2 * c[1] + c[2]) / 3, (c[1] + 2 * c[2]) / 3,
                                (c[1] + 4 * c[2] + c[3]) / 6};
    const double a = places.low, b = places.high;
    line[0] = polar_form(bernstein, a, a, a);
    line[stride] = polar_form(bernstein, a, a, b);
    line[2 * stride] = polar_form(bernstein, a, b, b);
    line[3 * stride] = polar_form(bernstein, b, b, b);
}

// The value of the spline at one place of the cell.
double value_at(const double* line, int64 stride, double place) {
    const double c[] = {line[0], line[stride], line[2 * stride], line[3 * stride]};
    const double bernstein[] = {(c[0] + 4 * c[1] + c[2]) / 6, (2 * c[1] + c[2]) / 3, (c[1] + 2 * c[2]) / 3,
                                (c[1] + 4 * c[2] + c[3]) / 6};
    return polar_form(bernstein, place, place, place);
}

// The offsets of a cell's coefficients from the first of them.
std::vector<int64> offsets_in_cell(const GridCoefficients& grid, int axes) {
    std::vector<int64> offsets = {0};
    int64 stride = 1;
    for (int k = axes - 1; k >= 0; --k) {
        std::vector<int64> more;
        more.reserve(4 * offsets.size());
        for (int64 tap = 0; tap < 4; ++tap)
            for (const int64 offset : offsets) more.push_back(tap * stride + offset);
        offsets.swap(more);
        stride *= grid.extent[k];
    }
    return offsets;
}

// The bounds of one component of the displacement in each cell of a patch with few cells, restricted to the part of the
// cell inside the patch. `largest` becomes the largest absolute value among the blended coefficients.
std::vector<Interval> piece_bounds(const GridCoefficients& grid, const std::vector<Cells>& cells,
                                   const std::vector<int64>& offsets, const double* component, double& largest) {
    const int axes = static_cast<int>(cells.size());
    int64 count = 1;
    for (const Cells& along : cells) count *= along.count;
    std::vector<double> piece(offsets.size());
    std::vector<Interval> bounds;
    for (int64 i = 0; i < count; ++i) {
        int64 index[max_axes];
        int64 rest = i;
        int64 first = 0;  // the first coefficient, which lies one before the cell
        int64 stride = 1;
        for (int k = axes - 1; k >= 0; --k) {
            const Cells& along = cells[static_cast<size_t>(k)];
            index[k] = rest % along.count;
            rest /= along.count;
            first += (along.first + index[k]) * stride;
            stride *= grid.extent[k];
        }
        for (size_t j = 0; j < offsets.size(); ++j) {
            piece[j] = component[first + offsets[j]];
            largest = std::max(largest, std::abs(piece[j]));
        }
        // Restrict the piece axis by axis. If the patch has a single place along an axis, one number remains of four.
        int64 lines = 1;
        int64 after = static_cast<int64>(offsets.size());
        for (int k = 0; k < axes; ++k) {
            after /= 4;
            const Interval places = cells[static_cast<size_t>(k)].places(index[k]);
            const bool single = places.low == places.high;
            for (int64 line = 0; line < lines; ++line)
                for (int64 j = 0; j < after; ++j) {
                    double* const at = &piece[static_cast<size_t>(line * 4 * after + j)];
                    if (single)
                        piece[static_cast<size_t>(line * after + j)] = value_at(at, after, places.low);
                    else
                        restrict_line(at, after, places);
                }
            lines *= single ? 1 : 4;
        }
        Interval range = {piece[0], piece[0]};
        for (int64 j = 1; j < lines; ++j) range.cover({piece[static_cast<size_t>(j)], piece[static_cast<size_t>(j)]});
        bounds.push_back(range);
    }
    return bounds;
}

// The bounds of one component of the displacement in each cell of the patch.
class CellBounds {
   public:
    CellBounds(const GridCoefficients& grid, const std::vector<Cells>& cells, const double* component) {
        const int axes = static_cast<int>(cells.size());
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
                point += stride * (cells[axis].first + rest % extent[axis]);  // coefficients begin one before the cell
                stride *= grid.extent[k];
                rest /= extent[axis];
            }
            bounds[static_cast<size_t>(i)] = {component[point], component[point]};
        }
        for (size_t k = 0; k < extent.size(); ++k) cover_four(extent, k);
    }

    std::vector<Interval> bounds;  // one for each cell, in C order

   private:
    // Replaces each window of four along an axis by its bounds, which makes the axis shorter by three.
    void cover_four(std::vector<int64>& extent, size_t axis) {
        int64 before = 1;
        int64 after = 1;
        for (size_t k = 0; k < axis; ++k) before *= extent[k];
        for (size_t k = axis + 1; k < extent.size(); ++k) after *= extent[k];
        const int64 windows = extent[axis] - 3;
        std::vector<Interval> covered(static_cast<size_t>(before * windows * after));
        for (int64 b = 0; b < before; ++b)
            for (int64 w = 0; w < windows; ++w)
                for (int64 a = 0; a < after; ++a) {
                    const Interval* from = &bounds[static_cast<size_t>((b * extent[axis] + w) * after + a)];
                    Interval range = *from;
                    for (int tap = 1; tap < 4; ++tap) range.cover(from[tap * after]);
                    covered[static_cast<size_t>((b * windows + w) * after + a)] = range;
                }
        extent[axis] = windows;
        bounds.swap(covered);
    }
};

constexpr int64 most_pieces = 4096;    // numbers in all cells: beyond this, examining parts of cells costs too much ...
constexpr int64 most_cells = 200'000;  // ... and beyond this, examining each cell

std::vector<Interval> whole_bounds(const double* component, int64 points) {
    Interval range = {component[0], component[0]};
    for (int64 i = 1; i < points; ++i) range.cover({component[i], component[i]});
    return {range};
}

// The range of all coordinates along an axis after folding.
Interval folded_range(const Geometry& geometry, double last) {
    const double reach = common::border_reach(geometry.order);
    switch (mode_traits(geometry.mode).coordinates) {
        case continued_nearest: return {-reach, last + reach};
        case continued_reflected: return {-0.5, last + 0.5};
        case continued_periodic: return {0, last + 1};
        case continued_by_nothing:
        case continued_mirrored:
        case continued_short_periodic: break;
    }
    return {0, last};
}

// The range of these coordinates along an axis after folding.
Interval folded(const Geometry& geometry, Interval x, double last) {
    const Continuation continuation = mode_traits(geometry.mode).coordinates;
    const Interval all = folded_range(geometry, last);
    if (continuation == continued_by_nothing || continuation == continued_nearest)
        return {std::clamp(x.low, all.low, all.high), std::clamp(x.high, all.low, all.high)};
    if (last == 0) return {0, 0};
    if (x.low >= 0 && x.high <= last) return x;
    const bool turns = continuation == continued_reflected || continuation == continued_mirrored;
    const double period = (all.high - all.low) * (turns ? 2 : 1);
    if (x.high - x.low >= period) return all;
    const double shift = period * std::floor((x.low - all.low) / period);
    x = {x.low - shift, x.high - shift};
    if (!turns) return x.high <= all.high ? x : all;
    if (x.low > all.high) x = {2 * all.high - x.high, 2 * all.high - x.low};
    Interval inside = {std::max(x.low, all.low), std::min(x.high, all.high)};
    if (x.low < all.low) inside.cover({all.low, 2 * all.low - x.low});
    if (x.high > all.high) inside.cover({2 * all.high - x.high, all.high});
    return {std::max(inside.low, all.low), std::min(inside.high, all.high)};
}

// Finds the coefficients along an axis that stencils at these positions touch. `largest` bounds the numbers whose sums
// are the positions. Returns whether the image cannot affect any value, because all positions lie outside it.
bool reach_of(const Geometry& geometry, int axis, Interval x, double largest, int64& start, int64& extent) {
    const int64 border = border_of(geometry);
    const int64 last = padded_extent(geometry, axis) - 1;
    start = -border;
    extent = last + 1 + 2 * border;
    if (!(largest < 1e300)) return false;         // also false for NaN
    const double slack = 1e-3 + 1e-14 * largest;  // more than the rounding of a position, usually far less than a voxel
    x = {x.low + geometry.padding - slack, x.high + geometry.padding + slack};
    // Farther beyond the border than `reach`, the image does not affect the value.
    const ModeTraits traits = mode_traits(geometry.mode);
    const double reach = common::holds_constant(geometry.mode) ? common::border_reach(geometry.order) : 0;
    const bool has_outside = traits.has_constant;
    const bool outside = x.high < -reach || x.low > static_cast<double>(last) + reach;
    x = folded(geometry, x, static_cast<double>(last));
    // A clamped bound has no rounding error. A folded bound is meaningless if its error exceeds the axis.
    const bool clamps = has_outside || traits.coordinates == continued_nearest;
    const double error = clamps ? 1e-3 : std::min(slack, static_cast<double>(extent));
    x = {x.low - error, x.high + error};
    // Rounding cannot lead outside the folded range, except where the image is reflected between two voxels.
    if (traits.coordinates != continued_reflected) {
        const Interval all = folded_range(geometry, static_cast<double>(last));
        x = {std::clamp(x.low, all.low, all.high), std::clamp(x.high, all.low, all.high)};
    }
    const double shift = common::knot_shift(geometry.order);
    const int64 before = geometry.order / 2;
    const int64 lowest = common::floor_to_integer(x.low + shift) - before;
    const int64 highest = common::floor_to_integer(x.high + shift) - before + geometry.order;
    const bool ends = common::ends_at_last_voxel(geometry.order, geometry.mode, last + 1);
    const int64 end = std::min(highest, ends ? last : last + border);
    start = std::clamp(lowest, -border, end - geometry.order);
    extent = end - start + 1;
    return has_outside && outside;
}

// Whether a coefficient that is NaN makes the displacement of a voxel NaN. `index` counts from the first output voxel.
bool meets_nan(const Geometry& geometry, const GridCoefficients& grid, const double* component, const int64* index) {
    int64 first = 0;
    for (int k = 0; k < geometry.axes; ++k) {
        double weight[4];
        first = first * grid.extent[k] +
                common::grid_weights(geometry.in_frame(k, index[k]), geometry.frame[k], geometry.grid_shape[k], weight);
    }
    for (int64 taps = 0; taps < int64(1) << (2 * geometry.axes); ++taps) {
        int64 at = first;
        int64 stride = 1;
        for (int k = geometry.axes - 1, shift = 0; k >= 0; --k, shift += 2) {
            at += (taps >> shift & 3) * stride;
            stride *= grid.extent[k];
        }
        if (std::isnan(component[at])) return true;
    }
    return false;
}

}  // namespace

SourceBox find_source_box(const Geometry& geometry, const OutputPart& part, const GridCoefficients& grid,
                          const double* inverse_map) {
    const int axes = geometry.axes;
    std::vector<Cells> cells;
    int64 cell_count = 1;
    int64 coefficients = 1;
    for (int k = 0; k < axes; ++k) {
        cells.emplace_back(geometry, k, part.first[k], part.last[k]);
        cell_count *= cells.back().count;
        coefficients *= grid.extent[k];
    }
    bool few = true;
    int64 numbers = cell_count;
    for (int k = 0; k < axes; ++k) few &= (numbers *= 4) <= most_pieces || cell_count == 1;
    const bool merged = cell_count > most_cells;
    if (merged) {
        for (Cells& along : cells) along.merge();
        cell_count = 1;
    }
    const std::vector<int64> offsets = few ? offsets_in_cell(grid, axes) : std::vector<int64>();
    SourceBox box = {};
    int64 voxel[max_axes];
    bool one_voxel = true;
    for (int k = 0; k < axes; ++k) {
        voxel[k] = part.first[k];
        one_voxel &= part.last[k] - part.first[k] == 1;
    }
    for (int k = 0; k < axes; ++k) {
        const double* component = grid.coefficients + k * coefficients;
        double largest = 0;
        const std::vector<Interval> bounds = few      ? piece_bounds(grid, cells, offsets, component, largest)
                                             : merged ? whole_bounds(component, coefficients)
                                                      : CellBounds(grid, cells, component).bounds;
        const double* line = inverse_map ? inverse_map + k * (axes + 1) : nullptr;
        Interval x = {INFINITY, -INFINITY};
        bool known = true;
        auto add = [&](Interval& sum, Interval term) {
            known &= term.low <= term.high;  // false for NaN
            largest = std::max({largest, -term.low, term.high});
            sum.add(term);
        };
        for (int64 i = 0; i < cell_count; ++i) {
            Interval place = {0, 0};
            add(place, bounds[static_cast<size_t>(i)]);
            int64 rest = i;
            for (int j = axes - 1; j >= 0; --j) {
                const Cells& along = cells[static_cast<size_t>(j)];
                const Interval full = along.within(rest % along.count);
                rest /= along.count;
                const double origin = static_cast<double>(geometry.origin[j]);
                if (line)
                    add(place, scaled(line[j], {full.low - origin, full.high - origin}));
                else if (j == k)
                    add(place, full);
            }
            if (line) {
                const double offset = line[axes] + static_cast<double>(geometry.origin[k]);
                add(place, {offset, offset});
            }
            x.cover(place);
        }
        if (one_voxel && !known) box.nowhere |= meets_nan(geometry, grid, component, voxel);
        box.outside |= reach_of(geometry, k, x, known ? largest : INFINITY, box.start[k], box.extent[k]);
    }
    return box;
}

}  // namespace elasticnd
