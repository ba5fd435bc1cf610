// Sampling of interleaved channels, in the source and in the output: all channels of a pixel are computed together.
#include "kernels/pixels.hpp"

#include <cstring>

#include "kernels/border.hpp"
#include "kernels/kernels.hpp"
#include "kernels/located.hpp"

ELASTICND_BEGIN

namespace {

// Stores the channels of each pixel without gaps. Whole vectors are written; the next pixel overwrites the lanes
// beyond the channels.
template <class T>
struct PixelValues {
    T* values;
    int channels;
    ELASTICND_FLAT void set(int i, const Pixel<T>& pixel) const { store_vector(values + i * channels, pixel); }
    void set_alone(int i, T value) const {
        for (int c = 0; c < channels; ++c) values[i * channels + c] = value;
    }
};

template <class T, int TAPS, int AXES, class Lines>
struct PixelSum {
    const char* source;
    const WeightRows<T>& weights;
    const Lines& lines;
    int64 stride[AXES];

    PixelSum(const SampleJob& job, const char* given, const WeightRows<T>& of, const Lines& from)
        : source(given), weights(of), lines(from) {
        for (int k = 0; k < AXES; ++k) stride[k] = job.source.stride[k];
    }
    ELASTICND_FLAT Pixel<T> operator()(int64 offset, int i) const {
        const char* at = source + offset;
        fetch_next_lines<TAPS, AXES>(at, stride, i);
        return stencil_sum<T, TAPS, AXES>(at, stride, &weights[0][0][i], lines);
    }
};

template <class T, int TAPS, int AXES, class Lines, class AtBorder>
void gather_row(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source,
                const Lines& lines, const AtBorder& at_border, PixelValues<T> to) {
    const PixelSum<T, TAPS, AXES, Lines> sum(job, source, weights, lines);
    const bool clean = row.everywhere && row.inside;
    auto is_inside = [&](int i) { return (row.everywhere || row.exists[i]) && (row.inside || !row.leaves[i]); };
    const Pixel<T> fill = spread_over_pixel(static_cast<T>(job.geometry.cval));
    for (int i = 0; i < row.count;) {
        int stop = clean ? row.count : i;
        while (!clean && stop < row.count && is_inside(stop)) ++stop;
        for (; i < stop; ++i) to.set(i, sum(row.offset[i], i));
        for (; i < row.count && !is_inside(i); ++i) to.set(i, row.everywhere || row.exists[i] ? at_border(i) : fill);
    }
}

// Samples voxels `first` to `last - 1` of a row.
template <class T, int TAPS, int AXES, class Lines>
void gather_located(const SampleJob& job, const int32* offset, int first, int last, const WeightRows<T>& weights,
                    const char* source, const Lines& lines, PixelValues<T> to) {
    const PixelSum<T, TAPS, AXES, Lines> sum(job, source, weights, lines);
    for (int i = first; i < last; ++i) to.set(i, sum(offset[i], i));
}

template <class T, int ORDER, int AXES>
void gather_coefficients(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source,
                         PixelValues<T> to) {
    const CoefficientPixels<T, ORDER + 1> lines;
    gather_row<T, ORDER + 1, AXES>(job, row, weights, source, lines, [](int) { return spread_over_pixel(T(0)); }, to);
}

template <class T, int ORDER, int AXES>
void gather_located_coefficients(const SampleJob& job, const int32* offset, int first, int last,
                                 const WeightRows<T>& weights, const char* source, PixelValues<T> to) {
    const CoefficientPixels<T, ORDER + 1> lines;
    gather_located<T, ORDER + 1, AXES>(job, offset, first, last, weights, source, lines, to);
}

// Samples the image itself, at order 1.
template <class T, int DTYPE, int AXES, int CHANNELS>
void gather_image(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source,
                  PixelValues<T> to) {
    constexpr int64 size = sizeof(typename Element<DTYPE>::Storage);
    const T border_value = static_cast<T>(job.geometry.border_value);
    const ImagePixels<T, DTYPE, CHANNELS> lines = {job.source.stride[AXES - 1]};
    gather_row<T, 2, AXES>(
        job, row, weights, source, lines,
        [&](int i) {
            Pixel<T> pixel = {};
            for (int c = 0; c < CHANNELS; ++c)
                pixel[c] = sum_at_border<T>(job, row, i, source + c * size, border_value);
            return pixel;
        },
        to);
}

template <class T, int DTYPE, int AXES, int CHANNELS>
void gather_located_image(const SampleJob& job, const int32* offset, int first, int last, const WeightRows<T>& weights,
                          const char* source, PixelValues<T> to) {
    const ImagePixels<T, DTYPE, CHANNELS> lines = {job.source.stride[AXES - 1]};
    gather_located<T, 2, AXES>(job, offset, first, last, weights, source, lines, to);
}

template <class T>
struct PixelKernels {
    void (*row)(const SampleJob&, const Row&, const WeightRows<T>&, const char*, PixelValues<T>);
    void (*located)(const SampleJob&, const int32* offset, int first, int last, const WeightRows<T>&, const char*,
                    PixelValues<T>);
};

template <class T>
PixelKernels<T> choose_image_gather(const SampleJob& job, int channels) {
    return with_dtype(job.source.dtype, [&](auto dtype) -> PixelKernels<T> {
        constexpr int DTYPE = decltype(dtype)::value;
        // Only element types that are computed in T, with more than one channel, reach this line.
        constexpr bool computed_in_t = sizeof(typename Element<DTYPE>::Real) == sizeof(T);
        [[maybe_unused]] constexpr int OWN = computed_in_t ? DTYPE : own_dtype<T>;
        return with_pixel_axes(job.geometry.axes, [&](auto axes) -> PixelKernels<T> {
            [[maybe_unused]] constexpr int AXES = decltype(axes)::value;  // GCC 12 overlooks its use in the lambda
            return with_channels(channels, [](auto together) -> PixelKernels<T> {
                constexpr int CHANNELS = decltype(together)::value > 1 ? decltype(together)::value : 2;
                return {gather_image<T, OWN, AXES, CHANNELS>, gather_located_image<T, OWN, AXES, CHANNELS>};
            });
        });
    });
}

template <class T>
PixelKernels<T> choose_gather(const SampleJob& job, int channels) {
    if (job.direct) return choose_image_gather<T>(job, channels);
    return with_order(job.geometry.order, [&](auto order) -> PixelKernels<T> {
        [[maybe_unused]] constexpr int ORDER = decltype(order)::value;
        return with_pixel_axes(job.geometry.axes, [](auto axes) -> PixelKernels<T> {
            constexpr int AXES = decltype(axes)::value;
            return {gather_coefficients<T, ORDER, AXES>, gather_located_coefficients<T, ORDER, AXES>};
        });
    });
}

template <class T>
struct PixelScratch {
    Row row;
    Located<T> located;
    WeightRows<T> weights;
    T values[(row_length + 1) * pixel_lanes];
};

template <class T>
void sample_as(const SampleJob& job, UnitRange units, void* scratch) {
    auto& own = allocate_scratch<PixelScratch<T>>(scratch);
    Walk walk(job, false, scratch, nullptr);
    const int most = static_cast<int>(minimum<int64>(job.channels, pixel_lanes));
    const Locator<T> locator(job);
    const PixelKernels<T> gather = choose_gather<T>(job, most);
    const WeighRow<T> weigh = choose_weigh<T>(job.geometry.order);
    const WeighLocated<T> weigh_located = choose_weigh_located<T>(job.geometry.order);
    const T fill = static_cast<T>(job.geometry.cval);
    const int axes = job.geometry.axes;
    const int64 to_stride = job.output.stride[axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, own.row);
        const bool is_located = locator.locate(walk, own.row, own.located);
        if (is_located) {
            weigh_located(own.located, axes, own.weights);
        } else {
            walk.locate(own.row);
            weigh(own.row, axes, job.geometry.derivative, own.weights);
        }
        for (int64 next = 0; next < job.channels; next += most) {
            // In an image, the last group of channels begins early enough to be full. Coefficients always fill groups.
            const int64 channel = job.direct ? minimum(next, job.channels - most) : next;
            const PixelValues<T> values = {own.values, static_cast<int>(minimum<int64>(most, job.channels - channel))};
            const char* source = source_plane(job, own.row.item, channel);
            if (is_located) {
                for_each_part(own.located, [&](int first, int last) {
                    gather.located(job, own.located.offset, first, last, own.weights, source, values);
                });
                for_each_missing(own.located, [&](int i) { values.set_alone(i, fill); });
            } else {
                gather.row(job, own.row, own.weights, source, values);
            }
            store_pixels(own_dtype<T>, reinterpret_cast<const char*>(own.values), own.row.count, values.channels,
                         job.output.dtype, output_row(job, own.row, channel), to_stride);
        }
    }
}

}  // namespace

void sample_pixels(const SampleJob& job, UnitRange units, void* scratch) {
    if (computes_in_double(job.source.dtype))
        sample_as<double>(job, units, scratch);
    else
        sample_as<float>(job, units, scratch);
}

int64 pixel_scratch_size() { return static_cast<int64>(sizeof(PixelScratch<double>)); }

ELASTICND_END
