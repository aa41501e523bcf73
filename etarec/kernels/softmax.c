/* The softmax of each row of a block of scores, and the logarithm of its denominator; softmax.py says what for.
 * build.py compiles this file for the machine it runs on. */

#include "row.h"

/* scores: [rows, items], contiguous, not empty. log_sums[row]: log sum exp of the row, which is NaN where one of its
 * scores is NaN or infinite. out: the softmax, [rows, items], or NULL. */
void softmax(const float *scores, long long rows, long long items, float *out, float *log_sums) {
    for (long long row = 0; row < rows; row++) {
        float *p = out ? out + row * items : 0, sum;
        log_sums[row] = log_sum_exp(scores + row * items, items, p, &sum);
        float share = 1.0f / sum;
        for (long long i = 0; p && i < items; i++) p[i] *= share;
    }
}
