// Numbers side by side: a compiler vector where there is one, a plain array elsewhere.
#pragma once
#include <cstring>
#include <type_traits>

#include "../include/elasticnd/platform.hpp"

ELASTICND_BEGIN

#if defined(__GNUC__)

template <class T, int LANES>
struct VectorOf;
template <>
struct VectorOf<float, 4> {
    typedef float type __attribute__((vector_size(16)));
};
template <>
struct VectorOf<float, 8> {
    typedef float type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<double, 4> {
    typedef double type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<double, 8> {
    typedef double type __attribute__((vector_size(64)));
};
template <class T, int LANES>
using Vector = typename VectorOf<T, LANES>::type;

#else

template <class T, int LANES>
struct Vector {
    T lane[LANES];
    T operator[](int l) const { return lane[l]; }
    T& operator[](int l) { return lane[l]; }
    friend Vector operator+(Vector a, Vector b) {
        for (int l = 0; l < LANES; ++l) a.lane[l] += b.lane[l];
        return a;
    }
    friend Vector operator-(Vector a, Vector b) {
        for (int l = 0; l < LANES; ++l) a.lane[l] -= b.lane[l];
        return a;
    }
    friend Vector operator*(Vector a, Vector b) {
        for (int l = 0; l < LANES; ++l) a.lane[l] *= b.lane[l];
        return a;
    }
    friend Vector operator*(Vector a, T b) {
        for (int l = 0; l < LANES; ++l) a.lane[l] *= b;
        return a;
    }
};

#endif

// Brings a line of memory into the cache; the address need not be good.
ELASTICND_FLAT void prefetch(const void* at) {
#if defined(__GNUC__)
    __builtin_prefetch(at);
#else
    (void)at;
#endif
}

template <class V>
inline V load_vector(const void* from) {
    V vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

template <class V>
inline void store_vector(void* to, const V& vector) {
    std::memcpy(to, &vector, sizeof vector);
}

// The taps of a stencil along the contiguous axis. From three on: a vector of four or eight lanes, of which those
// beyond the taps hold whatever lies there. Sums run over the same lanes, so in the same order, in every instruction
// set.
template <class T, int TAPS>
struct ManyTaps {
    static constexpr int lanes = TAPS <= 4 ? 4 : 8;
    using Lanes = Vector<T, lanes>;
    Lanes tap;

    // Reads `lanes` numbers.
    static ELASTICND_FLAT ManyTaps load(const char* from) { return {load_vector<Lanes>(from)}; }
    ELASTICND_FLAT void store(char* to) const { store_vector(to, tap); }
    // Numbers that lie `stride` elements apart.
    static ELASTICND_FLAT ManyTaps gather(const T* from, int stride) {
        Lanes taps = {};
        for (int l = 0; l < TAPS; ++l) taps[l] = from[l * stride];
        return {taps};
    }
    ELASTICND_FLAT ManyTaps scaled(T factor) const { return {tap * factor}; }
    ELASTICND_FLAT void add(const ManyTaps& other) { tap = tap + other.tap; }
    // With zeros in the other lanes.
    ELASTICND_FLAT ManyTaps only_taps() const {
        ManyTaps taps = *this;
        for (int l = TAPS; l < lanes; ++l) taps.tap[l] = T(0);
        return taps;
    }
    ELASTICND_FLAT T dot(const ManyTaps& other) const {
        const Lanes product = ManyTaps{tap * other.tap}.only_taps().tap;
        if constexpr (lanes == 8) {
            T sum[4];
            for (int l = 0; l < 4; ++l) sum[l] = product[l] + product[l + 4];
            return (sum[0] + sum[1]) + (sum[2] + sum[3]);
        } else {
            return (product[0] + product[1]) + (product[2] + product[3]);
        }
    }
};

// One or two of them.
template <class T, int TAPS>
struct FewTaps {
    static constexpr int lanes = TAPS;
    T tap[TAPS];

    static ELASTICND_FLAT FewTaps load(const char* from) {
        FewTaps taps;
        std::memcpy(taps.tap, from, sizeof taps.tap);
        return taps;
    }
    ELASTICND_FLAT void store(char* to) const { std::memcpy(to, tap, sizeof tap); }
    ELASTICND_FLAT FewTaps only_taps() const { return *this; }
    static ELASTICND_FLAT FewTaps gather(const T* from, int stride) {
        FewTaps taps;
        for (int l = 0; l < TAPS; ++l) taps.tap[l] = from[l * stride];
        return taps;
    }
    ELASTICND_FLAT FewTaps scaled(T factor) const {
        FewTaps taps;
        for (int l = 0; l < TAPS; ++l) taps.tap[l] = tap[l] * factor;
        return taps;
    }
    ELASTICND_FLAT void add(const FewTaps& other) {
        for (int l = 0; l < TAPS; ++l) tap[l] += other.tap[l];
    }
    ELASTICND_FLAT T dot(const FewTaps& other) const {
        T sum = tap[0] * other.tap[0];
        for (int l = 1; l < TAPS; ++l) sum += tap[l] * other.tap[l];
        return sum;
    }
};
template <class T, int TAPS>
using Taps = std::conditional_t<(TAPS > 2), ManyTaps<T, TAPS>, FewTaps<T, TAPS>>;

ELASTICND_END
