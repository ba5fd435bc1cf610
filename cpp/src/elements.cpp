// Rows of elements in and out of the type of the arithmetic.
#include "sample_kernels.hpp"

ELASTICND_BEGIN

namespace {

template <class Body>
void with_arithmetic(int dtype, Body body) {
    if (dtype == dtype_float64)
        body(double());
    else
        body(float());
}

}  // namespace

void load_row(int dtype, const char* from, int64 stride, int64 count, int arithmetic, char* to) {
    with_dtype(dtype, [&](auto constant) {
        constexpr int DTYPE = decltype(constant)::value;
        with_arithmetic(arithmetic, [&](auto zero) {
            for (int64 i = 0; i < count; ++i) {
                const auto value = static_cast<decltype(zero)>(load_element<DTYPE>(from + i * stride));
                std::memcpy(to + i * static_cast<int64>(sizeof value), &value, sizeof value);
            }
        });
    });
}

void store_row(int arithmetic, const char* from, int64 count, int dtype, char* to, int64 stride) {
    with_dtype(dtype, [&](auto constant) {
        constexpr int DTYPE = decltype(constant)::value;
        with_arithmetic(arithmetic, [&](auto value) {
            for (int64 i = 0; i < count; ++i) {
                std::memcpy(&value, from + i * static_cast<int64>(sizeof value), sizeof value);
                store_element<DTYPE>(to + i * stride, static_cast<typename Element<DTYPE>::Real>(value));
            }
        });
    });
}

ELASTICND_END
