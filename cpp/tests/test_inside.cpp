// Every combination that accesses memory in its own way, with absurd displacements. Nothing is compared: the sanitizers
// watch.
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
        const bool fine = axes <= 2 && k == axes - 1 && random.integer(0, 2) == 0;
        given.points.push_back(random.integer(1, fine ? given.image.back() + 3 : axes <= 3 ? 5 : 2));
        if (random.integer(0, 2) == 0) {
            given.start.push_back(random.integer(0, given.image.back() - 1));
            given.output.push_back(random.integer(0, given.image.back() - given.start.back()));
        } else {
            given.start.push_back(0);
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

void run(Random& random, int axes, int order, int mode, int dtype, Executor& executor) {
    Case given = random_case(random, axes, order, mode);
    Doubles affine = random.reals(axes * (axes + 1), -2, 2);
    if (random.integer(0, 4) == 0) affine[static_cast<size_t>(random.integer(0, axes * axes))] = not_a_number;
    if (random.integer(0, 4) == 0) affine[static_cast<size_t>(random.integer(0, axes * axes))] = 1e200;
    if (random.integer(0, 1)) given.affine = affine.data();
    const Doubles points = wild_grid(random, given.items * axes * size_of(given.points));
    auto layout = [&] { return Layout(random.integer(0, layout_count - 1)); };
    Array image(given.items, given.channels, given.image, dtype, layout());
    image.fill_bits(random);
    const Array output = deform(given, points, image, executor, layout());
    CHECK(output.planes.dtype == dtype, "the output has another type");
    if (order == 1) {
        const Array elected(given.items, given.channels, given.output, dtype, layout());
        SampleRequest request = request_of(given, points, &image, elected);
        request.job.geometry.votes = 1;
        sample(request, executor);
    }
    Array gradient(given.items, given.channels, given.output, dtype, layout());
    gradient.fill_bits(random);
    apply_adjoint(given, points, image, gradient, executor, layout());
    Case components = given;
    components.channels = axes;
    const Array field(given.items, axes, given.output, dtype_float64, layout());
    displace(request_of(components, points, nullptr, field), executor);
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
