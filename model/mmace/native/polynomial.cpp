// Sparse polynomials of node features, channel by channel, with first and second derivatives.
//
//   out[n,o,k] = sum over i of a_i ( c_i + sum over j of a_j ( c_ij + sum over l of a_l c_ijl ) )
//
// for the monomials of output o, nested so that each costs one multiplication. Shapes: a [C,N,K], c [Z,T,K] with rows
// in the order of the loops, species [N], out [N,O,K].

#include "lanes.h"

namespace {

struct Sizes {
    int64_t nodes, components, channels, outputs, terms, all_nodes;
};

// [begin, end) of what is inside; `own`: whether there is a coefficient of this level itself.
struct Group {
    int64_t component, own, begin, end;
};

template <typename F>
struct Problem {
    const Sizes *sizes;
    const int64_t *outputs;  // [O+1] into outer
    const Group *outer, *inner;
    const int64_t *last;
    const int64_t *species;
    const F *a, *c;
};

// What a backward pass reads (g and directions; null: zero) and writes (null: not wanted; dc is added to).
template <typename F>
struct Derivatives {
    const F *g, *va, *vc;
    F *out, *da, *dc;
};

template <typename F>
using Channels = Wide<F>;
template <typename F>
constexpr int BLOCK = sizeof(Channels<F>) / sizeof(F);

// WHOLE: as many channels as fit; else the last few.
template <bool WHOLE, typename F>
inline Channels<F> load(const F *from, int count) {
    Channels<F> x;
    if constexpr (WHOLE) {
        __builtin_memcpy(&x.a, from, sizeof(x.a));
        __builtin_memcpy(&x.b, from + WIDTH<F>, sizeof(x.b));
        __builtin_memcpy(&x.c, from + 2 * WIDTH<F>, sizeof(x.c));
        __builtin_memcpy(&x.d, from + 3 * WIDTH<F>, sizeof(x.d));
    } else {
        F all[BLOCK<F>] = {};
        for (int i = 0; i < count; ++i) all[i] = from[i];
        x = load<true, F>(all, BLOCK<F>);
    }
    return x;
}

template <bool WHOLE, typename F, typename V>
inline void store(F *to, const V &x, int count) {
    if constexpr (WHOLE) {
        __builtin_memcpy(to, &x.a, sizeof(x.a));
        __builtin_memcpy(to + WIDTH<F>, &x.b, sizeof(x.b));
        __builtin_memcpy(to + 2 * WIDTH<F>, &x.c, sizeof(x.c));
        __builtin_memcpy(to + 3 * WIDTH<F>, &x.d, sizeof(x.d));
    } else {
        F all[BLOCK<F>];
        store<true>(all, x, BLOCK<F>);
        for (int i = 0; i < count; ++i) to[i] = all[i];
    }
}

// One node, the channels [first, first + count). FULL: with derivatives; else `out` only.
template <typename T, typename F, bool FULL, bool WEIGHTS, bool WHOLE>
void node(const Problem<F> &p, const Derivatives<F> &d, int64_t n, int64_t first, int count, T *a, T *da) {
    using P = Parts<T>;
    const Sizes &z = *p.sizes;
    const int64_t K = z.channels;
    const T zero = P::make(Channels<F>{}, Channels<F>{});
    auto read = [&](const F *x, const F *v, int64_t row) {
        Channels<F> slope{};
        if (P::dual && v) slope = load<WHOLE, F>(v + row * K + first, count);
        return P::make(load<WHOLE, F>(x + row * K + first, count), slope);
    };
    auto add = [&](int64_t row, const T &x) {  // to the derivative by the coefficient in this row
        F *to = d.dc + row * K + first;
        store<WHOLE>(to, load<WHOLE, F>(to, count) + P::wanted(x), count);
    };
    for (int64_t i = 0; i < z.components; ++i) {
        a[i] = read(p.a, d.va, i * z.all_nodes + n);
        da[i] = zero;
    }
    int64_t row = p.species[n] * z.terms;
    for (int64_t o = 0; o < z.outputs; ++o) {
        T g = zero, sum = zero;
        if constexpr (FULL) g = read(d.g, nullptr, n * z.outputs + o);
        for (int64_t x = p.outputs[o]; x < p.outputs[o + 1]; ++x) {
            const Group &outer = p.outer[x];
            T p1 = zero, s1 = zero;
            if constexpr (FULL) p1 = g * a[outer.component];
            if (outer.own) {
                s1 = read(p.c, d.vc, row);
                if constexpr (WEIGHTS) add(row, p1);
                ++row;
            }
            for (int64_t y = outer.begin; y < outer.end; ++y) {
                const Group &inner = p.inner[y];
                T p2 = zero, s2 = zero;
                if constexpr (FULL) p2 = p1 * a[inner.component];
                if (inner.own) {
                    s2 = read(p.c, d.vc, row);
                    if constexpr (WEIGHTS) add(row, p2);
                    ++row;
                }
                for (int64_t t = inner.begin; t < inner.end; ++t, ++row) {
                    const T c = read(p.c, d.vc, row);
                    const int64_t l = p.last[t];
                    s2 += c * a[l];
                    if constexpr (FULL) da[l] += c * p2;
                    if constexpr (WEIGHTS) add(row, p2 * a[l]);
                }
                s1 += s2 * a[inner.component];
                if constexpr (FULL) da[inner.component] += p1 * s2;
            }
            if constexpr (FULL) da[outer.component] += g * s1;
            sum += s1 * a[outer.component];
        }
        if (d.out) store<WHOLE>(d.out + (n * z.outputs + o) * K + first, P::wanted(sum), count);
    }
    if constexpr (FULL)
        for (int64_t i = 0; i < z.components; ++i)
            store<WHOLE>(d.da + (i * z.all_nodes + n) * K + first, P::wanted(da[i]), count);
}

// All nodes for a few channels at a time: those coefficients stay in the cache.
template <typename T, typename F, bool FULL, bool WEIGHTS>
void run(const Problem<F> &p, const Derivatives<F> &d) {
    Buffer<T> values(p.sizes->components), adjoints(p.sizes->components);
    const int64_t K = p.sizes->channels;
    for (int64_t first = 0; first < K; first += BLOCK<F>)
        for (int64_t n = 0; n < p.sizes->nodes; ++n) {
            if (K - first >= BLOCK<F>)
                node<T, F, FULL, WEIGHTS, true>(p, d, n, first, BLOCK<F>, values.data(), adjoints.data());
            else
                node<T, F, FULL, WEIGHTS, false>(p, d, n, first, int(K - first), values.data(), adjoints.data());
        }
}

}  // namespace

// mode 0: out. 1: da and dc from g. 2: slopes of out, da and dc along (va, vc).
template <typename F>
void dispatch(int64_t mode, const Problem<F> &p, const Derivatives<F> &d) {
    if (mode == 0)
        run<Channels<F>, F, false, false>(p, d);
    else if (mode == 1)
        d.dc ? run<Channels<F>, F, true, true>(p, d) : run<Channels<F>, F, true, false>(p, d);
    else
        d.dc ? run<DualOf<Broad<F>>, F, true, true>(p, d) : run<DualOf<Broad<F>>, F, true, false>(p, d);
}

extern "C" void polynomial_float32(int64_t mode, const Problem<float> *p, const Derivatives<float> *d) {
    dispatch(mode, *p, *d);
}
extern "C" void polynomial_float64(int64_t mode, const Problem<double> *p, const Derivatives<double> *d) {
    dispatch(mode, *p, *d);
}
