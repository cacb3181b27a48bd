/* Where the centres come from, and which is nearest to a row: k-means over a sample, products of many rows with many centres
 * as int8 matrix products. The result does not depend on the number of threads: a centre's rows are summed in their order. */
#include "base/rng.h"
#include "vector/rabitq_priv.h"

#include <math.h>
#include <string.h>

enum {
    ROWS_AT_ONCE = 32, /* a product of 4,096 centres then has 512 KB of results */
    ROWS_PER_LIST = 200,
    SAMPLE_PER_CENTRE = 40, /* 20 to 80 make no difference to recall */
    ROUNDS = 8,
};

/* ---- centres as an int8 matrix ---- */

typedef struct centre_matrix {
    const rv_alloc *mem;
    rv_matrix w;
    size_t cols;  /* dim rounded up to 32 */
    float *norms; /* [rows] squared lengths */
} centre_matrix;

static void matrix_deinit(centre_matrix *m)
{
    rv_free(m->mem, (void *)m->w.raw);
    rv_free(m->mem, (void *)m->w.packed);
    rv_free(m->mem, m->norms);
}

static void quantize_row(const rv_kernels *k, const float *x, size_t dim, size_t cols, rv_block_q8_0 *out)
{
    for (size_t i = 0; i < cols; i += 32, out++) {
        size_t n = dim - i < 32 ? dim - i : 32;
        float largest = 0;
        for (size_t j = 0; j < n; j++) {
            largest = fabsf(x[i + j]) > largest ? fabsf(x[i + j]) : largest;
        }
        float d = largest / 127, to_code = largest > 0 ? 127 / largest : 0;
        k->f32_to_f16(&d, &out->d, 1);
        for (size_t j = 0; j < 32; j++) {
            out->qs[j] = (int8_t)(j < n ? lrintf(x[i + j] * to_code) : 0);
        }
    }
}

static rv_err matrix_init(centre_matrix *m, const rabitq *r, const float *centres, size_t n)
{
    const rv_kernels *k = r->rows->kernels;
    size_t cols = (r->dim + 31) / 32 * 32, row_bytes = cols / 32 * sizeof(rv_block_q8_0);
    *m = (centre_matrix){ .mem = r->mem, .cols = cols };
    rv_block_q8_0 *raw = rv_new_array(r->mem, n, row_bytes);
    size_t packed_bytes = k->pack_bytes(RV_Q8_0, n, cols);
    void *packed = packed_bytes ? rv_new_aligned(r->mem, 64, packed_bytes) : NULL;
    m->w = (rv_matrix){ .type = RV_Q8_0, .rows = n, .cols = cols, .raw = raw, .packed = packed };
    m->norms = rv_new_array(r->mem, n, sizeof *m->norms);
    if (!raw || !m->norms || (packed_bytes && !packed)) {
        matrix_deinit(m);
        return rv_fail(RV_E_NOMEM, "no memory for %zu centres", n);
    }
    for (size_t c = 0; c < n; c++) {
        quantize_row(k, centres + c * r->dim, r->dim, cols, raw + c * (cols / 32));
        m->norms[c] = k->dot_f32(centres + c * r->dim, centres + c * r->dim, r->dim);
    }
    if (packed) {
        k->pack(&m->w, 0, n, packed);
    }
    return RV_OK;
}

/* ---- the nearest centre ---- */

typedef struct nearest_job {
    const rabitq *r;
    const centre_matrix *m;
    const uint32_t *slots;
    size_t n;
    uint32_t *out;
    uint8_t *scratch; /* [threads][scratch_bytes] */
    size_t scratch_bytes;
} nearest_job;

static size_t round_64(size_t n)
{
    return (n + 63) / 64 * 64;
}

static void nearest_part(void *arg, int thread, int n_threads)
{
    const nearest_job *job = arg;
    const rabitq *r = job->r;
    const centre_matrix *m = job->m;
    const size_t cols = m->cols, n_centres = m->w.rows;
    uint8_t *scratch = job->scratch + (size_t)thread * job->scratch_bytes;
    float *x = (float *)(void *)scratch, *products = x + ROWS_AT_ONCE * cols;
    void *act_scratch = scratch + round_64((cols + n_centres) * ROWS_AT_ONCE * sizeof(float));
    size_t from, to;
    rv_pool_split(job->n, ROWS_AT_ONCE, thread, n_threads, &from, &to);
    for (; from < to; from += ROWS_AT_ONCE) {
        size_t n = to - from < ROWS_AT_ONCE ? to - from : ROWS_AT_ONCE;
        for (size_t i = 0; i < n; i++) {
            rabitq_decode(r, job->slots[from + i], x + i * cols);
            memset(x + i * cols + r->dim, 0, (cols - r->dim) * sizeof *x);
        }
        rv_act act;
        rv_act_fill(r->rows->kernels, x, cols, cols, n, act_scratch, &act);
        r->rows->kernels->matmul(&m->w, &act, 0, n_centres, products, n_centres);
        for (size_t i = 0; i < n; i++) {
            const float *product = products + i * n_centres;
            float least = INFINITY;
            uint32_t best = 0;
            for (size_t c = 0; c < n_centres; c++) {
                float distance = m->norms[c] - 2 * product[c];
                best = distance < least ? (uint32_t)c : best;
                least = distance < least ? distance : least;
            }
            job->out[from + i] = best;
        }
    }
}

static rv_err nearest(const rabitq *r, rv_pool *pool, const centre_matrix *m, const uint32_t *slots, size_t n,
                      uint32_t *out)
{
    nearest_job job = { r, m, slots, n, out, NULL, 0 };
    job.scratch_bytes = round_64((m->cols + m->w.rows) * ROWS_AT_ONCE * sizeof(float)) +
                        round_64(rv_act_bytes(m->cols, ROWS_AT_ONCE));
    job.scratch = rv_new_aligned(r->mem, 64, job.scratch_bytes * (size_t)rv_pool_threads(pool));
    if (!job.scratch) {
        return rv_fail(RV_E_NOMEM, "no memory to sort vectors into lists");
    }
    rv_pool_run(pool, nearest_part, &job);
    rv_free(r->mem, job.scratch);
    return RV_OK;
}

rv_err rabitq_nearest(const rabitq *r, rv_pool *pool, const uint32_t *slots, size_t n, uint32_t *out)
{
    centre_matrix m;
    RV_TRY(matrix_init(&m, r, r->centres, r->head.n_lists));
    rv_err e = nearest(r, pool, &m, slots, n, out);
    matrix_deinit(&m);
    return e;
}

/* ---- k-means ---- */

typedef struct means_job {
    const rabitq *r;
    const uint32_t *slots, *list_of; /* [n] */
    size_t n, n_lists;
    float *centres;   /* [n_lists][dim] */
    uint32_t *counts; /* [n_lists] */
    float *rows;      /* [threads][dim] */
} means_job;

/* A thread looks at all rows and sums those of its own centres. */
static void means_part(void *arg, int thread, int n_threads)
{
    const means_job *job = arg;
    const size_t dim = job->r->dim;
    float *row = job->rows + (size_t)thread * dim;
    size_t from, to;
    rv_pool_split(job->n_lists, 1, thread, n_threads, &from, &to);
    memset(job->counts + from, 0, (to - from) * sizeof *job->counts);
    for (size_t i = 0; i < job->n; i++) {
        uint32_t list = job->list_of[i];
        if (list < from || list >= to) {
            continue;
        }
        float *centre = job->centres + list * dim;
        rabitq_decode(job->r, job->slots[i], row);
        if (job->counts[list]++ == 0) {
            memcpy(centre, row, dim * sizeof *row);
        } else {
            job->r->rows->kernels->add(centre, row, dim);
        }
    }
    for (size_t list = from; list < to; list++) {
        for (size_t d = 0; d < dim && job->counts[list] > 0; d++) {
            job->centres[list * dim + d] /= (float)job->counts[list];
        }
    }
}

/* n different ones of the slots. */
static void choose(rv_rng *rng, const uint32_t *slots, size_t n_slots, size_t n, uint32_t *out)
{
    size_t left = n; /* each slot is chosen with the chance that is left: one pass, in order */
    for (size_t i = 0; i < n_slots && left > 0; i++) {
        if (rv_rng_below(rng, n_slots - i) < left) {
            out[n - left--] = slots[i];
        }
    }
}

static rv_err train(rabitq *r, rv_pool *pool, const uint32_t *slots, size_t n_slots, size_t n)
{
    size_t n_sample = n * SAMPLE_PER_CENTRE < n_slots ? n * SAMPLE_PER_CENTRE : n_slots;
    means_job job = { .r = r, .n = n_sample, .n_lists = n };
    uint32_t *sample = rv_new_array(r->mem, n_sample, sizeof *sample);
    uint32_t *list_of = rv_new_array(r->mem, n_sample, sizeof *list_of);
    job.centres = rv_new_array(r->mem, n * r->dim, sizeof *job.centres);
    job.counts = rv_new_array(r->mem, n, sizeof *job.counts);
    job.rows = rv_new_array(r->mem, (size_t)rv_pool_threads(pool) * r->dim, sizeof *job.rows);
    job.slots = sample;
    job.list_of = list_of;
    rv_err e = sample && list_of && job.centres && job.counts && job.rows
                   ? rabitq_reserve_lists(r, n)
                   : rv_fail(RV_E_NOMEM, "no memory to find %zu centres", n);
    if (!e) {
        rv_rng rng;
        rv_rng_init(&rng, n_slots);
        choose(&rng, slots, n_slots, n_sample, sample);
        choose(&rng, sample, n_sample, n, list_of); /* the first centres */
        for (size_t c = 0; c < n; c++) {
            rabitq_decode(r, list_of[c], job.centres + c * r->dim);
        }
        for (int round = 0; round < ROUNDS && !e; round++) {
            centre_matrix m;
            e = matrix_init(&m, r, job.centres, n);
            if (e) {
                break;
            }
            e = nearest(r, pool, &m, sample, n_sample, list_of);
            matrix_deinit(&m);
            if (e) {
                break;
            }
            rv_pool_run(pool, means_part, &job);
            for (size_t c = 0; c < n; c++) {
                if (job.counts[c] == 0) { /* nobody's nearest: begin again somewhere */
                    rabitq_decode(r, sample[rv_rng_below(&rng, n_sample)], job.centres + c * r->dim);
                }
            }
        }
    }
    for (size_t c = 0; c < n && !e; c++) {
        (void)rabitq_add_list(r, job.centres + c * r->dim);
    }
    rv_free(r->mem, sample);
    rv_free(r->mem, list_of);
    rv_free(r->mem, job.centres);
    rv_free(r->mem, job.counts);
    rv_free(r->mem, job.rows);
    return e;
}

/* ---- one row ---- */

/* The nearest of the lists from `list` on, which next [lists] chains (NULL: all follow each other). */
static void nearest_of(const rabitq *r, const float *row, uint32_t list, const uint32_t *next, uint32_t *best,
                       float *least)
{
    for (; list < r->head.n_lists; list = next ? next[list] : list + 1) {
        float distance = r->rows->kernels->l2sq_f32(row, rabitq_centre(r, list), r->dim);
        if (distance < *least) {
            *least = distance;
            *best = list;
        }
    }
}

uint32_t rabitq_nearest_one(const rabitq *r, const float *row)
{
    enum { GROUPS_TRIED = 8 }; /* of those there are, about the root of the number of lists */
    uint32_t best = 0, groups[GROUPS_TRIED];
    float least = INFINITY, nears[GROUPS_TRIED];
    size_t n = 0;
    for (uint32_t group = 0; group < r->head.n_groups; group++) {
        float distance = r->rows->kernels->l2sq_f32(row, r->group_centres + group * r->dim, r->dim);
        if (n == GROUPS_TRIED && !(distance < nears[n - 1])) {
            continue;
        }
        size_t at = n < GROUPS_TRIED ? n++ : n - 1;
        for (; at > 0 && nears[at - 1] > distance; at--) {
            nears[at] = nears[at - 1];
            groups[at] = groups[at - 1];
        }
        nears[at] = distance;
        groups[at] = group;
    }
    for (size_t i = 0; i < n; i++) {
        nearest_of(r, row, r->group_first[groups[i]], r->group_next, &best, &least);
    }
    if (least == INFINITY) { /* no groups, or empty ones */
        nearest_of(r, row, 0, NULL, &best, &least);
    }
    return best;
}

/* The slots of a list: out [counts[list]]. */
static size_t slots_of(const rabitq *r, uint32_t list, uint32_t *out)
{
    size_t n = 0;
    for (rabitq_walk walk = rabitq_walk_begin(r, list); walk.n > 0; rabitq_walk_next(r, &walk)) {
        memcpy(out + n, r->slots + (size_t)walk.first * RV_ONEBIT_ROWS, walk.n * sizeof *out);
        n += walk.n;
    }
    return n;
}

/* Two means of the rows, from the first and the one farthest from it. side [n]: which each is nearer to. */
static void two_means(const float *rows, size_t n, size_t dim, const rv_kernels *k, float *centres,
                      uint8_t *side)
{
    enum { ROUNDS_OF_TWO = 6 };
    size_t far = 0;
    float farthest = 0;
    for (size_t i = 0; i < n; i++) {
        float distance = k->l2sq_f32(rows, rows + i * dim, dim);
        if (distance > farthest) {
            farthest = distance;
            far = i;
        }
    }
    memcpy(centres, rows, dim * sizeof *rows);
    memcpy(centres + dim, rows + far * dim, dim * sizeof *rows);
    for (int round = 0; round < ROUNDS_OF_TWO; round++) {
        size_t count[2] = { 0, 0 };
        for (size_t i = 0; i < n; i++) {
            const float *row = rows + i * dim;
            side[i] = k->l2sq_f32(row, centres, dim) > k->l2sq_f32(row, centres + dim, dim);
            count[side[i]]++;
        }
        if (count[0] == 0 || count[1] == 0 || round == ROUNDS_OF_TWO - 1) {
            return;
        }
        memset(centres, 0, 2 * dim * sizeof *centres);
        for (size_t i = 0; i < n; i++) {
            k->add(centres + side[i] * dim, rows + i * dim, dim);
        }
        for (size_t i = 0; i < 2 * dim; i++) {
            centres[i] /= (float)count[i / dim];
        }
    }
}

void rabitq_split(rabitq *r, uint32_t list)
{
    size_t n = r->counts[list], dim = r->dim;
    uint32_t *slots = rv_new_array(r->mem, n, sizeof *slots);
    float *rows = rv_new_array(r->mem, n + 2, dim * sizeof *rows), *centres = rows ? rows + n * dim : NULL;
    uint8_t *side = rv_new_array(r->mem, n, 1);
    if (slots && rows && side && !rabitq_reserve_lists(r, 1) && !rabitq_reserve_blocks(r, 2)) {
        (void)slots_of(r, list, slots);
        for (size_t i = 0; i < n; i++) {
            rabitq_decode(r, slots[i], rows + i * dim);
        }
        two_means(rows, n, dim, r->rows->kernels, centres, side);
        size_t second = 0;
        for (size_t i = 0; i < n; i++) {
            second += side[i];
        }
        if (second > n / 16 && second < n - n / 16) {
            rabitq_empty(r, list);
            memcpy(r->centres + list * dim, centres, dim * sizeof *centres);
            uint32_t other = rabitq_add_list(r, centres + dim);
            if (r->head.n_groups > 0) { /* near enough to the first */
                uint32_t group = r->group_of[other] = r->group_of[list];
                r->group_next[other] = r->group_first[group];
                r->group_first[group] = other;
            }
            for (size_t i = 0; i < n; i++) {
                rabitq_append(r, side[i] ? other : list, slots[i], rows + i * dim);
            }
            rabitq_measure(r, list);
            rabitq_measure(r, other);
        }
    }
    rv_free(r->mem, slots);
    rv_free(r->mem, rows);
    rv_free(r->mem, side);
}

/* ---- all rows ---- */

typedef struct fill_job {
    rabitq *r;
    const uint32_t *slots, *begin; /* [lists + 1] where each list begins in slots */
    float *rows;
} fill_job;

static void fill_part(void *arg, int thread, int n_threads)
{
    const fill_job *job = arg;
    for (size_t list = (size_t)thread; list < job->r->head.n_lists; list += (size_t)n_threads) {
        rabitq_fill_list(job->r, (uint32_t)list, job->slots + job->begin[list],
                         job->rows + (size_t)thread * job->r->dim);
        rabitq_measure(job->r, (uint32_t)list);
    }
}

rv_err rabitq_build(rabitq *r, rv_pool *pool, const uint32_t *slots, size_t n, size_t n_lists)
{
    uint32_t *list_of = rv_new_array(r->mem, n, sizeof *list_of),
             *sorted = rv_new_array(r->mem, n, sizeof *sorted);
    uint32_t *begin = rv_new_array(r->mem, n_lists + 2, sizeof *begin);
    float *rows = rv_new_array(r->mem, (size_t)rv_pool_threads(pool) * r->dim, sizeof *rows);
    rv_err e = list_of && sorted && begin && rows ? train(r, pool, slots, n, n_lists)
                                                  : rv_fail(RV_E_NOMEM, "no memory for %zu vectors", n);
    e = e ? e : rabitq_nearest(r, pool, slots, n, list_of);
    if (!e) {
        for (size_t i = 0; i < n; i++) {
            begin[list_of[i] + 2]++;
        }
        size_t n_blocks = 0;
        for (size_t list = 0; list < n_lists; list++) {
            n_blocks += (begin[list + 2] + RV_ONEBIT_ROWS - 1) / RV_ONEBIT_ROWS;
            begin[list + 2] += begin[list + 1];
        }
        for (size_t i = 0; i < n; i++) {
            sorted[begin[list_of[i] + 1]++] = slots[i];
        }
        e = rabitq_reserve_places(r, r->rows->room);
        e = e ? e : rabitq_reserve_blocks(r, n_blocks);
    }
    if (!e) {
        for (uint32_t list = 0; list < n_lists; list++) {
            rabitq_place_list(r, list, begin[list + 1] - begin[list]);
        }
        fill_job job = { r, sorted, begin, rows };
        rv_pool_run(pool, fill_part, &job);
        rabitq_group(r);
    }
    rv_free(r->mem, list_of);
    rv_free(r->mem, sorted);
    rv_free(r->mem, begin);
    rv_free(r->mem, rows);
    return e;
}

size_t rabitq_n_lists(size_t n)
{
    size_t by_rows = n / ROWS_PER_LIST, by_root = (size_t)(4 * sqrt((double)n));
    size_t lists = by_rows < by_root ? by_rows : by_root;
    return lists > 0 ? lists : 1;
}
