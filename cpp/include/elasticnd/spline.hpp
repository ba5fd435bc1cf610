// Cardinal B-splines of order 0 to 5: values, derivatives, and the poles of the filter that inverts them.
//
// M. Unser, A. Aldroubi, M. Eden, "B-spline signal processing: Part I: Theory", IEEE Transactions on Signal
// Processing 41(2), 1993. C. de Boor, "A Practical Guide to Splines", Springer, 1978, for the recursion.
#pragma once
#include "platform.hpp"

ELASTICND_BEGIN

// The shift that makes knot spans begin at integers: they lie between integers for odd orders, and between
// half-integers for even ones.
ELASTICND_INLINE double knot_shift(int order) { return order % 2 ? 0.0 : 0.5; }

// The weights of the ORDER + 1 coefficients at place `s` of a knot span, 0 <= s < 1, differentiated DERIVATIVE times,
// by de Boor's recursion. Splines of lower order share the knot span, so derivatives are differences of their weights.
template <int ORDER, int DERIVATIVE, class T>
ELASTICND_FLAT void spline_weights(T s, T* weight) {
    if constexpr (DERIVATIVE > ORDER) {
        for (int tap = 0; tap <= ORDER; ++tap) weight[tap] = T(0);
    } else if constexpr (ORDER == 0) {
        weight[0] = T(1);
    } else if constexpr (DERIVATIVE > 0) {
        T lower[ORDER];
        spline_weights<ORDER - 1, DERIVATIVE - 1>(s, lower);
        weight[0] = -lower[0];
        for (int tap = 1; tap < ORDER; ++tap) weight[tap] = lower[tap - 1] - lower[tap];
        weight[ORDER] = lower[ORDER - 1];
    } else {
        T lower[ORDER];
        spline_weights<ORDER - 1, 0>(s, lower);
        constexpr T scale = T(1) / T(ORDER);
        for (int tap = 0; tap < ORDER; ++tap) lower[tap] *= scale;
        weight[0] = (T(1) - s) * lower[0];
        for (int tap = 1; tap < ORDER; ++tap)
            weight[tap] = (s + T(ORDER - tap)) * lower[tap - 1] + (T(tap + 1) - s) * lower[tap];
        weight[ORDER] = s * lower[ORDER - 1];
    }
}

constexpr int max_poles = max_order / 2;

struct Poles {
    int count;
    double pole[max_poles];
};

ELASTICND_INLINE constexpr Poles spline_poles(int order) {
    static_assert(max_order == 5, "each order needs its poles here");
    switch (order) {
        case 2: return {1, {-0.171572875253809902396622551580603843, 0}};  // sqrt(8) - 3
        case 3: return {1, {-0.267949192431122706472553658494127633, 0}};  // sqrt(3) - 2
        case 4: return {2, {-0.361341225900220177092212841325675255, -0.013725429297339121360331226939128204}};
        case 5: return {2, {-0.430575347099973791851434783493520110, -0.043096288203264653822712376822550182}};
        default: return {0, {0, 0}};
    }
}

ELASTICND_END
