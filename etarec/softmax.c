/* The softmax of each row of a block of scores, and the logarithm of its denominator; softmax.py says what for.
 * compiled.py compiles this file for the machine it runs on.
 */

#include <math.h>

#include "lanes.h"

#define WIDE 4 /* vectors at a time, whose sums do not wait for each other */

INLINE float maximum(const float *x, long long n) {
    float found = x[0];
    for (long long i = 1; i < n; i++) found = x[i] > found ? x[i] : found;
    return found;
}

/* The sum of exp(x - bound) over n; and that itself, where there is room for it. */
INLINE float exponentials(const float *x, long long n, float bound, float *out) {
    lanes sums[WIDE] = {0};
    long long i = 0;
    for (; i + WIDE * LANES <= n; i += WIDE * LANES)
        for (int j = 0; j < WIDE; j++) {
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

/* scores: [rows, items], contiguous, not empty. log_sums[row]: log sum exp of the row, which is NaN where one of its
 * scores is NaN or infinite. out: the softmax, [rows, items], or NULL. */
void softmax(const float *scores, long long rows, long long items, float *out, float *log_sums) {
    for (long long row = 0; row < rows; row++) {
        const float *x = scores + row * items;
        float bound = maximum(x, items);
        if (!out) {
            log_sums[row] = bound + logf(exponentials(x, items, bound, 0));
            continue;
        }
        float *p = out + row * items, sum = exponentials(x, items, bound, p), share = 1.0f / sum;
        for (long long i = 0; i < items; i++) p[i] *= share;
        log_sums[row] = bound + logf(sum);
    }
}
