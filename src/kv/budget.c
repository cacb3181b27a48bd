#include "kv/budget.h"

#include "base/metrics.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>

const char *const rv_budget_class_names[RV_BUDGET_CLASSES] = { "kv", "adapters", "router" };

/* An allocator of one class. */
typedef struct purse {
    rv_budget *budget;
    rv_budget_class of;
    rv_alloc alloc;
} purse;

struct rv_budget {
    const rv_alloc *mem;
    purse purses[RV_BUDGET_CLASSES];
    pthread_mutex_t lock;
    size_t bytes, used, peak, of[RV_BUDGET_CLASSES];
    size_t under_way;
    pthread_mutex_t asking; /* for the list, and while one is asked; taken before lock */
    rv_budget_giver *givers;
};

/* Of all budgets together; there is one in the program. */
static rv_metric metrics[] = {
    { .kind = RV_GAUGE,
      .name = "ruvllm_pool_budget_bytes",
      .help = "Bytes that key/value pages, adapters and router weights may hold together." },
    { .kind = RV_GAUGE,
      .name = "ruvllm_pool_used_bytes",
      .help = "Bytes of the pool in use.",
      .labels = "class=\"kv\"" },
    { .kind = RV_GAUGE,
      .name = "ruvllm_pool_used_bytes",
      .help = "Bytes of the pool in use.",
      .labels = "class=\"adapters\"" },
    { .kind = RV_GAUGE,
      .name = "ruvllm_pool_used_bytes",
      .help = "Bytes of the pool in use.",
      .labels = "class=\"router\"" },
};
enum { BUDGET, USED };

static void register_metrics(void)
{
    rv_metrics_register(metrics, RV_COUNT(metrics));
}

static int64_t bounded(const rv_budget *b)
{
    return b->bytes == SIZE_MAX ? 0 : (int64_t)b->bytes;
}

/* ---- blocks that are claimed ---- */

/* In front of a block. */
typedef struct label {
    size_t bytes;  /* claimed */
    size_t before; /* of the block, from where the heap's own begins */
} label;

static label *label_of(void *block)
{
    return (label *)block - 1;
}

static bool claim(purse *p, size_t n)
{
    while (!rv_budget_claim(p->budget, p->of, n)) {
        if (n > p->budget->bytes || !rv_budget_ask(p->budget, NULL, INFINITY)) {
            return false;
        }
    }
    return true;
}

static void *aligned_claimed(void *self, size_t align, size_t bytes)
{
    purse *p = self;
    const rv_alloc *mem = p->budget->mem;
    size_t before = align > sizeof(label) ? align : sizeof(label), all;
    if (!rv_add_size(bytes, before, &all) || !claim(p, all)) {
        return NULL;
    }
    uint8_t *base = mem->aligned(mem->self, before, all);
    if (!base) {
        rv_budget_release(p->budget, p->of, all);
        return NULL;
    }
    *label_of(base + before) = (label){ all, before };
    return base + before;
}

static void *resize_claimed(void *self, void *old, size_t bytes)
{
    purse *p = self;
    const rv_alloc *mem = p->budget->mem;
    label was = old ? *label_of(old) : (label){ 0, sizeof(label) };
    uint8_t *base = old ? (uint8_t *)old - was.before : NULL;
    size_t all;
    if (!bytes) {
        if (base) {
            mem->resize(mem->self, base, 0);
            rv_budget_release(p->budget, p->of, was.bytes);
        }
        return NULL;
    }
    /* both may be there for a moment */
    if (!rv_add_size(bytes, sizeof(label), &all) || !claim(p, all)) {
        return NULL;
    }
    uint8_t *fresh = mem->resize(mem->self, base, all);
    rv_budget_release(p->budget, p->of, fresh ? was.bytes : all);
    if (!fresh) {
        return NULL;
    }
    *(label *)(void *)fresh = (label){ all, sizeof(label) };
    return fresh + sizeof(label);
}

const rv_alloc *rv_budget_mem(rv_budget *b, rv_budget_class of)
{
    return &b->purses[of].alloc;
}

/* ---- the budget ---- */

rv_err rv_budget_new(const rv_alloc *mem, size_t bytes, rv_budget **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_metrics);
    rv_budget *b = rv_new(mem, sizeof *b);
    if (!b) {
        return rv_fail(RV_E_NOMEM, "memory pool: no memory");
    }
    *b = (rv_budget){ .mem = mem, .bytes = bytes };
    for (int i = 0; i < RV_BUDGET_CLASSES; i++) {
        b->purses[i] = (purse){ .budget = b,
                                .of = (rv_budget_class)i,
                                .alloc = { &b->purses[i], resize_claimed, aligned_claimed } };
    }
    pthread_mutex_init(&b->lock, NULL);
    pthread_mutex_init(&b->asking, NULL);
    rv_metric_add(&metrics[BUDGET], bounded(b));
    *out = b;
    return RV_OK;
}

void rv_budget_free(rv_budget *b)
{
    if (!b) {
        return;
    }
    assert(b->used == 0 && !b->givers);
    rv_metric_add(&metrics[BUDGET], -bounded(b));
    pthread_mutex_destroy(&b->asking);
    pthread_mutex_destroy(&b->lock);
    rv_free(b->mem, b);
}

bool rv_budget_claim(rv_budget *b, rv_budget_class of, size_t n)
{
    pthread_mutex_lock(&b->lock);
    bool fits = n <= b->bytes - b->used;
    if (fits) {
        b->used += n;
        b->of[of] += n;
        b->peak = b->used > b->peak ? b->used : b->peak;
        rv_metric_add(&metrics[USED + of], (int64_t)n);
    }
    pthread_mutex_unlock(&b->lock);
    return fits;
}

void rv_budget_release(rv_budget *b, rv_budget_class of, size_t n)
{
    pthread_mutex_lock(&b->lock);
    assert(n <= b->of[of]);
    b->used -= n;
    b->of[of] -= n;
    pthread_mutex_unlock(&b->lock);
    rv_metric_add(&metrics[USED + of], -(int64_t)n);
}

void rv_budget_begin(rv_budget *b)
{
    pthread_mutex_lock(&b->lock);
    b->under_way++;
    pthread_mutex_unlock(&b->lock);
}

void rv_budget_end(rv_budget *b)
{
    pthread_mutex_lock(&b->lock);
    assert(b->under_way > 0);
    b->under_way--;
    pthread_mutex_unlock(&b->lock);
}

static size_t look(const rv_budget *b, const size_t *at)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&b->lock;
    pthread_mutex_lock(lock);
    size_t n = *at;
    pthread_mutex_unlock(lock);
    return n;
}

bool rv_budget_is_idle(const rv_budget *b)
{
    return look(b, &b->under_way) == 0;
}
size_t rv_budget_bytes(const rv_budget *b)
{
    return b->bytes;
}
size_t rv_budget_room(const rv_budget *b)
{
    return b->bytes - look(b, &b->used);
}
size_t rv_budget_used(const rv_budget *b, rv_budget_class of)
{
    return look(b, &b->of[of]);
}
size_t rv_budget_peak(const rv_budget *b)
{
    return look(b, &b->peak);
}

/* ---- who can give something up ---- */

void rv_budget_join(rv_budget *b, rv_budget_giver *giver)
{
    pthread_mutex_lock(&b->asking);
    giver->next = b->givers;
    b->givers = giver;
    pthread_mutex_unlock(&b->asking);
}

void rv_budget_leave(rv_budget *b, rv_budget_giver *giver)
{
    pthread_mutex_lock(&b->asking);
    rv_budget_giver **link = &b->givers;
    while (*link && *link != giver) {
        link = &(*link)->next;
    }
    if (*link) {
        *link = giver->next;
    }
    pthread_mutex_unlock(&b->asking);
}

bool rv_budget_ask(rv_budget *b, const rv_budget_giver *asking, double below)
{
    pthread_mutex_lock(&b->asking);
    rv_budget_giver *best = NULL;
    for (rv_budget_giver *g = b->givers; g; g = g->next) {
        double score = g == asking ? INFINITY : g->offer(g->self);
        if (score < below) {
            below = score;
            best = g;
        }
    }
    bool gave = best && best->give(best->self);
    pthread_mutex_unlock(&b->asking);
    return gave;
}

double rv_budget_score(double idle_s, double importance, double rebuild_ms, size_t bytes)
{
    return 0.4 * exp(-idle_s / 600) + 0.3 * importance + 0.2 * fmin(1, rebuild_ms / 500) -
           0.1 * log2(1 + (double)bytes / (1 << 20)) / 20;
}
