// Small matrix products in a kernel's own buffers, and the activation between them.

#pragma once

#include "lanes.h"

// C[rows, columns] = (or +=, with ADD) A B. A[i,k] = a[i a_row + k a_step], so that A may be a transpose; rows of B and C
// are contiguous, and `columns` is a multiple of a register's width.
template <typename F>
inline Lanes<F> get(const F *from) {
    Lanes<F> x;
    __builtin_memcpy(&x, from, sizeof(x));
    return x;
}

template <typename F>
inline void put(F *to, const Lanes<F> &x) {
    __builtin_memcpy(to, &x, sizeof(x));
}

template <typename F, int ROWS, int REGISTERS, bool ADD>
inline void tile(const F *a, int64_t a_row, int64_t a_step, const F *b, int64_t b_row, F *c, int64_t c_row,
                 int64_t depth) {
    Lanes<F> sum[ROWS][REGISTERS];  // the loops over it are unrolled: it lies in registers
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < REGISTERS; ++j) sum[i][j] = ADD ? get(c + i * c_row + j * WIDTH<F>) : Lanes<F>{};
    for (int64_t k = 0; k < depth; ++k) {
        Lanes<F> row[REGISTERS];
#pragma GCC unroll 2
        for (int j = 0; j < REGISTERS; ++j) row[j] = get(b + k * b_row + j * WIDTH<F>);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i) {
            const F factor = a[i * a_row + k * a_step];
#pragma GCC unroll 2
            for (int j = 0; j < REGISTERS; ++j) sum[i][j] += factor * row[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < REGISTERS; ++j) put<F>(c + i * c_row + j * WIDTH<F>, sum[i][j]);
}

template <typename F, int ROWS, bool ADD>
inline void strip(const F *a, int64_t a_row, int64_t a_step, const F *b, int64_t b_row, F *c, int64_t c_row,
                  int64_t columns, int64_t depth) {
    int64_t j = 0;
    for (; j + 2 * WIDTH<F> <= columns; j += 2 * WIDTH<F>)
        tile<F, ROWS, 2, ADD>(a, a_row, a_step, b + j, b_row, c + j, c_row, depth);
    if (j < columns) tile<F, ROWS, 1, ADD>(a, a_row, a_step, b + j, b_row, c + j, c_row, depth);
}

// Six rows by two registers are as many sums as sixteen registers hold.
template <bool ADD, typename F>
void multiply(const F *a, int64_t a_row, int64_t a_step, const F *b, int64_t b_row, F *c, int64_t c_row, int64_t rows,
              int64_t columns, int64_t depth) {
    int64_t i = 0;
    for (; i + 6 <= rows; i += 6)
        strip<F, 6, ADD>(a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, columns, depth);
    for (; i + 2 <= rows; i += 2)
        strip<F, 2, ADD>(a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, columns, depth);
    if (i < rows) strip<F, 1, ADD>(a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, columns, depth);
}

template <typename F>
int64_t padded(int64_t count) {
    return (count + WIDTH<F> - 1) / WIDTH<F> * WIDTH<F>;
}

constexpr int TERMS = 14;

struct Inverse {  // 1/n!
    double factorial[TERMS] = {1};
    constexpr Inverse() {
        for (int n = 1; n < TERMS; ++n) factorial[n] = factorial[n - 1] / n;
    }
};

// exp: 2^n times a Taylor series of the rest, which lies within ln(2)/2 of zero.
template <typename F>
inline Lanes<F> exponential(Lanes<F> x) {
    constexpr bool single = sizeof(F) == 4;
    constexpr F limit = single ? F(87) : F(708), shift = single ? F(12582912) : F(6755399441055744);
    constexpr F high = single ? F(0.693359375) : F(6.93145751953125e-1);
    constexpr F low = single ? F(-2.12194440e-4) : F(1.42860682030941723212e-6);
    x = x > limit ? Lanes<F>{} + limit : x;
    x = x < -limit ? Lanes<F>{} - limit : x;
    const Lanes<F> shifted = x * F(1.44269504088896340736) + shift;  // rounds: n stands in the lowest bits
    const Lanes<F> n = shifted - shift;
    const Lanes<F> rest = x - n * high - n * low;
    constexpr Inverse inverse;
    constexpr int degree = single ? 7 : TERMS - 1;
    Lanes<F> sum = Lanes<F>{} + F(inverse.factorial[degree]);
#pragma GCC unroll 16
    for (int k = degree - 1; k >= 0; --k) sum = sum * rest + F(inverse.factorial[k]);
    using Bits = decltype(x < x);
    const Bits bits = (Bits)sum + ((Bits)shifted << (single ? 23 : 52));
    return (Lanes<F>)bits;
}

// silu(x) = x s with s = 1/(1 + exp(-x)), and its derivatives.
template <typename F>
struct Silu {
    Lanes<F> x, s;
    explicit Silu(const Lanes<F> &at) : x(at), s(1 / (1 + exponential<F>(-at))) {}
    Lanes<F> value() const { return x * s; }
    Lanes<F> first() const { return s + x * s * (1 - s); }
    Lanes<F> second() const { return s * (1 - s) * (2 + x * (1 - 2 * s)); }
};
