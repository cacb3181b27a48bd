/* Product quantisation: a rotated row is cut into groups of coordinates, and each group is named by the nearest of 16 centres that
 * k-means found for it. A search makes a table of distances from its own groups to those centres, and one pass of table
 * look-ups gives every row an estimate; the best few hundred are compared by their int8 codes, the best of those by their vectors.
 * It looks at every row: simpler than rabitq, slower from some ten thousand rows on. How many are compared is a number here: rows
 * of one neighbourhood are coded wrong in the same direction, so their errors know no bound that would help.
 *
 * Codes lie in the blocks of RV_ONEBIT, whose table of 16 sums is just what 16 centres need. A block is the rows of 32 slots; a
 * slot that does not live has an infinite distance.
 * Source: Jegou, Douze and Schmid 2011, "Product quantization for nearest neighbor search"; Andre, Kermarrec and Le Scouarnec
 * 2017 for the look-ups in a register. */
#include "vector/rabitq_priv.h"

#include <math.h>
#include <string.h>

enum {
    TAG_BOOKS = 100,
    TAG_BLOCKS,

    CENTRES = 16,
    TRAIN_ROWS = 1000,
    TRAIN_DIM = 16,
    SAMPLE_ROWS = 4096,
    ROUNDS = 8,
    LARGEST = 63, /* of a table: four are added in a byte */
    RUN = 2048,   /* rows scanned at a time, a multiple of 32 */
    BITS = 2,
    COMPARED_PER_HIT = 32, /* rows compared by int8 codes, and at least */
    COMPARED_MIN = 400,
};

typedef struct pq {
    size_t width,
        groups; /* coordinates of a group: 4, 2 or 1; groups rounded up to 4, those beyond the dimension are 0 */
    float *books; /* [groups][16][width] NULL: not trained yet */
    bool books_mapped, blocks_mapped;
    uint8_t *blocks; /* [blocks_room] */
    size_t blocks_room;
} pq;

typedef struct pq_scratch {
    rv_scratch base;
    float *rotated;  /* [groups * width] */
    float *exact;    /* [groups][16] */
    uint8_t *table;  /* [groups][16] */
    uint32_t *at;    /* [RUN] */
    float *low;      /* [RUN] */
    uint32_t *slots; /* [2 * compared + RUN] the best so far, and */
    float *lows;     /* their estimates */
    size_t compared; /* for so many there is room */
} pq_scratch;

static rv_err configure(rv_index_config *config)
{
    config->bits = config->bits ? config->bits : BITS;
    if (config->bits != 1 && config->bits != 2 && config->bits != 4) {
        return rv_fail(RV_E_ARG, "pq codes have 1, 2 or 4 bits a dimension, not %zu", config->bits);
    }
    if (config->dim * config->bits > RV_ONEBIT_DIM_MAX) {
        return rv_fail(RV_E_ARG, "pq takes up to %zu dimensions of %zu bits, these are %zu",
                       RV_ONEBIT_DIM_MAX / config->bits, config->bits, config->dim);
    }
    return RV_OK;
}

/* ---- blocks ---- */

static size_t block_bytes(const pq *p)
{
    return RV_ONEBIT_BLOCK_BYTES(4 * p->groups);
}

static size_t blocks_of(size_t n_slots)
{
    return (n_slots + RV_ONEBIT_ROWS - 1) / RV_ONEBIT_ROWS;
}

static float *factors_of(const pq *p, uint32_t slot)
{
    uint8_t *block = p->blocks + slot / RV_ONEBIT_ROWS * block_bytes(p);
    return (float *)(void *)(block + 16 * p->groups) + slot % RV_ONEBIT_ROWS;
}

static rv_err room_for(rv_index *index, pq *p, size_t n_slots)
{
    size_t room = blocks_of(n_slots);
    if (!p->books || (room <= p->blocks_room && !p->blocks_mapped)) {
        return RV_OK;
    }
    size_t used = p->blocks_room;
    room = room > used ? room : used;
    uint8_t *blocks =
        rv_big_grow(index->mem, p->blocks, p->blocks_mapped, used * block_bytes(p), room * block_bytes(p));
    if (!blocks) {
        return rv_fail(RV_E_NOMEM, "no memory for the codes of %zu vectors", n_slots);
    }
    p->blocks = blocks;
    p->blocks_mapped = false;
    p->blocks_room = room;
    memset(blocks + used * block_bytes(p), 0, (room - used) * block_bytes(p));
    for (size_t slot = used * RV_ONEBIT_ROWS; slot < room * RV_ONEBIT_ROWS; slot++) {
        factors_of(p, (uint32_t)slot)[0] = INFINITY;
    }
    return RV_OK;
}

/* ---- codes ---- */

static void decode(const rv_rows *rows, const pq *p, uint32_t slot, float *out)
{
    const uint8_t *code = rows->codes + slot * rows->stride;
    for (size_t i = 0; i < p->groups * p->width; i++) {
        out[i] = i < rows->dim ? rows->scales[slot].scale * (float)((int)code[i] - 128) : 0;
    }
}

static float square_to(const float *x, const float *centre, size_t width)
{
    float sum = 0;
    for (size_t i = 0; i < width; i++) {
        sum += (x[i] - centre[i]) * (x[i] - centre[i]);
    }
    return sum;
}

static unsigned nearest(const float *x, const float *book, size_t width, float *square)
{
    unsigned best = 0;
    *square = square_to(x, book, width);
    for (unsigned c = 1; c < CENTRES; c++) {
        float distance = square_to(x, book + c * width, width);
        if (distance < *square) {
            *square = distance;
            best = c;
        }
    }
    return best;
}

/* What was lost of a row is the mean of the error of its squared distance. */
static void encode(rv_index *index, pq *p, uint32_t slot)
{
    const rv_rows *rows = &index->rows;
    float row[RV_ONEBIT_DIM_MAX + 16];
    uint8_t *block = p->blocks + slot / RV_ONEBIT_ROWS * block_bytes(p);
    size_t r = slot % RV_ONEBIT_ROWS;
    float lost = 0;
    decode(rows, p, slot, row);
    for (size_t g = 0; g < p->groups; g++) {
        float square;
        const float *book = p->books + g * CENTRES * p->width;
        unsigned c = nearest(row + g * p->width, book, p->width, &square);
        uint8_t *at = block + 16 * g + r % 16;
        *at = (uint8_t)(r < 16 ? (*at & 0xf0u) | c : (*at & 0x0fu) | c << 4);
        lost += square;
    }
    bool product = rows->metric == RV_INDEX_IP;
    float *f = factors_of(p, slot);
    f[0] = product ? 0 : lost;
    f[RV_ONEBIT_ROWS] = -1;
    f[2 * RV_ONEBIT_ROWS] = 0;
}

/* ---- training ---- */

/* The centres of one group: k-means over points [n][width], beginning with sixteen of them. */
static void train_book(const float *points, size_t n, size_t width, float *book)
{
    for (size_t c = 0; c < CENTRES; c++) {
        memcpy(book + c * width, points + c * n / CENTRES * width, width * sizeof *book);
    }
    for (int round = 0; round < ROUNDS; round++) {
        float sums[CENTRES][4] = { { 0 } };
        size_t counts[CENTRES] = { 0 };
        for (size_t i = 0; i < n; i++) {
            float square;
            unsigned c = nearest(points + i * width, book, width, &square);
            counts[c]++;
            for (size_t j = 0; j < width; j++) {
                sums[c][j] += points[i * width + j];
            }
        }
        for (size_t c = 0; c < CENTRES; c++) {
            for (size_t j = 0; j < width && counts[c] > 0; j++) {
                book[c * width + j] = sums[c][j] / (float)counts[c];
            }
        }
    }
}

typedef struct training {
    const pq *p;
    const float *rows; /* [n][groups * width] */
    size_t n;
    float *books;
    float *points; /* [threads][n][width] */
} training;

static void train_part(void *arg, int thread, int n_threads)
{
    const training *t = arg;
    const size_t width = t->p->width;
    float *points = t->points + (size_t)thread * t->n * width;
    size_t from, to;
    rv_pool_split(t->p->groups, 1, thread, n_threads, &from, &to);
    for (size_t g = from; g < to; g++) {
        for (size_t i = 0; i < t->n; i++) {
            memcpy(points + i * width, t->rows + (i * t->p->groups + g) * width, width * sizeof *points);
        }
        train_book(points, t->n, width, t->books + g * CENTRES * width);
    }
}

/* Books out of a sample of the live rows, then codes of them all. */
static rv_err train(rv_index *index, pq *p, rv_pool *pool)
{
    const rv_rows *rows = &index->rows;
    const size_t step = rows->n_live / SAMPLE_ROWS + 1, row_floats = p->groups * p->width;
    training t = { .p = p };
    float *sample = rv_new_array(index->mem, rows->n_live / step + 1, row_floats * sizeof *sample);
    t.books = rv_new_array(index->mem, p->groups, CENTRES * p->width * sizeof *t.books);
    t.points = rv_new_array(index->mem, (size_t)rv_pool_threads(pool),
                            (rows->n_live / step + 1) * p->width * sizeof *t.points);
    rv_err e = sample && t.books && t.points ? RV_OK : rv_fail(RV_E_NOMEM, "no memory to train pq");
    size_t at = 0;
    for (uint32_t slot = 0; slot < rows->n && !e; slot++) {
        if (rv_rows_live(rows, slot) && at++ % step == 0) {
            decode(rows, p, slot, sample + t.n++ * row_floats);
        }
    }
    if (!e) {
        t.rows = sample;
        rv_pool_run(pool, train_part, &t);
        p->books = t.books;
        t.books = NULL;
        e = room_for(index, p, rows->room);
        if (e) { /* untrained again */
            rv_free(index->mem, p->books);
            p->books = NULL;
        }
    }
    rv_free(index->mem, sample);
    rv_free(index->mem, t.books);
    rv_free(index->mem, t.points);
    return e;
}

typedef struct encoding {
    rv_index *index;
    pq *p;
} encoding;

/* Whole blocks for each thread: two rows share a byte. */
static void encode_part(void *arg, int thread, int n_threads)
{
    const encoding *e = arg;
    size_t from, to;
    rv_pool_split(e->index->rows.n, RV_ONEBIT_ROWS, thread, n_threads, &from, &to);
    for (size_t slot = from; slot < to; slot++) {
        if (rv_rows_live(&e->index->rows, (uint32_t)slot)) {
            encode(e->index, e->p, (uint32_t)slot);
        }
    }
}

/* ---- rows come and go ---- */

/* Few rows, or rows of few coordinates, are better compared by int8 codes at once. */
static bool worth_training(const rv_index *index, const pq *p)
{
    return !p->books && index->rows.n_live >= TRAIN_ROWS && index->rows.dim >= TRAIN_DIM;
}

static rv_err reserve(rv_index *index, size_t n, bool was_mapped)
{
    (void)n;
    for (uint32_t slot = 0; was_mapped && slot < index->rows.n; slot++) {
        if (!rv_rows_live(&index->rows, slot)) {
            rv_rows_recycle(&index->rows, slot);
        }
    }
    return room_for(index, index->self, index->rows.room);
}

static void add(rv_index *index, uint32_t slot)
{
    pq *p = index->self;
    if (p->books) {
        encode(index, p, slot);
    } else if (worth_training(index, p) && index->rows.n_live % TRAIN_ROWS == 0 && !train(index, p, NULL)) {
        encode_part(&(encoding){ index, p }, 0,
                    1); /* without memory: by int8 codes, until the next thousand */
    }
}

static rv_err build(rv_index *index, rv_pool *pool, const uint32_t *slots, size_t n,
                    rv_index_progress *progress, void *self)
{
    pq *p = index->self;
    (void)slots;
    if (progress && !progress(self, 0)) {
        return rv_fail(RV_E_CANCELLED, "building was stopped");
    }
    if (worth_training(index, p)) {
        RV_TRY(train(index, p, pool));
    }
    if (p->books) {
        rv_pool_run(pool, encode_part, &(encoding){ index, p });
    }
    if (progress) {
        progress(self, n);
    }
    return RV_OK;
}

static void remove_rows(rv_index *index, const uint32_t *slots, size_t n)
{
    pq *p = index->self;
    for (size_t i = 0; i < n; i++) {
        if (p->books) {
            factors_of(p, slots[i])[0] = INFINITY;
        }
        rv_rows_recycle(&index->rows, slots[i]);
    }
}

/* ---- search ---- */

static void scratch_deinit(rv_index *index, rv_scratch *base)
{
    pq_scratch *s = (pq_scratch *)base;
    void *all[] = { s->rotated, s->exact, s->table, s->at, s->low, s->slots, s->lows };
    for (size_t i = 0; i < RV_COUNT(all); i++) {
        rv_free(index->mem, all[i]);
    }
}

static rv_err scratch_fit(const rv_index *index, const pq *p, pq_scratch *s, size_t compared)
{
    const rv_alloc *mem = index->mem;
    s->rotated = s->rotated ? s->rotated : rv_new_array(mem, p->groups, p->width * sizeof *s->rotated);
    s->exact = s->exact ? s->exact : rv_new_array(mem, p->groups, CENTRES * sizeof *s->exact);
    s->table = s->table ? s->table : rv_new_aligned(mem, 64, p->groups * CENTRES);
    s->at = s->at ? s->at : rv_new_aligned(mem, 64, RUN * sizeof *s->at);
    s->low = s->low ? s->low : rv_new_aligned(mem, 64, RUN * sizeof *s->low);
    if (s->compared < compared) {
        rv_free(mem, s->slots);
        rv_free(mem, s->lows);
        s->slots = rv_new_array(mem, 2 * compared + RUN, sizeof *s->slots);
        s->lows = rv_new_array(mem, 2 * compared + RUN, sizeof *s->lows);
        s->compared = s->slots && s->lows ? compared : 0;
    }
    return s->rotated && s->exact && s->table && s->at && s->low && s->compared
               ? RV_OK
               : rv_fail(RV_E_NOMEM, "no memory to search");
}

/* For each group and centre what it adds: to the squared distance without the query's own square, or to minus the product. Then
 * in steps, LARGEST of them for the group that differs most. */
static rv_onebit_query ask(const rv_index *index, const pq *p, pq_scratch *s)
{
    const bool product = index->rows.metric == RV_INDEX_IP;
    float widest = 0, least = 0;
    for (size_t g = 0; g < p->groups; g++) {
        const float *x = s->rotated + g * p->width;
        float *exact = s->exact + g * CENTRES, low = INFINITY, high = -INFINITY;
        for (size_t c = 0; c < CENTRES; c++) {
            const float *centre = p->books + (g * CENTRES + c) * p->width;
            float sum = 0;
            for (size_t i = 0; i < p->width; i++) {
                sum += product ? -x[i] * centre[i] : centre[i] * (centre[i] - 2 * x[i]);
            }
            exact[c] = sum;
            low = sum < low ? sum : low;
            high = sum > high ? sum : high;
        }
        for (size_t c = 0; c < CENTRES; c++) {
            exact[c] -= low;
        }
        least += low;
        widest = high - low > widest ? high - low : widest;
    }
    rv_onebit_query q = { .table = s->table, .dim = 4 * p->groups, .base = least, .step = widest / LARGEST };
    for (size_t i = 0; i < p->groups * CENTRES; i++) {
        float steps = s->exact[i] / q.step + 0.5f; /* no number when all are equal, or a file is damaged */
        s->table[i] = steps < LARGEST ? (uint8_t)steps : q.step > 0 ? LARGEST : 0;
    }
    return q;
}

/* The slots of the best estimates among rows that pass; how many. A filter that is asked is asked here: later it could leave too
 * few. */
static size_t estimate(const rv_index *index, const pq *p, pq_scratch *s, const rv_filter *filter,
                       size_t compared)
{
    const rv_rows *rows = &index->rows;
    const rv_onebit_query q = ask(index, p, s);
    float limit = INFINITY;
    size_t n = 0;
    for (size_t from = 0; from < rows->n; from += RUN) {
        const uint8_t *blocks = p->blocks + from / RV_ONEBIT_ROWS * block_bytes(p);
        size_t n_rows = rows->n - from < RUN ? rows->n - from : RUN;
        rv_pages_touch(rows->pages, blocks, (n_rows + RV_ONEBIT_ROWS - 1) / RV_ONEBIT_ROWS * block_bytes(p));
        size_t found = rows->kernels->onebit_scan(&q, blocks, n_rows, limit, s->at, s->low);
        s->base.told.compared += n_rows;
        for (size_t i = 0; i < found; i++) {
            uint32_t slot = (uint32_t)from + s->at[i];
            if (rv_rows_live(rows, slot) && rv_filter_passes(filter, rows->ids[slot])) {
                s->slots[n] = slot;
                s->lows[n++] = s->low[i];
            }
        }
        if (n > 2 * compared) {
            rv_smallest_first(rows->kernels, s->lows, s->slots, n, compared);
            n = compared;
            limit = rv_largest(s->lows, n);
        }
    }
    if (n > compared) {
        rv_smallest_first(rows->kernels, s->lows, s->slots, n, compared);
        n = compared;
    }
    return n;
}

/* Of n slots, by int8 codes. */
static void compare(const rv_index *index, pq_scratch *s, const rv_row_query *query, size_t n)
{
    rv_scratch *base = &s->base;
    for (size_t from = 0; from < n; from += RV_SCRATCH_BLOCK) {
        size_t some = n - from < RV_SCRATCH_BLOCK ? n - from : RV_SCRATCH_BLOCK;
        rv_rows_distances(&index->rows, query, s->slots + from, some, base->sums, base->distances);
        rv_near_offer(&base->near, s->slots + from, base->distances, some);
    }
}

static rv_err search(rv_index *index, rv_scratch *base, const float *query, const rv_search *how,
                     rv_hit *hits, size_t *found)
{
    const pq *p = index->self;
    const rv_rows *rows = &index->rows;
    pq_scratch *s = (pq_scratch *)base;
    const rv_filter *filter = how->filter;
    if (!p->books || how->k >= rows->n_live / 4 ||
        (filter && filter->bits && base->passing < rows->n_live / 8)) {
        return rv_index_scan(index, base, query, how, hits, found);
    }
    size_t keep = how->rerank ? how->rerank : how->k + how->k / 2 + 5;
    keep = keep > how->k ? keep : how->k;
    size_t compared = COMPARED_PER_HIT * how->k > COMPARED_MIN ? COMPARED_PER_HIT * how->k : COMPARED_MIN;
    compared = compared > keep ? compared : keep;
    RV_TRY(scratch_fit(index, p, s, compared));
    const rv_row_query asked = rv_rows_ask(rows, query, base->rotated, base->code);
    memcpy(s->rotated, base->rotated, rows->dim * sizeof *s->rotated); /* beyond it zeros stay */
    RV_TRY(rv_near_begin(index, base, how->k, keep, how->rerank ? NULL : &asked));
    compare(index, s, &asked, estimate(index, p, s, filter, compared));
    rv_index_rank(index, base, query, how->k, hits, found);
    return RV_OK;
}

/* ---- an index of this kind ---- */

static rv_err open_index(rv_index *index, const rv_sections *file)
{
    pq *p = rv_new(index->mem, sizeof *p);
    if (!p) {
        return rv_fail(RV_E_NOMEM, "no memory for an index");
    }
    index->self = p;
    p->width = 4 / index->config.bits;
    p->groups = ((index->rows.dim + p->width - 1) / p->width + 3) / 4 * 4;
    if (!file) {
        return RV_OK;
    }
    const void *books, *blocks;
    const size_t n = p->groups * CENTRES * p->width * sizeof *p->books, n_blocks = blocks_of(index->rows.n);
    if (!rv_sections_get(file, TAG_BOOKS, 0, &books)) {
        return RV_OK; /* saved before it was trained */
    }
    RV_TRY(rv_sections_get(file, TAG_BOOKS, n, &books));
    RV_TRY(rv_sections_map(file, TAG_BLOCKS, n_blocks * block_bytes(p), &blocks));
    p->books = (float *)(uintptr_t)books; /* mapped: nothing writes there */
    p->blocks = (uint8_t *)(uintptr_t)blocks;
    p->books_mapped = p->blocks_mapped = true;
    p->blocks_room = n_blocks;
    return RV_OK;
}

static void close_index(rv_index *index)
{
    pq *p = index->self;
    if (p && !p->books_mapped) {
        rv_free(index->mem, p->books);
    }
    if (p && !p->blocks_mapped) {
        rv_free(index->mem, p->blocks);
    }
    rv_free(index->mem, p);
}

static void sections(const rv_index *index, rv_sections *out)
{
    const pq *p = index->self;
    const size_t n = p->groups * CENTRES * p->width * sizeof *p->books;
    rv_sections_put(out, TAG_BOOKS, p->books, p->books ? n : 0);
    rv_sections_put(out, TAG_BLOCKS, p->blocks, p->books ? blocks_of(index->rows.n) * block_bytes(p) : 0);
}

static rv_err check(const rv_index *index)
{
    const pq *p = index->self;
    for (uint32_t slot = 0; p->books && slot < index->rows.n; slot++) {
        if (rv_rows_live(&index->rows, slot) && !isfinite(factors_of(p, slot)[0])) {
            return rv_fail(RV_E_CORRUPT, "index: slot %u lives and has no code", slot);
        }
    }
    return RV_OK;
}

static void bytes(const rv_index *index, rv_index_size *size)
{
    const pq *p = index->self;
    if (p->books) {
        size->hot += p->groups * CENTRES * p->width * sizeof *p->books + p->blocks_room * block_bytes(p);
    }
}

const rv_index_ops rv_pq_ops = { .kind = "pq",
                                 .coded = true,
                                 .scratch_bytes = sizeof(pq_scratch),
                                 .configure = configure,
                                 .open = open_index,
                                 .close = close_index,
                                 .reserve = reserve,
                                 .add = add,
                                 .build = build,
                                 .remove = remove_rows,
                                 .search = search,
                                 .scratch_deinit = scratch_deinit,
                                 .sections = sections,
                                 .check = check,
                                 .bytes = bytes };
