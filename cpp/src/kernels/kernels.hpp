// The kernels of one instruction set, as table.cpp collects them, and the steps that they share.
#pragma once
#include <cstdint>
#include <new>

#include "kernels/walk.hpp"

ELASTICND_BEGIN

void sample(const SampleJob& job, UnitRange units, void* scratch);
void sample_pixels(const SampleJob& job, UnitRange units, void* scratch);
void sample_votes(const SampleJob& job, UnitRange units, void* scratch);
void displace(const SampleJob& job, UnitRange units, void* scratch);
void displace_adjoint(const SampleJob& job, UnitRange units, const SplatTargets& targets, void* scratch);
void splat(const SampleJob& job, UnitRange units, const SplatTargets& targets, void* scratch);
int64 evaluation_scratch(const EvaluationJob& job);
void evaluate(const EvaluationJob& job, UnitRange some, const double* coefficients, double* values, void* scratch);
void evaluate_adjoint(const EvaluationJob& job, UnitRange some, const double* gradient, double* sums, void* scratch);
void map_points(const MapJob& job, UnitRange some, const double* coefficients, const double* positions, double* places,
                double* ratios);
void solve_points(const MapJob& job, const PointsToSolve& points, UnitRange some, const double* coefficients);
int64 determinant_scratch(const DeterminantJob& job);
void determinants(const DeterminantJob& job, UnitRange rows, void* scratch);
void filter_rows(const RowFilterJob& job, const char* const* image, char* const* coefficients, int count,
                 void* scratch);
void filter(const FilterJob& job, const int64* line, int count, void* scratch);
void load_row(int dtype, const char* from, int64 stride, int64 count, int compute_dtype, char* to);
void store_row(int compute_dtype, const char* from, int64 count, int dtype, char* to, int64 stride);

// The same for `count` pixels of up to pixel_lanes adjacent elements; in the compute type, pixels have no gaps.
void load_pixels(int dtype, const char* from, int64 stride, int64 count, int channels, int compute_dtype, char* to);
void store_pixels(int compute_dtype, const char* from, int64 count, int channels, int dtype, char* to, int64 stride);

// Bytes of scratch that each kind of kernel uses, in addition to the scratch of the walk.
int64 gather_scratch_size();
int64 pixel_scratch_size();
int64 vote_scratch_size();
int64 splat_scratch_size();
int64 rows_scratch_size();
int64 lines_scratch_size();

template <class Layout>
Layout& allocate_scratch(void*& scratch) {
    const auto excess = reinterpret_cast<std::uintptr_t>(scratch) % 64;
    char* place = static_cast<char*>(scratch) + (64 - excess) % 64;
    scratch = place + (sizeof(Layout) + 63) / 64 * 64;
    return *new (place) Layout;
}

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
