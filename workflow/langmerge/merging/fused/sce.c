/* SCE; see langmerge.merging.methods.choices. */

#include "vectors.h"

/* n^2 times the variance of each entry over the models (`squared_deviations`), and its histogram by the upper bits. */
API void deviations(const vector_t *v, index_t k, index_t count, float *restrict out, index_t *counts, index_t low_bits)
{
    float first[CHUNK], x[CHUNK], total[CHUNK];
    EACH_CHUNK(count) {
        float *restrict square = out + at;
        memset(total, 0, sizeof total);
        memset(square, 0, n * sizeof(float));
        load(v[0].model, at, n, first);
        for (int j = 1; j < k; j++) {
            load(v[j].model, at, n, x);
            for (int i = 0; i < n; i++) {
                const float shifted = x[i] - first[i];
                total[i] += shifted;
                square[i] = fmaf(shifted, shifted, square[i]);
            }
        }
        for (int i = 0; i < n; i++) {
            const float score = fmaf(-total[i], total[i], square[i] * (float)k);
            square[i] = score > 0 ? score : 0.0f;
        }
        if (counts)
            for (int i = 0; i < n; i++) counts[to_bits(square[i]) >> low_bits]++;
    }
}

/* Sums of squared changes where the score is at least `above`; and the entries with scores in [low, above), whose
   number is the result, to `indices`. */
API index_t squares_above(const vector_t *v, index_t k, const float *restrict scores, float low, float above,
                          index_t count, double *sums, index_t *indices)
{
    float x[CHUNK];
    index_t found = 0;
    EACH_CHUNK(count) {
        const float *restrict score = scores + at;
        for (int j = 0; j < k; j++) {
            difference(v[j].model, v[j].base, at, n, x);
            for (int i = 0; i < n; i++) x[i] = score[i] >= above ? x[i] : 0.0f;
            memset(x + n, 0, (CHUNK - n) * sizeof(float));
            sums[j] += dot(x, x);
        }
        for (int from = 0; from < n; from += 16) {
            const int upto = from + 16 < n ? from + 16 : n;
            int any = 0;
            for (int i = from; i < upto; i++) any |= (score[i] >= low) & (score[i] < above);
            for (int i = from; any && i < upto; i++)
                if (score[i] >= low && score[i] < above) indices[found++] = at + i;
        }
    }
    return found;
}

/* `choices.sce`: scores NULL: all entries are selected, else those above the threshold and of those equal to it the
   ones up to index `last`. */
API int sce(const vector_t *v, index_t k, const float *weights, float smallest, const float *scores, float threshold,
            index_t last, index_t count, float *restrict out)
{
    float *x = aligned_alloc(64, k * CHUNK * sizeof(float)), sign[CHUNK], divisor[CHUNK], base[CHUNK];
    if (x == NULL) return 0;
    EACH_CHUNK(count) {
        float *restrict total = out + at;
        for (int j = 0; j < k; j++) {
            float *restrict change = x + j * CHUNK;
            difference(v[j].model, v[j].base, at, n, change);
            for (int i = 0; i < n; i++) sign[i] = j ? sign[i] + change[i] : change[i];
        }
        for (int i = 0; i < n; i++) sign[i] = sign[i] >= 0 ? 1.0f : -1.0f;
        for (int j = 0; j < k; j++) {
            const float *restrict change = x + j * CHUNK;
            const float weight = weights[j];
            for (int i = 0; i < n; i++) {
                float agreeing = change[i] * sign[i];
                agreeing = agreeing > 0 ? agreeing : 0.0f;
                const float share = agreeing > 0 ? weight : 0.0f;
                total[i] = j ? total[i] + agreeing * weight : agreeing * weight;
                divisor[i] = j ? divisor[i] + share : share;
            }
        }
        for (int i = 0; i < n; i++) total[i] = total[i] / (divisor[i] < smallest ? smallest : divisor[i]) * sign[i];
        if (scores) {
            const float *restrict score = scores + at;
            for (int i = 0; i < n; i++) {
                const int selected = (score[i] > threshold) | ((score[i] == threshold) & (at + i <= last));
                total[i] = selected ? total[i] : 0.0f;
            }
        }
        load(v[0].base, at, n, base);
        for (int i = 0; i < n; i++) total[i] += base[i];
    }
    free(x);
    return 1;
}
