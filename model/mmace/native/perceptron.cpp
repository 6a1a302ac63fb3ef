// Perceptrons without biases, with derivatives.
//
//   x_1 = s_0 (x_0 W_0 + share[place]),   x_{l+1} = s_l silu(x_l) W_l,   y = x_L, or s_L silu(x_L)
//
// A block of rows goes through all layers while it is in the cache. For second derivatives (lanes.h) values and slopes
// stand in two planes, because a matrix product of a dual by a constant is one product for each.

#include <algorithm>
#include <vector>

#include "gemm.h"

namespace {

constexpr int64_t BLOCK = 48;  // rows

struct Sizes {
    int64_t rows, layers, activated;  // activated: whether y = s_L silu(x_L)
};

template <typename F>
struct Tensors {
    F *x, *share, *const *weights;  // [rows, inputs], [·, widths 1], per layer [widths l, widths l+1]
};

template <typename F>
struct Problem {
    const Sizes *sizes;
    const int64_t *widths, *places;  // [layers + 1]; rows of `share` [rows], null without
    const F *scales;                 // [layers + 1]
    F *const *kept;                  // x_{l+1}, per activated layer [rows, widths l+1]; null: not kept
};

template <typename F>
class Layer {
    using V = Lanes<F>;
    using Numbers = std::vector<F>;

   public:
    const int64_t inputs, outputs, in_stride, out_stride;
    const F scale;
    const bool active;
    Numbers matrix[2], transpose[2];         // s W: value and slope
    Numbers out[2], first, second, gradient;  // of a block: outputs, derivatives of the activation; dL/dW

    Layer(const Problem<F> &p, int64_t l, const Tensors<F> &values, const Tensors<F> &slopes, bool dual)
        : inputs(p.widths[l]),
          outputs(p.widths[l + 1]),
          in_stride(padded<F>(inputs)),
          out_stride(padded<F>(outputs)),
          scale(p.scales[l]),
          active(l + 1 < p.sizes->layers || p.sizes->activated),
          first(BLOCK * out_stride),
          second(dual ? BLOCK * out_stride : 0),
          gradient(inputs * out_stride) {
        for (int plane = 0; plane <= dual; ++plane) {
            out[plane].resize(BLOCK * out_stride);
            const F *W = (plane ? slopes : values).weights[l];
            if (!W) continue;
            matrix[plane].resize(inputs * out_stride);
            transpose[plane].resize(outputs * in_stride);
            for (int64_t i = 0; i < inputs; ++i)
                for (int64_t j = 0; j < outputs; ++j)
                    transpose[plane][j * in_stride + i] = matrix[plane][i * out_stride + j] = scale * W[i * outputs + j];
        }
    }

    // Values x_{l+1} in `out` become activations, with their derivatives.
    void activate(int64_t count) {
        if (active)
            for (int64_t i = 0; i < count * out_stride; i += WIDTH<F>) {
                const Silu<F> silu(at(out[0], i));
                put(out[0], i, silu.value());
                put(first, i, silu.first());
                if (!second.empty()) put(second, i, silu.second());
            }
    }

    // The same for slopes; `second` is then the slope of `first`.
    void activate_slopes(int64_t count) {
        if (active)
            for (int64_t i = 0; i < count * out_stride; i += WIDTH<F>) {
                const V slope = at(out[1], i);
                put(out[1], i, slope * at(first, i));
                put(second, i, slope * at(second, i));
            }
    }

    // Gradients by activations become those by x_{l+1}.
    void reverse_activation(Numbers *g, int64_t count, bool dual) const {
        if (active)
            for (int64_t i = 0; i < count * out_stride; i += WIDTH<F>) {
                if (dual) put(g[1], i, at(g[1], i) * at(first, i) + at(g[0], i) * at(second, i));
                put(g[0], i, at(g[0], i) * at(first, i));
            }
    }

   private:
    static V at(const Numbers &numbers, int64_t i) {
        V x;
        __builtin_memcpy(&x, numbers.data() + i, sizeof(x));
        return x;
    }
    static void put(Numbers &numbers, int64_t i, const V &x) { __builtin_memcpy(numbers.data() + i, &x, sizeof(x)); }
};

template <typename F, bool DUAL>
class Pass {
    using Numbers = std::vector<F>;

    const Problem<F> &p;
    const Sizes &z;
    const Tensors<F> &values, &slopes;
    std::vector<Layer<F>> layers;
    Numbers in[2], g[2], next[2];
    int64_t begin, count;

   public:
    Pass(const Problem<F> &problem, const Tensors<F> &at, const Tensors<F> &along)
        : p(problem), z(*problem.sizes), values(at), slopes(along) {
        int64_t widest = 0;
        for (int64_t l = 0; l < z.layers; ++l) {
            layers.emplace_back(p, l, values, slopes, DUAL);
            widest = std::max({widest, layers[l].in_stride, layers[l].out_stride});
        }
        for (int plane = 0; plane <= DUAL; ++plane) {
            in[plane].resize(BLOCK * layers[0].in_stride);
            g[plane].resize(BLOCK * widest);
            next[plane].resize(BLOCK * widest);
        }
    }

    void forward(F *y) {
        for (begin = 0; begin < z.rows; begin += BLOCK) {
            count = std::min(BLOCK, z.rows - begin);
            copy_in(in[0], layers[0].in_stride, values.x, layers[0].inputs);
            for (int64_t l = 0; l < z.layers; ++l) {
                Layer<F> &layer = layers[l];
                product<false>(input(l, 0), layer.in_stride, layer.matrix[0], layer.out_stride, layer.out[0], layer.inputs);
                if (l == 0) add_share(layer, 0, values.share);
                if (p.kept && p.kept[l]) copy_out(p.kept[l], layer.outputs, layer.out[0], layer.out_stride, F(1));
                layer.activate(count);
            }
            const Layer<F> &last = layers.back();
            copy_out(y, last.outputs, last.out[0], last.out_stride, p.scales[z.layers]);
        }
    }

    // Gradients from dL/dy, `given`. DUAL: the slopes of y and of the gradients.
    void backward(const F *given, F *y, const Tensors<F> &results) {
        const Layer<F> &last = layers.back();
        for (begin = 0; begin < z.rows; begin += BLOCK) {
            count = std::min(BLOCK, z.rows - begin);
            copy_in(in[0], layers[0].in_stride, values.x, layers[0].inputs);
            for (int64_t l = 0; l < z.layers; ++l) {
                copy_in(layers[l].out[0], layers[l].out_stride, p.kept[l], layers[l].outputs);
                layers[l].activate(count);
            }
            if (DUAL) {
                follow_slopes();
                copy_out(y, last.outputs, last.out[1], last.out_stride, p.scales[z.layers]);
            }
            copy_in(g[0], last.out_stride, given, last.outputs, p.scales[z.layers]);
            if (DUAL) std::fill(g[1].begin(), g[1].end(), F(0));
            for (int64_t l = z.layers - 1; l >= 0; --l) reverse(l, results);
            if (results.x) copy_out(results.x, layers[0].inputs, g[DUAL], layers[0].in_stride, F(1));
        }
        for (int64_t l = 0; l < z.layers; ++l)
            if (results.weights[l])
                for (int64_t i = 0; i < layers[l].inputs; ++i)
                    for (int64_t j = 0; j < layers[l].outputs; ++j)
                        results.weights[l][i * layers[l].outputs + j] +=
                            layers[l].scale * layers[l].gradient[i * layers[l].out_stride + j];
    }

   private:
    const Numbers &input(int64_t l, int plane) const { return l ? layers[l - 1].out[plane] : in[plane]; }

    template <bool ADD>
    void product(const Numbers &a, int64_t a_row, const Numbers &b, int64_t columns, Numbers &c, int64_t depth) const {
        multiply<ADD>(a.data(), a_row, 1, b.data(), columns, c.data(), columns, count, columns, depth);
    }

    void copy_in(Numbers &to, int64_t stride, const F *from, int64_t width, F scale = 1) const {
        for (int64_t i = 0; i < count; ++i) {
            for (int64_t j = 0; j < width; ++j) to[i * stride + j] = from ? scale * from[(begin + i) * width + j] : F(0);
            for (int64_t j = width; j < stride; ++j) to[i * stride + j] = F(0);
        }
    }

    void copy_out(F *to, int64_t width, const Numbers &from, int64_t stride, F scale) const {
        for (int64_t i = 0; i < count; ++i)
            for (int64_t j = 0; j < width; ++j) to[(begin + i) * width + j] = scale * from[i * stride + j];
    }

    void add_share(Layer<F> &layer, int plane, const F *share) const {
        if (share)
            for (int64_t i = 0; i < count; ++i)
                for (int64_t j = 0; j < layer.outputs; ++j)
                    layer.out[plane][i * layer.out_stride + j] +=
                        layer.scale * share[p.places[begin + i] * layer.outputs + j];
    }

    void follow_slopes() {
        copy_in(in[1], layers[0].in_stride, slopes.x, layers[0].inputs);
        for (int64_t l = 0; l < z.layers; ++l) {
            Layer<F> &layer = layers[l];
            product<false>(input(l, 1), layer.in_stride, layer.matrix[0], layer.out_stride, layer.out[1], layer.inputs);
            if (!layer.matrix[1].empty())
                product<true>(input(l, 0), layer.in_stride, layer.matrix[1], layer.out_stride, layer.out[1], layer.inputs);
            if (l == 0) add_share(layer, 1, slopes.share);
            layer.activate_slopes(count);
        }
    }

    void reverse(int64_t l, const Tensors<F> &results) {
        Layer<F> &layer = layers[l];
        layer.reverse_activation(g, count, DUAL);
        if (results.weights[l])
            for (int plane = 0; plane <= DUAL; ++plane)  // of a product, each factor's slope by the other's value
                multiply<true>(input(l, plane).data(), 1, layer.in_stride, g[DUAL - plane].data(), layer.out_stride,
                               layer.gradient.data(), layer.out_stride, layer.inputs, layer.out_stride, count);
        if (l == 0 && results.share)
            for (int64_t i = 0; i < count; ++i)
                for (int64_t j = 0; j < layer.outputs; ++j)
                    results.share[p.places[begin + i] * layer.outputs + j] +=
                        layer.scale * g[DUAL][i * layer.out_stride + j];
        if (l == 0 && !results.x) return;
        for (int plane = 0; plane <= DUAL; ++plane)
            product<false>(g[plane], layer.out_stride, layer.transpose[0], layer.in_stride, next[plane], layer.outputs);
        if (DUAL && !layer.transpose[1].empty())
            product<true>(g[0], layer.out_stride, layer.transpose[1], layer.in_stride, next[1], layer.outputs);
        for (int plane = 0; plane <= DUAL; ++plane) std::swap(g[plane], next[plane]);
    }
};

}  // namespace

// forward: y from `values`. backward: `results` from `given`. Second: slopes along `slopes` of y and of the gradients.
#define EXPORT(F, NAME)                                                                                            \
    extern "C" void perceptron_##NAME(const Problem<F> *problem, const Tensors<F> *values, const Tensors<F> *slopes, \
                                      const F *given, F *y, const Tensors<F> *results) {                            \
        if (!given)                                                                                                \
            Pass<F, false>(*problem, *values, *values).forward(y);                                                  \
        else if (!slopes)                                                                                          \
            Pass<F, false>(*problem, *values, *values).backward(given, nullptr, *results);                          \
        else                                                                                                       \
            Pass<F, true>(*problem, *values, *slopes).backward(given, y, *results);                                 \
    }

EXPORT(float, float32)
EXPORT(double, float64)
