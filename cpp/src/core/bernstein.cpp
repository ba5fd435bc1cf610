// Polynomials of up to three variables on a unit box, in Bernstein form.
#include "core/bernstein.hpp"

#include <algorithm>

namespace elasticnd {
namespace {

constexpr int most_extent = 9;

double binomial(int n, int k) {
    double value = 1;
    for (int i = 1; i <= k; ++i) value = value * (n - k + i) / i;
    return value;
}

// Replaces each coefficient by body(coefficient, its index along each variable).
template <class Body>
void for_each_factor(Bernstein& polynomial, Body body) {
    double* value = polynomial.value;
    for (int i = 0; i < polynomial.extent[0]; ++i)
        for (int j = 0; j < polynomial.extent[1]; ++j)
            for (int k = 0; k < polynomial.extent[2]; ++k, ++value) *value = body(*value, i, j, k);
}

struct Binomials {
    explicit Binomials(const int* extent) {
        for (int variable = 0; variable < most_variables; ++variable)
            for (int i = 0; i < extent[variable]; ++i) of[variable][i] = binomial(extent[variable] - 1, i);
    }
    double of[most_variables][most_extent];
};

// Calls body(first element, step between elements) for each line along a variable.
template <class Body>
void for_lines(const int* extent, int variable, Body body) {
    int step = 1;
    for (int k = most_variables - 1; k > variable; --k) step *= extent[k];
    const int outer = extent[0] * extent[1] * extent[2] / (step * extent[variable]);
    for (int i = 0; i < outer; ++i)
        for (int j = 0; j < step; ++j) body(i * step * extent[variable] + j, step);
}

}  // namespace

void scale_by_binomials(Bernstein& polynomial) {
    const Binomials factor(polynomial.extent);
    for_each_factor(polynomial, [&](double value, int i, int j, int k) {
        return value * (factor.of[0][i] * factor.of[1][j] * factor.of[2][k]);
    });
}

void unscale_by_binomials(Bernstein& polynomial) {
    const Binomials factor(polynomial.extent);
    for_each_factor(polynomial, [&](double value, int i, int j, int k) {
        return value / (factor.of[0][i] * factor.of[1][j] * factor.of[2][k]);
    });
}

void multiply(const Bernstein& left, const Bernstein& right, Bernstein& product) {
    for (int k = 0; k < most_variables; ++k) product.extent[k] = left.extent[k] + right.extent[k] - 1;
    std::fill_n(product.value, product.size(), 0.0);
    const int outer = product.stride(0), middle = product.stride(1);
    const double* factor = left.value;
    for (int i = 0; i < left.extent[0]; ++i)
        for (int j = 0; j < left.extent[1]; ++j)
            for (int k = 0; k < left.extent[2]; ++k, ++factor) {
                const double* from = right.value;
                for (int a = 0; a < right.extent[0]; ++a)
                    for (int b = 0; b < right.extent[1]; ++b) {
                        double* to = product.value + (i + a) * outer + (j + b) * middle + k;
                        for (int c = 0; c < right.extent[2]; ++c) to[c] += *factor * *from++;
                    }
            }
}

void add(const Bernstein& term, double factor, Bernstein& sum) {
    for (int i = 0; i < sum.size(); ++i) sum.value[i] += factor * term.value[i];
}

// The product with 1 raises the degree. For scaled coefficients, it is a convolution with binomials along each
// variable.
void elevate(const int* extent, Bernstein& scaled) {
    for (int variable = 0; variable < most_variables; ++variable) {
        const int raised = extent[variable] - scaled.extent[variable];
        if (raised == 0) continue;
        Bernstein one, from = scaled;
        one.extent[variable] = raised + 1;
        for (int i = 0; i <= raised; ++i) one.value[i] = binomial(raised, i);
        multiply(one, from, scaled);
    }
}

void restrict_to(int variable, double low, double high, Bernstein& polynomial) {
    if (low <= 0 && high >= 1) return;
    const int count = polynomial.extent[variable];
    for_lines(polynomial.extent, variable, [&](int first, int step) {
        double* at = polynomial.value + first;
        // De Casteljau's corner cutting yields the part below `high`, and from this the part above `low`.
        for (int level = 1; level < count; ++level)
            for (int i = count - 1; i >= level; --i)
                at[i * step] = (1 - high) * at[(i - 1) * step] + high * at[i * step];
        const double rest = high > 0 ? low / high : 0;
        for (int level = 1; level < count; ++level)
            for (int i = 0; i < count - level; ++i)
                at[i * step] = (1 - rest) * at[i * step] + rest * at[(i + 1) * step];
    });
}

void halve(const int* extent, int count, int variable, const double* whole, double* left, double* right) {
    int step = 1;
    for (int k = most_variables - 1; k > variable; --k) step *= extent[k];
    const int along = extent[variable];
    const int outer = count * extent[0] * extent[1] * extent[2] / (step * along);
    for (int part = 0; part < outer; ++part) {
        const int first = part * step * along;
        double* below = left + first;
        double* above = right + first;
        std::copy_n(whole + first, step * along, above);
        // Each level cuts a coefficient off at the lower end, which belongs to the left half; the right half remains.
        for (int level = 0; level < along; ++level) {
            std::copy_n(above, step, below + level * step);
            for (int i = 0; i < (along - 1 - level) * step; ++i) above[i] = (above[i] + above[i + step]) / 2;
        }
    }
}

}  // namespace elasticnd
