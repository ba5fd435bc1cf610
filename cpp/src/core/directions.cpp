// Derivatives of sampling in directions, composed of the partial derivatives of the spline.
#include "core/directions.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>

#include "core/dense.hpp"

namespace elasticnd {
namespace {

using Derivative = std::array<int, max_axes>;  // how often along each axis

// Adds the change of an affine map, as a displacement of each voxel, to component k of it.
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

// The products of the directions' components, summed by how often they stand for each axis: the derivative along the
// directions is the sum of these times the partial derivatives.
class Factors {
   public:
    Factors(const Deformation& one, int64 item, const std::vector<Direction>& directions, Executor& executor) {
        const Geometry& geometry = one.geometry;
        const int axes = geometry.axes;
        std::deque<Dense> fields;  // which leaves them where they are
        for (const Direction& direction : directions) {
            fields.emplace_back(geometry, axes, dtype_float64);
            Deformation field = one;
            field.points = direction.points + item * axes * product(geometry.points, axes);
            field.channels = axes;
            field.output = fields.back().planes();
            displace(field, executor);
            for (int k = 0; direction.affine && k < axes; ++k)
                add_affine(geometry, direction.affine + item * direction.affine_item_size + k * (axes + 1),
                           fields.back().plane<double>(k), executor);
        }
        for_each_choice(axes, directions.size(), [&](const std::vector<int>& axis_of) {
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
    // Calls body(axis of each direction).
    template <class Body>
    static void for_each_choice(int axes, size_t directions, Body body) {
        std::vector<int> axis_of(directions, 0);
        for (;;) {
            body(axis_of);
            size_t j = directions;
            while (j > 0 && ++axis_of[j - 1] == axes) axis_of[--j] = 0;
            if (j == 0) return;
        }
    }
    std::map<Derivative, Dense> factors_;
};

Deformation with_derivative(Deformation one, const Derivative& derivative) {
    for (int k = 0; k < one.geometry.axes; ++k) one.geometry.derivative[k] += derivative[static_cast<size_t>(k)];
    one.geometry.fill = 0;  // what comes from outside the image does not change
    return one;
}

void sample_item(const Deformation& one, Factors& factors, Executor& executor) {
    const int inner = one.geometry.axes - 1;
    Dense part(one.geometry, one.channels, one.arithmetic);
    Dense sum(one.geometry, one.channels, one.arithmetic);
    with_arithmetic(one.arithmetic, [&](auto zero) {
        using T = decltype(zero);
        std::fill_n(sum.plane<T>(0), sum.voxels * one.channels, zero);
        factors.for_each([&](const Derivative& derivative, const double* factor) {
            Deformation partial = with_derivative(one, derivative);
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
            for_each_row(one.geometry, one.output, channel, executor, [&](char* at, int64 first) {
                active_kernels().store_row(one.arithmetic, reinterpret_cast<const char*>(sum.plane<T>(channel) + first),
                                           one.geometry.output[inner], one.output.dtype, at, one.output.stride[inner]);
            });
    });
}

// The gradient of the output times a factor for each voxel.
void multiply(const Deformation& one, const double* factor, Dense& product_, Executor& executor) {
    const int inner = one.geometry.axes - 1;
    with_arithmetic(one.arithmetic, [&](auto zero) {
        using T = decltype(zero);
        for (int64 channel = 0; channel < one.channels; ++channel)
            for_each_row(one.geometry, one.output, channel, executor, [&](const char* at, int64 first) {
                T* const row = product_.plane<T>(channel) + first;
                active_kernels().load_row(one.output.dtype, at, one.output.stride[inner], one.geometry.output[inner],
                                          one.arithmetic, reinterpret_cast<char*>(row));
                for (int64 i = 0; i < one.geometry.output[inner]; ++i)
                    row[i] = static_cast<T>(factor[first + i] * static_cast<double>(row[i]));
            });
    });
}

}  // namespace

void sample_along(const Deformation& deformation, const std::vector<Direction>& directions, Executor& executor) {
    if (directions.empty()) {
        sample(deformation, executor);
        return;
    }
    if (product(deformation.geometry.output, deformation.geometry.axes) == 0) return;
    for (int64 item = 0; item < deformation.items; ++item) {
        const Deformation one = item_of(deformation, item);
        Factors factors(one, item, directions, executor);
        sample_item(one, factors, executor);
    }
}

void scatter_along(const Deformation& deformation, const std::vector<Direction>& directions, const Gradients& gradients,
                   Executor& executor) {
    if (directions.empty()) {
        scatter(deformation, gradients, executor);
        return;
    }
    const Geometry& geometry = deformation.geometry;
    const int64 grid_size = geometry.axes * product(geometry.points, geometry.axes);
    const int64 affine_size = geometry.axes * (geometry.axes + 1);
    for (int64 item = 0; item < deformation.items; ++item) {
        const Deformation one = item_of(deformation, item);
        Factors factors(one, item, directions, executor);
        Dense weighted(geometry, one.channels, one.arithmetic);
        std::unique_ptr<ImageSum> image;
        if (gradients.image) image = std::make_unique<ImageSum>(one);
        factors.for_each([&](const Derivative& derivative, const double* factor) {
            multiply(one, factor, weighted, executor);
            Deformation partial = with_derivative(one, derivative);
            partial.output = weighted.planes();
            Gradients part = {};
            if (image) part.image = &image->new_part();
            if (gradients.points) part.points = gradients.points + item * grid_size;
            if (gradients.affine) part.affine = gradients.affine + item * affine_size;
            scatter(partial, part, executor);
            if (image) image->add_part(executor);
        });
        if (image) image->store(*gradients.image, item * one.channels, executor);
    }
}

}  // namespace elasticnd
