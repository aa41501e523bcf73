/* The inner loop of the TTT layer in its dual form, and its gradient, one sequence and head after another, so that
 * everything stays in the first cache. The maths and its names are those of inner_loop_dual.py, which takes some forty
 * tensor operations a mini-batch; read it first. build.py compiles this file for the processor at hand, with these
 * constants: F head width, G hidden fast width, M mini-batch, all multiples of LANES.
 *
 * A query is a token whose output is wanted. Tokens between the sequences are never read.
 *
 * Symbols: N sequences, H heads, T tokens, Q queries, m tokens of a mini-batch, a of them queries.
 */

#include <math.h>

#include "matrix.h"

#define EPS 1e-6f
#define LINEAR 1.5957691216057308f /* sqrt(8 / pi): gelu(x) = x sigmoid(LINEAR x + CUBIC x^3) */
#define CUBIC (0.044715f * LINEAR)

/* t, h: strides in floats over tokens or queries, and over heads; F is contiguous. */
typedef struct {
    const float *data;
    long long t, h;
} View;

typedef struct {
    long long heads;
    const long long *starts, *lengths;    /* first token of each sequence, and the number of its tokens */
    const long long *queries, *positions; /* [N + 1], first query of each; position of each query, ascending */
    View q, k, v, rate, d_out;            /* rate has no F */
    View out, d_q, d_k, d_v, d_rate;      /* written */
    const float *decay, *norm_weight, *norm_bias, *w1, *b1, *w2, *b2;
} Work;

/* Gradients of the weights that all sequences share: decay [M] and, by head, norm, fast weights and biases. */
typedef struct {
    float *decay, *norm_weight, *norm_bias, *w1, *b1, *w2, *b2;
} Shared;

typedef struct {
    float w1[F][G], b1[G], w2[G][F], b2[F];
    float w1t[G][F], w2t[F][G]; /* transposed, for products from the other side */
} Fast;

typedef struct {
    int m;
    float rate[M], k[M][F], v[M][F];
    float z[M][G], sigmoid[M][G], x[M][G], slope[M][G], h[M][G], g1[M][G];
    float unit[M][F], inverse_std[M], residual[M][F], g2[M][F];
} Batch;

typedef struct {
    long long first; /* query */
    int count, place[M];
    float q[M][F], causal[M][M], overlap1[M][M], overlap2[M][M];
    float p[M][G], sigmoid[M][G], y[M][G], unit[M][F], inverse_std[M], out[M][F];
} Answers;

/* The product of two vectors of F. */
INLINE float dot(const float *a, const float *b) {
    float sum = 0;
    for (int j = 0; j < F; j++) sum += a[j] * b[j];
    return sum;
}

INLINE float total(const float *a) {
    float sum = 0;
    for (int j = 0; j < F; j++) sum += a[j];
    return sum;
}

/* value = gelu(x), and its sigmoid, of rows of G. */
INLINE void gelu(int rows, const float *x, float *sigmoid, float *value) {
    for (int i = 0; i < rows * G; i += LANES) {
        lanes at = *(const lanes *)(x + i);
        lanes s = 1.0f / (1.0f + exponential(-at * (LINEAR + CUBIC * at * at)));
        *(lanes *)(sigmoid + i) = s;
        *(lanes *)(value + i) = at * s;
    }
}

INLINE void gelu_slope(int rows, const float *x, const float *sigmoid, float *slope) {
    for (int i = 0; i < rows * G; i++) {
        float inner = LINEAR + 3 * CUBIC * x[i] * x[i];
        slope[i] = sigmoid[i] + x[i] * sigmoid[i] * (1 - sigmoid[i]) * inner;
    }
}

INLINE float gelu_curvature(float x, float s) {
    float inner = LINEAR + 3 * CUBIC * x * x;
    return s * (1 - s) * (2 * inner + 6 * CUBIC * x * x + x * inner * inner * (1 - 2 * s));
}

INLINE float normalise(const float *z, float *unit) {
    float mean = total(z) / F, square = 0;
    for (int j = 0; j < F; j++) unit[j] = z[j] - mean;
    for (int j = 0; j < F; j++) square += unit[j] * unit[j];
    float inverse_std = 1 / sqrtf(square / F + EPS);
    for (int j = 0; j < F; j++) unit[j] *= inverse_std;
    return inverse_std;
}

INLINE void normalise_back(const float *d_unit, const float *unit, float inverse_std, float *d) {
    float along = dot(d_unit, unit) / F, mean = total(d_unit) / F;
    for (int j = 0; j < F; j++) d[j] = (d_unit[j] - mean - unit[j] * along) * inverse_std;
}

INLINE const float *at(const View *view, long long t, long long h) { return view->data + t * view->t + h * view->h; }

INLINE float *into(const View *view, long long t, long long h) { return (float *)at(view, t, h); }

/* Goes on to the queries of sequence n in the mini-batch that begins at `start`. */
INLINE void next_queries(const Work *w, long long n, long long start, Answers *a) {
    long long next = a->first + a->count;
    a->first = next;
    while (next < w->queries[n + 1] && w->positions[next] < start + M) next++;
    a->count = (int)(next - a->first);
}

/* Goes back to those queries. */
INLINE void queries_before(const Work *w, long long n, long long start, Answers *a) {
    long long first = a->first;
    while (first > w->queries[n] && w->positions[first - 1] >= start) first--;
    a->count = (int)(a->first - first);
    a->first = first;
}

/* Only the backward pass needs w1t, and transposes w1 itself. */
static void turn_w2(Fast *fast) {
    transpose(G, F, G, fast->w2[0], fast->w2t[0]);
}

static void first_fast(const Work *w, long long h, Fast *fast) {
    memcpy(fast->w1, w->w1 + h * F * G, sizeof fast->w1);
    memcpy(fast->b1, w->b1 + h * G, sizeof fast->b1);
    memcpy(fast->w2, w->w2 + h * G * F, sizeof fast->w2);
    memcpy(fast->b2, w->b2 + h * F, sizeof fast->b2);
    turn_w2(fast);
}

/* Gradients of the inner loss for the m tokens of a mini-batch, from `token` on. */
static void learn(const Work *w, long long token, long long h, int m, const Fast *fast, Batch *b) {
    float z2[M][F], e[F];
    const float *weight = w->norm_weight + h * F, *bias = w->norm_bias + h * F;
    b->m = m;
    for (int i = 0; i < m; i++) {
        memcpy(b->k[i], at(&w->k, token + i, h), sizeof b->k[i]);
        memcpy(b->v[i], at(&w->v, token + i, h), sizeof b->v[i]);
        b->rate[i] = *at(&w->rate, token + i, h);
    }
    repeat(m, G, fast->b1, b->z[0]);
    product(m, F, G, b->k[0], F, 1, fast->w1[0], b->z[0], 1);
    gelu(m, b->z[0], b->sigmoid[0], b->x[0]);
    gelu_slope(m, b->z[0], b->sigmoid[0], b->slope[0]);
    repeat(m, F, fast->b2, z2[0]);
    product(m, G, F, b->x[0], G, 1, fast->w2[0], z2[0], 1);
    for (int i = 0; i < m; i++) {
        b->inverse_std[i] = normalise(z2[i], b->unit[i]);
        for (int j = 0; j < F; j++) b->residual[i][j] = bias[j] + b->unit[i][j] * weight[j] - (b->v[i][j] - b->k[i][j]);
        for (int j = 0; j < F; j++) e[j] = b->residual[i][j] * weight[j];
        normalise_back(e, b->unit[i], b->inverse_std[i], b->g2[i]);
    }
    product(m, F, G, b->g2[0], F, 1, fast->w2t[0], b->h[0], 0);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < G; j++) b->g1[i][j] = b->h[i][j] * b->slope[i][j];
}

/* P = Y W + b - (A * S) g of one layer, S = Y X^T + 1. */
INLINE void mixed(int count, int m, int inner, int outer, const float *y, const float *x, const float *g,
                  const float *weight, const float *bias, const float *causal, float *overlap, float *p) {
    float xt[G * M], pull[M * M];
    transpose(m, inner, M, x, xt);
    for (int i = 0; i < count * M; i++) overlap[i] = 1;
    product(count, inner, M, y, inner, 1, xt, overlap, 1);
    for (int i = 0; i < count * M; i++) pull[i] = -causal[i] * overlap[i];
    repeat(count, outer, bias, p);
    product(count, inner, outer, y, inner, 1, weight, p, 1);
    product(count, m, outer, pull, M, 1, g, p, 1);
}

/* Outputs of the queries, each at the fast weights of its place. */
static void answer(const Work *w, long long h, long long start, const Fast *fast, const Batch *b, Answers *a) {
    float p2[M][F];
    const float *weight = w->norm_weight + h * F, *bias = w->norm_bias + h * F;
    for (int i = 0; i < a->count; i++) {
        int place = (int)(w->positions[a->first + i] - start);
        a->place[i] = place;
        memcpy(a->q[i], at(&w->q, a->first + i, h), sizeof a->q[i]);
        for (int j = 0; j < M; j++) a->causal[i][j] = j <= place ? w->decay[place] * b->rate[j] : 0;
    }
    mixed(a->count, b->m, F, G, a->q[0], b->k[0], b->g1[0], fast->w1[0], fast->b1, a->causal[0], a->overlap1[0],
          a->p[0]);
    gelu(a->count, a->p[0], a->sigmoid[0], a->y[0]);
    mixed(a->count, b->m, G, F, a->y[0], b->x[0], b->g2[0], fast->w2[0], fast->b2, a->causal[0], a->overlap2[0],
          p2[0]);
    for (int i = 0; i < a->count; i++) {
        a->inverse_std[i] = normalise(p2[i], a->unit[i]);
        for (int j = 0; j < F; j++) a->out[i][j] = a->q[i][j] + bias[j] + a->unit[i][j] * weight[j];
    }
}

/* The fast weights at the start of the next mini-batch, after a whole one. */
static void step(const Work *w, const Batch *b, const Fast *now, Fast *fast) {
    float pull1[M][G], pull2[M][F];
    if (fast != now) *fast = *now;
    for (int i = 0; i < M; i++) {
        float rate = -w->decay[M - 1] * b->rate[i];
        for (int j = 0; j < G; j++) pull1[i][j] = rate * b->g1[i][j];
        for (int j = 0; j < F; j++) pull2[i][j] = rate * b->g2[i][j];
    }
    product(F, M, G, b->k[0], 1, F, pull1[0], fast->w1[0], 1);
    product(G, M, F, b->x[0], 1, G, pull2[0], fast->w2[0], 1);
    add_rows(M, G, pull1[0], fast->b1);
    add_rows(M, F, pull2[0], fast->b2);
    turn_w2(fast);
}

void inner_loop_forward(const Work *w, long long begin, long long end) {
    Fast first, fast;
    Batch batch;
    Answers asked;
    for (long long h = 0; h < w->heads; h++) {
        first_fast(w, h, &first);
        for (long long n = begin; n < end; n++) {
            long long length = w->lengths[n];
            asked.first = w->queries[n], asked.count = 0;
            for (long long start = 0; start < length; start += M) {
                int m = (int)(length - start < M ? length - start : M);
                const Fast *now = start ? &fast : &first;
                next_queries(w, n, start, &asked);
                learn(w, w->starts[n] + start, h, m, now, &batch);
                if (asked.count) answer(w, h, start, now, &batch, &asked);
                for (int i = 0; i < asked.count; i++)
                    memcpy(into(&w->out, asked.first + i, h), asked.out[i], sizeof asked.out[i]);
                if (start + M < length) step(w, &batch, now, &fast);
            }
        }
    }
}

/* Gradients of a mini-batch's own quantities, except its fast weights. */
typedef struct {
    float k[M][F], x[M][G], g1[M][G], g2[M][F], rate[M];
} Back;

/* Through `step`: d holds the gradients at the next mini-batch's fast weights, also part of those at this one's. */
static void step_back(const Work *w, const Batch *b, const Fast *d, Back *back, float *d_decay) {
    float scaled1[M][G], scaled2[M][F], pull1[M][G], pull2[M][F], turned1[G][F], turned2[F][G];
    repeat(M, G, d->b1, scaled1[0]);
    repeat(M, F, d->b2, scaled2[0]);
    product(M, F, G, b->k[0], F, 1, d->w1[0], scaled1[0], 1);
    product(M, G, F, b->x[0], G, 1, d->w2[0], scaled2[0], 1);
    for (int i = 0; i < M; i++) {
        float scale = -w->decay[M - 1] * b->rate[i], along = 0;
        for (int j = 0; j < G; j++) along += scaled1[i][j] * b->g1[i][j];
        for (int j = 0; j < F; j++) along += scaled2[i][j] * b->g2[i][j];
        for (int j = 0; j < G; j++) back->g1[i][j] += scaled1[i][j] * scale, pull1[i][j] = b->g1[i][j] * scale;
        for (int j = 0; j < F; j++) back->g2[i][j] += scaled2[i][j] * scale, pull2[i][j] = b->g2[i][j] * scale;
        back->rate[i] -= along * w->decay[M - 1];
        d_decay[M - 1] -= along * b->rate[i];
    }
    transpose(F, G, F, d->w1[0], turned1[0]);
    transpose(G, F, G, d->w2[0], turned2[0]);
    product(M, G, F, pull1[0], G, 1, turned1[0], back->k[0], 1);
    product(M, F, G, pull2[0], F, 1, turned2[0], back->x[0], 1);
}

/* Through `mixed`, from the gradient d_p [count, outer] at P: adds to the gradients of g, x, weight and bias, and writes
 * d_y. turned: the transposed weight. */
INLINE void mixed_back(int count, int m, int inner, int outer, const float *d_p, const float *y, const float *x,
                       const float *g, const float *turned, const float *causal, const float *overlap, float *d_g,
                       float *d_x, float *d_weight, float *d_bias, float *d_causal, float *d_y) {
    float gt[G * M], d_mixed[M * M], pull[M * M];
    transpose(m, outer, M, g, gt);
    product(count, outer, M, d_p, outer, 1, gt, d_mixed, 0);
    for (int i = 0; i < count * M; i++) {
        pull[i] = -causal[i] * overlap[i];
        d_causal[i] -= d_mixed[i] * overlap[i];
        d_mixed[i] *= -causal[i]; /* the gradient at S */
    }
    product(m, count, outer, pull, 1, M, d_p, d_g, 1);
    product(m, count, inner, d_mixed, 1, M, y, d_x, 1);
    product(inner, count, outer, y, 1, inner, d_p, d_weight, 1);
    add_rows(count, outer, d_p, d_bias);
    product(count, outer, inner, d_p, outer, 1, turned, d_y, 0);
    product(count, m, inner, d_mixed, M, 1, x, d_y, 1);
}

static void answer_back(const Work *w, long long h, const Fast *fast, const Batch *b, const Answers *a, Fast *d,
                        Back *back, Shared *shared) {
    float d_p2[M][F], d_y[M][G], d_p1[M][G], slope[M][G], d_q[M][F], d_causal[M][M] = {{0}}, e[F];
    const float *weight = w->norm_weight + h * F;
    for (int i = 0; i < a->count; i++) {
        const float *d_out = at(&w->d_out, a->first + i, h);
        for (int j = 0; j < F; j++) {
            shared->norm_weight[h * F + j] += d_out[j] * a->unit[i][j];
            shared->norm_bias[h * F + j] += d_out[j];
            e[j] = d_out[j] * weight[j];
        }
        normalise_back(e, a->unit[i], a->inverse_std[i], d_p2[i]);
    }
    mixed_back(a->count, b->m, G, F, d_p2[0], a->y[0], b->x[0], b->g2[0], fast->w2t[0], a->causal[0], a->overlap2[0],
               back->g2[0], back->x[0], d->w2[0], d->b2, d_causal[0], d_y[0]);
    gelu_slope(a->count, a->p[0], a->sigmoid[0], slope[0]);
    for (int i = 0; i < a->count; i++)
        for (int j = 0; j < G; j++) d_p1[i][j] = d_y[i][j] * slope[i][j];
    mixed_back(a->count, b->m, F, G, d_p1[0], a->q[0], b->k[0], b->g1[0], fast->w1t[0], a->causal[0], a->overlap1[0],
               back->g1[0], back->k[0], d->w1[0], d->b1, d_causal[0], d_q[0]);
    for (int i = 0; i < a->count; i++) {
        int place = a->place[i];
        const float *d_out = at(&w->d_out, a->first + i, h);
        float *to = into(&w->d_q, a->first + i, h);
        for (int j = 0; j < F; j++) to[j] = d_out[j] + d_q[i][j];
        for (int j = 0; j <= place; j++) {
            back->rate[j] += d_causal[i][j] * w->decay[place];
            shared->decay[place] += d_causal[i][j] * b->rate[j];
        }
    }
}

/* Through `learn`. d_target: the gradient at v - k, which is also that of v. */
static void learn_back(const Work *w, long long token, long long h, const Fast *fast, const Batch *b, Fast *d,
                       Back *back, Shared *shared) {
    int m = b->m;
    float d_h[M][G], d_z[M][G], d_last[M][F], d_target[M][F];
    const float *weight = w->norm_weight + h * F;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < G; j++) {
            d_h[i][j] = back->g1[i][j] * b->slope[i][j];
            d_z[i][j] = gelu_curvature(b->z[i][j], b->sigmoid[i][j]) * b->h[i][j] * back->g1[i][j];
        }
    product(G, m, F, d_h[0], 1, G, b->g2[0], d->w2[0], 1);
    product(m, G, F, d_h[0], G, 1, fast->w2[0], back->g2[0], 1);
    for (int i = 0; i < m; i++) { /* as in inner_loop_dual._loss_gradient_back */
        const float *u = b->unit[i], *d_g = back->g2[i];
        float e[F], pull[F], d_e[F], d_u[F], s = b->inverse_std[i];
        for (int j = 0; j < F; j++) e[j] = b->residual[i][j] * weight[j], pull[j] = d_g[j] * s;
        float pull_along = dot(pull, u) / F, e_along = dot(e, u) / F, mean = total(pull) / F;
        for (int j = 0; j < F; j++) {
            d_e[j] = pull[j] - mean - u[j] * pull_along;
            float d_r = d_e[j] * weight[j];
            d_u[j] = d_r * weight[j] - pull[j] * e_along - e[j] * pull_along;
            d_target[i][j] = -d_r;
            shared->norm_weight[h * F + j] += d_r * u[j] + d_e[j] * b->residual[i][j];
            shared->norm_bias[h * F + j] += d_r;
        }
        float along_std = dot(d_g, b->g2[i]) / F * s;
        normalise_back(d_u, u, s, d_last[i]);
        for (int j = 0; j < F; j++) d_last[i][j] -= u[j] * along_std;
    }
    product(G, m, F, b->x[0], 1, G, d_last[0], d->w2[0], 1);
    add_rows(m, F, d_last[0], d->b2);
    product(m, F, G, d_last[0], F, 1, fast->w2t[0], back->x[0], 1);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < G; j++) d_z[i][j] += back->x[i][j] * b->slope[i][j];
    product(F, m, G, b->k[0], 1, F, d_z[0], d->w1[0], 1);
    add_rows(m, G, d_z[0], d->b1);
    product(m, G, F, d_z[0], G, 1, fast->w1t[0], back->k[0], 1);
    for (int i = 0; i < m; i++) {
        float *d_k = into(&w->d_k, token + i, h), *d_v = into(&w->d_v, token + i, h);
        for (int j = 0; j < F; j++) d_k[j] = back->k[i][j] - d_target[i][j], d_v[j] = d_target[i][j];
        *into(&w->d_rate, token + i, h) = back->rate[i];
    }
}

INLINE void add(float *sum, const float *more, int count) {
    for (int i = 0; i < count; i++) sum[i] += more[i];
}

/* A mini-batch: the fast weights at its start, and the gradients of its tokens there. */
typedef struct {
    Fast fast;
    Batch batch;
} State;

long long floats_of_a_state(void) { return sizeof(State) / sizeof(float); }

/* The states of all mini-batches of a sequence, from the fast weights in the first. Keeping those of all sequences since
 * the forward pass would cost more, in memory outside the caches. */
static void all_states(const Work *w, long long n, long long h, State *state) {
    long long length = w->lengths[n];
    for (long long start = 0; start < length; start += M, state++) {
        int m = (int)(length - start < M ? length - start : M);
        learn(w, w->starts[n] + start, h, m, &state->fast, &state->batch);
        if (start + M < length) step(w, &state->batch, &state->fast, &state[1].fast);
    }
}

/* scratch: a state for each mini-batch of the longest sequence. */
void inner_loop_backward(const Work *w, long long begin, long long end, Shared *shared, State *scratch) {
    Fast d;
    Answers asked;
    Back back;
    for (long long h = 0; h < w->heads; h++) {
        first_fast(w, h, &scratch->fast);
        for (long long n = begin; n < end; n++) {
            all_states(w, n, h, scratch);
            memset(&d, 0, sizeof d);
            asked.first = w->queries[n + 1];
            long long length = w->lengths[n];
            for (long long start = (length - 1) / M * M; start >= 0; start -= M) {
                Fast *fast = &scratch[start / M].fast;
                const Batch *batch = &scratch[start / M].batch;
                transpose(F, G, F, fast->w1[0], fast->w1t[0]);
                memset(&back, 0, sizeof back);
                queries_before(w, n, start, &asked);
                if (start + M < length) step_back(w, batch, &d, &back, shared->decay);
                if (asked.count) {
                    answer(w, h, start, fast, batch, &asked);
                    answer_back(w, h, fast, batch, &asked, &d, &back, shared);
                }
                learn_back(w, w->starts[n] + start, h, fast, batch, &d, &back, shared);
            }
            add(shared->w1 + h * F * G, d.w1[0], F * G);
            add(shared->b1 + h * G, d.b1, G);
            add(shared->w2 + h * G * F, d.w2[0], G * F);
            add(shared->b2 + h * F, d.b2, F);
        }
    }
}
