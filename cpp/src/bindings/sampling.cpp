// Sampling, the displacement of every voxel, their transposes, and what they read.
#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"

namespace elasticnd {
namespace {

void sample_into(const py::array& geometry, const py::array& image, int dtype, const Doubles& points,
                 const std::optional<Doubles>& affine, const std::optional<Doubles>& fixed,
                 const DirectionArrays& directions, const py::array& output, int batch_axes, bool filtered,
                 int arithmetic, const py::bytes& fill_element, const std::optional<RegionOfInterest>& roi) {
    require_writeable(output);
    const View from = view_of(image, dtype);
    Request request({geometry_of(geometry), batch_axes, filtered, arithmetic}, &from, view_of(output, dtype),
                    {numbers_of(points), numbers_of(affine), numbers_of(fixed)}, directions_of(directions),
                    roi.value_or(RegionOfInterest{}));
    const std::string_view fill = fill_element;
    if (fill.size() != static_cast<size_t>(element_size[dtype])) reject("the fill is no element of the image");
    request.deformation.fill_element = fill.data();
    compute([&](Executor& executor) { sample_along(request.deformation, request.directions, executor); });
}

// First voxel and extent of what each block of the output reads: (blocks, axes, 2), as the blocks come.
py::array_t<int64> source_voxels(const py::array& record, const Integers& blocks, const Doubles& points,
                                 const std::optional<Doubles>& affine, const std::optional<Doubles>& fixed,
                                 bool filtered, int arithmetic) {
    const Geometry geometry = geometry_of(record);
    const int64 axes = geometry.axes;
    if (blocks.ndim() != 3 || blocks.shape(1) != axes || blocks.shape(2) != 2) reject("blocks have a wrong shape");
    for (int64 i = 0; i < blocks.size(); ++i)
        if (blocks.data()[i] < i % 2 || blocks.data()[i] > int64(1) << 48) reject("a block is out of range");
    View items = {nullptr, arithmetic, static_cast<int>(axes) + 1, {}, {}};
    items.shape[0] = points.size() / std::max<int64>(1, axes * product(geometry.points, geometry.axes));
    std::copy_n(geometry.output, axes, items.shape + 1);
    const Request request({geometry, 1, filtered, arithmetic}, nullptr, items,
                          {numbers_of(points), numbers_of(affine), numbers_of(fixed)});
    const std::vector<int64> outputs(blocks.data(), blocks.data() + blocks.size());
    std::vector<Box> voxels(static_cast<size_t>(blocks.shape(0)));
    compute([&](Executor& executor) { find_source_voxels(request.deformation, outputs, voxels.data(), executor); });
    py::array_t<int64> result({blocks.shape(0), blocks.shape(1), blocks.shape(2)});
    int64* to = result.mutable_data();
    for (const Box& box : voxels)
        for (int64 k = 0; k < axes; ++k, to += 2) {
            to[0] = box.start[k];
            to[1] = box.extent[k];
        }
    return result;
}

py::object scatter_of(const py::array& geometry, const py::array& gradient, int dtype,
                      const std::optional<py::array>& image, const Doubles& points,
                      const std::optional<Doubles>& affine, const std::optional<Doubles>& fixed,
                      const DirectionArrays& directions, const std::optional<py::array>& image_gradient, int batch_axes,
                      bool filtered, int arithmetic, const std::optional<RegionOfInterest>& roi) {
    std::optional<View> from;
    if (image) from = view_of(*image, dtype);
    Request request({geometry_of(geometry), batch_axes, filtered, arithmetic}, from ? &*from : nullptr,
                    view_of(gradient, dtype), {numbers_of(points), numbers_of(affine), numbers_of(fixed)},
                    directions_of(directions), roi.value_or(RegionOfInterest{}));
    Gradients gradients = {};
    std::unique_ptr<PlanesOf> target;
    if (image_gradient) {
        require_writeable(*image_gradient);
        target = request.planes_of(view_of(*image_gradient, dtype));
        gradients.image = &target->planes;
    }
    py::object fields = py::none();
    if (image) {
        Doubles of_points = zeros({points.shape(), points.shape() + points.ndim()});
        gradients.points = of_points.mutable_data();
        py::object of_affine = py::none();
        if (affine) {
            Doubles values = zeros({static_cast<py::ssize_t>(request.deformation.items), request.geometry().axes,
                                    request.geometry().axes + 1});
            gradients.affine = values.mutable_data();
            of_affine = values;
        }
        fields = py::make_tuple(of_points, of_affine);
    }
    compute([&](Executor& executor) { scatter_along(request.deformation, request.directions, gradients, executor); });
    return fields;
}

void displace_into(const py::array& geometry, const Doubles& points, const py::array& output, int batch_axes) {
    require_writeable(output);
    Request request({geometry_of(geometry), batch_axes, true, dtype_float64}, nullptr, view_of(output, dtype_float64),
                    {numbers_of(points), {}, {}});
    if (request.deformation.channels != request.geometry().axes) reject("the output needs one channel per component");
    compute([&](Executor& executor) { displace(request.deformation, executor); });
}

Doubles displace_adjoint_of(const py::array& geometry, const Doubles& gradient, const Doubles& points, int batch_axes) {
    Request request({geometry_of(geometry), batch_axes, true, dtype_float64}, nullptr, view_of(gradient, dtype_float64),
                    {numbers_of(points), {}, {}});
    if (request.deformation.channels != request.geometry().axes) reject("the gradient needs one channel per component");
    Doubles of_points = zeros({points.shape(), points.shape() + points.ndim()});
    double* const to = of_points.mutable_data();
    compute([&](Executor& executor) { displace_adjoint(request.deformation, to, executor); });
    return of_points;
}

}  // namespace

void bind_sampling(py::module_& module) {
    module.def("sample", sample_into, Guard(), py::arg("geometry"), py::arg("image"), py::arg("dtype"),
               py::arg("points"), py::arg("affine").none(true), py::arg("fixed").none(true), py::arg("directions"),
               py::arg("output"), py::arg("batch_axes"), py::arg("filtered"), py::arg("arithmetic"),
               py::arg("fill_element"), py::arg("roi").none(true),
               "Fills the output with the deformed image. Of a part of the image, `roi` tells first voxel and extent "
               "along each deformed axis.");
    module.def("source_voxels", source_voxels, Guard(), py::arg("geometry"), py::arg("blocks"), py::arg("points"),
               py::arg("affine").none(true), py::arg("fixed").none(true), py::arg("filtered"), py::arg("arithmetic"),
               "Returns what of the image is read for each of some blocks of the output, as first voxel and extent "
               "along each axis.");
    module.def(
        "sample_adjoint", scatter_of, Guard(), py::arg("geometry"), py::arg("gradient"), py::arg("dtype"),
        py::arg("image").none(true), py::arg("points"), py::arg("affine").none(true), py::arg("fixed").none(true),
        py::arg("directions"), py::arg("image_gradient").none(true), py::arg("batch_axes"), py::arg("filtered"),
        py::arg("arithmetic"), py::arg("roi").none(true),
        "Applies the adjoint of sample to the gradient of the output: fills image_gradient, and with an image returns "
        "the gradients of "
        "the control points and, if there is one, per batch item of the inverse of the affine map. Of a part of the "
        "image, `roi` "
        "tells first voxel and extent along each deformed axis; what is not read of it keeps its gradient.");
    module.def("displace", displace_into, Guard(), py::arg("geometry"), py::arg("points"), py::arg("output"),
               py::arg("batch_axes"), "Fills the output with the displacement of each voxel.");
    module.def("displace_adjoint", displace_adjoint_of, Guard(), py::arg("geometry"), py::arg("gradient"),
               py::arg("points"), py::arg("batch_axes"),
               "Returns the transpose of displace, applied to the gradient; points of any values.");
}

}  // namespace elasticnd
