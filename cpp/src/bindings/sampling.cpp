// Sampling, the displacement of every voxel, their transposes, and the voxels that they read.
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"

namespace elasticnd {
namespace {

// Whether an array differs from a view only in its address.
bool is_like(const View& view, const py::array& array) {
    return array.itemsize() == element_size[view.dtype] && array.ndim() == view.ndim &&
           std::equal(view.shape, view.shape + view.ndim, array.shape()) &&
           std::equal(view.stride, view.stride + view.ndim, array.strides());
}

void add(const py::array& array, Alike& alike) {
    alike.data.push_back(static_cast<char*>(const_cast<void*>(array.data())));
}

// Images with the same layout are sampled together, because all of them share the results of the transform.
void sample_into(const py::array& record, const std::vector<py::array>& images, const TransformArrays& arrays,
                 const std::vector<py::array>& outputs) {
    const Job job = job_of(record);
    if (images.size() != outputs.size()) reject("images and outputs differ in their number");
    for (const py::array& output : outputs) require_writeable(output);
    const Transform transform = transform_of(arrays);
    for (size_t i = 0; i < images.size();) {
        Alike from(view_of(images[i], job.dtype));
        Alike to(view_of(outputs[i], job.dtype));
        for (++i; i < images.size() && is_like(from.first, images[i]) && is_like(to.first, outputs[i]); ++i) {
            add(images[i], from);
            add(outputs[i], to);
        }
        const Request request(job, &from, to, transform);
        compute([&](Executor& executor) { sample_along(request.sampling, request.tangents, executor); });
    }
}

// Finds the first voxel and the extent of the region that each block of the output reads: (blocks, axes, 2).
py::array_t<int64> source_voxels(const py::array& record, const Integers& blocks, const TransformArrays& arrays) {
    Job job = job_of(record);
    const Geometry& geometry = job.geometry;
    const int64 axes = geometry.axes;
    if (blocks.ndim() != 3 || blocks.shape(1) != axes || blocks.shape(2) != 2) reject("blocks have the wrong shape");
    for (int64 i = 0; i < blocks.size(); ++i)
        if (blocks.data()[i] < i % 2 || blocks.data()[i] > int64(1) << 48) reject("a block is out of range");
    const Transform transform = transform_of(arrays);
    View items = {nullptr, job.dtype, static_cast<int>(axes) + 1, {}, {}};
    items.shape[0] =
        transform.control_points.size / std::max<int64>(1, axes * product(geometry.grid_shape, geometry.axes));
    std::copy_n(geometry.output, axes, items.shape + 1);
    job.batch_axes = 1;
    const Request request(job, nullptr, Alike(items), transform);
    const std::vector<int64> outputs(blocks.data(), blocks.data() + blocks.size());
    std::vector<Box> voxels(static_cast<size_t>(blocks.shape(0)));
    compute([&](Executor& executor) { find_source_voxels(request.sampling, outputs, voxels.data(), executor); });
    py::array_t<int64> result({blocks.shape(0), blocks.shape(1), blocks.shape(2)});
    int64* to = result.mutable_data();
    for (const Box& box : voxels)
        for (int64 k = 0; k < axes; ++k, to += 2) {
            to[0] = box.start[k];
            to[1] = box.extent[k];
        }
    return result;
}

py::object sample_adjoint_of(const py::array& record, const py::array& gradient, const std::optional<py::array>& image,
                             const TransformArrays& transform, const std::optional<py::array>& image_gradient) {
    const Job job = job_of(record);
    require_derivative(job);
    std::optional<Alike> from;
    if (image) from.emplace(view_of(*image, job.dtype));
    const Request request(job, from ? &*from : nullptr, Alike(view_of(gradient, job.dtype)), transform_of(transform));
    Gradients gradients = {};
    std::unique_ptr<PlanesOf> target;
    if (image_gradient) {
        require_writeable(*image_gradient);
        target = request.planes_of(Alike(view_of(*image_gradient, job.dtype)));
        gradients.image = &target->planes;
    }
    py::object of_transform = py::none();
    if (image) {
        const auto& [control_points, affine, tangents] = transform;
        Doubles of_points = zeros({control_points.shape(), control_points.shape() + control_points.ndim()});
        gradients.points = of_points.mutable_data();
        py::object of_affine = py::none();
        if (affine) {
            Doubles values = zeros({static_cast<py::ssize_t>(request.sampling.items), request.geometry().axes,
                                    request.geometry().axes + 1});
            gradients.affine = values.mutable_data();
            of_affine = values;
        }
        of_transform = py::make_tuple(of_points, of_affine);
    }
    compute([&](Executor& executor) { sample_adjoint_along(request.sampling, request.tangents, gradients, executor); });
    return of_transform;
}

void displace_into(const py::array& record, const Doubles& control_points, const py::array& output) {
    require_writeable(output);
    const Job job = job_of(record);
    const Request request(job, nullptr, Alike(view_of(output, job.dtype)), {numbers_of(control_points), {}, {}});
    request.require_channel_per_component();
    compute([&](Executor& executor) { displace(request.sampling, executor); });
}

void displace_adjoint_into(const py::array& record, const py::array& gradient, Doubles& control_points) {
    require_writeable(control_points);
    const Job job = job_of(record);
    const Request request(job, nullptr, Alike(view_of(gradient, job.dtype)), {numbers_of(control_points), {}, {}});
    request.require_channel_per_component();
    double* const to = control_points.mutable_data();
    std::fill_n(to, control_points.size(), 0.0);
    compute([&](Executor& executor) { displace_adjoint(request.sampling, to, executor); });
}

}  // namespace

void bind_sampling(py::module_& module) {
    module.def("sample", sample_into, Guard(), py::arg("job"), py::arg("images"), py::arg("transform"),
               py::arg("outputs"), "Write the deformed images, all of one job, to the outputs.");
    module.def("source_voxels", source_voxels, Guard(), py::arg("job"), py::arg("blocks"), py::arg("transform"),
               "Return which part of the image is read for each block of the output, as first voxel and extent along "
               "each axis.");
    module.def(
        "sample_adjoint", sample_adjoint_of, Guard(), py::arg("job"), py::arg("gradient"), py::arg("image").none(true),
        py::arg("transform"), py::arg("image_gradient").none(true),
        "Apply the adjoint of sample to the gradient of the output: write image_gradient and, with an image, return "
        "the gradients of the control points and, with an affine, of its inverse map, per batch item. In a part of an "
        "image, voxels that are not read keep their gradient.");
    module.def("displace", displace_into, Guard(), py::arg("job"), py::arg("control_points"), py::arg("output"),
               "Write the displacement of each voxel to the output.");
    module.def("displace_adjoint", displace_adjoint_into, Guard(), py::arg("job"), py::arg("gradient"),
               py::arg("control_points").noconvert(),
               "Apply the transpose of displace to the gradient, and write it to the control points.");
}

}  // namespace elasticnd
