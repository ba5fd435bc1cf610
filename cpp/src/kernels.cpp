#include "kernels.hpp"

#include "sample_kernels.hpp"

ELASTICND_BEGIN

int64 sample_scratch(const SampleJob& job) { return Walk::scratch_size(job); }

#define ELASTICND_TEXT_OF(name) #name
#define ELASTICND_TEXT(name) ELASTICND_TEXT_OF(name)
extern const Kernels kernels = {ELASTICND_TEXT(ELASTICND_ISA),
                                inner_grid_weights,
                                sample_scratch,
                                sample,
                                displace,
                                scatter_image,
                                scatter_grid,
                                filter_scratch,
                                filter,
                                load_row,
                                store_row};

ELASTICND_END
