/* Products and transposes of small float matrices that stay in the first caches. */

#ifndef MATRIX_H
#define MATRIX_H

#include <string.h>

#include "lanes.h"

/* Keeps gcc from loading a vector again for each multiply-add: loads are the bottleneck. */
#ifdef __AVX__ /* where a vector fits into a register */
#define IN_REGISTER(v) __asm__("" : "+x"(v))
#else
#define IN_REGISTER(v) (void)(v)
#endif

/* sum += the outer product of a column of A and a row of B. */
INLINE void multiply_add(int rows, int width, const float *a, int ai, const float *b, lanes sum[4][2]) {
    lanes row[2];
    for (int j = 0; j < width; j++) {
        row[j] = *(const lanes *)(b + j * LANES);
        IN_REGISTER(row[j]);
    }
    for (int i = 0; i < rows; i++) {
        lanes one = (lanes){0} + a[i * ai];
        for (int j = 0; j < width; j++) sum[i][j] += one * row[j];
    }
}

/* A tile of C = A B, or += where add is set, in registers: A's element (i, k) is a[i * ai + k * ak], B's row k starts at
 * b + k * bk, C's row i at c + i * ci. A sum waits for its last multiply-add, so a few sums are split into parts. */
INLINE void tile(int rows, int width, int inner, const float *a, int ai, int ak, const float *b, int bk, float *c,
                 int ci, int add) {
    const int parts = rows * width > 4 ? 1 : rows * width > 2 ? 2 : 4;
    lanes sum[4][4][2];
    int k = 0;
    for (int part = 0; part < parts; part++)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < width; j++)
                sum[part][i][j] = add && !part ? *(const lanes *)(c + i * ci + j * LANES) : (lanes){0};
    for (; k + parts <= inner; k += parts)
        for (int part = 0; part < parts; part++)
            multiply_add(rows, width, a + (k + part) * ak, ai, b + (k + part) * bk, sum[part]);
    for (int rest = inner % parts; rest > 0; rest--, k++)
        multiply_add(rows, width, a + k * ak, ai, b + k * bk, sum[0]);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < width; j++) {
            for (int part = 1; part < parts; part++) sum[0][i][j] += sum[part][i][j];
            *(lanes *)(c + i * ci + j * LANES) = sum[0][i][j];
        }
}

/* Up to four rows of C, all columns. */
INLINE void strip(int rows, int inner, int columns, const float *a, int ai, int ak, const float *b, float *c,
                  int add) {
    int j = 0;
    for (; j + 2 * LANES <= columns; j += 2 * LANES)
        tile(rows, 2, inner, a, ai, ak, b + j, columns, c + j, columns, add);
    for (; j < columns; j += LANES) tile(rows, 1, inner, a, ai, ak, b + j, columns, c + j, columns, add);
}

/* C [rows, columns] = A B, or += where add is set; A's element (i, k) is a[i * ai + k * ak], B [inner, columns]. */
INLINE void product(int rows, int inner, int columns, const float *a, int ai, int ak, const float *b, float *c,
                    int add) {
    for (; rows >= 4; rows -= 4, a += 4 * ai, c += 4 * columns) strip(4, inner, columns, a, ai, ak, b, c, add);
    if (rows == 3) strip(3, inner, columns, a, ai, ak, b, c, add);
    if (rows == 2) strip(2, inner, columns, a, ai, ak, b, c, add);
    if (rows == 1) strip(1, inner, columns, a, ai, ak, b, c, add);
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (int_lanes){__VA_ARGS__})
#endif
#define LOW_PAIRS 0, 8, 1, 9, 4, 12, 5, 13
#define HIGH_PAIRS 2, 10, 3, 11, 6, 14, 7, 15
#define LOW_TWOS 0, 1, 8, 9, 4, 5, 12, 13
#define HIGH_TWOS 2, 3, 10, 11, 6, 7, 14, 15
#define LOW_FOURS 0, 1, 2, 3, 8, 9, 10, 11
#define HIGH_FOURS 4, 5, 6, 7, 12, 13, 14, 15

/* Transposes a block of LANES x LANES in three rounds of interleaving. */
INLINE void turn(lanes *x) {
    lanes y[LANES];
    for (int i = 0; i < 4; i++) {
        y[2 * i] = SHUFFLE(x[2 * i], x[2 * i + 1], LOW_PAIRS);
        y[2 * i + 1] = SHUFFLE(x[2 * i], x[2 * i + 1], HIGH_PAIRS);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = SHUFFLE(y[i + j], y[i + j + 2], LOW_TWOS);
            x[i + 2 * j + 1] = SHUFFLE(y[i + j], y[i + j + 2], HIGH_TWOS);
        }
    for (int i = 0; i < 4; i++) y[i] = SHUFFLE(x[i], x[i + 4], LOW_FOURS);
    for (int i = 0; i < 4; i++) x[i + 4] = SHUFFLE(x[i], x[i + 4], HIGH_FOURS);
    for (int i = 0; i < 4; i++) x[i] = y[i];
}

/* B [columns, wide] = A^T of A [rows, columns], filled up with zeros behind the rows. */
INLINE void transpose(int rows, int columns, int wide, const float *a, float *b) {
    for (int i = 0; i < wide; i += LANES)
        for (int j = 0; j < columns; j += LANES) {
            lanes block[LANES];
            for (int n = 0; n < LANES; n++)
                block[n] = i + n < rows ? *(const lanes *)(a + (i + n) * columns + j) : (lanes){0};
            turn(block);
            for (int n = 0; n < LANES; n++) *(lanes *)(b + (j + n) * wide + i) = block[n];
        }
}

INLINE void repeat(int rows, int columns, const float *row, float *c) {
    for (int i = 0; i < rows; i++) memcpy(c + i * columns, row, columns * sizeof(float));
}

INLINE void add_rows(int rows, int columns, const float *a, float *sum) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) sum[j] += a[i * columns + j];
}

#endif
