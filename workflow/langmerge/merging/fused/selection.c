/* Which magnitudes are largest; see langmerge.merging.selection. */

#include "vectors.h"

/* Magnitudes of every stride-th entry from `at` on; their number. */
API index_t sample(const vector_t *v, index_t start, index_t first, index_t stride, index_t count, float *out)
{
    index_t taken = 0;
    if (!v->drop && v->match == 1.0f && !v->cuts) {
        if (v->model.kind == BFLOAT16 && v->base.kind == BFLOAT16 && v->base.data) {
            const uint16_t *x = v->model.data, *y = v->base.data;
            for (index_t i = first; i < count; i += stride)
                out[taken++] = fabsf(from_bits((uint32_t)x[i] << 16) - from_bits((uint32_t)y[i] << 16));
        } else {
            for (index_t i = first; i < count; i += stride)
                out[taken++] = fabsf(load_one(v->model, i) - load_one(v->base, i));
        }
        return taken;
    }
    float x[CHUNK];
    index_t next = first;
    EACH_CHUNK(count) {
        load_vector(v, start, at, n, x);
        for (; next < at + n; next += stride) out[taken++] = fabsf(x[next - at]);
    }
    return taken;
}

/* Of the magnitudes x: how many are above `high`; those in [low, high] go to `inside`. */
static index_t pick(const float *restrict x, int n, float low, float high, index_t *above, float *restrict inside)
{
    index_t found = 0;
    int i = 0, larger = 0;
#ifdef __AVX512F__
    const __m512 bottom = _mm512_set1_ps(low), top = _mm512_set1_ps(high);
    for (; i + 16 <= n; i += 16) {
        const __m512 part = _mm512_loadu_ps(x + i);
        const __mmask16 over = _mm512_cmp_ps_mask(part, top, _CMP_GT_OQ);
        const __mmask16 in = _mm512_cmp_ps_mask(part, bottom, _CMP_GE_OQ) & ~over;
        larger += __builtin_popcount(over);
        _mm512_storeu_ps(inside + found, _mm512_maskz_compress_ps(in, part));
        found += __builtin_popcount(in);
    }
#endif
    for (; i < n; i++) {
        larger += x[i] > high;
        inside[found] = x[i];
        found += (x[i] >= low) & (x[i] <= high);
    }
    *above += larger;
    return found;
}

/* Magnitudes of a run in any order. */
static void magnitudes(const vector_t *v, index_t start, index_t at, int n, float *restrict out)
{
    if (n == CHUNK && !v->drop && v->match == 1.0f && !v->cuts && all_bfloat16(v, 1)) {
        const uint16_t *x = (const uint16_t *)v->model.data + at, *y = (const uint16_t *)v->base.data + at;
        for (int i = 0; i < CHUNK; i += 2 * LANES) {
            const bits_t model = bits_at(x + i), base = bits_at(y + i);
            put(out + i, magnitude(even(model) - even(base)), LANES);
            put(out + i + LANES, magnitude(odd(model) - odd(base)), LANES);
        }
    } else {
        load_vector(v, start, at, n, out);
        for (int i = 0; i < n; i++) out[i] = fabsf(out[i]);
    }
}

/* For each of m brackets: `above` counts magnitudes above high, `found` those in [low, high], which go to inside[b]
   in any order; room for count + 16 each. Brackets of one value are counted alone. */
API void count_inside(const vector_t *v, index_t start, index_t count, index_t m, const float *low, const float *high,
                      index_t *above, index_t *found, float **inside)
{
    float x[CHUNK];
    memset(above, 0, m * sizeof(index_t));
    memset(found, 0, m * sizeof(index_t));
    EACH_CHUNK(count) {
        magnitudes(v, start, at, n, x);
        for (int b = 0; b < m; b++) {
            if (low[b] == high[b]) {
                int larger = 0, equal = 0;
                for (int i = 0; i < n; i++) {
                    larger += x[i] > high[b];
                    equal += x[i] == high[b];
                }
                above[b] += larger;
                found[b] += equal;
            } else {
                found[b] += pick(x, n, low[b], high[b], above + b, inside[b] + found[b]);
            }
        }
    }
}

/* Index of the number-th entry of this magnitude from `first` on, or -1 - (how many there are). */
API index_t find_equal(const vector_t *v, index_t start, index_t first, index_t count, float magnitude, index_t number)
{
    float x[CHUNK];
    index_t seen = 0;
    for (index_t at = first; at < count; at += CHUNK) {
        const int n = count - at < CHUNK ? count - at : CHUNK;
        int here = 0;
        load_vector(v, start, at, n, x);
        for (int i = 0; i < n; i++) here += fabsf(x[i]) == magnitude;
        if (seen + here >= number)
            for (int i = 0; i < n; i++)
                if (fabsf(x[i]) == magnitude && ++seen == number) return at + i;
        seen += here;
    }
    return -1 - seen;
}

/* Sum of magnitudes. */
API double absolute_sum(const vector_t *v, index_t start, index_t count)
{
    float x[CHUNK];
    double lanes[LANES] = {0}, total = 0;
    EACH_CHUNK(count) {
        load_vector(v, start, at, n, x);
        memset(x + n, 0, (CHUNK - n) * sizeof(float));
        for (int i = 0; i < CHUNK; i += LANES)
            for (int l = 0; l < LANES; l++) lanes[l] += (double)fabsf(x[i + l]);
    }
    for (int l = 0; l < LANES; l++) total += lanes[l];
    return total;
}
