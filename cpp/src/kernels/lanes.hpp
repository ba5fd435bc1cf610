// Several numbers in one value: a vector type of the compiler if it has one, otherwise a plain array.
#pragma once
#include <cstring>
#include <type_traits>

#include "elasticnd/platform.hpp"

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
template <>
struct VectorOf<int64, 4> {
    typedef int64 type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<uint64, 4> {
    typedef uint64 type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<int32, 8> {
    typedef int32 type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<uint32, 8> {
    typedef uint32 type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<uint16, 8> {
    typedef uint16 type __attribute__((vector_size(16)));
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

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define ELASTICND_SHUFFLES
#endif
#endif

// Prefetches a line of memory into the cache; the address need not be valid.
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

// The taps of a stencil along the contiguous axis. Three or more taps are a vector of four or eight lanes; lanes beyond
// the taps hold arbitrary values. All instruction sets sum the same lanes in the same order, so that results have
// the same bits.
template <class T, int TAPS>
struct ManyTaps {
    static constexpr int lanes = TAPS <= 4 ? 4 : 8;
    using Lanes = Vector<T, lanes>;
    Lanes tap;

    // Reads `lanes` numbers.
    static ELASTICND_FLAT ManyTaps load(const char* from) { return {load_vector<Lanes>(from)}; }
    ELASTICND_FLAT void store(char* to) const { store_vector(to, tap); }
    // Reads numbers that are `stride` elements apart.
    static ELASTICND_FLAT ManyTaps gather(const T* from, int stride) {
        Lanes taps = {};
        for (int l = 0; l < TAPS; ++l) taps[l] = from[l * stride];
        return {taps};
    }
    ELASTICND_FLAT ManyTaps scaled(T factor) const { return {tap * factor}; }
    ELASTICND_FLAT void add(const ManyTaps& other) { tap = tap + other.tap; }
    // Sets all lanes to zero except those of the taps.
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

// One or two taps, as single numbers.
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
// Two lines of four taps in one vector, so that one operation handles both.
template <class T, int TAPS>
struct JoinedPairs {
    using Line = ManyTaps<T, TAPS>;
    static constexpr int lanes = Line::lanes;
    Vector<T, 2 * lanes> both;

    // The line times `first`, and the line times `second`.
    static ELASTICND_FLAT JoinedPairs of(const Line& line, T first, T second) {
        return {join(line.tap, line.tap) * join(spread(first), spread(second))};
    }
    ELASTICND_FLAT JoinedPairs scaled(T factor) const { return {both * factor}; }
    ELASTICND_FLAT void add(const JoinedPairs& other) { both = both + other.both; }
    ELASTICND_FLAT Line first() const { return half<0>(); }
    ELASTICND_FLAT Line second() const { return half<1>(); }

   private:
    using Lanes = typename Line::Lanes;
    using Both = Vector<T, 2 * lanes>;
    static ELASTICND_FLAT Lanes spread(T value) { return Lanes{value, value, value, value}; }
    static ELASTICND_FLAT Both join(const Lanes& low, const Lanes& high) {
#if defined(ELASTICND_SHUFFLES)
        return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
#else
        Both both;
        for (int l = 0; l < 2 * lanes; ++l) both[l] = l < lanes ? low[l] : high[l - lanes];
        return both;
#endif
    }
    template <int HALF>
    ELASTICND_FLAT Line half() const {
#if defined(ELASTICND_SHUFFLES)
        constexpr int s = HALF * lanes;
        return {__builtin_shufflevector(both, both, s, s + 1, s + 2, s + 3)};
#else
        Line line;
        for (int l = 0; l < lanes; ++l) line.tap[l] = both[HALF * lanes + l];
        return line;
#endif
    }
};

// The same two lines, in separate vectors.
template <class T, class Line>
struct LinePairs {
    Line one;
    Line other;

    static ELASTICND_FLAT LinePairs of(const Line& line, T first, T second) {
        return {line.scaled(first), line.scaled(second)};
    }
    ELASTICND_FLAT LinePairs scaled(T factor) const { return {one.scaled(factor), other.scaled(factor)}; }
    ELASTICND_FLAT void add(const LinePairs& pair) {
        one.add(pair.one);
        other.add(pair.other);
    }
    ELASTICND_FLAT Line first() const { return one; }
    ELASTICND_FLAT Line second() const { return other; }
};

template <class T, int TAPS>
using Taps = std::conditional_t<(TAPS > 2), ManyTaps<T, TAPS>, FewTaps<T, TAPS>>;

// Whether two lines fit in one vector of the processor.
template <class T, int TAPS>
constexpr bool pairs_fit = TAPS > 2 && 2 * Taps<T, TAPS>::lanes * sizeof(T) <= 32;
template <class T, int TAPS>
using TapPairs = std::conditional_t<pairs_fit<T, TAPS>, JoinedPairs<T, TAPS>, LinePairs<T, Taps<T, TAPS>>>;

ELASTICND_END
