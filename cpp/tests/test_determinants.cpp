// Compares determinants of the Jacobian at voxels with those of the derivatives at the same positions.
#include "core/determinants.hpp"
#include "core/evaluate.hpp"
#include "support.hpp"

namespace elasticnd {
namespace test {
namespace {

Geometry window_of(Random& random, int axes) {
    Geometry geometry = {};
    geometry.axes = axes;
    for (int k = 0; k < axes; ++k) {
        geometry.image[k] = random.integer(1, 23);
        geometry.grid_shape[k] = random.integer(1, random.integer(0, 9) ? 6 : 30);
        geometry.start[k] = random.integer(0, geometry.image[k] - 1);
        geometry.output[k] = random.integer(1, geometry.image[k] - geometry.start[k]);
    }
    return geometry;
}

// The voxels of the window, in C order.
Doubles positions_in(const Geometry& geometry) {
    Doubles positions;
    for (int64 i = 0; i < product(geometry.output, geometry.axes); ++i) {
        int64 rest = i, index[max_axes];
        for (int k = geometry.axes - 1; k >= 0; rest /= geometry.output[k--]) index[k] = rest % geometry.output[k];
        for (int k = 0; k < geometry.axes; ++k) positions.push_back(static_cast<double>(geometry.start[k] + index[k]));
    }
    return positions;
}

double determinant(int axes, const double* m) {
    if (axes == 1) return m[0];
    if (axes == 2) return m[0] * m[3] - m[1] * m[2];
    return m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) + m[2] * (m[3] * m[7] - m[4] * m[6]);
}

}  // namespace

void test_determinants() {
    Random random(11);
    Serial executor;
    for (int repetition = 0; repetition < 300; ++repetition) {
        const int axes = 1 + repetition % 3;
        const Geometry geometry = window_of(random, axes);
        const int64 items = random.integer(1, 2), voxels = product(geometry.output, axes);
        const Doubles points = random.reals(items * axes * product(geometry.grid_shape, axes), -1, 1);
        const Doubles linear = random.reals(items * axes * axes, -1, 1);
        // Exactly the required size, so that a sanitizer detects an access beyond it.
        const std::unique_ptr<double[]> found(new double[static_cast<size_t>(items * voxels)]);
        compute_determinants({geometry, items, points.data(), linear.data(), int64(axes) * axes}, found.get(),
                             executor);

        Job job = {};
        job.geometry = geometry;
        job.evaluation_order = 1;
        Doubles positions;
        for (int64 item = 0; item < items; ++item)
            for (const double position : positions_in(geometry)) positions.push_back(position);
        Doubles jacobian(positions.size() * static_cast<size_t>(axes));
        evaluate({job, items, voxels, positions.data()}, points.data(), jacobian.data(), executor);
        for (int64 i = 0; i < items * voxels; ++i) {
            double* own = jacobian.data() + i * axes * axes;
            for (int j = 0; j < axes * axes; ++j) own[j] += linear[static_cast<size_t>(i / voxels * axes * axes + j)];
            const double expected = determinant(axes, own);
            // The terms are products of up to three slopes, which reach some tens each.
            CHECK(std::abs(found[static_cast<size_t>(i)] - expected) < 1e-8, "axes %d, voxel %d: %.17g %.17g", axes,
                  int(i), found[static_cast<size_t>(i)], expected);
        }
    }
}

}  // namespace test
}  // namespace elasticnd
