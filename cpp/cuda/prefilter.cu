// The prefilter and its transpose: a warp filters a block of 32 lines in shared memory, one line per thread.
#include "../include/elasticnd/prefilter.hpp"
#include "tile.cuh"

ELASTICND_BEGIN

constexpr int rows_at_a_time = 8;  // rows that a thread loads before it uses the first

// Calls load(row) for `count` rows, beginning at `first`, in steps of STEP, and then use(row, loaded value). Several
// rows are loaded at a time, so that their latencies overlap.
template <class T, int STEP, class Load, class Use>
__device__ void stream(int first, int count, const Load& load, const Use& use) {
    T loaded[rows_at_a_time];
    ELASTICND_ROLLED
    for (; count >= rows_at_a_time; count -= rows_at_a_time) {
        ELASTICND_UNROLLED
        for (int i = 0; i < rows_at_a_time; ++i) loaded[i] = load(first + STEP * i);
        ELASTICND_UNROLLED
        for (int i = 0; i < rows_at_a_time; ++i) use(first + STEP * i, loaded[i]);
        first += STEP * rows_at_a_time;
    }
    if (count <= 0) return;
    ELASTICND_UNROLLED
    for (int i = 0; i < rows_at_a_time; ++i) loaded[i] = load(first + STEP * minimum(i, count - 1));
    ELASTICND_UNROLLED
    for (int i = 0; i < rows_at_a_time; ++i)
        if (i < count) use(first + STEP * i, loaded[i]);
}

// One pole of the recursive filter for one line: the same recursion as filter_block in prefilter.hpp, row by row.
template <class T, int ORDER, int POLE>
struct Recursion {
    static constexpr double pole = spline_poles(ORDER).pole[POLE];
    static constexpr int memory = warm_up<T>(pole);  // rows after which the recursion has forgotten its start
    static constexpr T z = static_cast<T>(pole);
    static constexpr T gain = POLE == 0 ? static_cast<T>(prefilter_gain(ORDER)) : T(1);
    static constexpr T steady = static_cast<T>(1 / (1 - pole));
    static constexpr T turn = static_cast<T>(-pole / (1 - pole));
    T carried;

    __device__ T start(T sample) { return carried = sample * gain * steady; }
    __device__ T forward(T sample) { return carried = sample * gain + carried * z; }
    __device__ void turn_round() { carried = carried * turn; }
    __device__ T backward(T sample) { return carried = (carried - sample) * z; }
};

// Filters along one axis. `from` and `to` have shape (outer, extent, inner) and do not overlap. ALONG means that
// neighbours in memory lie along the axis, or nearly so: a warp then loads and stores line by line, otherwise row by
// row.
//
// With mirrored ends, the filter F is not symmetric, but D F is, where D weights the samples with 1/2, 1, ..., 1, 1/2.
// The transpose of F is therefore D F D^-1.
template <int SOURCE, class T, int ORDER, bool TRANSPOSED, bool ALONG>
__global__ void __launch_bounds__(filter_lines) filter(int extension, int64 outer, int64 extent, int64 inner,
                                                       const typename Element<SOURCE>::Storage* from, T* to) {
    constexpr int poles = spline_poles(ORDER).count, margin = block_margin<T>(ORDER);
    using OuterPole = Recursion<T, ORDER, 0>;
    using InnerPole = Recursion<T, ORDER, poles - 1>;
    // Rows of the tile that the backward pass of the first pole does not reach are not held.
    constexpr int unheld = OuterPole::memory, first_held = ALONG ? 0 : unheld;
    constexpr int stride = ALONG ? filter_lines + 1 : filter_lines;  // odd, so that columns have no bank conflicts
    __shared__ T memory[(margin + filter_length + margin - first_held) * stride];
    __shared__ int64 starts[ALONG ? filter_lines : 1];
    const auto tile = [&](int row, int line) -> T& { return memory[(row - first_held) * stride + line]; };

    const int lane = static_cast<int>(threadIdx.x);
    const unsigned blocks = static_cast<unsigned>(ceil_of(extent, filter_length));
    const int64 first_line = int64(blockIdx.x / blocks) * filter_lines;
    const int64 start = int64(blockIdx.x % blocks) * filter_length;
    const int length = static_cast<int>(minimum<int64>(extent - start, filter_length));
    const int lines = static_cast<int>(minimum<int64>(outer * inner - first_line, filter_lines));
    const int rows = margin + length + margin;
    // A thread without a line computes the last line too, but does not store it.
    const int64 number = first_line + minimum(lane, lines - 1);
    const int64 line_start = inner == 1 ? number * extent : number / inner * extent * inner + number % inner;

    const bool weighted = TRANSPOSED && extension == continued_mirrored && extent > 1;
    const auto is_end = [&](int64 sample) { return weighted && (sample == 0 || sample == extent - 1); };
    const auto held = [&](int row) { return tile(row, lane); };
    OuterPole outer_pole;
    const auto hold_forward = [&](int row, T sample) { tile(row, lane) = outer_pole.forward(sample); };
    const auto forget_forward = [&](int, T sample) { outer_pole.forward(sample); };

    // The forward pass of the first pole.
    if constexpr (ALONG) {
        starts[lane] = line_start;
        __syncwarp();
        ELASTICND_ROLLED
        for (int row = lane; row < rows; row += filter_lines) {
            const int64 sample = continued_index(start - margin + row, extent, extension);
            const T factor = is_end(sample) ? T(2) : T(1);
            stream<typename Element<SOURCE>::Storage, 1>(
                0, filter_lines, [&](int line) { return from[starts[line] + sample * inner]; },
                [&](int line, typename Element<SOURCE>::Storage value) {
                    tile(row, line) = static_cast<T>(Element<SOURCE>::load(value)) * factor;
                });
        }
        __syncwarp();
        outer_pole.start(held(0));
        stream<T, 1>(1, unheld - 1, held, forget_forward);
        stream<T, 1>(unheld, rows - unheld, held, hold_forward);
    } else {
        __shared__ int64 offsets[margin + filter_length + margin];
        __shared__ T factors[TRANSPOSED ? margin + filter_length + margin : 1];
        ELASTICND_ROLLED
        for (int row = lane; row < rows; row += filter_lines) {
            const int64 sample = continued_index(start - margin + row, extent, extension);
            offsets[row] = sample * inner;
            if constexpr (TRANSPOSED) factors[row] = is_end(sample) ? T(2) : T(1);
        }
        __syncwarp();
        const auto* own = from + line_start;
        const auto load = [&](int row) {
            const T value = static_cast<T>(Element<SOURCE>::load(own[offsets[row]]));
            if constexpr (TRANSPOSED) return value * factors[row];
            return value;
        };
        outer_pole.start(load(0));
        stream<T, 1>(1, unheld - 1, load, forget_forward);
        stream<T, 1>(unheld, rows - unheld, load, hold_forward);
    }
    outer_pole.turn_round();

    // The backward pass, and then the second pole, if any. With ALONG, the result is stored line by line, through the
    // tile; otherwise, directly.
    T* last = to + line_start + (start + length - 1) * inner;
    const auto store = [&](int row, T value) {
        if constexpr (ALONG) {
            tile(row, lane) = value;
        } else {
            if (lane < lines) *last = value;
            last -= inner;
        }
    };
    if constexpr (poles == 1) {
        const auto forget_backward = [&](int, T sample) { outer_pole.backward(sample); };
        stream<T, -1>(rows - 2, margin - 1, held, forget_backward);
        stream<T, -1>(margin + length - 1, length, held,
                      [&](int row, T sample) { store(row, outer_pole.backward(sample)); });
    } else {
        const auto hold_backward = [&](int row, T sample) { tile(row, lane) = outer_pole.backward(sample); };
        stream<T, -1>(rows - 2, rows - 1 - unheld, held, hold_backward);
        InnerPole inner_pole;
        tile(unheld, lane) = inner_pole.start(held(unheld));
        stream<T, 1>(unheld + 1, rows - 2 * unheld - 1, held,
                     [&](int row, T sample) { tile(row, lane) = inner_pole.forward(sample); });
        inner_pole.turn_round();
        const auto forget_backward = [&](int, T sample) { inner_pole.backward(sample); };
        stream<T, -1>(rows - unheld - 2, margin - unheld - 1, held, forget_backward);
        stream<T, -1>(margin + length - 1, length, held,
                      [&](int row, T sample) { store(row, inner_pole.backward(sample)); });
    }
    if constexpr (ALONG) {
        __syncwarp();
        ELASTICND_ROLLED
        for (int row = lane; row < length; row += filter_lines) {
            const T factor = is_end(start + row) ? T(0.5) : T(1);
            T* own = to + (start + row) * inner;
            stream<T, 1>(
                0, lines, [&](int line) { return tile(margin + row, line); },
                [&](int line, T value) { own[starts[line]] = value * factor; });
        }
    } else if (lane < lines) {
        const auto halve = [&](int64 sample) { to[line_start + sample * inner] *= T(0.5); };
        if (is_end(start)) halve(start);
        if (length > 1 && is_end(start + length - 1)) halve(start + length - 1);
    }
}

ELASTICND_END
