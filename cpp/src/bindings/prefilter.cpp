// The prefilter as a separate step, and its transpose.
#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"

namespace elasticnd {
namespace {

void prefilter_into(const py::array& record, const py::array& image, const py::array& coefficients) {
    require_writeable(coefficients);
    const Job job = job_of(record);
    const PrefilterRequest request(job, view_of(image, job.dtype), view_of(coefficients, job.compute_dtype));
    compute([&](Executor& executor) {
        prefilter(job, request.image.channels, request.image.planes, request.coefficients.planes, executor);
    });
}

void prefilter_adjoint_into(const py::array& record, const py::array& coefficients, const py::array& image) {
    require_writeable(image);
    const Job job = job_of(record);
    const PrefilterRequest request(job, view_of(image, job.dtype), view_of(coefficients, job.compute_dtype));
    compute([&](Executor& executor) {
        prefilter_adjoint(job, request.image.channels, request.coefficients.planes, request.image.planes, executor);
    });
}

}  // namespace

void bind_prefilter(py::module_& module) {
    module.def("prefilter", prefilter_into, Guard(), py::arg("job"), py::arg("image"), py::arg("coefficients"),
               "Compute the coefficients in the job's box from the image.");
    module.def("prefilter_adjoint", prefilter_adjoint_into, Guard(), py::arg("job"), py::arg("coefficients"),
               py::arg("image"), "Apply the transpose of prefilter to the coefficients, and write it to the image.");
}

}  // namespace elasticnd
