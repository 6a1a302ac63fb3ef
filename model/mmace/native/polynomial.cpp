// Sparse polynomials of node features, channel by channel, with first and second derivatives.
//
//   out[n,o,k] = sum over i of a_i ( c_i + sum over j of a_j ( c_ij + sum over l of a_l c_ijl ) )
//
// for the monomials of output o, nested so that each costs one multiplication. Shapes: a [C,N,K], c [Z,T,K] with rows
// in the order of the loops, species [N], out [N,O,K].

#include <algorithm>
#include <numeric>
#include <vector>

#include "gemm.h"

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

// A group of nodes of the same element is worked on at once, in four registers: four nodes and one register of channels,
// two and two, or one and four. What they share, the coefficients, is read once.
template <typename F>
using Four = Wide<F>;

template <int NODES>
constexpr int VECTORS = 4 / NODES;

// The channels from `first` on; WHOLE: all that fit into the registers are there.
template <typename F, int NODES, bool WHOLE>
struct Place {
    const int64_t *nodes;
    int64_t first, K;

    static constexpr int V = VECTORS<NODES>;

    Lanes<F> read(const F *row, int vector) const {
        Lanes<F> x{};
        const int64_t k = first + vector * WIDTH<F>;
        if constexpr (WHOLE)
            __builtin_memcpy(&x, row + k, sizeof(x));
        else
            for (int i = 0; i < WIDTH<F> && k + i < K; ++i) x[i] = row[k + i];
        return x;
    }

    void write(F *row, int vector, const Lanes<F> &x) const {
        const int64_t k = first + vector * WIDTH<F>;
        if constexpr (WHOLE)
            __builtin_memcpy(row + k, &x, sizeof(x));
        else
            for (int i = 0; i < WIDTH<F> && k + i < K; ++i) row[k + i] = x[i];
    }

    // A row of each node: they begin at from + start + stride * node.
    Four<F> of_nodes(const F *from, int64_t start, int64_t stride) const {
        auto one = [&](int r) { return read(from + start + stride * nodes[r / V], r % V); };
        return {one(0), one(1), one(2), one(3)};
    }

    void to_nodes(F *to, int64_t start, int64_t stride, const Four<F> &x) const {
        auto one = [&](int r, const Lanes<F> &part) { write(to + start + stride * nodes[r / V], r % V, part); };
        one(0, x.a);
        one(1, x.b);
        one(2, x.c);
        one(3, x.d);
    }

};

// Coefficients of one element for the few channels that a group has, [T, channels]: rows that lie K numbers apart would
// meet in the same places of the cache.
template <typename F, int NODES>
class Packed {
    static constexpr int W = WIDTH<F>, V = VECTORS<NODES>;
    const int64_t terms, channels;
    Buffer<F> rows;

   public:
    explicit Packed(const Sizes &z, bool used = true) : terms(used ? z.terms : 0), channels(z.channels), rows(terms * V * W) {}

    // Calls function(number here, its place in the whole) for all numbers of the channels from `first` on.
    template <typename Function>
    void each(int64_t element, int64_t first, Function function) {
        const int64_t count = std::min<int64_t>(V * W, channels - first);
        for (int64_t t = 0; t < terms; ++t)
            for (int64_t k = 0; k < count; ++k)
                function(rows[t * V * W + k], (element * terms + t) * channels + first + k);
    }

    void clear() { std::fill_n(rows.data(), terms * V * W, F(0)); }

    Four<F> operator[](int64_t row) const {
        auto one = [&](int r) { return get(rows.data() + (row * V + r % V) * W); };
        return {one(0), one(1), one(2), one(3)};
    }

    void add(int64_t row, const Four<F> &x) {
        auto one = [&](int vector, const Lanes<F> &part) {
            F *to = rows.data() + (row * V + vector) * W;
            put<F>(to, get(to) + part);
        };
        if constexpr (NODES == 4) {
            one(0, (x.a + x.b) + (x.c + x.d));
        } else if constexpr (NODES == 2) {
            one(0, x.a + x.c);
            one(1, x.b + x.d);
        } else {
            one(0, x.a);
            one(1, x.b);
            one(2, x.c);
            one(3, x.d);
        }
    }
};

// One group of nodes. FULL: with derivatives; else `out` only.
template <typename T, typename F, bool FULL, bool WEIGHTS, typename At, typename Rows>
void group(const Problem<F> &p, const Derivatives<F> &d, const At &at, const Rows &c, const Rows &vc, Rows &dc, T *a,
           T *da) {
    using P = Parts<T>;
    const Sizes &z = *p.sizes;
    const int64_t K = z.channels;
    const T zero = P::make(Four<F>{}, Four<F>{});
    auto coefficient = [&](int64_t row) {
        Four<F> slope{};
        if (P::dual && d.vc) slope = vc[row];
        return P::make(c[row], slope);
    };
    auto add = [&](int64_t row, const T &x) { dc.add(row, P::wanted(x)); };
    for (int64_t i = 0; i < z.components; ++i) {
        Four<F> slope{};
        if (P::dual && d.va) slope = at.of_nodes(d.va, i * z.all_nodes * K, K);
        a[i] = P::make(at.of_nodes(p.a, i * z.all_nodes * K, K), slope);
        da[i] = zero;
    }
    int64_t row = 0;
    for (int64_t o = 0; o < z.outputs; ++o) {
        T g = zero, sum = zero;
        if constexpr (FULL)
            if (d.g) g = P::make(at.of_nodes(d.g, o * K, z.outputs * K), Four<F>{});
        for (int64_t x = p.outputs[o]; x < p.outputs[o + 1]; ++x) {
            const Group &outer = p.outer[x];
            T p1 = zero, s1 = zero;
            if constexpr (FULL) p1 = g * a[outer.component];
            if (outer.own) {
                s1 = coefficient(row);
                if constexpr (WEIGHTS) add(row, p1);
                ++row;
            }
            for (int64_t y = outer.begin; y < outer.end; ++y) {
                const Group &inner = p.inner[y];
                T p2 = zero, s2 = zero;
                if constexpr (FULL) p2 = p1 * a[inner.component];
                if (inner.own) {
                    s2 = coefficient(row);
                    if constexpr (WEIGHTS) add(row, p2);
                    ++row;
                }
                for (int64_t t = inner.begin; t < inner.end; ++t, ++row) {
                    const T own = coefficient(row);
                    const int64_t l = p.last[t];
                    s2 += own * a[l];
                    if constexpr (FULL) da[l] += own * p2;
                    if constexpr (WEIGHTS) add(row, p2 * a[l]);
                }
                s1 += s2 * a[inner.component];
                if constexpr (FULL) da[inner.component] += p1 * s2;
            }
            if constexpr (FULL) da[outer.component] += g * s1;
            sum += s1 * a[outer.component];
        }
        if (d.out) at.to_nodes(d.out, o * K, z.outputs * K, P::wanted(sum));
    }
    if constexpr (FULL)
        for (int64_t i = 0; i < z.components; ++i) at.to_nodes(d.da, i * z.all_nodes * K, K, P::wanted(da[i]));
}

// All groups for a few channels at a time: those coefficients stay in the cache. `nodes` are sorted by element.
template <typename T, typename F, bool FULL, bool WEIGHTS, int NODES>
void groups(const Problem<F> &p, const Derivatives<F> &d, const std::vector<int64_t> &nodes) {
    const Sizes &z = *p.sizes;
    Buffer<T> values(z.components), adjoints(z.components);
    Packed<F, NODES> c(z), vc(z, d.vc), dc(z, WEIGHTS);
    const int64_t K = z.channels, block = VECTORS<NODES> * WIDTH<F>;
    for (int64_t first = 0; first < K; first += block)
        for (size_t n = 0; n < nodes.size(); n += NODES) {
            const int64_t element = p.species[nodes[n]];
            if (!n || element != p.species[nodes[n - 1]]) {
                c.clear();
                vc.clear();
                dc.clear();
                c.each(element, first, [&](F &x, int64_t from) { x = p.c[from]; });
                vc.each(element, first, [&](F &x, int64_t from) { x = d.vc[from]; });
            }
            auto run = [&](auto at) { group<T, F, FULL, WEIGHTS>(p, d, at, c, vc, dc, values.data(), adjoints.data()); };
            if (first + block <= K)
                run(Place<F, NODES, true>{nodes.data() + n, first, K});
            else
                run(Place<F, NODES, false>{nodes.data() + n, first, K});
            if (WEIGHTS && (n + NODES == nodes.size() || element != p.species[nodes[n + NODES]]))
                dc.each(element, first, [&](F &x, int64_t to) { d.dc[to] += x; });
        }
}

template <typename T, typename F, bool FULL, bool WEIGHTS>
void run(const Problem<F> &p, const Derivatives<F> &d) {
    std::vector<int64_t> order(p.sizes->nodes), fours, twos, ones;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) { return p.species[i] < p.species[j]; });
    for (auto begin = order.begin(); begin != order.end();) {  // the nodes of one element
        auto end = std::find_if(begin, order.end(), [&](int64_t n) { return p.species[n] != p.species[*begin]; });
        auto take = [&](std::vector<int64_t> &to, int64_t size) {
            const auto stop = begin + (end - begin) / size * size;
            to.insert(to.end(), begin, stop);
            begin = stop;
        };
        take(fours, 4);
        take(twos, 2);
        take(ones, 1);
    }
    groups<T, F, FULL, WEIGHTS, 4>(p, d, fours);
    groups<T, F, FULL, WEIGHTS, 2>(p, d, twos);
    groups<T, F, FULL, WEIGHTS, 1>(p, d, ones);
}

}  // namespace

// mode 0: out. 1: da and dc from g. 2: slopes of out, da and dc along (va, vc).
template <typename F>
void dispatch(int64_t mode, const Problem<F> &p, const Derivatives<F> &d) {
    if (mode == 0)
        run<Four<F>, F, false, false>(p, d);
    else if (mode == 1)
        d.dc ? run<Four<F>, F, true, true>(p, d) : run<Four<F>, F, true, false>(p, d);
    else
        d.dc ? run<DualOf<Broad<F>>, F, true, true>(p, d) : run<DualOf<Broad<F>>, F, true, false>(p, d);
}

extern "C" void polynomial_float32(int64_t mode, const Problem<float> *p, const Derivatives<float> *d) {
    dispatch(mode, *p, *d);
}
extern "C" void polynomial_float64(int64_t mode, const Problem<double> *p, const Derivatives<double> *d) {
    dispatch(mode, *p, *d);
}
