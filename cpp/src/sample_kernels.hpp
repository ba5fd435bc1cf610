// The kernels of one instruction set, as kernels.cpp collects them, and the steps that they share.
#pragma once
#include "rows.hpp"

ELASTICND_BEGIN

int64 sample_scratch(const SampleJob& job);
void sample(const SampleJob& job, UnitRange units, void* scratch);
void displace(const SampleJob& job, UnitRange units, void* scratch);
void scatter_image(const SampleJob& job, UnitRange units, Slab slab, void* scratch);
void scatter_grid(const SampleJob& job, UnitRange units, double* grid_gradient, double* affine_gradient, void* scratch);
void filter(const FilterJob& job, const int64* line, int count, void* scratch);
void load_row(int dtype, const char* from, int64 stride, int64 count, int arithmetic, char* to);
void store_row(int arithmetic, const char* from, int64 count, int dtype, char* to, int64 stride);
constexpr int64 filter_scratch = (128 + 4 * 64) * filter_lines * static_cast<int64>(sizeof(double)) + 64;

inline bool computes_in_double(int dtype) {
    return with_dtype(dtype, [](auto constant) {
        return sizeof(typename Element<decltype(constant)::value>::Real) == sizeof(double);
    });
}

inline char* source_plane(const SampleJob& job, int64 item, int64 channel) {
    return job.source.data + job.source.offset[item * job.channels + channel];
}

inline char* output_row(const SampleJob& job, const Row& row, int64 channel) {
    char* at = job.output.data + job.output.offset[row.item * job.channels + channel];
    for (int k = 0; k < job.geometry.axes; ++k) at += row.index[k] * job.output.stride[k];
    return at;
}

ELASTICND_END
