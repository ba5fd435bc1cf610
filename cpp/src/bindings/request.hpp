// A call from outside, checked and brought into the form that the core works on. Whatever comes, the core then reads
// and writes inside of the arrays.
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

// A job from outside: its numbers in their ranges.
Job checked_job(const void* bytes, int64 size);

// Throws if a job is of votes, which have no derivative.
void require_derivative(const Job& job);

// Arrays that differ in nothing but where they lie.
struct Alike {
    View first;
    std::vector<char*> data;  // of all of them

    explicit Alike(const View& view) : first(view), data{static_cast<char*>(view.data)} {}
};

// Arrays of one layout as planes over their last axes, each array some channels; keeps the table of offsets that these
// point to.
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

// One way in which control points, and with an affine the inverse maps, can change.
struct TangentNumbers {
    Numbers control_points;
    Numbers affine;
};

// Where the voxels go, besides what the job says.
struct Transform {
    Numbers control_points;                // their displacements
    Numbers affine;                        // forward maps of the output patch: one, or one for each item
    std::vector<TangentNumbers> tangents;  // along which sampling is differentiated
};

// A job with its arrays, and what their pointers point to.
class Request {
   public:
    // Several images go with as many outputs. Without an image, the output stands in for it: nothing reads it then.
    Request(const Job& job, const Alike* images, const Alike& outputs, const Transform& transform);
    Request(const Request&) = delete;

    // The planes of the region of interest of images.
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

// Image and coefficients of a job.
struct PrefilterRequest {
    PrefilterRequest(const Job& job, const View& image, const View& coefficients);
    PlanesOf image;
    PlanesOf coefficients;
};

// Positions on control grids, from outside.
struct EvaluationRequest {
    EvaluationRequest(const Job& job, int64 items, const Numbers& positions);
    Evaluation evaluation;
    int64 derivatives = 1;  // of the order, for each component
    int64 control_points;   // numbers in the control grids
};

}  // namespace elasticnd
