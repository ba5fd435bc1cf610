// Derivatives of sampling along tangents, computed from partial derivatives of the spline.
#include "core/tangents.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>

#include "core/dense.hpp"

namespace elasticnd {
namespace {

using Derivative = std::array<int, max_axes>;  // how often to differentiate along each axis

// Adds the tangent of an affine map to one component of each voxel's displacement; `line` is the row of the map for
// this component.
void add_affine(const Geometry& geometry, const double* line, double* component, Executor& executor) {
    const int axes = geometry.axes;
    const int64 row = geometry.output[axes - 1];
    executor.run(product(geometry.output, axes - 1), [&](int64 index) {
        double start = line[axes];
        int64 rest = index;
        for (int k = axes - 2; k >= 0; --k) {
            start += line[k] * static_cast<double>(geometry.from_origin(k, rest % geometry.output[k]));
            rest /= geometry.output[k];
        }
        for (int64 i = 0; i < row; ++i)
            component[index * row + i] +=
                start + line[axes - 1] * static_cast<double>(geometry.from_origin(axes - 1, i));
    });
}

// The products of the tangents' components, summed for each combination of axes. The derivative along the tangents is
// the sum of these factors times the partial derivatives of the spline.
class Factors {
   public:
    Factors(const SampleRequest& one, int64 item, const std::vector<Tangent>& tangents, Executor& executor) {
        const Geometry& geometry = one.job.geometry;
        const int axes = geometry.axes;
        std::deque<Dense> fields;  // a deque never moves its elements
        for (const Tangent& tangent : tangents) {
            fields.emplace_back(geometry, axes, dtype_float64);
            SampleRequest field = one;
            field.control_points = tangent.control_points + item * axes * product(geometry.grid_shape, axes);
            field.channels = axes;
            field.output = fields.back().planes();
            displace(field, executor);
            for (int k = 0; tangent.affine && k < axes; ++k)
                add_affine(geometry, tangent.affine + item * tangent.affine_item_size + k * (axes + 1),
                           fields.back().plane<double>(k), executor);
        }
        for_each_choice(axes, tangents.size(), [&](const std::vector<int>& axis_of) {
            Derivative derivative = {};
            for (const int k : axis_of) ++derivative[static_cast<size_t>(k)];
            for (int k = 0; k < axes; ++k)
                if (geometry.derivative[k] + derivative[static_cast<size_t>(k)] > geometry.order) return;
            auto [found, is_new] = factors_.try_emplace(derivative, geometry, 1, dtype_float64);
            double* const sum = found->second.plane<double>(0);
            for_parts(found->second.voxels, executor, [&, fresh = is_new](int64 first, int64 count) {
                for (int64 i = first; i < first + count; ++i) {
                    double factor = 1;
                    for (size_t j = 0; j < axis_of.size(); ++j) factor *= fields[j].plane<double>(axis_of[j])[i];
                    sum[i] = fresh ? factor : sum[i] + factor;
                }
            });
        });
    }

    // Calls body(derivative, factor of each voxel).
    template <class Body>
    void for_each(Body body) {
        for (auto& [derivative, factor] : factors_) body(derivative, factor.template plane<double>(0));
    }

   private:
    // Calls body(axis of each tangent) for every choice of axes.
    template <class Body>
    static void for_each_choice(int axes, size_t tangents, Body body) {
        std::vector<int> axis_of(tangents, 0);
        for (;;) {
            body(axis_of);
            size_t j = tangents;
            while (j > 0 && ++axis_of[j - 1] == axes) axis_of[--j] = 0;
            if (j == 0) return;
        }
    }
    std::map<Derivative, Dense> factors_;
};

SampleRequest with_derivative(SampleRequest one, const Derivative& derivative) {
    for (int k = 0; k < one.job.geometry.axes; ++k)
        one.job.geometry.derivative[k] += derivative[static_cast<size_t>(k)];
    one.job.geometry.cval = 0;  // the constant outside the image has no derivative
    return one;
}

void sample_item(const SampleRequest& one, Factors& factors, Executor& executor) {
    const int inner = one.job.geometry.axes - 1;
    Dense part(one.job.geometry, one.channels, one.job.compute_dtype);
    Dense sum(one.job.geometry, one.channels, one.job.compute_dtype);
    with_compute_dtype(one.job.compute_dtype, [&](auto zero) {
        using T = decltype(zero);
        std::fill_n(sum.plane<T>(0), sum.voxels * one.channels, zero);
        factors.for_each([&](const Derivative& derivative, const double* factor) {
            SampleRequest partial = with_derivative(one, derivative);
            partial.output = part.planes();
            sample(partial, executor);
            for (int64 channel = 0; channel < one.channels; ++channel)
                for_parts(sum.voxels, executor, [&](int64 first, int64 count) {
                    const T* const values = part.plane<T>(channel);
                    T* const total = sum.plane<T>(channel);
                    for (int64 i = first; i < first + count; ++i)
                        total[i] += static_cast<T>(factor[i] * static_cast<double>(values[i]));
                });
        });
        for (int64 channel = 0; channel < one.channels; ++channel)
            for_each_row(one.job.geometry, one.output, channel, executor, [&](char* at, int64 first) {
                active_kernels().store_row(
                    one.job.compute_dtype, reinterpret_cast<const char*>(sum.plane<T>(channel) + first),
                    one.job.geometry.output[inner], one.output.dtype, at, one.output.stride[inner]);
            });
    });
}

// Multiplies the gradient of the output by a factor for each voxel.
void multiply(const SampleRequest& one, const double* factor, Dense& product_, Executor& executor) {
    const int inner = one.job.geometry.axes - 1;
    with_compute_dtype(one.job.compute_dtype, [&](auto zero) {
        using T = decltype(zero);
        for (int64 channel = 0; channel < one.channels; ++channel)
            for_each_row(one.job.geometry, one.output, channel, executor, [&](const char* at, int64 first) {
                T* const row = product_.plane<T>(channel) + first;
                active_kernels().load_row(one.output.dtype, at, one.output.stride[inner],
                                          one.job.geometry.output[inner], one.job.compute_dtype,
                                          reinterpret_cast<char*>(row));
                for (int64 i = 0; i < one.job.geometry.output[inner]; ++i)
                    row[i] = static_cast<T>(factor[first + i] * static_cast<double>(row[i]));
            });
    });
}

}  // namespace

void sample_along(const SampleRequest& request, const std::vector<Tangent>& tangents, Executor& executor) {
    if (tangents.empty()) {
        sample(request, executor);
        return;
    }
    if (product(request.job.geometry.output, request.job.geometry.axes) == 0) return;
    for (int64 item = 0; item < request.items; ++item) {
        const SampleRequest one = item_of(request, item);
        Factors factors(one, item, tangents, executor);
        sample_item(one, factors, executor);
    }
}

void sample_adjoint_along(const SampleRequest& request, const std::vector<Tangent>& tangents,
                          const Gradients& gradients, Executor& executor) {
    if (tangents.empty()) {
        sample_adjoint(request, gradients, executor);
        return;
    }
    const Geometry& geometry = request.job.geometry;
    const int64 grid_size = geometry.axes * product(geometry.grid_shape, geometry.axes);
    const int64 affine_size = geometry.axes * (geometry.axes + 1);
    for (int64 item = 0; item < request.items; ++item) {
        const SampleRequest one = item_of(request, item);
        Factors factors(one, item, tangents, executor);
        Dense weighted(geometry, one.channels, one.job.compute_dtype);
        std::unique_ptr<ImageSum> image;
        if (gradients.image) image = std::make_unique<ImageSum>(one);
        factors.for_each([&](const Derivative& derivative, const double* factor) {
            multiply(one, factor, weighted, executor);
            SampleRequest partial = with_derivative(one, derivative);
            partial.output = weighted.planes();
            Gradients part = {};
            if (image) part.image = &image->new_part();
            if (gradients.points) part.points = gradients.points + item * grid_size;
            if (gradients.affine) part.affine = gradients.affine + item * affine_size;
            sample_adjoint(partial, part, executor);
            if (image) image->add_part(executor);
        });
        if (image) image->store(*gradients.image, item * one.channels, executor);
    }
}

}  // namespace elasticnd
