// What an edge knows: its length, radial functions and everything angular, with derivatives.
//
// Per edge j -> i with vector v = r_j - r_i + shift . cell, length r, u = v/r:
//   cut  = smooth envelope of r, J_n = c cut sin(n pi d/r_max)/(n d) with the transformed distance d,
//   G    = polynomials of cut Y_l(u) and of the sender's solid harmonics R_l(m_j).
// The polynomials are steps on numbered registers (steps.h).

#include "steps.h"

namespace {

struct Sizes {
    int64_t nodes, width, first, bessel, moments, steps, registers, outputs;
};

template <typename F>
struct Constants {
    F r_max, agnesi_a, agnesi_q, agnesi_p;
};

// One layer's G: its columns are the registers [from, from + count).
struct Output {
    int64_t from, count;
};

// Registers: 0 one, 1 cut, 2..4 u, then R, then what the steps compute.
enum { ONE = 0, CUT = 1, UNIT = 2, MOMENTS = 5 };

template <typename F>
struct Inputs {
    const F *positions, *cell, *moments;  // [N,3], [S,3,3], [N,R]
};

// Gradients that arrive, or values or slopes that leave, per edge: [E], [E], [E,J], and per output [E,count].
template <typename F>
struct Edges {
    F *length, *cut, *bessel;
    F *const *outputs;
};

template <typename F>
struct Gradients {
    F *positions, *cell, *moments;
};

template <typename F>
struct Problem {
    const Sizes *sizes;
    const Constants<F> *constants;
    const int64_t *senders, *structure, *species;
    const bool *real;
    const F *shifts, *radii;  // [E,3], [elements] or null: no distance transform
    const Step *steps;
    const F *coefficients;
    const Output *outputs;
};

template <typename T, typename F>
class Pass {
    using P = Parts<T>;
    using V = Lanes<F>;
    static constexpr int W = WIDTH<F>;

    const Problem<F> &p;
    const Sizes &z;
    Inputs<F> x, direction;  // direction's pointers may be null: zero
    Buffer<T> registers, adjoints;
    Buffer<T> waves;
    int64_t sender[W], receiver[W];
    bool real[W];
    int64_t begin;
    T vector[3], length, distance, cut_slope, inverse_length, ratio[3];
    V pair_radius;

   public:
    Pass(const Problem<F> &problem, Inputs<F> inputs, Inputs<F> directions)
        : p(problem),
          z(*problem.sizes),
          x(inputs),
          direction(directions),
          registers(z.registers),
          adjoints(z.registers),
          waves(2 * z.bessel) {}

    // Runs all edges of the nodes [first, first + nodes). Null pointers: not given, or not wanted.
    void run(const Edges<F> &given, const Edges<F> &written, const Gradients<F> &gradients) {
        const int64_t end = z.nodes * z.width;
        const bool backward = gradients.positions || gradients.cell || gradients.moments;
        for (begin = 0; begin < end; begin += W) {
            load(end);
            forward();
            if (written.length) write(written, end);
            if (backward) reverse(given, gradients, end);
        }
    }

   private:
    static T constant(F value) {
        return P::make(V{} + value, V{});
    }

    T gather(const F *values, const F *slopes, const int64_t *rows, int64_t stride, int64_t column) const {
        V value, slope{};
        for (int i = 0; i < W; ++i) value[i] = values[rows[i] * stride + column];
        if (P::dual && slopes)
            for (int i = 0; i < W; ++i) slope[i] = slopes[rows[i] * stride + column];
        return P::make(value, slope);
    }

    void load(int64_t end) {
        int64_t of_structure[W];
        V shift[3];
        for (int i = 0; i < W; ++i) {
            const int64_t e = begin + i < end ? begin + i : begin;
            real[i] = begin + i < end && p.real[e];
            receiver[i] = z.first + e / z.width;
            sender[i] = p.senders[e];
            of_structure[i] = p.structure[receiver[i]];
            for (int a = 0; a < 3; ++a) shift[a][i] = p.shifts[3 * e + a];
        }
        for (int a = 0; a < 3; ++a) {
            vector[a] = gather(x.positions, direction.positions, sender, 3, a) -
                        gather(x.positions, direction.positions, receiver, 3, a);
            for (int b = 0; b < 3; ++b)
                vector[a] += P::make(shift[b], V{}) * gather(x.cell, direction.cell, of_structure, 9, 3 * b + a);
        }
        // a padding edge lies at the cutoff, along z: all it gives is zero, and so are the derivatives
        for (int i = 0; i < W; ++i)
            if (!real[i])
                for (int a = 0; a < 3; ++a) set(vector[a], i, a == 2 ? p.constants->r_max : F(0));
        if (p.radii)
            for (int i = 0; i < W; ++i)
                pair_radius[i] = F(0.5) * (p.radii[p.species[sender[i]]] + p.radii[p.species[receiver[i]]]);
    }

    static void set(T &number, int lane, F value) {
        if constexpr (P::dual) {
            number.value[lane] = value;
            number.slope[lane] = F(0);
        } else {
            number[lane] = value;
        }
    }

    void forward() {
        const Constants<F> &c = *p.constants;
        length = root(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]);
        inverse_length = inverse(length);
        const T s = clamp(length * (1 / c.r_max));
        const T s2 = s * s, s5 = s2 * s2 * s;
        // 1 - 21 s^5 + 35 s^6 - 15 s^7, the envelope of power 5
        T *r = registers.data();
        r[ONE] = constant(1);
        r[CUT] = (s5 * ((s * F(35)) + (s2 * F(-15)) + F(-21))) + F(1);
        cut_slope = (s2 * s2 * (s * F(-2) + s2 + F(1))) * (F(-105) / c.r_max);  // d cut / d length
        for (int a = 0; a < 3; ++a) r[UNIT + a] = vector[a] * inverse_length;
        for (int64_t m = 0; m < z.moments; ++m)
            r[MOMENTS + m] = gather(x.moments, direction.moments, sender, z.moments, m);
        for (int64_t i = MOMENTS + z.moments; i < z.registers; ++i) r[i] = constant(0);
        run_steps(p.steps, p.coefficients, z.steps, r);
        distance = length;
        if (p.radii) {
            // x = 1/(1 + a q^Q / (1 + q^(Q-P))), q = r/r0
            ratio[0] = length * P::make(1 / pair_radius, V{});
            ratio[1] = power(ratio[0], c.agnesi_q) * c.agnesi_a;
            ratio[2] = power(ratio[0], c.agnesi_q - c.agnesi_p) + F(1);
            distance = inverse(ratio[1] * inverse(ratio[2]) + F(1));
        }
        // sin(n t) and cos(n t) by recursion
        const T t = distance * F(M_PI / c.r_max);
        T *sines = waves.data(), *cosines = sines + z.bessel;
        const T sin1 = sine(t), cos1 = cosine(t);
        sines[0] = sin1;
        cosines[0] = cos1;
        for (int64_t n = 1; n < z.bessel; ++n) {
            sines[n] = sines[n - 1] * cos1 + cosines[n - 1] * sin1;
            cosines[n] = cosines[n - 1] * cos1 - sines[n - 1] * sin1;
        }
    }

    static T clamp(const T &s) {
        T out = s;
        for (int i = 0; i < W; ++i)
            if (P::value(s)[i] > F(1)) set(out, i, F(1));
        return out;
    }

    F bessel_norm() const { return std::sqrt(F(2) / F(3)) * p.constants->r_max; }

    void write(const Edges<F> &written, int64_t end) {
        const int count = int(end - begin < W ? end - begin : W);
        const V wanted_length = P::wanted(length), wanted_cut = P::wanted(registers[CUT]);
        for (int i = 0; i < count; ++i) {
            written.length[begin + i] = wanted_length[i];
            written.cut[begin + i] = wanted_cut[i];
        }
        const T factor = registers[CUT] * inverse(distance) * bessel_norm();
        for (int64_t n = 0; n < z.bessel; ++n) {
            const V wanted = P::wanted(waves[n] * factor * (1 / F(n + 1)));
            for (int i = 0; i < count; ++i) written.bessel[(begin + i) * z.bessel + n] = wanted[i];
        }
        for (int64_t o = 0; o < z.outputs; ++o) {
            const Output &output = p.outputs[o];
            F *rows = written.outputs[o] + begin * output.count;
            for (int64_t k = 0; k < output.count; ++k) {
                const V wanted = P::wanted(registers[output.from + k]);
                for (int i = 0; i < count; ++i) rows[i * output.count + k] = wanted[i];
            }
        }
    }

    T read(const F *values, int64_t stride, int64_t column, int count) const {
        V value{};
        if (values)
            for (int i = 0; i < count; ++i) value[i] = values[(begin + i) * stride + column];
        return P::make(value, V{});
    }

    void reverse(const Edges<F> &given, const Gradients<F> &gradients, int64_t end) {
        const int count = int(end - begin < W ? end - begin : W);
        T *g = adjoints.data();
        T *r = registers.data();
        for (int64_t i = 0; i < z.registers; ++i) g[i] = constant(0);
        for (int64_t o = 0; o < z.outputs; ++o) {
            const Output &output = p.outputs[o];
            if (given.outputs[o])
                for (int64_t k = 0; k < output.count; ++k)
                    g[output.from + k] = read(given.outputs[o], output.count, k, count);
        }
        reverse_steps(p.steps, p.coefficients, z.steps, r, g);
        // radial functions: J_n = norm cut sin(n t)/(n d)
        T by_distance = constant(0);
        const T inverse_distance = inverse(distance);
        const T factor = inverse_distance * bessel_norm();
        T cut_sum = constant(0), wave_sum = constant(0);
        for (int64_t n = 0; n < z.bessel; ++n) {
            const T seed = read(given.bessel, z.bessel, n, count) * (1 / F(n + 1));
            cut_sum += seed * waves[n];
            wave_sum += seed * waves[z.bessel + n] * F((n + 1) * M_PI / p.constants->r_max);
        }
        g[CUT] += cut_sum * factor + read(given.cut, 1, 0, count);
        by_distance += r[CUT] * factor * (wave_sum - cut_sum * inverse_distance);
        T by_length = read(given.length, 1, 0, count) + g[CUT] * cut_slope;
        if (p.radii) {
            // d = 1/(1 + n/m): dd = -d^2 (dn m - n dm)/m^2
            const Constants<F> &c = *p.constants;
            const T over = inverse(ratio[2]), q = inverse_length;
            const T dn = ratio[1] * q * c.agnesi_q;
            const T dm = (ratio[2] + F(-1)) * q * (c.agnesi_q - c.agnesi_p);
            const T derivative = distance * distance * over * (ratio[1] * dm * over - dn);
            by_length += by_distance * derivative;
        } else {
            by_length += by_distance;
        }
        const T along = g[UNIT] * r[UNIT] + g[UNIT + 1] * r[UNIT + 1] + g[UNIT + 2] * r[UNIT + 2];
        for (int a = 0; a < 3; ++a) {
            const T by_vector = (g[UNIT + a] - along * r[UNIT + a]) * inverse_length + by_length * r[UNIT + a];
            const V wanted = P::wanted(by_vector);
            for (int i = 0; i < count; ++i) {
                if (!real[i]) continue;
                if (gradients.positions) {
                    gradients.positions[3 * sender[i] + a] += wanted[i];
                    gradients.positions[3 * receiver[i] + a] -= wanted[i];
                }
                if (gradients.cell)
                    for (int b = 0; b < 3; ++b)
                        gradients.cell[9 * p.structure[receiver[i]] + 3 * b + a] +=
                            p.shifts[3 * (begin + i) + b] * wanted[i];
            }
        }
        if (gradients.moments)
            for (int64_t m = 0; m < z.moments; ++m) {
                const V wanted = P::wanted(g[MOMENTS + m]);
                for (int i = 0; i < count; ++i)
                    if (real[i]) gradients.moments[sender[i] * z.moments + m] += wanted[i];
            }
    }
};

}  // namespace

// forward: `written`. backward: `given`, `gradients`. Second: `given`, `directions`; slopes to `written`, `gradients`.
#define EXPORT(F, NAME)                                                                                          \
    extern "C" void edges_##NAME(const Problem<F> *problem, const Inputs<F> *inputs, const Inputs<F> *directions, \
                                 const Edges<F> *given, const Edges<F> *written, const Gradients<F> *gradients) { \
        if (directions)                                                                                          \
            Pass<Dual<F>, F>(*problem, *inputs, *directions).run(*given, *written, *gradients);                   \
        else                                                                                                     \
            Pass<Lanes<F>, F>(*problem, *inputs, Inputs<F>{}).run(*given, *written, *gradients);                  \
    }

EXPORT(float, float32)
EXPORT(double, float64)
