// The table of kernels of one instruction set.
#include "kernels/table.hpp"

#include "kernels/kernels.hpp"

ELASTICND_BEGIN

namespace {

constexpr int64 alignments = 256;  // bytes that allocate_scratch may skip for alignment

int64 sample_scratch(const SampleJob& job) {
    return Walk::scratch_size(job) +
           maximum(vote_scratch_size(), maximum(gather_scratch_size(), pixel_scratch_size())) + alignments;
}
int64 splat_scratch(const SampleJob& job) { return Walk::scratch_size(job) + splat_scratch_size() + alignments; }
int64 filter_scratch() { return maximum(rows_scratch_size(), lines_scratch_size()) + alignments; }

}  // namespace

#define ELASTICND_TEXT_OF(name) #name
#define ELASTICND_TEXT(name) ELASTICND_TEXT_OF(name)
extern const Kernels kernels = {ELASTICND_TEXT(ELASTICND_ISA),
                                inner_grid_weights,
                                arrange_inner_blocks,
                                sample_scratch,
                                sample,
                                displace,
                                splat_scratch,
                                splat,
                                displace_adjoint,
                                evaluation_scratch,
                                evaluate,
                                evaluate_adjoint,
                                map_points,
                                solve_points,
                                determinant_scratch,
                                determinants,
                                filter_scratch,
                                filter_rows,
                                filter,
                                load_row,
                                store_row};

ELASTICND_END
