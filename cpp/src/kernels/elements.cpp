// Rows of elements in and out of the type of the arithmetic.
#include <cstring>

#include "kernels/kernels.hpp"

ELASTICND_BEGIN

namespace {

constexpr int64 piece = 64;  // elements that are moved together where they do not lie side by side

// Loops over elements at a distance that is known become vectors.
template <int DTYPE, class T>
void load_adjacent(const char* from, int64 count, char* to) {
    for (int64 i = 0; i < count; ++i) {
        constexpr int64 size = sizeof(typename Element<DTYPE>::Storage);
        const T value = static_cast<T>(load_element<DTYPE>(from + i * size));
        std::memcpy(to + i * static_cast<int64>(sizeof value), &value, sizeof value);
    }
}

template <int DTYPE, class T>
void store_adjacent(const char* from, int64 count, char* to) {
    for (int64 i = 0; i < count; ++i) {
        constexpr int64 size = sizeof(typename Element<DTYPE>::Storage);
        T value;
        std::memcpy(&value, from + i * static_cast<int64>(sizeof value), sizeof value);
        store_element<DTYPE>(to + i * size, static_cast<typename Element<DTYPE>::Real>(value));
    }
}

template <int DTYPE, class T>
void load_as(const char* from, int64 stride, int64 count, char* to) {
    using Storage = typename Element<DTYPE>::Storage;
    if (stride == static_cast<int64>(sizeof(Storage))) {
        load_adjacent<DTYPE, T>(from, count, to);
        return;
    }
    Storage elements[piece];
    for (int64 first = 0; first < count; first += piece) {
        const int64 some = minimum(piece, count - first);
        for (int64 i = 0; i < some; ++i) std::memcpy(elements + i, from + (first + i) * stride, sizeof(Storage));
        load_adjacent<DTYPE, T>(reinterpret_cast<const char*>(elements), some,
                                to + first * static_cast<int64>(sizeof(T)));
    }
}

template <int DTYPE, class T>
void store_as(const char* from, int64 count, char* to, int64 stride) {
    using Storage = typename Element<DTYPE>::Storage;
    if (stride == static_cast<int64>(sizeof(Storage))) {
        store_adjacent<DTYPE, T>(from, count, to);
        return;
    }
    Storage elements[piece];
    for (int64 first = 0; first < count; first += piece) {
        const int64 some = minimum(piece, count - first);
        store_adjacent<DTYPE, T>(from + first * static_cast<int64>(sizeof(T)), some, reinterpret_cast<char*>(elements));
        for (int64 i = 0; i < some; ++i) std::memcpy(to + (first + i) * stride, elements + i, sizeof(Storage));
    }
}

}  // namespace

void load_row(int dtype, const char* from, int64 stride, int64 count, int arithmetic, char* to) {
    with_dtype(dtype, [&](auto constant) {
        constexpr int DTYPE = decltype(constant)::value;
        if (arithmetic == dtype_float64)
            load_as<DTYPE, double>(from, stride, count, to);
        else
            load_as<DTYPE, float>(from, stride, count, to);
    });
}

void store_row(int arithmetic, const char* from, int64 count, int dtype, char* to, int64 stride) {
    with_dtype(dtype, [&](auto constant) {
        constexpr int DTYPE = decltype(constant)::value;
        if (arithmetic == dtype_float64)
            store_as<DTYPE, double>(from, count, to, stride);
        else
            store_as<DTYPE, float>(from, count, to, stride);
    });
}

ELASTICND_END
