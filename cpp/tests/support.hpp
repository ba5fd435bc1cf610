// What the tests of the core share: checks, arrays of exactly the required size, and the steps of a deformation.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/core.hpp"
#include "elasticnd/boundary.hpp"

#define CHECK(condition, ...)                                                    \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::printf("%s:%d: %s is false: ", __FILE__, __LINE__, #condition); \
            std::printf(__VA_ARGS__);                                            \
            std::printf("\n");                                                   \
            std::exit(1);                                                        \
        }                                                                        \
        ++elasticnd::test::checks;                                               \
    } while (false)

namespace elasticnd {
namespace test {

extern long checks;

using Shape = std::vector<int64>;
using Doubles = std::vector<double>;

constexpr int padding_of_filtered_border = 12;
constexpr int item_sizes[dtype_count] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};

class Random {
   public:
    explicit Random(unsigned seed) : engine_(seed) {}
    // From `low` to `high`, inclusive.
    int64 integer(int64 low, int64 high) {
        return low + static_cast<int64>(engine_() % static_cast<unsigned>(high - low + 1));
    }
    double real(double low, double high) { return low + (high - low) * static_cast<double>(engine_()) / 4294967296.0; }
    Doubles reals(int64 count, double low, double high) {
        Doubles values(static_cast<size_t>(count));
        for (double& value : values) value = real(low, high);
        return values;
    }
    Shape shape(int axes, int64 low, int64 high) {
        Shape extent;
        for (int k = 0; k < axes; ++k) extent.push_back(integer(low, high));
        return extent;
    }

   private:
    std::mt19937 engine_;
};

int64 size_of(const Shape& shape);

enum Layout { layout_c, layout_fortran, layout_reversed, layout_unaligned, layout_channels_last, layout_count };

// An array of shape (items, channels, extents...). Its memory has exactly the size of the elements, so that a sanitizer
// detects an access to the first byte beyond it.
class Array {
   public:
    Array(int64 items, int64 channels, const Shape& extent, int dtype, Layout layout = layout_c);

    void fill(Random& random, double low, double high);
    // Fills the array with random bits, including NaN and infinities; any bits are a valid element.
    void fill_bits(Random& random);
    double value(int64 index) const;  // of element `index` in C order
    void set(int64 index, double value);
    bool equals(const Array& other) const;  // bit for bit

    Planes planes;
    int64 count;

   private:
    char* element(int64 index) const;
    std::unique_ptr<char[]> memory_;
    int64 bytes_;
    Shape extent_;
    std::vector<int64> offset_;
};

double dot(const Array& a, const Array& b);

struct Case {
    Shape image;
    Shape points;
    Shape start;   // empty: the first voxel of the image
    Shape output;  // empty: the extent of the image
    int order = 3;
    int mode = mode_mirror;
    bool filtered = true;
    int64 items = 1;
    int64 channels = 1;
    double fill = 0;
    double beyond = 0;
    const double* affine = nullptr;
};

// A case whose image has at most longest[axes] voxels along each axis; the output is a patch.
Case random_patch(Random& random, const int64* longest, int axes, int order, int mode);

Geometry geometry_of(const Case& given);
Geometry with_box(Geometry geometry, const Box& box);
Shape coefficient_shape(const Geometry& geometry);
int arithmetic_of(int dtype);

// A job for the whole image.
Job job_of(const Geometry& geometry, bool filtered, int dtype, int compute_dtype);

// The coefficients in the geometry's box.
Array coefficients_of(const Geometry& geometry, bool filtered, int64 planes, const Array& image, int arithmetic,
                      Executor& executor);

// Without an image, the output stands in for it.
SampleRequest request_of(const Case& given, const Doubles& points, const Array* image, const Array& output);

// The deformed image, in the dtype of the image.
Array deform(const Case& given, const Doubles& points, const Array& image, Executor& executor,
             Layout layout = layout_c);

// The results of `sample_adjoint` for the gradient of the output.
struct AdjointResults {
    Array image;
    Doubles points;
    Doubles affine;
};
AdjointResults apply_adjoint(const Case& given, const Doubles& points, const Array& image, const Array& gradient,
                             Executor& executor, Layout layout = layout_c);

class Serial : public Executor {
   public:
    int threads() const override { return 1; }
    void run(int64 count, const std::function<void(int64)>& task) override {
        for (int64 i = 0; i < count; ++i) task(i);
    }
    void check_interrupt() override {}
};

void test_values();
void test_determinants();
void test_transposes();
void test_prefilter();
void test_parts();
void test_everything_stays_inside();
void test_threads();

}  // namespace test
}  // namespace elasticnd
