// The Python module: checks shapes and types, releases the GIL, and calls the core. Arrays come with their axes in
// the core's order: batch axes, channel axes, deformed axes.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "../include/elasticnd/boundary.hpp"
#include "core.hpp"

namespace py = pybind11;
using namespace elasticnd;

namespace {

using Doubles = py::array_t<double, py::array::c_style>;

[[noreturn]] void reject(const std::string& what) { throw py::value_error("elasticnd._core: " + what); }

constexpr int element_size[dtype_count] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};

Geometry geometry_of(const py::buffer& buffer) {
    const py::buffer_info info = buffer.request();
    if (info.size * info.itemsize != static_cast<py::ssize_t>(sizeof(Geometry))) reject("geometry has a wrong size");
    Geometry geometry;
    std::memcpy(&geometry, info.ptr, sizeof geometry);
    if (geometry.axes < 1 || geometry.axes > max_axes) reject("axes out of range");
    if (geometry.order < 0 || geometry.order > max_order) reject("order out of range");
    if (geometry.mode < 0 || geometry.mode >= mode_count) reject("mode out of range");
    if (geometry.padding < 0 || geometry.padding > 1024) reject("padding out of range");
    constexpr int64 longest = int64(1) << 48;
    for (int k = 0; k < geometry.axes; ++k) {
        const int64 extent = geometry.image[k] + 2 * geometry.padding;
        if (geometry.image[k] < 1 || geometry.image[k] > longest) reject("image extent out of range");
        if (geometry.points[k] < 1 || geometry.points[k] > longest) reject("control points out of range");
        if (geometry.output[k] < 0 || geometry.output[k] > longest) reject("output extent out of range");
        if (geometry.crop[k] < 0 || geometry.crop[k] > longest) reject("crop out of range");
        if (geometry.derivative[k] < 0) reject("derivative out of range");
        if (geometry.box_start[k] < 0 || geometry.box_extent[k] < 1 ||
            geometry.box_start[k] > extent - geometry.box_extent[k])
            reject("box out of range");
    }
    return geometry;
}

// An array as planes over its last `axes` axes; keeps the table of offsets that it points to.
class PlanesOf {
   public:
    PlanesOf(const py::array& array, int dtype, const Geometry& geometry, const int64* extent, int batch_axes) {
        const int lead = static_cast<int>(array.ndim()) - geometry.axes;
        if (lead < batch_axes || batch_axes < 0) reject("an array has too few axes");
        if (dtype < 0 || dtype >= dtype_count || array.itemsize() != element_size[dtype])
            reject("an array has a wrong type");
        for (int k = 0; k < geometry.axes; ++k) {
            if (array.shape(lead + k) != extent[k]) reject("an array has a wrong shape");
            planes.stride[k] = array.strides(lead + k);
        }
        items = 1;
        channels = 1;
        offset_.push_back(0);
        for (int k = 0; k < lead; ++k) {
            (k < batch_axes ? items : channels) *= array.shape(k);
            std::vector<int64> next;
            next.reserve(offset_.size() * static_cast<size_t>(array.shape(k)));
            for (const int64 start : offset_)
                for (py::ssize_t i = 0; i < array.shape(k); ++i) next.push_back(start + i * array.strides(k));
            offset_.swap(next);
        }
        planes.data = static_cast<char*>(const_cast<void*>(array.data()));
        planes.dtype = dtype;
        planes.offset = offset_.data();
    }
    Planes planes;
    int64 items;
    int64 channels;

   private:
    std::vector<int64> offset_;
};

void require_writeable(const py::array& array) {
    if (!array.writeable()) reject("an output is read-only");
}

// Coefficients are read along the innermost axis as whole vectors.
void require_side_by_side(const Geometry& geometry, const Planes& planes) {
    const int inner = geometry.axes - 1;
    if (planes.dtype != dtype_float32 && planes.dtype != dtype_float64) reject("coefficients must be floats");
    if (geometry.box_extent[inner] > 1 && planes.stride[inner] != element_size[planes.dtype])
        reject("coefficients must be contiguous along the last axis");
    for (int k = 0; k < geometry.axes; ++k)
        if (planes.stride[k] <= 0) reject("coefficients must have positive strides");
}

// Integers of 32 bits and more, and doubles, are computed in doubles; the others in either type.
bool can_compute_in(int arithmetic, int dtype) {
    const bool wide = (dtype >= dtype_int32 && dtype <= dtype_uint64) || dtype == dtype_float64;
    return arithmetic == dtype_float64 || (arithmetic == dtype_float32 && !wide);
}

const double* grid_of(const Doubles& grid, const Geometry& geometry, int64 items) {
    int64 size = items * geometry.axes;
    for (int k = 0; k < geometry.axes; ++k) size *= geometry.points[k];
    if (grid.size() != size) reject("the control grid has a wrong size");
    return grid.data();
}

// Signals reach Python on its main thread alone. The others must not ask for the GIL in the middle of a run: while
// the process ends, they would never come back.
bool on_main_thread() {
    const py::object main_thread = py::module_::import("threading").attr("main_thread")();
    return main_thread.attr("ident").cast<unsigned long>() == PyThread_get_thread_ident();
}

// Runs `body(executor)` without the GIL. Ctrl-C ends it between two tasks.
template <class Body>
void compute(Body body) {
    std::function<bool()> ask;
    if (on_main_thread())
        ask = [] {
            py::gil_scoped_acquire acquired;
            return PyErr_CheckSignals() != 0;
        };
    std::exception_ptr error;
    // Not by a destructor: where the process has ended meanwhile, Python 3.13 and older unwind the thread from within
    // PyEval_RestoreThread, which a destructor would turn into an abort.
    PyThreadState* const state = PyEval_SaveThread();
    try {
        PoolExecutor executor(ask);
        body(executor);
    } catch (...) {
        error = std::current_exception();
    }
    PyEval_RestoreThread(state);
    if (!error) return;
    try {
        std::rethrow_exception(error);
    } catch (const Interrupted&) {
        throw py::error_already_set();
    }
}

// The parts of a SampleJob that all calls share; holds what its pointers point to.
class Request {
   public:
    Request(const py::buffer& geometry, const py::array& source, int source_dtype, const py::array& output,
            int output_dtype, const Doubles& grid, const std::optional<Doubles>& affine, int batch_axes)
        : geometry_(geometry_of(geometry)),
          source_(source, source_dtype, geometry_, geometry_.box_extent, batch_axes),
          output_(output, output_dtype, geometry_, geometry_.output, batch_axes) {
        if (source_.items != output_.items || source_.channels != output_.channels)
            reject("source and output differ in their planes");
        job.geometry = geometry_;
        job.items = output_.items;
        job.channels = output_.channels;
        job.source = source_.planes;
        job.output = output_.planes;
        job.fill_element = nullptr;
        set_affine(affine);
        grid_values = grid_of(grid, geometry_, job.items);
    }
    SampleJob job;
    const double* grid_values;

   private:
    void set_affine(const std::optional<Doubles>& affine) {
        job.affine = nullptr;
        job.affine_item_size = 0;
        if (!affine) return;
        const int64 size = geometry_.axes * (geometry_.axes + 1);
        if (affine->size() != size && affine->size() != size * job.items) reject("the affine has a wrong size");
        job.affine = affine->data();
        if (affine->size() != size) job.affine_item_size = size;
    }
    Geometry geometry_;
    PlanesOf source_;
    PlanesOf output_;
};

void sample_into(const py::buffer& geometry, const py::array& source, int source_dtype, const Doubles& grid,
                 const std::optional<Doubles>& affine, const py::array& output, int output_dtype, int batch_axes,
                 const py::bytes& fill_element) {
    Request request(geometry, source, source_dtype, output, output_dtype, grid, affine, batch_axes);
    require_writeable(output);
    const std::string fill = fill_element;
    if (request.job.geometry.order == 0) {
        if (source_dtype != output_dtype || fill.size() != static_cast<size_t>(element_size[source_dtype]))
            reject("order 0 copies elements: source, output and fill must have one type");
        request.job.fill_element = fill.data();
    } else if (request.job.geometry.order == 1) {
        if (source_dtype != output_dtype) reject("source and output differ in type");
    } else {
        require_side_by_side(request.job.geometry, request.job.source);
        if (!can_compute_in(source_dtype, output_dtype)) reject("coefficients are too narrow for the output");
    }
    compute([&](Executor& executor) { sample(request.job, request.grid_values, executor); });
}

void displace_into(const py::buffer& geometry, const Doubles& grid, const py::array& output, int batch_axes) {
    Geometry shape = geometry_of(geometry);
    PlanesOf planes(output, dtype_float64, shape, shape.output, batch_axes);
    require_writeable(output);
    if (planes.channels != shape.axes) reject("the output needs one channel per component");
    SampleJob job = {};
    job.geometry = shape;
    job.items = planes.items;
    job.channels = planes.channels;
    job.source = planes.planes;
    job.output = planes.planes;
    const double* values = grid_of(grid, shape, job.items);
    compute([&](Executor& executor) { displace(job, values, executor); });
}

void scatter_image_into(const py::buffer& geometry, const py::array& output, int output_dtype, const Doubles& grid,
                        const std::optional<Doubles>& affine, const py::array& coefficients, int coefficients_dtype,
                        int batch_axes) {
    Request request(geometry, coefficients, coefficients_dtype, output, output_dtype, grid, affine, batch_axes);
    require_writeable(coefficients);
    require_side_by_side(request.job.geometry, request.job.source);
    if (!can_compute_in(coefficients_dtype, output_dtype)) reject("coefficients are too narrow for the gradient");
    for (int k = 0; k < request.job.geometry.axes; ++k)
        if (request.job.geometry.box_start[k] != 0) reject("a scatter needs the whole coefficients");
    compute([&](Executor& executor) { scatter_image(request.job, request.grid_values, executor); });
}

py::tuple scatter_grid_of(const py::buffer& geometry, const py::array& output, int output_dtype,
                          const py::array& coefficients, int coefficients_dtype, const Doubles& grid,
                          const std::optional<Doubles>& affine, int batch_axes) {
    Request request(geometry, coefficients, coefficients_dtype, output, output_dtype, grid, affine, batch_axes);
    require_side_by_side(request.job.geometry, request.job.source);
    if (!can_compute_in(coefficients_dtype, output_dtype)) reject("coefficients are too narrow for the gradient");
    const py::ssize_t axes = request.job.geometry.axes;
    Doubles grid_gradient(std::vector<py::ssize_t>(grid.shape(), grid.shape() + grid.ndim()));
    Doubles affine_gradient(std::vector<py::ssize_t>{static_cast<py::ssize_t>(request.job.items), axes, axes + 1});
    std::fill_n(grid_gradient.mutable_data(), grid_gradient.size(), 0.0);
    std::fill_n(affine_gradient.mutable_data(), affine_gradient.size(), 0.0);
    double* to_grid = grid_gradient.mutable_data();
    double* to_affine = affine_gradient.mutable_data();
    compute([&](Executor& executor) { scatter_grid(request.job, request.grid_values, to_grid, to_affine, executor); });
    return py::make_tuple(grid_gradient, affine_gradient);
}

using IntTuple = std::vector<int64>;

py::tuple as_tuple(const Geometry& geometry, const Box& box) {
    return py::make_tuple(py::tuple(py::cast(IntTuple(box.start, box.start + geometry.axes))),
                          py::tuple(py::cast(IntTuple(box.extent, box.extent + geometry.axes))));
}

py::tuple source_box(const py::buffer& geometry, const Doubles& grid, const std::optional<Doubles>& affine,
                     int64 items) {
    const Geometry shape = geometry_of(geometry);
    OutputPart part = {};
    for (int k = 0; k < shape.axes; ++k) part.last[k] = shape.output[k];
    const double* values = grid_of(grid, shape, items);
    const int64 size = shape.axes * (shape.axes + 1);
    if (affine && affine->size() != size && affine->size() != size * items) reject("the affine has a wrong size");
    const int64 item_size = affine && affine->size() != size ? size : 0;
    Box box;
    compute([&](Executor&) {
        box = find_source_box(shape, part, 0, items, values, affine ? affine->data() : nullptr, item_size);
    });
    return as_tuple(shape, box);
}

py::tuple held(const py::buffer& geometry, int dtype, bool filtered) {
    const Geometry shape = geometry_of(geometry);
    return as_tuple(shape, held_box(shape, dtype, filtered));
}

void prefilter_into(const py::buffer& geometry, const py::array& image, int image_dtype, const py::array& coefficients,
                    int coefficients_dtype, bool filtered) {
    const Geometry shape = geometry_of(geometry);
    const Box box = held_box(shape, coefficients_dtype, filtered);
    PlanesOf from(image, image_dtype, shape, shape.image, 0);
    PlanesOf to(coefficients, coefficients_dtype, shape, box.extent, 0);
    require_writeable(coefficients);
    require_side_by_side(shape, to.planes);
    if (from.channels != to.channels) reject("image and coefficients differ in their planes");
    if (!can_compute_in(coefficients_dtype, image_dtype)) reject("coefficients are too narrow for the image");
    compute(
        [&](Executor& executor) { prefilter(shape, filtered, from.channels, from.planes, to.planes, box, executor); });
}

void prefilter_adjoint_into(const py::buffer& geometry, const py::array& coefficients, int coefficients_dtype,
                            const py::array& image, int image_dtype, bool filtered) {
    const Geometry shape = geometry_of(geometry);
    PlanesOf to(image, image_dtype, shape, shape.image, 0);
    PlanesOf from(coefficients, coefficients_dtype, shape, shape.box_extent, 0);
    require_writeable(coefficients);
    require_writeable(image);
    require_side_by_side(shape, from.planes);
    if (from.channels != to.channels) reject("image and coefficients differ in their planes");
    if (!can_compute_in(coefficients_dtype, image_dtype)) reject("coefficients are too narrow for the image");
    for (int k = 0; k < shape.axes; ++k)
        if (shape.box_extent[k] != shape.image[k] + 2 * shape.padding) reject("the adjoint needs whole coefficients");
    compute(
        [&](Executor& executor) { prefilter_adjoint(shape, filtered, to.channels, from.planes, to.planes, executor); });
}

py::dict geometry_layout() {
    py::dict layout;
    layout["size"] = sizeof(Geometry);
#define ELASTICND_FIELD(name) layout[#name] = py::make_tuple(offsetof(Geometry, name), sizeof(Geometry::name))
    ELASTICND_FIELD(axes);
    ELASTICND_FIELD(order);
    ELASTICND_FIELD(mode);
    ELASTICND_FIELD(padding);
    ELASTICND_FIELD(derivative);
    ELASTICND_FIELD(image);
    ELASTICND_FIELD(points);
    ELASTICND_FIELD(crop);
    ELASTICND_FIELD(output);
    ELASTICND_FIELD(box_start);
    ELASTICND_FIELD(box_extent);
    ELASTICND_FIELD(fill);
    ELASTICND_FIELD(beyond);
#undef ELASTICND_FIELD
    return layout;
}

}  // namespace

PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
    module.doc() = "The compiled core of elasticnd. Not public: use the functions of the package.";
    module.attr("version") = ELASTICND_VERSION;
    module.attr("max_axes") = max_axes;
    module.attr("modes") = py::dict(
        py::arg("constant") = int(mode_constant), py::arg("nearest") = int(mode_nearest),
        py::arg("reflect") = int(mode_reflect), py::arg("mirror") = int(mode_mirror), py::arg("wrap") = int(mode_wrap),
        py::arg("grid_constant") = int(mode_grid_constant), py::arg("grid_wrap") = int(mode_grid_wrap));
    module.attr("dtypes") = py::dict(py::arg("bool") = int(dtype_bool), py::arg("int8") = int(dtype_int8),
                                     py::arg("uint8") = int(dtype_uint8), py::arg("int16") = int(dtype_int16),
                                     py::arg("uint16") = int(dtype_uint16), py::arg("int32") = int(dtype_int32),
                                     py::arg("uint32") = int(dtype_uint32), py::arg("int64") = int(dtype_int64),
                                     py::arg("uint64") = int(dtype_uint64), py::arg("float16") = int(dtype_float16),
                                     py::arg("bfloat16") = int(dtype_bfloat16), py::arg("float32") = int(dtype_float32),
                                     py::arg("float64") = int(dtype_float64));
    module.def("geometry_layout", geometry_layout, "Size of Geometry, and offset and size of each of its fields.");

    module.def("get_num_threads", get_threads, "How many threads a call may use.");
    module.def("set_num_threads", set_threads, py::arg("threads"), "Sets how many threads a call may use.");
    module.def("kernels", [] { return std::string(active_kernels().name); }, "The instruction set in use.");
    module.def("available_kernels", available_kernels, "The instruction sets that this processor can run.");
    module.def(
        "choose_kernels",
        [](const std::string& name) {
            if (!choose_kernels(name)) reject("no such kernels here: " + name);
        },
        py::arg("name"), "Chooses an instruction set by its name.");

    module.def("source_box", source_box, py::arg("geometry"), py::arg("grid"), py::arg("affine").none(true),
               py::arg("items"), "Start and extent of a box that holds every coefficient which sampling reads.");
    module.def("held_box", held, py::arg("geometry"), py::arg("dtype"), py::arg("filtered"),
               "Start and extent of what must be held to compute the coefficients in the geometry's box.");
    module.def("prefilter", prefilter_into, py::arg("geometry"), py::arg("image"), py::arg("image_dtype"),
               py::arg("coefficients"), py::arg("coefficients_dtype"), py::arg("filtered"),
               "Fills the coefficients, of the shape of held_box, from the image.");
    module.def("prefilter_adjoint", prefilter_adjoint_into, py::arg("geometry"), py::arg("coefficients"),
               py::arg("coefficients_dtype"), py::arg("image"), py::arg("image_dtype"), py::arg("filtered"),
               "Fills the image with the transpose of prefilter applied to the coefficients, which it overwrites.");
    module.def("sample", sample_into, py::arg("geometry"), py::arg("source"), py::arg("source_dtype"), py::arg("grid"),
               py::arg("affine").none(true), py::arg("output"), py::arg("output_dtype"), py::arg("batch_axes"),
               py::arg("fill_element"), "Fills the output from the coefficients, or from the image at orders 0 and 1.");
    module.def("displace", displace_into, py::arg("geometry"), py::arg("grid"), py::arg("output"),
               py::arg("batch_axes"), "Fills the output with the displacement of each voxel.");
    module.def("scatter_image", scatter_image_into, py::arg("geometry"), py::arg("output"), py::arg("output_dtype"),
               py::arg("grid"), py::arg("affine").none(true), py::arg("coefficients"), py::arg("coefficients_dtype"),
               py::arg("batch_axes"), "Adds the transpose of sample applied to the output to the coefficients.");
    module.def("scatter_grid", scatter_grid_of, py::arg("geometry"), py::arg("output"), py::arg("output_dtype"),
               py::arg("coefficients"), py::arg("coefficients_dtype"), py::arg("grid"), py::arg("affine").none(true),
               py::arg("batch_axes"), "Gradients of <output, sample> for the control grid and the affine matrix.");
}
