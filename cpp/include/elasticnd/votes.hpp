// Labels by votes: each voxel under a stencil of order 1 gives its weight to its label, and the largest sum wins.
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

// An element as it lies in memory.
template <int DTYPE>
using Bits = typename UnsignedOf<sizeof(typename Element<DTYPE>::Storage)>::type;

// The bits of infinity, beyond which a float is no number; 0 for integers.
template <int DTYPE>
constexpr uint64 infinity_bits = DTYPE == dtype_float16    ? 0x7c00u
                                 : DTYPE == dtype_bfloat16 ? 0x7f80u
                                 : DTYPE == dtype_float32  ? 0x7f800000u
                                 : DTYPE == dtype_float64  ? 0x7ff0000000000000u
                                                           : 0u;

// A label as a number that is equal, and less, where the label is: of floats, both zeros are one label, and what is no
// number is one too, the largest.
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

// Sums that differ by no more are tied, so that rounding does not decide.
constexpr float vote_tie = 1.0f / 65536;

// Of two taps along each axis: the weight of the second one. Taps are numbered with those of the last axis side by
// side.
struct Places {
    float after[max_axes] = {};
    int nearest = 0;  // tap, as order 0 has it: floor(x + 1/2)

    ELASTICND_FLAT void set(int axis, double place) {
        nearest = 2 * nearest + (place + 0.5 >= 1.0 ? 1 : 0);
        after[axis] = static_cast<float>(place);
    }
};

// The sum of the weights of the taps with one label. TAPS is at least the number of taps.
template <int TAPS, class Label>
ELASTICND_FLAT float votes_for(Label one, int axes, const Places& places, const Label* label) {
    float votes[TAPS] = {};
    for (int tap = 0; tap < 1 << axes; ++tap) votes[tap] = label[tap] == one ? 1.0f : 0.0f;
    for (int k = axes - 1; k >= 0; --k)
        for (int tap = 0; tap < 1 << k; ++tap)
            votes[tap] = votes[2 * tap] * (1.0f - places.after[k]) + votes[2 * tap + 1] * places.after[k];
    return votes[0];
}

// Turns labels into these without repetition. Returns how many are left, each with its votes and its first tap.
template <class Label>
ELASTICND_INLINE int count_votes(int axes, const Places& places, Label* label, float* votes, int* first) {
    int count = 0;
    for (int tap = 0; tap < 1 << axes; ++tap) {
        float weight = 1.0f;
        for (int k = 0; k < axes; ++k) weight *= tap >> (axes - 1 - k) & 1 ? places.after[k] : 1.0f - places.after[k];
        int number = 0;
        while (number < count && label[number] != label[tap]) ++number;
        if (number == count) {
            label[count] = label[tap];
            votes[count] = 0.0f;
            first[count++] = tap;
        }
        votes[number] += weight;
    }
    return count;
}

// The tap whose label wins: among tied ones the nearest tap's, else the smallest. Overwrites the labels.
template <int TAPS, class Label>
ELASTICND_FLAT int winning_tap(int axes, const Places& places, Label* label) {
    const Label own = label[places.nearest];
    const float own_votes = votes_for<TAPS>(own, axes, places, label);
    // Then no other label has more, but for rounding, which is far less than a tie.
    if (own_votes >= 0.5f) return places.nearest;
    int other = 0;
    while (other + 1 < 1 << axes && label[other] == own) ++other;
    const float other_votes = votes_for<TAPS>(label[other], axes, places, label);
    // The nearest tap has a larger weight than a tie: no third label comes near.
    if (other_votes >= 0.5f) return other_votes - own_votes > vote_tie ? other : places.nearest;
    float votes[TAPS];
    int first[TAPS];
    const int count = count_votes(axes, places, label, votes, first);
    float largest = 0.0f;
    for (int number = 0; number < count; ++number) largest = maximum(largest, votes[number]);
    int winner = -1;
    for (int number = 0; number < count; ++number) {
        if (largest - votes[number] > vote_tie) continue;
        if (label[number] == own) return places.nearest;
        if (winner < 0 || label[number] < label[winner]) winner = number;
    }
    return first[winner];
}

ELASTICND_END
