// Affine maps of indices, [M | t], and their inverses.
#pragma once
#include "platform.hpp"

ELASTICND_BEGIN

struct AffineMap {
    double value[max_axes][max_axes + 1];
};

ELASTICND_INLINE void load_map(int axes, const double* from, AffineMap& map) {
    ELASTICND_UNROLLED
    for (int k = 0; k < axes; ++k) {
        ELASTICND_UNROLLED
        for (int l = 0; l <= axes; ++l) map.value[k][l] = from[k * (axes + 1) + l];
    }
}

ELASTICND_INLINE bool is_finite(int axes, const AffineMap& map) {
    bool finite = true;
    for (int k = 0; k < axes; ++k)
        for (int l = 0; l <= axes; ++l) finite &= map.value[k][l] - map.value[k][l] == 0;
    return finite;
}

ELASTICND_INLINE void swap(double& a, double& b) noexcept {
    const double kept = a;
    a = b;
    b = kept;
}

// Inverts the linear part by Gauss-Jordan elimination with the largest pivot of each column; overwrites `map`. No row
// is selected by a variable index, so CUDA kernels for few axes can keep the matrices in registers.
ELASTICND_INLINE void invert_linear(int axes, AffineMap& map, AffineMap& inverse) {
    ELASTICND_UNROLLED
    for (int k = 0; k < axes; ++k) {
        ELASTICND_UNROLLED
        for (int l = 0; l < axes; ++l) inverse.value[k][l] = k == l;
    }
    ELASTICND_UNROLLED
    for (int column = 0; column < axes; ++column) {
        int pivot = column;
        double largest = -1;
        ELASTICND_UNROLLED
        for (int k = column; k < axes; ++k) {
            const double size = map.value[k][column] < 0 ? -map.value[k][column] : map.value[k][column];
            if (size > largest) {
                largest = size;
                pivot = k;
            }
        }
        ELASTICND_UNROLLED
        for (int k = column + 1; k < axes; ++k) {
            if (k != pivot) continue;
            ELASTICND_UNROLLED
            for (int l = 0; l < axes; ++l) {
                swap(map.value[k][l], map.value[column][l]);
                swap(inverse.value[k][l], inverse.value[column][l]);
            }
        }
        const double divisor = map.value[column][column];
        ELASTICND_UNROLLED
        for (int l = 0; l < axes; ++l) {
            map.value[column][l] /= divisor;
            inverse.value[column][l] /= divisor;
        }
        ELASTICND_UNROLLED
        for (int k = 0; k < axes; ++k) {
            const double factor = map.value[k][column];
            if (k == column || factor == 0) continue;
            ELASTICND_UNROLLED
            for (int l = 0; l < axes; ++l) {
                map.value[k][l] -= factor * map.value[column][l];
                inverse.value[k][l] -= factor * inverse.value[column][l];
            }
        }
    }
}

// Inverts a map: x = M^-1 (y - t) = M^-1 y - M^-1 t. If there is no inverse, the result is not finite. Overwrites the
// linear part of `map`.
ELASTICND_INLINE void invert_in_place(int axes, AffineMap& map, AffineMap& inverse) {
    invert_linear(axes, map, inverse);
    ELASTICND_UNROLLED
    for (int k = 0; k < axes; ++k) {
        inverse.value[k][axes] = 0;
        ELASTICND_UNROLLED
        for (int l = 0; l < axes; ++l) inverse.value[k][axes] -= inverse.value[k][l] * map.value[l][axes];
    }
}

ELASTICND_INLINE void invert_map(int axes, AffineMap map, AffineMap& inverse) { invert_in_place(axes, map, inverse); }

// Stores the map that applies `first` and then `then`, which may be null.
ELASTICND_INLINE void store_composed(int axes, const AffineMap& first, const double* then, double* to) {
    ELASTICND_UNROLLED
    for (int k = 0; k < axes; ++k) {
        ELASTICND_UNROLLED
        for (int l = 0; l <= axes; ++l) {
            double sum = then ? 0 : first.value[k][l];
            if (then) {
                ELASTICND_UNROLLED
                for (int j = 0; j < axes; ++j) sum += then[k * (axes + 1) + j] * first.value[j][l];
                if (l == axes) sum += then[k * (axes + 1) + axes];
            }
            to[k * (axes + 1) + l] = sum;
        }
    }
}

ELASTICND_END
