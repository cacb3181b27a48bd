/* What is known of each training row before anything learns: its grams and statistics, its 128 slots with a history that leaves the row itself out,
 * and the means and spreads all of them are scaled by. */
#include "router/space_priv.h"
#include "router/train_priv.h"

#define HISTORY_PRIOR 8.0f /* rows of the mean that a centroid's history begins with */

static rv_err keep_grams(trainer *t, size_t row, const rv_past_text *text)
{
    size_t at = t->gram_at[row], need = at + text->n_grams;
    if (need > t->gram_room) {
        size_t room = 2 * need;
        uint16_t *gram = rv_resize(t->mem, t->gram, room * sizeof *gram);
        t->gram = gram ? gram : t->gram;
        float *weight = rv_resize(t->mem, t->gram_weight, room * sizeof *weight);
        t->gram_weight = weight ? weight : t->gram_weight;
        if (!gram || !weight) {
            return rv_fail(RV_E_NOMEM, "router training");
        }
        t->gram_room = room;
    }
    for (size_t i = 0; i < text->n_grams; i++) {
        t->gram[at + i] = text->gram[i];
        t->gram_weight[at + i] = text->count[i]; /* weighed once it is known how rare each is */
        t->rows_with[text->gram[i]]++;
    }
    t->gram_at[row + 1] = need;
    return RV_OK;
}

static bool is_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (x[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Mean and spread of columns of [n][cols]. */
static void measure_columns(const float *x, size_t n, size_t cols, float *mean, float *spread)
{
    for (size_t c = 0; c < cols; c++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            sum += x[i * cols + c];
            squares += (double)x[i * cols + c] * x[i * cols + c];
        }
        double m = sum / (double)n, v = squares / (double)n - m * m;
        mean[c] = (float)m;
        spread[c] = (float)sqrt(v > 0 ? v : 0);
    }
}

static void measure_cover(trainer *t)
{
    double n = 0, sum[RV_COVER] = { 0 }, squares[RV_COVER] = { 0 };
    for (size_t i = 0; i < t->set->n; i++) {
        const float *c = t->set->rows[i].cover;
        n += c != NULL;
        for (int k = 0; c && k < RV_COVER; k++) {
            sum[k] += c[k];
            squares[k] += (double)c[k] * c[k];
        }
    }
    for (int k = 0; k < RV_COVER && n > 0; k++) {
        double mean = sum[k] / n;
        t->r->cover_mean[k] = (float)mean;
        t->r->cover_spread[k] = (float)sqrt(fmax(0, squares[k] / n - mean * mean));
    }
}

static rv_err read_texts(trainer *t)
{
    const rv_router_set *set = t->set;
    rv_past_text text;
    RV_TRY(rv_past_new(t->mem, set->tiers, set->dim, &t->r->past));
    for (size_t i = 0; i < set->n; i++) {
        const rv_router_row *row = &set->rows[i];
        t->vector[i] = set->dim > 0 && row->vector && !is_zero(row->vector, set->dim) ? row->vector : NULL;
        rv_surface(row->text, row->n, t->surface + i * RV_SURFACE);
        rv_past_read(row->text, row->n, &text);
        RV_TRY(keep_grams(t, i, &text));
        uint64_t hash = rv_hash64(text.word, text.n_words * sizeof *text.word, 3);
        t->fold[i] = (uint8_t)(hash % FOLDS);
        t->stop_set[i] = hash / FOLDS % 8 == 0;
        RV_TRY(
            rv_past_add(t->r->past, &(rv_past_row){ &text, row->text, row->n, t->vector[i], row->quality }));
    }
    RV_TRY(rv_past_seal(t->r->past));
    measure_columns(t->surface, set->n, RV_SURFACE, t->r->surface_mean, t->r->surface_spread);
    for (int g = 0; g < RV_PAST_BUCKETS; g++) {
        /* What stands in one row only says nothing about others. */
        t->r->rarity[g] = t->rows_with[g] > 1 ? logf(1 + (float)set->n / (float)t->rows_with[g]) : 0;
    }
    for (size_t i = 0; i < set->n; i++) {
        float *surface = t->surface + i * RV_SURFACE, scaled[RV_SURFACE];
        router_scale_surface(t->r, surface, scaled);
        memcpy(surface, scaled, sizeof scaled);
        size_t at = t->gram_at[i];
        rv_past_text one = { .n_grams = t->gram_at[i + 1] - at };
        memcpy(one.gram, t->gram + at, one.n_grams * sizeof *one.gram);
        memcpy(one.count, t->gram_weight + at, one.n_grams * sizeof *one.count);
        router_weigh_grams(t->r, &one, t->gram_weight + at);
    }
    return RV_OK;
}

static void count_history(trainer *t)
{
    router_history *h = &t->r->history;
    for (size_t i = 0; i < t->set->n; i++) {
        for (size_t m = 0; t->cluster[i] >= 0 && m < t->set->tiers; m++) {
            if (router_known(&t->set->rows[i], m)) {
                h->quality[t->cluster[i]][m] += t->set->rows[i].quality[m];
                h->count[t->cluster[i]][m] += 1;
            }
        }
    }
}

/* A row's history is that of the others: its own outcome would tell what is asked. */
static void history_without(const trainer *t, size_t row, rv_slot_history out[RV_SLOT_MODELS])
{
    int c = t->cluster[row];
    for (size_t m = 0; c >= 0 && m < t->set->tiers && m < RV_SLOT_MODELS; m++) {
        float sum = t->r->history.quality[c][m], count = t->r->history.count[c][m];
        if (router_known(&t->set->rows[row], m)) {
            sum -= t->set->rows[row].quality[m];
            count -= 1;
        }
        float q = (sum + HISTORY_PRIOR * t->r->base[m]) / (count + HISTORY_PRIOR);
        out[m] = (rv_slot_history){ .quality = q, .success = q, .count = (uint32_t)count };
    }
}

static rv_err fill_slots(trainer *t)
{
    rv_router *r = t->r;
    const rv_router_set *set = t->set;
    if (set->dim > 0) {
        float *mean = r->space + RV_SLOT_DOMAINS * set->dim, *axes = mean + set->dim,
              *centroids = axes + RV_SLOT_PCS * set->dim, *spread = centroids + RV_SLOT_CENTROIDS * set->dim;
        memcpy(r->space, set->domains, RV_SLOT_DOMAINS * set->dim * sizeof *r->space);
        RV_TRY(router_find_space(t->mem, t->vector, set->n, set->dim, t->how->seed, mean, axes, spread,
                                 centroids));
    }
    router_point_axes(r);
    for (size_t i = 0; i < set->n; i++) {
        const rv_router_row *row = &set->rows[i];
        rv_slot_input in = { .text = row->text,
                             .n = row->n,
                             .vector = t->vector[i],
                             .device = 2,
                             .distances = row->distances,
                             .kinds = row->kinds,
                             .n_hits = row->n_hits,
                             .cover = row->cover,
                             .k = row->n_hits };
        rv_slots_fill(&r->axes, &in, t->slots + i * RV_SLOTS, &t->cluster[i]);
    }
    count_history(t);
    for (size_t i = 0; i < set->n; i++) {
        rv_slot_history history[RV_SLOT_MODELS] = { 0 };
        history_without(t, i, history);
        rv_slots_history(history, t->slots + i * RV_SLOTS);
    }
    measure_columns(t->slots, set->n, RV_SLOTS, r->slot_mean, r->slot_spread);
    for (size_t i = 0; i < set->n; i++) {
        float scaled[RV_SLOTS];
        router_scale_slots(r, t->slots + i * RV_SLOTS, scaled);
        memcpy(t->slots + i * RV_SLOTS, scaled, sizeof scaled);
    }
    for (int c = 0; c < RV_SLOT_CENTROIDS; c++) {
        for (size_t m = 0; m < set->tiers; m++) {
            float *q = &r->history.quality[c][m];
            *q = (*q + HISTORY_PRIOR * r->base[m]) / (r->history.count[c][m] + HISTORY_PRIOR);
        }
    }
    return RV_OK;
}

static void find_base(trainer *t)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        double sum = 0, n = 0;
        for (size_t i = 0; i < t->set->n; i++) {
            if (router_known(&t->set->rows[i], m)) {
                sum += t->set->rows[i].quality[m];
                n += 1;
            }
        }
        t->r->base[m] = (float)(sum / n);
    }
}

rv_err router_read_rows(trainer *t)
{
    find_base(t);
    measure_cover(t);
    RV_TRY(read_texts(t));
    router_step_done(t);
    RV_TRY(fill_slots(t));
    router_step_done(t);
    return RV_OK;
}
