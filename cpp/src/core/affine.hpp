// Affine maps of indices, [M | t] of shape (axes, axes + 1) in C order.
#pragma once
#include <vector>

#include "elasticnd/platform.hpp"

namespace elasticnd {

// The maps from output index to image index: first the inverse of `forward`, then `rotation_zoom`. One of them may be
// null. `forward` holds `count` maps. Throws std::invalid_argument if a map has no inverse.
std::vector<double> inverse_maps(int axes, int64 count, const double* forward, const double* rotation_zoom);

}  // namespace elasticnd
