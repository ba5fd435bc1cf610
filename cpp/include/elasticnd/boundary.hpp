// The border modes, named and defined as in scipy.ndimage: how positions, the coefficients under a stencil, and the
// samples under the prefilter continue beyond the image.
#pragma once
#include "platform.hpp"

namespace elasticnd {

// elasticnd/_modes.py has the same numbers, names and traits, which a test compares; grid-mirror is another name of
// reflect. Other code distinguishes only their traits.
enum Mode {
    mode_constant = 0,
    mode_nearest = 1,
    mode_reflect = 2,
    mode_mirror = 3,
    mode_wrap = 4,
    mode_grid_constant = 5,
    mode_grid_wrap = 6
};
constexpr int mode_count = mode_grid_wrap + 1;
static_assert(mode_count == 7, "mode_traits and mode_names have an entry for each mode");

#if !defined(ELASTICND_CUDA)
constexpr const char* mode_names[mode_count] = {"constant", "nearest",       "reflect",  "mirror",
                                                "wrap",     "grid_constant", "grid_wrap"};
#endif

// How positions, coefficients or samples continue beyond the border.
enum Continuation {
    continued_by_nothing = 0,
    continued_nearest = 1,
    continued_reflected = 2,  // mirrored about the edge of the last voxel
    continued_mirrored = 3,   // mirrored about the centre of the last voxel
    continued_periodic = 4,
    continued_short_periodic = 5  // with a period that is one voxel short, as in SciPy
};

// The number of voxels that pad each side of an image before filtering, as in SciPy. Only the modes whose prefilter has
// no exact start at the border need them.
constexpr int mode_padding = 12;

struct ModeTraits {
    Continuation coordinates;   // how positions beyond the border are mapped; continued_by_nothing: they have no value
    Continuation coefficients;  // what replaces coefficients beyond the border; continued_by_nothing: the constant
    Continuation samples;       // how the prefilter continues the samples: reflected, mirrored or periodic
    bool pads;                  // whether mode_padding applies
    bool has_constant;          // whether the value far beyond the border is the constant
    bool ends_at_last_voxel;    // whether the image ends at its last voxel, at order 1
};

ELASTICND_INLINE constexpr ModeTraits mode_traits(int mode) {
    switch (static_cast<Mode>(mode)) {
        case mode_constant: return {continued_by_nothing, continued_mirrored, continued_mirrored, false, true, true};
        case mode_nearest: return {continued_nearest, continued_nearest, continued_reflected, true, false, false};
        case mode_reflect: return {continued_reflected, continued_reflected, continued_reflected, false, false, false};
        case mode_mirror: return {continued_mirrored, continued_mirrored, continued_mirrored, false, false, false};
        case mode_wrap: return {continued_short_periodic, continued_mirrored, continued_mirrored, false, false, true};
        case mode_grid_constant:
            return {continued_nearest, continued_by_nothing, continued_mirrored, true, true, false};
        case mode_grid_wrap: return {continued_periodic, continued_periodic, continued_periodic, false, false, false};
    }
    return {continued_by_nothing, continued_by_nothing, continued_mirrored, false, false, false};  // not a mode
}

}  // namespace elasticnd

ELASTICND_BEGIN

template <class Index>
// Stands for an index that does not exist; no_index also stands for a missing offset.
constexpr Index no_index_of = static_cast<Index>(uint64(1) << (8 * sizeof(Index) - 1));
constexpr int64 no_index = no_index_of<int64>;

// Whether x is small enough to have a fraction: otherwise, a folded coordinate would be meaningless. False for NaN.
ELASTICND_INLINE bool is_position(double x) { return (x > -4503599627370496.0) & (x < 4503599627370496.0); }

// Where values jump at the border, a position this close to it counts as on the border: the rounding of a rotation or
// of the control grid must not decide what lies inside.
constexpr double border_tolerance = 1e-9;

// Whether the image ends at its last voxel. That voxel then has the order-1 stencil of the voxel before it, and so the
// slope inside the image.
ELASTICND_INLINE bool ends_at_last_voxel(int order, int mode, int64 extent) {
    return order == 1 && mode_traits(mode).ends_at_last_voxel && extent > 1;
}

// The distance from the border beyond which no tap of a stencil lies on the image.
ELASTICND_INLINE int border_reach(int order) { return order / 2 + 1; }

// The number of coefficients stored beyond each end of an axis, continued according to the mode, so that stencils at
// folded coordinates never leave them.
ELASTICND_INLINE int border_width(int order) { return order / 2 + border_reach(order); }

// A coordinate mapped into the image. `slope` is the derivative of the result: 1, -1 where the image is mirrored, 0
// where it is constant. `exists` is false if the mode has no value at `x`; the coordinate is then 0.
struct Folded {
    double x;
    double slope;
    bool exists;
};

// Has no branches once the mode is known, so that loops can be vectorised. `last` is the last index of the axis.
// In modes that clamp or reflect, a coordinate may lie up to `reach` beyond the border.
ELASTICND_FLAT Folded fold_coordinate(double x, double last, double reach, int mode) {
    const ModeTraits traits = mode_traits(mode);
    const Continuation continuation = traits.coordinates;
    const bool on_image = (x >= -border_tolerance) & (x <= last + border_tolerance);
    const double nearest = minimum(maximum(x, 0.0), last);
    if (continuation == continued_by_nothing) return {on_image ? nearest : 0.0, 1.0, on_image};
    const bool known = is_position(x);
    if (continuation == continued_nearest) {
        const double clamped = minimum(maximum(x, -reach), last + reach);
        // If all taps lie beyond the border, the value is the constant, whatever the image contains.
        const bool exists = traits.has_constant ? x == clamped : x == x;
        return {exists ? clamped : 0.0, clamped == x ? 1.0 : 0.0, exists};
    }
    if (last == 0) return {0.0, 0.0, known};
    const bool is_short = continuation == continued_short_periodic;
    const bool is_below = is_short & (x < 0);
    double period = last + 1;
    double from = x;  // the coordinate in which periods are counted
    if (continuation == continued_mirrored) period = 2 * last;
    if (continuation == continued_reflected) {
        period = 2 * (last + 1);
        from = x + 0.5;
    }
    if (is_short) {
        period = last;
        from = (is_below ? -x : x) + border_tolerance;
    }
    const double turns = floor_of(from / period);
    // A negative multiple of a short period maps to the last voxel.
    double y = is_below ? x + period * (turns + 1) : x - period * turns;
    double slope = 1.0;
    if (continuation == continued_mirrored) {
        slope = y <= last ? 1.0 : -1.0;
        y = maximum(y <= last ? y : period - y, 0.0);
    } else if (continuation == continued_reflected) {
        slope = y <= last + 0.5 ? 1.0 : -1.0;
        y = y <= last + 0.5 ? y : period - 1 - y;
        const double clamped = minimum(maximum(y, -reach), last + reach);
        slope = clamped == y ? slope : 0.0;
        y = clamped;
    } else if (is_short) {
        y = on_image ? nearest : minimum(maximum(y, 0.0), last);
    } else {  // periodic
        y = maximum(y, 0.0);
    }
    const bool inside = (x >= 0) & (x <= last);
    return {inside ? x : known ? y : 0.0, inside ? 1.0 : slope, known};
}

// In these functions, Index is int64, or a narrower type that can hold twice the extent.
template <class Index>
ELASTICND_INLINE Index modulo(Index a, Index period) {
    const Index rest = a % period;
    return rest < 0 ? rest + period : rest;
}

template <class Index>
ELASTICND_INLINE Index fold_mirror(Index index, Index extent) {
    if (extent <= 1) return 0;
    if (index < 0) index = -index;  // the image is even about its first voxel
    if (index < extent) return index;
    const Index place = index % (2 * (extent - 1));
    return place < extent ? place : 2 * (extent - 1) - place;
}

template <class Index>
ELASTICND_INLINE Index fold_reflect(Index index, Index extent) {
    if (index < 0) index = -1 - index;
    if (index < extent) return index;
    const Index place = index % (2 * extent);
    return place < extent ? place : 2 * extent - 1 - place;
}

// The index of the sample that replaces one beyond the axis; no_index if there is none.
template <class Index>
ELASTICND_INLINE Index continued_index(Index index, Index extent, int continuation) {
    // A switch would be slower in the loops of the prefilter, where the first two cases are the most frequent.
    if (continuation == continued_mirrored) return fold_mirror(index, extent);
    if (continuation == continued_reflected) return fold_reflect(index, extent);
    if (continuation == continued_periodic) return modulo(index, extent);
    if (index >= 0 && index < extent) return index;
    if (continuation == continued_nearest) return index < 0 ? 0 : extent - 1;
    return no_index_of<Index>;
}

// The index of the coefficient that replaces tap `index` of a stencil at a folded coordinate; no_index if there is
// none.
template <class Index>
ELASTICND_INLINE Index fold_index(Index index, Index extent, int mode) {
    if (index >= 0 && index < extent) return index;
    return continued_index(index, extent, mode_traits(mode).coefficients);
}

// Whether an order-1 stencil on the border blends the last voxel with something else.
ELASTICND_INLINE bool blends_across_border(int mode) {
    const Continuation coefficients = mode_traits(mode).coefficients;
    return coefficients == continued_by_nothing || coefficients == continued_periodic;
}

// Whether coefficients beyond the border hold the constant.
ELASTICND_INLINE bool holds_constant(int mode) { return mode_traits(mode).coefficients == continued_by_nothing; }

ELASTICND_END
