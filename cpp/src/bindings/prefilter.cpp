// The coefficients of images as arrays of their own, and the transpose.
#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"

namespace elasticnd {
namespace {

void require_box(const Geometry& geometry) {
    const int64 border = border_of(geometry);
    for (int k = 0; k < geometry.axes; ++k) {
        const int64 stop = geometry.image[k] + 2 * geometry.padding + border;
        if (geometry.box_extent[k] < 1 || geometry.box_extent[k] > stop + border || geometry.box_start[k] < -border ||
            geometry.box_start[k] > stop - geometry.box_extent[k])
            reject("box out of range");
    }
}

void prefilter_into(const py::array& geometry, const py::array& image, int image_dtype, const py::array& coefficients,
                    int coefficients_dtype, bool filtered) {
    const Geometry shape = geometry_of(geometry);
    require_padding(shape, filtered);
    require_box(shape);
    PlanesOf from(view_of(image, image_dtype), shape, shape.image, 0);
    PlanesOf to(view_of(coefficients, coefficients_dtype), shape, shape.box_extent, 0);
    require_writeable(coefficients);
    if (from.channels != to.channels) reject("image and coefficients differ in their planes");
    require_wide_enough(coefficients_dtype, image_dtype);
    compute([&](Executor& executor) { prefilter(shape, from.channels, from.planes, to.planes, filtered, executor); });
}

void prefilter_adjoint_into(const py::array& geometry, const py::array& coefficients, int coefficients_dtype,
                            const py::array& image, int image_dtype, bool filtered) {
    const Geometry shape = geometry_of(geometry);
    require_padding(shape, filtered);
    require_box(shape);
    PlanesOf to(view_of(image, image_dtype), shape, shape.image, 0);
    PlanesOf from(view_of(coefficients, coefficients_dtype), shape, shape.box_extent, 0);
    require_writeable(image);
    if (from.channels != to.channels) reject("image and coefficients differ in their planes");
    require_wide_enough(coefficients_dtype, image_dtype);
    compute(
        [&](Executor& executor) { prefilter_adjoint(shape, to.channels, from.planes, to.planes, filtered, executor); });
}

}  // namespace

void bind_prefilter(py::module_& module) {
    module.def("prefilter", prefilter_into, Guard(), py::arg("geometry"), py::arg("image"), py::arg("image_dtype"),
               py::arg("coefficients"), py::arg("coefficients_dtype"), py::arg("filtered"),
               "Fills the coefficients, those in the geometry's box, from the image.");
    module.def("prefilter_adjoint", prefilter_adjoint_into, Guard(), py::arg("geometry"), py::arg("coefficients"),
               py::arg("coefficients_dtype"), py::arg("image"), py::arg("image_dtype"), py::arg("filtered"),
               "Fills the image with the transpose of prefilter applied to the coefficients.");
}

}  // namespace elasticnd
