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
#include <string_view>
#include <vector>

#include "../include/elasticnd/boundary.hpp"
#include "core.hpp"

namespace py = pybind11;
using namespace elasticnd;

namespace {

using Doubles = py::array_t<double, py::array::c_style>;

[[noreturn]] void reject(const std::string& what) { throw py::value_error("elasticnd._core: " + what); }

constexpr int element_size[dtype_count] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};

// Not by the buffer protocol, which would describe every field anew at each call.
Geometry geometry_of(const py::array& record) {
    if (record.nbytes() != static_cast<py::ssize_t>(sizeof(Geometry))) reject("geometry has a wrong size");
    Geometry geometry;
    std::memcpy(&geometry, record.data(), sizeof geometry);
    if (geometry.axes < 1 || geometry.axes > max_axes) reject("axes out of range");
    if (geometry.order < 0 || geometry.order > max_order) reject("order out of range");
    if (geometry.mode < 0 || geometry.mode >= mode_count) reject("mode out of range");
    if (geometry.padding < 0 || geometry.padding > 1024) reject("padding out of range");
    constexpr int64 longest = int64(1) << 48;
    for (int k = 0; k < geometry.axes; ++k) {
        if (geometry.image[k] < 1 || geometry.image[k] > longest) reject("image extent out of range");
        if (geometry.points[k] < 1 || geometry.points[k] > longest) reject("control points out of range");
        if (geometry.output[k] < 0 || geometry.output[k] > longest) reject("output extent out of range");
        if (geometry.crop[k] < 0 || geometry.crop[k] > longest) reject("crop out of range");
        if (geometry.derivative[k] < 0) reject("derivative out of range");
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

// Integers of 32 bits and more, and doubles, are computed in doubles; the others in either type.
bool can_compute_in(int arithmetic, int dtype) {
    const bool wide = (dtype >= dtype_int32 && dtype <= dtype_uint64) || dtype == dtype_float64;
    return arithmetic == dtype_float64 || (arithmetic == dtype_float32 && !wide);
}

// Signals reach Python on its main thread alone. The others must not ask for the GIL in the middle of a run: while
// the process ends, they would never come back.
unsigned long main_thread = 0;

void remember_main_thread() {
    const py::object thread = py::module_::import("threading").attr("main_thread")();
    main_thread = thread.attr("ident").cast<unsigned long>();
}

// Runs `body(executor)` without the GIL. Ctrl-C ends it between two tasks.
template <class Body>
void compute(Body body) {
    std::function<bool()> ask;
    if (PyThread_get_thread_ident() == main_thread)
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

// A deformation, with what its pointers point to.
class Request {
   public:
    // Without an image, `output` stands in for it: nothing reads it then.
    Request(const py::array& record, const std::optional<py::array>& image, const py::array& output, int dtype,
            const Doubles& points, const std::optional<Doubles>& affine, int batch_axes, bool filtered, int arithmetic)
        : geometry(geometry_of(record)), output_(output, dtype, geometry, geometry.output, batch_axes) {
        if (!can_compute_in(arithmetic, dtype)) reject("the arithmetic is too narrow for the image");
        deformation.geometry = geometry;
        deformation.filtered = filtered;
        deformation.arithmetic = arithmetic;
        deformation.items = output_.items;
        deformation.channels = output_.channels;
        deformation.output = output_.planes;
        deformation.image = output_.planes;
        if (image) {
            image_.emplace(*image, dtype, geometry, geometry.image, batch_axes);
            require_same_planes(*image_);
            deformation.image = image_->planes;
        }
        set_points(points);
        set_affine(affine);
        deformation.fill_element = nullptr;
    }
    void require_same_planes(const PlanesOf& other) const {
        if (other.items != output_.items || other.channels != output_.channels)
            reject("image and output differ in their planes");
    }
    Geometry geometry;
    Deformation deformation;

   private:
    void set_points(const Doubles& points) {
        int64 size = output_.items * geometry.axes;
        for (int k = 0; k < geometry.axes; ++k) size *= geometry.points[k];
        if (points.size() != size) reject("the control grid has a wrong size");
        deformation.points = points.data();
    }
    void set_affine(const std::optional<Doubles>& affine) {
        deformation.affine = nullptr;
        deformation.affine_item_size = 0;
        if (!affine) return;
        const int64 size = geometry.axes * (geometry.axes + 1);
        if (affine->size() != size && affine->size() != size * output_.items) reject("the affine has a wrong size");
        deformation.affine = affine->data();
        if (affine->size() != size) deformation.affine_item_size = size;
    }
    PlanesOf output_;
    std::optional<PlanesOf> image_;
};

void sample_into(const py::array& geometry, const py::array& image, int dtype, const Doubles& points,
                 const std::optional<Doubles>& affine, const py::array& output, int batch_axes, bool filtered,
                 int arithmetic, const py::bytes& fill_element) {
    Request request(geometry, image, output, dtype, points, affine, batch_axes, filtered, arithmetic);
    require_writeable(output);
    const std::string_view fill = fill_element;
    if (fill.size() != static_cast<size_t>(element_size[dtype])) reject("the fill is no element of the image");
    request.deformation.fill_element = fill.data();
    compute([&](Executor& executor) { sample(request.deformation, executor); });
}

void displace_into(const py::array& geometry, const Doubles& points, const py::array& output, int batch_axes) {
    Request request(geometry, std::nullopt, output, dtype_float64, points, std::nullopt, batch_axes, true,
                    dtype_float64);
    require_writeable(output);
    if (request.deformation.channels != request.geometry.axes) reject("the output needs one channel per component");
    compute([&](Executor& executor) { displace(request.deformation, executor); });
}

py::object scatter_of(const py::array& geometry, const py::array& gradient, int dtype,
                      const std::optional<py::array>& image, const Doubles& points,
                      const std::optional<Doubles>& affine, const std::optional<py::array>& image_gradient,
                      int batch_axes, bool filtered, int arithmetic) {
    Request request(geometry, image, gradient, dtype, points, affine, batch_axes, filtered, arithmetic);
    Gradients gradients = {};
    std::optional<PlanesOf> target;
    if (image_gradient) {
        require_writeable(*image_gradient);
        target.emplace(*image_gradient, dtype, request.geometry, request.geometry.image, batch_axes);
        request.require_same_planes(*target);
        gradients.image = &target->planes;
    }
    py::object fields = py::none();
    if (image) {
        const py::ssize_t axes = request.geometry.axes;
        Doubles of_points(std::vector<py::ssize_t>(points.shape(), points.shape() + points.ndim()));
        std::fill_n(of_points.mutable_data(), of_points.size(), 0.0);
        gradients.points = of_points.mutable_data();
        py::object of_affine = py::none();
        if (affine) {
            Doubles values(
                std::vector<py::ssize_t>{static_cast<py::ssize_t>(request.deformation.items), axes, axes + 1});
            std::fill_n(values.mutable_data(), values.size(), 0.0);
            gradients.affine = values.mutable_data();
            of_affine = values;
        }
        fields = py::make_tuple(of_points, of_affine);
    }
    compute([&](Executor& executor) { scatter(request.deformation, gradients, executor); });
    return fields;
}

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
    require_box(shape);
    PlanesOf from(image, image_dtype, shape, shape.image, 0);
    PlanesOf to(coefficients, coefficients_dtype, shape, shape.box_extent, 0);
    require_writeable(coefficients);
    if (from.channels != to.channels) reject("image and coefficients differ in their planes");
    if (!can_compute_in(coefficients_dtype, image_dtype)) reject("coefficients are too narrow for the image");
    compute([&](Executor& executor) { prefilter(shape, from.channels, from.planes, to.planes, filtered, executor); });
}

void prefilter_adjoint_into(const py::array& geometry, const py::array& coefficients, int coefficients_dtype,
                            const py::array& image, int image_dtype, bool filtered) {
    const Geometry shape = geometry_of(geometry);
    require_box(shape);
    PlanesOf to(image, image_dtype, shape, shape.image, 0);
    PlanesOf from(coefficients, coefficients_dtype, shape, shape.box_extent, 0);
    require_writeable(image);
    if (from.channels != to.channels) reject("image and coefficients differ in their planes");
    if (!can_compute_in(coefficients_dtype, image_dtype)) reject("coefficients are too narrow for the image");
    compute(
        [&](Executor& executor) { prefilter_adjoint(shape, to.channels, from.planes, to.planes, filtered, executor); });
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

// By this threadpoolctl knows the library.
extern "C" PYBIND11_EXPORT int elasticnd_get_num_threads() { return get_threads(); }

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

    module.def("prefilter", prefilter_into, py::arg("geometry"), py::arg("image"), py::arg("image_dtype"),
               py::arg("coefficients"), py::arg("coefficients_dtype"), py::arg("filtered"),
               "Fills the coefficients, those in the geometry's box, from the image.");
    module.def("prefilter_adjoint", prefilter_adjoint_into, py::arg("geometry"), py::arg("coefficients"),
               py::arg("coefficients_dtype"), py::arg("image"), py::arg("image_dtype"), py::arg("filtered"),
               "Fills the image with the transpose of prefilter applied to the coefficients.");
    module.def("sample", sample_into, py::arg("geometry"), py::arg("image"), py::arg("dtype"), py::arg("points"),
               py::arg("affine").none(true), py::arg("output"), py::arg("batch_axes"), py::arg("filtered"),
               py::arg("arithmetic"), py::arg("fill_element"), "Fills the output with the deformed image.");
    module.def("displace", displace_into, py::arg("geometry"), py::arg("points"), py::arg("output"),
               py::arg("batch_axes"), "Fills the output with the displacement of each voxel.");
    module.def(
        "scatter", scatter_of, py::arg("geometry"), py::arg("gradient"), py::arg("dtype"), py::arg("image").none(true),
        py::arg("points"), py::arg("affine").none(true), py::arg("image_gradient").none(true), py::arg("batch_axes"),
        py::arg("filtered"), py::arg("arithmetic"),
        "Pulls the gradient of the output back: fills image_gradient, and with an image returns the gradients of "
        "the control points and, if there is one, per batch item of the affine map.");
    remember_main_thread();
    const py::module_ os = py::module_::import("os");
    if (py::hasattr(os, "register_at_fork"))
        os.attr("register_at_fork")(py::arg("after_in_child") = py::cpp_function(remember_main_thread));
}
