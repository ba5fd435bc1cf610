// The handlers for XLA, which convert the arrays and numbers of a call to the core's requests.
#include "bindings/xla.hpp"

#if defined(ELASTICND_XLA)
#include <xla/ffi/api/ffi.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/request.hpp"
#include "bindings/xla_executor.hpp"
#include "runtime/floating_point.hpp"

namespace elasticnd {
namespace {

namespace ffi = xla::ffi;

// ---- arguments ------------------------------------------------------------------------------------------------------

int dtype_of(ffi::DataType type) {
    switch (type) {
        case ffi::DataType::PRED: return dtype_bool;
        case ffi::DataType::S8: return dtype_int8;
        case ffi::DataType::U8: return dtype_uint8;
        case ffi::DataType::S16: return dtype_int16;
        case ffi::DataType::U16: return dtype_uint16;
        case ffi::DataType::S32: return dtype_int32;
        case ffi::DataType::U32: return dtype_uint32;
        case ffi::DataType::S64: return dtype_int64;
        case ffi::DataType::U64: return dtype_uint64;
        case ffi::DataType::F16: return dtype_float16;
        case ffi::DataType::BF16: return dtype_bfloat16;
        case ffi::DataType::F32: return dtype_float32;
        case ffi::DataType::F64: return dtype_float64;
        default: reject("an array has a type that the core does not know");
    }
}

using Words = ffi::Span<const int64_t>;

// Reads a job from its bytes, which are passed as words.
Job job_of(Words words) { return checked_job(words.begin(), static_cast<int64>(words.size() * sizeof(int64_t))); }

// Which arrays a call has, as listed by the bridge for JAX.
struct Operands {
    explicit Operands(Words words) {
        if (words.size() != 4) reject("operands have the wrong size");
        has_affine = words[0] != 0;
        tangents = words[1];
        wants_image = words[2] != 0;
        wants_transform = words[3] != 0;
    }
    bool has_affine;
    int64 tangents;
    bool wants_image;
    bool wants_transform;
};

// A view of an image; `axes` lists its axes in the order batch, channels, deformed.
View view_of(const ffi::AnyBuffer& buffer, int dtype, Words axes) {
    const auto extent = buffer.dimensions();
    View view;
    view.ndim = static_cast<int>(extent.size());
    if (axes.size() != extent.size() || extent.size() > 64) reject("an array has the wrong number of axes");
    view.data = buffer.untyped_data();
    view.dtype = dtype_of(buffer.element_type());
    if (view.dtype != dtype) reject("an array has the wrong type");
    int64 stride[64];
    int64 step = element_size[view.dtype];
    for (int k = view.ndim - 1; k >= 0; --k) {
        stride[k] = step;
        step *= extent[static_cast<size_t>(k)];
    }
    for (int k = 0; k < view.ndim; ++k) {
        const int64_t axis = axes[static_cast<size_t>(k)];
        if (axis < 0 || axis >= view.ndim) reject("axes out of range");
        view.shape[k] = extent[static_cast<size_t>(axis)];
        view.stride[k] = stride[axis];
    }
    return view;
}

// Reads the arguments of a handler one after the other.
class Arguments {
   public:
    explicit Arguments(ffi::RemainingArgs& buffers) : buffers_(buffers) {}
    ffi::AnyBuffer next() {
        auto buffer = buffers_.get<ffi::AnyBuffer>(index_++);
        if (buffer.has_error()) reject("too few arrays");
        return *buffer;
    }
    // Reads a small array in double precision.
    Numbers next_numbers() { return next_both().second; }
    // The same, together with the buffer, which has the shape.
    std::pair<ffi::AnyBuffer, Numbers> next_both() {
        const ffi::AnyBuffer buffer = next();
        const int dtype = dtype_of(buffer.element_type());
        kept_.emplace_back(buffer.element_count());
        active_kernels().load_row(dtype, static_cast<const char*>(buffer.untyped_data()), element_size[dtype],
                                  static_cast<int64>(buffer.element_count()), dtype_float64,
                                  reinterpret_cast<char*>(kept_.back().data()));
        return {buffer, {kept_.back().data(), static_cast<int64>(kept_.back().size())}};
    }
    Numbers next_numbers_if(bool there) { return there ? next_numbers() : Numbers{nullptr, 0}; }
    Transform next_transform(const Operands& operands) {
        Transform transform = {};
        transform.control_points = next_numbers();
        transform.affine = next_numbers_if(operands.has_affine);
        for (int64 i = 0; i < operands.tangents; ++i) {
            const Numbers points = next_numbers();
            transform.tangents.push_back({points, next_numbers_if(operands.has_affine)});
        }
        return transform;
    }

   private:
    ffi::RemainingArgs& buffers_;
    size_t index_ = 0;
    std::vector<std::vector<double>> kept_;  // moving these vectors keeps their numbers in place
};

ffi::AnyBuffer result(ffi::RemainingRets& buffers, size_t index) {
    auto buffer = buffers.get<ffi::AnyBuffer>(index);
    if (buffer.has_error()) reject("too few results");
    return **buffer;
}

void store(const double* from, const ffi::AnyBuffer& to) {
    const int dtype = dtype_of(to.element_type());
    active_kernels().store_row(dtype_float64, reinterpret_cast<const char*>(from),
                               static_cast<int64>(to.element_count()), dtype, static_cast<char*>(to.untyped_data()),
                               element_size[dtype]);
}

// ---- handlers -------------------------------------------------------------------------------------------------------

template <class Body>
ffi::Error guarded(Body body) {
    const DefaultFloatingPoint state;
    try {
        body();
        return ffi::Error::Success();
    } catch (const std::invalid_argument& error) {
        return ffi::Error::InvalidArgument(error.what());
    } catch (const std::bad_alloc&) {
        return ffi::Error(ffi::ErrorCode::kResourceExhausted, "elasticnd: out of memory");
    } catch (const std::exception& error) {
        return ffi::Error::Internal(error.what());
    }
}

// Arrays: image, control points, affine, tangents. Result: the output.
ffi::Error sample_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results, Words words,
                          Words axes, Words operands) {
    return guarded([&] {
        const Job job = job_of(words);
        Arguments arguments(buffers);
        const Alike image(view_of(arguments.next(), job.dtype, axes));
        const View output = view_of(result(results, 0), job.dtype, axes);
        const Request request(job, &image, Alike(output), arguments.next_transform(Operands(operands)));
        XlaExecutor executor(pool);
        sample_along(request.sampling, request.tangents, executor);
    });
}

// Arrays: gradient of the output, image for the transform, control points, affine, tangents. Results: the
// requested gradients of the image, of the control points and of the inverse of the affine.
ffi::Error sample_adjoint_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results,
                                  Words words, Words axes, Words numbers) {
    return guarded([&] {
        const Job job = job_of(words);
        require_derivative(job);
        const Operands operands(numbers);
        Arguments arguments(buffers);
        const View gradient = view_of(arguments.next(), job.dtype, axes);
        std::optional<Alike> image;
        if (operands.wants_transform) image.emplace(view_of(arguments.next(), job.dtype, axes));
        const Transform transform = arguments.next_transform(operands);
        const Request request(job, image ? &*image : nullptr, Alike(gradient), transform);
        Gradients gradients = {};
        std::unique_ptr<PlanesOf> target;
        size_t index = 0;
        if (operands.wants_image) {
            target = request.planes_of(Alike(view_of(result(results, index++), job.dtype, axes)));
            gradients.image = &target->planes;
        }
        std::vector<double> points;
        std::vector<double> affine;
        if (operands.wants_transform) {
            points.resize(static_cast<size_t>(transform.control_points.size));
            gradients.points = points.data();
            if (operands.has_affine) {
                const int64 maps = std::max<int64>(1, request.sampling.items);
                affine.resize(static_cast<size_t>(maps * request.map_size()));
                gradients.affine = affine.data();
            }
        }
        XlaExecutor executor(pool);
        sample_adjoint_along(request.sampling, request.tangents, gradients, executor);
        if (!operands.wants_transform) return;
        store(points.data(), result(results, index++));
        if (!operands.has_affine) return;
        const size_t shared = static_cast<size_t>(transform.affine.size);
        for (size_t i = shared; i < affine.size(); ++i) affine[i % shared] += affine[i];
        store(affine.data(), result(results, index));
    });
}

// The values of a field in double precision, in which the core computes it; the array of the call may have another
// type.
class Field {
   public:
    Field(const Job& job, Numbers control_points, const ffi::AnyBuffer& buffer)
        : values_(buffer.element_count()), request_(job, nullptr, Alike(view(job, buffer)), {control_points, {}, {}}) {
        request_.require_channel_per_component();
    }
    std::vector<double>& values() { return values_; }
    const SampleRequest& sampling() const { return request_.sampling; }

   private:
    View view(const Job& job, const ffi::AnyBuffer& buffer) {
        const auto extent = buffer.dimensions();
        View view = {};
        if (extent.size() > 64) reject("an array has too many axes");
        view.data = values_.data();
        view.dtype = job.dtype;
        view.ndim = static_cast<int>(extent.size());
        int64 step = sizeof(double);
        for (int k = view.ndim - 1; k >= 0; --k) {
            view.shape[k] = extent[static_cast<size_t>(k)];
            view.stride[k] = step;
            step *= view.shape[k];
        }
        return view;
    }
    std::vector<double> values_;
    Request request_;
};

// Array: control points. Result: the displacement of each voxel.
ffi::Error displace_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results, Words words) {
    return guarded([&] {
        const Job job = job_of(words);
        Arguments arguments(buffers);
        const ffi::AnyBuffer output = result(results, 0);
        Field field(job, arguments.next_numbers(), output);
        XlaExecutor executor(pool);
        displace(field.sampling(), executor);
        store(field.values().data(), output);
    });
}

// Array: gradient of the field. Result: gradient of the control points.
ffi::Error displace_adjoint_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results,
                                    Words words) {
    return guarded([&] {
        const Job job = job_of(words);
        Arguments arguments(buffers);
        const ffi::AnyBuffer gradient = arguments.next();
        const ffi::AnyBuffer output = result(results, 0);
        std::vector<double> points(output.element_count());
        Field field(job, {points.data(), static_cast<int64>(points.size())}, gradient);
        const int dtype = dtype_of(gradient.element_type());
        active_kernels().load_row(dtype, static_cast<const char*>(gradient.untyped_data()), element_size[dtype],
                                  static_cast<int64>(field.values().size()), dtype_float64,
                                  reinterpret_cast<char*>(field.values().data()));
        XlaExecutor executor(pool);
        displace_adjoint(field.sampling(), points.data(), executor);
        store(points.data(), output);
    });
}

EvaluationRequest evaluation_of(Words words, const ffi::AnyBuffer& buffer, const Numbers& positions) {
    const Job job = job_of(words);
    const auto extent = buffer.dimensions();
    if (extent.size() < 2 || extent[extent.size() - 1] != job.geometry.axes) reject("positions have the wrong shape");
    int64 items = 1;
    for (size_t k = 0; k + 2 < extent.size(); ++k) items *= extent[k];
    return EvaluationRequest(job, items, positions);
}

// Arrays: positions, control points. Result: the derivatives.
ffi::Error evaluate_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results, Words words) {
    return guarded([&] {
        Arguments arguments(buffers);
        const auto [buffer, positions] = arguments.next_both();
        const EvaluationRequest request = evaluation_of(words, buffer, positions);
        const Numbers points = arguments.next_numbers();
        const ffi::AnyBuffer output = result(results, 0);
        std::vector<double> values(output.element_count());
        if (points.size != request.control_points) reject("the control grid has the wrong size");
        if (static_cast<int64>(values.size()) != positions.size * request.derivatives)
            reject("a result has the wrong size");
        XlaExecutor executor(pool);
        evaluate(request.evaluation, points.data, values.data(), executor);
        store(values.data(), output);
    });
}

// Arrays: gradient of the derivatives, positions. Result: gradient of the control points.
ffi::Error evaluate_adjoint_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results,
                                    Words words) {
    return guarded([&] {
        Arguments arguments(buffers);
        const Numbers gradient = arguments.next_numbers();
        const auto [buffer, positions] = arguments.next_both();
        const EvaluationRequest request = evaluation_of(words, buffer, positions);
        const ffi::AnyBuffer output = result(results, 0);
        std::vector<double> points(output.element_count());
        if (static_cast<int64>(points.size()) != request.control_points) reject("the control grid has the wrong size");
        if (gradient.size != positions.size * request.derivatives) reject("the gradient has the wrong size");
        XlaExecutor executor(pool);
        evaluate_adjoint(request.evaluation, gradient.data, points.data(), executor);
        store(points.data(), output);
    });
}

// The arguments with which the bindings of all handlers begin.
auto with_job() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attr<Words>("job"); }
auto with_image() { return with_job().Attr<Words>("axes").Attr<Words>("operands"); }

XLA_FFI_DEFINE_HANDLER(sample_call, sample_handler, with_image());
XLA_FFI_DEFINE_HANDLER(sample_adjoint_call, sample_adjoint_handler, with_image());
XLA_FFI_DEFINE_HANDLER(displace_call, displace_handler, with_job());
XLA_FFI_DEFINE_HANDLER(displace_adjoint_call, displace_adjoint_handler, with_job());
XLA_FFI_DEFINE_HANDLER(evaluate_call, evaluate_handler, with_job());
XLA_FFI_DEFINE_HANDLER(evaluate_adjoint_call, evaluate_adjoint_handler, with_job());

}  // namespace

const XlaHandler xla_handlers[] = {{"elasticnd_sample", reinterpret_cast<void*>(sample_call)},
                                   {"elasticnd_sample_adjoint", reinterpret_cast<void*>(sample_adjoint_call)},
                                   {"elasticnd_displace", reinterpret_cast<void*>(displace_call)},
                                   {"elasticnd_displace_adjoint", reinterpret_cast<void*>(displace_adjoint_call)},
                                   {"elasticnd_evaluate", reinterpret_cast<void*>(evaluate_call)},
                                   {"elasticnd_evaluate_adjoint", reinterpret_cast<void*>(evaluate_adjoint_call)},
                                   {nullptr, nullptr}};
const int xla_version[2] = {XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};

}  // namespace elasticnd

#else

namespace elasticnd {

const XlaHandler xla_handlers[] = {{nullptr, nullptr}};
const int xla_version[2] = {0, 0};

}  // namespace elasticnd

#endif
