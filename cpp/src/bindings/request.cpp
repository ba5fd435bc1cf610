// Checks calls from outside.
#include "bindings/request.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/affine.hpp"
#include "core/extents.hpp"
#include "elasticnd/boundary.hpp"

namespace elasticnd {

void reject(const std::string& what) { throw std::invalid_argument("elasticnd._core: " + what); }

namespace {

constexpr int64 longest = int64(1) << 48;

// Output voxels must lie in the frame, because the control grid ends there.
void check_frame(const Geometry& geometry, int axis) {
    if (geometry.frame[axis] < 1 || geometry.frame[axis] > longest) reject("frame extent out of range");
    const double last = static_cast<double>(geometry.frame[axis] - 1);
    const double step = geometry.frame_step[axis];
    if (!(step > 0 && step <= static_cast<double>(longest))) reject("step in the frame out of range");
    if (geometry.output[axis] == 0) return;
    constexpr double rounding = 1e-3;
    if (!(geometry.in_frame(axis, 0) >= -rounding &&
          geometry.in_frame(axis, geometry.output[axis] - 1) <= last + rounding))
        reject("output outside the frame");
}

void check_geometry(const Geometry& geometry) {
    if (geometry.axes < 1 || geometry.axes > max_axes) reject("axes out of range");
    if (geometry.order < 0 || geometry.order > max_order) reject("order out of range");
    if (geometry.votes != 0 && (geometry.votes != 1 || geometry.order != 1)) reject("votes out of range");
    if (geometry.mode < 0 || geometry.mode >= mode_count) reject("mode out of range");
    for (int k = 0; k < geometry.axes; ++k) {
        if (geometry.image[k] < 1 || geometry.image[k] > longest) reject("image extent out of range");
        if (geometry.grid_shape[k] < 1 || geometry.grid_shape[k] > longest) reject("control points out of range");
        if (geometry.output[k] < 0 || geometry.output[k] > longest) reject("output extent out of range");
        if (geometry.start[k] < 0 || geometry.start[k] > longest) reject("first voxel out of range");
        if (geometry.origin[k] < 0 || geometry.origin[k] > longest) reject("origin out of range");
        if (geometry.derivative[k] < 0 || (geometry.votes && geometry.derivative[k] > 0))
            reject("derivative out of range");
        check_frame(geometry, k);
    }
}

// Integers of at least 32 bits and doubles are computed in double precision; all others in either precision.
void check_dtypes(const Job& job) {
    if (job.dtype < 0 || job.dtype >= dtype_count) reject("dtype out of range");
    const bool wide = (job.dtype >= dtype_int32 && job.dtype <= dtype_uint64) || job.dtype == dtype_float64;
    if (job.compute_dtype != dtype_float64 && (job.compute_dtype != dtype_float32 || wide))
        reject("the compute dtype is too narrow for the image");
}

// Only filtering pads an image, and by at most as much as in SciPy.
void check_padding(const Job& job) {
    const Geometry& geometry = job.geometry;
    const bool pads = mode_traits(geometry.mode).pads && job.filtered && geometry.order > 1;
    if (geometry.padding < 0 || geometry.padding > (pads ? mode_padding : 0)) reject("padding out of range");
}

void check_roi(const Job& job) {
    for (int k = 0; k < job.geometry.axes; ++k) {
        const int64 start = job.roi.start[k];
        const int64 extent = job.roi.extent[k];
        if (start < 0 || extent < 0 || start > job.geometry.image[k] || extent > job.geometry.image[k] - start)
            reject("a part of an image lies outside it");
    }
}

Geometry with_checked_box(Geometry geometry) {
    const int64 border = border_of(geometry);
    for (int k = 0; k < geometry.axes; ++k) {
        const int64 stop = geometry.image[k] + 2 * geometry.padding + border;
        if (geometry.box_extent[k] < 1 || geometry.box_extent[k] > stop + border || geometry.box_start[k] < -border ||
            geometry.box_start[k] > stop - geometry.box_extent[k])
            reject("box out of range");
    }
    return geometry;
}

}  // namespace

Job checked_job(const void* bytes, int64 size) {
    if (size != static_cast<int64>(sizeof(Job))) reject("a job has the wrong size");
    Job job;
    std::memcpy(&job, bytes, sizeof job);
    check_geometry(job.geometry);
    check_dtypes(job);
    check_padding(job);
    check_roi(job);
    return job;
}

void require_derivative(const Job& job) {
    if (job.geometry.votes) reject("votes have no derivative");
}

PlanesOf::PlanesOf(const Alike& arrays, const Geometry& geometry, const int64* extent, int batch_axes) {
    const View& view = arrays.first;
    const int64 count = static_cast<int64>(arrays.data.size());
    const int lead = view.ndim - geometry.axes;
    if (lead < batch_axes || batch_axes < 0) reject("an array has too few axes");
    for (int k = 0; k < geometry.axes; ++k) {
        if (view.shape[lead + k] != extent[k]) reject("an array has the wrong shape");
        planes.stride[k] = view.stride[lead + k];
    }
    offset_.push_back(0);
    auto multiply = [&](int64 size, auto offset_of) {
        std::vector<int64> next;
        next.reserve(offset_.size() * static_cast<size_t>(size));
        for (const int64 start : offset_)
            for (int64 i = 0; i < size; ++i) next.push_back(start + offset_of(i));
        offset_.swap(next);
    };
    auto add_axes = [&](int first, int last, int64& size) {
        for (int k = first; k < last; ++k) {
            size *= view.shape[k];
            multiply(view.shape[k], [&](int64 i) { return i * view.stride[k]; });
        }
    };
    items = 1;
    channels = count;
    add_axes(0, batch_axes, items);
    if (count > 1) multiply(count, [&](int64 i) { return arrays.data[static_cast<size_t>(i)] - arrays.data[0]; });
    add_axes(batch_axes, lead, channels);
    planes.data = arrays.data[0];
    planes.dtype = view.dtype;
    planes.offset = offset_.data();
}

Request::Request(const Job& job, const Alike* images, const Alike& outputs, const Transform& transform)
    : output_(outputs, job.geometry, job.geometry.output, job.batch_axes) {
    sampling.job = job;
    sampling.items = output_.items;
    sampling.channels = output_.channels;
    sampling.output = output_.planes;
    sampling.image = output_.planes;
    if (!transform.tangents.empty()) require_derivative(job);
    if (!transform.tangents.empty() && !has_whole_image(sampling)) reject("tangents need the whole image");
    if (images) {
        image_ = planes_of(*images);
        sampling.image = image_->planes;
    }
    set_transform(transform);
    for (const TangentNumbers& numbers : transform.tangents) add_tangent(numbers);
}

std::unique_ptr<PlanesOf> Request::planes_of(const Alike& images) const {
    const Job& job = sampling.job;
    auto planes = std::make_unique<PlanesOf>(images, geometry(), job.roi.extent, job.batch_axes);
    if (planes->items != output_.items || planes->channels != output_.channels)
        reject("image and output differ in their planes");
    // Offsets count from the first voxel of the whole image, even if it is not in memory.
    for (int k = 0; k < geometry().axes; ++k) planes->planes.data -= job.roi.start[k] * planes->planes.stride[k];
    return planes;
}

void Request::require_channel_per_component() const {
    if (sampling.job.dtype != dtype_float64) reject("a field needs doubles");
    if (sampling.channels != geometry().axes) reject("a field needs one channel per axis");
}

void Request::set_transform(const Transform& transform) {
    control_points_size_ = output_.items * geometry().axes;
    for (int k = 0; k < geometry().axes; ++k) control_points_size_ *= geometry().grid_shape[k];
    if (transform.control_points.size != control_points_size_) reject("the control grid has the wrong size");
    sampling.control_points = transform.control_points.data;
    sampling.inverse_map = nullptr;
    sampling.inverse_map_item_size = 0;
    const bool has_affine = transform.affine.data != nullptr;
    const int64 maps = has_affine ? transform.affine.size / map_size() : 1;
    if (has_affine && (transform.affine.size != maps * map_size() || (maps != 1 && maps != output_.items)))
        reject("the affine has the wrong size");
    const double* const after = sampling.job.rotates ? sampling.job.inverse_rotation_zoom : nullptr;
    if (!has_affine && !after) return;
    inverse_ = inverse_maps(geometry().axes, maps, transform.affine.data, after);
    sampling.inverse_map = inverse_.data();
    if (maps != 1) sampling.inverse_map_item_size = map_size();
}

void Request::add_tangent(const TangentNumbers& numbers) {
    if (numbers.control_points.size != control_points_size_) reject("a tangent has the wrong size");
    const bool one = numbers.affine.size == map_size();
    if (numbers.affine.data && !one && numbers.affine.size != map_size() * output_.items)
        reject("a tangent has the wrong size");
    tangents.push_back({numbers.control_points.data, numbers.affine.data, one ? 0 : map_size()});
}

PrefilterRequest::PrefilterRequest(const Job& job, const View& image_view, const View& coefficients_view)
    : image(Alike(image_view), with_checked_box(job.geometry), job.geometry.image, 0),
      coefficients(Alike(coefficients_view), job.geometry, job.geometry.box_extent, 0) {
    if (image.channels != coefficients.channels) reject("image and coefficients differ in their planes");
}

EvaluationRequest::EvaluationRequest(const Job& job, int64 items, const Numbers& positions)
    : control_points(items * job.geometry.axes * product(job.geometry.grid_shape, job.geometry.axes)) {
    constexpr int64 most_derivatives = int64(1) << 20;
    constexpr int highest_order = 64;
    bool accepted = job.evaluation_order >= 0 && job.evaluation_order <= highest_order;
    for (int i = 0; accepted && i < job.evaluation_order; ++i)
        accepted = (derivatives *= job.geometry.axes) <= most_derivatives;
    if (!accepted) reject("the order of derivatives is out of range");
    const int64 one = items * job.geometry.axes;
    if (one == 0 ? positions.size != 0 : positions.size % one != 0) reject("positions have the wrong size");
    evaluation = {job, items, one == 0 ? 0 : positions.size / one, positions.data};
}

}  // namespace elasticnd
