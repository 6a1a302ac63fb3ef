// The first layer's message: neighbours summed by element, then weighed, with derivatives.
//
//   S[n,s,c,h] = sum over neighbours e of n whose element has slot s: G[e,c] z[e,h]
//   A[t_p+m,n,k] = sum over slots s, paths p, hidden h: S[n,s,c_p+m,h] W[Z_ns,p,h,k]
//
// Shapes: G [E,columns], z [E,hidden], W [Z,paths,hidden,K], A [rows,N,K]; E = nodes * width edges. A few atoms go
// together, so that products by W have many rows. Values and slopes (lanes.h) stand in two planes.

#include <algorithm>
#include <vector>

#include "gemm.h"

namespace {

constexpr int64_t ATOMS = 6;  // at most, at a time

struct Path {
    int64_t column, dim, target;  // c_p, components, t_p
};

struct Sizes {
    int64_t nodes, width, columns, hidden, channels, paths, slots, kinds, rows, all_nodes;
};

template <typename F>
struct Tensors {
    F *G, *z, *W;  // W's gradient is added to; null: zero, or not wanted
};

template <typename F>
struct Problem {
    const Sizes *sizes;
    const Path *paths;
    const int64_t *slot;     // [nodes, width] of the neighbour's element; -1 for padding
    const int64_t *element;  // [nodes, slots] which Z; -1 for none
};

template <typename F, bool DUAL>
class Pass {
    using Numbers = std::vector<F>;

    const Problem<F> &p;
    const Sizes &z;
    const Tensors<F> &values, &slopes;
    const bool weights_move;  // whether W has slopes
    const int64_t H, K;       // padded
    Numbers matrix[2], transpose[2];
    Numbers S[2], U[2], D[2];      // of all slots, in order (path; atom, component): sums, weighed sums, dL/dS
    Numbers G[2], Z[2], T[2], t;   // of one atom and slot: its edges; S or dL/dS in order of columns, its transpose
    Numbers R;                     // gradients of its edges
    std::vector<int64_t> edges;
    int64_t begin = 0, atoms = 0;

   public:
    Pass(const Problem<F> &problem, const Tensors<F> &at, const Tensors<F> &along)
        : p(problem),
          z(*problem.sizes),
          values(at),
          slopes(along),
          weights_move(DUAL && along.W),
          H(padded<F>(z.hidden)),
          K(padded<F>(z.channels)),
          t(z.hidden * padded<F>(z.columns)),
          R(z.width * std::max(H, padded<F>(z.columns))),
          edges(z.width) {
        for (int plane = 0; plane <= DUAL; ++plane) {
            S[plane].resize(z.slots * z.columns * ATOMS * H);
            D[plane].resize(z.slots * z.columns * ATOMS * H);
            U[plane].resize(z.rows * ATOMS * K);
            G[plane].resize(z.width * z.columns);
            Z[plane].resize(z.width * H);
            T[plane].resize(z.columns * H);
        }
        copy_weights(0, values.W);
        if (weights_move) copy_weights(1, slopes.W);
    }

    void forward(F *A) {
        while (next_atoms()) {
            sums();
            weigh();
            write(A, U[0]);
        }
    }

    // Gradients from dL/dA, `given`. DUAL: the slopes of A and of the gradients.
    void backward(const F *given, F *A, const Tensors<F> &results) {
        for (int plane = 0; plane <= weights_move; ++plane) transpose_weights(plane);
        Numbers gradient(results.W ? matrix[0].size() : 0);
        while (next_atoms()) {
            if (DUAL || results.W) sums();
            if (DUAL) {
                weigh();
                write(A, U[1]);
            }
            read(given);
            if (results.W) by_weights(gradient);
            if (results.G || results.z) {
                by_sums();
                for (int64_t a = 0; a < atoms; ++a) by_edges(a, results);
            }
        }
        if (results.W)
            for (int64_t i = 0; i < z.kinds * z.paths * z.hidden; ++i)
                for (int64_t k = 0; k < z.channels; ++k) results.W[i * z.channels + k] += gradient[i * K + k];
    }

   private:
    void copy_weights(int plane, const F *W) {
        matrix[plane].resize(z.kinds * z.paths * z.hidden * K);
        for (int64_t i = 0; i < z.kinds * z.paths * z.hidden; ++i)
            std::copy_n(W + i * z.channels, z.channels, matrix[plane].data() + i * K);
    }

    void transpose_weights(int plane) {
        transpose[plane].resize(z.kinds * z.paths * z.channels * H);
        for (int64_t i = 0; i < z.kinds * z.paths; ++i)
            for (int64_t k = 0; k < z.channels; ++k)
                for (int64_t h = 0; h < z.hidden; ++h)
                    transpose[plane][(i * z.channels + k) * H + h] = matrix[plane][(i * z.hidden + h) * K + k];
    }

    // The next atoms whose slots mean the same elements.
    bool next_atoms() {
        begin += atoms;
        atoms = 0;
        while (atoms < ATOMS && begin + atoms < z.nodes && std::equal(element(0), element(0) + z.slots, element(atoms)))
            ++atoms;
        return atoms > 0;
    }

    const int64_t *element(int64_t a) const { return p.element + (begin + a) * z.slots; }

    int64_t place(int64_t s, const Path &path) const { return (s * z.columns + path.column) * ATOMS * H; }

    // The edges of one atom whose sender's element has slot s; how many.
    int64_t gather(int64_t a, int64_t s) {
        int64_t count = 0;
        for (int64_t e = (begin + a) * z.width; e < (begin + a + 1) * z.width; ++e)
            if (p.slot[e] == s) edges[count++] = e;
        for (int plane = 0; plane <= DUAL; ++plane) {
            const Tensors<F> &from = plane ? slopes : values;
            for (int64_t i = 0; i < count; ++i) {
                copy(from.G, edges[i], z.columns, G[plane].data() + i * z.columns);
                copy(from.z, edges[i], z.hidden, Z[plane].data() + i * H);
            }
        }
        return count;
    }

    static void copy(const F *from, int64_t row, int64_t width, F *to) {
        if (from)
            std::copy_n(from + row * width, width, to);
        else
            std::fill_n(to, width, F(0));
    }

    // Rows of one atom and slot between the order of columns (T) and that of the paths.
    template <bool INTO>
    void reorder(Numbers &ordered, Numbers &by_column, int64_t a, int64_t s) const {
        for (int64_t number = 0; number < z.paths; ++number) {
            const Path &path = p.paths[number];
            F *rows = ordered.data() + place(s, path) + a * path.dim * H, *columns = by_column.data() + path.column * H;
            if (INTO)
                std::copy_n(columns, path.dim * H, rows);
            else
                std::copy_n(rows, path.dim * H, columns);
        }
    }

    void sums() {
        for (int64_t a = 0; a < atoms; ++a)
            for (int64_t s = 0; s < z.slots; ++s) {
                const int64_t count = gather(a, s);
                for (int plane = 0; plane <= DUAL; ++plane) {
                    of_edges<false>(G[plane], Z[0], T[plane], count);
                    if (plane) of_edges<true>(G[0], Z[1], T[1], count);
                    reorder<true>(S[plane], T[plane], a, s);
                }
            }
    }

    template <bool ADD>
    void of_edges(const Numbers &left, const Numbers &right, Numbers &to, int64_t count) const {
        multiply<ADD>(left.data(), 1, z.columns, right.data(), H, to.data(), H, z.columns, H, count);
    }

    // Calls function(slot, path, number of W) for all products by W.
    template <typename Function>
    void products(Function function) const {
        for (int64_t s = 0; s < z.slots; ++s)
            if (element(0)[s] >= 0)
                for (int64_t number = 0; number < z.paths; ++number)
                    function(s, p.paths[number], element(0)[s] * z.paths + number);
    }

    void weigh() {
        for (int plane = 0; plane <= DUAL; ++plane) std::fill(U[plane].begin(), U[plane].end(), F(0));
        products([&](int64_t s, const Path &path, int64_t w) {
            auto add = [&](int of_S, int of_W, int to) {
                multiply<true>(S[of_S].data() + place(s, path), H, 1, matrix[of_W].data() + w * z.hidden * K, K,
                               U[to].data() + path.target * ATOMS * K, K, atoms * path.dim, K, z.hidden);
            };
            add(0, 0, 0);
            if (DUAL) add(1, 0, 1);
            if (weights_move) add(0, 1, 1);
        });
    }

    // Rows of U and those of A: once per target, by the first of its paths.
    template <typename Function>
    void rows_of_targets(Function function) const {
        int64_t done = -1;
        for (int64_t number = 0; number < z.paths; ++number) {
            const Path &path = p.paths[number];
            if (path.target == done) continue;
            done = path.target;
            for (int64_t a = 0; a < atoms; ++a)
                for (int64_t m = 0; m < path.dim; ++m)
                    function((path.target * ATOMS + a * path.dim + m) * K,
                             ((path.target + m) * z.all_nodes + begin + a) * z.channels);
        }
    }

    void write(F *A, const Numbers &from) const {
        rows_of_targets([&](int64_t u, int64_t row) { std::copy_n(from.data() + u, z.channels, A + row); });
    }

    void read(const F *given) {
        rows_of_targets([&](int64_t u, int64_t row) { std::copy_n(given + row, z.channels, U[0].data() + u); });
    }

    void by_weights(Numbers &gradient) const {
        products([&](int64_t s, const Path &path, int64_t w) {
            multiply<true>(S[DUAL].data() + place(s, path), 1, H, U[0].data() + path.target * ATOMS * K, K,
                           gradient.data() + w * z.hidden * K, K, z.hidden, K, atoms * path.dim);
        });
    }

    void by_sums() {
        products([&](int64_t s, const Path &path, int64_t w) {
            for (int plane = 0; plane <= weights_move; ++plane)
                multiply<false>(U[0].data() + path.target * ATOMS * K, K, 1, transpose[plane].data() + w * z.channels * H,
                                H, D[plane].data() + place(s, path), H, atoms * path.dim, H, z.channels);
        });
    }

    void by_edges(int64_t a, const Tensors<F> &results) {
        const int64_t columns = padded<F>(z.columns);
        for (int64_t e = (begin + a) * z.width; e < (begin + a + 1) * z.width; ++e)
            if (p.slot[e] < 0) {
                if (results.G) std::fill_n(results.G + e * z.columns, z.columns, F(0));
                if (results.z) std::fill_n(results.z + e * z.hidden, z.hidden, F(0));
            }
        for (int64_t s = 0; s < z.slots; ++s) {
            const int64_t count = gather(a, s);
            if (!count) continue;
            for (int plane = 0; plane <= weights_move; ++plane) reorder<false>(D[plane], T[plane], a, s);
            if (results.z) {
                multiply<false>(G[DUAL].data(), z.columns, 1, T[0].data(), H, R.data(), H, count, H, z.columns);
                if (weights_move)
                    multiply<true>(G[0].data(), z.columns, 1, T[1].data(), H, R.data(), H, count, H, z.columns);
                scatter(results.z, z.hidden, H, count);
            }
            if (results.G) {
                turn(T[0], columns);
                multiply<false>(Z[DUAL].data(), H, 1, t.data(), columns, R.data(), columns, count, columns, z.hidden);
                if (weights_move) {
                    turn(T[1], columns);
                    multiply<true>(Z[0].data(), H, 1, t.data(), columns, R.data(), columns, count, columns, z.hidden);
                }
                scatter(results.G, z.columns, columns, count);
            }
        }
    }

    void turn(const Numbers &from, int64_t columns) {
        for (int64_t c = 0; c < z.columns; ++c)
            for (int64_t h = 0; h < z.hidden; ++h) t[h * columns + c] = from[c * H + h];
    }

    void scatter(F *to, int64_t width, int64_t stride, int64_t count) const {
        for (int64_t i = 0; i < count; ++i) std::copy_n(R.data() + i * stride, width, to + edges[i] * width);
    }
};

}  // namespace

// forward: A from `values`. backward: `results` from `given`. Second: slopes along `slopes` of A and of the gradients.
// A and `given` begin at this part's first node.
#define EXPORT(F, NAME)                                                                                             \
    extern "C" void element_sum_##NAME(const Problem<F> *problem, const Tensors<F> *values, const Tensors<F> *slopes, \
                                       const F *given, F *A, const Tensors<F> *results) {                            \
        if (!given)                                                                                                 \
            Pass<F, false>(*problem, *values, *values).forward(A);                                                   \
        else if (!slopes)                                                                                           \
            Pass<F, false>(*problem, *values, *values).backward(given, nullptr, *results);                           \
        else                                                                                                        \
            Pass<F, true>(*problem, *values, *slopes).backward(given, A, *results);                                  \
    }

EXPORT(float, float32)
EXPORT(double, float64)
