// The checks of calls from outside.
#include "bindings/request.hpp"

#include <cstring>
#include <stdexcept>

#include "core/affine.hpp"
#include "elasticnd/boundary.hpp"

namespace elasticnd {

void reject(const std::string& what) { throw std::invalid_argument("elasticnd._core: " + what); }

Geometry checked_geometry(const void* bytes, int64 size) {
    if (size != static_cast<int64>(sizeof(Geometry))) reject("geometry has a wrong size");
    Geometry geometry;
    std::memcpy(&geometry, bytes, sizeof geometry);
    if (geometry.axes < 1 || geometry.axes > max_axes) reject("axes out of range");
    if (geometry.order < 0 || geometry.order > max_order) reject("order out of range");
    if (geometry.mode < 0 || geometry.mode >= mode_count) reject("mode out of range");
    constexpr int64 longest = int64(1) << 48;
    for (int k = 0; k < geometry.axes; ++k) {
        if (geometry.image[k] < 1 || geometry.image[k] > longest) reject("image extent out of range");
        if (geometry.points[k] < 1 || geometry.points[k] > longest) reject("control points out of range");
        if (geometry.output[k] < 0 || geometry.output[k] > longest) reject("output extent out of range");
        if (geometry.start[k] < 0 || geometry.start[k] > longest) reject("first voxel out of range");
        if (geometry.origin[k] < 0 || geometry.origin[k] > longest) reject("origin out of range");
        if (geometry.derivative[k] < 0) reject("derivative out of range");
    }
    return geometry;
}

void require_padding(const Geometry& geometry, bool filtered) {
    const bool pads = mode_traits(geometry.mode).pads;
    if (geometry.padding < 0 || geometry.padding > (pads && filtered && geometry.order > 1 ? mode_padding : 0))
        reject("padding out of range");
}

PlanesOf::PlanesOf(const View& view, const Geometry& geometry, const int64* extent, int batch_axes) {
    const int lead = view.ndim - geometry.axes;
    if (lead < batch_axes || batch_axes < 0) reject("an array has too few axes");
    for (int k = 0; k < geometry.axes; ++k) {
        if (view.shape[lead + k] != extent[k]) reject("an array has a wrong shape");
        planes.stride[k] = view.stride[lead + k];
    }
    items = 1;
    channels = 1;
    offset_.push_back(0);
    for (int k = 0; k < lead; ++k) {
        (k < batch_axes ? items : channels) *= view.shape[k];
        std::vector<int64> next;
        next.reserve(offset_.size() * static_cast<size_t>(view.shape[k]));
        for (const int64 start : offset_)
            for (int64 i = 0; i < view.shape[k]; ++i) next.push_back(start + i * view.stride[k]);
        offset_.swap(next);
    }
    planes.data = static_cast<char*>(view.data);
    planes.dtype = view.dtype;
    planes.offset = offset_.data();
}

void require_wide_enough(int arithmetic, int dtype) {
    const bool wide = (dtype >= dtype_int32 && dtype <= dtype_uint64) || dtype == dtype_float64;
    if (arithmetic != dtype_float64 && (arithmetic != dtype_float32 || wide))
        reject("the arithmetic is too narrow for the image");
}

Request::Request(const Settings& settings, const View* image, const View& output, const Motion& motion,
                 const std::vector<DirectionNumbers>& ways, const RegionOfInterest& roi)
    : output_(output, settings.geometry, settings.geometry.output, settings.batch_axes),
      batch_axes_(settings.batch_axes) {
    require_wide_enough(settings.arithmetic, output.dtype);
    require_padding(settings.geometry, settings.filtered);
    deformation.geometry = settings.geometry;
    deformation.filtered = settings.filtered;
    deformation.arithmetic = settings.arithmetic;
    deformation.items = output_.items;
    deformation.channels = output_.channels;
    deformation.output = output_.planes;
    deformation.image = output_.planes;
    deformation.fill_element = nullptr;
    deformation.roi = whole_image(geometry());
    if (!roi.empty()) {
        if (!ways.empty()) reject("directions need the whole image");
        set_roi(roi);
    }
    if (image) {
        require_wide_enough(settings.arithmetic, image->dtype);
        image_ = planes_of(*image);
        deformation.image = image_->planes;
    }
    set_motion(motion);
    for (const DirectionNumbers& numbers : ways) add_direction(numbers);
}

void Request::set_roi(const RegionOfInterest& roi) {
    if (roi.size() != static_cast<size_t>(geometry().axes)) reject("a part of an image has too few axes");
    for (size_t k = 0; k < roi.size(); ++k) {
        const auto [start, extent] = roi[k];
        if (start < 0 || extent < 0 || start > geometry().image[k] || extent > geometry().image[k] - start)
            reject("a part of an image lies outside of it");
        deformation.roi.start[k] = start;
        deformation.roi.extent[k] = extent;
    }
}

std::unique_ptr<PlanesOf> Request::planes_of(const View& image) const {
    const Box& roi = deformation.roi;
    auto planes = std::make_unique<PlanesOf>(image, geometry(), roi.extent, batch_axes_);
    if (planes->items != output_.items || planes->channels != output_.channels)
        reject("image and output differ in their planes");
    // From where the image begins, or would begin.
    for (int k = 0; k < geometry().axes; ++k) planes->planes.data -= roi.start[k] * planes->planes.stride[k];
    return planes;
}

void Request::set_motion(const Motion& motion) {
    points_size_ = output_.items * geometry().axes;
    for (int k = 0; k < geometry().axes; ++k) points_size_ *= geometry().points[k];
    if (motion.points.size != points_size_) reject("the control grid has a wrong size");
    deformation.points = motion.points.data;
    deformation.inverse_map = nullptr;
    deformation.inverse_map_item_size = 0;
    has_affine_ = motion.affine.data != nullptr;
    if (motion.fixed.data && motion.fixed.size != map_size()) reject("rotation and zoom have a wrong size");
    const int64 maps = has_affine_ ? motion.affine.size / map_size() : 1;
    if (has_affine_ && (motion.affine.size != maps * map_size() || (maps != 1 && maps != output_.items)))
        reject("the affine has a wrong size");
    if (!has_affine_ && !motion.fixed.data) return;
    inverse_ = inverse_maps(geometry().axes, maps, motion.affine.data, motion.fixed.data);
    deformation.inverse_map = inverse_.data();
    if (maps != 1) deformation.inverse_map_item_size = map_size();
}

void Request::add_direction(const DirectionNumbers& numbers) {
    if (numbers.points.size != points_size_) reject("a direction has a wrong size");
    const bool one = numbers.affine.size == map_size();
    if (numbers.affine.data && !one && numbers.affine.size != map_size() * output_.items)
        reject("a direction has a wrong size");
    directions.push_back({numbers.points.data, numbers.affine.data, one ? 0 : map_size()});
}

EvaluationRequest::EvaluationRequest(const Geometry& geometry, int order, int64 items, const Numbers& positions)
    : points(items * geometry.axes * product(geometry.points, geometry.axes)) {
    constexpr int64 most_derivatives = int64(1) << 20;
    constexpr int highest_order = 64;
    bool accepted = order >= 0 && order <= highest_order;
    for (int i = 0; accepted && i < order; ++i) accepted = (derivatives *= geometry.axes) <= most_derivatives;
    if (!accepted) reject("the order of derivatives is out of range");
    const int64 one = items * geometry.axes;
    if (one == 0 ? positions.size != 0 : positions.size % one != 0) reject("positions have a wrong size");
    evaluation = {geometry, order, items, one == 0 ? 0 : positions.size / one, positions.data};
}

}  // namespace elasticnd
