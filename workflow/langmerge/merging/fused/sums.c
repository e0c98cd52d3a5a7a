/* Checks, dot products, statistics, and the rounding of what was merged. */

#include "vectors.h"

/* Whether all are finite. */
API int all_finite(values_t values, index_t count)
{
    uint32_t bad = 0;
    if (values.kind == FLOAT32) {
        const uint32_t *x = values.data;
        for (index_t i = 0; i < count; i++) bad |= ((x[i] & 0x7F800000u) == 0x7F800000u);
    } else {
        const uint16_t *x = values.data, mask = values.kind == BFLOAT16 ? 0x7F80 : 0x7C00;
        uint16_t found = 0;
        for (index_t i = 0; i < count; i++) found |= (uint16_t)((x[i] & mask) == mask);
        bad = found;
    }
    return !bad;
}

/* grams[i][j] += v_i . v_j in float64. */
API int dots(const vector_t *v, index_t k, index_t count, double *grams)
{
    double *x = aligned_alloc(64, k * CHUNK * sizeof(double));
    float part[CHUNK];
    if (x == NULL) return 0;
    EACH_CHUNK(count) {
        for (int j = 0; j < k; j++) {
            double *restrict wide = x + j * CHUNK;
            difference(v[j].model, v[j].base, at, n, part);
            memset(part + n, 0, (CHUNK - n) * sizeof(float));
            for (int i = 0; i < CHUNK; i++) wide[i] = part[i];
        }
        for (int a = 0; a < k; a++)
            for (int b = a; b < k; b++) {
                const double *restrict one = x + a * CHUNK, *restrict two = x + b * CHUNK;
                double lanes[LANES] = {0}, total = 0;
                for (int i = 0; i < CHUNK; i += LANES)
                    for (int l = 0; l < LANES; l++) lanes[l] = fma(one[i + l], two[i + l], lanes[l]);
                for (int l = 0; l < LANES; l++) total += lanes[l];
                grams[a * k + b] += total;
                if (a != b) grams[b * k + a] += total;
            }
    }
    free(x);
    return 1;
}

/* Dot products of task vectors, and entries (pulled both up and down, changed at all). */
API int describe(const vector_t *v, index_t k, index_t count, double *grams, double *counts)
{
    float *x = aligned_alloc(64, k * CHUNK * sizeof(float)), up[CHUNK], down[CHUNK];
    index_t conflicting = 0, changed = 0;
    if (x == NULL) return 0;
    memset(grams, 0, k * k * sizeof(double));
    EACH_CHUNK(count) {
        int both = 0, any = 0;
        for (int j = 0; j < k; j++) {
            float *restrict change = x + j * CHUNK;
            difference(v[j].model, v[j].base, at, n, change);
            memset(change + n, 0, (CHUNK - n) * sizeof(float));
            if (j == 0) {
                memcpy(up, change, sizeof up);
                memcpy(down, change, sizeof down);
            }
            for (int i = 0; i < CHUNK; i++) {
                up[i] = change[i] > up[i] ? change[i] : up[i];
                down[i] = change[i] < down[i] ? change[i] : down[i];
            }
        }
        for (int i = 0; i < CHUNK; i++) {
            both += (up[i] > 0) & (down[i] < 0);
            any += (up[i] > 0) | (down[i] < 0);
        }
        conflicting += both;
        changed += any;
        for (int a = 0; a < k; a++)
            for (int b = a; b < k; b++) grams[a * k + b] += dot(x + a * CHUNK, x + b * CHUNK);
    }
    for (int a = 0; a < k; a++)
        for (int b = 0; b < a; b++) grams[a * k + b] = grams[b * k + a];
    counts[0] = conflicting;
    counts[1] = changed;
    free(x);
    return 1;
}

static inline uint16_t rounded_bfloat16(float x)
{
    const uint32_t bits = to_bits(x);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}

/* Round `exact` to the output's type; whether all are finite. With sums: |change|, |rounding|, change^2, changes that
   survive rounding, changes, all against the reference. */
API int finish(const float *restrict exact, index_t count, void *rounded, index_t kind, values_t reference,
               double *sums)
{
    float after[CHUNK], old[CHUNK], change[CHUNK], lost[CHUNK];
    index_t survived = 0, changed = 0;
    uint32_t bad = 0;
    if (sums) memset(sums, 0, 5 * sizeof(double));
    EACH_CHUNK(count) {
        const float *restrict x = exact + at;
        for (int i = 0; i < n; i++) bad |= (to_bits(x[i]) & 0x7F800000u) == 0x7F800000u;
        if (kind == BFLOAT16) {
            uint16_t *restrict y = (uint16_t *)rounded + at;
            for (int i = 0; i < n; i++) {
                y[i] = rounded_bfloat16(x[i]);
                after[i] = from_bits((uint32_t)y[i] << 16);
                bad |= (y[i] & 0x7F80) == 0x7F80;
            }
        } else if (kind == FLOAT16) {
            _Float16 *restrict y = (_Float16 *)rounded + at;
            for (int i = 0; i < n; i++) {
                y[i] = (_Float16)x[i];
                after[i] = (float)y[i];
                bad |= (to_bits(after[i]) & 0x7F800000u) == 0x7F800000u;
            }
        } else {
            memcpy((float *)rounded + at, x, n * sizeof(float));
            memcpy(after, x, n * sizeof(float));
        }
        if (sums) {
            float moved[LANES] = {0}, gone[LANES] = {0};
            int kept = 0, different = 0;
            load(reference, at, n, old);
            for (int i = 0; i < n; i++) {
                change[i] = x[i] - old[i];
                lost[i] = after[i] - x[i];
                kept += (x[i] != old[i]) & (after[i] != old[i]);
                different += x[i] != old[i];
            }
            memset(change + n, 0, (CHUNK - n) * sizeof(float));
            memset(lost + n, 0, (CHUNK - n) * sizeof(float));
            for (int i = 0; i < CHUNK; i += LANES)
                for (int l = 0; l < LANES; l++) {
                    moved[l] += fabsf(change[i + l]);
                    gone[l] += fabsf(lost[i + l]);
                }
            double all = 0, rounding = 0;
            for (int l = 0; l < LANES; l++) all += moved[l], rounding += gone[l];
            if (!isfinite(all) || !isfinite(rounding)) {
                all = rounding = 0;
                for (int i = 0; i < n; i++) all += fabs((double)x[i] - old[i]), rounding += fabsf(lost[i]);
            }
            sums[0] += all;
            sums[1] += rounding;
            sums[2] += dot(change, change);
            survived += kept;
            changed += different;
        }
    }
    if (sums) sums[3] = survived, sums[4] = changed;
    return !bad;
}
