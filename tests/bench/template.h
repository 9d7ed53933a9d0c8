/* Byte strings with holes for numbers, and how a number is found again in what arrives. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 12, HOLES = 4 };

static const char MARK[] = "seq~";
static const char ZEROS[] = "000000000000"; /* a hole for a number */
static const char NINES[] = "999999999999"; /* a hole for that number modulo the channels */

struct template {
    char *bytes;
    size_t len;
    size_t holes[HOLES];
    bool of_channel[HOLES];
    int hole_count;
};

static void learn(struct template *t, const char *hex) {
    free(t->bytes);
    memset(t, 0, sizeof *t);
    if (strcmp(hex, "-") == 0) return;
    t->len = strlen(hex) / 2;
    t->bytes = malloc(t->len + 1);
    for (size_t i = 0; i < t->len; i++) sscanf(hex + 2 * i, "%2hhx", (unsigned char *)&t->bytes[i]);
    for (size_t at = 0; at + DIGITS <= t->len && t->hole_count < HOLES; at++) {
        bool of_channel = memcmp(t->bytes + at, NINES, DIGITS) == 0;
        if (of_channel || memcmp(t->bytes + at, ZEROS, DIGITS) == 0) {
            t->of_channel[t->hole_count] = of_channel;
            t->holes[t->hole_count++] = at;
            at += DIGITS - 1;
        }
    }
}

static void fill(struct template *t, int64_t number, int64_t channels) {
    for (int i = 0; i < t->hole_count; i++) {
        int64_t left = t->of_channel[i] ? number % channels : number;
        for (int digit = DIGITS - 1; digit >= 0; digit--, left /= 10)
            t->bytes[t->holes[i] + (size_t)digit] = (char)('0' + left % 10);
    }
}

static bool holds(const char *bytes, size_t len, const struct template *part) {
    return memmem(bytes, len, part->bytes, part->len) != NULL;
}

/* The number after the next MARK, or -1; `*from` is then behind it. The place where the last first one stood, or the
 * last further one, is tried first. */
static int64_t number_in(const char *bytes, size_t len, size_t *from) {
    static size_t usual_first, usual_further;
    size_t *usual = *from ? &usual_further : &usual_first;
    const size_t mark = sizeof MARK - 1;
    bytes += *from, len -= *from;
    const char *at = bytes + *usual;
    if (*usual + mark + DIGITS > len || memcmp(at, MARK, mark) != 0) {
        at = memmem(bytes, len, MARK, mark);
        if (!at || (size_t)(at - bytes) + mark + DIGITS > len) return -1;
        *usual = (size_t)(at - bytes);
    }
    int64_t number = 0;
    for (int i = 0; i < DIGITS; i++) number = number * 10 + (at[mark + i] - '0');
    *from += (size_t)(at - bytes) + mark + DIGITS;
    return number;
}
