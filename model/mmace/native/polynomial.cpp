// Sparse polynomials of node features, channel by channel, with first and second derivatives.
//
//   out[n,o,k] = sum over terms t of output o:  c[z_n,t,k] * a[n,i_t,k] * a[n,j_t,k] * a[n,l_t,k]
//
// An index of -1 stands for the constant one, so that terms of order one, two and three look alike.
// Shapes: a [N,C,K], c [Z,T,K], species [N], offsets [O+1] (terms of an output are contiguous), index [T,3].
// Channels are contiguous: every inner loop runs over K and vectorises.

#include <cstdint>
#include <vector>

// Rows that are written never overlap rows that are read.
#define EACH_CHANNEL _Pragma("omp simd") for (int64_t k = 0; k < K; ++k)

namespace {

template <typename F>
struct Problem {
    int64_t nodes, components, channels, outputs, terms;
    const int64_t *offsets, *index, *species;
    const F *a, *c;
};

// Rows of one node, with a row of ones (or a row to throw away) behind the index -1.
template <typename F>
struct Rows {
    F *first;
    F *spare;
    int64_t channels;
    F *operator[](int64_t i) const { return i < 0 ? spare : first + i * channels; }
};

template <typename F>
void forward(const Problem<F> &p, F *out) {
    const int64_t K = p.channels;
    std::vector<F> ones(K, F(1));
    for (int64_t n = 0; n < p.nodes; ++n) {
        const Rows<F> a{const_cast<F *>(p.a) + n * p.components * K, ones.data(), K};
        const F *c = p.c + p.species[n] * p.terms * K;
        for (int64_t o = 0; o < p.outputs; ++o) {
            F *__restrict sum = out + (n * p.outputs + o) * K;
            EACH_CHANNEL sum[k] = F(0);
            for (int64_t t = p.offsets[o]; t < p.offsets[o + 1]; ++t) {
                const F *ai = a[p.index[3 * t]], *aj = a[p.index[3 * t + 1]], *al = a[p.index[3 * t + 2]];
                const F *ct = c + t * K;
                EACH_CHANNEL sum[k] += ct[k] * ai[k] * aj[k] * al[k];
            }
        }
    }
}

// Given g = dL/dout: da = dL/da and, where asked for, dc = dL/dc (added up over nodes).
template <typename F>
void backward(const Problem<F> &p, const F *g, F *da, F *dc) {
    const int64_t K = p.channels;
    std::vector<F> ones(K, F(1)), spare(K);
    for (int64_t n = 0; n < p.nodes; ++n) {
        const Rows<F> a{const_cast<F *>(p.a) + n * p.components * K, ones.data(), K};
        const Rows<F> d{da + n * p.components * K, spare.data(), K};
        for (int64_t i = 0; i < p.components * K; ++i) d.first[i] = F(0);
        const F *c = p.c + p.species[n] * p.terms * K;
        F *dcn = dc ? dc + p.species[n] * p.terms * K : nullptr;
        for (int64_t o = 0; o < p.outputs; ++o) {
            const F *go = g + (n * p.outputs + o) * K;
            for (int64_t t = p.offsets[o]; t < p.offsets[o + 1]; ++t) {
                const int64_t i = p.index[3 * t], j = p.index[3 * t + 1], l = p.index[3 * t + 2];
                const F *ai = a[i], *aj = a[j], *al = a[l], *ct = c + t * K;
                if (dcn) {
                    F *dct = dcn + t * K;
                    EACH_CHANNEL dct[k] += go[k] * ai[k] * aj[k] * al[k];
                }
                // one after the other: the rows may be the same
                F *di = d[i];
                EACH_CHANNEL di[k] += go[k] * ct[k] * aj[k] * al[k];
                if (j < 0) continue;
                F *dj = d[j];
                EACH_CHANNEL dj[k] += go[k] * ct[k] * ai[k] * al[k];
                if (l < 0) continue;
                F *dl = d[l];
                EACH_CHANNEL dl[k] += go[k] * ct[k] * ai[k] * aj[k];
            }
        }
    }
}

// Derivatives of S = <va, da> + <vc, dc> by g, a and c. vc may be null (zero); dc may be null (not wanted).
template <typename F>
void double_backward(const Problem<F> &p, const F *g, const F *va, const F *vc, F *dg, F *da, F *dc) {
    const int64_t K = p.channels;
    std::vector<F> ones(K, F(1)), zeros(K, F(0)), spare(K), e(K);
    for (int64_t n = 0; n < p.nodes; ++n) {
        const int64_t row = n * p.components * K;
        const Rows<F> a{const_cast<F *>(p.a) + row, ones.data(), K};
        const Rows<F> v{const_cast<F *>(va) + row, zeros.data(), K};
        const Rows<F> d{da + row, spare.data(), K};
        for (int64_t i = 0; i < p.components * K; ++i) d.first[i] = F(0);
        const F *c = p.c + p.species[n] * p.terms * K;
        const F *vcn = vc ? vc + p.species[n] * p.terms * K : nullptr;
        F *dcn = dc ? dc + p.species[n] * p.terms * K : nullptr;
        for (int64_t o = 0; o < p.outputs; ++o) {
            const F *go = g + (n * p.outputs + o) * K;
            F *dgo = dg + (n * p.outputs + o) * K;
            EACH_CHANNEL dgo[k] = F(0);
            for (int64_t t = p.offsets[o]; t < p.offsets[o + 1]; ++t) {
                const int64_t i = p.index[3 * t], j = p.index[3 * t + 1], l = p.index[3 * t + 2];
                const F *ai = a[i], *aj = a[j], *al = a[l], *vi = v[i], *vj = v[j], *vl = v[l], *ct = c + t * K;
                const F *wt = vcn ? vcn + t * K : zeros.data();
                // e: change of the monomial along va
                EACH_CHANNEL
                    e[k] = vi[k] * aj[k] * al[k] + ai[k] * (vj[k] * al[k] + aj[k] * vl[k]);
                EACH_CHANNEL dgo[k] += ct[k] * e[k] + wt[k] * ai[k] * aj[k] * al[k];
                if (dcn) {
                    F *dct = dcn + t * K;
                    EACH_CHANNEL dct[k] += go[k] * e[k];
                }
                F *di = d[i];
                EACH_CHANNEL
                    di[k] += go[k] * (ct[k] * (vj[k] * al[k] + aj[k] * vl[k]) + wt[k] * aj[k] * al[k]);
                if (j < 0) continue;
                F *dj = d[j];
                EACH_CHANNEL
                    dj[k] += go[k] * (ct[k] * (vi[k] * al[k] + ai[k] * vl[k]) + wt[k] * ai[k] * al[k]);
                if (l < 0) continue;
                F *dl = d[l];
                EACH_CHANNEL
                    dl[k] += go[k] * (ct[k] * (vi[k] * aj[k] + ai[k] * vj[k]) + wt[k] * ai[k] * aj[k]);
            }
        }
    }
}

}  // namespace

#define EXPORT(F, NAME)                                                                                              \
    extern "C" void polynomial_forward_##NAME(const int64_t *sizes, const int64_t *offsets, const int64_t *index,    \
                                              const int64_t *species, const F *a, const F *c, F *out) {              \
        forward<F>({sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], offsets, index, species, a, c}, out);          \
    }                                                                                                                \
    extern "C" void polynomial_backward_##NAME(const int64_t *sizes, const int64_t *offsets, const int64_t *index,   \
                                               const int64_t *species, const F *a, const F *c, const F *g, F *da,    \
                                               F *dc) {                                                              \
        backward<F>({sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], offsets, index, species, a, c}, g, da, dc);   \
    }                                                                                                                \
    extern "C" void polynomial_double_backward_##NAME(                                                               \
        const int64_t *sizes, const int64_t *offsets, const int64_t *index, const int64_t *species, const F *a,      \
        const F *c, const F *g, const F *va, const F *vc, F *dg, F *da, F *dc) {                                     \
        double_backward<F>({sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], offsets, index, species, a, c}, g, va, \
                           vc, dg, da, dc);                                                                          \
    }

EXPORT(float, float32)
EXPORT(double, float64)
