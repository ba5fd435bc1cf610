// Polynomials of up to three variables on a unit box, in Bernstein form. The values of a polynomial lie between its
// smallest and its largest coefficient; the coefficients at the corners are the values there.
#pragma once
#include "elasticnd/platform.hpp"

namespace elasticnd {

constexpr int most_variables = 3;

// The coefficients in C order, degree + 1 along each variable; one along a variable that does not exist.
struct Bernstein {
    static constexpr int most = 729;  // nine along each of three variables
    int extent[most_variables] = {1, 1, 1};
    double value[most];

    int size() const { return extent[0] * extent[1] * extent[2]; }
    int stride(int variable) const {
        int step = 1;
        for (int k = most_variables - 1; k > variable; --k) step *= extent[k];
        return step;
    }
};

// Multiplies coefficients by binomials, so that products are convolutions; and the inverse.
void scale_by_binomials(Bernstein& polynomial);
void unscale_by_binomials(Bernstein& polynomial);

// The product of scaled polynomials; `product` must not be one of the factors.
void multiply(const Bernstein& left, const Bernstein& right, Bernstein& product);

// Adds `factor` times a polynomial of the same degrees.
void add(const Bernstein& term, double factor, Bernstein& sum);

// Raises the degrees of a scaled polynomial, so that it has `extent` coefficients, without changing its values.
void elevate(const int* extent, Bernstein& scaled);

// Restricts an unscaled polynomial to [low, high] along a variable.
void restrict_to(int variable, double low, double high, Bernstein& polynomial);

// Computes the two halves along a variable of `count` consecutive, unscaled polynomials with `extent` coefficients.
void halve(const int* extent, int count, int variable, const double* whole, double* left, double* right);

}  // namespace elasticnd
