// The prefilter around the ends of its blocks: the coefficients in a box have the bits of the whole, for any number of
// lines.
#include "support.hpp"

namespace elasticnd {
namespace test {
namespace {

void check_box(Random& random, const Geometry& geometry, const Array& image, const Array& whole, int64 planes,
               int arithmetic) {
    Serial serial;
    Box box;
    for (int k = 0; k < geometry.axes; ++k) {
        box.start[k] = random.integer(0, geometry.box_extent[k] - 1);
        box.extent[k] = random.integer(1, geometry.box_extent[k] - box.start[k]);
    }
    const Array part = coefficients_of(with_box(geometry, box), true, planes, image, arithmetic, serial);
    for (int64 i = 0; i < part.count; ++i) {
        const int64 row = i / box.extent[1] % box.extent[0];
        const int64 plane = i / box.extent[1] / box.extent[0];
        const int64 at = (plane * geometry.box_extent[0] + box.start[0] + row) * geometry.box_extent[1] + box.start[1] +
                         i % box.extent[1];
        CHECK(part.value(i) == whole.value(at), "order %d, mode %d, box from %d of %d: %.17g %.17g", geometry.order,
              geometry.mode, int(box.start[1]), int(box.extent[1]), part.value(i), whole.value(at));
    }
}

}  // namespace

void test_prefilter() {
    Random random(5);
    Serial serial;
    for (const int64 length : {1, 2, 3, 63, 64, 65, 127, 128, 129, 200, 257})
        for (int order = 2; order <= max_order; ++order)
            for (int mode = 0; mode < mode_count; ++mode)
                for (const int arithmetic : {dtype_float32, dtype_float64})
                    for (const bool last_axis : {false, true}) {
                        const int64 lines = random.integer(1, 2) == 1 ? random.integer(1, 5) : random.integer(15, 34);
                        Case given;
                        given.image = last_axis ? Shape{lines, length} : Shape{length, lines};
                        given.points = {1, 1};
                        given.order = order;
                        given.mode = mode;
                        given.beyond = 0.5;
                        given.channels = random.integer(1, 2);
                        const Layout layout = Layout(random.integer(0, layout_count - 1));
                        const int dtype = arithmetic == dtype_float32 ? dtype_uint8 : dtype_int32;
                        Array image(1, given.channels, given.image, dtype, layout);
                        image.fill(random, 0, 200);
                        const Geometry geometry = geometry_of(given);
                        const Array whole = coefficients_of(geometry, true, given.channels, image, arithmetic, serial);
                        check_box(random, geometry, image, whole, given.channels, arithmetic);
                    }
}

}  // namespace test
}  // namespace elasticnd
