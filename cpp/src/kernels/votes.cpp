// Samples labels: by votes if the voxels under a stencil differ, and by a copy if they do not.
#include "elasticnd/votes.hpp"

#include <cstring>

#include "kernels/border.hpp"
#include "kernels/kernels.hpp"
#include "kernels/located.hpp"

ELASTICND_BEGIN

namespace {

struct VoteScratch {
    Row row;
    Located<double> located;
    int64 step[vote_taps<0>];  // from the first tap to each tap, in bytes
    int mixed[row_length];     // voxels whose taps differ
};

// Writes the voxels whose taps all hold the same bits, and those without a position. Lists the others, and returns
// their number.
template <class Element, int AXES>
int copy_uniform(const SampleJob& job, const char* source, char* to, int64 to_stride, VoteScratch& own) {
    const Row& row = own.row;
    const int taps = AXES ? 1 << AXES : 1 << job.geometry.axes;
    int count = 0;
    auto copy = [&](int i) ELASTICND_FLAT_LAMBDA {
        const char* at = source + row.offset[i];
        const Element first = load_vector<Element>(at);
        Element difference = 0;
        for (int tap = 1; tap < taps; ++tap)
            difference = static_cast<Element>(difference | (first ^ load_vector<Element>(at + own.step[tap])));
        store_vector(to + i * to_stride, first);
        own.mixed[count] = i;
        count += difference != 0;
    };
    if (row.everywhere && row.inside) {
        for (int i = 0; i < row.count; ++i) copy(i);
        return count;
    }
    for (int i = 0; i < row.count; ++i) {
        if (!row.everywhere && !row.exists[i])
            std::memcpy(to + i * to_stride, job.cval_element, sizeof(Element));
        else if (row.inside || !row.leaves[i])
            copy(i);
        else
            own.mixed[count++] = i;
    }
    return count;
}

// Finds the taps of a stencil that leaves the image; the constant stands for those that the mode leaves out.
void find_taps_at_border(const SampleJob& job, const Row& row, int i, const char* source, const char** tap) {
    tap[0] = source;
    for (int k = 0; k < job.geometry.axes; ++k) {
        const int64 offset[2] = {tap_offset(job, row, i, k, 0), tap_offset(job, row, i, k, 1)};
        for (int from = (1 << k) - 1; from >= 0; --from) {
            const char* const at = tap[from];
            for (int one = 1; one >= 0; --one) {
                const bool is_left_out = at == job.cval_element || offset[one] == no_index;
                tap[2 * from + one] = is_left_out ? job.cval_element : at + offset[one];
            }
        }
    }
}

template <int DTYPE, int AXES>
void elect(const SampleJob& job, const char* source, char* to, int64 to_stride, int count, VoteScratch& own) {
    using Label = Bits<DTYPE>;
    const Row& row = own.row;
    const int axes = AXES ? AXES : job.geometry.axes;
    const int taps = 1 << axes;
    const char* tap_at[vote_taps<AXES>];
    Label label[vote_taps<AXES>];
    for (int m = 0; m < count; ++m) {
        const int i = own.mixed[m];
        const bool leaves = !row.inside && row.leaves[i];
        if (leaves)
            find_taps_at_border(job, row, i, source, tap_at);
        else
            for (int tap = 0; tap < taps; ++tap) tap_at[tap] = source + row.offset[i] + own.step[tap];
        for (int tap = 0; tap < taps; ++tap) label[tap] = label_of<DTYPE>(load_vector<Label>(tap_at[tap]));
        TapWeights<AXES> weights(axes);
        for (int k = 0; k < axes; ++k) {
            const double place = row.place[k][i];
            // If the stencil leaves the source, the place is relative to a stencil that was moved inside.
            weights.add(k, leaves ? place - floor_of_small(place) : place);
        }
        std::memcpy(to + i * to_stride, tap_at[winning_tap(weights, label)], sizeof(Label));
    }
}

template <int DTYPE, int AXES>
void vote_row(const SampleJob& job, const char* source, char* to, int64 to_stride, VoteScratch& own) {
    const int count = copy_uniform<Bits<DTYPE>, AXES>(job, source, to, to_stride, own);
    elect<DTYPE, AXES>(job, source, to, to_stride, count, own);
}

using VoteRow = void (*)(const SampleJob&, const char* source, char* to, int64 to_stride, VoteScratch&);

VoteRow choose_vote(const SampleJob& job) {
    return with_dtype(job.source.dtype, [&](auto dtype) -> VoteRow {
        [[maybe_unused]] constexpr int DTYPE = decltype(dtype)::value;
        if (job.geometry.axes > max_unrolled_axes) return vote_row<DTYPE, 0>;
        return with_unrolled_axes(job.geometry.axes,
                                  [](auto axes) -> VoteRow { return vote_row<DTYPE, decltype(axes)::value>; });
    });
}

void locate_row(const SampleJob& job, const Walk& walk, const Locator<double>& locator, VoteScratch& own) {
    if (!locator.locate(walk, own.row, own.located)) return walk.locate(own.row);
    set_row(own.located, own.row);
    for (int k = 0; k < job.geometry.axes; ++k)
        std::memcpy(own.row.place[k], own.located.place[k], sizeof(double) * static_cast<size_t>(own.row.count));
}

}  // namespace

void sample_votes(const SampleJob& job, UnitRange units, void* scratch) {
    auto& own = allocate_scratch<VoteScratch>(scratch);
    Walk walk(job, false, scratch, nullptr);
    const Locator<double> locator(job);
    const VoteRow vote = choose_vote(job);
    const int inner = job.geometry.axes - 1;
    for (int tap = 0; tap < 1 << job.geometry.axes; ++tap) {
        own.step[tap] = 0;
        for (int k = 0; k <= inner; ++k) own.step[tap] += (tap >> (inner - k) & 1) * job.source.stride[k];
    }
    const int64 to_stride = job.output.stride[inner];
    for (int64 unit = units.first; unit < units.last; ++unit) {
        walk.visit(unit, own.row);
        locate_row(job, walk, locator, own);
        for (int64 channel = 0; channel < job.channels; ++channel)
            vote(job, source_plane(job, own.row.item, channel), output_row(job, own.row, channel), to_stride, own);
    }
}

int64 vote_scratch_size() { return static_cast<int64>(sizeof(VoteScratch)); }

ELASTICND_END
