// Filters lines of samples to coefficients in place: as many lines at a time as a tile has lanes, block after block.
#include <cstring>

#include "kernels/kernels.hpp"
#include "kernels/tile.hpp"

ELASTICND_BEGIN

namespace {

template <class T>
struct LinesScratch {
    T tile[tile_rows<T> * tile_lanes<T>];
    T kept[max_margin * tile_lanes<T>];  // last samples of the previous block
    T head[max_margin * tile_lanes<T>];  // first samples of a periodic axis
    T last[tile_lanes<T>];               // last sample in memory, which the padding repeats
};

// The lines of a job as rows of a tile. Unused lanes are zero, and are never written.
template <class T>
class Lines {
   public:
    Lines(const FilterJob& job, const int64* line, int count)
        : from_(reinterpret_cast<const T*>(job.from)),
          to_(reinterpret_cast<T*>(job.to)),
          stride_(job.stride),
          start_(job.held_start),
          stop_(job.held_stop),
          count_(count) {
        adjacent_ = true;
        for (int l = 0; l < lanes; ++l) {
            line_[l] = line[l < count ? l : 0];
            adjacent_ &= l >= count || line_[l] == line_[0] + l;
        }
    }
    // Reads rows of samples; those that are not held are zero.
    void read(int64 first, int64 last, T* rows) const {
        const int64 from = minimum(maximum(first, start_), last);
        const int64 to = maximum(minimum(last, stop_), from);
        // Lanes without a line are zero, too.
        const int64 held = count_ < lanes ? to : from;
        std::memset(rows, 0, static_cast<size_t>(held - first) * lanes * sizeof(T));
        if (from < to) read_held(from, to, rows + (from - first) * lanes);
        std::memset(rows + (to - first) * lanes, 0, static_cast<size_t>(last - to) * lanes * sizeof(T));
    }
    void write(int64 first, int64 last, const T* rows) const {
        if (stride_ == 1) {
            T* to[lanes];
            for (int l = 0; l < lanes; ++l) to[l] = to_ + first + line_[l];
            tile_to_lines(rows, count_, static_cast<int>(last - first), to);
            return;
        }
        for (int64 i = first; i < last; ++i, rows += lanes) {
            T* to = to_ + i * stride_;
            if (adjacent_ && count_ == lanes)
                std::memcpy(to + line_[0], rows, lanes * sizeof(T));
            else if (adjacent_)
                std::memcpy(to + line_[0], rows, static_cast<size_t>(count_) * sizeof(T));
            else
                for (int l = 0; l < count_; ++l) to[line_[l]] = rows[l];
        }
    }

    // Adds a row to what has been written.
    void add(int64 index, const T* row) const {
        T* to = to_ + index * stride_;
        for (int l = 0; l < count_; ++l) to[line_[l]] += row[l];
    }

   private:
    static constexpr int lanes = tile_lanes<T>;
    void read_held(int64 first, int64 last, T* rows) const {
        if (stride_ == 1) {
            const T* from[lanes];
            for (int l = 0; l < lanes; ++l) from[l] = sample(first) + line_[l];
            lines_to_tile(from, count_, static_cast<int>(last - first), rows);
            return;
        }
        for (int64 i = first; i < last; ++i, rows += lanes) {
            const T* from = sample(i);
            if (adjacent_ && count_ == lanes) {
                std::memcpy(rows, from + line_[0], lanes * sizeof(T));
                // The next lines are usually neighbours of these.
                prefetch(from + line_[0] + lanes);
                prefetch(from + line_[0] + lanes + lanes / 2);
            } else if (adjacent_)
                std::memcpy(rows, from + line_[0], static_cast<size_t>(count_) * sizeof(T));
            else
                for (int l = 0; l < count_; ++l) rows[l] = from[line_[l]];
        }
    }
    const T* sample(int64 index) const { return from_ + (index - start_) * stride_; }
    const T* from_;
    T* to_;
    int64 stride_;
    int64 start_;
    int64 stop_;
    int count_;
    bool adjacent_;  // the lines lie side by side
    int64 line_[lanes];
};

template <class T>
void scale_row(T* row, T factor) {
    for (int l = 0; l < tile_lanes<T>; ++l) row[l] *= factor;
}

// Writes rows [first, last), which begin at `rows`. Values of the transpose in the padding are added to the voxels at
// the border, which the padding repeats.
template <class T>
void write_voxels(const FilterJob& job, const Lines<T>& lines, int64 first, int64 last, T* rows) {
    constexpr int lanes = tile_lanes<T>;
    const int64 low = job.padding;
    const int64 high = job.extent - job.padding - 1;
    auto row = [&](int64 index) { return rows + (index - first) * lanes; };
    auto add = [&](int64 border, int64 outer) {
        if (outer < first || outer >= last) return;
        if (border < first)
            lines.add(border, row(outer));
        else
            for (int l = 0; l < lanes; ++l) row(border)[l] += row(outer)[l];
    };
    for (int64 j = 1; !job.constant && j <= job.padding; ++j) {
        add(low, low - j);
        add(high, high + j);
    }
    const int64 from = maximum(first, low);
    if (from <= high) lines.write(from, minimum(last, high + 1), row(from));
}

template <class T>
void filter_as(const FilterJob& job, const int64* line, int count, void* scratch) {
    auto& own = allocate_scratch<LinesScratch<T>>(scratch);
    constexpr int lanes = tile_lanes<T>;
    constexpr int block = Blocking<T>::block_length;
    const int margin = block_margin<T>(job.order);
    const Lines<T> lines(job, line, count);
    const bool repeats = job.padding > 0 && !job.transposed;
    if (repeats && !job.resumes) lines.read(job.held_stop - 1, job.held_stop, own.last);
    // With mirrored ends, the filter F is not symmetric, but D F is, where D weights the samples with 1/2, 1, ..., 1,
    // 1/2. The transpose of F is therefore D F D^-1.
    const bool weighted = job.transposed && job.extension == continued_mirrored;
    auto at = [&](int64 row) { return own.tile + row * lanes; };
    auto copy = [&](T* to, const T* from) { std::memcpy(to, from, lanes * sizeof(T)); };
    auto read = [&](int64 first, int64 last, T* rows) {
        lines.read(first, last, rows);
        for (int64 i = first; repeats && i < minimum(last, job.held_start); ++i)
            lines.read(job.held_start, job.held_start + 1, rows + (i - first) * lanes);
        for (int64 i = maximum(first, job.held_stop); repeats && i < last; ++i)
            copy(rows + (i - first) * lanes, own.last);
        if (!weighted) return;
        if (first <= 0 && 0 < last) scale_row(rows - first * lanes, T(2));
        if (first < job.extent && job.extent <= last) scale_row(rows + (job.extent - 1 - first) * lanes, T(2));
    };

    // A filter that reaches one end of a periodic axis has the whole axis in memory.
    const bool periodic = job.extension == continued_periodic && job.extent > block && job.held_start == 0;
    if (periodic && !job.resumes) read(0, margin, own.head);

    const int64 first_block = job.wanted_start / block;
    const int64 last_block = (job.wanted_stop - 1) / block;
    for (int64 b = first_block; b <= last_block; ++b) {
        const int64 start = b * block;
        const int length = static_cast<int>(minimum<int64>(block, job.extent - start));
        const int64 zero = start - margin;  // sample in row 0
        // The samples before the block have been kept from the previous block, because its coefficients have
        // overwritten them.
        if (b > first_block || job.resumes)
            std::memcpy(own.tile, own.kept, static_cast<size_t>(margin) * lanes * sizeof(T));
        else if (start > 0)
            read(zero, start, own.tile);
        const int64 stop = minimum<int64>(start + length + margin, job.extent);
        read(start, stop, at(margin));
        // Beyond the ends, samples repeat. An axis longer than a block is folded only once, so they repeat samples that
        // have been read.
        for (int64 i = stop; i < start + length + margin; ++i) {
            const int64 from = continued_index(i, job.extent, job.extension);
            copy(at(i - zero), periodic ? own.head + from * lanes : at(from - zero));
        }
        for (int64 i = zero; start == 0 && i < 0; ++i) {
            const int64 from = continued_index(i, job.extent, job.extension);
            if (periodic)
                read(from, from + 1, at(i - zero));
            else
                copy(at(i - zero), at(from - zero));
        }
        if (b < last_block || job.continues)
            std::memcpy(own.kept, at(block), static_cast<size_t>(margin) * lanes * sizeof(T));

        filter_tile(own.tile, length, margin, job.order);
        if (weighted && start == 0) scale_row(at(margin), T(0.5));
        if (weighted && start + length == job.extent) scale_row(at(margin + length - 1), T(0.5));
        const int64 from = maximum(start, job.wanted_start);
        const int64 to = minimum(start + length, job.wanted_stop);
        if (job.transposed && job.padding > 0)
            write_voxels(job, lines, from, to, at(from - zero));
        else
            lines.write(from, to, at(from - zero));
    }
}

}  // namespace

int64 lines_scratch_size() { return static_cast<int64>(sizeof(LinesScratch<double>)); }

void filter(const FilterJob& job, const int64* line, int count, void* scratch) {
    if (job.dtype == dtype_float64)
        filter_as<double>(job, line, count, scratch);
    else
        filter_as<float>(job, line, count, scratch);
}

ELASTICND_END
