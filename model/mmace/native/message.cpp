// The edge message summed over neighbours, with its derivatives.
//
//   A[n,M,k] = sum over neighbours e of n, paths p, source components s:
//              G[e,g_p+s*D_p+M'] * P[e,p_p,k] * Q[e,q_p,k] * H[sender_e,s_p+s,k],   M = m_p+M'
//
// Shapes: P [E,nP,K], Q [E,nQ,K] or null (ones), G [E,nG], H [N,S,K], A [N,C,K];
// E = nodes * width edges, padding marked by real = 0.

#include <cstdint>
#include <vector>

// Rows that are written never overlap rows that are read.
#define EACH_CHANNEL _Pragma("omp simd") for (int64_t k = 0; k < K; ++k)

namespace {

struct Path {
    int64_t position, moment, source, source_dim, target, target_dim, geometry;
};

struct Sizes {
    int64_t nodes, width, channels, num_position, num_moment, num_geometry, source_rows, target_rows, paths;
};

template <typename F>
F dot(const F *x, const F *y, int64_t K) {
    F sum = F(0);
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < K; ++k) sum += x[k] * y[k];
    return sum;
}

// All per-edge arrays and A begin at this part's first node; H is whole.
template <typename F>
void forward(const Sizes &z, const Path *paths, const int64_t *senders, const bool *real, const F *G, const F *P,
             const F *Q, const F *H, F *A) {
    const int64_t K = z.channels;
    std::vector<F> weight(K), sent(K);
    F *w = weight.data(), *u = sent.data();
    for (int64_t n = 0; n < z.nodes; ++n) {
        F *An = A + n * z.target_rows * K;
        for (int64_t i = 0; i < z.target_rows * K; ++i) An[i] = F(0);
        for (int64_t e = n * z.width; e < (n + 1) * z.width; ++e) {
            if (!real[e]) continue;
            const F *h = H + senders[e] * z.source_rows * K;
            for (int64_t number = 0; number < z.paths; ++number) {
                const Path &p = paths[number];
                const F *pp = P + (e * z.num_position + p.position) * K;
                const F *qq = Q ? Q + (e * z.num_moment + p.moment) * K : nullptr;
                if (qq)
                    EACH_CHANNEL w[k] = pp[k] * qq[k];
                else
                    EACH_CHANNEL w[k] = pp[k];
                const F *g = G + e * z.num_geometry + p.geometry;
                for (int64_t s = 0; s < p.source_dim; ++s) {
                    const F *hs = h + (p.source + s) * K;
                    EACH_CHANNEL u[k] = w[k] * hs[k];
                    for (int64_t m = 0; m < p.target_dim; ++m) {
                        const F factor = g[s * p.target_dim + m];
                        F *row = An + (p.target + m) * K;
                        EACH_CHANNEL row[k] += factor * u[k];
                    }
                }
            }
        }
    }
}

// Given D = dL/dA. dG, dP, dQ, dH may each be null (not wanted). dH is added to; the others are written.
template <typename F>
void backward(const Sizes &z, const Path *paths, const int64_t *senders, const bool *real, const F *G, const F *P,
              const F *Q, const F *H, const F *D, F *dG, F *dP, F *dQ, F *dH) {
    const int64_t K = z.channels;
    std::vector<F> buffer(4 * K);
    F *w = buffer.data(), *u = w + K, *dw = u + K, *t = dw + K;
    for (int64_t n = 0; n < z.nodes; ++n) {
        const F *Dn = D + n * z.target_rows * K;
        for (int64_t e = n * z.width; e < (n + 1) * z.width; ++e) {
            if (dP) for (int64_t i = 0; i < z.num_position * K; ++i) dP[e * z.num_position * K + i] = F(0);
            if (dQ) for (int64_t i = 0; i < z.num_moment * K; ++i) dQ[e * z.num_moment * K + i] = F(0);
            if (dG) for (int64_t i = 0; i < z.num_geometry; ++i) dG[e * z.num_geometry + i] = F(0);
            if (!real[e]) continue;
            const F *h = H + senders[e] * z.source_rows * K;
            for (int64_t number = 0; number < z.paths; ++number) {
                const Path &p = paths[number];
                const F *pp = P + (e * z.num_position + p.position) * K;
                const F *qq = Q ? Q + (e * z.num_moment + p.moment) * K : nullptr;
                EACH_CHANNEL w[k] = qq ? pp[k] * qq[k] : pp[k];
                EACH_CHANNEL dw[k] = F(0);
                const F *g = G + e * z.num_geometry + p.geometry;
                for (int64_t s = 0; s < p.source_dim; ++s) {
                    const F *hs = h + (p.source + s) * K;
                    if (dG) {
                        EACH_CHANNEL u[k] = w[k] * hs[k];
                        F *dg = dG + e * z.num_geometry + p.geometry + s * p.target_dim;
                        for (int64_t m = 0; m < p.target_dim; ++m) dg[m] = dot(Dn + (p.target + m) * K, u, K);
                    }
                    if (!(dP || dQ || dH)) continue;
                    EACH_CHANNEL t[k] = F(0);
                    for (int64_t m = 0; m < p.target_dim; ++m) {
                        const F factor = g[s * p.target_dim + m];
                        const F *row = Dn + (p.target + m) * K;
                        EACH_CHANNEL t[k] += factor * row[k];
                    }
                    EACH_CHANNEL dw[k] += t[k] * hs[k];
                    if (dH) {
                        F *dh = dH + (senders[e] * z.source_rows + p.source + s) * K;
                        EACH_CHANNEL dh[k] += t[k] * w[k];
                    }
                }
                if (dP) {
                    F *dp = dP + (e * z.num_position + p.position) * K;
                    EACH_CHANNEL dp[k] += qq ? dw[k] * qq[k] : dw[k];
                }
                if (dQ) {
                    F *dq = dQ + (e * z.num_moment + p.moment) * K;
                    EACH_CHANNEL dq[k] += dw[k] * pp[k];
                }
            }
        }
    }
}

// Derivatives by D, G, P, Q, H of S = <vG, dG> + <vP, dP> + <vQ, dQ> + <vH, dH>, dG... being those of `backward`.
// Any direction v may be null (zero), and any result but dD null (not wanted). eH is added to; the others are written.
//
// With w = P Q and its change w' = vP Q + P vQ, t_s = sum_M G D, t'_s = sum_M vG D, per path:
//   S = sum_k w' a + w b,   a = sum_s h_s t_s,   b = sum_s (vh_s t_s + h_s t'_s).
template <typename F>
void double_backward(const Sizes &z, const Path *paths, const int64_t *senders, const bool *real, const F *G,
                     const F *P, const F *Q, const F *H, const F *D, const F *vG, const F *vP, const F *vQ,
                     const F *vH, F *eD, F *eG, F *eP, F *eQ, F *eH) {
    const int64_t K = z.channels;
    std::vector<F> buffer(10 * K, F(0));
    F *w = buffer.data(), *wc = w + K, *u = wc + K, *uc = u + K, *t = uc + K, *tc = t + K, *a = tc + K, *b = a + K;
    F *ones = b + K;
    const F *zeros = ones + K;
    for (int64_t k = 0; k < K; ++k) ones[k] = F(1);
    for (int64_t n = 0; n < z.nodes; ++n) {
        const F *Dn = D + n * z.target_rows * K;
        F *eDn = eD + n * z.target_rows * K;
        for (int64_t i = 0; i < z.target_rows * K; ++i) eDn[i] = F(0);
        for (int64_t e = n * z.width; e < (n + 1) * z.width; ++e) {
            if (eP) for (int64_t i = 0; i < z.num_position * K; ++i) eP[e * z.num_position * K + i] = F(0);
            if (eQ) for (int64_t i = 0; i < z.num_moment * K; ++i) eQ[e * z.num_moment * K + i] = F(0);
            if (eG) for (int64_t i = 0; i < z.num_geometry; ++i) eG[e * z.num_geometry + i] = F(0);
            if (!real[e]) continue;
            const int64_t sender = senders[e] * z.source_rows;
            for (int64_t number = 0; number < z.paths; ++number) {
                const Path &p = paths[number];
                const int64_t ip = (e * z.num_position + p.position) * K, iq = (e * z.num_moment + p.moment) * K;
                const F *pp = P + ip, *qq = Q ? Q + iq : ones;
                const F *vp = vP ? vP + ip : zeros, *vq = Q && vQ ? vQ + iq : zeros;
                EACH_CHANNEL {
                    w[k] = pp[k] * qq[k];
                    wc[k] = vp[k] * qq[k] + pp[k] * vq[k];
                    a[k] = F(0);
                    b[k] = F(0);
                }
                const int64_t ig = e * z.num_geometry + p.geometry;
                for (int64_t s = 0; s < p.source_dim; ++s) {
                    const int64_t ih = (sender + p.source + s) * K;
                    const F *h = H + ih, *vh = vH ? vH + ih : zeros;
                    EACH_CHANNEL {
                        u[k] = w[k] * h[k];
                        uc[k] = wc[k] * h[k] + w[k] * vh[k];
                        t[k] = F(0);
                        tc[k] = F(0);
                    }
                    for (int64_t m = 0; m < p.target_dim; ++m) {
                        const int64_t i = ig + s * p.target_dim + m;
                        const F g = G[i], gc = vG ? vG[i] : F(0);
                        const F *row = Dn + (p.target + m) * K;
                        F *out = eDn + (p.target + m) * K;
                        EACH_CHANNEL {
                            out[k] += g * uc[k] + gc * u[k];
                            t[k] += g * row[k];
                            tc[k] += gc * row[k];
                        }
                        if (eG) eG[i] = dot(row, uc, K);
                    }
                    EACH_CHANNEL {
                        a[k] += h[k] * t[k];
                        b[k] += vh[k] * t[k] + h[k] * tc[k];
                    }
                    if (eH) {
                        F *eh = eH + ih;
                        EACH_CHANNEL eh[k] += wc[k] * t[k] + w[k] * tc[k];
                    }
                }
                if (eP) {
                    F *ep = eP + ip;
                    EACH_CHANNEL ep[k] += vq[k] * a[k] + qq[k] * b[k];
                }
                if (eQ) {
                    F *eq = eQ + iq;
                    EACH_CHANNEL eq[k] += vp[k] * a[k] + pp[k] * b[k];
                }
            }
        }
    }
}

}  // namespace

#define EXPORT(F, NAME)                                                                                             \
    extern "C" void message_forward_##NAME(const Sizes *z, const Path *paths, const int64_t *senders,               \
                                           const bool *real, const F *G, const F *P, const F *Q, const F *H, F *A) { \
        forward<F>(*z, paths, senders, real, G, P, Q, H, A);                                                        \
    }                                                                                                               \
    extern "C" void message_backward_##NAME(const Sizes *z, const Path *paths, const int64_t *senders,              \
                                            const bool *real, const F *G, const F *P, const F *Q, const F *H,       \
                                            const F *D, F *dG, F *dP, F *dQ, F *dH) {                               \
        backward<F>(*z, paths, senders, real, G, P, Q, H, D, dG, dP, dQ, dH);                                       \
    }                                                                                                               \
    extern "C" void message_double_backward_##NAME(                                                                 \
        const Sizes *z, const Path *paths, const int64_t *senders, const bool *real, const F *G, const F *P,        \
        const F *Q, const F *H, const F *D, const F *vG, const F *vP, const F *vQ, const F *vH, F *eD, F *eG,       \
        F *eP, F *eQ, F *eH) {                                                                                      \
        double_backward<F>(*z, paths, senders, real, G, P, Q, H, D, vG, vP, vQ, vH, eD, eG, eP, eQ, eH);            \
    }

EXPORT(float, float32)
EXPORT(double, float64)
