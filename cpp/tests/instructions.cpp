// Runs one kernel on a small volume, for callgrind to count its instructions: those of `measured`. See
// tests/test_instructions.py.
#include <cstring>
#include <functional>

#include "support.hpp"

#if defined(__GNUC__)
#define APART __attribute__((noinline))
#else
#define APART
#endif

// A name that callgrind can be told.
extern "C" APART void measured(const std::function<void()>& run) { run(); }

int main(int count, char** arguments) {
    using namespace elasticnd;
    using namespace elasticnd::test;
    if (count != 3 || !choose_kernels(arguments[1])) return 2;
    const std::string kernel = arguments[2];

    Random random(8);
    Serial serial;
    Case given;
    given.image = given.output = {48, 48, 48};
    given.points = {3, 3, 3};
    given.order = kernel == "rows" ? 0 : 3;
    given.filtered = false;
    Array image(1, 1, given.image, dtype_float32);
    Array output(1, 1, given.image, dtype_float32);
    image.fill(random, 0, 1);
    output.fill(random, 0, 1);
    const Doubles points = random.reals(81, -5, 5);
    Doubles gradient(points.size());
    const SampleRequest request = request_of(given, points, &image, output);

    if (kernel == "rows" || kernel == "gather")
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
