/* Which lists first: by int8 codes of their centres. More than a few thousand lists are put into groups of neighbours, and only
 * the nearest groups are opened, so that this look grows with the root of their number. */
#include "vector/rabitq_priv.h"

#include <math.h>
#include <string.h>

enum {
    FLAT_LISTS = 4096, /* so many are looked at without groups */
    ROUNDS = 6,
};

/* The rows of a list lie around its centre, so most are farther than the centre by their own width; the nearest of
 * them are not quite so far. 0.25 to 0.5 make no difference, 0 and 0.75 lose a tenth of the speed at equal recall where lists differ. */
static const float WIDTH_COUNTS = 0.4f;

/* ---- centres as codes, for the first look ---- */

void rabitq_encode_centre(rabitq *r, uint32_t list)
{
    const float *centre = rabitq_centre(r, list);
    const size_t dim = r->rows->dim, stride = r->rows->stride;
    uint8_t *code = r->centre_codes + list * stride;
    float largest = 0;
    for (size_t i = 0; i < dim; i++) {
        largest = fabsf(centre[i]) > largest ? fabsf(centre[i]) : largest;
    }
    float to_code = largest > 0 ? 127 / largest : 0;
    to_code = to_code <= 1e37f ? to_code : 0;
    for (size_t i = 0; i < stride; i++) {
        code[i] = (uint8_t)(128 + (i < dim ? lrintf(centre[i] * to_code) : 0));
    }
    /* the length of the centre itself, so that lists are ranked by true distances but for the product's error */
    float square = r->rows->kernels->dot_f32(centre, centre, dim);
    r->centre_scales[list] =
        (rv_row_scale){ to_code > 0 ? largest / 127 : 0, square + WIDTH_COUNTS * r->widths[list] };
}

/* ---- groups ---- */

static uint32_t nearest_group(const rabitq *r, const float *centre)
{
    uint32_t best = 0;
    float least = INFINITY;
    for (uint32_t group = 0; group < r->head.n_groups; group++) {
        float distance = r->rows->kernels->l2sq_f32(centre, r->group_centres + group * r->dim, r->dim);
        if (distance < least) {
            least = distance;
            best = group;
        }
    }
    return best;
}

/* Centres and chains of the groups, from group_of. counts [n_groups] */
static void follow_lists(rabitq *r, uint32_t *counts)
{
    const size_t dim = r->dim, n = r->head.n_groups;
    memset(counts, 0, n * sizeof *counts);
    memset(r->group_centres, 0, n * dim * sizeof *r->group_centres);
    memset(r->group_first, 0xff, n * sizeof *r->group_first);
    for (uint32_t list = 0; list < r->head.n_lists; list++) {
        uint32_t group = r->group_of[list];
        r->rows->kernels->add(r->group_centres + group * dim, rabitq_centre(r, list), dim);
        r->group_next[list] = r->group_first[group];
        r->group_first[group] = list;
        counts[group]++;
    }
    for (size_t i = 0; i < n * dim; i++) {
        r->group_centres[i] /= (float)(counts[i / dim] > 0 ? counts[i / dim] : 1);
    }
}

/* Arrays for n groups; counts [n] is the caller's to free. NULL: no memory, and no groups. */
static uint32_t *make_groups(rabitq *r, size_t n)
{
    rv_free(r->mem, r->group_first);
    rv_free(r->mem, r->group_centres);
    r->group_first = rv_new_array(r->mem, n, sizeof *r->group_first);
    r->group_centres = rv_new_array(r->mem, n, r->dim * sizeof *r->group_centres);
    uint32_t *counts = rv_new_array(r->mem, n, sizeof *counts);
    bool all = r->group_first && r->group_centres && counts;
    r->head.n_groups = all ? (uint32_t)n : 0;
    if (!all) {
        rv_free(r->mem, counts);
        return NULL;
    }
    return counts;
}

void rabitq_group(rabitq *r)
{
    const size_t n_lists = r->head.n_lists;
    if (n_lists <= FLAT_LISTS) {
        r->head.n_groups = 0;
        return;
    }
    size_t n = (size_t)sqrt((double)n_lists);
    uint32_t *counts = make_groups(r, n);
    if (!counts) {
        return;
    }
    for (size_t group = 0; group < n; group++) {
        memcpy(r->group_centres + group * r->dim, rabitq_centre(r, group * n_lists / n),
               r->dim * sizeof(float));
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t list = 0; list < n_lists; list++) {
            r->group_of[list] = nearest_group(r, rabitq_centre(r, list));
        }
        follow_lists(r, counts);
    }
    rv_free(r->mem, counts);
}

bool rabitq_groups_due(const rabitq *r)
{
    size_t n = r->head.n_groups, lists = r->head.n_lists;
    return lists > FLAT_LISTS && lists > 2 * n * n;
}

rv_err rabitq_regroup(rabitq *r)
{
    if (r->head.n_groups == 0) {
        return RV_OK;
    }
    for (uint32_t list = 0; list < r->head.n_lists; list++) {
        if (r->group_of[list] >= r->head.n_groups) {
            return rv_fail(RV_E_CORRUPT, "index: list %u is in group %u of %u", list, r->group_of[list],
                           r->head.n_groups);
        }
    }
    uint32_t *counts = make_groups(r, r->head.n_groups);
    if (!counts) {
        return rv_fail(RV_E_NOMEM, "no memory for the lists of an index");
    }
    follow_lists(r, counts);
    rv_free(r->mem, counts);
    return RV_OK;
}

/* ---- the look ---- */

/* The lists of the nearest groups, until they are `want`; how many. */
static size_t open_groups(const rabitq *r, const rabitq_look *look, size_t want, uint32_t *lists)
{
    enum { GROUPS_MAX = 1024 };
    float distances[GROUPS_MAX];
    uint32_t groups[GROUPS_MAX];
    size_t n_groups = r->head.n_groups < GROUPS_MAX ? r->head.n_groups : GROUPS_MAX, n = 0, sorted = 0;
    for (uint32_t group = 0; group < n_groups; group++) {
        distances[group] =
            r->rows->kernels->l2sq_f32(look->rotated, r->group_centres + group * r->dim, r->dim);
        groups[group] = group;
    }
    for (size_t at = 0; at < n_groups && n < want; at++) {
        if (at == sorted) {
            size_t some = n_groups - at < 16 ? n_groups - at : 16;
            rv_smallest_first(r->rows->kernels, distances + at, groups + at, n_groups - at, some);
            rv_sort_few(distances + at, groups + at, some);
            sorted += some;
        }
        for (uint32_t list = r->group_first[groups[at]]; list != RABITQ_NONE; list = r->group_next[list]) {
            lists[n++] = list;
        }
    }
    return n;
}

size_t rabitq_look_at(const rabitq *r, const rabitq_look *look, size_t want, float *nears, uint32_t *lists)
{
    const rv_row_query *query = look->query;
    const bool all = r->head.n_groups == 0 || want >= r->head.n_lists;
    size_t n = all ? r->head.n_lists : open_groups(r, look, want, lists);
    for (size_t i = 0; i < n && all; i++) {
        lists[i] = (uint32_t)i;
    }
    for (size_t from = 0; from < n; from += RV_SCRATCH_BLOCK) {
        size_t some = n - from < RV_SCRATCH_BLOCK ? n - from : RV_SCRATCH_BLOCK;
        const uint8_t *codes = all ? r->centre_codes + from * r->rows->stride : r->centre_codes;
        r->rows->kernels->code_dots(codes, r->rows->stride, all ? NULL : lists + from, some, query->code,
                                    r->rows->stride, look->sums);
        for (size_t i = 0; i < some; i++) {
            rv_row_scale centre = r->centre_scales[lists[from + i]];
            nears[from + i] = query->weight * centre.norm + query->pull * centre.scale * (float)look->sums[i];
        }
    }
    return n;
}
