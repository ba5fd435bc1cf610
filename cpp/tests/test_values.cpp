// Compares values with direct formulas: linear interpolation, interpolation of the samples, and patches of a whole.
#include <cmath>

#include "support.hpp"

namespace elasticnd {
namespace test {
namespace {

constexpr double outside = 0.375;

// The signal at an integer position, extended without end according to the mode.
double continued(const Doubles& signal, int64 at, int mode) {
    const int64 extent = static_cast<int64>(signal.size());
    const bool inside = at >= 0 && at < extent;
    if (!inside && mode == mode_grid_constant) return outside;
    if (mode == mode_nearest) at = at < 0 ? 0 : at >= extent ? extent - 1 : at;
    while (at < 0 || at >= extent) {
        if (mode == mode_mirror) at = extent == 1 ? 0 : at < 0 ? -at : 2 * (extent - 1) - at;
        if (mode == mode_reflect) at = at < 0 ? -1 - at : 2 * extent - 1 - at;
        if (mode == mode_grid_wrap) at += at < 0 ? extent : -extent;
    }
    return signal[static_cast<size_t>(at)];
}

double linear(const Doubles& signal, double x, int mode) {
    const double last = static_cast<double>(signal.size() - 1);
    if (mode == mode_constant && (x < 0 || x > last)) return outside;
    // The period of `wrap` is one voxel short.
    while (mode == mode_wrap && last > 0 && (x < 0 || x > last)) x += x < 0 ? last : -last;
    if (mode == mode_wrap && last == 0) x = 0;
    const double whole = std::floor(x);
    const double part = x - whole;
    const int64 at = static_cast<int64>(whole);
    const int between = mode == mode_wrap || mode == mode_constant ? mode_mirror : mode;
    return (1 - part) * continued(signal, at, between) + part * continued(signal, at + 1, between);
}

void test_linear_interpolation() {
    Random random(1);
    Serial serial;
    for (int mode = 0; mode < mode_count; ++mode)
        for (const int64 extent : {1, 2, 3, 10, 127, 128, 129, 257})
            for (const double shift : {0.0, 0.25, -0.75, 3.5, -17.3, 1000.6}) {
                Case given;
                given.image = {extent};
                given.points = {random.integer(1, 4)};
                given.order = 1;
                given.mode = mode;
                given.fill = given.beyond = outside;
                Array image(1, 1, given.image, dtype_float64);
                image.fill(random, 0, 1);
                Doubles signal;
                for (int64 i = 0; i < extent; ++i) signal.push_back(image.value(i));
                const Doubles grid(static_cast<size_t>(given.points[0]),
                                   shift);  // a constant is its own spline
                const Array output = deform(given, grid, image, serial);
                for (int64 i = 0; i < extent; ++i) {
                    const double expected = linear(signal, static_cast<double>(i) + shift, mode);
                    CHECK(std::abs(output.value(i) - expected) < 1e-10,
                          "mode %d, extent %d, shift %g, voxel %d: %.17g %.17g", mode, int(extent), shift, int(i),
                          output.value(i), expected);
                }
            }
}

// The spline passes through the samples, so a zero deformation changes nothing.
void test_identity() {
    Random random(2);
    Serial serial;
    const std::vector<Shape> shapes = {{1},    {2},      {3},        {64},         {129},           {200},
                                       {1, 5}, {130, 3}, {4, 1, 66}, {3, 2, 5, 4}, {2, 3, 1, 2, 3}, {2, 1, 2, 3, 1, 2}};
    for (int mode = 0; mode < mode_count; ++mode)
        for (int order = 0; order <= max_order; ++order)
            for (const Shape& shape : shapes)
                for (int dtype = 0; dtype < dtype_count; ++dtype) {
                    Case given;
                    given.image = shape;
                    given.points = random.shape(static_cast<int>(shape.size()), 1, 3);
                    given.order = order;
                    given.mode = mode;
                    const bool padded = mode == mode_nearest || mode == mode_grid_constant;
                    if (padded && order > 1 && shape.size() > 3) continue;  // padding adds 24 voxels along each axis
                    if (shape.size() > 3 && dtype != dtype_float64 && dtype != dtype_uint8) continue;
                    Array image(1, 1, shape, dtype, Layout(random.integer(0, layout_count - 1)));
                    image.fill(random, 0, dtype == dtype_bool ? 1 : 100);
                    const Doubles grid(static_cast<size_t>(size_of(given.points)) * shape.size(), 0.0);
                    const Array output =
                        deform(given, grid, image, serial, Layout(random.integer(0, layout_count - 1)));
                    const double tolerance = dtype == dtype_float64    ? 1e-11
                                             : dtype == dtype_float32  ? 1e-2
                                             : dtype == dtype_float16  ? 0.1
                                             : dtype == dtype_bfloat16 ? 1
                                                                       : 0;
                    for (int64 i = 0; i < image.count; ++i)
                        CHECK(std::abs(output.value(i) - image.value(i)) <= tolerance,
                              "mode %d, order %d, axes %d, dtype %d, voxel %d: %.17g %.17g", mode, order,
                              int(shape.size()), dtype, int(i), output.value(i), image.value(i));
                }
}

// A patch computes coefficients only in a box, and has the same bits as the whole.
void test_patches() {
    Random random(3);
    Serial serial;
    for (int mode = 0; mode < mode_count; ++mode)
        for (int order = 0; order <= max_order; ++order)
            for (const int dtype : {dtype_float32, dtype_float64})
                for (int axes = 1; axes <= 3; ++axes) {
                    const int64 longest[] = {0, 700, 150, 40};
                    Case given;
                    given.image = random.shape(axes, longest[axes] / 2, longest[axes]);
                    given.points = random.shape(axes, 2, 5);
                    given.order = order;
                    given.mode = mode;
                    given.fill = given.beyond = outside;
                    Array image(1, 1, given.image, dtype);
                    image.fill(random, 0, 1);
                    const double far = random.integer(0, 1) ? 3 : 30;
                    const Doubles grid = random.reals(size_of(given.points) * axes, -far, far);
                    const Array whole = deform(given, grid, image, serial);
                    Case part = given;
                    for (const int64 extent : given.image) {
                        const int64 first = random.integer(0, extent - 1);
                        part.start.push_back(first);
                        part.output.push_back(random.integer(1, std::min<int64>(20, extent - first)));
                    }
                    const Array patch = deform(part, grid, image, serial);
                    for (int64 i = 0; i < patch.count; ++i) {
                        int64 at = 0;
                        int64 rest = i;
                        int64 step = 1;
                        for (int k = axes - 1; k >= 0; --k) {
                            const size_t axis = static_cast<size_t>(k);
                            at += (part.start[axis] + rest % part.output[axis]) * step;
                            rest /= part.output[axis];
                            step *= given.image[axis];
                        }
                        CHECK(patch.value(i) == whole.value(at), "mode %d, order %d, dtype %d, axes %d: %.17g %.17g",
                              mode, order, dtype, axes, patch.value(i), whole.value(at));
                    }
                }
}

void test_floor() {
    const double whole = 2251799813685248.0;  // 2^51: from here on, fractions are halves; from 2^52 on, there are none
    for (const double size : {0.0, 0.5, 1.0, 1.5, 3e9, whole - 1, whole, 1.5 * whole, 2 * whole, 4 * whole, 1e300})
        for (const double step : {-1.5, -0.5, -1e-9, 0.0, 0.25, 0.5, 1.5})
            for (const double sign : {-1.0, 1.0}) {
                const double x = sign * (size + step);
                CHECK(common::floor_of(x) == std::floor(x), "floor of %.17g: %.17g", x, common::floor_of(x));
                if (std::abs(x) < whole) CHECK(common::floor_of_small(x) == std::floor(x), "small floor of %.17g", x);
            }
    CHECK(std::isnan(common::floor_of(std::nan(""))) && common::floor_of(-INFINITY) == -INFINITY, "floor of no number");
}

// Adjacent channels of a pixel are computed together, with the same bits as each channel alone.
void test_channels_side_by_side() {
    Random random(9);
    PoolExecutor executor({});
    for (int axes = 1; axes <= 4; ++axes)
        for (int order = 0; order <= max_order; ++order)
            for (int mode = 0; mode < mode_count; ++mode)
                for (int dtype = 0; dtype < dtype_count; ++dtype) {
                    const int64 longest[] = {0, 300, 150, 20, 6};
                    Case given = random_patch(random, longest, axes, order, mode);
                    given.channels = random.integer(2, 9);
                    given.filtered = axes < 4 && random.integer(0, 3) > 0;
                    given.fill = given.beyond = outside;
                    Array image(given.items, given.channels, given.image, dtype);
                    image.fill(random, 0, dtype == dtype_bool ? 1 : 100);
                    Array side_by_side(given.items, given.channels, given.image, dtype, layout_channels_last);
                    for (int64 i = 0; i < image.count; ++i) side_by_side.set(i, image.value(i));
                    const double far = random.integer(0, 1) ? 1 : 20;
                    const Doubles grid = random.reals(given.items * axes * size_of(given.points), -far, far);
                    const Array expected = deform(given, grid, image, executor);
                    for (const Layout from : {layout_c, layout_channels_last})
                        for (const Layout to : {layout_c, layout_channels_last}) {
                            const Array& source = from == layout_c ? image : side_by_side;
                            CHECK(deform(given, grid, source, executor, to).equals(expected),
                                  "axes %d, order %d, mode %d, dtype %d, channels %d", axes, order, mode, dtype,
                                  int(given.channels));
                        }
                }
}

}  // namespace

void test_values() {
    test_floor();
    test_linear_interpolation();
    test_identity();
    test_patches();
    test_channels_side_by_side();
}

}  // namespace test
}  // namespace elasticnd
