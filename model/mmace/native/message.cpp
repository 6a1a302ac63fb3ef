// The edge message summed over neighbours, with its derivatives.
//
//   A[n,M,k] = sum over neighbours e of n, paths p, source components s:
//              G[e,g_p+s*D_p+m] * P[e,p_p,k] * Q[e,q_p,k] * H[sender_e,s_p+s,k],   M = t_p+m
//
// Shapes: P [E,nP,K], Q [E,nQ,K] or null (ones), G [E,nG], H [N,S,K], A [C,N,K];
// E = nodes * width edges, padding marked by real = 0.

#include "lanes.h"

namespace {

struct Path {
    int64_t position, moment, source, source_dim, target, target_dim, geometry;
};

struct Sizes {
    int64_t nodes, width, channels, num_position, num_moment, num_geometry, source_rows, target_rows, paths, all_nodes;
};

template <typename F>
struct Inputs {
    const F *G, *P, *Q, *H;
};

template <typename F>
struct Results {
    F *G, *P, *Q, *H;  // H is added to; the others are written; null: not wanted
};

template <typename F>
struct Problem {
    const Sizes *sizes;
    const Path *paths;
    const int64_t *senders;
    const bool *real;
    Inputs<F> values, slopes;  // slopes: null is zero
    const F *D;                // dL/dA from this part's first node on, null in the forward pass
    F *A;                      // from this part's first node on; null: not wanted
    Results<F> results;
};

constexpr int CHUNK = 4;  // components of the target at a time

// WHOLE: the channels fill registers exactly.
template <typename F, bool DUAL, bool BACKWARD, bool SUM, bool WHOLE>
class Pass {
    using T = typename NumberOf<F, DUAL>::type;
    using X = Parts<T>;
    using V = Lanes<F>;
    static constexpr int W = WIDTH<F>;

    const Problem<F> &p;
    const Sizes &z;
    const int64_t K, whole, vectors;
    Buffer<T> weight, change, total, rows;  // P Q, its derivative, derivative by u per channel; A of one node

   public:
    explicit Pass(const Problem<F> &problem)
        : p(problem),
          z(*problem.sizes),
          K(z.channels),
          whole(K / W),
          vectors((K + W - 1) / W),
          weight(vectors),
          change(vectors),
          total(vectors),
          rows(SUM ? z.target_rows * vectors : 1) {}

    void run() {
        for (int64_t n = 0; n < z.nodes; ++n) {
            if constexpr (SUM)
                for (int64_t i = 0; i < z.target_rows * vectors; ++i) rows[i] = zero();
            for (int64_t e = n * z.width; e < (n + 1) * z.width; ++e) {
                if constexpr (BACKWARD) {
                    clear(p.results.G, z.num_geometry, e);
                    clear(p.results.P, z.num_position * K, e);
                    clear(p.results.Q, z.num_moment * K, e);
                }
                if (p.real[e])
                    for (int64_t number = 0; number < z.paths; ++number) path(n, e, p.paths[number]);
            }
            if constexpr (SUM)
                for (int64_t row = 0; row < z.target_rows; ++row)
                    for (int64_t i = 0; i < vectors; ++i)
                        put(p.A + (row * z.all_nodes + n) * K, i, X::wanted(rows[row * vectors + i]));
        }
    }

   private:
    static T zero() { return X::make(V{}, V{}); }

    static void clear(F *values, int64_t count, int64_t e) {
        if (values)
            for (int64_t i = 0; i < count; ++i) values[e * count + i] = F(0);
    }

    V get(const F *row, int64_t i) const {
        V x;
        if (WHOLE || i < whole) {
            __builtin_memcpy(&x, row + i * W, sizeof(x));
        } else {
            x = V{};
            for (int64_t k = i * W; k < K; ++k) x[k - i * W] = row[k];
        }
        return x;
    }

    void put(F *row, int64_t i, const V &x) const {
        if (WHOLE || i < whole)
            __builtin_memcpy(row + i * W, &x, sizeof(x));
        else
            for (int64_t k = i * W; k < K; ++k) row[k] = x[k - i * W];
    }

    void add(F *row, int64_t i, const V &x) const { put(row, i, get(row, i) + x); }

    T get(const F *values, const F *slopes, int64_t start, int64_t i) const {
        V slope{};
        if (X::dual && slopes) slope = get(slopes + start, i);
        return X::make(get(values + start, i), slope);
    }

    void path(int64_t n, int64_t e, const Path &path) {
        const int64_t at_p = (e * z.num_position + path.position) * K, at_q = (e * z.num_moment + path.moment) * K;
        for (int64_t i = 0; i < vectors; ++i) {
            const T position = get(p.values.P, p.slopes.P, at_p, i);
            weight[i] = p.values.Q ? position * get(p.values.Q, p.slopes.Q, at_q, i) : position;
            change[i] = zero();
        }
        for (int64_t s = 0; s < path.source_dim; ++s) {
            const int64_t at_h = (p.senders[e] * z.source_rows + path.source + s) * K;
            const int64_t at_g = e * z.num_geometry + path.geometry + s * path.target_dim;
            if constexpr (BACKWARD)
                for (int64_t i = 0; i < vectors; ++i) total[i] = zero();
            for (int64_t m = 0; m < path.target_dim; m += CHUNK) {
                const int64_t row = path.target + m;
                switch (path.target_dim - m) {
                    case 1: components<1>(n, row, at_g + m, at_h); break;
                    case 2: components<2>(n, row, at_g + m, at_h); break;
                    case 3: components<3>(n, row, at_g + m, at_h); break;
                    default: components<CHUNK>(n, row, at_g + m, at_h);
                }
            }
            if constexpr (BACKWARD)
                for (int64_t i = 0; i < vectors; ++i) {
                    change[i] += total[i] * get(p.values.H, p.slopes.H, at_h, i);
                    if (p.results.H) add(p.results.H + at_h, i, X::wanted(total[i] * weight[i]));
                }
        }
        if constexpr (BACKWARD)
            for (int64_t i = 0; i < vectors; ++i) {
                if (!p.values.Q) {
                    if (p.results.P) add(p.results.P + at_p, i, X::wanted(change[i]));
                    continue;
                }
                if (p.results.P)
                    add(p.results.P + at_p, i, X::wanted(change[i] * get(p.values.Q, p.slopes.Q, at_q, i)));
                if (p.results.Q)
                    add(p.results.Q + at_q, i, X::wanted(change[i] * get(p.values.P, p.slopes.P, at_p, i)));
            }
    }

    // `C` components of the target from `row` on, for one component of the source.
    template <int C>
    void components(int64_t n, int64_t row, int64_t at_g, int64_t at_h) {
        T g[C], product[C];
        const F *D[C];
        T *A[C];
        for (int c = 0; c < C; ++c) {
            V slope{};
            if (X::dual && p.slopes.G) slope += p.slopes.G[at_g + c];
            g[c] = X::make(V{} + p.values.G[at_g + c], slope);
            product[c] = zero();
            if constexpr (BACKWARD) D[c] = p.D + ((row + c) * z.all_nodes + n) * K;
            if constexpr (SUM) A[c] = rows.data() + (row + c) * vectors;
        }
        for (int64_t i = 0; i < vectors; ++i) {
            const T u = weight[i] * get(p.values.H, p.slopes.H, at_h, i);
            if constexpr (SUM)
                for (int c = 0; c < C; ++c) A[c][i] += g[c] * u;
            if constexpr (BACKWARD) {
                T t = total[i];
                for (int c = 0; c < C; ++c) {
                    const T d = X::make(get(D[c], i), V{});
                    product[c] += d * u;
                    t += d * g[c];
                }
                total[i] = t;
            }
        }
        if constexpr (BACKWARD)
            if (p.results.G)
                for (int c = 0; c < C; ++c) {
                    const V wanted = X::wanted(product[c]);
                    F sum = 0;
                    for (int i = 0; i < W; ++i) sum += wanted[i];
                    p.results.G[at_g + c] = sum;
                }
    }
};

template <typename F, bool DUAL, bool BACKWARD, bool SUM>
void run(const Problem<F> &p) {
    if (p.sizes->channels % WIDTH<F>)
        Pass<F, DUAL, BACKWARD, SUM, false>(p).run();
    else
        Pass<F, DUAL, BACKWARD, SUM, true>(p).run();
}

// mode 0: A. 1: results from D. 2: slopes of A and of the results along `slopes`.
template <typename F>
void dispatch(int64_t mode, const Problem<F> &p) {
    if (mode == 0)
        run<F, false, false, true>(p);
    else if (mode == 1)
        run<F, false, true, false>(p);
    else
        run<F, true, true, true>(p);
}

}  // namespace

extern "C" void message_float32(int64_t mode, const Problem<float> *p) { dispatch(mode, *p); }
extern "C" void message_float64(int64_t mode, const Problem<double> *p) { dispatch(mode, *p); }
