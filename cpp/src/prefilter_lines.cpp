// Lines of samples to coefficients, in place: `filter_lines` lines side by side, block after block.
#include <cstdint>

#include "../include/elasticnd/prefilter.hpp"
#include "dispatch.hpp"
#include "lanes.hpp"
#include "sample_kernels.hpp"

ELASTICND_BEGIN

namespace {

// Where the signal goes on beyond the axis.
inline int64 extended(int64 index, int64 extent, int extension) {
    if (extension == mode_mirror) return fold_mirror(index, extent);
    return extension == mode_reflect ? fold_reflect(index, extent) : modulo(index, extent);
}

// The lines of a job as rows of `filter_lines` lanes; unused lanes repeat the first line and are never written.
template <class T>
class Lines {
   public:
    Lines(const FilterJob& job, const int64* line, int count)
        : data_(reinterpret_cast<T*>(job.coefficients)), stride_(job.stride), start_(job.held_start), count_(count) {
        adjacent_ = count == filter_lines;
        for (int l = 0; l < filter_lines; ++l) {
            line_[l] = line[l < count ? l : 0];
            adjacent_ &= line_[l] == line_[0] + l;
        }
    }
    void read(int64 index, T* row) const {
        const T* at = data_ + (index - start_) * stride_;
        if (adjacent_)
            std::memcpy(row, at + line_[0], filter_lines * sizeof(T));
        else
            for (int l = 0; l < filter_lines; ++l) row[l] = at[line_[l]];
    }
    void write(int64 index, const T* row) const {
        T* at = data_ + (index - start_) * stride_;
        if (adjacent_)
            std::memcpy(at + line_[0], row, filter_lines * sizeof(T));
        else
            for (int l = 0; l < count_; ++l) at[line_[l]] = row[l];
    }

   private:
    T* data_;
    int64 stride_;
    int64 start_;
    int count_;
    bool adjacent_;
    int64 line_[filter_lines];
};

template <class T>
void scale_row(T* row, T factor) {
    for (int l = 0; l < filter_lines; ++l) row[l] *= factor;
}

template <class T>
void filter_as(const FilterJob& job, const int64* line, int count, void* scratch) {
    constexpr int block = Blocking<T>::block_length;
    const int margin = block_margin<T>(job.order);
    const Lines<T> lines(job, line, count);
    // Aligned as vectors are.
    T* const rows =
        reinterpret_cast<T*>((reinterpret_cast<std::uintptr_t>(scratch) + 63) / 64 * 64);  // margin + block + margin
    T* const kept = rows + (block + 2 * max_margin) * filter_lines;  // last samples of the block before
    T* const head = kept + max_margin * filter_lines;                // first samples of a periodic axis
    // With mirrored ends the filter F is symmetric only between the weights 1/2, 1, ..., 1, 1/2 of the samples:
    // its transpose is D F / D.
    const bool weighted = job.transposed && job.extension == mode_mirror;
    auto at = [&](int64 row) { return rows + row * filter_lines; };
    auto read = [&](int64 index, T* row) {
        lines.read(index, row);
        if (weighted && (index == 0 || index == job.extent - 1)) scale_row(row, T(2));
    };

    // Where an end is met, the whole axis is held.
    const bool periodic = job.extension == mode_grid_wrap && job.extent > block && job.held_start == 0;
    for (int64 i = 0; periodic && !job.resumes && i < margin; ++i) read(i, head + i * filter_lines);

    const int64 first_block = job.wanted_start / block;
    const int64 last_block = (job.wanted_stop - 1) / block;
    for (int64 b = first_block; b <= last_block; ++b) {
        const int64 start = b * block;
        const int length = static_cast<int>(minimum<int64>(block, job.extent - start));
        const int64 zero = start - margin;  // the sample in row 0
        // The samples before the block: kept from the last block, since its coefficients have taken their place.
        if (b > first_block || job.resumes) {
            std::memcpy(rows, kept, margin * filter_lines * sizeof(T));
        } else if (start > 0) {
            for (int64 i = zero; i < start; ++i) read(i, at(i - zero));
        }
        const int64 stop = minimum<int64>(start + length + margin, job.extent);
        for (int64 i = start; i < stop; ++i) read(i, at(i - zero));
        // Beyond the ends. An axis longer than a block is folded once, into rows that are at hand.
        for (int64 i = stop; i < start + length + margin; ++i) {
            const int64 from = extended(i, job.extent, job.extension);
            const T* row = periodic ? head + from * filter_lines : at(from - zero);
            std::memcpy(at(i - zero), row, filter_lines * sizeof(T));
        }
        for (int64 i = zero; start == 0 && i < 0; ++i) {
            const int64 from = extended(i, job.extent, job.extension);
            if (periodic)
                read(from, at(i - zero));
            else
                std::memcpy(at(i - zero), at(from - zero), filter_lines * sizeof(T));
        }
        if (b < last_block || job.continues) std::memcpy(kept, at(block), margin * filter_lines * sizeof(T));

        constexpr int lanes = 32 / static_cast<int>(sizeof(T));
        filter_block<T, Vector<T, lanes>, filter_lines / lanes>(reinterpret_cast<Vector<T, lanes>*>(rows), length,
                                                                margin, job.order);
        const int64 from = maximum(start, job.wanted_start);
        const int64 to = minimum(start + length, job.wanted_stop);
        for (int64 i = from; i < to; ++i) {
            T* row = at(i - zero);
            if (weighted && (i == 0 || i == job.extent - 1)) scale_row(row, T(0.5));
            lines.write(i, row);
        }
    }
}

}  // namespace

void filter(const FilterJob& job, const int64* line, int count, void* scratch) {
    if (job.dtype == dtype_float64)
        filter_as<double>(job, line, count, scratch);
    else
        filter_as<float>(job, line, count, scratch);
}

ELASTICND_END
