// An atom's own moment meets its features, channel by channel, with derivatives.
//
//   out[n,c,k] = sum over entries: coefficient R[n,a] w[n,p,k] mu[n,b,k]
//
// Shapes: R [N,moments], w [N,paths,K], mu [N,inputs,K], out [N,outputs,K].

#include "lanes.h"

namespace {

struct Entry {
    int64_t path, moment, input, output;  // p, a, b, c
};

struct Sizes {
    int64_t nodes, moments, paths, inputs, outputs, channels, entries;
};

template <typename F>
struct Tensors {
    F *R, *w, *mu;
};

template <typename F>
struct Problem {
    const Sizes *sizes;
    const Entry *entries;
    const F *coefficients;
};

template <typename T, typename F>
class Pass {
    using P = Parts<T>;
    using V = Lanes<F>;
    static constexpr int W = WIDTH<F>;

    const Problem<F> &p;
    const Sizes &z;
    const Tensors<F> &values, &slopes;
    Buffer<T> R, w, mu, out, dR, dw, dmu, g;

   public:
    Pass(const Problem<F> &problem, const Tensors<F> &at, const Tensors<F> &along)
        : p(problem),
          z(*problem.sizes),
          values(at),
          slopes(along),
          R(z.moments),
          w(z.paths),
          mu(z.inputs),
          out(z.outputs),
          dR(z.moments),
          dw(z.paths),
          dmu(z.inputs),
          g(z.outputs) {}

    // `written` and what is null in `results` are not wanted.
    void run(const F *given, F *written, const Tensors<F> &results) {
        const T zero = P::make(V{}, V{});
        for (int64_t n = 0; n < z.nodes; ++n) {
            for (int64_t a = 0; a < z.moments; ++a) {
                V slope{};
                if (P::dual && slopes.R) slope = V{} + slopes.R[n * z.moments + a];
                R[a] = P::make(V{} + values.R[n * z.moments + a], slope);
                dR[a] = zero;
            }
            for (int64_t first = 0; first < z.channels; first += W) {
                load(w, values.w, slopes.w, z.paths, n, first);
                load(mu, values.mu, slopes.mu, z.inputs, n, first);
                if (written) {
                    for (int64_t c = 0; c < z.outputs; ++c) out[c] = zero;
                    for (int64_t i = 0; i < z.entries; ++i) {
                        const Entry &e = p.entries[i];
                        out[e.output] += R[e.moment] * p.coefficients[i] * (w[e.path] * mu[e.input]);
                    }
                    store(written, out, z.outputs, n, first);
                }
                if (given) {
                    load(g, given, nullptr, z.outputs, n, first);
                    for (int64_t i = 0; i < z.paths; ++i) dw[i] = zero;
                    for (int64_t i = 0; i < z.inputs; ++i) dmu[i] = zero;
                    for (int64_t i = 0; i < z.entries; ++i) {
                        const Entry &e = p.entries[i];
                        const T seed = g[e.output] * p.coefficients[i], turned = seed * R[e.moment];
                        dR[e.moment] += seed * (w[e.path] * mu[e.input]);
                        dw[e.path] += turned * mu[e.input];
                        dmu[e.input] += turned * w[e.path];
                    }
                    if (results.w) store(results.w, dw, z.paths, n, first);
                    if (results.mu) store(results.mu, dmu, z.inputs, n, first);
                }
            }
            if (given && results.R)
                for (int64_t a = 0; a < z.moments; ++a) {
                    const V wanted = P::wanted(dR[a]);
                    F sum = 0;
                    for (int i = 0; i < W; ++i) sum += wanted[i];
                    results.R[n * z.moments + a] = sum;
                }
        }
    }

   private:
    V get(const F *row, int64_t first) const {
        V x{};
        if (first + W <= z.channels)
            __builtin_memcpy(&x, row + first, sizeof(x));
        else
            for (int64_t k = first; k < z.channels; ++k) x[k - first] = row[k];
        return x;
    }

    void load(Buffer<T> &to, const F *from, const F *along, int64_t rows, int64_t n, int64_t first) const {
        for (int64_t i = 0; i < rows; ++i) {
            const int64_t start = (n * rows + i) * z.channels;
            V slope{};
            if (P::dual && along) slope = get(along + start, first);
            to[i] = P::make(get(from + start, first), slope);
        }
    }

    void store(F *to, const Buffer<T> &from, int64_t rows, int64_t n, int64_t first) const {
        for (int64_t i = 0; i < rows; ++i) {
            const V x = P::wanted(from[i]);
            F *row = to + (n * rows + i) * z.channels;
            if (first + W <= z.channels)
                __builtin_memcpy(row + first, &x, sizeof(x));
            else
                for (int64_t k = first; k < z.channels; ++k) row[k] = x[k - first];
        }
    }
};

}  // namespace

// forward: `written`. backward: `results` from `given`. Second: slopes along `slopes` of both.
#define EXPORT(F, NAME)                                                                                             \
    extern "C" void own_moment_##NAME(const Problem<F> *problem, const Tensors<F> *values, const Tensors<F> *slopes, \
                                      const F *given, F *written, const Tensors<F> *results) {                       \
        if (slopes)                                                                                                 \
            Pass<Dual<F>, F>(*problem, *values, *slopes).run(given, written, *results);                              \
        else                                                                                                        \
            Pass<Lanes<F>, F>(*problem, *values, *values).run(given, written, *results);                             \
    }

EXPORT(float, float32)
EXPORT(double, float64)
