// Numbers side by side: a compiler vector where there is one, a plain array elsewhere.
#pragma once
#include <cstring>

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

// Sums run over four lanes in every instruction set, so that they run in the same order everywhere.
template <class T>
using Quad = Vector<T, 4>;

template <class T>
inline Quad<T> load_quad(const void* from) {
    Quad<T> quad;
    std::memcpy(&quad, from, sizeof quad);
    return quad;
}

template <class T>
inline void store_quad(void* to, Quad<T> quad) {
    std::memcpy(to, &quad, sizeof quad);
}

template <class T>
inline Quad<T> spread(T value) {
    Quad<T> quad;
    for (int l = 0; l < 4; ++l) quad[l] = value;
    return quad;
}

template <class T>
inline T sum_of(Quad<T> quad) {
    return (quad[0] + quad[1]) + (quad[2] + quad[3]);
}

// The taps of a stencil along the contiguous axis: as many quads as fit, then single numbers.
template <class T, int TAPS>
struct Taps {
    static constexpr int quads = TAPS / 4;
    static constexpr int singles = TAPS % 4;
    Quad<T> quad[quads ? quads : 1];
    T single[singles ? singles : 1];

    static Taps load(const char* from) {
        Taps taps;
        for (int q = 0; q < quads; ++q) taps.quad[q] = load_quad<T>(from + q * sizeof(Quad<T>));
        std::memcpy(taps.single, from + quads * sizeof(Quad<T>), singles * sizeof(T));
        return taps;
    }
    // Numbers that lie `stride` elements apart.
    static Taps gather(const T* from, int stride) {
        Taps taps;
        for (int q = 0; q < quads; ++q)
            for (int l = 0; l < 4; ++l) taps.quad[q][l] = from[(4 * q + l) * stride];
        for (int s = 0; s < singles; ++s) taps.single[s] = from[(4 * quads + s) * stride];
        return taps;
    }
    void store(char* to) const {
        for (int q = 0; q < quads; ++q) store_quad<T>(to + q * sizeof(Quad<T>), quad[q]);
        std::memcpy(to + quads * sizeof(Quad<T>), single, singles * sizeof(T));
    }
    Taps scaled(T factor) const {
        Taps taps;
        for (int q = 0; q < quads; ++q) taps.quad[q] = quad[q] * spread(factor);
        for (int s = 0; s < singles; ++s) taps.single[s] = single[s] * factor;
        return taps;
    }
    void add(const Taps& other) {
        for (int q = 0; q < quads; ++q) quad[q] = quad[q] + other.quad[q];
        for (int s = 0; s < singles; ++s) single[s] = single[s] + other.single[s];
    }
    T dot(const Taps& other) const {
        T sum = T(0);
        if (quads > 0) {
            Quad<T> products = quad[0] * other.quad[0];
            for (int q = 1; q < quads; ++q) products = products + quad[q] * other.quad[q];
            sum = sum_of<T>(products);
        }
        for (int s = 0; s < singles; ++s) sum = sum + single[s] * other.single[s];
        return sum;
    }
};

ELASTICND_END
