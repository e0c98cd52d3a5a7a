/* Ranks of magnitudes within rows, and the drops of DELLA that they decide. */

#include "vectors.h"

/* Rank of each magnitude in its row, 0 the smallest, equal ones in the order of columns.

   Magnitudes are spread over about as many cells as there are columns in equal steps of value; a cell then
   holds few, which are ordered by insertion. A row that would take many moves is sorted instead. */
typedef struct { uint32_t key, column; } place_t;

static int by_key(const void *one, const void *two)
{
    const place_t *a = one, *b = two;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->column < b->column ? -1 : 1;
}

API int row_ranks(const vector_t *v, index_t rows, index_t columns, float *ranks)
{
    const index_t cells = columns;
    uint32_t *start = malloc((cells + 2) * sizeof(uint32_t));
    uint32_t *cell = malloc((columns + CHUNK) * sizeof(uint32_t));
    float *x = malloc((columns + CHUNK) * sizeof(float));
    place_t *places = malloc((columns + 1) * sizeof(place_t));
    const int enough = start && cell && x && places;
    for (index_t row = 0; enough && row < rows; row++) {
        float largest = 0, *result = ranks + row * columns;
        for (index_t at = 0; at < columns; at += CHUNK) {
            const int n = columns - at < CHUNK ? columns - at : CHUNK;
            difference(v->model, v->base, row * columns + at, n, x + at);
        }
        for (index_t i = 0; i < columns; i++) {
            x[i] = fabsf(x[i]);
            largest = x[i] > largest ? x[i] : largest;
        }
        if (largest == 0) {
            for (index_t i = 0; i < columns; i++) result[i] = i;
            continue;
        }
        const double step = (cells - 1) / (double)largest;
        const float scale = step < 1e38 ? (float)step : 1e38f;
        memset(start, 0, (cells + 2) * sizeof(uint32_t));
        for (index_t i = 0; i < columns; i++) {
            const float where = x[i] * scale;
            cell[i] = where < cells ? (uint32_t)(int32_t)where : (uint32_t)cells - 1;
        }
        for (index_t i = 0; i < columns; i++) start[cell[i] + 1]++;
        uint32_t sum = 0;
        for (index_t c = 1; c <= cells; c++) {
            const uint32_t here = start[c];
            start[c] = sum;
            sum += here;
        }
        /* start[c + 1] is where cell c begins, and moves on as its entries come in. */
        for (index_t i = 0; i < columns; i++) places[start[cell[i] + 1]++] = (place_t){to_bits(x[i]), (uint32_t)i};
        index_t moves = 0;
        for (index_t i = 1; i < columns && moves < 16 * columns; i++) { /* stable, as cells keep the order of columns */
            const place_t now = places[i];
            index_t j = i;
            for (; j > 0 && places[j - 1].key > now.key; j--) places[j] = places[j - 1];
            places[j] = now;
            moves += i - j;
        }
        if (moves >= 16 * columns) qsort(places, columns, sizeof(place_t), by_key);
        for (index_t i = 0; i < columns; i++) result[places[i].column] = (float)i;
    }
    free(start);
    free(cell);
    free(x);
    free(places);
    return enough;
}

/* How many random numbers of 2^31 keep an entry of this rank; never less for a larger rank. */
static inline uint32_t limit_of(const vector_t *v, float rank)
{
    const float limit = (rank * v->slope + v->offset) * 2147483648.0f;
    const float inside = limit > 0 && limit < 2147483648.0f ? limit : 0;
    return limit < 2147483648.0f ? (uint32_t)(int32_t)inside : (uint32_t)1 << 31;
}

static void mark(uint64_t *mask, index_t at, int n, const uint8_t *restrict kept)
{
    int i = 0;
#ifdef __AVX512BW__
    if (at % 64 == 0)
        for (; i + 64 <= n; i += 64) {
            const __m512i part = _mm512_loadu_si512(kept + i);
            mask[(at + i) >> 6] = _mm512_test_epi8_mask(part, part);
        }
#endif
    for (; i < n; i++) mask[(at + i) >> 6] |= (uint64_t)kept[i] << ((at + i) & 63);
}

/* Pack which entries the random numbers keep by share, one bit an entry; mask is 0 before. */
API void pack_by_share(const vector_t *v, index_t start, index_t count, uint64_t *mask)
{
    uint32_t bits[CHUNK];
    uint8_t kept[CHUNK];
    EACH_CHUNK(count) {
        random_bits(v->keys, start, at, n, bits);
        for (int i = 0; i < n; i++) kept[i] = (bits[i] - v->limit) >> 31;
        mark(mask, at, n, kept);
    }
}

/* The same by rank in the row. The rank matters only to entries whose random number lies between the limits of the
   smallest and the largest entry; and to most of these it is enough to know it to a few ranks, which counts of
   magnitudes in cells of equal width tell. For the others it is counted. */
enum { CELLS = 256 };

/* One run of a row: magnitudes, random numbers, which entries are kept for certain; the largest. */
static float look(const vector_t *v, index_t start, index_t at, int n, uint32_t least, float *restrict x,
                  uint32_t *restrict bits, uint8_t *restrict kept)
{
    float lanes[LANES] = {0}, largest = 0;
    random_bits(v->keys, start, at, n, bits);
    difference(v->model, v->base, at, n, x);
    for (int i = 0; i < n; i++) x[i] = fabsf(x[i]);
    memset(x + n, 0, (CHUNK - n) * sizeof(float));
    for (int i = 0; i < CHUNK; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    for (int l = 0; l < LANES; l++) largest = lanes[l] > largest ? lanes[l] : largest;
    for (int i = 0; i < n; i++) kept[i] = bits[i] < least;
    return largest;
}

static int rank_of(const float *restrict x, index_t which, index_t columns)
{
    const float value = x[which];
    int rank = 0;
    for (index_t i = 0; i < which; i++) rank += x[i] <= value;
    for (index_t i = which + 1; i < columns; i++) rank += x[i] < value;
    return rank;
}

/* Numbers of entries in smaller cells, and the limits that ranks of these numbers have. */
static void spread(const vector_t *v, const float *restrict x, index_t columns, float scale, uint8_t *restrict cell,
                   uint32_t *restrict limits)
{
    uint32_t begin[CELLS + 1] = {0}, others[3][CELLS + 1] = {{0}}; /* neighbours often fall into the same cell */
    index_t i = 0;
    for (index_t i = 0; i < columns; i++) {
        const float where = x[i] * scale;
        cell[i] = (uint8_t)(int32_t)(where < CELLS - 1 ? where : CELLS - 1);
    }
    for (; i + 4 <= columns; i += 4) {
        begin[cell[i] + 1]++;
        for (int o = 0; o < 3; o++) others[o][cell[i + 1 + o] + 1]++;
    }
    for (; i < columns; i++) begin[cell[i] + 1]++;
    for (int c = 1; c <= CELLS; c++) begin[c] += others[0][c] + others[1][c] + others[2][c];
    for (int c = 1; c <= CELLS; c++) begin[c] += begin[c - 1];
    for (int c = 0; c <= CELLS; c++) limits[c] = limit_of(v, (float)(int32_t)begin[c]);
}

API int pack_by_rank(const vector_t *v, index_t start, index_t rows, index_t columns, uint64_t *mask)
{
    const uint32_t least = limit_of(v, 0), most = limit_of(v, columns - 1);
    float *x = malloc((columns + CHUNK) * sizeof(float));
    uint32_t *bits = malloc((columns + CHUNK) * sizeof(uint32_t)), limits[CELLS + 1];
    uint32_t *list = malloc((columns + LANES) * sizeof(uint32_t));
    uint8_t *kept = malloc(columns), *cell = malloc(columns);
    const int enough = x && bits && list && kept && cell;
    for (index_t row = 0; enough && row < rows; row++) {
        float largest = 0;
        index_t unsure = 0, unknown = 0;
        for (index_t at = 0; at < columns; at += CHUNK) {
            const int n = columns - at < CHUNK ? columns - at : CHUNK;
            const index_t from = row * columns + at;
            const float here = look(v, start, from, n, least, x + at, bits + at, kept + at);
            largest = here > largest ? here : largest;
            unsure += pick_between(bits + at, n, least, most, (uint32_t)at, list + unsure);
        }
        const double step = largest > 0 ? (CELLS - 1) / (double)largest : 0;
        spread(v, x, columns, step < 1e38 ? (float)step : 1e38f, cell, limits);
        for (index_t u = 0; u < unsure; u++) {
            const uint32_t i = list[u], number = bits[i];
            const int surely = number < limits[cell[i]];
            kept[i] = surely;
            list[unknown] = i;
            unknown += !surely & (number < limits[cell[i] + 1]);
        }
        for (index_t u = 0; u < unknown; u++) kept[list[u]] = bits[list[u]] < limit_of(v, rank_of(x, list[u], columns));
        for (index_t at = 0; at < columns; at += CHUNK)
            mark(mask, row * columns + at, columns - at < CHUNK ? columns - at : CHUNK, kept + at);
    }
    free(x);
    free(bits);
    free(list);
    free(kept);
    free(cell);
    return enough;
}
