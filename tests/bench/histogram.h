/* Latencies in nanoseconds, counted in log-linear steps. */

#include <stdint.h>

struct histogram { /* log-linear, 32 steps an octave: 3 % */
    uint64_t count;
    uint64_t steps[64 * 32];
};

static void note(struct histogram *h, uint64_t ns) {
    ns |= 32;
    int octave = 63 - __builtin_clzll(ns);
    h->steps[octave * 32 + (int)((ns >> (octave - 5)) & 31)]++;
    h->count++;
}

static double quantile_us(const struct histogram *h, double q) {
    uint64_t left = (uint64_t)(q * (double)h->count);
    for (int i = 0; i < 64 * 32; i++) {
        if (h->steps[i] > left) return (double)((uint64_t)(32 + i % 32) << (i / 32 - 5)) / 1e3;
        left -= h->steps[i];
    }
    return 0;
}
