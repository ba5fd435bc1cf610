#include "affine.hpp"

#include <cmath>
#include <stdexcept>
#include <utility>

namespace elasticnd {
namespace {

using Map = double[max_axes][max_axes + 1];

void load(int axes, const double* from, Map& map) {
    for (int k = 0; k < axes; ++k)
        for (int l = 0; l <= axes; ++l) map[k][l] = from[k * (axes + 1) + l];
}

// By Gauss-Jordan elimination with the largest pivot of each column.
void invert_linear(int axes, Map& map, Map& inverse) {
    for (int k = 0; k < axes; ++k)
        for (int l = 0; l < axes; ++l) inverse[k][l] = k == l;
    for (int column = 0; column < axes; ++column) {
        int pivot = column;
        for (int k = column + 1; k < axes; ++k)
            if (std::fabs(map[k][column]) > std::fabs(map[pivot][column])) pivot = k;
        for (int l = 0; l < axes; ++l) {
            std::swap(map[pivot][l], map[column][l]);
            std::swap(inverse[pivot][l], inverse[column][l]);
        }
        const double divisor = map[column][column];
        for (int l = 0; l < axes; ++l) {
            map[column][l] /= divisor;
            inverse[column][l] /= divisor;
        }
        for (int k = 0; k < axes; ++k) {
            const double factor = map[k][column];
            if (k == column || factor == 0) continue;
            for (int l = 0; l < axes; ++l) {
                map[k][l] -= factor * map[column][l];
                inverse[k][l] -= factor * inverse[column][l];
            }
        }
    }
}

// x = M^-1 (y - t) = M^-1 y - M^-1 t
void invert(int axes, Map& map, Map& inverse) {
    double offset[max_axes];
    for (int k = 0; k < axes; ++k) {
        offset[k] = map[k][axes];
        for (int l = 0; l <= axes; ++l)
            if (!std::isfinite(map[k][l]))
                throw std::invalid_argument("affine: got NaN or infinite values, expected finite values");
    }
    invert_linear(axes, map, inverse);
    for (int k = 0; k < axes; ++k) {
        inverse[k][axes] = 0;
        for (int l = 0; l < axes; ++l) inverse[k][axes] -= inverse[k][l] * offset[l];
        for (int l = 0; l <= axes; ++l)
            if (!std::isfinite(inverse[k][l]))
                throw std::invalid_argument("affine: got a singular matrix, expected a matrix that can be inverted");
    }
}

void store_composed(int axes, const Map& first, const Map* then, double* to) {
    for (int k = 0; k < axes; ++k)
        for (int l = 0; l <= axes; ++l) {
            double sum = then ? 0 : first[k][l];
            for (int j = 0; then && j < axes; ++j) sum += (*then)[k][j] * first[j][l];
            if (then && l == axes) sum += (*then)[k][axes];
            to[k * (axes + 1) + l] = sum;
        }
}

}  // namespace

std::vector<double> inverse_maps(int axes, int64 count, const double* forward, const double* fixed) {
    const int64 size = int64(axes) * (axes + 1);
    if (!forward) return std::vector<double>(fixed, fixed + size);
    std::vector<double> maps(static_cast<size_t>(count * size));
    Map then;
    if (fixed) load(axes, fixed, then);
    for (int64 i = 0; i < count; ++i) {
        Map map, inverse;
        load(axes, forward + i * size, map);
        invert(axes, map, inverse);
        store_composed(axes, inverse, fixed ? &then : nullptr, maps.data() + i * size);
    }
    return maps;
}

}  // namespace elasticnd
