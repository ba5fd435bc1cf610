// Every combination that reads and writes memory in its own way, with displacements that no one would want:
// nothing is compared, the sanitizers watch.
#include <limits>

#include "support.hpp"

namespace elasticnd {
namespace test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double scales[] = {0.4, 3, 60, 1e6, 4e15, 1e19, 1e300};

Doubles wild_grid(Random& random, int64 size) {
    const double scale = scales[random.integer(0, 6)];
    Doubles grid = random.reals(size, -scale, scale);
    const double odd[] = {infinity, -infinity, not_a_number, 9.2e18, -9.3e18, -0.0, 5e-324};
    for (int64 i = random.integer(-2, 3); i > 0; --i)
        grid[static_cast<size_t>(random.integer(0, size - 1))] = odd[random.integer(0, 6)];
    return grid;
}

int64 extent_of(Random& random, int axes, bool inner) {
    static constexpr int64 around_rows[] = {1, 2, 3, 5, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300};
    if (axes <= 2 && inner) return around_rows[random.integer(0, 13)];
    return random.integer(1, axes <= 2 ? 9 : axes == 3 ? 6 : axes == 4 ? 4 : 3);
}

Case random_case(Random& random, int axes, int order, int mode) {
    Case given;
    given.order = order;
    given.mode = mode;
    for (int k = 0; k < axes; ++k) {
        given.image.push_back(extent_of(random, axes, k == axes - 1));
        given.points.push_back(random.integer(1, axes <= 3 ? 5 : 2));
        if (random.integer(0, 2) == 0) {
            given.crop.push_back(random.integer(0, given.image.back() - 1));
            given.output.push_back(random.integer(0, given.image.back() - given.crop.back()));
        } else {
            given.crop.push_back(0);
            given.output.push_back(given.image.back());
        }
    }
    given.items = random.integer(1, 2);
    given.channels = random.integer(1, 3);
    given.fill = random.integer(0, 1) ? not_a_number : 300;
    given.beyond = random.integer(0, 1) ? 1e30 : -3;
    given.filtered = axes < 4 && random.integer(0, 3) != 0;
    return given;
}

void run_derivatives(Random& random, const Case& given, const Doubles& grid, int dtype, Executor& executor) {
    const int64 axes = static_cast<int64>(given.image.size());
    const Geometry geometry = geometry_of(given);
    const int arithmetic = arithmetic_of(dtype);
    Array gradient(given.items, given.channels, given.output, dtype, Layout(random.integer(0, layout_count - 1)));
    gradient.fill_bits(random);
    Array coefficients(given.items, given.channels, coefficient_shape(geometry), arithmetic);
    coefficients.fill(random, -1, 1);
    scatter_image(job_of(given, geometry, coefficients.planes, gradient), grid.data(), executor);
    Doubles grid_gradient(grid.size(), 0.0);
    Doubles affine_gradient(static_cast<size_t>(given.items * axes * (axes + 1)), 0.0);
    scatter_grid(job_of(given, geometry, coefficients.planes, gradient), grid.data(), grid_gradient.data(),
                 affine_gradient.data(), executor);
    Array image(given.items, given.channels, given.image, dtype, Layout(random.integer(0, layout_count - 1)));
    prefilter_adjoint(geometry, given.filtered && given.order > 1, given.items * given.channels, coefficients.planes,
                      image.planes, executor);
}

void run(Random& random, int axes, int order, int mode, int dtype, Executor& executor) {
    Case given = random_case(random, axes, order, mode);
    Doubles affine = random.reals(axes * (axes + 1), -2, 2);
    if (random.integer(0, 4) == 0) affine[static_cast<size_t>(random.integer(0, axes * axes))] = not_a_number;
    if (random.integer(0, 4) == 0) affine[static_cast<size_t>(random.integer(0, axes * axes))] = 1e200;
    if (random.integer(0, 1)) given.affine = affine.data();
    const Doubles grid = wild_grid(random, given.items * axes * size_of(given.points));
    Array image(given.items, given.channels, given.image, dtype, Layout(random.integer(0, layout_count - 1)));
    image.fill_bits(random);
    const Array output = deform(given, grid, image, true, executor, Layout(random.integer(0, layout_count - 1)));
    CHECK(output.planes.dtype == dtype, "another type came back");
    if (output.count > 0) run_derivatives(random, given, grid, dtype, executor);
    if (output.count > 0) {
        const Array field(given.items, axes, given.output, dtype_float64, Layout(random.integer(0, layout_count - 1)));
        Case components = given;
        components.channels = axes;
        displace(job_of(components, geometry_of(given), field.planes, field), grid.data(), executor);
    }
}

}  // namespace

void test_everything_stays_inside() {
    Random random(6);
    PoolExecutor executor({});
    for (int axes = 1; axes <= 6; ++axes)
        for (int order = 0; order <= max_order; ++order)
            for (int mode = 0; mode < mode_count; ++mode)
                for (int dtype = 0; dtype < dtype_count; ++dtype)
                    if (axes < 5 || (dtype + mode) % 4 == 0) run(random, axes, order, mode, dtype, executor);
}

}  // namespace test
}  // namespace elasticnd
