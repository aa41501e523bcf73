/* Reductions of a row of scores: its k largest, the number below a bound, the sum of the exponentials. reductions.c
 * applies them to given rows, scores.c to rows that it computes itself.
 *
 * The search for the k largest: places that lie n / GROUP apart form a group of GROUP; so do the maxima of the groups,
 * until few are left. The k-th largest of those few is a close lower bound of the row's k-th largest. Hardly more than
 * k scores reach it, and they are found by descending from the k largest maxima to the members of their groups.
 */

#ifndef ROW_H
#define ROW_H

#include <math.h>
#include <string.h>

#include "lanes.h"

#define GROUP 8
#define MIN_GROUPS 2        /* groups for each of the k; with fewer, maxima save no time */
#define FEW_TO_SORT 16      /* fewer pairs than these are sorted by insertion */
#define INDEPENDENT_SUMS 4  /* vectors summed side by side, so that no sum waits for its last addition */

typedef struct {
    float *value;
    int *place;
} Pairs;

static inline void swap(Pairs a, int i, int j) {
    float value = a.value[i];
    int place = a.place[i];
    a.value[i] = a.value[j], a.place[i] = a.place[j];
    a.value[j] = value, a.place[j] = place;
}

/* Partitions a[from..to] into values at least, then at most, a pivot; returns the end of the first part. */
static int part(Pairs a, int from, int to) {
    float first = a.value[from], middle = a.value[from + (to - from) / 2], last = a.value[to];
    float pivot = fmaxf(fminf(first, middle), fminf(fmaxf(first, middle), last)); /* their median */
    int i = from - 1, j = to + 1;
    for (;;) {
        while (a.value[++i] > pivot) continue;
        while (a.value[--j] < pivot) continue;
        if (i >= j) return j;
        swap(a, i, j);
    }
}

/* Moves the k largest of n to the front, in no order (Hoare's selection). */
static inline void select_largest(Pairs a, int n, int k) {
    int from = 0, to = n - 1;
    while (from < to) {
        int end = part(a, from, to);
        if (k - 1 <= end)
            to = end;
        else
            from = end + 1;
    }
}

static inline void sort_descending(Pairs a, int from, int to) {
    while (to - from >= FEW_TO_SORT) {
        int end = part(a, from, to);
        if (end - from < to - end) {
            sort_descending(a, from, end);
            from = end + 1;
        } else {
            sort_descending(a, end + 1, to);
            to = end;
        }
    }
    for (int i = from + 1; i <= to; i++)
        for (int j = i; j > from && a.value[j] > a.value[j - 1]; j--) swap(a, j, j - 1);
}

static inline float smallest(const float *x, int n) {
    float found = x[0];
    for (int i = 1; i < n; i++) found = x[i] < found ? x[i] : found;
    return found;
}

static inline int gather(const float *x, int from, int to, int step, float bound, Pairs found, int count) {
    for (int i = from; i < to; i += step) {
        found.value[count] = x[i], found.place[count] = i;
        count += x[i] >= bound;
    }
    return count;
}

/* Finds the k largest of x and hardly more, in no order; returns their number. groups: scratch for n / GROUP. */
static inline int candidates(const float *x, int n, int k, Pairs found, float *maxima, int *groups) {
    int count = n / GROUP, whole = count * GROUP, held = 0;
    if (count < MIN_GROUPS * k) {
        held = gather(x, 0, n, 1, -INFINITY, found, 0);
        if (held > k) select_largest(found, held, k);
        return k;
    }
    memcpy(maxima, x, count * sizeof(float));
    for (int start = count; start < whole; start += count)
        for (int i = 0; i < count; i++) maxima[i] = x[start + i] > maxima[i] ? x[start + i] : maxima[i];
    int chosen = candidates(maxima, count, k, found, maxima + count, groups);
    float bound = smallest(found.value, chosen);
    for (int i = 0; i < chosen; i++) groups[i] = found.place[i];
    for (int i = 0; i < chosen; i++) held = gather(x, groups[i], whole, count, bound, found, held);
    return gather(x, whole, n, 1, bound, found, held);
}

typedef int bits __attribute__((may_alias));

/* Checks the bits: with -fno-signed-zeros, gcc 12 turns x * 0 into 0 even for NaN. */
static inline int all_finite(const float *x, long long n) {
    const bits *b = (const bits *)x, exponent = 0x7f800000;
    int found = 0;
    for (long long i = 0; i < n; i++) found |= (b[i] & exponent) == exponent;
    return !found;
}

/* Writes the k largest, descending, and their places, and returns 1; returns 0 and writes nothing where a score is not
 * finite. Scratch: items + 1 pairs in `found`, with items / GROUP more places, and items / 4 maxima. */
INLINE int largest_in_order(const float *x, long long items, long long k, Pairs found, float *maxima, float *values,
                            long long *places) {
    if (!all_finite(x, items)) return 0;
    int count = candidates(x, (int)items, (int)k, found, maxima, found.place + items + 1);
    if (count > k) select_largest(found, count, (int)k);
    sort_descending(found, 0, (int)k - 1);
    memcpy(values, found.value, k * sizeof(float));
    for (int i = 0; i < k; i++) places[i] = found.place[i];
    return 1;
}

/* The number of scores that are not below the bound; a NaN counts. */
INLINE long long not_below(const float *x, long long items, float bound) {
    int below = 0;
    for (long long i = 0; i < items; i++) below += x[i] < bound;
    return items - below;
}

INLINE lanes larger(lanes a, lanes b) {
    int_lanes which = b > a;
    return (lanes)((which & (int_lanes)b) | (~which & (int_lanes)a));
}

/* The largest number, NaN aside unless it comes first. By lanes, because NaN keeps gcc from vectorising a plain loop. */
INLINE float maximum(const float *x, long long n) {
    lanes largest[INDEPENDENT_SUMS];
    for (int j = 0; j < INDEPENDENT_SUMS; j++) largest[j] = (lanes){0} + x[0];
    long long i = 0;
    for (; i + INDEPENDENT_SUMS * LANES <= n; i += INDEPENDENT_SUMS * LANES)
        for (int j = 0; j < INDEPENDENT_SUMS; j++) largest[j] = larger(largest[j], *(const lanes *)(x + i + j * LANES));
    lanes whole = larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]));
    float found = whole[0];
    for (int j = 1; j < LANES; j++) found = whole[j] > found ? whole[j] : found;
    for (; i < n; i++) found = x[i] > found ? x[i] : found;
    return found;
}

/* The sum of exp(x - bound) over n, each written to out unless that is NULL. */
INLINE float exponentials(const float *x, long long n, float bound, float *out) {
    lanes sums[INDEPENDENT_SUMS] = {0};
    long long i = 0;
    for (; i + INDEPENDENT_SUMS * LANES <= n; i += INDEPENDENT_SUMS * LANES)
        for (int j = 0; j < INDEPENDENT_SUMS; j++) {
            lanes e = exponential_of_negative(*(const lanes *)(x + i + j * LANES) - bound);
            sums[j] += e;
            if (out) *(lanes *)(out + i + j * LANES) = e;
        }
    lanes whole = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float sum = 0;
    for (int j = 0; j < LANES; j++) sum += whole[j];
    for (; i < n; i++) {
        float e = exponential_of_negative((lanes){0} + (x[i] - bound))[0];
        sum += e;
        if (out) out[i] = e;
    }
    return sum;
}

/* log sum exp; NaN where a score is NaN or +infinite. out: exp(x - largest), or NULL. */
INLINE float log_sum_exp(const float *x, long long items, float *out, float *sum) {
    float bound = maximum(x, items);
    *sum = exponentials(x, items, bound, out);
    return bound + logf(*sum);
}

#endif
