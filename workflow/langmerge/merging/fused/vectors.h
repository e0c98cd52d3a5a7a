/* What the inner loops of a merge on a CPU share: values as they are stored, task vectors, what a method does to
   each of them.

   Every function does, entry by entry, the same float32 operations in the same order as the pure functions of
   langmerge.merging.methods, so that weights are equal bit for bit. torch adds a multiple of a tensor with a fused
   multiply-add; hence fmaf where it does, and no contraction anywhere else (-ffp-contract=off). Work is done in runs of
   CHUNK entries that stay in a core's first-level cache. Sums are float32 within a lane of a run, float64 beyond. */

#ifndef LANGMERGE_VECTORS_H
#define LANGMERGE_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifndef __FMA__
#ifndef __ARM_FEATURE_FMA
#error "needs fused multiply-add in hardware"
#endif
#endif

#define CHUNK 1024
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#define RUN 65536u
#define API __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

/* Function(k, ...) with the usual numbers of models as constants: loops over models then unroll, and what is summed
   over them stays in registers. */
#define WITH_MODELS(k, function, ...) \
    ((k) == 1 ? function(1, __VA_ARGS__) : (k) == 2 ? function(2, __VA_ARGS__) : (k) == 3 ? function(3, __VA_ARGS__) \
     : (k) == 4 ? function(4, __VA_ARGS__) : function(k, __VA_ARGS__))
#define FEW 4 /* WITH_MODELS' largest constant */
#define UNROLLED _Pragma("GCC unroll 4")
#define EACH_LANE for (int l = 0; l < LANES; l++)

typedef int64_t index_t;

/* Vectors of the compiler's own kind, as wide as a register: wider ones it may take apart entry by entry. */
typedef float lanes_t __attribute__((vector_size(LANES * 4)));
typedef uint32_t bits_t __attribute__((vector_size(LANES * 4)));
typedef int32_t mask_t __attribute__((vector_size(LANES * 4))); /* of a comparison: all bits or none */
typedef uint16_t shorts_t __attribute__((vector_size(LANES * 2)));

enum { FLOAT32, BFLOAT16, FLOAT16 };
enum { NO_DROP, BY_SHARE, BY_RANK, BY_MASK };
enum { NO_RESCALE, MULTIPLY, DIVIDE };

/* Entries as stored; data NULL: all 0. */
typedef struct {
    const void *data;
    index_t kind;
} values_t;

/* A task vector and what a method does to it, in this order: drop, rescale, match, cut, rematch. Pointers are to the
   block's first entry; last and first count from there as well. */
typedef struct {
    values_t model, base;
    const uint32_t *keys; /* a pair for each run of random numbers that the block touches */
    const float *ranks;
    uint64_t *mask;
    index_t drop, rescale, cuts;
    index_t last[2], first[2];
    uint32_t limit;
    float slope, offset, factor, match, rematch;
    float threshold[2];
} vector_t;

static inline float from_bits(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline uint32_t to_bits(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }

INLINE lanes_t lanes_at(const float *place) { lanes_t x; memcpy(&x, place, sizeof x); return x; }
INLINE lanes_t first_at(const float *place, int n) { lanes_t x = {0}; memcpy(&x, place, n * sizeof(float)); return x; }
INLINE void put(float *place, lanes_t x, int n) { memcpy(place, &x, n < LANES ? n * sizeof(float) : sizeof x); }
INLINE bits_t bits_at(const void *place) { bits_t x; memcpy(&x, place, sizeof x); return x; }

INLINE lanes_t magnitude(lanes_t x) { return (lanes_t)((bits_t)x & 0x7FFFFFFFu); }
INLINE lanes_t kept_if(mask_t mask, lanes_t x) { return (lanes_t)(mask & (mask_t)x); }
INLINE lanes_t all_of(float x) { return x - (lanes_t){0}; }

/* Compilers have no such operators for vectors, and do not always make them of a loop over lanes. */
#if defined(__AVX512F__)
INLINE lanes_t multiply_add(lanes_t a, lanes_t b, lanes_t c) { return _mm512_fmadd_ps(a, b, c); }
INLINE lanes_t larger(lanes_t a, lanes_t b) { return _mm512_max_ps(a, b); }
INLINE lanes_t smaller(lanes_t a, lanes_t b) { return _mm512_min_ps(a, b); }
INLINE lanes_t widened(shorts_t x) { return (lanes_t)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)x), 16); }
#elif defined(__AVX2__)
INLINE lanes_t multiply_add(lanes_t a, lanes_t b, lanes_t c) { return _mm256_fmadd_ps(a, b, c); }
INLINE lanes_t larger(lanes_t a, lanes_t b) { return _mm256_max_ps(a, b); }
INLINE lanes_t smaller(lanes_t a, lanes_t b) { return _mm256_min_ps(a, b); }
INLINE lanes_t widened(shorts_t x) { return (lanes_t)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)x), 16); }
#else
INLINE lanes_t multiply_add(lanes_t a, lanes_t b, lanes_t c) { EACH_LANE c[l] = fmaf(a[l], b[l], c[l]); return c; }
INLINE lanes_t chosen(mask_t mask, lanes_t a, lanes_t b) { return (lanes_t)((mask & (mask_t)a) | (~mask & (mask_t)b)); }
INLINE lanes_t larger(lanes_t a, lanes_t b) { return chosen(a > b, a, b); }
INLINE lanes_t smaller(lanes_t a, lanes_t b) { return chosen(a < b, a, b); }
INLINE lanes_t widened(shorts_t x) { return (lanes_t)(__builtin_convertvector(x, bits_t) << 16); }
#endif

/* Every second of 2 x LANES values of bfloat16: where the order does not matter, this costs a third of widening. */
INLINE lanes_t even(bits_t pairs) { return (lanes_t)(pairs << 16); }
INLINE lanes_t odd(bits_t pairs) { return (lanes_t)(pairs & 0xFFFF0000u); }

/* LANES values of bfloat16; of fewer than that, 0 after them. */
INLINE lanes_t bfloat16_at(const void *data, index_t at, int n)
{
    shorts_t x = {0};
    memcpy(&x, (const uint16_t *)data + at, n < LANES ? n * sizeof(uint16_t) : sizeof x);
    return widened(x);
}

/* The same of whatever kind; no data: 0. */
INLINE lanes_t values_at(values_t values, index_t at, int n)
{
    if (values.data == NULL) return (lanes_t){0};
    if (values.kind == BFLOAT16) return bfloat16_at(values.data, at, n);
    if (values.kind == FLOAT32) {
        const float *place = (const float *)values.data + at;
        return n < LANES ? first_at(place, n) : lanes_at(place);
    }
    _Float16 narrow[LANES] = {0};
    lanes_t wide;
    memcpy(narrow, (const _Float16 *)values.data + at, n < LANES ? n * sizeof(_Float16) : sizeof narrow);
    EACH_LANE wide[l] = (float)narrow[l];
    return wide;
}

static inline void load(values_t values, index_t at, int n, float *restrict out)
{
    if (values.data == NULL) {
        memset(out, 0, n * sizeof(float));
    } else if (values.kind == BFLOAT16) {
        int i = 0;
        for (; i + LANES <= n; i += LANES) put(out + i, bfloat16_at(values.data, at + i, LANES), LANES);
        if (i < n) put(out + i, bfloat16_at(values.data, at + i, n - i), n - i);
    } else if (values.kind == FLOAT16) {
        const _Float16 *restrict x = (const _Float16 *)values.data + at;
        for (int i = 0; i < n; i++) out[i] = (float)x[i];
    } else {
        memcpy(out, (const float *)values.data + at, n * sizeof(float));
    }
}

static inline float load_one(values_t values, index_t at)
{
    float x;
    load(values, at, 1, &x);
    return x;
}

static inline void difference(values_t model, values_t base, index_t at, int n, float *restrict out)
{
    if (base.data == NULL) {
        load(model, at, n, out);
    } else if (model.kind == BFLOAT16 && base.kind == BFLOAT16) {
        const void *x = model.data, *y = base.data;
        int i = 0;
        for (; i + LANES <= n; i += LANES)
            put(out + i, bfloat16_at(x, at + i, LANES) - bfloat16_at(y, at + i, LANES), LANES);
        if (i < n) put(out + i, bfloat16_at(x, at + i, n - i) - bfloat16_at(y, at + i, n - i), n - i);
    } else {
        float other[CHUNK];
        load(model, at, n, out);
        load(base, at, n, other);
        for (int i = 0; i < n; i++) out[i] -= other[i];
    }
}

/* Differences of k models from their bases, a chunk each, 0 from n on. */
static inline void differences(const vector_t *v, index_t k, index_t at, int n, float *restrict out)
{
    for (index_t j = 0; j < k; j++) {
        difference(v[j].model, v[j].base, at, n, out + j * CHUNK);
        memset(out + j * CHUNK + n, 0, (CHUNK - n) * sizeof(float));
    }
}

/* LANES entries of model - base; `bfloat16`: both are known to be. */
INLINE lanes_t change_at(const int bfloat16, const vector_t *v, index_t at, int n)
{
    if (bfloat16) return bfloat16_at(v->model.data, at, n) - bfloat16_at(v->base.data, at, n);
    return values_at(v->model, at, n) - values_at(v->base, at, n);
}

/* Whether all are stored as bfloat16 with the same base. */
static inline int all_bfloat16(const vector_t *v, index_t k)
{
    int all = v->base.data != NULL && v->base.kind == BFLOAT16;
    for (index_t j = 0; j < k; j++) all &= v[j].model.kind == BFLOAT16 && v[j].base.data == v->base.data;
    return all;
}

/* Wellons' lowbias32 with two keys; see langmerge.merging.randomness. */
static inline void random_run(const uint32_t *keys, uint32_t offset, int n, uint32_t *restrict out)
{
    const uint32_t one = keys[0], two = keys[1];
    for (int i = 0; i < n; i++) {
        uint32_t z = ((offset + (uint32_t)i) * 0x9E3779B9u) ^ one;
        z ^= z >> 16;
        z *= 0x7FEB352Du;
        z ^= z >> 15;
        z ^= two;
        z *= 0x846CA68Bu;
        z ^= z >> 16;
        out[i] = z >> 1;
    }
}

static inline void random_bits(const uint32_t *keys, index_t start, index_t at, int n, uint32_t *restrict out)
{
    const index_t first = start / RUN;
    while (n > 0) {
        const index_t position = start + at;
        const uint32_t offset = position % RUN;
        const int part = n < (int)(RUN - offset) ? n : (int)(RUN - offset);
        random_run(keys + 2 * (position / RUN - first), offset, part, out);
        at += part;
        out += part;
        n -= part;
    }
}

static inline void keep_above(float *restrict x, int n, float bound)
{
    for (int i = 0; i < n; i++) x[i] = fabsf(x[i]) > bound ? x[i] : 0.0f;
}

/* `trim` of langmerge.merging.methods.task_vectors on entries at .. at + n - 1. */
static inline void trim(float *x, index_t at, int n, float threshold, index_t last, index_t first)
{
    if (threshold <= 0) return;
    if (isinf(threshold)) {
        memset(x, 0, n * sizeof(float));
        return;
    }
    const float below = from_bits(to_bits(threshold) - 1);
    index_t head = last + 1 - at, tail = first - at;
    head = head < 0 ? 0 : head > n ? n : head;
    tail = tail < head ? head : tail > n ? n : tail;
    keep_above(x, head, below);
    keep_above(x + head, tail - head, threshold);
    keep_above(x + tail, n - tail, below);
}

/* What a whole run of entries must be above to be kept by `trim`; or 0, where that is not the same for all of them. */
static inline int bound_of_all(const vector_t *v, int cut, index_t at, int n, float *bound)
{
    const float threshold = v->threshold[cut];
    const int head = v->last[cut] >= at + n - 1, tail = v->first[cut] <= at;
    *bound = threshold <= 0 ? -1.0f : threshold;
    if (threshold <= 0 || isinf(threshold)) return 1;
    if (head || tail) *bound = from_bits(to_bits(threshold) - 1);
    return head || tail || (v->last[cut] < at && v->first[cut] >= at + n);
}

INLINE void change_above(const int cuts, const vector_t *v, index_t at, int n, float low, float high,
                         float *restrict out)
{
    for (int i = 0; i < n; i += LANES) {
        const lanes_t x = i + LANES <= n ? change_at(1, v, at + i, LANES) : change_at(1, v, at + i, n - i);
        const lanes_t kept = kept_if(magnitude(x) > low, x);
        put(out + i, cuts == 1 ? kept : kept - kept_if(magnitude(x) > high, x), n - i);
    }
}

/* Differences and cuts of bfloat16 in one step, where there is nothing between them; else 0. */
static inline int load_cut(const vector_t *v, index_t at, int n, float *restrict out)
{
    float low, high = 0;
    if (v->drop != NO_DROP || v->match != 1.0f || v->cuts == 0 || !all_bfloat16(v, 1)) return 0;
    if (!bound_of_all(v, 0, at, n, &low)) return 0;
    if (v->cuts == 2 && !bound_of_all(v, 1, at, n, &high)) return 0;
    if (v->cuts == 1) change_above(1, v, at, n, low, 0, out);
    else change_above(2, v, at, n, low, high, out);
    return 1;
}

/* Chunks begin at multiples of CHUNK in a block, or at any entry. */
static inline void keep_marked(const uint64_t *mask, index_t at, int n, float *restrict x)
{
    int i = 0;
#ifdef __AVX512F__
    if (at % 16 == 0)
        for (; i + 16 <= n; i += 16) {
            const __mmask16 kept = (__mmask16)(mask[(at + i) >> 6] >> ((at + i) & 63));
            _mm512_storeu_ps(x + i, _mm512_maskz_loadu_ps(kept, x + i));
        }
#endif
    for (; i < n; i++) {
        const uint32_t kept = -(uint32_t)(mask[(at + i) >> 6] >> ((at + i) & 63) & 1);
        x[i] = from_bits(to_bits(x[i]) & kept);
    }
}

static inline void load_vector(const vector_t *v, index_t start, index_t at, int n, float *restrict out)
{
    const int cut = load_cut(v, at, n, out);
    if (!cut) difference(v->model, v->base, at, n, out);
    if (v->drop == BY_MASK) {
        keep_marked(v->mask, at, n, out);
    } else if (v->drop != NO_DROP) {
        uint32_t bits[CHUNK];
        random_bits(v->keys, start, at, n, bits);
        if (v->drop == BY_SHARE) {
            const uint32_t limit = v->limit;
            for (int i = 0; i < n; i++) {
                const uint32_t kept = (uint32_t)((int32_t)(bits[i] - limit) >> 31);
                out[i] = from_bits(to_bits(out[i]) & kept);
            }
            if (v->rescale == MULTIPLY)
                for (int i = 0; i < n; i++) out[i] *= v->factor;
        } else {
            const float *restrict ranks = v->ranks + at;
            const float slope = v->slope, offset = v->offset;
            for (int i = 0; i < n; i++) {
                const float keep = ranks[i] * slope + offset;
                const uint32_t limit = (uint32_t)(int32_t)(keep * 2147483648.0f);
                const uint32_t kept = (uint32_t)((int32_t)(bits[i] - limit) >> 31);
                out[i] = from_bits(to_bits(out[i]) & kept);
            }
            if (v->rescale == DIVIDE)
                for (int i = 0; i < n; i++) out[i] /= ranks[i] * slope + offset;
        }
    }
    if (v->match != 1.0f)
        for (int i = 0; i < n; i++) out[i] *= v->match;
    if (!cut && v->cuts == 2) {
        float upper[CHUNK];
        memcpy(upper, out, n * sizeof(float));
        trim(upper, at, n, v->threshold[1], v->last[1], v->first[1]);
        trim(out, at, n, v->threshold[0], v->last[0], v->first[0]);
        for (int i = 0; i < n; i++) out[i] -= upper[i];
    } else if (!cut && v->cuts == 1) {
        trim(out, at, n, v->threshold[0], v->last[0], v->first[0]);
    }
    if (v->rematch != 1.0f)
        for (int i = 0; i < n; i++) out[i] *= v->rematch;
}

/* from + the positions of what lies in [low, above), to `positions` with room for LANES more; how many. */
static inline int pick_between(const uint32_t *restrict x, int n, uint32_t low, uint32_t above, uint32_t from,
                               uint32_t *restrict positions)
{
    int found = 0, i = 0;
#ifdef __AVX512F__
    const __m512i step = _mm512_set1_epi32(16), bottom = _mm512_set1_epi32((int)low);
    const __m512i width = _mm512_set1_epi32((int)(above - low));
    __m512i here = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    here = _mm512_add_epi32(here, _mm512_set1_epi32((int)from));
    for (; i + 16 <= n; i += 16, here = _mm512_add_epi32(here, step)) {
        const __m512i part = _mm512_sub_epi32(_mm512_loadu_si512(x + i), bottom);
        const __mmask16 in = _mm512_cmplt_epu32_mask(part, width);
        _mm512_storeu_si512(positions + found, _mm512_maskz_compress_epi32(in, here));
        found += __builtin_popcount(in);
    }
#endif
    for (; i < n; i++) {
        positions[found] = from + (uint32_t)i;
        found += x[i] - low < above - low;
    }
    return found;
}

#define EACH_CHUNK(count) \
    for (index_t at = 0, n = 0; at < (count); at += n) if ((n = (count) - at < CHUNK ? (count) - at : CHUNK), 1)


#endif
