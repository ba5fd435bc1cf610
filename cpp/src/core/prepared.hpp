// A request for one item, prepared for the kernels that visit its voxels.
#pragma once
#include <memory>
#include <vector>

#include "core/control_grid.hpp"
#include "core/core.hpp"
#include "core/extents.hpp"

namespace elasticnd {

// A job for one item, with the item's grid and the tables that kernels read.
class Prepared {
   public:
    Prepared(const SampleRequest& one, const ControlGrid& grid);

    // The coefficients that a part of the output, or all of it, can reach.
    SourceBox source_box(const OutputPart& part) const;
    SourceBox source_box() const { return source_box(whole_output(job.geometry)); }

    // Makes these coefficients the source.
    void set_source(const Coefficients& coefficients, const Geometry& boxed);
    // Makes the image itself the source.
    void set_image(const SampleRequest& one);

    // A rough count of the operations for this many units, in floating point because it can exceed 2^63.
    double cost(int64 of_units) const;

    Prepared(const Prepared&) = delete;

    SampleJob job;
    int64 outer;  // number of rows of the output
    int64 units;

   private:
    void set_inner_weights(int64 extent);

    unsigned char cval_element_[sizeof(Job::cval_element)];
    std::vector<int64> cell_;
    std::vector<int64> run_;
    std::vector<double> weight_;
    std::vector<GridBlock> blocks_;
    std::unique_ptr<double[]> block_weight_;
};

// Runs a kernel over all rows of the output.
using RowKernel = void (*)(const SampleJob&, UnitRange, void*);
void run_rows(const Prepared& prepared, RowKernel kernel, Executor& executor);

}  // namespace elasticnd
