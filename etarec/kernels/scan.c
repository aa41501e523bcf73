/* Of a block of scores: each row's K largest, and how many lie below a bound; what largest.py asks of every block.
 * build.py compiles this file for the machine it runs on. */

#include "row.h"

/* scores: [rows, items], contiguous. Writes values [rows, k], descending, and places [rows, k]. Room: as row.h
 * says. The number of rows that could be done: one with what is not finite ends it. */
long long largest(const float *scores, long long rows, long long items, long long k, float *values, long long *places,
                  float *found_values, int *found_places, float *maxima) {
    Pairs found = {found_values, found_places};
    for (long long row = 0; row < rows; row++)
        if (!largest_in_order(scores + row * items, items, k, found, maxima, values + row * k, places + row * k))
            return row;
    return rows;
}

/* counts[row]: how many scores of the row are not below its bound, those that are not numbers included. */
void count_not_below(const float *scores, long long rows, long long items, const float *bounds, long long *counts) {
    for (long long row = 0; row < rows; row++) counts[row] = not_below(scores + row * items, items, bounds[row]);
}
