// Sampling where channels lie side by side, in the source and in the output: those of a pixel together.
#include "kernels/pixels.hpp"

#include <cstring>

#include "kernels/border.hpp"
#include "kernels/kernels.hpp"

ELASTICND_BEGIN

namespace {

// Where values go: without gaps, as many channels as there are. Whole vectors are written, of which the next voxel
// overwrites what is none of these channels.
template <class T>
struct PixelValues {
    T* values;
    int channels;
    ELASTICND_FLAT void set(int i, const Pixel<T>& pixel) const { store_vector(values + i * channels, pixel); }
};

template <class T, int TAPS, int AXES, class Lines, class AtBorder>
void gather_row(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source,
                const Lines& lines, const AtBorder& at_border, PixelValues<T> to) {
    int64 stride[AXES];
    for (int k = 0; k < AXES; ++k) stride[k] = job.source.stride[k];
    auto sum = [&](int i) ELASTICND_FLAT_LAMBDA {
        const char* at = source + row.offset[i];
        fetch_next_lines<TAPS, AXES>(at, stride, i);
        return stencil_sum<T, TAPS, AXES>(at, stride, &weights[0][0][i], lines);
    };
    const bool clean = row.everywhere && row.inside;
    auto is_inside = [&](int i) { return (row.everywhere || row.exists[i]) && (row.inside || !row.leaves[i]); };
    const Pixel<T> fill = spread_over_pixel(static_cast<T>(job.geometry.cval));
    for (int i = 0; i < row.count;) {
        int stop = clean ? row.count : i;
        while (!clean && stop < row.count && is_inside(stop)) ++stop;
        for (; i < stop; ++i) to.set(i, sum(i));
        for (; i < row.count && !is_inside(i); ++i) to.set(i, row.everywhere || row.exists[i] ? at_border(i) : fill);
    }
}

template <class T, int ORDER, int AXES>
void gather_coefficients(const SampleJob& job, const Row& row, const WeightRows<T>& weights, const char* source,
                         PixelValues<T> to) {
    const CoefficientPixels<T, ORDER + 1> lines;
    gather_row<T, ORDER + 1, AXES>(job, row, weights, source, lines, [](int) { return spread_over_pixel(T(0)); }, to);
}

// From the image itself, at order 1.
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

template <class T>
using GatherPixels = void (*)(const SampleJob&, const Row&, const WeightRows<T>&, const char*, PixelValues<T>);

template <class T>
GatherPixels<T> choose_image_gather(const SampleJob& job, int channels) {
    return with_dtype(job.source.dtype, [&](auto dtype) -> GatherPixels<T> {
        constexpr int DTYPE = decltype(dtype)::value;
        // Only the element types that are computed in T can come here, and no single channel.
        constexpr bool computed_in_t = sizeof(typename Element<DTYPE>::Real) == sizeof(T);
        [[maybe_unused]] constexpr int OWN = computed_in_t ? DTYPE : own_dtype<T>;
        return with_pixel_axes(job.geometry.axes, [&](auto axes) -> GatherPixels<T> {
            [[maybe_unused]] constexpr int AXES = decltype(axes)::value;  // GCC 12 overlooks its use in the lambda
            return with_channels(channels, [](auto together) -> GatherPixels<T> {
                constexpr int CHANNELS = decltype(together)::value;
                return gather_image<T, OWN, AXES, (CHANNELS > 1 ? CHANNELS : 2)>;
            });
        });
    });
}

template <class T>
GatherPixels<T> choose_gather(const SampleJob& job, int channels) {
    if (job.direct) return choose_image_gather<T>(job, channels);
    return with_order(job.geometry.order, [&](auto order) -> GatherPixels<T> {
        [[maybe_unused]] constexpr int ORDER = decltype(order)::value;
        return with_pixel_axes(job.geometry.axes, [](auto axes) -> GatherPixels<T> {
            return gather_coefficients<T, ORDER, decltype(axes)::value>;
        });
    });
}

template <class T>
struct PixelScratch {
    Row row;
    WeightRows<T> weights;
    T values[(row_length + 1) * pixel_lanes];
};

template <class T>
void sample_as(const SampleJob& job, UnitRange units, void* scratch) {
    auto& own = allocate_scratch<PixelScratch<T>>(scratch);
    Walk walk(job, false, scratch, nullptr);
    const int most = static_cast<int>(minimum<int64>(job.channels, pixel_lanes));
    const GatherPixels<T> gather = choose_gather<T>(job, most);
    const WeighRow<T> weigh = choose_weigh<T>(job.geometry.order);
    const int64 to_stride = job.output.stride[job.geometry.axes - 1];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, own.row);
        walk.locate(own.row);
        weigh(own.row, job.geometry.axes, job.geometry.derivative, own.weights);
        for (int64 next = 0; next < job.channels; next += most) {
            // Of an image, the last ones begin earlier, so that they are as many; coefficients lie in groups.
            const int64 channel = job.direct ? minimum(next, job.channels - most) : next;
            const int channels = static_cast<int>(minimum<int64>(most, job.channels - channel));
            gather(job, own.row, own.weights, source_plane(job, own.row.item, channel), {own.values, channels});
            store_pixels(own_dtype<T>, reinterpret_cast<const char*>(own.values), own.row.count, channels,
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
