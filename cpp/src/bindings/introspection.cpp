// Information on the core: versions, limits, numbers shared with Python, and settings.
#include <cstddef>
#include <string>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "bindings/xla.hpp"
#include "elasticnd/boundary.hpp"
#include "elasticnd/launch.hpp"
#include "elasticnd/prefilter.hpp"

namespace elasticnd {
namespace {

py::dict xla_targets() {
    py::dict targets;
    for (const XlaHandler* handler = xla_handlers; handler->name; ++handler)
        targets[handler->name] = py::capsule(handler->function);
    return targets;
}

py::dict modes() {
    py::dict numbers;
    for (int mode = 0; mode < mode_count; ++mode) numbers[mode_names[mode]] = mode;
    return numbers;
}

py::list traits() {
    py::list all;
    for (int mode = 0; mode < mode_count; ++mode) {
        const ModeTraits of = mode_traits(mode);
        all.append(py::make_tuple(int(of.coordinates), int(of.coefficients), int(of.samples), of.pads, of.has_constant,
                                  of.ends_at_last_voxel));
    }
    return all;
}

// The region of the output that a block of threads works on, for this number of axes.
template <int AXES>
py::tuple tile() {
    using Tile = common::Tile<AXES>;
    return py::make_tuple(Tile::inner, Tile::second, Tile::third);
}

py::dict launch() {
    py::dict numbers;
    numbers["flat_threads"] = common::flat_threads;
    numbers["tile_threads"] = common::tile_threads;
    numbers["evaluation_threads"] = common::evaluation_threads;
    numbers["filter_threads"] = common::filter_threads;
    numbers["filter_lines"] = common::filter_lines;
    numbers["filter_length"] = common::filter_length;
    numbers["filter_stride"] = common::filter_stride;
    return numbers;
}

py::dict job_layout() {
    py::dict layout;
    const Job job = {};
    layout["size"] = sizeof job;
#define ELASTICND_FIELD(name) layout[#name] = py::make_tuple(offsetof(Job, name), sizeof(job.name));
    ELASTICND_JOB_FIELDS(ELASTICND_FIELD)
#undef ELASTICND_FIELD
    return layout;
}

}  // namespace

void bind_introspection(py::module_& module) {
    module.attr("version") = ELASTICND_VERSION;
    module.attr("max_axes") = max_axes;
    module.attr("max_order") = max_order;
    module.attr("modes") = modes();
    module.attr("mode_traits") = traits();
    module.attr("mode_padding") = mode_padding;
    module.attr("dtypes") = py::dict(py::arg("bool") = int(dtype_bool), py::arg("int8") = int(dtype_int8),
                                     py::arg("uint8") = int(dtype_uint8), py::arg("int16") = int(dtype_int16),
                                     py::arg("uint16") = int(dtype_uint16), py::arg("int32") = int(dtype_int32),
                                     py::arg("uint32") = int(dtype_uint32), py::arg("int64") = int(dtype_int64),
                                     py::arg("uint64") = int(dtype_uint64), py::arg("float16") = int(dtype_float16),
                                     py::arg("bfloat16") = int(dtype_bfloat16), py::arg("float32") = int(dtype_float32),
                                     py::arg("float64") = int(dtype_float64));
    module.def(
        "block_margin",
        [](int order, int compute_dtype) {
            return compute_dtype == dtype_float64 ? common::block_margin<double>(order)
                                                  : common::block_margin<float>(order);
        },
        py::arg("order"), py::arg("compute_dtype"),
        "Return how many samples beyond a block its coefficients depend on.");
    module.attr("launch") = launch();
    module.attr("tiles") = py::make_tuple(tile<0>(), tile<1>(), tile<2>(), tile<3>());
    module.def("job_layout", job_layout, "Return the size of Job, and the offset and size of each field.");
    module.def("get_num_threads", get_threads, "Return how many threads a call may use.");
    module.def("set_num_threads", set_threads, py::arg("threads"), "Set how many threads a call may use.");
    module.def("keep_to_thread", keep_to_thread, py::arg("keep"),
               "Set whether calls from this thread use only this thread; return the previous setting.");
    module.def("kernels", [] { return std::string(active_kernels().name); }, "Return the instruction set in use.");
    module.def("available_kernels", available_kernels, "Return the instruction sets that this processor can run.");
    module.def(
        "choose_kernels",
        [](const std::string& name) {
            if (!choose_kernels(name)) reject("unknown or unsupported kernels: " + name);
        },
        py::arg("name"), "Choose an instruction set by its name.");
    module.def("floating_point_state", floating_point_state, "Return the floating-point state of this thread.");
    module.def("default_floating_point_state", default_floating_point_state,
               "Return the state that defines results: rounding to nearest, with subnormal numbers.");
    module.def("set_floating_point_state", set_floating_point_state, py::arg("state"),
               "Set the floating-point state of this thread.");
    module.attr("xla_version") = py::make_tuple(xla_version[0], xla_version[1]);
    module.def("xla_targets", xla_targets,
               "Return the handlers for XLA by name; empty if compiled without its headers.");
}

}  // namespace elasticnd
