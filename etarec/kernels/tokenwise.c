/* The token-wise part of a TTT4Rec block, before and after its inner loop, with gradients: norms, projections, rotary
 * embedding and SwiGLU. In torch these are some fifty operations a pass, which cost more than their arithmetic for the
 * few hundred tokens of a pass. build.py compiles this file for the processor at hand, with these constants: D width,
 * H heads, W width of the SwiGLU, M mini-batch. D and W are multiples of PANEL, and D of 2 H.
 *
 * Tokens are rows of D floats; ROWS of them are processed at a time, filled up with zeros. Weights are laid out as in
 * torch, [outputs, inputs]. A query is a token whose output is wanted.
 */

#include <math.h>
#include <string.h>

#include "matrix.h"

#define EPS 1e-6f
#define ROWS 32
#define PANEL (2 * LANES) /* columns of a tile */
#define RATES ((H + PANEL - 1) / PANEL * PANEL)
#define HEAD (D / H)

/* to_*: written. d_*: gradients, `d_q` to `d_residual` given, the others added to. */
typedef struct {
    long long sequences;
    const long long *starts, *lengths; /* first token of each sequence, and the number of its tokens */
    long long queries;
    const long long *tokens, *places; /* of each query: its token, and its place in its mini-batch */
    long long inner_loop;             /* 0: no keys, values and rates */
    const float *x, *norm, *wq, *wk, *wv, *wrate, *bias, *cos, *sin; /* bias: of the rates; cos, sin: [M, HEAD] */
    float *to_q, *to_k, *to_v, *to_rate, *to_residual;               /* residual: x at the queries */
    const float *d_q, *d_k, *d_v, *d_rate, *d_residual;
    float *d_x, *d_norm, *d_wq, *d_wk, *d_wv, *d_wrate, *d_bias;
} Before;

typedef struct {
    long long tokens;
    const float *out, *x, *norm_weight, *norm_bias, *o, *mlp_norm, *gate, *up, *down; /* out: of the inner loop */
    float *to_y;
    const float *d_y;
    float *d_out, *d_x, *d_norm_weight, *d_norm_bias, *d_o, *d_mlp_norm, *d_gate, *d_up, *d_down;
} After;

/* Packs the transpose of a [columns, inner] by PANELs of columns, each [inner, PANEL]. */
static void pack_turned(int inner, int columns, const float *a, float *panels) {
    for (int j = 0; j < columns; j += PANEL, panels += PANEL * inner)
        transpose(PANEL, inner, PANEL, a + j * inner, panels);
}

/* Packs a [inner, columns] by PANELs of columns, each [inner, PANEL]. */
static void pack(int inner, int columns, const float *a, float *panels) {
    for (int j = 0; j < columns; j += PANEL)
        for (int k = 0; k < inner; k++, panels += PANEL) memcpy(panels, a + k * columns + j, PANEL * sizeof(float));
}

/* C = A B, or += where add is set: A [rows, inner], rows ai floats apart; B packed; C [rows, columns], rows ci apart. */
INLINE void through(int rows, int inner, int columns, const float *a, int ai, const float *panels, float *c, int ci,
                    int add) {
    for (int j = 0; j < columns; j += PANEL, panels += PANEL * inner)
        for (int i = 0; i < rows; i += 4)
            tile(4, 2, inner, a + i * ai, ai, 1, panels, PANEL, c + i * ci + j, ci, add);
}

INLINE float dot(const float *a, const float *b) {
    float sum = 0;
    for (int j = 0; j < D; j++) sum += a[j] * b[j];
    return sum;
}

INLINE float total(const float *a) {
    float sum = 0;
    for (int j = 0; j < D; j++) sum += a[j];
    return sum;
}

/* unit = x / rms(x). Returns 1 / rms(x). */
INLINE float rms_normalise(const float *x, float *unit) {
    float inverse = 1 / sqrtf(dot(x, x) / D + EPS);
    for (int j = 0; j < D; j++) unit[j] = x[j] * inverse;
    return inverse;
}

/* Adds to the gradients of x and weight from that of weight * unit. */
INLINE void rms_normalise_back(const float *d_y, const float *unit, float inverse, const float *weight, float *d_x,
                               float *d_weight) {
    float d_unit[D];
    for (int j = 0; j < D; j++) d_weight[j] += d_y[j] * unit[j];
    for (int j = 0; j < D; j++) d_unit[j] = d_y[j] * weight[j];
    float along = dot(d_unit, unit) / D;
    for (int j = 0; j < D; j++) d_x[j] += (d_unit[j] - unit[j] * along) * inverse;
}

INLINE float normalise(const float *x, float *unit) {
    float mean = total(x) / D;
    for (int j = 0; j < D; j++) unit[j] = x[j] - mean;
    float inverse = 1 / sqrtf(dot(unit, unit) / D + EPS);
    for (int j = 0; j < D; j++) unit[j] *= inverse;
    return inverse;
}

/* Tokens and their RMSNorm. */
typedef struct {
    int count, rows; /* rows: with those of zeros, a multiple of 4 */
    float unit[ROWS][D], inverse[ROWS], x[ROWS][D];
} Normed;

INLINE int filled(int count) { return (count + 3) / 4 * 4; }

static void normed(const float *x, const long long *tokens, int count, const float *weight, Normed *n) {
    n->count = count, n->rows = filled(count);
    for (int i = 0; i < count; i++) {
        n->inverse[i] = rms_normalise(x + tokens[i] * D, n->unit[i]);
        for (int j = 0; j < D; j++) n->x[i][j] = n->unit[i][j] * weight[j];
    }
    memset(n->x[count], 0, (n->rows - count) * sizeof n->x[0]);
}

static void normed_back(const float *d_y, const Normed *n, const long long *tokens, const float *weight, float *d_x,
                        float *d_weight) {
    for (int i = 0; i < n->count; i++)
        rms_normalise_back(d_y + i * D, n->unit[i], n->inverse[i], weight, d_x + tokens[i] * D, d_weight);
}

/* Rotary embedding of a token's heads at its place in its mini-batch. */
INLINE void rotate(const Before *w, long long place, const float *x, float *restrict y) {
    const float *cos = w->cos + place * HEAD, *sin = w->sin + place * HEAD;
    for (int h = 0; h < D; h += HEAD)
        for (int j = 0; j < HEAD / 2; j++) {
            float a = x[h + j], b = x[h + HEAD / 2 + j];
            y[h + j] = a * cos[j] - b * sin[j];
            y[h + HEAD / 2 + j] = b * cos[HEAD / 2 + j] + a * sin[HEAD / 2 + j];
        }
}

INLINE void rotate_back(const Before *w, long long place, const float *d_y, float *restrict d_x) {
    const float *cos = w->cos + place * HEAD, *sin = w->sin + place * HEAD;
    for (int h = 0; h < D; h += HEAD)
        for (int j = 0; j < HEAD / 2; j++) {
            float a = d_y[h + j], b = d_y[h + HEAD / 2 + j];
            d_x[h + j] = a * cos[j] + b * sin[HEAD / 2 + j];
            d_x[h + HEAD / 2 + j] = b * cos[HEAD / 2 + j] - a * sin[j];
        }
}

/* Writes the next ROWS tokens, from position l of sequence n on, and their places in their mini-batches; advances n and
 * l and returns the number of tokens. */
static int next_tokens(const Before *w, long long *n, long long *l, long long *tokens, long long *places) {
    int count = 0;
    for (; count < ROWS && *n < w->sequences; count++) {
        tokens[count] = w->starts[*n] + *l;
        places[count] = *l % M;
        if (++*l == w->lengths[*n]) ++*n, *l = 0;
    }
    return count;
}

#define KEYS 0
#define VALUES D
#define LOGITS (2 * D)
#define SIDE (2 * D + RATES) /* a token's key, value and rate logits, side by side */

static void pack_side(const Before *w, float *panels) {
    float rates[RATES * D] = {0};
    memcpy(rates, w->wrate, H * D * sizeof(float));
    pack_turned(D, D, w->wk, panels + KEYS * D);
    pack_turned(D, D, w->wv, panels + VALUES * D);
    pack_turned(D, RATES, rates, panels + LOGITS * D);
}

INLINE lanes sigmoid(lanes x) { return 1.0f / (1.0f + exponential(-x)); }

static void keys_and_values(const Before *w) {
    float bias[RATES] = {0}, panels[SIDE * D], side[ROWS][SIDE];
    long long tokens[ROWS], places[ROWS], n = 0, l = 0;
    Normed x;
    memcpy(bias, w->bias, H * sizeof(float));
    pack_side(w, panels);
    for (int count; (count = next_tokens(w, &n, &l, tokens, places));) {
        normed(w->x, tokens, count, w->norm, &x);
        through(x.rows, D, SIDE, x.x[0], D, panels, side[0], SIDE, 0);
        for (int i = 0; i < count; i++) {
            long long t = tokens[i];
            rotate(w, places[i], side[i] + KEYS, w->to_k + t * D);
            memcpy(w->to_v + t * D, side[i] + VALUES, D * sizeof(float));
            for (int h = 0; h < RATES; h += LANES) {
                lanes *logits = (lanes *)(side[i] + LOGITS + h);
                *logits = sigmoid(*logits + *(lanes *)(bias + h));
            }
            memcpy(w->to_rate + t * H, side[i] + LOGITS, H * sizeof(float));
        }
    }
}

static void queries(const Before *w) {
    float panels[D * D], q[ROWS][D];
    Normed x;
    pack_turned(D, D, w->wq, panels);
    for (long long start = 0; start < w->queries; start += ROWS) {
        const long long *tokens = w->tokens + start;
        int count = (int)(w->queries - start < ROWS ? w->queries - start : ROWS);
        normed(w->x, tokens, count, w->norm, &x);
        through(x.rows, D, D, x.x[0], D, panels, q[0], D, 0);
        for (int i = 0; i < count; i++) {
            rotate(w, w->places[start + i], q[i], w->to_q + (start + i) * D);
            memcpy(w->to_residual + (start + i) * D, w->x + tokens[i] * D, D * sizeof(float));
        }
    }
}

void before(const Before *w) {
    if (w->inner_loop) keys_and_values(w);
    queries(w);
}

static void keys_and_values_back(const Before *w) {
    float stacked[SIDE][D], packed[D * SIDE], d_side[ROWS][SIDE], d_normed[ROWS][D];
    long long tokens[ROWS], places[ROWS], n = 0, l = 0;
    Normed x;
    memset(stacked, 0, sizeof stacked);
    memcpy(stacked[KEYS], w->wk, D * D * sizeof(float));
    memcpy(stacked[VALUES], w->wv, D * D * sizeof(float));
    memcpy(stacked[LOGITS], w->wrate, H * D * sizeof(float));
    pack(SIDE, D, stacked[0], packed);
    for (int count; (count = next_tokens(w, &n, &l, tokens, places));) {
        normed(w->x, tokens, count, w->norm, &x);
        memset(d_side, 0, sizeof d_side);
        for (int i = 0; i < count; i++) {
            long long t = tokens[i];
            rotate_back(w, places[i], w->d_k + t * D, d_side[i] + KEYS);
            memcpy(d_side[i] + VALUES, w->d_v + t * D, D * sizeof(float));
            for (int h = 0; h < H; h++) {
                float rate = w->to_rate[t * H + h];
                d_side[i][LOGITS + h] = w->d_rate[t * H + h] * rate * (1 - rate);
                w->d_bias[h] += d_side[i][LOGITS + h];
            }
        }
        product(D, count, D, d_side[0] + KEYS, 1, SIDE, x.x[0], w->d_wk, 1);
        product(D, count, D, d_side[0] + VALUES, 1, SIDE, x.x[0], w->d_wv, 1);
        product(H, count, D, d_side[0] + LOGITS, 1, SIDE, x.x[0], w->d_wrate, 1);
        through(x.rows, SIDE, D, d_side[0], SIDE, packed, d_normed[0], D, 0);
        normed_back(d_normed[0], &x, tokens, w->norm, w->d_x, w->d_norm);
    }
}

static void queries_back(const Before *w) {
    float packed[D * D], d_q[ROWS][D], d_normed[ROWS][D];
    Normed x;
    pack(D, D, w->wq, packed);
    for (long long start = 0; start < w->queries; start += ROWS) {
        const long long *tokens = w->tokens + start;
        int count = (int)(w->queries - start < ROWS ? w->queries - start : ROWS);
        normed(w->x, tokens, count, w->norm, &x);
        memset(d_q, 0, sizeof d_q);
        for (int i = 0; i < count; i++) rotate_back(w, w->places[start + i], w->d_q + (start + i) * D, d_q[i]);
        product(D, count, D, d_q[0], 1, D, x.x[0], w->d_wq, 1);
        through(x.rows, D, D, d_q[0], D, packed, d_normed[0], D, 0);
        normed_back(d_normed[0], &x, tokens, w->norm, w->d_x, w->d_norm);
        for (int i = 0; i < count; i++)
            for (int j = 0; j < D; j++) w->d_x[tokens[i] * D + j] += w->d_residual[(start + i) * D + j];
    }
}

void before_back(const Before *w) {
    if (w->inner_loop) keys_and_values_back(w);
    queries_back(w);
}

/* Everything between the output of the inner loop and that of the block, for ROWS tokens. */
typedef struct {
    int count, rows;
    float unit[ROWS][D], inverse[ROWS], affine[ROWS][D], sum[ROWS][D]; /* sum: x + o(norm(out)) */
    Normed normed;
    float gate[ROWS][W], up[ROWS][W], hidden[ROWS][W];
} Mixed;

typedef struct {
    float o[D * D], gate[D * W], up[D * W], down[W * D];
} Packed;

static const long long IN_ORDER[ROWS] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                         16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

static void mix(const After *w, const Packed *p, long long start, int count, Mixed *m) {
    m->count = count, m->rows = filled(count);
    memset(m->affine[count], 0, (m->rows - count) * sizeof m->affine[0]);
    memset(m->sum[count], 0, (m->rows - count) * sizeof m->sum[0]);
    memcpy(m->sum, w->x + start * D, count * sizeof m->sum[0]);
    for (int i = 0; i < count; i++) {
        m->inverse[i] = normalise(w->out + (start + i) * D, m->unit[i]);
        for (int j = 0; j < D; j++) m->affine[i][j] = m->unit[i][j] * w->norm_weight[j] + w->norm_bias[j];
    }
    through(m->rows, D, D, m->affine[0], D, p->o, m->sum[0], D, 1);
    normed(m->sum[0], IN_ORDER, count, w->mlp_norm, &m->normed);
    through(m->rows, D, W, m->normed.x[0], D, p->gate, m->gate[0], W, 0);
    through(m->rows, D, W, m->normed.x[0], D, p->up, m->up[0], W, 0);
    float *gate = m->gate[0], *up = m->up[0], *hidden = m->hidden[0];
    for (int i = 0; i < m->rows * W; i += LANES) {
        lanes g = *(lanes *)(gate + i);
        *(lanes *)(hidden + i) = g * sigmoid(g) * *(lanes *)(up + i);
    }
}

void after(const After *w) {
    Packed p;
    Mixed m;
    float y[ROWS][D];
    pack_turned(D, D, w->o, p.o);
    pack_turned(D, W, w->gate, p.gate);
    pack_turned(D, W, w->up, p.up);
    pack_turned(W, D, w->down, p.down);
    for (long long start = 0; start < w->tokens; start += ROWS) {
        int count = (int)(w->tokens - start < ROWS ? w->tokens - start : ROWS);
        mix(w, &p, start, count, &m);
        memcpy(y, m.sum, sizeof y);
        through(m.rows, W, D, m.hidden[0], W, p.down, y[0], D, 1);
        memcpy(w->to_y + start * D, y, count * sizeof y[0]);
    }
}

/* Computes the forward pass again: keeping it costs more, in memory outside the caches. */
void after_back(const After *w) {
    Packed p, turned;
    Mixed m;
    float d_y[ROWS][D], d_gate[ROWS][W], d_up[ROWS][W], d_normed[ROWS][D], d_affine[ROWS][D], d_unit[D];
    pack_turned(D, D, w->o, p.o);
    pack_turned(D, W, w->gate, p.gate);
    pack_turned(D, W, w->up, p.up);
    pack(D, D, w->o, turned.o);
    pack(W, D, w->gate, turned.gate);
    pack(W, D, w->up, turned.up);
    pack(D, W, w->down, turned.down);
    for (long long start = 0; start < w->tokens; start += ROWS) {
        int count = (int)(w->tokens - start < ROWS ? w->tokens - start : ROWS);
        mix(w, &p, start, count, &m);
        memset(d_y, 0, sizeof d_y);
        memcpy(d_y, w->d_y + start * D, count * sizeof d_y[0]);
        product(D, count, W, d_y[0], 1, D, m.hidden[0], w->d_down, 1);
        through(m.rows, D, W, d_y[0], D, turned.down, d_up[0], W, 0); /* the gradient at `hidden`, overwritten below */
        float *gate = m.gate[0], *up = m.up[0], *to_gate = d_gate[0], *to_up = d_up[0];
        for (int i = 0; i < m.rows * W; i += LANES) {
            lanes g = *(lanes *)(gate + i), s = sigmoid(g), d_hidden = *(lanes *)(to_up + i);
            *(lanes *)(to_gate + i) = d_hidden * *(lanes *)(up + i) * s * (1.0f + g * (1.0f - s));
            *(lanes *)(to_up + i) = d_hidden * g * s;
        }
        product(W, count, D, to_gate, 1, W, m.normed.x[0], w->d_gate, 1);
        product(W, count, D, to_up, 1, W, m.normed.x[0], w->d_up, 1);
        through(m.rows, W, D, to_gate, W, turned.gate, d_normed[0], D, 0);
        through(m.rows, W, D, to_up, W, turned.up, d_normed[0], D, 1);
        normed_back(d_normed[0], &m.normed, IN_ORDER, w->mlp_norm, d_y[0], w->d_mlp_norm); /* d_y: at the sum */
        memcpy(w->d_x + start * D, d_y, count * sizeof d_y[0]);
        product(D, count, D, d_y[0], 1, D, m.affine[0], w->d_o, 1);
        through(m.rows, D, D, d_y[0], D, turned.o, d_affine[0], D, 0);
        for (int i = 0; i < count; i++) {
            float *d_out = w->d_out + (start + i) * D;
            for (int j = 0; j < D; j++) {
                w->d_norm_weight[j] += d_affine[i][j] * m.unit[i][j];
                w->d_norm_bias[j] += d_affine[i][j];
                d_unit[j] = d_affine[i][j] * w->norm_weight[j];
            }
            float along = dot(d_unit, m.unit[i]) / D, mean = total(d_unit) / D;
            for (int j = 0; j < D; j++) d_out[j] = (d_unit[j] - mean - m.unit[i][j] * along) * m.inverse[i];
        }
    }
}
