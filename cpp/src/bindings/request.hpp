// A call from outside, checked and brought into the form that the core works on. Whatever comes, the core then reads
// and writes inside of the arrays.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/core.hpp"
#include "core/directions.hpp"
#include "core/evaluate.hpp"

namespace elasticnd {

// Throws std::invalid_argument.
[[noreturn]] void reject(const std::string& what);

// An array of any strides, its axes in the order batch, channels, deformed.
struct View {
    void* data;
    int dtype;
    int ndim;
    int64 shape[64];
    int64 stride[64];  // in bytes
};

// An array in C order.
struct Numbers {
    const double* data;  // null: none
    int64 size;
};

constexpr int element_size[dtype_count] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};

// Integers of 32 bits and more, and doubles, are computed in doubles; the others in either type.
void require_wide_enough(int arithmetic, int dtype);

// Only a filter pads an image, and not by more than SciPy does.
void require_padding(const Geometry& geometry, bool filtered);

// Geometry from outside.
Geometry checked_geometry(const void* bytes, int64 size);

// A view as planes over its last axes; keeps the table of offsets that these point to.
class PlanesOf {
   public:
    PlanesOf(const View& view, const Geometry& geometry, const int64* extent, int batch_axes);
    PlanesOf(const PlanesOf&) = delete;
    Planes planes;
    int64 items;
    int64 channels;

   private:
    std::vector<int64> offset_;
};

struct Settings {
    Geometry geometry;
    int batch_axes;
    bool filtered;
    int arithmetic;
};

// Where the voxels go.
struct Motion {
    Numbers points;
    Numbers affine;  // forward maps of the output patch: one, or one for each item
    Numbers fixed;   // the inverse of rotation and zoom, done before
};

// One way in which control points, and with an affine the inverse maps, can change.
struct DirectionNumbers {
    Numbers points;
    Numbers affine;
};

// Of a part of an image, first voxel and extent along each deformed axis.
using RegionOfInterest = std::vector<std::pair<int64, int64>>;

// A deformation, with what its pointers point to.
class Request {
   public:
    // Without an image, `output` stands in for it: nothing reads it then. Of a part of the image, `roi` has first
    // voxel and extent along each deformed axis; empty, the image is whole.
    Request(const Settings& settings, const View* image, const View& output, const Motion& motion,
            const std::vector<DirectionNumbers>& ways = {}, const RegionOfInterest& roi = {});
    Request(const Request&) = delete;

    // The planes of the region of interest of an image.
    std::unique_ptr<PlanesOf> planes_of(const View& image) const;
    int64 points_size() const { return points_size_; }
    int64 map_size() const { return int64(geometry().axes) * (geometry().axes + 1); }
    const Geometry& geometry() const { return deformation.geometry; }

    Deformation deformation;
    std::vector<Direction> directions;

   private:
    void set_roi(const RegionOfInterest& roi);
    void set_motion(const Motion& motion);
    void add_direction(const DirectionNumbers& numbers);

    PlanesOf output_;
    std::vector<double> inverse_;
    int batch_axes_;
    int64 points_size_;
    bool has_affine_;
    std::unique_ptr<PlanesOf> image_;
};

// Positions on control grids, from outside.
struct EvaluationRequest {
    EvaluationRequest(const Geometry& geometry, int order, int64 items, const Numbers& positions);
    Evaluation evaluation;
    int64 derivatives = 1;  // of the order, for each component
    int64 points;           // numbers in the control grids
};

}  // namespace elasticnd
