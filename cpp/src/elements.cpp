// Rows of elements in and out of the type of the arithmetic.
#include "sample_kernels.hpp"

ELASTICND_BEGIN

namespace {

// The loops once more for elements that lie side by side: with a distance that is known they become vectors.
template <int DTYPE, class T>
void load_as(const char* from, int64 stride, int64 count, char* to) {
    constexpr int64 size = sizeof(typename Element<DTYPE>::Storage);
    auto load = [&](int64 i, int64 step) ELASTICND_FLAT_LAMBDA {
        const T value = static_cast<T>(load_element<DTYPE>(from + i * step));
        std::memcpy(to + i * static_cast<int64>(sizeof value), &value, sizeof value);
    };
    if (stride == size)
        for (int64 i = 0; i < count; ++i) load(i, size);
    else
        for (int64 i = 0; i < count; ++i) load(i, stride);
}

template <int DTYPE, class T>
void store_as(const char* from, int64 count, char* to, int64 stride) {
    constexpr int64 size = sizeof(typename Element<DTYPE>::Storage);
    auto store = [&](int64 i, int64 step) ELASTICND_FLAT_LAMBDA {
        T value;
        std::memcpy(&value, from + i * static_cast<int64>(sizeof value), sizeof value);
        store_element<DTYPE>(to + i * step, static_cast<typename Element<DTYPE>::Real>(value));
    };
    if (stride == size)
        for (int64 i = 0; i < count; ++i) store(i, size);
    else
        for (int64 i = 0; i < count; ++i) store(i, stride);
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
