// The border modes, named and defined as in scipy.ndimage: how a coordinate, an index of the stencil, and the signal
// under the prefilter go on beyond the image.
#pragma once
#include "platform.hpp"

namespace elasticnd {

// elasticnd/_geometry.py has the same numbers; grid-mirror is another name of reflect.
enum Mode {
    mode_constant = 0,
    mode_nearest = 1,
    mode_reflect = 2,
    mode_mirror = 3,
    mode_wrap = 4,
    mode_grid_constant = 5,
    mode_grid_wrap = 6,
    mode_count = 7
};

}  // namespace elasticnd

ELASTICND_BEGIN

constexpr int64 beyond_border = -0x7fffffffffffffffLL - 1;  // no index and no offset

// Beyond this no double has a fraction, so that a folded coordinate means nothing; NaN included.
ELASTICND_INLINE bool is_position(double x) { return x > -4503599627370496.0 && x < 4503599627370496.0; }

// A coordinate brought into the image. `slope` is the derivative of the result: 1, -1 where the image is mirrored,
// 0 where an axis has one voxel. `exists` is false where the mode has no value at `x`.
struct Folded {
    double x;
    int slope;
    bool exists;
};

ELASTICND_INLINE Folded fold_coordinate(double x, int64 extent, int mode) {
    const double last = static_cast<double>(extent - 1);
    if (mode == mode_nearest || mode == mode_grid_constant) {
        // The stencil is cut at the border, tap by tap. Farther out than it reaches, nothing changes any more.
        const double reach = max_taps;
        const bool exists = mode == mode_nearest ? x == x : is_position(x);
        return {minimum(maximum(x, -reach), last + reach), 1, exists};
    }
    if (!is_position(x)) return {0, 0, false};
    if (x >= 0 && x <= last) return {x, 1, true};
    if (mode == mode_constant) return {0, 0, false};
    if (extent <= 1) return {0, 0, true};
    if (mode == mode_mirror) {
        const double period = 2 * last;
        x -= period * floor_of(x / period);
        if (x <= last) return {x, 1, true};
        return {maximum(period - x, 0.0), -1, true};
    }
    if (mode == mode_reflect) {
        const double period = 2 * (last + 1);
        x -= period * floor_of((x + 0.5) / period);
        if (x <= last + 0.5) return {x, 1, true};
        return {period - 1 - x, -1, true};
    }
    if (mode == mode_wrap) {
        // The period is one voxel short, as in SciPy; a negative multiple of it lands on the last voxel.
        if (x < 0)
            x += last * (floor_of(-x / last) + 1);
        else
            x -= last * floor_of(x / last);
        return {minimum(maximum(x, 0.0), last), 1, true};
    }
    const double period = last + 1;  // grid-wrap
    x -= period * floor_of(x / period);
    return {x, 1, true};
}

ELASTICND_INLINE int64 modulo(int64 a, int64 period) {
    const int64 rest = a % period;
    return rest < 0 ? rest + period : rest;
}

ELASTICND_INLINE int64 fold_mirror(int64 index, int64 extent) {
    if (extent <= 1) return 0;
    if (index < 0) index = -index;  // the image is even about its first voxel
    if (index < extent) return index;
    const int64 place = index % (2 * (extent - 1));
    return place < extent ? place : 2 * (extent - 1) - place;
}

ELASTICND_INLINE int64 fold_reflect(int64 index, int64 extent) {
    if (index < 0) index = -1 - index;
    if (index < extent) return index;
    const int64 place = index % (2 * extent);
    return place < extent ? place : 2 * extent - 1 - place;
}

// The coefficient that stands for tap `index` of a stencil at a folded coordinate; beyond_border where none does.
ELASTICND_INLINE int64 fold_index(int64 index, int64 extent, int mode) {
    if (index >= 0 && index < extent) return index;
    switch (mode) {
        case mode_nearest: return index < 0 ? 0 : extent - 1;
        case mode_reflect: return fold_reflect(index, extent);
        case mode_grid_wrap: return modulo(index, extent);
        case mode_grid_constant: return beyond_border;
        default: return fold_mirror(index, extent);
    }
}

// How the prefilter continues the signal: one of mirror, reflect and grid-wrap.
ELASTICND_INLINE int prefilter_mode(int mode) {
    if (mode == mode_nearest || mode == mode_reflect) return mode_reflect;
    return mode == mode_grid_wrap ? mode_grid_wrap : mode_mirror;
}

ELASTICND_END
