// Labels by votes: each voxel under an order-1 stencil gives its weight to its label, and the label with the largest
// sum wins.
#pragma once
#include "dtypes.hpp"

ELASTICND_BEGIN

template <int BYTES>
struct UnsignedOf;
template <>
struct UnsignedOf<1> {
    using type = uint8;
};
template <>
struct UnsignedOf<2> {
    using type = uint16;
};
template <>
struct UnsignedOf<4> {
    using type = uint32;
};
template <>
struct UnsignedOf<8> {
    using type = uint64;
};

// The bits of an element, as stored in memory.
template <int DTYPE>
using Bits = typename UnsignedOf<sizeof(typename Element<DTYPE>::Storage)>::type;

// The bits of infinity, above which a float is NaN; 0 for integers.
template <int DTYPE>
constexpr uint64 infinity_bits = DTYPE == dtype_float16    ? 0x7c00u
                                 : DTYPE == dtype_bfloat16 ? 0x7f80u
                                 : DTYPE == dtype_float32  ? 0x7f800000u
                                 : DTYPE == dtype_float64  ? 0x7ff0000000000000u
                                                           : 0u;

// A number that compares as the label does. For floats, the two zeros are one label, and all NaNs are one label, the
// largest.
template <int DTYPE>
ELASTICND_INLINE Bits<DTYPE> label_of(Bits<DTYPE> element) {
    using Label = Bits<DTYPE>;
    constexpr Label sign = static_cast<Label>(Label(1) << (8 * sizeof(Label) - 1));
    if constexpr (DTYPE == dtype_bool) {
        return element ? 1 : 0;
    } else if constexpr (infinity_bits<DTYPE> != 0) {
        const Label magnitude = static_cast<Label>(element & static_cast<Label>(~sign));
        if (magnitude > infinity_bits<DTYPE>) return static_cast<Label>(~Label(0));
        if (magnitude == 0) return sign;
        return static_cast<Label>(element & sign ? ~element : element | sign);
    } else if constexpr (static_cast<typename Element<DTYPE>::Storage>(-1) < 0) {
        return static_cast<Label>(element ^ sign);
    } else {
        return element;
    }
}

// Sums that differ by no more than this are tied, so that rounding does not decide.
constexpr float vote_tie = 1.0f / 65536;

// The number of taps. If the number of axes is known only at run time, AXES is 0, and this is the largest possible
// number. Taps along the last axis are numbered consecutively.
template <int AXES>
constexpr int vote_taps = AXES ? 1 << AXES : 1 << max_axes;

// The weights of the taps at a position, and the tap nearest to it.
template <int AXES>
struct TapWeights {
    int axes;
    int nearest = 0;  // the same tap as at order 0: floor(x + 1/2)
    float weight[vote_taps<AXES>];

    ELASTICND_FLAT explicit TapWeights(int count) : axes(AXES ? AXES : count) { weight[0] = 1.0f; }
    ELASTICND_FLAT int taps() const { return 1 << (AXES ? AXES : axes); }
    // Adds the next axis; `place` is the position between its two taps.
    ELASTICND_FLAT void add(int axis, double place) {
        nearest = 2 * nearest + (place + 0.5 >= 1.0 ? 1 : 0);
        const float after = static_cast<float>(place);
        const float before = 1.0f - after;
        ELASTICND_UNROLLED
        for (int tap = (1 << axis) - 1; tap >= 0; --tap) {
            weight[2 * tap + 1] = weight[tap] * after;
            weight[2 * tap] = weight[tap] * before;
        }
    }
};

// The label of a tap. On a device it is found by comparisons, because an index would move the labels from registers to
// memory.
template <int AXES, class Label>
ELASTICND_FLAT Label pick_label(const Label* label, int tap) {
#if defined(ELASTICND_CUDA)
    if constexpr (AXES != 0) {
        Label picked = label[0];
        ELASTICND_UNROLLED
        for (int other = 1; other < vote_taps<AXES>; ++other) picked = other == tap ? label[other] : picked;
        return picked;
    }
#endif
    return label[tap];
}

// The sum of the weights of the taps with one label.
template <int AXES, class Label>
ELASTICND_FLAT float votes_for(Label one, const TapWeights<AXES>& weights, const Label* label) {
    float votes[vote_taps<AXES>];
    ELASTICND_UNROLLED
    for (int tap = 0; tap < weights.taps(); ++tap) votes[tap] = label[tap] == one ? weights.weight[tap] : 0.0f;
    ELASTICND_UNROLLED
    for (int half = weights.taps() / 2; half > 0; half /= 2) {
        ELASTICND_UNROLLED
        for (int tap = 0; tap < half; ++tap) votes[tap] += votes[tap + half];
    }
    return votes[0];
}

// The tap whose label wins: among tied labels, that of the nearest tap, or else the smallest.
template <int AXES, class Label>
ELASTICND_FLAT int winning_tap(const TapWeights<AXES>& weights, const Label* label) {
    const Label own = pick_label<AXES>(label, weights.nearest);
    const float own_votes = votes_for(own, weights, label);
    // No other label can then have more votes, except by rounding, which is far less than a tie.
    if (own_votes >= 0.5f) return weights.nearest;
    float largest = own_votes;
    ELASTICND_ROLLED
    for (int tap = 0; tap < weights.taps(); ++tap) {
        const Label one = pick_label<AXES>(label, tap);
        if (one == own) continue;
        const float votes = votes_for(one, weights, label);
        // No third label comes close: the nearest tap alone weighs more than a tie.
        if (votes >= 0.5f) return votes - own_votes > vote_tie ? tap : weights.nearest;
        largest = maximum(largest, votes);
    }
    if (largest - own_votes <= vote_tie) return weights.nearest;
    int winner = weights.nearest;  // until a tied label is found: that of the nearest tap is not tied
    Label smallest = own;
    ELASTICND_ROLLED
    for (int tap = 0; tap < weights.taps(); ++tap) {
        const Label one = pick_label<AXES>(label, tap);
        if ((winner != weights.nearest && one >= smallest) || one == own) continue;
        if (largest - votes_for(one, weights, label) > vote_tie) continue;
        winner = tap;
        smallest = one;
    }
    return winner;
}

ELASTICND_END
