// Inverses of affine maps, for all items of a call.
#include "core/affine.hpp"

#include <stdexcept>

#include "elasticnd/affine.hpp"

namespace elasticnd {

std::vector<double> inverse_maps(int axes, int64 count, const double* forward, const double* rotation_zoom) {
    const int64 size = int64(axes) * (axes + 1);
    if (!forward) return std::vector<double>(rotation_zoom, rotation_zoom + size);
    std::vector<double> maps(static_cast<size_t>(count * size));
    for (int64 i = 0; i < count; ++i) {
        common::AffineMap map, inverse;
        common::load_map(axes, forward + i * size, map);
        if (!common::is_finite(axes, map))
            throw std::invalid_argument("affine: got NaN or infinite values, expected finite values");
        common::invert_map(axes, map, inverse);
        if (!common::is_finite(axes, inverse))
            throw std::invalid_argument("affine: got a singular matrix, expected an invertible matrix");
        common::store_composed(axes, inverse, rotation_zoom, maps.data() + i * size);
    }
    return maps;
}

}  // namespace elasticnd
