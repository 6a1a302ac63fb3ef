// What an atom's moment gives: solid harmonics R_l, Chebyshev polynomials T_n of its length, and the wall beyond m_max.
//
// With s = m/m_max and u = |s|^2, inside (u <= 1) nothing is changed; outside, s is shrunk so that u is held below
// 1 + width, and the wall rises with (u - 1)^3.

#include "steps.h"

namespace {

struct Sizes {
    int64_t nodes, harmonics, chebyshev, steps;
};

template <typename F>
struct Constants {
    F width, wall;
};

template <typename F>
struct Outputs {
    F *harmonics, *chebyshev, *wall;  // [N,R], [N,T], [N]
};

template <typename F>
struct Problem {
    const Sizes *sizes;
    const Constants<F> *constants;
    const Step *steps;  // registers: R_0 = 1, then the vector, then R_1 ...
    const F *coefficients;
    const F *m_max;  // [N]
};

enum { ONE = 0, VECTOR = 1, HARMONICS = 4 };

template <typename T, typename F>
class Pass {
    using P = Parts<T>;
    using V = Lanes<F>;
    static constexpr int W = WIDTH<F>;

   public:
    static void run(const Problem<F> &p, const F *magmoms, const F *direction, const Outputs<F> &given,
                    const Outputs<F> &written, F *gradient) {
        const Sizes &z = *p.sizes;
        const Constants<F> &c = *p.constants;
        Buffer<T> registers(HARMONICS + z.harmonics), adjoints(HARMONICS + z.harmonics);
        Buffer<T> waves(z.chebyshev + 1), seeds(z.chebyshev + 1);
        T *r = registers.data(), *g = adjoints.data(), *t = waves.data(), *a = seeds.data();
        for (int64_t begin = 0; begin < z.nodes; begin += W) {
            const int count = int(z.nodes - begin < W ? z.nodes - begin : W);
            auto load = [&](const F *values, int64_t stride, int64_t column) {
                V out{};
                if (values)
                    for (int i = 0; i < count; ++i) out[i] = values[(begin + i) * stride + column];
                return out;
            };
            auto store = [&](F *values, int64_t stride, int64_t column, const T &x) {
                const V wanted = P::wanted(x);
                for (int i = 0; i < count; ++i) values[(begin + i) * stride + column] = wanted[i];
            };
            V limit = load(p.m_max, 1, 0);
            for (int i = count; i < W; ++i) limit[i] = F(1);
            const T scale = constant(1 / limit);
            T s[3];
            for (int i = 0; i < 3; ++i) s[i] = P::make(load(magmoms, 3, i), load(direction, 3, i)) * scale;
            const T u = s[0] * s[0] + s[1] * s[1] + s[2] * s[2];
            const auto outside = P::value(u) > V{} + F(1);
            const T zero = constant(V{}), one = constant(V{} + F(1));
            const T safe = select(outside, u, one), excess = safe + F(-1);
            const T bend = hyperbolic_tangent(excess * (1 / c.width));
            const T held_outside = bend * c.width + F(1);
            const T held = select(outside, held_outside, u);
            const T shrink = select(outside, root(held_outside * inverse(safe)), one);

            r[ONE] = one;
            for (int i = 0; i < 3; ++i) r[VECTOR + i] = s[i] * shrink;
            for (int64_t i = 0; i < z.harmonics; ++i) r[HARMONICS + i] = zero;
            r[HARMONICS] = one;
            run_steps(p.steps, p.coefficients, z.steps, r);
            const T x = held * F(-2) + F(1);
            t[0] = one;
            t[1] = x;
            for (int64_t n = 2; n <= z.chebyshev; ++n) t[n] = x * t[n - 1] * F(2) - t[n - 2];
            if (written.wall) {
                for (int64_t i = 0; i < z.harmonics; ++i) store(written.harmonics, z.harmonics, i, r[HARMONICS + i]);
                for (int64_t n = 1; n <= z.chebyshev; ++n)
                    store(written.chebyshev, z.chebyshev, n - 1, t[n] * (1 / F(n)));
                store(written.wall, 1, 0, excess * excess * excess * c.wall);
            }
            if (!gradient) continue;

            for (int64_t i = 0; i < HARMONICS; ++i) g[i] = zero;
            for (int64_t i = 0; i < z.harmonics; ++i)
                g[HARMONICS + i] = constant(load(given.harmonics, z.harmonics, i));
            reverse_steps(p.steps, p.coefficients, z.steps, r, g);
            for (int64_t n = 0; n <= z.chebyshev; ++n)
                a[n] = n ? constant(load(given.chebyshev, z.chebyshev, n - 1)) * (1 / F(n)) : zero;
            T by_x = zero;
            for (int64_t n = z.chebyshev; n >= 2; --n) {
                by_x += a[n] * t[n - 1] * F(2);
                a[n - 1] += a[n] * x * F(2);
                a[n - 2] = a[n - 2] - a[n];
            }
            by_x += a[1];
            T by_held = by_x * F(-2);
            T by_shrink = g[VECTOR] * s[0] + g[VECTOR + 1] * s[1] + g[VECTOR + 2] * s[2];
            // outside: shrink = sqrt(held/u), held = 1 + width tanh(excess/width)
            const T half = by_shrink * shrink * F(0.5);
            const T by_held_outside = by_held + half * inverse(held_outside);
            const T slope = one - bend * bend;
            const T wall_slope = excess * excess * (3 * c.wall) * constant(load(given.wall, 1, 0));
            const T by_u = select(outside, by_held_outside * slope - half * inverse(safe) + wall_slope, by_held);
            for (int i = 0; i < 3; ++i)
                store(gradient, 3, i, (g[VECTOR + i] * shrink + by_u * s[i] * F(2)) * scale);
        }
    }

   private:
    static T constant(V value) { return P::make(value, V{}); }

    template <typename M>
    static T select(const M &mask, const T &a, const T &b) {
        if constexpr (P::dual)
            return P::make(mask ? a.value : b.value, mask ? a.slope : b.slope);
        else
            return mask ? a : b;
    }
};

}  // namespace

#define EXPORT(F, NAME)                                                                                            \
    extern "C" void moments_##NAME(const Problem<F> *problem, const F *magmoms, const F *direction,                 \
                                   const Outputs<F> *given, const Outputs<F> *written, F *gradient) {               \
        if (direction)                                                                                             \
            Pass<Dual<F>, F>::run(*problem, magmoms, direction, *given, *written, gradient);                        \
        else                                                                                                       \
            Pass<Lanes<F>, F>::run(*problem, magmoms, nullptr, *given, *written, gradient);                         \
    }

EXPORT(float, float32)
EXPORT(double, float64)
