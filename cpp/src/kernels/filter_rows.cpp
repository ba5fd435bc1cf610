// Filters rows of an image along the innermost axis, which yields rows of coefficients. The image does not change, so
// every block of every row can be computed on its own: each lane of a tile holds one block. If the channels of a pixel
// lie side by side, they are loaded together, into adjacent lanes.
#include <cstring>

#include "kernels/kernels.hpp"
#include "kernels/tile.hpp"

ELASTICND_BEGIN

namespace {

template <class T>
struct RowsScratch {
    T tile[tile_rows<T> * tile_lanes<T> + pixel_lanes];
    T lines[tile_lanes<T> * tile_rows<T> + pixel_lanes];
};

// Reads pixels [start, stop) of the padded axis, and continues it beyond its ends.
template <class T>
void read_samples(const RowFilterJob& job, const char* row, int64 start, int64 stop, T* samples) {
    const int channels = job.channels;
    const T border_value = static_cast<T>(job.border_value);
    auto fill = [&](T* to) {
        for (int c = 0; c < channels; ++c) to[c] = border_value;
    };
    if (!row) {
        for (int64 i = 0; i < stop - start; ++i) fill(samples + i * channels);
        return;
    }
    auto load = [&](int64 index, int64 count, T* to) {
        load_pixels(job.image_dtype, row + index * job.image_stride, job.image_stride, count, channels, own_dtype<T>,
                    reinterpret_cast<char*>(to));
    };
    const int64 extent = job.image_extent + 2 * job.padding;
    const int64 first = maximum<int64>(start, job.padding);
    const int64 last = minimum<int64>(stop, job.padding + job.image_extent);
    if (first < last) load(first - job.padding, last - first, samples + (first - start) * channels);
    // Samples beyond the image usually repeat samples that have just been read.
    auto continue_to = [&](int64 i) {
        T* to = samples + (i - start) * channels;
        const int64 folded = continued_index(i, extent, job.extension) - job.padding;
        const int64 index = minimum(maximum<int64>(folded, 0), job.image_extent - 1);
        const int64 padded = index + job.padding;
        if (job.constant && index != folded)
            fill(to);
        else if (padded >= first && padded < last)
            for (int c = 0; c < channels; ++c) to[c] = samples[(padded - start) * channels + c];
        else
            load(index, 1, to);
    };
    const int64 head = first < last ? first : stop;
    const int64 tail = first < last ? last : stop;
    for (int64 i = start; i < head; ++i) continue_to(i);
    for (int64 i = tail; i < stop; ++i) continue_to(i);
}

// Block `index` of one row.
struct RowBlock {
    int row;
    int64 index;
};

// Copies adjacent pixels to neighbouring lanes of a tile, or lanes back to pixels of pixel_lanes elements.
template <class T>
void pixels_to_lanes(const T* pixels, int count, int channels, T* lane) {
    with_channels(channels, [&](auto constant) {
        constexpr int CHANNELS = decltype(constant)::value;
        // Three elements are copied as four; the next row overwrites the fourth.
        constexpr int moved = CHANNELS == 3 ? 4 : CHANNELS;
        for (int i = 0; i < count; ++i) std::memcpy(lane + i * tile_lanes<T>, pixels + i * CHANNELS, moved * sizeof(T));
    });
}

template <class T>
void lanes_to_pixels(const T* lane, int64 count, T* pixels) {
    for (int64 i = 0; i < count; ++i)
        std::memcpy(pixels + i * pixel_lanes, lane + i * tile_lanes<T>, pixel_lanes * sizeof(T));
}

// Reads the samples that blocks need into the tile, each line separately.
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

// The same for pixels.
template <class T>
void read_pixels(const RowFilterJob& job, const char* const* image, const RowBlock* blocks, int count, int length,
                 RowsScratch<T>& own) {
    const int margin = block_margin<T>(job.order);
    for (int b = 0; b < count; ++b) {
        const int64 start = blocks[b].index * Blocking<T>::block_length - margin;
        const int pixels = length + 2 * margin;
        read_samples(job, image[blocks[b].row], start, start + pixels, own.lines);
        pixels_to_lanes(own.lines, pixels, job.channels, own.tile + b * job.channels);
    }
}

// Loads some samples of each row into a tile, beginning at `offset` bytes in the row.
template <class T>
void load_rows(const RowFilterJob& job, const char* const* image, int64 offset, const RowBlock* blocks, int count,
               int samples, RowsScratch<T>& own, T* tile) {
    bool in_place = job.image_dtype == own_dtype<T> && job.image_stride == static_cast<int64>(sizeof(T));
    for (int l = 0; l < count; ++l) in_place &= reinterpret_cast<std::uintptr_t>(image[blocks[l].row]) % sizeof(T) == 0;
    const T* line[tile_lanes<T>];
    for (int l = 0; l < tile_lanes<T>; ++l) {
        const char* row = image[blocks[l < count ? l : 0].row] + offset;
        T* to = own.lines + l * tile_rows<T>;
        line[l] = in_place ? reinterpret_cast<const T*>(row) : l < count ? to : own.lines;
        if (!in_place && l < count)
            load_row(job.image_dtype, row, job.image_stride, samples, own_dtype<T>, reinterpret_cast<char*>(to));
    }
    lines_to_tile(line, count, samples, tile);
}

// The same for pixels.
template <class T>
void load_pixel_rows(const RowFilterJob& job, const char* const* image, int64 offset, const RowBlock* blocks, int count,
                     int pixels, RowsScratch<T>& own, T* tile) {
    for (int b = 0; b < count; ++b) {
        load_pixels(job.image_dtype, image[blocks[b].row] + offset, job.image_stride, pixels, job.channels,
                    own_dtype<T>, reinterpret_cast<char*>(own.lines));
        pixels_to_lanes(own.lines, pixels, job.channels, tile + b * job.channels);
    }
}

// Reads the samples of lines that all need the same block. Samples beyond the image are then copies of whole rows of
// the tile. Returns false if lines need different blocks, or if a row to copy is not in the tile.
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
    // Samples beyond the image, and the samples that they repeat.
    constexpr int64 constant_row = -1;
    int64 constant_index[4 * max_margin];
    int64 source_index[4 * max_margin];
    int constant_count = 0;
    auto add = [&](int64 i) {
        const int64 folded = continued_index(i, extent, job.extension);
        const int64 padded = minimum(maximum<int64>(folded, job.padding), job.padding + job.image_extent - 1);
        const bool constant = job.constant && padded != folded;
        constant_index[constant_count] = i;
        source_index[constant_count++] = constant ? constant_row : padded;
        return constant || (padded >= first && padded < last);
    };
    for (int64 i = start; i < first; ++i)
        if (!add(i)) return false;
    for (int64 i = last; i < stop; ++i)
        if (!add(i)) return false;
    auto at = [&](int64 i) { return own.tile + (i - start) * lanes; };
    const int64 offset = (first - job.padding) * job.image_stride;
    for (int b = 0; b < count; ++b)
        if (!image[blocks[b].row]) return false;
    const int voxels = static_cast<int>(last - first);
    if (job.channels > 1)
        load_pixel_rows(job, image, offset, blocks, count, voxels, own, at(first));
    else
        load_rows(job, image, offset, blocks, count, voxels, own, at(first));
    const T border_value = static_cast<T>(job.border_value);
    for (int j = 0; j < constant_count; ++j) {
        T* to = at(constant_index[j]);
        if (source_index[j] == constant_row)
            for (int l = 0; l < lanes; ++l) to[l] = border_value;
        else
            std::memcpy(to, at(source_index[j]), lanes * sizeof(T));
    }
    return true;
}

// Writes rows [from, to) of some lanes.
template <class T>
void write_lines(const T* rows, int lanes, int64 from, int64 to, T* const* line) {
    for (int l = 0; l < lanes; ++l)
        for (int64 i = from; i < to; ++i) line[l][i] = rows[i * tile_lanes<T> + l];
}

template <class T>
void filter_blocks(const RowFilterJob& job, const char* const* image, char* const* coefficients, const RowBlock* blocks,
                   int count, int length, RowsScratch<T>& own) {
    const int margin = block_margin<T>(job.order);
    if (!read_together(job, image, blocks, count, length, own)) {
        if (job.channels > 1)
            read_pixels(job, image, blocks, count, length, own);
        else
            read_lines(job, image, blocks, count, length, own);
    }
    filter_tile(own.tile, length, margin, job.order);
    // Blocks at the ends of the wanted range may be cut.
    const T* rows = own.tile + margin * tile_lanes<T>;
    T* line[tile_lanes<T>];
    bool cut = false;
    for (int b = 0; b < count; ++b) {
        const int64 start = blocks[b].index * Blocking<T>::block_length;
        const int64 from = maximum(start, job.wanted_start) - start;
        const int64 to = minimum(start + length, job.wanted_stop) - start;
        T* row = reinterpret_cast<T*>(coefficients[blocks[b].row]);
        if (job.as_pixels) {
            lanes_to_pixels(rows + from * tile_lanes<T> + b * job.channels, to - from,
                            row + (start + from) * pixel_lanes);
            continue;
        }
        for (int c = 0; c < job.channels; ++c) line[b * job.channels + c] = row + c * job.channel_step + start;
        cut |= to - from < length;
    }
    if (job.as_pixels) return;
    if (!cut) {
        tile_to_lines(rows, count * job.channels, length, line);
        return;
    }
    for (int b = 0; b < count; ++b) {
        const int64 start = blocks[b].index * Blocking<T>::block_length;
        const int64 from = maximum(start, job.wanted_start) - start;
        const int64 to = minimum(start + length, job.wanted_stop) - start;
        const int lane = b * job.channels;
        write_lines(rows + lane, job.channels, from, to, line + lane);
    }
}

// Copies samples that are the coefficients themselves.
template <class T>
void copy_row(const RowFilterJob& job, const char* image, T* coefficients, T* pixels) {
    if (job.channels == 1 && !job.as_pixels) {
        read_samples(job, image, job.wanted_start, job.wanted_stop, coefficients + job.wanted_start);
        return;
    }
    for (int64 first = job.wanted_start; first < job.wanted_stop; first += tile_rows<T>) {
        const int64 last = minimum<int64>(first + tile_rows<T>, job.wanted_stop);
        read_samples(job, image, first, last, pixels);
        const int64 step = job.as_pixels ? pixel_lanes : 1;
        for (int64 i = 0; i < last - first; ++i)
            for (int c = 0; c < job.channels; ++c)
                coefficients[(first + i) * step + c * job.channel_step] = pixels[i * job.channels + c];
    }
}

template <class T>
void filter_rows_as(const RowFilterJob& job, const char* const* image, char* const* coefficients, int count,
                    void* scratch) {
    auto& own = allocate_scratch<RowsScratch<T>>(scratch);
    if (!job.filtered) {
        for (int r = 0; r < count; ++r) copy_row(job, image[r], reinterpret_cast<T*>(coefficients[r]), own.lines);
        return;
    }
    constexpr int64 block = Blocking<T>::block_length;
    const int64 extent = job.image_extent + 2 * job.padding;
    const int64 first = job.wanted_start / block;
    const int64 last = (job.wanted_stop - 1) / block;
    const int64 short_block = extent % block ? extent / block : -1;  // the last one, if it is not full
    const int most = tile_lanes<T> / job.channels;
    RowBlock blocks[tile_lanes<T>];
    int gathered = 0;
    auto finish = [&](int64 length) {
        if (gathered > 0) filter_blocks(job, image, coefficients, blocks, gathered, static_cast<int>(length), own);
        gathered = 0;
    };
    // Blocks of the same length are filtered side by side.
    for (int64 b = first; b <= last; ++b) {
        const bool is_short = b == short_block;
        if (is_short) finish(block);
        for (int r = 0; r < count; ++r) {
            blocks[gathered++] = {r, b};
            if (gathered == most) finish(is_short ? extent % block : block);
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
