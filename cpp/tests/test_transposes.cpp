// <G x, y> = <x, G^T y> for every operation, and the gradient of the control grid against finite differences.
#include "support.hpp"

namespace elasticnd {
namespace test {
namespace {

constexpr int64 longest[] = {0, 300, 40, 12, 7, 4, 3};

Case random_case(Random& random, int axes, int order, int mode) {
    Case given = random_patch(random, longest, axes, order, mode);
    given.filtered = axes < 4 || (mode != mode_nearest && mode != mode_grid_constant);
    return given;
}

Array random_array(Random& random, int64 items, int64 channels, const Shape& shape, int dtype, Layout layout) {
    Array array(items, channels, shape, dtype, layout);
    array.fill(random, -1, 1);
    return array;
}

void check_equal(double a, double b, double scale, const Case& given, int dtype, const char* what) {
    const double tolerance = (dtype == dtype_float64 ? 1e-12 : 1e-4) * (1 + scale);
    CHECK(std::abs(a - b) <= tolerance, "%s, axes %d, order %d, mode %d, dtype %d: %.17g %.17g", what,
          int(given.image.size()), given.order, given.mode, dtype, a, b);
}

void test_sample_and_adjoint(Random& random, const Case& given, int dtype, Executor& executor) {
    const int axes = static_cast<int>(given.image.size());
    const Layout layout = Layout(random.integer(0, layout_count - 1));
    const Doubles points = random.reals(given.items * axes * size_of(given.points), -4, 4);
    const Doubles affine = random.reals(axes * (axes + 1), -1, 1);
    Case with_affine = given;
    if (random.integer(0, 1)) with_affine.affine = affine.data();

    const Array x = random_array(random, given.items, given.channels, given.image, dtype, layout_c);
    const Array gx = deform(with_affine, points, x, executor, layout);
    const Array y = random_array(random, given.items, given.channels, given.output, dtype, layout);
    Array gty(given.items, given.channels, given.image, dtype, layout);
    sample_adjoint(request_of(with_affine, points, nullptr, y), {&gty.planes, nullptr, nullptr}, executor);
    double scale = static_cast<double>(y.count);
    for (int64 i = 0; i < gx.count; ++i) scale += std::abs(gx.value(i));
    check_equal(dot(gx, y), dot(x, gty), scale, given, dtype, "sample_adjoint");

    const AdjointResults all = apply_adjoint(with_affine, points, x, y, executor, layout);
    CHECK(all.image.equals(gty), "the gradient of the image depends on whether others are computed");
}

void test_prefilter_and_adjoint(Random& random, const Case& given, int dtype, Executor& executor) {
    const Geometry geometry = geometry_of(given);
    const Layout layout = Layout(random.integer(0, layout_count - 1));
    const int64 planes = given.items * given.channels;
    const Array x = random_array(random, planes, 1, given.image, dtype, layout);
    const Array px = coefficients_of(geometry, true, planes, x, dtype, executor);
    const Array y = random_array(random, planes, 1, coefficient_shape(geometry), dtype, layout_c);
    double scale = 0;
    for (int64 i = 0; i < px.count; ++i) scale += std::abs(px.value(i));
    Array pty(planes, 1, given.image, dtype, layout);
    prefilter_adjoint(job_of(geometry, true, dtype, dtype), planes, y.planes, pty.planes, executor);
    check_equal(dot(px, y), dot(x, pty), scale, given, dtype, "prefilter_adjoint");
}

// Compares with finite differences along a random direction, where the spline is smooth.
void test_grid_gradient(Random& random, const Case& given, Executor& executor) {
    const int axes = static_cast<int>(given.image.size());
    const Array x = random_array(random, given.items, given.channels, given.image, dtype_float64, layout_c);
    const Array y = random_array(random, given.items, given.channels, given.output, dtype_float64, layout_c);
    const Doubles points = random.reals(given.items * axes * size_of(given.points), -2, 2);
    const Doubles direction = random.reals(static_cast<int64>(points.size()), -1, 1);
    const double step = 1e-5;
    double difference = 0;
    for (const double sign : {1.0, -1.0}) {
        Doubles moved = points;
        for (size_t i = 0; i < points.size(); ++i) moved[i] += sign * step * direction[i];
        difference += sign * dot(deform(given, moved, x, executor), y) / (2 * step);
    }
    const AdjointResults results = apply_adjoint(given, points, x, y, executor);
    double product = 0;
    for (size_t i = 0; i < points.size(); ++i) product += results.points[i] * direction[i];
    CHECK(std::abs(product - difference) < 1e-4 * (1 + std::abs(product)), "axes %d, order %d, mode %d: %.17g %.17g",
          axes, given.order, given.mode, product, difference);
}

Array in_double(const Array& single, int64 items, int64 channels, const Shape& shape) {
    Array array(items, channels, shape, dtype_float64);
    for (int64 i = 0; i < array.count; ++i) array.set(i, single.value(i));
    return array;
}

// Single precision has paths of its own through the kernels, but the same positions as double precision.
void test_grid_gradient_in_single_precision(Random& random, const Case& given, Executor& executor) {
    const int axes = static_cast<int>(given.image.size());
    const Array x = random_array(random, given.items, given.channels, given.image, dtype_float32, layout_c);
    const Array y = random_array(random, given.items, given.channels, given.output, dtype_float32, layout_c);
    const Doubles points = random.reals(given.items * axes * size_of(given.points), -4, 4);
    const AdjointResults single = apply_adjoint(given, points, x, y, executor);
    const AdjointResults expected = apply_adjoint(given, points, in_double(x, given.items, given.channels, given.image),
                                                  in_double(y, given.items, given.channels, given.output), executor);
    double largest = 0;
    for (const double value : expected.points) largest = std::max(largest, std::abs(value));
    const double tolerance = 1e-4 * (1 + largest);
    for (size_t i = 0; i < points.size(); ++i)
        CHECK(std::abs(single.points[i] - expected.points[i]) <= tolerance, "axes %d, order %d, mode %d: %.9g %.9g",
              axes, given.order, given.mode, single.points[i], expected.points[i]);
}

}  // namespace

void test_transposes() {
    Random random(4);
    PoolExecutor executor({});
    for (int axes = 1; axes <= 6; ++axes)
        for (int order = 0; order <= max_order; ++order)
            for (int mode = 0; mode < mode_count; ++mode)
                for (const int dtype : {dtype_float32, dtype_float64}) {
                    // With more than four axes, a quarter of the cases takes long enough.
                    if (axes > 4 && (order + mode + dtype) % 4) continue;
                    const Case given = random_case(random, axes, order, mode);
                    test_sample_and_adjoint(random, given, dtype, executor);
                    if (dtype == dtype_float32) test_grid_gradient_in_single_precision(random, given, executor);
                    if (order > 1 && given.filtered) test_prefilter_and_adjoint(random, given, dtype, executor);
                    const bool smooth = order > 1 && (mode == mode_mirror || mode == mode_grid_wrap);
                    if (smooth && dtype == dtype_float64 && axes < 5) test_grid_gradient(random, given, executor);
                }
}

}  // namespace test
}  // namespace elasticnd
