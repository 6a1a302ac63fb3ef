// Polynomials as a list of steps "x[out] += c x[a] x[b]" on numbered registers: as easy to run backwards as forwards.

#pragma once

#include "lanes.h"

struct Step {
    int64_t a, b, out;
};

template <typename T, typename F>
inline void run_steps(const Step *steps, const F *coefficients, int64_t count, T *x) {
    for (int64_t i = 0; i < count; ++i) x[steps[i].out] += x[steps[i].a] * x[steps[i].b] * coefficients[i];
}

// Adds to the adjoints g of all registers what follows from those of the results.
template <typename T, typename F>
inline void reverse_steps(const Step *steps, const F *coefficients, int64_t count, const T *x, T *g) {
    for (int64_t i = count - 1; i >= 0; --i) {
        const Step &step = steps[i];
        const T seed = g[step.out] * coefficients[i];
        const T by_a = seed * x[step.b], by_b = seed * x[step.a];
        g[step.a] += by_a;
        g[step.b] += by_b;
    }
}
