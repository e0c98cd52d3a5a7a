/* SCE; see langmerge.merging.methods.choices. */

#include "vectors.h"

INLINE lanes_t model_at(const int bfloat16, const vector_t *v, index_t at, int n)
{
    return bfloat16 ? bfloat16_at(v->model.data, at, n) : values_at(v->model, at, n);
}

INLINE lanes_t deviation(const int k, const int bfloat16, const vector_t *v, index_t at, int n)
{
    const lanes_t first = model_at(bfloat16, v, at, n);
    lanes_t total = {0}, square = {0};
    UNROLLED for (int j = 1; j < k; j++) {
        const lanes_t shifted = model_at(bfloat16, v + j, at, n) - first;
        total += shifted;
        square = multiply_add(shifted, shifted, square);
    }
    const lanes_t score = multiply_add(-total, total, square * (float)k);
    return kept_if(score > 0, score);
}

INLINE int deviations_of(const int k, const int bfloat16, const vector_t *v, index_t count, float *restrict out,
                         index_t *counts, index_t low_bits)
{
    EACH_CHUNK(count) {
        float *restrict score = out + at;
        int i = 0;
        for (; i + LANES <= n; i += LANES) put(score + i, deviation(k, bfloat16, v, at + i, LANES), LANES);
        if (i < n) put(score + i, deviation(k, bfloat16, v, at + i, n - i), n - i);
        if (counts)
            for (int i = 0; i < n; i++) counts[to_bits(score[i]) >> low_bits]++;
    }
    return 1;
}

/* n^2 times the variance of each entry over the models (`squared_deviations`), and its histogram by the upper bits. */
API void deviations(const vector_t *v, index_t k, index_t count, float *restrict out, index_t *counts, index_t low_bits)
{
    if (all_bfloat16(v, k)) WITH_MODELS((int)k, deviations_of, 1, v, count, out, counts, low_bits);
    else deviations_of(k, 0, v, count, out, counts, low_bits);
}

/* Sum of squared changes where the score is at least `above`, in float32 within a chunk. */
INLINE double square_above(const int bfloat16, const vector_t *v, const float *restrict scores, float above,
                           index_t count)
{
    double lanes[LANES] = {0}, total = 0;
    EACH_CHUNK(count) {
        lanes_t sum = {0};
        int i = 0;
        for (; i + LANES <= n; i += LANES) {
            const mask_t selected = lanes_at(scores + at + i) >= above;
            const lanes_t change = kept_if(selected, change_at(bfloat16, v, at + i, LANES));
            sum = multiply_add(change, change, sum);
        }
        for (; i < n; i++) {
            const float change = scores[at + i] >= above ? load_one(v->model, at + i) - load_one(v->base, at + i) : 0;
            sum[i % LANES] += change * change;
        }
        EACH_LANE lanes[l] += (double)sum[l];
    }
    EACH_LANE total += lanes[l];
    return total;
}

/* The same in float64. */
static double square_above_wide(const vector_t *v, const float *scores, float above, index_t count)
{
    double total = 0;
    for (index_t i = 0; i < count; i++) {
        const double change = scores[i] >= above ? load_one(v->model, i) - load_one(v->base, i) : 0;
        total += change * change;
    }
    return total;
}

/* Sums of squared changes where the score is at least `above`; and the entries with scores in [low, above), whose
   number is the result, to `indices`. */
API index_t squares_above(const vector_t *v, index_t k, const float *restrict scores, float low, float above,
                          index_t count, double *sums, index_t *indices)
{
    const int bfloat16 = all_bfloat16(v, k);
    uint32_t positions[CHUNK + LANES];
    index_t found = 0;
    for (int j = 0; j < k; j++) {
        const double sum = bfloat16 ? square_above(1, v + j, scores, above, count)
                                    : square_above(0, v + j, scores, above, count);
        sums[j] += isfinite(sum) ? sum : square_above_wide(v + j, scores, above, count);
    }
    EACH_CHUNK(count) {
        uint32_t bits[CHUNK]; /* ordered like the scores, of which none is negative */
        memcpy(bits, scores + at, n * sizeof(float));
        const int here = pick_between(bits, n, to_bits(low), to_bits(above), 0, positions);
        for (int i = 0; i < here; i++) indices[found + i] = at + positions[i];
        found += here;
    }
    return found;
}

/* What the threshold leaves of a column: of scores that equal it, those up to index `last`. */
INLINE lanes_t selected(lanes_t x, lanes_t score, float threshold, index_t last, index_t at)
{
    if (at + LANES - 1 <= last) return kept_if(score >= threshold, x);
    if (at > last) return kept_if(score > threshold, x);
    EACH_LANE x[l] = score[l] > threshold || (score[l] == threshold && at + l <= last) ? x[l] : 0.0f;
    return x;
}

/* What the arguments of `sce` say of every column. */
typedef struct {
    const float *weights, *scores;
    float smallest, threshold;
    index_t last;
} choice_t;

/* One column: the sum of the changes elects signs, what agrees is averaged by its weights and added to the base. */
INLINE lanes_t sce_column(const int k, const int bfloat16, const vector_t *v, const choice_t *choice, index_t at, int n,
                          lanes_t *column)
{
    const lanes_t base = bfloat16 ? bfloat16_at(v->base.data, at, n) : values_at(v->base, at, n);
    lanes_t sum = {0}, total = {0}, divisor = {0};
    UNROLLED for (int j = 0; j < k; j++) {
        column[j] = bfloat16 ? bfloat16_at(v[j].model.data, at, n) - base : change_at(0, v + j, at, n);
        sum = j ? sum + column[j] : column[j];
    }
    const bits_t turn = ~(bits_t)(sum >= 0) & 0x80000000u;
    UNROLLED for (int j = 0; j < k; j++) {
        const lanes_t weight = all_of(choice->weights[j]);
        const lanes_t agreeing = larger((lanes_t)((bits_t)column[j] ^ turn), (lanes_t){0});
        const lanes_t share = kept_if(agreeing > 0, weight);
        total = j ? total + agreeing * weight : agreeing * weight;
        divisor = j ? divisor + share : share;
    }
    total = (lanes_t)((bits_t)(total / larger(divisor, all_of(choice->smallest))) ^ turn);
    if (choice->scores) {
        const lanes_t score = n < LANES ? first_at(choice->scores + at, n) : lanes_at(choice->scores + at);
        total = selected(total, score, choice->threshold, choice->last, at);
    }
    return total + base;
}

INLINE int sce_of(const int k, const int bfloat16, const vector_t *v, const choice_t *choice, index_t count,
                  float *restrict out)
{
    lanes_t few[FEW], *column = k <= FEW ? few : aligned_alloc(sizeof(lanes_t), k * sizeof(lanes_t));
    index_t at = 0;
    if (column == NULL) return 0;
    for (; at + LANES <= count; at += LANES)
        put(out + at, sce_column(k, bfloat16, v, choice, at, LANES, column), LANES);
    if (at < count) put(out + at, sce_column(k, bfloat16, v, choice, at, count - at, column), count - at);
    if (k > FEW) free(column);
    return 1;
}

/* `choices.sce`: scores NULL: all entries are selected, else those above the threshold and of those equal to it the
   ones up to index `last`. */
API int sce(const vector_t *v, index_t k, const float *weights, float smallest, const float *scores, float threshold,
            index_t last, index_t count, float *restrict out)
{
    const choice_t choice = {weights, scores, smallest, threshold, last};
    if (!all_bfloat16(v, k)) return sce_of(k, 0, v, &choice, count, out);
    return WITH_MODELS((int)k, sce_of, 1, v, &choice, count, out);
}
