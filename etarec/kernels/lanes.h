/* Vectors of LANES floats, and their exponential. */

#ifndef LANES_H
#define LANES_H

#define LANES 8 /* floats of a vector */
#define INLINE static inline __attribute__((always_inline))

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int int_lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* e^x for x near n ln 2, after Cephes' expf: 2^n times a polynomial of the rest. */
INLINE lanes near_power_of_two(lanes x, int_lanes whole) {
    lanes n = __builtin_convertvector(whole, lanes);
    lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    lanes p = (lanes){0} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int_lanes power = (whole + 127) << 23;
    return p * (lanes)power;
}

/* e^x to one or two units in the last place, with x clamped to -87..88. NaN stays NaN. */
INLINE lanes exponential(lanes x) {
    const lanes high = (lanes){0} + 88.0f, low = (lanes){0} - 87.0f;
    int_lanes above = x > high, below = x < low;
    x = (lanes)((above & (int_lanes)high) | (below & (int_lanes)low) | (~(above | below) & (int_lanes)x));
    lanes times = x * 1.44269504f;
    int_lanes negative = (x < 0.0f) & 1;
    return near_power_of_two(x, __builtin_convertvector(times + 0.5f, int_lanes) - negative);
}

/* e^x for x <= 0, cheaper. */
INLINE lanes exponential_of_negative(lanes x) {
    const lanes low = (lanes){0} - 87.0f;
    int_lanes below = x < low;
    x = (lanes)((below & (int_lanes)low) | (~below & (int_lanes)x));
    return near_power_of_two(x, __builtin_convertvector(x * 1.44269504f - 0.5f, int_lanes));
}

#endif
