/* Reductions of the rows of a given block of scores: the K largest of a row, the number that are not below a bound,
 * softmax and log sum exp. reductions.py calls them; build.py compiles this file for the processor at hand.
 *
 * scores: [rows, items], contiguous, not empty.
 */

#include "row.h"

/* Writes the k largest of each row, descending, to values [rows, k] and their positions to places [rows, k]. row.h
 * gives the sizes of the scratch arrays. Returns the number of rows done: it stops at the first row with a score that
 * is not finite. */
long long largest(const float *scores, long long rows, long long items, long long k, float *values, long long *places,
                  float *found_values, int *found_places, float *maxima) {
    Pairs found = {found_values, found_places};
    for (long long row = 0; row < rows; row++)
        if (!largest_in_order(scores + row * items, items, k, found, maxima, values + row * k, places + row * k))
            return row;
    return rows;
}

/* counts[row]: the number of scores of the row that are not below its bound; a NaN counts. */
void count_not_below(const float *scores, long long rows, long long items, const float *bounds, long long *counts) {
    for (long long row = 0; row < rows; row++) counts[row] = not_below(scores + row * items, items, bounds[row]);
}

/* log_sums[row]: log sum exp of the row, NaN where a score is NaN or +infinite. out: the softmax, [rows, items], or
 * NULL. */
void softmax(const float *scores, long long rows, long long items, float *out, float *log_sums) {
    for (long long row = 0; row < rows; row++) {
        float *p = out ? out + row * items : 0, sum;
        log_sums[row] = log_sum_exp(scores + row * items, items, p, &sum);
        float share = 1.0f / sum;
        for (long long i = 0; p && i < items; i++) p[i] *= share;
    }
}
