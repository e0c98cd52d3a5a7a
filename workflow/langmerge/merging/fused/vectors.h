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
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#ifndef __FMA__
#ifndef __ARM_FEATURE_FMA
#error "needs fused multiply-add in hardware"
#endif
#endif

#define CHUNK 1024
#define LANES 32
#define RUN 65536u
#define API __attribute__((visibility("default")))

typedef int64_t index_t;

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

static inline void load(values_t values, index_t at, int n, float *restrict out)
{
    if (values.data == NULL) {
        memset(out, 0, n * sizeof(float));
    } else if (values.kind == BFLOAT16) {
        const uint16_t *restrict x = (const uint16_t *)values.data + at;
        for (int i = 0; i < n; i++) out[i] = from_bits((uint32_t)x[i] << 16);
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
        const uint16_t *restrict x = (const uint16_t *)model.data + at, *restrict y = (const uint16_t *)base.data + at;
        for (int i = 0; i < n; i++) out[i] = from_bits((uint32_t)x[i] << 16) - from_bits((uint32_t)y[i] << 16);
    } else {
        float other[CHUNK];
        load(model, at, n, out);
        load(base, at, n, other);
        for (int i = 0; i < n; i++) out[i] -= other[i];
    }
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
    difference(v->model, v->base, at, n, out);
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
    if (v->cuts == 2) {
        float upper[CHUNK];
        memcpy(upper, out, n * sizeof(float));
        trim(upper, at, n, v->threshold[1], v->last[1], v->first[1]);
        trim(out, at, n, v->threshold[0], v->last[0], v->first[0]);
        for (int i = 0; i < n; i++) out[i] -= upper[i];
    } else if (v->cuts == 1) {
        trim(out, at, n, v->threshold[0], v->last[0], v->first[0]);
    }
    if (v->rematch != 1.0f)
        for (int i = 0; i < n; i++) out[i] *= v->rematch;
}

#define EACH_CHUNK(count) \
    for (index_t at = 0, n = 0; at < (count); at += n) if ((n = (count) - at < CHUNK ? (count) - at : CHUNK), 1)

/* Dot product of two whole chunks. */
static inline double dot(const float *restrict one, const float *restrict two)
{
    float lanes[LANES] = {0};
    double total = 0;
    for (int i = 0; i < CHUNK; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] = fmaf(one[i + l], two[i + l], lanes[l]);
    for (int l = 0; l < LANES; l++) total += lanes[l];
    if (isfinite(total)) return total;
    total = 0;
    for (int i = 0; i < CHUNK; i++) total += (double)one[i] * two[i];
    return total;
}

#endif
