#include "engine/batch_priv.h"
#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    LOOK_MS = 20,     /* how often a waiting call looks at its cancel flag: nobody signals that */
    SILENCE_MS = 85,  /* of an answer, at most, as far as its step's share of prompts decides it */
    FIRST_SHARE = 32, /* that share, as long as nothing has been measured */
    LEAST_SHARE = 16,
    QUANTUM = 512, /* tokens of a prompt before the next one comes first */
    MARK_EVERY = 256,
    GATHER_MAX_MS = 20,  /* to wait for answers that are being sampled */
    SAVE_IDLE_MS = 2000, /* nobody has used a sequence for so long: it is written to the shelf */
    SAVE_LEAST = 64,     /* tokens that are worth a file */
    RESTORE_LEAST = 32,  /* tokens that are worth reading one */
    COSTS = 32,          /* steps of answers whose time is known by their tokens */
    TENANTS = 64,        /* whose last seat is remembered */
    STALE_MS = 2000      /* after which such a time is not believed any more */
};
#define GROWTH 0.08 /* of a step's time per token, where nothing has been measured: low, so that it will be */

enum { OUT, WAITING, RESTORING, READY, STEPPING }; /* rv_call.state; OUT: with its caller */

/* A sequence and the tokens it was made of. Without an owner it is kept for its beginning. */
typedef struct entry {
    rv_kv_seq *seq;
    int32_t *ids; /* [n_ctx + 1] */
    rv_call *owner;
    uint64_t lora;   /* id of the adapter it was made with, 0: none */
    uint64_t tenant; /* whose tokens they are: no other one takes them over */
    uint64_t used;   /* when it lost its last owner */
    bool forget;
    bool private;        /* not for the shelf */
    bool tidy;           /* rewound since it was last used */
    bool saving, wanted; /* being written to the shelf; somebody waits for that */
    size_t saved;        /* tokens of it that the shelf has; 0: none */
    double idle_since;   /* rv_clock_ms */
} entry;

struct rv_batch {
    const rv_alloc *mem;
    rv_lfm2 *model;
    rv_kv *kv;
    rv_batch_options how;
    entry *entries; /* [n_entries] */
    size_t n_entries;
    float *logits;             /* [max_sequences][1 + RV_DRAFTS_MAX][n_vocab] */
    float *states;             /* [max_sequences][RV_DRAFTS_MAX][state_floats] behind what is drafted */
    rv_call **seats;           /* [max_sequences] NULL: free */
    rv_lfm2_segment *segments; /* [max_sequences] of the step under way */
    rv_call **stepping;        /* [max_sequences] whose they are */

    pthread_mutex_t
        lock; /* for all below, calls, and entries; who has set `busy` has model and cache as well */
    pthread_cond_t changed;
    pthread_cond_t unsaved; /* something for the saver to do */
    pthread_t saver;
    bool has_saver, closing;
    bool busy; /* a step is under way */
    bool full; /* the first in line found no pages; nothing has been given back since */
    bool measured_last;
    bool pure; /* the step under way has answers only */
    size_t answers;
    rv_call *line; /* who waits to be let in */
    uint64_t stamps;
    double gather_until; /* rv_clock_ms */
    double token_ms;     /* of a prompt; 0: not known */
    double between_ms;   /* two steps with answers in them: sampling, giving out text */
    double step_began;   /* the last one; rv_clock_ms */
    double step_end;     /* rv_clock_ms; 0: there was no answer in it */
    struct {
        uint64_t tenant, stamp;
    } tenants[TENANTS];        /* who was let in when, the last ones */
    double cost_ms[COSTS + 1]; /* of a step of so many tokens, answers only */
    double cost_at[COSTS + 1]; /* rv_clock_ms of the last one; 0: there was none */
};

static bool is_cancelled(const rv_call *c)
{
    return c->cancel && atomic_load_explicit(c->cancel, memory_order_relaxed);
}

static size_t fed(const rv_call *c)
{
    return rv_kv_seq_tokens(c->entry->seq);
}

static uint64_t lora_id(const rv_call *c)
{
    return c->lora ? c->lora->id : 0;
}

static struct timespec soon(double ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms * 1e6) + 1000;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    return until;
}

static void *save_idle(void *batch);

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

/* ---- making ---- */

static rv_err make_entries(rv_batch *b)
{
    size_t n = 2 * b->how.max_sequences;
    b->entries = rv_new_array(b->mem, n, sizeof *b->entries);
    if (!b->entries) {
        return rv_fail(RV_E_NOMEM, "no memory for %zu sequences", n);
    }
    for (; b->n_entries < n; b->n_entries++) {
        entry *e = &b->entries[b->n_entries];
        RV_TRY(rv_kv_seq_new(b->kv, b->how.n_ctx, &e->seq));
        e->ids = rv_new_array(b->mem, (size_t)b->how.n_ctx + 1, sizeof *e->ids);
        if (!e->ids) {
            rv_kv_seq_free(e->seq);
            return rv_fail(RV_E_NOMEM, "no memory for a sequence of %u tokens", b->how.n_ctx);
        }
    }
    return RV_OK;
}

/* Not zeroed, so that rows nobody asks for cost no memory. */
static float *new_untouched(const rv_alloc *mem, size_t rows, size_t cols)
{
    size_t bytes;
    if (!rv_mul_size(rows, cols * sizeof(float), &bytes)) {
        return NULL;
    }
    return mem->aligned(mem->self, 64, bytes + (bytes == 0) * 64);
}

rv_err rv_batch_new(const rv_alloc *mem, rv_lfm2 *model, rv_kv *kv, rv_batch_options how, rv_batch **out)
{
    rv_batch *b = rv_new(mem, sizeof *b);
    if (!b) {
        return rv_fail(RV_E_NOMEM, "no memory for a batch");
    }
    *b = (rv_batch){ .mem = mem, .model = model, .kv = kv, .how = how };
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &monotonic);
    pthread_cond_init(&b->unsaved, &monotonic);
    pthread_condattr_destroy(&monotonic);
    size_t n = how.max_sequences;
    b->logits = new_untouched(mem, n * (1 + RV_DRAFTS_MAX), how.n_vocab);
    b->states = new_untouched(mem, n * RV_DRAFTS_MAX, how.state_bytes / sizeof(float));
    b->seats = rv_new_array(mem, n, sizeof *b->seats);
    b->segments = rv_new_array(mem, n, sizeof *b->segments);
    b->stepping = rv_new_array(mem, n, sizeof *b->stepping);
    rv_err e = b->logits && b->states && b->seats && b->segments && b->stepping
                   ? make_entries(b)
                   : rv_fail(RV_E_NOMEM, "no memory for %zu rows of logits", n);
    if (!e && how.shelf) {
        b->has_saver = pthread_create(&b->saver, NULL, save_idle, b) == 0;
        e = b->has_saver ? RV_OK : rv_fail(RV_E_NOMEM, "a batch: no thread could be started");
    }
    if (e) {
        rv_batch_free(b);
        return e;
    }
    *out = b;
    return RV_OK;
}

void rv_batch_free(rv_batch *b)
{
    if (!b) {
        return;
    }
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
    rv_free(b->mem, b->stepping);
    rv_free(b->mem, b->segments);
    rv_free(b->mem, b->seats);
    rv_free(b->mem, b->states);
    rv_free(b->mem, b->logits);
    pthread_cond_destroy(&b->unsaved);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    rv_free(b->mem, b);
}

/* ---- letting in; with the lock and busy ---- */

/* Ended calls leave their sequences as they are, because a step may be under way. */
static void tidy(rv_batch *b)
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
    n = n < c->n_prompt - 1 ? n : c->n_prompt - 1; /* the last token has to be fed, for its logits */
    if (e->lora != lora_id(c) || e->tenant != c->tenant) {
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

/* False: not yet, it has to be saved first. */
static bool give_up(rv_batch *b, entry *e)
{
    if (is_unsaved(b, e)) {
        e->wanted = true;
        pthread_cond_signal(&b->unsaved);
        return false;
    }
    rv_kv_rewind(e->seq, 0);
    e->saved = 0;
    e->private = false;
    return true;
}

/* Gives up idle sequences until so many bytes are free; not these two. */
static bool make_room(rv_batch *b, size_t bytes, const entry *keep, const entry *also)
{
    while (rv_budget_room(b->how.budget) < bytes) {
        entry *victim = find_victim(b, keep, also, false);
        if (!victim || !give_up(b, victim)) {
            return false;
        }
    }
    return true;
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
        if (e || !idle) {
            return e;
        }
    }
    if (make_room(b, rv_kv_promised(source->seq, c->most_tokens), source, NULL)) {
        rv_kv_rewind(source->seq, reusable);
        if (promise(b, source, c, NULL)) {
            return source;
        }
    }
    rv_kv_rewind(source->seq, 0); /* its marks may be what is in the way */
    return promise(b, source, c, NULL) ? source : NULL;
}

static void finish(rv_call *c, rv_err err)
{
    c->state = OUT;
    c->late = false;
    c->err = err;
    c->fed = c->entry ? fed(c) : 0;
    if (err) {
        snprintf(c->text, sizeof c->text, "%s", rv_err_text());
    }
}

static bool same_tenant(const rv_call *a, const rv_call *b)
{
    return a == b || (a->tenant && a->tenant == b->tenant);
}

static size_t seats_of(const rv_batch *b, const rv_call *c)
{
    size_t n = 0;
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        n += b->seats[i] && same_tenant(b->seats[i], c);
    }
    return n;
}

static uint64_t last_seat(const rv_batch *b, const rv_call *c)
{
    for (size_t i = 0; c->tenant && i < TENANTS; i++) {
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
    for (size_t i = 0; c->tenant && i < TENANTS; i++) {
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
    c->stamp = ++b->stamps;
    remember_tenant(b, c);
    c->admitted_ms = rv_clock_ms();
    c->state = c->found.reusable ? RESTORING : READY;
    if (c->state == RESTORING) {
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
static rv_call *first_in_line(const rv_batch *b)
{
    rv_call *best = NULL;
    size_t fewest = 0;
    uint64_t earliest = 0;
    for (rv_call *c = b->line; c; c = c->next) {
        size_t seats = seats_of(b, c);
        uint64_t last = last_seat(b, c);
        if (!is_cancelled(c) && (!best || seats < fewest || (seats == fewest && last < earliest))) {
            best = c;
            fewest = seats;
            earliest = last;
        }
    }
    return best;
}

static void leave_line(rv_batch *b, rv_call *c)
{
    rv_call **link = &b->line;
    while (*link != c) {
        link = &(*link)->next;
    }
    *link = c->next;
}

static void let_in_all(rv_batch *b)
{
    tidy(b);
    for (rv_call *c; has_seat(b) && !b->full && (c = first_in_line(b));) {
        if (let_in(b, c)) {
            leave_line(b, c);
        } else {
            b->full = true;
        }
    }
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
    pthread_mutex_unlock(&b->lock);
    if (rv_shelf_write(b->how.shelf, &key, &outline, e->ids, e->seq)) {
        rv_log(RV_LOG_WARN, "kv.not_saved", "why", rv_err_text(), (char *)NULL);
    }
    pthread_mutex_lock(&b->lock);
    e->saved = outline.n_tokens; /* also when it failed: trying again would hold up those who need its room */
    e->saving = e->wanted = false;
    b->full = false;
    pthread_cond_broadcast(&b->changed);
}

static void *save_idle(void *arg)
{
    rv_batch *b = arg;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        bool any;
        if (!b->busy) {
            tidy(b);
        }
        entry *e = next_to_save(b, &any);
        if (e) {
            save(b, e);
        } else if (b->closing) {
            break;
        } else if (any) {
            struct timespec until = soon(LOOK_MS * 5);
            pthread_cond_timedwait(&b->unsaved, &b->lock, &until);
        } else {
            pthread_cond_wait(&b->unsaved, &b->lock);
        }
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* ---- one step ---- */

/* Where in tokens (past, past + n] of a prompt to leave a mark, counted from past; 0: nowhere. Where the next
 * prompt is likely to part from this one: where this one parted from those before, before its last token
 * (asking again), and now and then. */
static size_t place_mark(const rv_call *c, size_t past, size_t n)
{
    const size_t wanted[] = { c->parted, c->n_prompt - 1, (past + n) / MARK_EVERY * MARK_EVERY };
    for (size_t i = 0; i < RV_COUNT(wanted) && past < c->n_prompt && !c->measuring; i++) {
        if (wanted[i] > past && wanted[i] <= past + n) {
            return wanted[i] - past;
        }
    }
    return 0;
}

static float *seat_logits(const rv_batch *b, const rv_call *c)
{
    return b->logits + c->seat * (1 + RV_DRAFTS_MAX) * b->how.n_vocab;
}

static float *seat_states(const rv_batch *b, const rv_call *c)
{
    return b->states + c->seat * RV_DRAFTS_MAX * (b->how.state_bytes / sizeof(float));
}

static void add_segment(rv_batch *b, size_t *n_segments, rv_call *c, size_t n)
{
    size_t past = fed(c), end = past + n, v = b->how.n_vocab;
    size_t from = c->measuring ? c->logits_from : c->until - 1;
    from = from < past ? past : from > end ? end : from;
    float *row = c->measuring ? c->logits + (from - c->logits_from) * v : seat_logits(b, c);
    b->segments[*n_segments] = (rv_lfm2_segment){ .seq = c->entry->seq,
                                                  .ids = c->ids + past,
                                                  .n = n,
                                                  .logits_from = from - past,
                                                  .logits = from < end ? row : NULL,
                                                  .lora = c->lora,
                                                  .states = c->drafts ? seat_states(b, c) : NULL,
                                                  .mark_after = place_mark(c, past, n) };
    b->stepping[(*n_segments)++] = c;
    c->state = STEPPING;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* One token to go, which may be a prompt's last. */
static bool answering(const rv_call *c)
{
    return c->until - fed(c) == 1;
}

/* Among those ready the one whose turn it is: answers, prompts, or measurements. */
static rv_call *next_ready(const rv_batch *b, bool answers, bool measuring)
{
    rv_call *best = NULL;
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        rv_call *c = b->seats[i];
        if (c && c->state == READY && !is_cancelled(c) && c->measuring == measuring &&
            (measuring || answering(c) == answers) && (!best || c->stamp < best->stamp)) {
            best = c;
        }
    }
    return best;
}

/* ---- drafts ---- */

static bool knows_cost(const rv_batch *b, size_t n)
{
    return b->cost_at[n] > 0 && b->step_began - b->cost_at[n] < STALE_MS;
}

/* A step of n answering tokens beside one of a single token: measured, or from the nearest that was, smaller ones
 * first. */
static double cost_of(const rv_batch *b, size_t n)
{
    size_t near = n < COSTS ? n : COSTS;
    while (near && !knows_cost(b, near)) {
        near--;
    }
    for (size_t up = n; !near && up < COSTS;) {
        near = knows_cost(b, ++up) ? up : 0;
    }
    return (near ? b->cost_ms[near] / (1 + GROWTH * (double)near) : 1) * (1 + GROWTH * (double)n);
}

/* A step that was held up says little: it counts as twice what it should have taken at most. */
static void learn_cost(rv_batch *b, size_t n, double ms)
{
    if (n <= COSTS) {
        double old = b->cost_ms[n], sane = ms < 2 * old ? ms : 2 * old;
        b->cost_ms[n] = knows_cost(b, n) ? 0.75 * old + 0.25 * sane : ms;
        b->cost_at[n] = b->step_began;
    }
}

/* Which of the answers' drafts this step takes in: one more at a time, the most likely first, up to where tokens per
 * time are most. */
static void choose_drafts(rv_batch *b, size_t room)
{
    double hit[RV_DRAFTS_STEP + 1], expected = 0, best;
    rv_call *chosen[RV_DRAFTS_STEP + 1];
    size_t n_answers = 0, n = 0, keep = 0;
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        rv_call *c = b->seats[i];
        if (c && c->state == READY) {
            c->drafts = 0;
            n_answers += !c->measuring && answering(c);
        }
    }
    room = room > n_answers ? smaller(room - n_answers, RV_DRAFTS_STEP) : 0;
    expected = (double)n_answers;
    best = n_answers ? expected / cost_of(b, n_answers) : 0;
    for (; n < room; n++) {
        hit[n] = 0;
        for (size_t i = 0; i < b->how.max_sequences; i++) {
            rv_call *c = b->seats[i];
            if (c && c->state == READY && !c->measuring && answering(c) && c->drafts < c->n_drafts) {
                double p = c->all_drafts ? 2 : pow(c->chance, (double)c->drafts + 1);
                if (p > hit[n]) {
                    hit[n] = p;
                    chosen[n] = c;
                }
            }
        }
        if (hit[n] <= 0) {
            break;
        }
        chosen[n]->drafts++;
        expected += hit[n];
        double rate = expected / cost_of(b, n_answers + n + 1);
        if (rate > best || chosen[n]->all_drafts) {
            best = rate;
            keep = n + 1;
        }
    }
    while (n > keep) {
        chosen[--n]->drafts--;
    }
}

static size_t collect(rv_batch *b)
{
    size_t room = rv_lfm2_max_chunk(b->model), n_segments = 0;
    rv_call *c = next_ready(b, false, true);
    b->pure = false;
    b->answers = 0;
    b->measured_last =
        c && (!b->measured_last || (!next_ready(b, true, false) && !next_ready(b, false, false)));
    if (b->measured_last) {
        size_t n = smaller(room, c->until - fed(c));
        add_segment(b, &n_segments, c, c->chunk ? smaller(n, c->chunk) : n);
        return n_segments;
    }
    choose_drafts(b, room);
    for (size_t n; room && (c = next_ready(b, true, false)); room -= n) {
        n = smaller(room, 1 + c->drafts);
        c->drafts = n - 1;
        add_segment(b, &n_segments, c, n);
    }
    size_t answers = n_segments;
    if (n_segments) { /* answers and prompts together come in whole tiles of the kernels */
        size_t share = b->token_ms > 0
                           ? (size_t)((SILENCE_MS - b->between_ms) / b->token_ms) / LEAST_SHARE * LEAST_SHARE
                           : FIRST_SHARE;
        room = smaller(room, share > n_segments + LEAST_SHARE ? share - n_segments : LEAST_SHARE);
    }
    while (room && (c = next_ready(b, false, false))) {
        size_t n = smaller(room, c->until - fed(c));
        add_segment(b, &n_segments, c, n);
        room -= n;
    }
    b->pure = n_segments == answers;
    b->answers = answers;
    return n_segments;
}

/* A prompt has had its time: all of its tenant go to the end of the line, in their order. */
static void go_behind(rv_batch *b, rv_call *c)
{
    c->quantum = 0;
    for (uint64_t until = b->stamps;;) {
        rv_call *first = NULL;
        for (size_t i = 0; i < b->how.max_sequences; i++) {
            rv_call *other = b->seats[i];
            if (other && same_tenant(other, c) && other->stamp <= until &&
                (!first || other->stamp < first->stamp)) {
                first = other;
            }
        }
        if (!first) {
            return;
        }
        first->stamp = ++b->stamps;
    }
}

static void deliver(rv_batch *b, size_t n_segments, rv_err err, double ms)
{
    size_t tokens = 0;
    for (size_t i = 0; i < n_segments; i++) {
        rv_call *c = b->stepping[i];
        size_t n = b->segments[i].n;
        tokens += n;
        c->quantum += n;
        if (fed(c) >= c->until) {
            c->stamp = ++b->stamps;
            c->quantum = 0;
        } else if (c->quantum >= QUANTUM) {
            go_behind(b, c);
        }
        c->state = READY;
        if (err || fed(c) >= c->until) {
            finish(c, err);
        }
    }
    if (b->pure && !err && tokens) {
        learn_cost(b, tokens, ms);
    } else if (tokens >= LEAST_SHARE + n_segments) {
        double each = ms / (double)tokens, weight = each > b->token_ms ? 0.6 : 0.3; /* too long is worse */
        b->token_ms = b->token_ms > 0 ? (1 - weight) * b->token_ms + weight * each : each;
    }
    double gather = ms / 2 < 1 ? 1 : ms / 2 > GATHER_MAX_MS ? GATHER_MAX_MS : ms / 2;
    b->gather_until = rv_clock_ms() + gather;
}

/* By a waiting call, with the lock, which is let go while computing. */
static void step(rv_batch *b, const rv_call *leader)
{
    b->busy = true;
    pthread_mutex_unlock(&b->lock);
    bool ours = rv_turn_begin(b->how.turn, leader->cancel);
    pthread_mutex_lock(&b->lock);
    if (ours) {
        for (size_t i = 0; i < b->how.max_sequences; i++) { /* who is not back by now */
            if (b->seats[i] && b->seats[i]->state == OUT) {
                b->seats[i]->late = true;
            }
        }
        b->step_began = rv_clock_ms();
        let_in_all(b);
        size_t n = collect(b);
        pthread_mutex_unlock(&b->lock);
        double start = rv_clock_ms();
        if (b->step_end > 0) {
            double between = start - b->step_end;
            b->between_ms = 0.7 * b->between_ms + 0.3 * (between < SILENCE_MS / 2 ? between : SILENCE_MS / 2);
        }
        rv_err err = n ? rv_lfm2_run(b->model, b->segments, n) : RV_OK;
        rv_turn_end(b->how.turn);
        pthread_mutex_lock(&b->lock);
        deliver(b, n, err, rv_clock_ms() - start);
        b->step_end = b->answers ? rv_clock_ms() : 0;
    }
    b->busy = false;
    pthread_cond_broadcast(&b->changed);
}

/* ---- calls ---- */

/* Whether there is something to step for, and nobody worth waiting for. */
static bool may_step(const rv_batch *b)
{
    bool any = !b->full && first_in_line(b) && has_seat(b), out = false;
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        const rv_call *c = b->seats[i];
        any |= c && c->state == READY && !is_cancelled(c);
        out |= c && c->state == OUT && !c->late;
    }
    return !b->busy && any && (!out || rv_clock_ms() >= b->gather_until);
}

/* look: somebody may raise a flag without telling. */
static void wait_changed(rv_batch *b, bool look)
{
    double ms = LOOK_MS, left = b->gather_until - rv_clock_ms();
    bool gathering = !b->busy && left > 0;
    if (!look && !gathering) {
        pthread_cond_wait(&b->changed, &b->lock);
        return;
    }
    if (gathering && left < ms) {
        ms = left;
    }
    struct timespec until = soon(ms);
    pthread_cond_timedwait(&b->changed, &b->lock, &until);
}

/* With the lock, which is let go while reading. */
static void restore(rv_batch *b, rv_call *c)
{
    entry *e = c->entry;
    rv_shelf_key key = key_of(b, e->lora, e->tenant);
    pthread_mutex_unlock(&b->lock);
    rv_err err = rv_shelf_read(b->how.shelf, &key, &c->found, e->seq, e->ids);
    bool good = !err && memcmp(e->ids, c->prompt, c->found.reusable * sizeof *e->ids) == 0;
    pthread_mutex_lock(&b->lock);
    while (b->busy) {
        wait_changed(b, false);
    }
    if (good) {
        rv_kv_rebuilt(e->seq, &c->found.outline);
    }
    c->cached = rv_kv_rewind_promised(e->seq, good ? c->found.reusable : 0, c->most_tokens);
    e->saved = c->cached == c->found.outline.n_tokens ? c->cached : 0;
    memcpy(e->ids, c->prompt, c->n_prompt * sizeof *e->ids);
    c->state = READY;
    pthread_cond_broadcast(&b->changed);
}

static void join_line(rv_batch *b, rv_call *c)
{
    rv_call **link = &b->line;
    while (*link) {
        link = &(*link)->next;
    }
    *link = c;
    c->next = NULL;
}

rv_err rv_batch_feed(rv_batch *b, rv_call *c, size_t until)
{
    assert(until <= c->most_tokens && c->most_tokens <= b->how.n_ctx);
    pthread_mutex_lock(&b->lock);
    assert(c->state == OUT && (!c->entry || fed(c) < until));
    c->until = until;
    c->drafts = 0;
    c->err = RV_OK;
    c->late = false;
    c->state = c->entry ? READY : WAITING;
    if (!c->entry) {
        join_line(b, c);
    }
    while (c->state != OUT) {
        if (c->state == RESTORING) {
            restore(b, c);
        } else if (c->state != STEPPING && is_cancelled(c)) {
            if (c->state == WAITING) {
                leave_line(b, c);
                b->full = false; /* the next one may need less */
            }
            c->cancelled = true;
            finish(c, RV_OK);
            pthread_cond_broadcast(&b->changed);
        } else if (may_step(b)) {
            step(b, c);
        } else {
            wait_changed(b, c->cancel != NULL);
        }
    }
    pthread_mutex_unlock(&b->lock);
    return c->err ? rv_fail(c->err, "%s", c->text) : RV_OK;
}

void rv_batch_end(rv_batch *b, rv_call *c)
{
    if (!c->entry) {
        return;
    }
    pthread_mutex_lock(&b->lock);
    c->entry->owner = NULL;
    c->entry->idle_since = rv_clock_ms();
    c->entry->used = ++b->stamps;
    c->entry->forget = c->measuring;
    b->seats[c->seat] = NULL;
    b->full = false;
    pthread_cond_signal(&b->unsaved);
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

const float *rv_batch_logits(const rv_batch *b, const rv_call *c, size_t after)
{
    assert(after >= c->until && after <= c->fed);
    return seat_logits(b, c) + (after - c->until) * b->how.n_vocab;
}

/* Under the lock, because others may look for their beginning in this sequence. */
void rv_batch_take_back(rv_batch *b, rv_call *c, size_t n)
{
    assert(n >= c->until && n < c->fed);
    pthread_mutex_lock(&b->lock);
    rv_kv_take_back(c->entry->seq, n,
                    seat_states(b, c) + (n - c->until) * (b->how.state_bytes / sizeof(float)));
    c->fed = n;
    pthread_mutex_unlock(&b->lock);
}

rv_err rv_batch_check(rv_batch *b)
{
    pthread_mutex_lock(&b->lock);
    while (b->busy) {
        wait_changed(b, false);
    }
    tidy(b);
    size_t owned = 0, taken = 0;
    bool mutual = true;
    for (size_t i = 0; i < b->n_entries; i++) {
        const entry *e = &b->entries[i];
        owned += e->owner != NULL;
        mutual &= !e->owner || (e->owner->entry == e && b->seats[e->owner->seat] == e->owner);
    }
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        taken += b->seats[i] != NULL;
    }
    rv_err err = owned == taken && mutual
                     ? rv_kv_check(b->kv)
                     : rv_fail(RV_E_CORRUPT, "batch: %zu sequences owned, %zu seats taken", owned, taken);
    pthread_mutex_unlock(&b->lock);
    return err;
}
