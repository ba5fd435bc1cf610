// Runs one kernel on a small volume, so that callgrind can count the instructions in `measured`. See
// tests/test_instructions.py.
#include <cstring>
#include <functional>

#include "support.hpp"

#if defined(__GNUC__)
#define APART __attribute__((noinline))
#else
#define APART
#endif

// A function name to pass to callgrind.
extern "C" APART void measured(const std::function<void()>& run) { run(); }

namespace {
using namespace elasticnd;

// Two-dimensional images with their channels last, for which everything from the image to the result is counted.
struct Picture {
    const char* kernel;
    int dtype;
    int64 channels;
    int order;
    int64 points;  // along each axis
};
constexpr Picture pictures[] = {{"gray 0", dtype_uint8, 1, 0, 3},
                                {"gray 1", dtype_uint8, 1, 1, 3},
                                {"gray 1, fine grid", dtype_uint8, 1, 1, 9},
                                {"RGB 0", dtype_uint8, 3, 0, 3},
                                {"RGB 1", dtype_uint8, 3, 1, 3},
                                {"RGB 3", dtype_uint8, 3, 3, 3},
                                {"float RGB 1", dtype_float32, 3, 1, 3},
                                {"float RGB 3", dtype_float32, 3, 3, 3}};

}  // namespace

int main(int count, char** arguments) {
    using namespace elasticnd;
    using namespace elasticnd::test;
    if (count != 3 || !choose_kernels(arguments[1])) return 2;
    const std::string kernel = arguments[2];
    const bool is_of_labels = kernel == "one label" || kernel == "labels";
    const Picture* picture = nullptr;
    for (const Picture& one : pictures)
        if (kernel == one.kernel) picture = &one;

    Random random(8);
    Serial serial;
    Case given;
    if (picture) {
        given.image = {128, 128};
        given.points = {picture->points, picture->points};
        given.order = picture->order;
        given.channels = picture->channels;
    } else {
        given.image = {48, 48, 48};
        given.points = {3, 3, 3};
        given.order = kernel == "rows" ? 0 : is_of_labels ? 1 : 3;
        given.filtered = false;
    }
    given.output = given.image;
    const int dtype = picture ? picture->dtype : is_of_labels ? dtype_uint8 : dtype_float32;
    Array image(1, given.channels, given.image, dtype, layout_channels_last);
    Array output(1, given.channels, given.image, dtype, layout_channels_last);
    image.fill(random, 0, picture ? 255 : kernel == "labels" ? 3 : kernel == "one label" ? 0 : 1);
    output.fill(random, 0, picture ? 255 : 1);
    const Doubles points = random.reals(static_cast<int64>(given.image.size()) * size_of(given.points), -5, 5);
    Doubles gradient(points.size());
    SampleRequest request = request_of(given, points, &image, output);
    request.job.geometry.votes = is_of_labels;

    if (picture || is_of_labels || kernel == "rows" || kernel == "gather")
        measured([&] { sample(request, serial); });
    else if (kernel == "prefilter")
        measured([&] {
            Coefficients coefficients(with_whole_box(request.job.geometry), dtype_float32, 1, Coefficients::spaced,
                                      Coefficients::computed);
            coefficients.compute(image.planes, serial);
        });
    else if (kernel == "spread")
        measured([&] { sample_adjoint(request, {&image.planes, nullptr, nullptr}, serial); });
    else if (kernel == "gradient")
        measured([&] { sample_adjoint(request, {nullptr, gradient.data(), nullptr}, serial); });
    else
        return 2;
    return 0;
}
