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

/* Whether a whole chunk of few vectors can be cut as it is read: all are bfloat16, cut `cuts` times by bounds that are
   the same from end to end, and nothing else is done. Kept is then what lies above low and, cut twice, not above
   high. */
static int cut_alike(const vector_t *v, index_t k, index_t cuts, index_t at, int n, float *low, float *high)
{
    int alike = k <= FEW && n == CHUNK && all_bfloat16(v, k);
    for (index_t j = 0; alike && j < k; j++)
        alike = v[j].cuts == cuts && !v[j].drop && v[j].match == 1.0f && v[j].rematch == 1.0f
                && bound_of_all(v + j, 0, at, n, low + j) && (cuts == 1 || bound_of_all(v + j, 1, at, n, high + j));
    return alike;
}

INLINE void cut_column(const int k, const int cuts, const vector_t *v, const float *low, const float *high, index_t at,
                       lanes_t *x)
{
    const lanes_t base = bfloat16_at(v->base.data, at, LANES);
    UNROLLED for (int j = 0; j < k; j++) {
        const lanes_t change = bfloat16_at(v[j].model.data, at, LANES) - base;
        x[j] = kept_if(magnitude(change) > low[j], change);
        if (cuts == 2) x[j] -= kept_if(magnitude(change) > high[j], change);
    }
}

/* Whether nothing is done to any of the vectors, and all are stored as bfloat16, with or all without a base. */
static int all_plain(const vector_t *v, index_t k)
{
    int all = v->base.data == NULL || all_bfloat16(v, k);
    for (index_t j = 0; j < k; j++)
        all &= v[j].model.kind == BFLOAT16 && v[j].base.data == v->base.data && v[j].drop == NO_DROP
               && v[j].match == 1.0f && v[j].rematch == 1.0f && !v[j].cuts;
    return all;
}

INLINE lanes_t weighted_column(const int k, const int based, const vector_t *v, const float *weights, index_t at, int n)
{
    lanes_t base = {0}, total = {0};
    if (based) base = bfloat16_at(v->base.data, at, n);
    UNROLLED for (int j = 0; j < k; j++) {
        const lanes_t x = bfloat16_at(v[j].model.data, at, n) - base;
        total = j ? multiply_add(x, all_of(weights[j]), total) : x * weights[j];
    }
    return total;
}

INLINE int weighted_plain(const int k, const int based, const vector_t *v, const float *weights, float divisor,
                          index_t count, float *restrict out)
{
    index_t at = 0;
    for (; at + LANES <= count; at += LANES) {
        const lanes_t total = weighted_column(k, based, v, weights, at, LANES);
        put(out + at, divisor == 1.0f ? total : total / divisor, LANES);
    }
    if (at < count) put(out + at, weighted_column(k, based, v, weights, at, count - at) / divisor, count - at);
    return 1;
}

/* A whole chunk of the sum of vectors that are `cut_alike`. */
INLINE int weighted_cut(const int k, const int cuts, const vector_t *v, const float *low, const float *high,
                        const float *weights, index_t at, float *restrict out)
{
    lanes_t x[FEW] = {{0}};
    for (int i = 0; k <= FEW && i < CHUNK; i += LANES) {
        cut_column(k, cuts, v, low, high, at + i, x);
        lanes_t total = x[0] * weights[0];
        UNROLLED for (int j = 1; j < k; j++) total = multiply_add(x[j], all_of(weights[j]), total);
        put(out + i, total, LANES);
    }
    return 1;
}

/* sum_i weights[i] v_i, then divided. */
API void weighted(const vector_t *v, index_t k, const float *weights, float divisor, index_t start, index_t count,
                  float *restrict out)
{
    if (all_plain(v, k)) {
        if (v->base.data) WITH_MODELS((int)k, weighted_plain, 1, v, weights, divisor, count, out);
        else WITH_MODELS((int)k, weighted_plain, 0, v, weights, divisor, count, out);
        return;
    }
    float x[CHUNK];
    EACH_CHUNK(count) {
        float *restrict total = out + at, low[FEW], high[FEW];
        if (divisor == 1.0f && cut_alike(v, k, 2, at, n, low, high)) {
            WITH_MODELS((int)k, weighted_cut, 2, v, low, high, weights, at, total);
            continue;
        }
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

/* What the vote for one column is made of; see `elect`. */
typedef struct {
    lanes_t factor, alpha, share;
    bits_t flip; /* of the sign */
    int skip;
} model_t;

typedef struct {
    model_t *models;
    int divided, zero;
    float smallest;
} vote_t;

/* One column of k vectors. Signs are turned by their bit. */
INLINE lanes_t elected(const int k, const lanes_t *x, const vote_t vote)
{
    lanes_t sum = x[0] * vote.models[0].factor, total = {0}, divisor = {0};
    UNROLLED for (int j = 1; j < k; j++) sum += x[j] * vote.models[j].factor;
    const bits_t turn = ~(bits_t)(vote.zero > 0 ? sum >= 0 : sum > 0) & 0x80000000u;
    UNROLLED for (int j = 0; j < k; j++) {
        const model_t *model = vote.models + j;
        if (model->skip) continue;
        const lanes_t agreeing = larger((lanes_t)((bits_t)x[j] ^ turn ^ model->flip), (lanes_t){0});
        total = multiply_add(agreeing, model->alpha, total);
        divisor += kept_if(agreeing > 0, model->share);
    }
    if (vote.divided && vote.smallest > 0) total /= larger(divisor, all_of(vote.smallest));
    else if (vote.divided) total /= divisor + kept_if(divisor == 0, all_of(1.0f));
    return (lanes_t)((bits_t)total ^ turn);
}

INLINE void elect_cut(const int k, const int cuts, const vector_t *v, const float *low, const float *high,
                      const vote_t vote, index_t at, float *restrict out)
{
    lanes_t x[FEW] = {{0}};
    for (int i = 0; i < CHUNK; i += LANES) {
        cut_column(k, cuts, v, low, high, at + i, x);
        put(out + i, elected(k, x, vote), LANES);
    }
}

INLINE int elect_of(const int k, float *restrict buffer, const vector_t *v, const vote_t vote, index_t start,
                    index_t count, float *restrict out)
{
    lanes_t few[FEW], *x = k <= FEW ? few : (lanes_t *)(buffer + k * CHUNK); /* of few vectors in registers */
    float low[FEW], high[FEW];
    EACH_CHUNK(count) {
        if (k <= FEW && cut_alike(v, k, 1, at, n, low, high)) {
            elect_cut(k, 1, v, low, high, vote, at, out + at);
            continue;
        }
        if (k <= FEW && cut_alike(v, k, 2, at, n, low, high)) {
            elect_cut(k, 2, v, low, high, vote, at, out + at);
            continue;
        }
        for (int j = 0; j < k; j++) load_vector(v + j, start, at, n, buffer + j * CHUNK);
        for (int i = 0; i < n; i += LANES) {
            UNROLLED for (int j = 0; j < k; j++) x[j] = lanes_at(buffer + j * CHUNK + i);
            put(out + at + i, elected(k, x, vote), n - i);
        }
    }
    return 1;
}

/* `disjoint_mean`: factors of the votes, weights of the sum (alphas) and of the divisor (counted; NULL: none); models
   with skip are left out, flip turns the sign that agrees. zero: the sign of a zero sum. smallest > 0: the least
   divisor, else divisors of 0 become 1. */
API int elect(const vector_t *v, index_t k, const float *factors, const float *alphas, const float *counted,
              const uint8_t *skip, const uint8_t *flip, index_t zero, float smallest, index_t start, index_t count,
              float *restrict out)
{
    float *x = aligned_alloc(sizeof(lanes_t), k * (CHUNK * sizeof(float) + sizeof(lanes_t)));
    model_t *models = aligned_alloc(sizeof(lanes_t), k * sizeof(model_t));
    const int enough = x && models;
    if (enough) {
        memset(x, 0, k * CHUNK * sizeof(float)); /* the last column may be read beyond its end */
        for (int j = 0; j < k; j++) {
            models[j].factor = all_of(factors[j]);
            models[j].alpha = all_of(alphas[j]);
            models[j].share = all_of(counted ? counted[j] : 0.0f);
            models[j].flip = (bits_t){0} + (flip[j] ? 0x80000000u : 0u);
            models[j].skip = skip[j];
        }
        const vote_t vote = {models, counted != NULL, zero > 0, smallest};
        WITH_MODELS((int)k, elect_of, x, v, vote, start, count, out);
    }
    free(x);
    free(models);
    return enough;
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
