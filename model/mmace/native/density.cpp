// 1/(1 + sum over an atom's neighbours of tanh(y^2) cut), with derivatives: y, cut [nodes, width] -> [nodes].

#include "gemm.h"

namespace {

struct Sizes {
    int64_t nodes, width;
};

template <typename F>
struct Tensors {
    F *y, *cut;
};

template <typename T, typename F>
class Pass {
    using P = Parts<T>;
    using V = Lanes<F>;
    static constexpr int W = WIDTH<F>;

    static V load(const F *from, int64_t count) {
        V x{};
        if (from)
            for (int64_t i = 0; i < count && i < W; ++i) x[i] = from[i];
        return x;
    }

    static void store(F *to, const V &x, int64_t count) {
        if (to)
            for (int64_t i = 0; i < count && i < W; ++i) to[i] = x[i];
    }

    static V summed(const V &x) {
        F sum = 0;
        for (int i = 0; i < W; ++i) sum += x[i];
        return V{} + sum;
    }

    // tanh of what is not negative; exact to rounding errors of one, which is what it is added to.
    static T bend(const T &x) {
        const V value = 1 - 2 / (1 + exponential<F>(2 * P::value(x)));
        return chain(x, value, 1 - value * value);
    }

   public:
    static void run(const Sizes &z, const Tensors<F> &values, const Tensors<F> &slopes, const F *given, F *written,
                    const Tensors<F> &results) {
        const T one = P::make(V{} + F(1), V{});
        for (int64_t n = 0; n < z.nodes; ++n) {
            const int64_t begin = n * z.width, end = begin + z.width;
            auto number = [&](const F *value, const F *slope, int64_t e) {
                return P::make(load(value + e, end - e), P::dual && slope ? load(slope + e, end - e) : V{});
            };
            T sum = P::make(V{}, V{});
            for (int64_t e = begin; e < end; e += W) {
                const T y = number(values.y, slopes.y, e);
                sum += bend(y * y) * number(values.cut, slopes.cut, e);
            }
            if constexpr (P::dual)
                sum = P::make(summed(sum.value), summed(sum.slope));
            else
                sum = summed(sum);
            const T factor = inverse(sum + one);
            if (written) written[n] = P::wanted(factor)[0];
            if (!given) continue;
            const T by_sum = factor * factor * (-given[n]);
            for (int64_t e = begin; e < end; e += W) {
                const T y = number(values.y, slopes.y, e), bent = bend(y * y);
                const T by_cut = by_sum * bent;
                const T by_y = by_sum * number(values.cut, slopes.cut, e) * (one - bent * bent) * y * F(2);
                store(results.y ? results.y + e : nullptr, P::wanted(by_y), end - e);
                store(results.cut ? results.cut + e : nullptr, P::wanted(by_cut), end - e);
            }
        }
    }
};

}  // namespace

// forward: `written`. backward: `results` from `given`. Second: slopes along `slopes` of both.
#define EXPORT(F, NAME)                                                                                           \
    extern "C" void density_##NAME(const Sizes *sizes, const Tensors<F> *values, const Tensors<F> *slopes,         \
                                   const F *given, F *written, const Tensors<F> *results) {                        \
        if (slopes)                                                                                               \
            Pass<Dual<F>, F>::run(*sizes, *values, *slopes, given, written, *results);                             \
        else                                                                                                      \
            Pass<Lanes<F>, F>::run(*sizes, *values, *values, given, written, *results);                            \
    }

EXPORT(float, float32)
EXPORT(double, float64)
