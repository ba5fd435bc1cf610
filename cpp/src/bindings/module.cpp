// The Python module: checks shapes and types, releases the GIL, and calls the core. Arrays come with their axes in
// the core's order: batch axes, channel axes, deformed axes.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/request.hpp"
#include "bindings/xla.hpp"
#include "elasticnd/boundary.hpp"
#include "elasticnd/prefilter.hpp"
#include "runtime/floating_point.hpp"

namespace py = pybind11;
using namespace elasticnd;

namespace {

constexpr int plain_array = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
using Doubles = py::array_t<double, plain_array>;
using Integers = py::array_t<int64, plain_array>;

// Not by the buffer protocol, which would describe every field anew at each call.
Geometry geometry_of(const py::array& record) { return checked_geometry(record.data(), record.nbytes()); }

View view_of(const py::array& array, int dtype) {
    if (dtype < 0 || dtype >= dtype_count || array.itemsize() != element_size[dtype])
        reject("an array has a wrong type");
    View view;
    if (array.ndim() > static_cast<py::ssize_t>(std::size(view.shape))) reject("an array has too many axes");
    view.data = const_cast<void*>(array.data());
    view.dtype = dtype;
    view.ndim = static_cast<int>(array.ndim());
    std::copy_n(array.shape(), view.ndim, view.shape);
    std::copy_n(array.strides(), view.ndim, view.stride);
    return view;
}

Numbers numbers_of(const Doubles& array) { return {array.data(), array.size()}; }
Numbers numbers_of(const std::optional<Doubles>& array) { return array ? numbers_of(*array) : Numbers{nullptr, 0}; }

using DirectionArrays = std::vector<std::pair<Doubles, std::optional<Doubles>>>;

std::vector<DirectionNumbers> directions_of(const DirectionArrays& arrays) {
    std::vector<DirectionNumbers> directions;
    for (const auto& [points, affine] : arrays) directions.push_back({numbers_of(points), numbers_of(affine)});
    return directions;
}

void require_writeable(const py::array& array) {
    if (!array.writeable()) reject("an output is read-only");
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

void sample_into(const py::array& geometry, const py::array& image, int dtype, const Doubles& points,
                 const std::optional<Doubles>& affine, const std::optional<Doubles>& fixed,
                 const DirectionArrays& directions, const py::array& output, int batch_axes, bool filtered,
                 int arithmetic, const py::bytes& fill_element, const std::optional<HeldVoxels>& held) {
    require_writeable(output);
    const View from = view_of(image, dtype);
    Request request({geometry_of(geometry), batch_axes, filtered, arithmetic}, &from, view_of(output, dtype),
                    {numbers_of(points), numbers_of(affine), numbers_of(fixed)}, directions_of(directions),
                    held.value_or(HeldVoxels{}));
    const std::string_view fill = fill_element;
    if (fill.size() != static_cast<size_t>(element_size[dtype])) reject("the fill is no element of the image");
    request.deformation.fill_element = fill.data();
    compute([&](Executor& executor) { sample_along(request.deformation, request.directions, executor); });
}

void displace_into(const py::array& geometry, const Doubles& points, const py::array& output, int batch_axes) {
    require_writeable(output);
    Request request({geometry_of(geometry), batch_axes, true, dtype_float64}, nullptr, view_of(output, dtype_float64),
                    {numbers_of(points), {}, {}});
    if (request.deformation.channels != request.geometry().axes) reject("the output needs one channel per component");
    compute([&](Executor& executor) { displace(request.deformation, executor); });
}

Doubles zeros(std::vector<py::ssize_t> shape) {
    Doubles array(std::move(shape));
    std::fill_n(array.mutable_data(), array.size(), 0.0);
    return array;
}

Doubles displace_adjoint_of(const py::array& geometry, const Doubles& gradient, const Doubles& points, int batch_axes) {
    Request request({geometry_of(geometry), batch_axes, true, dtype_float64}, nullptr, view_of(gradient, dtype_float64),
                    {numbers_of(points), {}, {}});
    if (request.deformation.channels != request.geometry().axes) reject("the gradient needs one channel per component");
    Doubles pulled = zeros({points.shape(), points.shape() + points.ndim()});
    double* const to = pulled.mutable_data();
    compute([&](Executor& executor) { displace_adjoint(request.deformation, to, executor); });
    return pulled;
}

py::object scatter_of(const py::array& geometry, const py::array& gradient, int dtype,
                      const std::optional<py::array>& image, const Doubles& points,
                      const std::optional<Doubles>& affine, const std::optional<Doubles>& fixed,
                      const DirectionArrays& directions, const std::optional<py::array>& image_gradient, int batch_axes,
                      bool filtered, int arithmetic, const std::optional<HeldVoxels>& held) {
    std::optional<View> from;
    if (image) from = view_of(*image, dtype);
    Request request({geometry_of(geometry), batch_axes, filtered, arithmetic}, from ? &*from : nullptr,
                    view_of(gradient, dtype), {numbers_of(points), numbers_of(affine), numbers_of(fixed)},
                    directions_of(directions), held.value_or(HeldVoxels{}));
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

EvaluationRequest evaluation_of(const py::array& record, const Doubles& positions, int order) {
    const Geometry geometry = geometry_of(record);
    if (positions.ndim() != 3 || positions.shape(2) != geometry.axes) reject("positions have a wrong shape");
    return EvaluationRequest(geometry, order, positions.shape(0), numbers_of(positions));
}

Doubles evaluate_at(const py::array& geometry, const Doubles& points, const Doubles& positions, int order) {
    const EvaluationRequest request = evaluation_of(geometry, positions, order);
    if (points.size() != request.points) reject("the control grid has a wrong size");
    Doubles values({positions.shape(0), positions.shape(1), positions.shape(2), py::ssize_t(request.derivatives)});
    double* to = values.mutable_data();
    compute([&](Executor& executor) { evaluate(request.evaluation, points.data(), to, executor); });
    return values;
}

Doubles evaluate_adjoint_at(const py::array& geometry, const Doubles& gradient, const Doubles& positions, int order) {
    const EvaluationRequest request = evaluation_of(geometry, positions, order);
    if (gradient.size() != positions.size() * request.derivatives) reject("the gradient has a wrong size");
    const Geometry& grid = request.evaluation.geometry;
    std::vector<py::ssize_t> shape = {positions.shape(0), grid.axes};
    shape.insert(shape.end(), grid.points, grid.points + grid.axes);
    Doubles points = zeros(std::move(shape));
    double* to = points.mutable_data();
    compute([&](Executor& executor) { evaluate_adjoint(request.evaluation, gradient.data(), to, executor); });
    return points;
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

py::dict xla_targets() {
    py::dict targets;
    for (const XlaHandler* handler = xla_handlers; handler->name; ++handler)
        targets[handler->name] = py::capsule(handler->function);
    return targets;
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
    ELASTICND_FIELD(start);
    ELASTICND_FIELD(output);
    ELASTICND_FIELD(origin);
    ELASTICND_FIELD(box_start);
    ELASTICND_FIELD(box_extent);
    ELASTICND_FIELD(fill);
    ELASTICND_FIELD(beyond);
#undef ELASTICND_FIELD
    return layout;
}

}  // namespace

namespace {

constexpr const char* one_interpreter =
    "elasticnd cannot be imported in a subinterpreter: its compiled core belongs to the main interpreter. Use threads "
    "or "
    "processes instead.";

bool in_main_interpreter() { return PyInterpreterState_Get() == PyInterpreterState_Main(); }

using Guard = py::call_guard<DefaultFloatingPoint>;

}  // namespace

// By this threadpoolctl knows the library.
extern "C" PYBIND11_EXPORT int elasticnd_get_num_threads() { return get_threads(); }

// The entry point of pybind11 waits for the GIL of the main interpreter, which is why a subinterpreter must not get
// there.
#define PyInit__core init_in_main_interpreter
PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
    if (!in_main_interpreter()) throw py::import_error(one_interpreter);  // Python 3.13 enters from the main one
    module.doc() = "The compiled core of elasticnd. Not public: use the functions of the package.";
    module.attr("version") = ELASTICND_VERSION;
    module.attr("max_axes") = max_axes;
    module.attr("max_order") = max_order;
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
    module.def(
        "block_margin",
        [](int order, int arithmetic) {
            return arithmetic == dtype_float64 ? common::block_margin<double>(order)
                                               : common::block_margin<float>(order);
        },
        py::arg("order"), py::arg("arithmetic"), "Samples beyond a block of coefficients that these depend on.");
    module.def("geometry_layout", geometry_layout, "Size of Geometry, and offset and size of each of its fields.");

    module.def("get_num_threads", get_threads, "How many threads a call may use.");
    module.def("set_num_threads", set_threads, py::arg("threads"), "Sets how many threads a call may use.");
    module.def("keep_to_thread", keep_to_thread, py::arg("keep"),
               "Sets whether calls from this thread keep to it; returns what was set before.");
    module.def("kernels", [] { return std::string(active_kernels().name); }, "The instruction set in use.");
    module.def("available_kernels", available_kernels, "The instruction sets that this processor can run.");
    module.def(
        "choose_kernels",
        [](const std::string& name) {
            if (!choose_kernels(name)) reject("no such kernels here: " + name);
        },
        py::arg("name"), "Chooses an instruction set by its name.");

    module.def("prefilter", prefilter_into, Guard(), py::arg("geometry"), py::arg("image"), py::arg("image_dtype"),
               py::arg("coefficients"), py::arg("coefficients_dtype"), py::arg("filtered"),
               "Fills the coefficients, those in the geometry's box, from the image.");
    module.def("prefilter_adjoint", prefilter_adjoint_into, Guard(), py::arg("geometry"), py::arg("coefficients"),
               py::arg("coefficients_dtype"), py::arg("image"), py::arg("image_dtype"), py::arg("filtered"),
               "Fills the image with the transpose of prefilter applied to the coefficients.");
    module.def("sample", sample_into, Guard(), py::arg("geometry"), py::arg("image"), py::arg("dtype"),
               py::arg("points"), py::arg("affine").none(true), py::arg("fixed").none(true), py::arg("directions"),
               py::arg("output"), py::arg("batch_axes"), py::arg("filtered"), py::arg("arithmetic"),
               py::arg("fill_element"), py::arg("held").none(true),
               "Fills the output with the deformed image. Of a part of the image, `held` tells first voxel and extent "
               "along each deformed axis.");
    module.def("source_voxels", source_voxels, Guard(), py::arg("geometry"), py::arg("blocks"), py::arg("points"),
               py::arg("affine").none(true), py::arg("fixed").none(true), py::arg("filtered"), py::arg("arithmetic"),
               "Returns what of the image is read for each of some blocks of the output, as first voxel and extent "
               "along each axis.");
    module.def("displace", displace_into, Guard(), py::arg("geometry"), py::arg("points"), py::arg("output"),
               py::arg("batch_axes"), "Fills the output with the displacement of each voxel.");
    module.def("displace_adjoint", displace_adjoint_of, Guard(), py::arg("geometry"), py::arg("gradient"),
               py::arg("points"), py::arg("batch_axes"),
               "Returns the transpose of displace, applied to the gradient; points of any values.");
    module.def(
        "evaluate", evaluate_at, Guard(), py::arg("geometry"), py::arg("points"), py::arg("positions"),
        py::arg("order"),
        "Returns all derivatives of one order of the displacement at positions: (items, count, axes, axes ^ order).");
    module.def("evaluate_adjoint", evaluate_adjoint_at, Guard(), py::arg("geometry"), py::arg("gradient"),
               py::arg("positions"), py::arg("order"), "Returns the transpose of evaluate, applied to the gradient.");
    module.def(
        "scatter", scatter_of, Guard(), py::arg("geometry"), py::arg("gradient"), py::arg("dtype"),
        py::arg("image").none(true), py::arg("points"), py::arg("affine").none(true), py::arg("fixed").none(true),
        py::arg("directions"), py::arg("image_gradient").none(true), py::arg("batch_axes"), py::arg("filtered"),
        py::arg("arithmetic"), py::arg("held").none(true),
        "Pulls the gradient of the output back: fills image_gradient, and with an image returns the gradients of "
        "the control points and, if there is one, per batch item of the inverse of the affine map. Of a part of the "
        "image, `held` "
        "tells first voxel and extent along each deformed axis; what is not read of it keeps its gradient.");
    module.def("floating_point_state", floating_point_state, "How this thread rounds, as the processor has it.");
    module.def("default_floating_point_state", default_floating_point_state,
               "The state that results are defined by: to nearest, and tiny numbers are no zeros.");
    module.def("set_floating_point_state", set_floating_point_state, py::arg("state"), "Sets how this thread rounds.");
    module.attr("xla_version") = py::make_tuple(xla_version[0], xla_version[1]);
    module.def("xla_targets", xla_targets,
               "The handlers for XLA by their names; none if compiled without its headers.");
    remember_main_thread();
    const py::module_ os = py::module_::import("os");
    if (py::hasattr(os, "register_at_fork"))
        os.attr("register_at_fork")(py::arg("after_in_child") = py::cpp_function(remember_main_thread));
}
#undef PyInit__core

extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
    if (in_main_interpreter()) return init_in_main_interpreter();
    PyErr_SetString(PyExc_ImportError, one_interpreter);
    return nullptr;
}
