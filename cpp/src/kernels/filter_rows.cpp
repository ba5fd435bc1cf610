// Rows of an image to rows of coefficients, filtered along the innermost axis. The image is left as it is, so every
// block of every row can be computed alone: the lanes are as many of them at a time.
#include <cstring>

#include "kernels/kernels.hpp"
#include "kernels/tile.hpp"

ELASTICND_BEGIN

namespace {

template <class T>
struct RowsScratch {
    T tile[tile_rows<T> * tile_lanes<T>];
    T lines[tile_lanes<T> * tile_rows<T>];
};

// Reads samples [start, stop) of the padded axis, and beyond it what continues it.
template <class T>
void read_samples(const RowFilterJob& job, const char* row, int64 start, int64 stop, T* samples) {
    const T beyond = static_cast<T>(job.beyond);
    if (!row) {
        for (int64 i = 0; i < stop - start; ++i) samples[i] = beyond;
        return;
    }
    const int64 extent = job.image_extent + 2 * job.padding;
    const int64 first = maximum<int64>(start, job.padding);
    const int64 last = minimum<int64>(stop, job.padding + job.image_extent);
    if (first < last)
        load_row(job.image_dtype, row + (first - job.padding) * job.image_stride, job.image_stride, last - first,
                 own_dtype<T>, reinterpret_cast<char*>(samples + (first - start)));
    // What lies beyond is most often among the samples that have just been read.
    auto continued = [&](int64 i) {
        const int64 folded = continued_index(i, extent, job.extension) - job.padding;
        const int64 index = minimum(maximum<int64>(folded, 0), job.image_extent - 1);
        if (job.constant && index != folded) return beyond;
        const int64 padded = index + job.padding;
        if (padded >= first && padded < last) return samples[padded - start];
        T sample;
        load_row(job.image_dtype, row + index * job.image_stride, job.image_stride, 1, own_dtype<T>,
                 reinterpret_cast<char*>(&sample));
        return sample;
    };
    const int64 head = first < last ? first : stop;
    const int64 tail = first < last ? last : stop;
    for (int64 i = start; i < head; ++i) samples[i - start] = continued(i);
    for (int64 i = tail; i < stop; ++i) samples[i - start] = continued(i);
}

// Block `index` of one row.
struct RowBlock {
    int row;
    int64 index;
};

// Puts the samples that a block needs into the tile: each line on its own.
template <class T>
void read_lines(const RowFilterJob& job, const char* const* image, const RowBlock* blocks, int count, int length,
                RowsScratch<T>& own) {
    const int margin = block_margin<T>(job.order);
    const T* line[tile_lanes<T>];
    for (int l = 0; l < tile_lanes<T>; ++l) {
        T* samples = own.lines + l * tile_rows<T>;
        line[l] = own.lines + (l < count ? l : 0) * tile_rows<T>;
        const int64 start = blocks[l < count ? l : 0].index * Blocking<T>::block_length;
        if (l < count) read_samples(job, image[blocks[l].row], start - margin, start + length + margin, samples);
    }
    lines_to_tile(line, count, length + 2 * margin, own.tile);
}

// The same where all lines have the same block: what lies beyond the image is then made of whole rows of the tile.
// False if it is not at hand.
template <class T>
bool read_together(const RowFilterJob& job, const char* const* image, const RowBlock* blocks, int count, int length,
                   RowsScratch<T>& own) {
    constexpr int lanes = tile_lanes<T>;
    const int margin = block_margin<T>(job.order);
    const int64 start = blocks[0].index * Blocking<T>::block_length - margin;
    const int64 stop = start + length + 2 * margin;
    const int64 extent = job.image_extent + 2 * job.padding;
    const int64 first = maximum<int64>(start, job.padding);
    const int64 last = minimum<int64>(stop, job.padding + job.image_extent);
    if (blocks[0].index != blocks[count - 1].index || first >= last) return false;
    // Samples beyond the image, and the ones that stand for them.
    constexpr int64 constant_row = -1;
    int64 beyond_index[4 * max_margin];
    int64 source_index[4 * max_margin];
    int beyond_count = 0;
    auto add = [&](int64 i) {
        const int64 folded = continued_index(i, extent, job.extension);
        const int64 padded = minimum(maximum<int64>(folded, job.padding), job.padding + job.image_extent - 1);
        const bool constant = job.constant && padded != folded;
        beyond_index[beyond_count] = i;
        source_index[beyond_count++] = constant ? constant_row : padded;
        return constant || (padded >= first && padded < last);
    };
    for (int64 i = start; i < first; ++i)
        if (!add(i)) return false;
    for (int64 i = last; i < stop; ++i)
        if (!add(i)) return false;
    bool in_place = job.image_dtype == own_dtype<T> && job.image_stride == static_cast<int64>(sizeof(T));
    for (int l = 0; l < count; ++l) in_place &= reinterpret_cast<std::uintptr_t>(image[blocks[l].row]) % sizeof(T) == 0;
    const T* line[lanes];
    for (int l = 0; l < lanes; ++l) {
        const char* row = image[blocks[l < count ? l : 0].row];
        if (!row) return false;
        row += (first - job.padding) * job.image_stride;
        T* samples = own.lines + l * tile_rows<T>;
        line[l] = in_place ? reinterpret_cast<const T*>(row) : l < count ? samples : own.lines;
        if (!in_place && l < count)
            load_row(job.image_dtype, row, job.image_stride, last - first, own_dtype<T>,
                     reinterpret_cast<char*>(samples));
    }
    auto at = [&](int64 i) { return own.tile + (i - start) * lanes; };
    lines_to_tile(line, count, static_cast<int>(last - first), at(first));
    const T beyond = static_cast<T>(job.beyond);
    for (int j = 0; j < beyond_count; ++j) {
        T* to = at(beyond_index[j]);
        if (source_index[j] == constant_row)
            for (int l = 0; l < lanes; ++l) to[l] = beyond;
        else
            std::memcpy(to, at(source_index[j]), lanes * sizeof(T));
    }
    return true;
}

template <class T>
void filter_blocks(const RowFilterJob& job, const char* const* image, char* const* coefficients, const RowBlock* blocks,
                   int count, int length, RowsScratch<T>& own) {
    const int margin = block_margin<T>(job.order);
    if (!read_together(job, image, blocks, count, length, own)) read_lines(job, image, blocks, count, length, own);
    filter_tile(own.tile, length, margin, job.order);
    // Blocks at the ends of what is wanted may be cut.
    int cut = 0;
    T* line[tile_lanes<T>];
    for (int l = 0; l < count; ++l) {
        const int64 start = blocks[l].index * Blocking<T>::block_length;
        line[l] = reinterpret_cast<T*>(coefficients[blocks[l].row]) + start;
        cut += start < job.wanted_start || start + length > job.wanted_stop;
    }
    const T* rows = own.tile + margin * tile_lanes<T>;
    if (cut == 0) {
        tile_to_lines(rows, count, length, line);
        return;
    }
    for (int l = 0; l < count; ++l) {
        const int64 start = blocks[l].index * Blocking<T>::block_length;
        const int64 from = maximum(start, job.wanted_start) - start;
        const int64 to = minimum(start + length, job.wanted_stop) - start;
        for (int64 i = from; i < to; ++i) line[l][i] = rows[i * tile_lanes<T> + l];
    }
}

template <class T>
void filter_rows_as(const RowFilterJob& job, const char* const* image, char* const* coefficients, int count,
                    void* scratch) {
    if (!job.filtered) {
        for (int r = 0; r < count; ++r)
            read_samples(job, image[r], job.wanted_start, job.wanted_stop,
                         reinterpret_cast<T*>(coefficients[r]) + job.wanted_start);
        return;
    }
    auto& own = allocate_scratch<RowsScratch<T>>(scratch);
    constexpr int64 block = Blocking<T>::block_length;
    const int64 extent = job.image_extent + 2 * job.padding;
    const int64 first = job.wanted_start / block;
    const int64 last = (job.wanted_stop - 1) / block;
    const int64 short_block = extent % block ? extent / block : -1;  // the last one, where it is not full
    RowBlock blocks[tile_lanes<T>];
    int gathered = 0;
    auto finish = [&](int64 length) {
        if (gathered > 0) filter_blocks(job, image, coefficients, blocks, gathered, static_cast<int>(length), own);
        gathered = 0;
    };
    // Blocks of one length run side by side.
    for (int64 b = first; b <= last; ++b) {
        const bool is_short = b == short_block;
        if (is_short) finish(block);
        for (int r = 0; r < count; ++r) {
            blocks[gathered++] = {r, b};
            if (gathered == tile_lanes<T>) finish(is_short ? extent % block : block);
        }
        if (is_short) finish(extent % block);
    }
    finish(block);
}

}  // namespace

int64 rows_scratch_size() { return static_cast<int64>(sizeof(RowsScratch<double>)); }

void filter_rows(const RowFilterJob& job, const char* const* image, char* const* coefficients, int count,
                 void* scratch) {
    if (job.dtype == dtype_float64)
        filter_rows_as<double>(job, image, coefficients, count, scratch);
    else
        filter_rows_as<float>(job, image, coefficients, count, scratch);
}

ELASTICND_END
