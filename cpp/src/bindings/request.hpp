// A call from outside, checked and converted to the core's form. After these checks, the core never accesses memory
// outside the arrays.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/core.hpp"
#include "core/evaluate.hpp"
#include "core/tangents.hpp"

namespace elasticnd {

// Throws std::invalid_argument.
[[noreturn]] void reject(const std::string& what);

// An array with any strides, whose axes are in the order batch, channels, deformed.
struct View {
    void* data;
    int dtype;
    int ndim;
    int64 shape[64];
    int64 stride[64];  // in bytes
};

// An array in C order.
struct Numbers {
    const double* data;  // null: no array
    int64 size;
};

// A job from outside, with its numbers checked.
Job checked_job(const void* bytes, int64 size);

// Throws if a job has votes, which have no derivative.
void require_derivative(const Job& job);

// Arrays that differ only in their addresses.
struct Alike {
    View first;
    std::vector<char*> data;  // addresses of all arrays

    explicit Alike(const View& view) : first(view), data{static_cast<char*>(view.data)} {}
};

// The planes over the last axes of arrays with one layout; each array holds some of the channels. Owns the table of
// offsets to which the planes point.
class PlanesOf {
   public:
    PlanesOf(const Alike& arrays, const Geometry& geometry, const int64* extent, int batch_axes);
    PlanesOf(const PlanesOf&) = delete;
    Planes planes;
    int64 items;
    int64 channels;

   private:
    std::vector<int64> offset_;
};

// A tangent of the control points and, if there is an affine matrix, of the inverse maps.
struct TangentNumbers {
    Numbers control_points;
    Numbers affine;
};

// The arrays that determine where voxels go.
struct Transform {
    Numbers control_points;                // displacements of the control points
    Numbers affine;                        // forward maps of the output patch: one, or one per item
    std::vector<TangentNumbers> tangents;  // tangents along which sampling is differentiated
};

// A job with its arrays; owns the memory to which its pointers point.
class Request {
   public:
    // There must be as many images as outputs. Without an image, the output stands in for it, and is not read.
    Request(const Job& job, const Alike* images, const Alike& outputs, const Transform& transform);
    Request(const Request&) = delete;

    // The planes of images that contain only the region of interest.
    std::unique_ptr<PlanesOf> planes_of(const Alike& images) const;
    int64 map_size() const { return int64(geometry().axes) * (geometry().axes + 1); }
    const Geometry& geometry() const { return sampling.job.geometry; }
    void require_channel_per_component() const;

    SampleRequest sampling;
    std::vector<Tangent> tangents;

   private:
    void set_transform(const Transform& transform);
    void add_tangent(const TangentNumbers& numbers);

    PlanesOf output_;
    std::vector<double> inverse_;
    int64 control_points_size_;
    std::unique_ptr<PlanesOf> image_;
};

// The image and the coefficients of a job.
struct PrefilterRequest {
    PrefilterRequest(const Job& job, const View& image, const View& coefficients);
    PlanesOf image;
    PlanesOf coefficients;
};

// A call from outside that evaluates control grids at positions.
struct EvaluationRequest {
    EvaluationRequest(const Job& job, int64 items, const Numbers& positions);
    Evaluation evaluation;
    int64 derivatives = 1;  // number of derivatives of the job's order, for each component
    int64 control_points;   // number of values in all control grids
};

}  // namespace elasticnd
