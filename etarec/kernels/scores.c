/* Products of hidden states with the vectors of all items, and at once what is asked of the scores: ranks, the largest,
 * the softmax's denominator, the gradients of a cross-entropy. Scores of a few rows stay in the second cache, their
 * exponentials are kept where a gradient needs them again, and items' vectors are put in the order of the registers once
 * for all rows; what a library does for a product of a few rows, it does for every few rows again. scores.py says what
 * for; build.py compiles this file for the machine it runs on, with the width D of the vectors, a multiple of PANEL,
 * as a constant.
 *
 * Symbols: B rows (samples), V items. hidden: [B, D], followed by zeros up to a multiple of ROWS; vectors: [V, D].
 */

#include "matrix.h"
#include "row.h"

#define ROWS 6            /* of a tile: ROWS x PANEL scores, in registers */
#define PANEL (2 * LANES) /* items of a tile */
#define WHOLE (2 * ROWS)  /* rows whose scores of all items are alive together */
#define CHUNK (6 * PANEL) /* items whose gradients with a block of rows are alive together; a multiple of ROWS too */
#define BLOCK (43 * ROWS) /* rows of such a block */

typedef lanes Tile[ROWS][2];

INLINE long long smaller(long long a, long long b) {
    return a < b ? a : b;
}

/* c += a b, with `inner` summed over: a's element (i, k) is a[i * ai + k * ak], b's row k starts at b + k * bk. */
INLINE void multiply(long long inner, const float *a, long long ai, long long ak, const float *b, long long bk,
                     Tile c) {
    for (long long k = 0; k < inner; k++) {
        lanes left = *(const lanes *)(b + k * bk), right = *(const lanes *)(b + k * bk + LANES);
#pragma GCC unroll 6
        for (int i = 0; i < ROWS; i++) {
            lanes one = (lanes){0} + a[i * ai + k * ak];
            c[i][0] += one * left;
            c[i][1] += one * right;
        }
    }
}

INLINE void load(Tile c, const float *from, long long stride, long long rows) {
    for (long long r = 0; r < rows; r++) memcpy(c[r], from + r * stride, sizeof c[r]);
}

INLINE void store(Tile c, float *to, long long stride, long long rows) {
    for (long long r = 0; r < rows; r++) memcpy(to + r * stride, c[r], sizeof c[r]);
}

/* The scores of ROWS rows with a panel's items. */
INLINE void score(const float *hidden, const float *panel, Tile s) {
    memset(s, 0, sizeof(Tile));
    multiply(D, hidden, D, 1, panel, PANEL, s);
}

/* Panels hold the vectors of PANEL items by component, [D, PANEL], with zeros for items that are not there. */
static void pack(const float *vectors, long long items, float *panels) {
    for (; items >= PANEL; items -= PANEL, vectors += PANEL * D, panels += PANEL * D)
        transpose(PANEL, D, PANEL, vectors, panels);
    if (items) transpose((int)items, D, PANEL, vectors, panels);
}

INLINE long long padded_to_panels(long long items) {
    return (items + PANEL - 1) / PANEL * PANEL;
}

/* The scores of up to WHOLE rows with all items, [WHOLE, width]. */
static void whole_rows(const float *hidden, long long rows, const float *packed, long long width, float *scores) {
    for (long long item = 0; item < width; item += PANEL)
        for (long long row = 0; row < rows; row += ROWS) {
            Tile s;
            score(hidden + row * D, packed + item * D, s);
            store(s, scores + row * width + item, width, ROWS);
        }
}

/* Of each row, as far as there is room for it: how many scores are not below its bound, log sum exp, and the k largest
 * scores, descending, with their places, [B, k]. Room: packed for V x D and scores for WHOLE x V, both with V up to a
 * multiple of PANEL; found and maxima as in row.h. The number of rows that could be done: where the largest are asked,
 * a score that is not finite ends it. */
long long scan(const float *hidden, long long B, const float *vectors, long long V, const float *bounds,
               long long *counts, float *log_sums, long long k, float *values, long long *places, float *packed,
               float *scores, float *found_values, int *found_places, float *maxima) {
    Pairs found = {found_values, found_places};
    long long width = padded_to_panels(V);
    float sum;
    pack(vectors, V, packed);
    for (long long start = 0; start < B; start += WHOLE) {
        long long rows = smaller(WHOLE, B - start);
        whole_rows(hidden + start * D, rows, packed, width, scores);
        for (long long row = 0; row < rows; row++) {
            const float *x = scores + row * width;
            long long at = start + row;
            if (k && !largest_in_order(x, V, k, found, maxima, values + at * k, places + at * k)) return at;
            if (counts) counts[at] = not_below(x, V, bounds[at]);
            if (log_sums) log_sums[at] = log_sum_exp(x, V, 0, &sum);
        }
    }
    return B;
}

/* totals[item], zeros at first: the sum of the rows' softmaxes. Room: as in `scan`. */
void softmax_sum(const float *hidden, long long B, const float *vectors, long long V, float *totals, float *packed,
                 float *scores) {
    long long width = padded_to_panels(V);
    float sum;
    pack(vectors, V, packed);
    for (long long start = 0; start < B; start += WHOLE) {
        whole_rows(hidden + start * D, smaller(WHOLE, B - start), packed, width, scores);
        for (long long row = 0; row < smaller(WHOLE, B - start); row++) {
            float *p = scores + row * width;
            log_sum_exp(p, V, p, &sum);
            for (long long i = 0; i < V; i++) totals[i] += p[i] * (1.0f / sum);
        }
    }
}

/* The exponentials of a row's scores less their largest, by chunks of items, `apart` floats from one to the next; their
 * sum. log_sum: log sum exp. */
INLINE float chunks_of_exponentials(const float *scores, long long items, long long apart, float *chunk,
                                    float *log_sum) {
    float bound = maximum(scores, items), sum = 0;
    for (long long first = 0; first < items; first += CHUNK, chunk += apart)
        sum += exponentials(scores + first, smaller(CHUNK, items - first), bound, chunk);
    *log_sum = bound + logf(sum);
    return sum;
}

/* Makes of a block's exponentials with a chunk's items, [filled, CHUNK], weight (softmax - onehot(target)): those times a
 * row's scale are weight x softmax. first: the chunk's first item. */
static void pulls(float *chunk, const float *scale, long long rows, long long filled, long long first,
                  const long long *targets, const float *weights) {
    for (long long row = 0; row < rows; row++) {
        for (int i = 0; i < CHUNK; i++) chunk[row * CHUNK + i] *= scale[row];
        long long place = targets[row] - first;
        if (place >= 0 && place < CHUNK) chunk[row * CHUNK + place] -= weights[row];
    }
    memset(chunk + rows * CHUNK, 0, (filled - rows) * CHUNK * sizeof(float));
}

/* log sum exp of each row; and the gradients of the sum over rows of weight (log_sum - score of the target): d_hidden,
 * as hidden and zeros at first, and d_vectors, as vectors; each may be NULL. Room: packed and scores as in `scan`, and
 * pull for BLOCK x V with V up to a multiple of CHUNK, a block's rows by chunks of items: what is read together lies
 * together. */
void cross_entropy(const float *hidden, long long B, const float *vectors, long long V, const long long *targets,
                   const float *weights, float *log_sums, float *d_hidden, float *d_vectors, float *packed,
                   float *scores, float *pull) {
    long long width = padded_to_panels(V);
    float scale[BLOCK];
    pack(vectors, V, packed);
    for (long long start = 0; start < B; start += BLOCK) {
        long long rows = smaller(BLOCK, B - start), filled = (rows + ROWS - 1) / ROWS * ROWS;
        const float *h = hidden + start * D;
        for (long long row = 0; row < rows; row++) {
            if (row % WHOLE == 0) whole_rows(h + row * D, smaller(WHOLE, rows - row), packed, width, scores);
            scale[row] = weights[start + row] / chunks_of_exponentials(scores + row % WHOLE * width, V, filled * CHUNK,
                                                                       pull + row * CHUNK, log_sums + start + row);
        }
        float *chunk = pull;
        for (long long first = 0; first < V; first += CHUNK, chunk += filled * CHUNK) {
            long long items = smaller(CHUNK, V - first);
            const float *v = vectors + first * D;
            pulls(chunk, scale, rows, filled, first, targets + start, weights + start);
            for (long long row = 0; d_hidden && row < rows; row += ROWS)
                for (int d = 0; d < D; d += PANEL) {
                    float *to = d_hidden + (start + row) * D + d;
                    Tile c;
                    load(c, to, D, ROWS);
                    multiply(items, chunk + row * CHUNK, CHUNK, 1, v + d, D, c);
                    store(c, to, D, ROWS);
                }
            for (long long i = 0; d_vectors && i < items; i += ROWS)
                for (int d = 0; d < D; d += PANEL) {
                    long long there = smaller(ROWS, items - i);
                    float *to = d_vectors + (first + i) * D + d;
                    Tile c = {{{0}}};
                    if (start) load(c, to, D, there);
                    multiply(filled, chunk + i, 1, CHUNK, h + d, D, c);
                    store(c, to, D, there);
                }
        }
    }
}
