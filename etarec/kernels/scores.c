/* Products of hidden states with all item vectors, fused with the reductions of the scores: ranks, the largest, log sum
 * exp, and the gradients of a cross-entropy. The scores of a few rows stay in the second cache; their exponentials are
 * kept for the gradients. The item vectors are packed into register order once for all rows, which a library repeats for
 * every product of a few rows. build.py compiles this file for the processor at hand, with D, the width of the vectors
 * and a multiple of PANEL, as a constant.
 *
 * Symbols: B rows (samples), V items. hidden: [B, D], followed by zeros up to a multiple of ROWS; vectors: [V, D].
 */

#include "matrix.h"
#include "row.h"

#define ROWS 6                /* of a tile: ROWS x PANEL scores, in registers */
#define PANEL (2 * LANES)     /* items of a tile */
#define WHOLE_ROWS (2 * ROWS) /* rows whose scores of all items are held at once */
#define CHUNK (6 * PANEL)     /* items whose gradients with a block of rows are held at once; a multiple of ROWS too */
#define BLOCK (43 * ROWS)     /* rows of such a block */
#define SMALLEST 1e-37f       /* above the smallest normal number */

typedef lanes Tile[ROWS][2];

INLINE long long smaller(long long a, long long b) {
    return a < b ? a : b;
}

/* c += a b, summed over `inner`: a's element (i, k) is a[i * ai + k * ak], b's row k starts at b + k * bk. */
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

/* The scores of ROWS rows and a panel's items. */
INLINE void score(const float *hidden, const float *panel, Tile s) {
    memset(s, 0, sizeof(Tile));
    multiply(D, hidden, D, 1, panel, PANEL, s);
}

/* A panel holds the vectors of PANEL items by component, [D, PANEL], the last one filled up with zeros. */
static void pack(const float *vectors, long long items, float *panels) {
    for (; items >= PANEL; items -= PANEL, vectors += PANEL * D, panels += PANEL * D)
        transpose(PANEL, D, PANEL, vectors, panels);
    if (items) transpose((int)items, D, PANEL, vectors, panels);
}

INLINE long long padded_to_panels(long long items) {
    return (items + PANEL - 1) / PANEL * PANEL;
}

/* The scores of up to WHOLE_ROWS rows and all items, [WHOLE_ROWS, width]. */
static void whole_rows(const float *hidden, long long rows, const float *packed, long long width, float *scores) {
    for (long long item = 0; item < width; item += PANEL)
        for (long long row = 0; row < rows; row += ROWS) {
            Tile s;
            score(hidden + row * D, packed + item * D, s);
            store(s, scores + row * width + item, width, ROWS);
        }
}

/* For each row, each unless its array is NULL: the number of scores not below its bound, log sum exp, and the k largest
 * scores, descending, with their places, [B, k]. Scratch: packed for V x D and scores for WHOLE_ROWS x V, both with V
 * rounded up to a multiple of PANEL; found and maxima as in row.h. Returns the number of rows done: with k > 0 it stops
 * at the first row with a score that is not finite. */
long long scan(const float *hidden, long long B, const float *vectors, long long V, const float *bounds,
               long long *counts, float *log_sums, long long k, float *values, long long *places, float *packed,
               float *scores, float *found_values, int *found_places, float *maxima) {
    Pairs found = {found_values, found_places};
    long long width = padded_to_panels(V);
    float sum;
    pack(vectors, V, packed);
    for (long long start = 0; start < B; start += WHOLE_ROWS) {
        long long rows = smaller(WHOLE_ROWS, B - start);
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

/* Adds the rows' softmaxes to totals [V]. Scratch: as in `scan`. */
void softmax_sum(const float *hidden, long long B, const float *vectors, long long V, float *totals, float *packed,
                 float *scores) {
    long long width = padded_to_panels(V);
    float sum;
    pack(vectors, V, packed);
    for (long long start = 0; start < B; start += WHOLE_ROWS) {
        whole_rows(hidden + start * D, smaller(WHOLE_ROWS, B - start), packed, width, scores);
        for (long long row = 0; row < smaller(WHOLE_ROWS, B - start); row++) {
            float *p = scores + row * width;
            log_sum_exp(p, V, p, &sum);
            for (long long i = 0; i < V; i++) totals[i] += p[i] * (1.0f / sum);
        }
    }
}

/* Writes the exponentials of a row's scores less their largest, by chunks of items that start `apart` floats apart, and
 * log sum exp; returns the sum of the exponentials. */
INLINE float chunks_of_exponentials(const float *scores, long long items, long long apart, float *chunk,
                                    float *log_sum) {
    float bound = maximum(scores, items), sum = 0;
    for (long long first = 0; first < items; first += CHUNK, chunk += apart)
        sum += exponentials(scores + first, smaller(CHUNK, items - first), bound, chunk);
    *log_sum = bound + logf(sum);
    return sum;
}

/* Sets the exponentials of a row's items to 0 where they do not exceed `cut` (above), or exceed it, but for the target's;
 * returns the sum of the others. */
static float keep_selected(float *chunk, long long items, long long apart, float cut, int above, long long target) {
    float *own = chunk + target / CHUNK * apart + target % CHUNK, kept = *own, sum = 0;
    kept = kept > SMALLEST ? kept : SMALLEST; /* a target alone has the probability 1, however small its score */
    for (long long first = 0; first < items; first += CHUNK, chunk += apart) {
        long long there = smaller(CHUNK, items - first);
        for (long long i = 0; above && i < there; i++) sum += chunk[i] = chunk[i] > cut ? chunk[i] : 0;
        for (long long i = 0; !above && i < there; i++) sum += chunk[i] = chunk[i] > cut ? 0 : chunk[i];
    }
    sum += kept - *own;
    *own = kept;
    return sum;
}

/* Turns a block's exponentials of a chunk, [filled, CHUNK], into weight (softmax - onehot(target)). scale: of each row,
 * the factor from exponential to weight x softmax; first: the chunk's first item. */
static void pulls(float *chunk, const float *scale, long long rows, long long filled, long long first,
                  const long long *targets, const float *weights) {
    for (long long row = 0; row < rows; row++) {
        for (int i = 0; i < CHUNK; i++) chunk[row * CHUNK + i] *= scale[row];
        long long place = targets[row] - first;
        if (place >= 0 && place < CHUNK) chunk[row * CHUNK + place] -= weights[row];
    }
    memset(chunk + rows * CHUNK, 0, (filled - rows) * CHUNK * sizeof(float));
}

/* log sum exp of each row, and the gradients of the sum over rows of weight (log_sum - score of the target): added to
 * d_hidden, written to d_vectors, each unless NULL. selection: 0, or which items count beside the target, those whose
 * probability exceeds `least` (1) or does not (-1); log sum exp is then that of the items that count. Scratch: packed
 * and scores as in `scan`; pull for BLOCK x V, with V rounded up to a multiple of CHUNK: the rows of a block by chunks of
 * items, in the order in which they are read. */
void cross_entropy(const float *hidden, long long B, const float *vectors, long long V, const long long *targets,
                   const float *weights, long long selection, float least, float *log_sums, float *d_hidden,
                   float *d_vectors, float *packed, float *scores, float *pull) {
    long long width = padded_to_panels(V);
    float scale[BLOCK];
    pack(vectors, V, packed);
    for (long long start = 0; start < B; start += BLOCK) {
        long long rows = smaller(BLOCK, B - start), filled = (rows + ROWS - 1) / ROWS * ROWS;
        const float *h = hidden + start * D;
        for (long long row = 0; row < rows; row++) {
            if (row % WHOLE_ROWS == 0) whole_rows(h + row * D, smaller(WHOLE_ROWS, rows - row), packed, width, scores);
            float *own = pull + row * CHUNK, *log_sum = log_sums + start + row;
            float sum = chunks_of_exponentials(scores + row % WHOLE_ROWS * width, V, filled * CHUNK, own, log_sum);
            if (selection) {
                float all = sum;
                sum = keep_selected(own, V, filled * CHUNK, least * all, selection > 0, targets[start + row]);
                *log_sum += logf(sum / all);
            }
            scale[row] = weights[start + row] / sum;
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
