// A block of the output, computed from only the part of the image that it reads, has the bits of the whole output. The
// transpose of a block is checked with inner products.
#include "support.hpp"

namespace elasticnd {
namespace test {
namespace {

constexpr int64 longest[] = {0, 400, 90, 30, 9};

Case random_case(Random& random, int axes, int order, int mode) {
    Case given = random_patch(random, longest, axes, order, mode);
    given.filtered = random.integer(0, 3) != 0;
    given.beyond = 0.3;
    return given;
}

// Copies the part that begins at `first` in an array over `extent` to separate memory.
Array part_of(const Array& whole, const Shape& extent, int64 planes, const int64* first, const int64* part_extent,
              int dtype, int64 items, Layout layout) {
    const Shape shape(part_extent, part_extent + extent.size());
    Array part(items, planes / items, shape, dtype, layout);
    for (int64 i = 0; i < part.count; ++i) {
        int64 rest = i;
        int64 at = 0;
        int64 step = 1;
        for (size_t k = extent.size(); k-- > 0;) {
            at += (first[k] + rest % shape[k]) * step;
            rest /= shape[k];
            step *= extent[k];
        }
        part.set(i, whole.value(at + rest * step));
    }
    return part;
}

// Makes `part` the image of a request. The image's data begin where the whole image would begin.
void hold(SampleRequest& request, const Array& part, const Box& roi) {
    request.job.roi = roi;
    request.image = part.planes;
    for (int k = 0; k < request.job.geometry.axes; ++k) request.image.data -= roi.start[k] * part.planes.stride[k];
}

void run(Random& random, int axes, int order, int mode, int dtype, Executor& executor) {
    const Case given = random_case(random, axes, order, mode);
    const double scale = random.integer(0, 1) ? 2 : 40;
    const Doubles points = random.reals(given.items * axes * size_of(given.points), -scale, scale);
    Doubles affine = random.reals(axes * (axes + 1), -0.2, 0.2);
    for (int k = 0; k < axes; ++k) affine[static_cast<size_t>(k * (axes + 2))] += 1;
    Case moved = given;
    if (random.integer(0, 1)) moved.affine = affine.data();
    Array image(given.items, given.channels, given.image, dtype);
    image.fill(random, -1, 1);
    const Array whole = deform(moved, points, image, executor);

    SampleRequest request = request_of(moved, points, &image, whole);
    int64 first[max_axes];
    std::vector<int64> block;
    for (int k = 0; k < axes; ++k) {
        const int64 extent = given.output[static_cast<size_t>(k)];
        first[k] = random.integer(0, extent - 1);
        block.push_back(first[k]);
        block.push_back(random.integer(1, extent - first[k]));
    }
    Box voxels;
    find_source_voxels(request, block, &voxels, executor);
    for (int k = 0; k < axes; ++k) {
        request.job.geometry.start[k] += first[k];
        request.job.geometry.output[k] = block[static_cast<size_t>(2 * k + 1)];
    }
    const bool outside = voxels.extent[0] == 0;
    if (outside && mode == mode_constant) return;
    const int64 planes = given.items * given.channels;
    const Array expected =
        part_of(whole, given.output, planes, first, request.job.geometry.output, dtype, given.items, layout_c);
    const auto layout = Layout(random.integer(0, layout_count - 1));
    const Array part = part_of(image, given.image, planes, voxels.start, voxels.extent, dtype, given.items, layout);
    const Shape shape(request.job.geometry.output, request.job.geometry.output + axes);
    Array output(given.items, given.channels, shape, dtype, layout);
    request.output = output.planes;
    hold(request, part, voxels);
    sample(request, executor);
    CHECK(output.equals(expected), "a block, axes %d, order %d, mode %d, dtype %d", axes, order, mode, dtype);
    if (outside) return;

    Array gradient(given.items, given.channels, shape, dtype, layout);
    gradient.fill(random, -1, 1);
    Array results(given.items, given.channels, Shape(voxels.extent, voxels.extent + axes), dtype, layout);
    for (int64 i = 0; i < results.count; ++i) results.set(i, 0);
    Doubles of_points(points.size(), 0.0);
    Planes target = results.planes;
    for (int k = 0; k < axes; ++k) target.data -= voxels.start[k] * target.stride[k];
    request.output = gradient.planes;
    request.job.geometry.border_value = 0;
    sample_adjoint(request, {&target, of_points.data(), nullptr}, executor);
    Array linear(given.items, given.channels, shape, dtype, layout);
    request.output = linear.planes;
    sample(request, executor);
    const double tolerance = (dtype == dtype_float64 ? 1e-12 : 1e-4) * (1 + static_cast<double>(gradient.count));
    CHECK(std::abs(dot(linear, gradient) - dot(part, results)) <= tolerance,
          "transpose of a block, axes %d, order %d, mode %d, dtype %d", axes, order, mode, dtype);
}

}  // namespace

void test_parts() {
    Random random(7);
    PoolExecutor executor({});
    for (int round = 0; round < 4; ++round)
        for (int axes = 1; axes <= 4; ++axes)
            for (int order = 0; order <= max_order; ++order)
                for (int mode = 0; mode < mode_count; ++mode)
                    run(random, axes, order, mode, round % 2 ? dtype_float32 : dtype_float64, executor);
}

}  // namespace test
}  // namespace elasticnd
