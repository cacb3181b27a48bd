/* What the two files of the adapters share: adapter.c keeps versions, adapter_take.c what is open of them. */
#ifndef RV_LEARN_ADAPTER_PRIV_H
#define RV_LEARN_ADAPTER_PRIV_H
#include "learn/adapter.h"

#include <pthread.h>
#include <stdio.h>

typedef struct use {
    char *model, *user; /* one block */
    int64_t id, base;   /* base: what id stands on */
    struct use *next;
} use;

typedef struct held {
    int64_t shared, own; /* versions that went in; 0: none */
    rv_lora *lora;       /* NULL: no file of them could be read */
    size_t refs;
    double open_ms, used_ms; /* it took to open; when it was last held, by rv_clock_ms */
    struct held *next;
} held;

/* The questions a version is for, as read from the database. */
typedef struct keys {
    int64_t id;
    size_t n, dim; /* n 0: it is for all; dim 0: for none, they are damaged */
    char embedder[64];
    float *at; /* [n][dim] */
    struct keys *next;
} keys;

struct rv_adapters {
    const rv_alloc *mem;
    rv_db *db;
    char *folder;
    pthread_mutex_t lock; /* for the three lists */
    use *uses;
    keys *keys;
    held *open;
    const rv_alloc *weights; /* of opened ones; of the budget if there is one */
    rv_budget *budget;       /* NULL: none */
    rv_budget_giver giver;
};

static inline void adapters_model_text(uint64_t model, char out[17])
{
    snprintf(out, 17, "%016llx", (unsigned long long)model);
}

/** adapters_find_use - with the lock: what a user has of a model; NULL: nothing. */
use *adapters_find_use(const rv_adapters *a, const char *model, const char *user);

/** adapters_open_room .. adapters_close_room - take part in the budget, and give back all that is open. */
void adapters_open_room(rv_adapters *a);
void adapters_close_room(rv_adapters *a);
/** adapters_tidy - with the lock: closes those that nobody holds and that are not in use any more. */
void adapters_tidy(rv_adapters *a);
/** adapters_free_keys, adapters_drop_keys - with the lock: all, or a version's; they are read again when they are asked for. */
void adapters_free_keys(rv_adapters *a);
void adapters_drop_keys(rv_adapters *a, int64_t id);
#endif
