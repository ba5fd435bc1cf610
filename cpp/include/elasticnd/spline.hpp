// Cardinal B-splines of order 0 to 5: values, derivatives, and the poles of the filter that inverts them.
//
// M. Unser, A. Aldroubi, M. Eden, "B-spline signal processing: Part I: Theory", IEEE Transactions on Signal
// Processing 41(2), 1993. C. de Boor, "A Practical Guide to Splines", Springer, 1978, for the recursion.
#pragma once
#include "platform.hpp"

ELASTICND_BEGIN

// A coordinate lies in one knot span: between integers for odd orders, between half-integers for even ones.
ELASTICND_INLINE double knot_shift(int order) { return order % 2 ? 0.0 : 0.5; }

// Weights of the order + 1 coefficients that reach the point `s` of its knot span, 0 <= s < 1, by de Boor's recursion;
// differentiated `derivative` times. The lower orders live in the same knot span, so differences of their weights
// are the derivatives.
template <int ORDER, class T, class W>
ELASTICND_INLINE void spline_weights(T s, int derivative, W weight) {
    T w[ORDER + 1];
    w[0] = T(1);
    for (int order = 1; order <= ORDER; ++order) {
        T left = T(0);
        if (order <= ORDER - derivative) {
            const T scale = T(1) / T(order);
            for (int tap = 0; tap < order; ++tap) {
                const T carried = w[tap] * scale;
                w[tap] = left + (T(tap + 1) - s) * carried;
                left = (s + T(order - tap - 1)) * carried;
            }
            w[order] = left;
        } else {
            for (int tap = 0; tap < order; ++tap) {
                const T carried = w[tap];
                w[tap] = left - carried;
                left = carried;
            }
            w[order] = left;
        }
    }
    for (int tap = 0; tap <= ORDER; ++tap) weight(tap, derivative > ORDER ? T(0) : w[tap]);
}

constexpr int max_poles = 2;

struct Poles {
    int count;
    double pole[max_poles];
};

ELASTICND_INLINE Poles spline_poles(int order) {
    switch (order) {
        case 2: return {1, {-0.171572875253809902396622551580603843, 0}};  // sqrt(8) - 3
        case 3: return {1, {-0.267949192431122706472553658494127633, 0}};  // sqrt(3) - 2
        case 4: return {2, {-0.361341225900220177092212841325675255, -0.013725429297339121360331226939128204}};
        case 5: return {2, {-0.430575347099973791851434783493520110, -0.043096288203264653822712376822550182}};
        default: return {0, {0, 0}};
    }
}

ELASTICND_END
