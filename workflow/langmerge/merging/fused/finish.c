/* Rounding of what was merged to the outputs' type, with what it changed. */

#include "vectors.h"

INLINE bits_t not_finite(lanes_t x) { return (bits_t)(((bits_t)x & 0x7FFFFFFFu) > 0x7F7FFFFFu); }

/* Write the first n of x as `kind` to place; what they have become. */
INLINE lanes_t rounded_to(const index_t kind, lanes_t x, int n, void *place)
{
    if (kind == BFLOAT16) {
        const bits_t bits = (bits_t)x, up = bits + 0x7FFFu + (bits >> 16 & 1);
        const shorts_t upper = __builtin_convertvector(up >> 16, shorts_t);
        memcpy(place, &upper, n * sizeof(uint16_t));
        return (lanes_t)(up & 0xFFFF0000u);
    }
    if (kind == FLOAT16) {
        _Float16 narrow[LANES];
        EACH_LANE narrow[l] = (_Float16)x[l];
        memcpy(place, narrow, n * sizeof(_Float16));
        EACH_LANE x[l] = (float)narrow[l];
        return x;
    }
    memcpy(place, &x, n * sizeof(float));
    return x;
}

/* What rounding and the method changed, in lanes: |change|, |rounding|, change^2; changes that survive, changes. */
typedef struct {
    lanes_t moved, gone, square;
    bits_t survived, changed;
} tally_t;

INLINE void tally(tally_t *tally, lanes_t exact, lanes_t after, lanes_t old)
{
    const lanes_t change = exact - old;
    const bits_t changed = (bits_t)(exact != old);
    tally->moved += magnitude(change);
    tally->gone += magnitude(after - exact);
    tally->square = multiply_add(change, change, tally->square);
    tally->changed -= changed;
    tally->survived -= changed & (bits_t)(after != old);
}

/* What came of one output so far. */
typedef struct {
    double totals[3][LANES];
    index_t survived, changed;
    bits_t bad;
} account_t;

/* One column of an output: base + scale * merged or, without `added`, merged as it is. */
INLINE void finish_column(const index_t kind, const int counted, const int added, lanes_t merged, lanes_t scale,
                          const float *base, const float *old, int n, void *place, tally_t *sum, bits_t *bad)
{
    const lanes_t exact = added ? multiply_add(merged, scale, lanes_at(base)) : merged;
    const lanes_t after = rounded_to(kind, exact, n, place);
    if (counted) tally(sum, exact, after, lanes_at(old)); /* what is not finite shows in the sums */
    else *bad |= not_finite(exact) | not_finite(after);
}

INLINE void finish_chunk(const index_t kind, const int counted, const int added, const float *merged, float scale,
                         const float *base, const float *old, int n, char *place, account_t *account)
{
    const index_t size = kind == FLOAT32 ? 4 : 2;
    const lanes_t scales = all_of(scale);
    tally_t sum = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        finish_column(kind, counted, added, lanes_at(merged + i), scales, base + i, old + i, LANES, place + i * size,
                      &sum, &account->bad);
    if (i < n)
        finish_column(kind, counted, added, first_at(merged + i, n - i), scales, base + i, old + i, n - i,
                      place + i * size, &sum, &account->bad);
    EACH_LANE {
        account->totals[0][l] += (double)sum.moved[l];
        account->totals[1][l] += (double)sum.gone[l];
        account->totals[2][l] += (double)sum.square[l];
        account->survived += sum.survived[l];
        account->changed += sum.changed[l];
    }
}

/* A chunk in float32, 0 from n on. */
static const float *wide_chunk(values_t values, index_t at, int n, float *buffer)
{
    load(values, at, n, buffer);
    memset(buffer + n, 0, (CHUNK - n) * sizeof(float));
    return buffer;
}

INLINE void finish_as(const index_t kind, const int counted, const int added, values_t base, const float *merged,
                     const float *scales, index_t outputs, index_t count, char *const *rounded, values_t reference,
                     account_t *accounts)
{
    const index_t size = kind == FLOAT32 ? 4 : 2;
    float one[CHUNK], two[CHUNK];
    EACH_CHUNK(count) {
        const float *from = added ? wide_chunk(base, at, n, one) : one, *old = from;
        if (counted && !(added && reference.data == base.data)) old = wide_chunk(reference, at, n, two);
        for (index_t j = 0; j < outputs; j++)
            finish_chunk(kind, counted, added, merged + at, scales[j], from, old, n, rounded[j] + at * size,
                         accounts + j);
    }
}

/* The sums of `finish` in float32, by lane; whether they are finite. */
static int summed(const account_t *account, double *sums)
{
    for (int part = 0; part < 3; part++) {
        sums[part] = 0;
        EACH_LANE sums[part] += account->totals[part][l];
    }
    sums[3] = account->survived;
    sums[4] = account->changed;
    return isfinite(sums[0]) && isfinite(sums[1]) && isfinite(sums[2]);
}

/* The sums of `finish` in float64; whether all is finite. */
static int sum_wide(values_t base, const float *merged, float scale, index_t count, values_t rounded,
                     values_t reference, double *sums)
{
    float from[CHUNK], after[CHUNK], old[CHUNK];
    int finite = 1;
    memset(sums, 0, 3 * sizeof(double));
    EACH_CHUNK(count) {
        load(base, at, n, from);
        load(rounded, at, n, after);
        load(reference, at, n, old);
        for (int i = 0; i < n; i++) {
            const double x = base.data ? fmaf(merged[at + i], scale, from[i]) : merged[at + i], change = x - old[i];
            sums[0] += fabs(change);
            sums[1] += fabs(after[i] - x);
            sums[2] += change * change;
            finite &= isfinite(x) && isfinite(after[i]);
        }
    }
    return finite;
}

/* Round base + scales[j] * merged (base NULL: merged as it is) to each output's entries, all of one type; the number of
   outputs that came before the first that is not finite, or -1 without memory. With sums, five of each output:
   |change|, |rounding|, change^2, changes that survive rounding, changes, all against the reference; in float32 within
   a chunk where that does not overflow. */
API index_t finish(values_t base, const float *merged, const float *scales, index_t outputs, index_t count,
                   char *const *rounded, index_t kind, values_t reference, double *sums)
{
    account_t *accounts = aligned_alloc(sizeof(lanes_t), outputs * sizeof(account_t));
    if (!accounts) return -1;
    memset(accounts, 0, outputs * sizeof(account_t));
    const int added = base.data != NULL, counted = sums != NULL;
#define FINISH_AS(kind, counted, added) \
    finish_as(kind, counted, added, base, merged, scales, outputs, count, rounded, reference, accounts)
    if (kind == BFLOAT16 && counted && added) FINISH_AS(BFLOAT16, 1, 1);
    else if (kind == BFLOAT16 && counted) FINISH_AS(BFLOAT16, 1, 0);
    else if (kind == BFLOAT16) FINISH_AS(BFLOAT16, 0, added);
    else if (kind == FLOAT16) FINISH_AS(FLOAT16, counted, added);
    else FINISH_AS(FLOAT32, counted, added);
    index_t good = 0;
    for (uint32_t bad = 0; good < outputs; good++) {
        if (counted) bad = !summed(accounts + good, sums + 5 * good)
                           && !sum_wide(base, merged, scales[good], count, (values_t){rounded[good], kind}, reference,
                                        sums + 5 * good);
        else EACH_LANE bad |= accounts[good].bad[l];
        if (bad) break;
    }
    free(accounts);
    return good;
}
