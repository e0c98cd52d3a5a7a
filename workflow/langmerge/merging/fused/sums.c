/* Checks, dot products and statistics of task vectors. */

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

enum { PAIRS = FEW * (FEW + 1) / 2, HALF = LANES / 2 };

typedef float half_t __attribute__((vector_size(HALF * 4)));
typedef double wide_t __attribute__((vector_size(HALF * 8)));

INLINE wide_t wide_at(const float *place)
{
    half_t x;
    memcpy(&x, place, sizeof x);
    return __builtin_convertvector(x, wide_t);
}

INLINE wide_t multiply_add_wide(wide_t a, wide_t b, wide_t c)
{
#if defined(__AVX512F__)
    return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX2__)
    return _mm256_fmadd_pd(a, b, c);
#else
    for (int l = 0; l < HALF; l++) c[l] = fma(a[l], b[l], c[l]);
    return c;
#endif
}

INLINE int dots_of(const int k, const vector_t *v, index_t count, double *grams)
{
    const int pairs = k * (k + 1) / 2;
    wide_t few[PAIRS], one[FEW]; /* of few vectors in registers */
    wide_t *sums = k <= FEW ? few : aligned_alloc(sizeof(wide_t), pairs * sizeof(wide_t));
    wide_t *column = k <= FEW ? one : aligned_alloc(sizeof(wide_t), k * sizeof(wide_t));
    float *x = aligned_alloc(sizeof(wide_t), k * CHUNK * sizeof(float));
    const int enough = sums && column && x;
    int place = 0;
    if (enough) memset(sums, 0, pairs * sizeof(wide_t));
    if (enough) EACH_CHUNK(count) {
        differences(v, k, at, n, x);
        for (int i = 0; i < CHUNK; i += HALF) {
            int pair = 0;
            UNROLLED for (int j = 0; j < k; j++) column[j] = wide_at(x + j * CHUNK + i);
            UNROLLED for (int a = 0; a < k; a++)
                UNROLLED for (int b = a; b < k; b++, pair++)
                    sums[pair] = multiply_add_wide(column[a], column[b], sums[pair]);
        }
    }
    for (int a = 0; enough && a < k; a++)
        for (int b = a; b < k; b++, place++) {
            double total = 0;
            for (int l = 0; l < HALF; l++) total += sums[place][l];
            grams[a * k + b] += total;
            if (a != b) grams[b * k + a] += total;
        }
    if (k > FEW) free(sums), free(column);
    free(x);
    return enough;
}

/* grams[i][j] += v_i . v_j in float64. */
API int dots(const vector_t *v, index_t k, index_t count, double *grams)
{
    return WITH_MODELS((int)k, dots_of, v, count, grams);
}

/* Of one column of k vectors: products for each pair, and whether entries are pulled both up and down, or at all. */
INLINE void describe_column(const int k, const lanes_t *x, lanes_t *restrict sums, bits_t *restrict both,
                            bits_t *restrict any)
{
    lanes_t highest = x[0], lowest = x[0];
    int pair = 0;
    UNROLLED for (int a = 0; a < k; a++)
        UNROLLED for (int b = a; b < k; b++, pair++) sums[pair] = multiply_add(x[a], x[b], sums[pair]);
    UNROLLED for (int j = 1; j < k; j++) {
        highest = larger(x[j], highest);
        lowest = smaller(x[j], lowest);
    }
    const bits_t up = (bits_t)(highest > 0), down = (bits_t)(lowest < 0); /* all ones: yes */
    *both -= up & down;
    *any -= up | down;
}

/* The columns of one chunk. Of bfloat16 a column is every second entry, as the order of sums does not matter. */
INLINE void describe_chunk(const int k, const vector_t *v, index_t at, int n, int halves, float *restrict buffer,
                           lanes_t *restrict column, lanes_t *restrict sums, index_t *counts)
{
    bits_t both = {0}, any = {0};
    if (halves && n == CHUNK) {
        const uint16_t *base = (const uint16_t *)v->base.data + at;
        for (int i = 0; i < CHUNK; i += 2 * LANES) {
            const bits_t from = bits_at(base + i);
            UNROLLED for (int j = 0; j < k; j++)
                column[j] = even(bits_at((const uint16_t *)v[j].model.data + at + i)) - even(from);
            describe_column(k, column, sums, &both, &any);
            UNROLLED for (int j = 0; j < k; j++)
                column[j] = odd(bits_at((const uint16_t *)v[j].model.data + at + i)) - odd(from);
            describe_column(k, column, sums, &both, &any);
        }
    } else {
        differences(v, k, at, n, buffer);
        for (int i = 0; i < CHUNK; i += LANES) {
            UNROLLED for (int j = 0; j < k; j++) column[j] = lanes_at(buffer + j * CHUNK + i);
            describe_column(k, column, sums, &both, &any);
        }
    }
    EACH_LANE counts[0] += both[l], counts[1] += any[l];
}

INLINE int describe_of(const int k, const vector_t *v, index_t count, double *grams, index_t *counts)
{
    const int pairs = k * (k + 1) / 2, halves = all_bfloat16(v, k);
    lanes_t few[PAIRS], one[FEW]; /* of few vectors in registers */
    lanes_t *sums = k <= FEW ? few : aligned_alloc(sizeof(lanes_t), pairs * sizeof(lanes_t));
    lanes_t *column = k <= FEW ? one : aligned_alloc(sizeof(lanes_t), k * sizeof(lanes_t));
    float *buffer = aligned_alloc(sizeof(lanes_t), k * CHUNK * sizeof(float));
    double *totals = calloc(pairs * LANES, sizeof(double));
    const int enough = sums && column && buffer && totals;
    int finite = 1, pair = 0;
    if (enough) EACH_CHUNK(count) {
        memset(sums, 0, pairs * sizeof(lanes_t));
        describe_chunk(k, v, at, n, halves, buffer, column, sums, counts);
        for (int p = 0; p < pairs; p++)
            EACH_LANE totals[p * LANES + l] += (double)sums[p][l];
    }
    for (int a = 0; enough && a < k; a++)
        for (int b = a; b < k; b++, pair++) {
            double total = 0;
            EACH_LANE total += totals[pair * LANES + l];
            grams[a * k + b] = grams[b * k + a] = total;
            finite &= isfinite(total) != 0;
        }
    if (k > FEW) free(sums), free(column);
    free(buffer);
    free(totals);
    if (!enough || finite) return enough;
    memset(grams, 0, k * k * sizeof(double));
    return dots(v, k, count, grams);
}

/* Dot products of task vectors, summed in float32 within a chunk where that does not overflow, and numbers of entries
   (pulled both up and down, changed at all). */
API int describe(const vector_t *v, index_t k, index_t count, double *grams, double *counts)
{
    index_t found[2] = {0, 0};
    const int enough = WITH_MODELS((int)k, describe_of, v, count, grams, found);
    counts[0] = found[0];
    counts[1] = found[1];
    return enough;
}
