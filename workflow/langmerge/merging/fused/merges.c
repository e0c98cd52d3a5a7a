/* Sums and elections of task vectors. */

#include "vectors.h"

/* base + scale * merged; base NULL: merged as it is. */
API void onto(values_t base, const float *restrict merged, float scale, index_t count, float *restrict out)
{
    float x[CHUNK];
    EACH_CHUNK(count) {
        load(base, at, n, x);
        for (int i = 0; i < n; i++) out[at + i] = fmaf(merged[at + i], scale, x[i]);
    }
}

/* sum_i weights[i] v_i, then divided. */
API void weighted(const vector_t *v, index_t k, const float *weights, float divisor, index_t start, index_t count,
                  float *restrict out)
{
    float x[CHUNK];
    EACH_CHUNK(count) {
        float *restrict total = out + at;
        for (int j = 0; j < k; j++) {
            const float weight = weights[j];
            load_vector(v + j, start, at, n, x);
            if (j == 0)
                for (int i = 0; i < n; i++) total[i] = x[i] * weight;
            else
                for (int i = 0; i < n; i++) total[i] = fmaf(x[i], weight, total[i]);
        }
        if (divisor != 1.0f)
            for (int i = 0; i < n; i++) total[i] /= divisor;
    }
}

/* Sum of the votes for each entry, each product rounded before it is added. */
static void votes(const float *x, index_t k, const float *factors, int n, float *restrict total)
{
    for (int j = 0; j < k; j++) {
        const float factor = factors[j];
        const float *restrict vote = x + j * CHUNK;
        if (j == 0)
            for (int i = 0; i < n; i++) total[i] = vote[i] * factor;
        else
            for (int i = 0; i < n; i++) total[i] += vote[i] * factor;
    }
}

/* `disjoint_mean`: factors of the votes, weights of the sum (alphas) and of the divisor (counted; NULL: none); models
   with skip are left out, flip turns the sign that agrees. zero: the sign of a zero sum. smallest > 0: the least
   divisor, else divisors of 0 become 1. */
API int elect(const vector_t *v, index_t k, const float *factors, const float *alphas, const float *counted,
              const uint8_t *skip, const uint8_t *flip, index_t zero, float smallest, index_t start, index_t count,
              float *restrict out)
{
    float *x = aligned_alloc(64, k * CHUNK * sizeof(float)), sign[CHUNK], divisor[CHUNK];
    if (x == NULL) return 0;
    EACH_CHUNK(count) {
        float *restrict total = out + at;
        for (int j = 0; j < k; j++) load_vector(v + j, start, at, n, x + j * CHUNK);
        votes(x, k, factors, n, sign);
        if (zero > 0)
            for (int i = 0; i < n; i++) sign[i] = sign[i] >= 0 ? 1.0f : -1.0f;
        else
            for (int i = 0; i < n; i++) sign[i] = sign[i] > 0 ? 1.0f : -1.0f;
        memset(total, 0, n * sizeof(float));
        memset(divisor, 0, sizeof divisor);
        for (int j = 0; j < k; j++) {
            if (skip[j]) continue;
            const float *restrict change = x + j * CHUNK;
            const float alpha = alphas[j], share = counted ? counted[j] : 0.0f, turn = flip[j] ? -1.0f : 1.0f;
            for (int i = 0; i < n; i++) {
                float agreeing = change[i] * sign[i] * turn;
                agreeing = agreeing > 0 ? agreeing : 0.0f;
                total[i] = fmaf(agreeing, alpha, total[i]);
                divisor[i] += agreeing > 0 ? share : 0.0f;
            }
        }
        if (counted && smallest > 0)
            for (int i = 0; i < n; i++) total[i] /= divisor[i] < smallest ? smallest : divisor[i];
        else if (counted)
            for (int i = 0; i < n; i++) total[i] /= divisor[i] == 0 ? 1.0f : divisor[i];
        for (int i = 0; i < n; i++) total[i] *= sign[i];
    }
    free(x);
    return 1;
}

/* Sum of the signs of the sums of all vectors. */
API index_t majority(const vector_t *v, index_t k, index_t start, index_t count)
{
    float x[CHUNK], total[CHUNK];
    index_t sum = 0;
    EACH_CHUNK(count) {
        int signs = 0;
        for (int j = 0; j < k; j++) {
            load_vector(v + j, start, at, n, j ? x : total);
            if (j)
                for (int i = 0; i < n; i++) total[i] += x[i];
        }
        for (int i = 0; i < n; i++) signs += (total[i] > 0) - (total[i] < 0);
        sum += signs;
    }
    return sum;
}
