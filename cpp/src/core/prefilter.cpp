// The prefilter without a deformation, with coefficients as separate arrays.
#include <cstring>

#include "core/core.hpp"

namespace elasticnd {
namespace {

// Copies the box of coefficients between two arrays of planes.
void copy_box(const Geometry& geometry, int64 planes, const Planes& from, const Planes& to) {
    const int inner = geometry.axes - 1;
    int64 rows = 1;
    for (int k = 0; k < inner; ++k) rows *= geometry.box_extent[k];
    for (int64 row = 0; row < planes * rows; ++row) {
        int64 rest = row % rows;
        const char* at = from.data + from.offset[row / rows];
        char* target = to.data + to.offset[row / rows];
        for (int k = inner - 1; k >= 0; --k) {
            at += rest % geometry.box_extent[k] * from.stride[k];
            target += rest % geometry.box_extent[k] * to.stride[k];
            rest /= geometry.box_extent[k];
        }
        const int64 size = to.dtype == dtype_float64 ? sizeof(double) : sizeof(float);
        for (int64 i = 0; i < geometry.box_extent[inner]; ++i)
            std::memcpy(target + i * to.stride[inner], at + i * from.stride[inner], static_cast<size_t>(size));
    }
}

// The planes of a whole box of coefficients, from the start of a smaller box.
Planes at_box(const Coefficients& coefficients, const Geometry& whole, const Geometry& geometry) {
    Planes planes = coefficients.planes();
    for (int k = 0; k < geometry.axes; ++k)
        planes.data += (geometry.box_start[k] - whole.box_start[k]) * planes.stride[k];
    return planes;
}

}  // namespace

void prefilter(const Job& job, int64 planes, const Planes& image, const Planes& coefficients, Executor& executor) {
    const Geometry& geometry = job.geometry;
    const auto use = job.filtered ? Coefficients::computed : Coefficients::unfiltered;
    Coefficients own(geometry, coefficients.dtype, planes, Coefficients::spaced, use);
    own.compute(image, executor);
    copy_box(geometry, planes, own.planes(), coefficients);
}

void prefilter_adjoint(const Job& job, int64 planes, const Planes& coefficients, const Planes& image,
                       Executor& executor) {
    const Geometry& geometry = job.geometry;
    const Geometry whole = with_whole_box(geometry);
    const auto use = job.filtered ? Coefficients::for_adjoint : Coefficients::unfiltered;
    Coefficients own(whole, coefficients.dtype, planes, Coefficients::spaced, use);
    own.clear(executor);
    copy_box(geometry, planes, coefficients, at_box(own, whole, geometry));
    own.compute_adjoint(image, executor);
}

}  // namespace elasticnd
