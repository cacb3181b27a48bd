#include "engine/seats_priv.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    SAVE_IDLE_MS = 2000, /* nobody has used a sequence for so long: it is written to the shelf */
    SAVE_LOOK_MS = 100,  /* how often somebody looks whether that is so */
    SAVE_LEAST = 64,     /* tokens that are worth a file */
    RESTORE_LEAST = 32,  /* tokens that are worth reading one */
    OPEN_TRIES = 100,    /* every RV_LOOK_MS, to find room for an empty sequence */
    HOPELESS_MS = 2000   /* nobody is there who would give back room; who has just ended may still do so */
};

static uint64_t lora_id(const rv_call *c)
{
    return c->lora ? c->lora->id : 0;
}

static bool is_taken(const entry *e)
{
    return e->owner || e->saving;
}

/* Idle, and lost when it is given up. */
static bool is_unsaved(const rv_batch *b, const entry *e)
{
    if (!b->how.shelf || is_taken(e) || e->forget ||
        e->private) { /* of who has an owner a step may change the rest */
        return false;
    }
    size_t n = rv_kv_seq_tokens(e->seq);
    return n >= SAVE_LEAST && n != e->saved;
}

static rv_shelf_key key_of(const rv_batch *b, uint64_t lora, uint64_t tenant)
{
    rv_shelf_key key = b->how.key;
    key.adapter = lora;
    key.tenant = tenant;
    return key;
}

/* ---- letting in ---- */

void rv_seats_tidy(rv_batch *b)
{
    for (size_t i = 0; i < b->n_entries; i++) {
        entry *e = &b->entries[i];
        if (!is_taken(e) && !e->tidy) {
            rv_kv_rewind(e->seq, e->forget ? 0 : rv_kv_seq_tokens(e->seq)); /* gives back reserved pages */
            e->private &= rv_kv_seq_tokens(e->seq) > 0;
            e->forget = false;
            e->tidy = true;
        }
    }
}

static size_t common_beginning(const entry *e, const rv_call *c)
{
    size_t n = rv_kv_seq_tokens(e->seq), same = 0;
    n = e->owner && e->owner->until < n ? e->owner->until : n; /* guesses behind may be taken back */
    n = n < c->n_prompt - 1 ? n : c->n_prompt - 1; /* the last token has to be fed, for its logits */
    if (e->forget || e->lora != lora_id(c) || e->tenant != c->tenant) {
        return 0;
    }
    while (same < n && e->ids[same] == c->prompt[same]) {
        same++;
    }
    return same;
}

/* The sequence whose beginning helps most, and how many of its tokens; of equals one that nobody uses. */
static entry *find_source(rv_batch *b, rv_call *c, size_t *reusable)
{
    entry *best = NULL;
    *reusable = 0;
    c->parted = 0;
    for (size_t i = 0; i < b->n_entries && !c->measuring; i++) {
        entry *e = &b->entries[i];
        size_t same = common_beginning(e, c), n = rv_kv_rewindable(e->seq, same);
        c->parted = same > c->parted ? same : c->parted;
        if (n > *reusable || (n && n == *reusable && is_taken(best) && !is_taken(e))) {
            best = e;
            *reusable = n;
        }
    }
    return best;
}

/* Of those without owner an empty or else the least recently used one, but neither of these two. */
static entry *find_victim(rv_batch *b, const entry *keep, const entry *also, bool empty_ones)
{
    entry *victim = NULL;
    for (size_t i = 0; i < b->n_entries; i++) {
        entry *e = &b->entries[i];
        bool empty = rv_kv_seq_tokens(e->seq) == 0;
        if (is_taken(e) || e == keep || e == also || (empty && !empty_ones)) {
            continue;
        }
        if (empty) {
            return e;
        }
        victim = !victim || e->used < victim->used ? e : victim;
    }
    return victim;
}

/* Before it is given up; the saver is told. */
static bool has_to_be_saved(rv_batch *b, entry *e)
{
    if (!is_unsaved(b, e)) {
        return false;
    }
    e->wanted = true;
    pthread_cond_signal(&b->unsaved);
    return true;
}

/* False: not yet, it has to be saved first. */
static bool give_up(rv_batch *b, entry *e)
{
    if (has_to_be_saved(b, e)) {
        return false;
    }
    rv_kv_rewind(e->seq, 0);
    e->saved = 0;
    e->private = false;
    return true;
}

/* What it costs to compute it again: less when it is on the shelf. */
static double score_of(const rv_batch *b, const entry *e)
{
    size_t n = rv_kv_seq_tokens(e->seq);
    double rebuild_ms = e->saved == n ? 0 : b->token_ms * (double)n;
    return rv_budget_score((rv_clock_ms() - e->idle_since) / 1e3, 0, rebuild_ms, rv_kv_seq_bytes(e->seq));
}

/* Gives up idle sequences until so many bytes are free; not these two. Those of others with the same budget go when they
 * are worth less than ours. */
static bool make_room(rv_batch *b, size_t bytes, const entry *keep, const entry *also)
{
    while (rv_budget_room(b->how.budget) < bytes) {
        entry *victim = find_victim(b, keep, also, false);
        double ours = victim ? score_of(b, victim) : INFINITY;
        if (!rv_budget_ask(b->how.budget, &b->giver, ours) && (!victim || !give_up(b, victim))) {
            return false;
        }
    }
    return true;
}

/* The same, asked by others. They hold a lock of their own, so that this one is only tried. */
static entry *spare(rv_batch *b)
{
    if (pthread_mutex_trylock(&b->lock)) {
        return NULL;
    }
    entry *e = NULL;
    if (!b->computing) {
        rv_seats_tidy(b);
        e = find_victim(b, NULL, NULL, false);
    }
    if (!e) {
        pthread_mutex_unlock(&b->lock);
    }
    return e;
}

static double offer(void *batch)
{
    rv_batch *b = batch;
    entry *e = spare(b);
    if (!e) {
        return INFINITY;
    }
    double score = score_of(b, e);
    pthread_mutex_unlock(&b->lock);
    return score;
}

static bool give(void *batch)
{
    rv_batch *b = batch;
    entry *e = spare(b);
    if (!e) {
        return false;
    }
    bool gave = give_up(b, e);
    pthread_mutex_unlock(&b->lock);
    return gave;
}

/* Promise it all it may say; keep is not given up for that. */
static bool promise(rv_batch *b, entry *e, const rv_call *c, const entry *keep)
{
    return make_room(b, rv_kv_promised(e->seq, c->most_tokens), e, keep) &&
           rv_kv_promise(e->seq, c->most_tokens) == RV_OK;
}

/* Another sequence with the beginning of this one, which stays as it is. */
static entry *fork_entry(rv_batch *b, const rv_call *c, const entry *source, size_t reusable)
{
    entry *e = find_victim(b, source, NULL, true);
    if (!e || !give_up(b, e)) {
        return NULL;
    }
    e->private = source && source->private;
    while (source && rv_kv_copy(e->seq, source->seq, reusable)) { /* at worst nothing: only speed is lost */
        entry *victim = find_victim(b, source, e, false);
        if (!victim || !give_up(b, victim)) {
            break;
        }
    }
    if (promise(b, e, c, source)) {
        return e;
    }
    rv_kv_rewind(e->seq, 0);
    return NULL;
}

/* An empty sequence into which the call reads what was found on the shelf. NULL: no room now. */
static entry *restoring_entry(rv_batch *b, rv_call *c)
{
    entry *e = fork_entry(b, c, NULL, 0);
    if (e) { /* nobody promised room for its marks; without, it is computed again */
        (void)make_room(b, c->found.outline.n_marks * b->how.state_bytes, e, NULL);
    }
    if (e && rv_kv_rebuild(e->seq, &c->found.outline)) {
        c->found.reusable = 0; /* that has ended the promise */
        e = promise(b, e, c, NULL) ? e : NULL;
    }
    return e;
}

static bool is_on_shelf(rv_batch *b, rv_call *c, size_t resident)
{
    rv_shelf_key key = key_of(b, lora_id(c), c->tenant);
    c->found.reusable = 0;
    if (!b->how.shelf || c->measuring || c->n_prompt <= resident + RESTORE_LEAST ||
        !rv_shelf_look(b->how.shelf, &key, c->prompt, c->n_prompt - 1, &c->found) ||
        c->found.reusable < resident + RESTORE_LEAST || c->found.outline.n_tokens > b->how.n_ctx) {
        c->found.reusable = 0;
    }
    return c->found.reusable > 0;
}

/* Others than this one, whose room comes back: when they end, or when they are saved. */
static bool others_hold_room(const rv_batch *b, const entry *but)
{
    for (size_t i = 0; i < b->n_entries; i++) {
        const entry *e = &b->entries[i];
        if (e != but && (is_taken(e) || rv_kv_seq_tokens(e->seq))) {
            return true;
        }
    }
    return false;
}

/* A sequence with a promise for all the call may need and the most of its prompt. NULL: no room now. */
static entry *prepare_entry(rv_batch *b, rv_call *c)
{
    size_t reusable;
    entry *source = find_source(b, c, &reusable);
    if (is_on_shelf(b, c, reusable)) {
        return restoring_entry(b, c);
    }
    bool idle = source && !is_taken(source);
    if (!idle || 2 * reusable < rv_kv_seq_tokens(source->seq)) {
        entry *e = fork_entry(b, c, source, reusable);
        if (e || !idle || has_to_be_saved(b, source)) {
            return e;
        }
    }
    if (make_room(b, rv_kv_promised(source->seq, c->most_tokens), source, NULL)) {
        rv_kv_rewind(source->seq, reusable);
        if (promise(b, source, c, NULL)) {
            return source;
        }
    }
    if (others_hold_room(b, source)) {
        return NULL;
    }
    rv_kv_rewind(source->seq, 0); /* its marks may be what is in the way */
    return promise(b, source, c, NULL) ? source : NULL;
}

static size_t seats_of(const rv_batch *b, const rv_call *c)
{
    size_t n = 0;
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        n += b->seats[i] && rv_call_same_tenant(b->seats[i], c);
    }
    return n;
}

static uint64_t last_seat(const rv_batch *b, const rv_call *c)
{
    for (size_t i = 0; c->tenant && i < RV_TENANTS; i++) {
        if (b->tenants[i].tenant == c->tenant) {
            return b->tenants[i].stamp;
        }
    }
    return 0;
}

/* In the place of the one that was let in longest ago, if it is not there. */
static void remember_tenant(rv_batch *b, const rv_call *c)
{
    size_t at = 0;
    for (size_t i = 0; c->tenant && i < RV_TENANTS; i++) {
        if (b->tenants[i].tenant == c->tenant) {
            at = i;
            break;
        }
        at = b->tenants[i].stamp < b->tenants[at].stamp ? i : at;
    }
    if (c->tenant) {
        b->tenants[at].tenant = c->tenant;
        b->tenants[at].stamp = b->stamps;
    }
}

static bool let_in(rv_batch *b, rv_call *c)
{
    entry *e = prepare_entry(b, c);
    if (!e) {
        return false;
    }
    c->cached = rv_kv_seq_tokens(e->seq);
    memcpy(e->ids, c->prompt, c->n_prompt * sizeof *e->ids);
    while (b->seats[c->seat]) {
        c->seat++;
    }
    b->seats[c->seat] = c;
    e->owner = c;
    e->tidy = e->wanted = false;
    e->private |= c->private;
    e->saved = c->cached < e->saved ? 0 : e->saved;
    e->lora = lora_id(c);
    e->tenant = c->tenant;
    c->entry = e;
    c->ids = e->ids;
    rv_budget_begin(b->how.budget);
    c->stamp = ++b->stamps;
    remember_tenant(b, c);
    c->admitted_ms = rv_clock_ms();
    c->state = c->found.reusable ? RV_CALL_RESTORING : RV_CALL_READY;
    if (c->state == RV_CALL_RESTORING) {
        pthread_cond_broadcast(&b->changed);
    }
    return true;
}

static bool has_seat(const rv_batch *b)
{
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        if (!b->seats[i]) {
            return true;
        }
    }
    return false;
}

/* Those who are cancelled will notice themselves. */
rv_call *rv_seats_first(const rv_batch *b)
{
    rv_call *best = NULL;
    size_t fewest = 0;
    uint64_t earliest = 0;
    for (rv_call *c = has_seat(b) ? b->line : NULL; c; c = c->next) {
        size_t seats = seats_of(b, c);
        uint64_t last = last_seat(b, c);
        if (!rv_call_is_cancelled(c) && (!best || seats < fewest || (seats == fewest && last < earliest))) {
            best = c;
            fewest = seats;
            earliest = last;
        }
    }
    return best;
}

void rv_seats_leave(rv_batch *b, rv_call *c)
{
    rv_call **link = &b->line;
    while (*link != c) {
        link = &(*link)->next;
    }
    *link = c->next;
}

/* Found no room just now. What is held for good, or by others who wait, never becomes room. */
static bool is_hopeless(const rv_batch *b, rv_call *c)
{
    double now = rv_clock_ms();
    if (!rv_budget_is_idle(b->how.budget)) {
        c->hopeless_since = 0;
        return false;
    }
    c->hopeless_since = c->hopeless_since > 0 ? c->hopeless_since : now;
    return now - c->hopeless_since >= HOPELESS_MS;
}

void rv_seats_let_in(rv_batch *b)
{
    rv_seats_tidy(b);
    b->rounds++;
    for (rv_call *c; rv_clock_ms() >= b->full_until && (c = rv_seats_first(b));) {
        if (let_in(b, c)) {
            rv_seats_leave(b, c);
        } else if (is_hopeless(b, c)) {
            rv_seats_leave(b, c);
            rv_call_finish(
                c, rv_fail(RV_E_FULL,
                           "no room for a sequence of %zu tokens: the memory pool of %zu bytes has "
                           "%zu, and nobody will give any back; ask for less, or give the pool more",
                           c->most_tokens, rv_budget_bytes(b->how.budget), rv_budget_room(b->how.budget)));
        } else {
            b->full_until = rv_clock_ms() + RV_LOOK_MS;
        }
    }
}

void rv_seats_join(rv_batch *b, rv_call *c)
{
    rv_call **link = &b->line;
    while (*link) {
        link = &(*link)->next;
    }
    *link = c;
    c->next = NULL;
    c->joined = b->rounds;
}

/* ---- saving ---- */

/* The one that has been waited for or idle for longest, and whether any is unsaved. */
static entry *next_to_save(rv_batch *b, bool *any)
{
    double now = rv_clock_ms();
    entry *best = NULL;
    *any = false;
    for (size_t i = 0; i < b->n_entries; i++) {
        entry *e = &b->entries[i];
        if (!is_unsaved(b, e)) {
            continue;
        }
        *any = true;
        bool due = e->tidy && (e->wanted || b->closing || now - e->idle_since >= SAVE_IDLE_MS);
        if (due &&
            (!best || e->wanted > best->wanted || (e->wanted == best->wanted && e->used < best->used))) {
            best = e;
        }
    }
    return best;
}

/* With the lock, which is let go while writing. */
static void save(rv_batch *b, entry *e)
{
    rv_kv_outline outline;
    rv_shelf_key key = key_of(b, e->lora, e->tenant);
    rv_kv_outline_get(e->seq, &outline);
    e->saving = true;
    rv_budget_begin(b->how.budget);
    pthread_mutex_unlock(&b->lock);
    if (rv_shelf_write(b->how.shelf, &key, &outline, e->ids, e->seq)) {
        rv_log(RV_LOG_WARN, "kv.not_saved", "why", rv_err_text(), (char *)NULL);
    }
    pthread_mutex_lock(&b->lock);
    e->saved = outline.n_tokens; /* also when it failed: trying again would hold up those who need its room */
    e->saving = e->wanted = false;
    rv_budget_end(b->how.budget);
    b->full_until = 0;
    pthread_cond_broadcast(&b->changed);
}

static void *save_idle(void *arg)
{
    rv_batch *b = arg;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        bool any;
        if (!b->computing) {
            rv_seats_tidy(b);
        }
        entry *e = next_to_save(b, &any);
        if (e) {
            save(b, e);
        } else if (b->closing) {
            break;
        } else if (any) {
            rv_cond_wait_ms(&b->unsaved, &b->lock, SAVE_LOOK_MS);
        } else {
            pthread_cond_wait(&b->unsaved, &b->lock);
        }
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

void rv_seats_restore(rv_batch *b, rv_call *c)
{
    entry *e = c->entry;
    rv_shelf_key key = key_of(b, e->lora, e->tenant);
    pthread_mutex_unlock(&b->lock);
    rv_err err = rv_shelf_read(b->how.shelf, &key, &c->found, e->seq, e->ids);
    bool good = !err && memcmp(e->ids, c->prompt, c->found.reusable * sizeof *e->ids) == 0;
    pthread_mutex_lock(&b->lock);
    while (b->computing) {
        pthread_cond_wait(&b->changed, &b->lock);
    }
    if (good) {
        rv_kv_rebuilt(e->seq, &c->found.outline);
    }
    c->cached = rv_kv_rewind_promised(e->seq, good ? c->found.reusable : 0, c->most_tokens);
    e->saved = c->cached == c->found.outline.n_tokens ? c->cached : 0;
    memcpy(e->ids, c->prompt, c->n_prompt * sizeof *e->ids);
    c->state = RV_CALL_READY;
    pthread_cond_broadcast(&b->changed);
}

/* ---- opening ---- */

/* A pool that others have filled with what is idle has room when they have written it down. */
static rv_err new_seq(rv_batch *b, rv_kv_seq **out)
{
    for (int tries = 0;; tries++) {
        rv_err e = rv_kv_seq_new(b->kv, b->how.n_ctx, out);
        if (e != RV_E_FULL || tries == OPEN_TRIES) {
            return e;
        }
        if (!rv_budget_ask(b->how.budget, &b->giver, INFINITY)) {
            pthread_mutex_lock(&b->lock);
            rv_cond_wait_ms(&b->changed, &b->lock, RV_LOOK_MS);
            pthread_mutex_unlock(&b->lock);
        }
    }
}

static rv_err make_entries(rv_batch *b)
{
    size_t n = 2 * b->how.max_sequences;
    b->entries = rv_new_array(b->mem, n, sizeof *b->entries);
    if (!b->entries) {
        return rv_fail(RV_E_NOMEM, "no memory for %zu sequences", n);
    }
    for (; b->n_entries < n; b->n_entries++) {
        entry *e = &b->entries[b->n_entries];
        RV_TRY(new_seq(b, &e->seq));
        e->ids = rv_new_array(b->mem, (size_t)b->how.n_ctx + 1, sizeof *e->ids);
        if (!e->ids) {
            rv_kv_seq_free(e->seq);
            return rv_fail(RV_E_NOMEM, "no memory for a sequence of %u tokens", b->how.n_ctx);
        }
    }
    return RV_OK;
}

rv_err rv_seats_open(rv_batch *b)
{
    RV_TRY(make_entries(b));
    b->giver = (rv_budget_giver){ .offer = offer, .give = give, .self = b };
    rv_budget_join(b->how.budget, &b->giver);
    if (b->how.shelf) {
        b->has_saver = pthread_create(&b->saver, NULL, save_idle, b) == 0;
        return b->has_saver ? RV_OK : rv_fail(RV_E_NOMEM, "a batch: no thread could be started");
    }
    return RV_OK;
}

void rv_seats_close(rv_batch *b)
{
    rv_budget_leave(b->how.budget, &b->giver);
    if (b->has_saver) {
        pthread_mutex_lock(&b->lock);
        b->closing = true;
        pthread_cond_signal(&b->unsaved);
        pthread_mutex_unlock(&b->lock);
        pthread_join(b->saver, NULL);
    }
    for (size_t i = 0; i < b->n_entries; i++) {
        assert(!is_taken(&b->entries[i]));
        rv_kv_seq_free(b->entries[i].seq);
        rv_free(b->mem, b->entries[i].ids);
    }
    rv_free(b->mem, b->entries);
}
