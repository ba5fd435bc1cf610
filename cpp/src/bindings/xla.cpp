// The handlers for XLA: arrays and numbers of a call as the core's requests take them.
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

// The numbers of a call besides its arrays, as elasticnd/_bridges/jax.py packs them.
struct Job {
    explicit Job(ffi::Span<const int64_t> words) {
        constexpr size_t fixed_words = 8;
        constexpr size_t geometry_words = sizeof(Geometry) / sizeof(int64_t);
        if (words.size() < fixed_words + geometry_words) reject("a job is too short");
        settings.geometry = checked_geometry(words.begin() + fixed_words, sizeof(Geometry));
        settings.batch_axes = static_cast<int>(words[0]);
        settings.arithmetic = static_cast<int>(words[1]);
        settings.filtered = words[2] != 0;
        std::memcpy(fill_element, &words[3], sizeof fill_element);
        has_affine = words[4] != 0;
        directions = words[5];
        wants_image = words[6] != 0;
        wants_field = words[7] != 0;
        for (size_t i = fixed_words + geometry_words; i < words.size(); ++i) axes.push_back(static_cast<int>(words[i]));
    }
    Settings settings;
    char fill_element[8];
    bool has_affine;
    int64 directions;
    bool wants_image;
    bool wants_field;
    std::vector<int> axes;  // of an image, in the order batch, channels, deformed
};

View view_of(const ffi::AnyBuffer& buffer, const std::vector<int>& axes) {
    const auto extent = buffer.dimensions();
    View view;
    view.ndim = static_cast<int>(extent.size());
    if (axes.size() != extent.size() || extent.size() > 64) reject("an array has a wrong number of axes");
    view.data = buffer.untyped_data();
    view.dtype = dtype_of(buffer.element_type());
    int64 stride[64];
    int64 step = element_size[view.dtype];
    for (int k = view.ndim - 1; k >= 0; --k) {
        stride[k] = step;
        step *= extent[static_cast<size_t>(k)];
    }
    for (int k = 0; k < view.ndim; ++k) {
        const int axis = axes[static_cast<size_t>(k)];
        if (axis < 0 || axis >= view.ndim) reject("axes out of range");
        view.shape[k] = extent[static_cast<size_t>(axis)];
        view.stride[k] = stride[axis];
    }
    return view;
}

// The arguments of a handler one after the other.
class Arguments {
   public:
    explicit Arguments(ffi::RemainingArgs& buffers) : buffers_(buffers) {}
    ffi::AnyBuffer next() {
        auto buffer = buffers_.get<ffi::AnyBuffer>(index_++);
        if (buffer.has_error()) reject("too few arrays");
        return *buffer;
    }
    // A small array, in double precision.
    Numbers next_numbers() { return next_both().second; }
    // The same beside its buffer, which knows the shape.
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
    Motion next_motion(const Job& job, ffi::Span<const double> fixed) {
        Motion motion = {};
        motion.points = next_numbers();
        motion.affine = next_numbers_if(job.has_affine);
        if (fixed.size() > 0) {
            kept_.emplace_back(fixed.size());  // whose numbers XLA need not align
            std::memcpy(kept_.back().data(), fixed.begin(), fixed.size() * sizeof(double));
            motion.fixed = {kept_.back().data(), static_cast<int64>(kept_.back().size())};
        }
        return motion;
    }
    std::vector<DirectionNumbers> next_directions(const Job& job) {
        std::vector<DirectionNumbers> directions;
        for (int64 i = 0; i < job.directions; ++i) {
            const Numbers points = next_numbers();
            directions.push_back({points, next_numbers_if(job.has_affine)});
        }
        return directions;
    }

   private:
    ffi::RemainingArgs& buffers_;
    size_t index_ = 0;
    std::vector<std::vector<double>> kept_;  // a vector that is moved leaves its numbers where they are
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
    const DefaultFloatingPoint arithmetic;
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

// Arrays: image, points, affine, directions. Result: the output.
ffi::Error sample_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results,
                          ffi::Span<const int64_t> words, ffi::Span<const double> fixed) {
    return guarded([&] {
        const Job job(words);
        Arguments arguments(buffers);
        const View image = view_of(arguments.next(), job.axes);
        const Motion motion = arguments.next_motion(job, fixed);
        Request request(job.settings, &image, view_of(result(results, 0), job.axes), motion,
                        arguments.next_directions(job));
        request.deformation.fill_element = job.fill_element;
        XlaExecutor executor(pool);
        sample_along(request.deformation, request.directions, executor);
    });
}

// Arrays: gradient of the output, image if the field is wanted, points, affine, directions. Results: the gradients of
// the image, of the points and of the inverse of the affine, as far as they are wanted.
ffi::Error scatter_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results,
                           ffi::Span<const int64_t> words, ffi::Span<const double> fixed) {
    return guarded([&] {
        const Job job(words);
        Arguments arguments(buffers);
        const View gradient = view_of(arguments.next(), job.axes);
        std::optional<View> image;
        if (job.wants_field) image = view_of(arguments.next(), job.axes);
        const Motion motion = arguments.next_motion(job, fixed);
        Request request(job.settings, image ? &*image : nullptr, gradient, motion, arguments.next_directions(job));
        Gradients gradients = {};
        std::unique_ptr<PlanesOf> target;
        size_t index = 0;
        if (job.wants_image) {
            target = request.planes_of(view_of(result(results, index++), job.axes));
            gradients.image = &target->planes;
        }
        std::vector<double> points;
        std::vector<double> affine;
        if (job.wants_field) {
            points.resize(static_cast<size_t>(motion.points.size));
            gradients.points = points.data();
            if (job.has_affine) {
                const int64 maps = std::max<int64>(1, request.deformation.items);
                affine.resize(static_cast<size_t>(maps * request.map_size()));
                gradients.affine = affine.data();
            }
        }
        XlaExecutor executor(pool);
        scatter_along(request.deformation, request.directions, gradients, executor);
        if (!job.wants_field) return;
        store(points.data(), result(results, index++));
        if (!job.has_affine) return;
        const size_t shared = static_cast<size_t>(motion.affine.size);
        for (size_t i = shared; i < affine.size(); ++i) affine[i % shared] += affine[i];
        store(affine.data(), result(results, index));
    });
}

// The field and its transpose work on doubles: these are copies of arrays of other types.
class Field {
   public:
    Field(const Job& job, Numbers points, const ffi::AnyBuffer& buffer)
        : buffer_(buffer),
          values_(buffer.element_count()),
          points_(points),
          request_(job.settings, nullptr, view(job), {points, {}, {}}) {
        if (request_.deformation.channels != request_.geometry().axes) reject("a field needs one channel per axis");
    }
    std::vector<double>& values() { return values_; }
    const Deformation& deformation() const { return request_.deformation; }

   private:
    View view(const Job& job) {
        View view = view_of(buffer_, job.axes);
        for (int k = 0; k < view.ndim; ++k) view.stride[k] = view.stride[k] / element_size[view.dtype] * 8;
        view.dtype = dtype_float64;
        view.data = values_.data();
        return view;
    }
    const ffi::AnyBuffer buffer_;
    std::vector<double> values_;
    const Numbers points_;
    Request request_;
};

// Array: points. Result: the displacement of each voxel.
ffi::Error displace_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results,
                            ffi::Span<const int64_t> words) {
    return guarded([&] {
        const Job job(words);
        Arguments arguments(buffers);
        const ffi::AnyBuffer output = result(results, 0);
        Field field(job, arguments.next_numbers(), output);
        XlaExecutor executor(pool);
        displace(field.deformation(), executor);
        store(field.values().data(), output);
    });
}

// Array: gradient of the field. Result: that of the points.
ffi::Error displace_adjoint_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results,
                                    ffi::Span<const int64_t> words) {
    return guarded([&] {
        const Job job(words);
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
        displace_adjoint(field.deformation(), points.data(), executor);
        store(points.data(), output);
    });
}

// The numbers of an evaluation, as elasticnd/_bridges/jax.py packs them, for positions (batch..., count, axes).
EvaluationRequest evaluation_of(ffi::Span<const int64_t> words, const ffi::AnyBuffer& buffer,
                                const Numbers& positions) {
    constexpr size_t geometry_words = sizeof(Geometry) / sizeof(int64_t);
    if (words.size() != 1 + geometry_words) reject("a job has a wrong size");
    const Geometry geometry = checked_geometry(words.begin() + 1, sizeof(Geometry));
    const auto extent = buffer.dimensions();
    if (extent.size() < 2 || extent[extent.size() - 1] != geometry.axes) reject("positions have a wrong shape");
    int64 items = 1;
    for (size_t k = 0; k + 2 < extent.size(); ++k) items *= extent[k];
    return EvaluationRequest(geometry, static_cast<int>(words[0]), items, positions);
}

// Arrays: positions, points. Result: the derivatives.
ffi::Error evaluate_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results,
                            ffi::Span<const int64_t> words) {
    return guarded([&] {
        Arguments arguments(buffers);
        const auto [buffer, positions] = arguments.next_both();
        const EvaluationRequest request = evaluation_of(words, buffer, positions);
        const Numbers points = arguments.next_numbers();
        const ffi::AnyBuffer output = result(results, 0);
        std::vector<double> values(output.element_count());
        if (points.size != request.points) reject("the control grid has a wrong size");
        if (static_cast<int64>(values.size()) != positions.size * request.derivatives)
            reject("a result has a wrong size");
        XlaExecutor executor(pool);
        evaluate(request.evaluation, points.data, values.data(), executor);
        store(values.data(), output);
    });
}

// Arrays: gradient of the derivatives, positions. Result: the gradient of the points.
ffi::Error evaluate_adjoint_handler(ffi::ThreadPool pool, ffi::RemainingArgs buffers, ffi::RemainingRets results,
                                    ffi::Span<const int64_t> words) {
    return guarded([&] {
        Arguments arguments(buffers);
        const Numbers gradient = arguments.next_numbers();
        const auto [buffer, positions] = arguments.next_both();
        const EvaluationRequest request = evaluation_of(words, buffer, positions);
        const ffi::AnyBuffer output = result(results, 0);
        std::vector<double> points(output.element_count());
        if (static_cast<int64>(points.size()) != request.points) reject("the control grid has a wrong size");
        if (gradient.size != positions.size * request.derivatives) reject("the gradient has a wrong size");
        XlaExecutor executor(pool);
        evaluate_adjoint(request.evaluation, gradient.data, points.data(), executor);
        store(points.data(), output);
    });
}

XLA_FFI_DEFINE_HANDLER(sample_call, sample_handler,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::ThreadPool>()
                           .RemainingArgs()
                           .RemainingRets()
                           .Attr<ffi::Span<const int64_t>>("job")
                           .Attr<ffi::Span<const double>>("fixed"));
XLA_FFI_DEFINE_HANDLER(scatter_call, scatter_handler,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::ThreadPool>()
                           .RemainingArgs()
                           .RemainingRets()
                           .Attr<ffi::Span<const int64_t>>("job")
                           .Attr<ffi::Span<const double>>("fixed"));
XLA_FFI_DEFINE_HANDLER(
    displace_call, displace_handler,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attr<ffi::Span<const int64_t>>("job"));
XLA_FFI_DEFINE_HANDLER(
    displace_adjoint_call, displace_adjoint_handler,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attr<ffi::Span<const int64_t>>("job"));
XLA_FFI_DEFINE_HANDLER(
    evaluate_call, evaluate_handler,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attr<ffi::Span<const int64_t>>("job"));
XLA_FFI_DEFINE_HANDLER(
    evaluate_adjoint_call, evaluate_adjoint_handler,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attr<ffi::Span<const int64_t>>("job"));

}  // namespace

const XlaHandler xla_handlers[] = {{"elasticnd_sample", reinterpret_cast<void*>(sample_call)},
                                   {"elasticnd_sample_adjoint", reinterpret_cast<void*>(scatter_call)},
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
