#include "support.hpp"

#include <algorithm>
#include <cstring>

namespace elasticnd {
namespace test {

long checks = 0;

int64 size_of(const Shape& shape) {
    int64 size = 1;
    for (const int64 extent : shape) size *= extent;
    return size;
}

// ---- arrays ---------------------------------------------------------------------------------------------------------

Array::Array(int64 items, int64 channels, const Shape& extent, int dtype, Layout layout) : extent_(extent) {
    const int axes = static_cast<int>(extent.size());
    const int64 item = item_sizes[dtype];
    const int64 plane = size_of(extent) * item;
    count = items * channels * size_of(extent);
    bytes_ = items * channels * plane;
    const int64 start = layout == layout_unaligned ? 1 : 0;
    memory_ = std::make_unique<char[]>(static_cast<size_t>(bytes_ + start));
    planes.data = memory_.get() + start;
    planes.dtype = dtype;
    int64 step = layout == layout_channels_last ? channels * item : item;
    for (int i = 0; i < axes; ++i) {
        const int k = layout == layout_fortran ? i : axes - 1 - i;
        planes.stride[k] = step;
        step *= extent[static_cast<size_t>(k)];
    }
    if (layout == layout_reversed && count > 0)
        for (int k = 0; k < axes; ++k) {
            planes.data += (extent[static_cast<size_t>(k)] - 1) * planes.stride[k];
            planes.stride[k] = -planes.stride[k];
        }
    for (int64 p = 0; p < items * channels; ++p)
        offset_.push_back(layout == layout_channels_last ? p / channels * channels * plane + p % channels * item
                                                         : p * plane);
    offset_.shrink_to_fit();
    planes.offset = offset_.data();
}

char* Array::element(int64 index) const {
    const int64 plane = size_of(extent_);
    char* at = planes.data + planes.offset[index / plane];
    index %= plane;
    for (int k = static_cast<int>(extent_.size()) - 1; k >= 0; --k) {
        const int64 extent = extent_[static_cast<size_t>(k)];
        at += index % extent * planes.stride[k];
        index /= extent;
    }
    return at;
}

double Array::value(int64 index) const {
    double value;
    active_kernels().load_row(planes.dtype, element(index), 0, 1, dtype_float64, reinterpret_cast<char*>(&value));
    return value;
}

void Array::set(int64 index, double value) {
    active_kernels().store_row(dtype_float64, reinterpret_cast<const char*>(&value), 1, planes.dtype, element(index),
                               0);
}

void Array::fill(Random& random, double low, double high) {
    for (int64 i = 0; i < count; ++i) set(i, random.real(low, high));
}

void Array::fill_bits(Random& random) {
    for (int64 i = 0; i < count; ++i)
        for (int b = 0; b < item_sizes[planes.dtype]; ++b)
            element(i)[b] = static_cast<char>(random.integer(0, planes.dtype == dtype_bool ? 1 : 255));
}

bool Array::equals(const Array& other) const {
    if (count != other.count || planes.dtype != other.planes.dtype) return false;
    for (int64 i = 0; i < count; ++i)
        if (std::memcmp(element(i), other.element(i), static_cast<size_t>(item_sizes[planes.dtype])) != 0) return false;
    return true;
}

double dot(const Array& a, const Array& b) {
    double sum = 0;
    for (int64 i = 0; i < a.count; ++i) sum += a.value(i) * b.value(i);
    return sum;
}

// ---- the steps of a deformation -------------------------------------------------------------------------------------

Case random_patch(Random& random, const int64* longest, int axes, int order, int mode) {
    Case given;
    given.order = order;
    given.mode = mode;
    given.image = random.shape(axes, 1, longest[axes]);
    given.points = random.shape(axes, 1, 4);
    for (const int64 extent : given.image) {
        given.start.push_back(random.integer(0, extent - 1));
        given.output.push_back(random.integer(1, extent - given.start.back()));
    }
    given.items = random.integer(1, 2);
    given.channels = random.integer(1, 2);
    return given;
}

Geometry geometry_of(const Case& given) {
    Geometry geometry = {};
    geometry.axes = static_cast<int>(given.image.size());
    geometry.order = given.order;
    geometry.mode = given.mode;
    const bool continued = mode_traits(given.mode).pads;
    geometry.padding = given.filtered && given.order > 1 && continued ? padding_of_filtered_border : 0;
    for (size_t k = 0; k < given.image.size(); ++k) {
        geometry.image[k] = geometry.frame[k] = given.image[k];
        geometry.frame_step[k] = 1;
        geometry.grid_shape[k] = given.points[k];
        geometry.start[k] = given.start.empty() ? 0 : given.start[k];
        geometry.origin[k] = geometry.start[k];
        geometry.output[k] = given.output.empty() ? given.image[k] : given.output[k];
        geometry.box_start[k] = 0;
        geometry.box_extent[k] = given.image[k] + 2 * geometry.padding;
    }
    geometry.cval = given.fill;
    geometry.border_value = given.beyond;
    return geometry;
}

Geometry with_box(Geometry geometry, const Box& box) {
    for (int k = 0; k < geometry.axes; ++k) {
        geometry.box_start[k] = box.start[k];
        geometry.box_extent[k] = box.extent[k];
    }
    return geometry;
}

Shape coefficient_shape(const Geometry& geometry) {
    return Shape(geometry.box_extent, geometry.box_extent + geometry.axes);
}

int arithmetic_of(int dtype) {
    const bool wide = (dtype >= dtype_int32 && dtype <= dtype_uint64) || dtype == dtype_float64;
    return wide ? dtype_float64 : dtype_float32;
}

Job job_of(const Geometry& geometry, bool filtered, int dtype, int compute_dtype) {
    Job job = {};
    job.geometry = geometry;
    std::copy_n(geometry.image, geometry.axes, job.roi.extent);
    job.filtered = filtered;
    job.dtype = dtype;
    job.compute_dtype = compute_dtype;
    return job;
}

Array coefficients_of(const Geometry& geometry, bool filtered, int64 planes, const Array& image, int arithmetic,
                      Executor& executor) {
    Array coefficients(planes, 1, coefficient_shape(geometry), arithmetic);
    prefilter(job_of(geometry, filtered, image.planes.dtype, arithmetic), planes, image.planes, coefficients.planes,
              executor);
    return coefficients;
}

SampleRequest request_of(const Case& given, const Doubles& points, const Array* image, const Array& output) {
    SampleRequest request = {};
    const int dtype = output.planes.dtype;
    request.job = job_of(geometry_of(given), given.filtered, dtype, arithmetic_of(dtype));
    request.items = given.items;
    request.channels = given.channels;
    request.control_points = points.data();
    request.inverse_map = given.affine;
    request.image = image ? image->planes : output.planes;
    request.output = output.planes;
    return request;
}

Array deform(const Case& given, const Doubles& points, const Array& image, Executor& executor, Layout layout) {
    const Geometry geometry = geometry_of(given);
    const Shape shape(geometry.output, geometry.output + geometry.axes);
    Array output(given.items, given.channels, shape, image.planes.dtype, layout);
    if (output.count > 0) sample(request_of(given, points, &image, output), executor);
    return output;
}

AdjointResults apply_adjoint(const Case& given, const Doubles& points, const Array& image, const Array& gradient,
                             Executor& executor, Layout layout) {
    const int64 axes = static_cast<int64>(given.image.size());
    AdjointResults results = {Array(given.items, given.channels, given.image, image.planes.dtype, layout),
                              Doubles(points.size(), 0.0),
                              Doubles(static_cast<size_t>(given.items * axes * (axes + 1)), 0.0)};
    const Gradients gradients = {&results.image.planes, results.points.data(), results.affine.data()};
    sample_adjoint(request_of(given, points, &image, gradient), gradients, executor);
    return results;
}

}  // namespace test
}  // namespace elasticnd
