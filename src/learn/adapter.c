/* What is in use is a small table in memory, read once and kept equal to the one in the database. Opened adapters are kept while
 * they are in use or held; one of a user and one of everybody are added up into a third one when first taken together. */
#include "learn/adapter.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "kernels/kernels.h"
#include "store/witness.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_VERSIONS = 100000 };

static const char *const steps[] = {
    "CREATE TABLE adapter ("
    "  id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, model TEXT NOT NULL, user TEXT NOT NULL, origin TEXT "
    "NOT NULL,"
    "  rows INTEGER NOT NULL, before REAL NOT NULL, after REAL NOT NULL, created_ms INTEGER NOT NULL);"
    "CREATE TABLE adapter_use ("
    "  model TEXT NOT NULL, user TEXT NOT NULL, adapter INTEGER NOT NULL, PRIMARY KEY (model, user)) WITHOUT "
    "ROWID;",
    "CREATE TABLE adapter_key (adapter INTEGER PRIMARY KEY, embedder TEXT NOT NULL, dim INTEGER NOT NULL, "
    "keys BLOB NOT NULL);",
    "ALTER TABLE adapter ADD COLUMN base INTEGER NOT NULL DEFAULT 0;",
};

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
    size_t n, dim; /* n 0: it is for all */
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

/* ---- what is in use ---- */

static void model_text(uint64_t model, char out[17])
{
    snprintf(out, 17, "%016llx", (unsigned long long)model);
}

static use *find_use(const rv_adapters *a, const char *model, const char *user)
{
    use *u = a->uses;
    while (u && (strcmp(u->model, model) != 0 || strcmp(u->user, user) != 0)) {
        u = u->next;
    }
    return u;
}

static use *make_use(const rv_adapters *a, const char *model, const char *user, int64_t id)
{
    size_t n = strlen(model) + 1, m = strlen(user) + 1;
    use *u = rv_new(a->mem, sizeof *u + n + m);
    if (u) {
        *u = (use){ .id = id };
        u->model = (char *)(u + 1);
        u->user = u->model + n;
        memcpy(u->model, model, n);
        memcpy(u->user, user, m);
    }
    return u;
}

static rv_err read_uses(rv_adapters *a)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    RV_TRY(rv_db_reader(a->db, &conn));
    rv_err e = rv_db_prepare(conn, &s,
                             "SELECT u.model, u.user, u.adapter, coalesce(a.base, 0) FROM adapter_use u LEFT "
                             "JOIN adapter a ON a.id = u.adapter",
                             "");
    while (!e && !(e = rv_db_step(s, &row)) && row) {
        use *u = make_use(a, (const char *)sqlite3_column_text(s, 0), (const char *)sqlite3_column_text(s, 1),
                          sqlite3_column_int64(s, 2));
        if (!u) {
            e = rv_fail(RV_E_NOMEM, "reading adapters");
            break;
        }
        u->base = sqlite3_column_int64(s, 3);
        u->next = a->uses;
        a->uses = u;
    }
    sqlite3_finalize(s);
    rv_db_reader_done(a->db, conn);
    return e;
}

static void free_uses(rv_adapters *a)
{
    while (a->uses) {
        use *u = a->uses;
        a->uses = u->next;
        rv_free(a->mem, u);
    }
}

static void free_keys(rv_adapters *a)
{
    while (a->keys) {
        keys *k = a->keys;
        a->keys = k->next;
        rv_free(a->mem, k->at);
        rv_free(a->mem, k);
    }
}

static rv_metric damaged = { .kind = RV_COUNTER,
                             .name = "ruvllm_adapters_damaged_total",
                             .help =
                                 "Files of adapters that could not be read; the version before was used." };

/* ---- room for others ---- */

/* Which goes first of those that nobody holds; NULL: none. */
static held **cheapest(rv_adapters *a, double *score)
{
    held **best = NULL;
    *score = INFINITY;
    for (held **link = &a->open; *link; link = &(*link)->next) {
        held *h = *link;
        double s = h->refs || !h->lora ? (double)INFINITY
                                       : rv_budget_score((rv_clock_ms() - h->used_ms) / 1e3, 0, h->open_ms,
                                                         h->lora->n_weights * sizeof(float));
        if (s < *score) {
            *score = s;
            best = link;
        }
    }
    return best;
}

static double offer(void *self)
{
    rv_adapters *a = self;
    double score;
    if (pthread_mutex_trylock(&a->lock)) {
        return INFINITY;
    }
    (void)cheapest(a, &score);
    pthread_mutex_unlock(&a->lock);
    return score;
}

/* With the lock. */
static bool drop_cheapest(rv_adapters *a)
{
    double score;
    held **link = cheapest(a, &score), *h = link ? *link : NULL;
    if (h) {
        *link = h->next;
        rv_lora_close(h->lora);
        rv_free(a->mem, h);
    }
    return h != NULL;
}

static bool give(void *self)
{
    rv_adapters *a = self;
    if (pthread_mutex_trylock(&a->lock)) {
        return false;
    }
    bool gave = drop_cheapest(a);
    pthread_mutex_unlock(&a->lock);
    return gave;
}

rv_err rv_adapters_open(const rv_alloc *mem, rv_db *db, rv_budget *budget, rv_adapters **out)
{
    rv_metrics_register(&damaged, 1); /* again is without effect */
    RV_TRY(rv_db_migrate(db, "adapter", steps, RV_COUNT(steps)));
    rv_adapters *a = rv_new(mem, sizeof *a);
    if (!a) {
        return rv_fail(RV_E_NOMEM, "opening adapters");
    }
    *a = (rv_adapters){ .mem = mem,
                        .db = db,
                        .weights = budget ? rv_budget_mem(budget, RV_BUDGET_ADAPTERS) : mem,
                        .budget = budget,
                        .giver = { .offer = offer, .give = give, .self = a } };
    pthread_mutex_init(&a->lock, NULL);
    if (budget) {
        rv_budget_join(budget, &a->giver);
    }
    a->folder = rv_path_join(mem, rv_db_dir(db), "adapters");
    rv_err e = a->folder ? rv_dir_make(a->folder) : rv_fail(RV_E_NOMEM, "opening adapters");
    if (!e) {
        e = read_uses(a);
    }
    if (e) {
        rv_adapters_close(a);
        return e;
    }
    *out = a;
    return RV_OK;
}

void rv_adapters_close(rv_adapters *a)
{
    if (!a) {
        return;
    }
    if (a->budget) {
        rv_budget_leave(a->budget, &a->giver);
    }
    free_uses(a);
    free_keys(a);
    while (a->open) {
        held *h = a->open;
        a->open = h->next;
        rv_lora_close(h->lora);
        rv_free(a->mem, h);
    }
    pthread_mutex_destroy(&a->lock);
    rv_free(a->mem, a->folder);
    rv_free(a->mem, a);
}

int64_t rv_adapters_in_use(rv_adapters *a, uint64_t model, const char *user)
{
    char name[17];
    model_text(model, name);
    pthread_mutex_lock(&a->lock);
    const use *u = find_use(a, name, user ? user : "");
    int64_t id = u ? u->id : 0;
    pthread_mutex_unlock(&a->lock);
    return id;
}

/* ---- versions ---- */

static void read_version(sqlite3_stmt *s, rv_arena *arena, rv_adapter_version *out)
{
    *out = (rv_adapter_version){ .id = sqlite3_column_int64(s, 0),
                                 .parent = sqlite3_column_int64(s, 1),
                                 .model = strtoull((const char *)sqlite3_column_text(s, 2), NULL, 16),
                                 .user = rv_arena_strdup(arena, (const char *)sqlite3_column_text(s, 3)),
                                 .origin = rv_arena_strdup(arena, (const char *)sqlite3_column_text(s, 4)),
                                 .rows = sqlite3_column_int64(s, 5),
                                 .before = sqlite3_column_double(s, 6),
                                 .after = sqlite3_column_double(s, 7),
                                 .created_ms = sqlite3_column_int64(s, 8),
                                 .in_use = sqlite3_column_int(s, 9) != 0,
                                 .base = sqlite3_column_int64(s, 10) };
}

#define COLUMNS                                                                                              \
    "SELECT id, parent, model, user, origin, rows, before, after, created_ms, EXISTS (SELECT 1 FROM "        \
    "adapter_use u "                                                                                         \
    "WHERE u.adapter = adapter.id), base FROM adapter"

rv_err rv_adapters_get(rv_adapters *a, int64_t id, rv_arena *arena, rv_adapter_version *out)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = false;
    RV_TRY(rv_db_reader(a->db, &conn));
    rv_err e = rv_db_prepare(conn, &s, COLUMNS " WHERE id = ?1", "i", id);
    if (!e) {
        e = rv_db_step(s, &row);
    }
    if (!e && !row) {
        e = rv_fail(RV_E_NOT_FOUND, "there is no adapter %lld", (long long)id);
    }
    if (!e) {
        read_version(s, arena, out);
        e = out->user && out->origin ? RV_OK : rv_fail(RV_E_NOMEM, "reading an adapter");
    }
    sqlite3_finalize(s);
    rv_db_reader_done(a->db, conn);
    return e;
}

rv_err rv_adapters_list(rv_adapters *a, rv_arena *arena, rv_adapter_version **out, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    int64_t count = 0;
    size_t found = 0;
    RV_TRY(rv_db_reader(a->db, &conn));
    rv_err e = rv_db_int(conn, &count, "SELECT min(count(*), ?1) FROM adapter", "i", (int64_t)MAX_VERSIONS);
    rv_adapter_version *list = rv_arena_take(arena, ((size_t)count + 1) * sizeof *list);
    if (!e && !list) {
        e = rv_fail(RV_E_NOMEM, "reading adapters");
    }
    if (!e) {
        e = rv_db_prepare(conn, &s, COLUMNS " ORDER BY id DESC LIMIT ?1", "i", count);
    }
    while (!e && !(e = rv_db_step(s, &row)) && row) {
        read_version(s, arena, &list[found]);
        if (!list[found].user || !list[found].origin) {
            e = rv_fail(RV_E_NOMEM, "reading adapters");
        }
        found++;
    }
    sqlite3_finalize(s);
    rv_db_reader_done(a->db, conn);
    if (!e) {
        *out = list;
        *n = found;
    }
    return e;
}

rv_err rv_adapters_path(const rv_adapters *a, int64_t id, rv_arena *arena, const char **out)
{
    *out = rv_arena_printf(arena, "%s/%lld.gguf", a->folder, (long long)id);
    return *out ? RV_OK : rv_fail(RV_E_NOMEM, "an adapter's path");
}

static rv_err witness(sqlite3 *conn, const char *what, const char *model, const char *user, int64_t id,
                      int64_t from)
{
    json_t *body = json_pack("{s:s, s:s, s:s, s:I, s:I}", "what", what, "model", model, "user", user,
                             "adapter", (json_int_t)id, "before", (json_int_t)from);
    rv_text text;
    rv_text_init(&text, &rv_heap, 1 << 16);
    rv_err e = body ? RV_OK : rv_fail(RV_E_NOMEM, "writing the witness record");
    if (!e) {
        rv_json_text(body, &text);
        e = rv_text_check(&text);
    }
    if (!e) {
        e = rv_witness_append(conn, "adapter", "", rv_text_get(&text), text.n);
    }
    rv_text_deinit(&text);
    json_decref(body);
    return e;
}

/* The row of what is in use, and its record; in the caller's transaction. */
static rv_err write_use(sqlite3 *conn, const char *what, const char *model, const char *user, int64_t id,
                        int64_t from)
{
    RV_TRY(rv_db_exec(conn,
                      "INSERT INTO adapter_use VALUES (?1,?2,?3) ON CONFLICT DO UPDATE SET adapter = ?3",
                      "tti", model, user, id));
    return witness(conn, what, model, user, id, from);
}

/* After the commit: what takers see. spare: for a user that had none, taken or freed. */
static void switch_to(rv_adapters *a, const char *model, const char *user, int64_t id, int64_t base,
                      use *spare)
{
    pthread_mutex_lock(&a->lock);
    use *u = find_use(a, model, user);
    if (u) {
        u->id = id;
        u->base = base;
    } else {
        spare->id = id;
        spare->base = base;
        spare->next = a->uses;
        a->uses = spare;
        spare = NULL;
    }
    pthread_mutex_unlock(&a->lock);
    rv_free(a->mem, spare);
}

static rv_err write_version(sqlite3 *conn, const rv_adapter_version *v, const char *model, const char *user,
                            int64_t parent, int64_t id)
{
    RV_TRY(rv_db_exec(conn, "INSERT INTO adapter VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)", "iitttiffii", id,
                      parent, model, user, v->origin, v->rows, v->before, v->after, rv_clock_wall_ms(),
                      v->base));
    if (v->n_keys) {
        RV_TRY(rv_db_exec(conn, "INSERT INTO adapter_key VALUES (?1,?2,?3,?4)", "itib", id, v->embedder,
                          (int64_t)v->dim, v->keys, v->n_keys * v->dim * sizeof *v->keys));
    }
    return write_use(conn, "publish", model, user, id, parent);
}

rv_err rv_adapters_publish(rv_adapters *a, const rv_adapter_version *v, const rv_lora *lora, int64_t *out)
{
    char model[17], path[4096];
    const char *user = v->user ? v->user : "";
    int64_t id = 0, parent = rv_adapters_in_use(a, v->model, user);
    model_text(v->model, model);
    use *spare = make_use(a, model, user, 0);
    if (!spare) {
        return rv_fail(RV_E_NOMEM, "publishing an adapter");
    }
    sqlite3 *conn;
    rv_err e = rv_db_begin(a->db, &conn);
    if (e) {
        rv_free(a->mem, spare);
        return e;
    }
    e = rv_db_int(conn, &id, "SELECT coalesce(max(id), 0) + 1 FROM adapter", "");
    snprintf(path, sizeof path, "%s/%lld.gguf", a->folder, (long long)id);
    if (!e) {
        e = rv_lora_write(lora, path, v->origin); /* durable before the row that names it */
    }
    if (!e) {
        e = write_version(conn, v, model, user, parent, id);
    }
    if (e) {
        rv_db_rollback(a->db);
    } else {
        e = rv_db_commit(a->db);
    }
    if (e) {
        unlink(path); /* nothing names it; one that stays is written over by the next */
        rv_free(a->mem, spare);
        return e;
    }
    switch_to(a, model, user, id, v->base, spare);
    *out = id;
    return RV_OK;
}

static rv_err check_version(sqlite3 *conn, const char *model, const char *user, int64_t id)
{
    int64_t found = 0;
    RV_TRY(rv_db_int(conn, &found, "SELECT count(*) FROM adapter WHERE id = ?1 AND model = ?2 AND user = ?3",
                     "itt", id, model, user));
    return id == 0 || found
               ? RV_OK
               : rv_fail(RV_E_NOT_FOUND, "there is no adapter %lld of that model and user", (long long)id);
}

rv_err rv_adapters_use(rv_adapters *a, uint64_t model_id, const char *user, int64_t id)
{
    char model[17];
    sqlite3 *conn;
    int64_t base = 0;
    user = user ? user : "";
    model_text(model_id, model);
    use *spare = make_use(a, model, user, 0);
    if (!spare) {
        return rv_fail(RV_E_NOMEM, "using an adapter");
    }
    rv_err e = rv_db_begin(a->db, &conn);
    if (!e) {
        e = check_version(conn, model, user, id);
        e = e ? e : rv_db_int(conn, &base, "SELECT base FROM adapter WHERE id = ?1", "i", id);
        e = e ? e : write_use(conn, "use", model, user, id, rv_adapters_in_use(a, model_id, user));
        if (e) {
            rv_db_rollback(a->db);
        } else {
            e = rv_db_commit(a->db);
        }
    }
    if (e) {
        rv_free(a->mem, spare);
        return e;
    }
    switch_to(a, model, user, id, base, spare);
    return RV_OK;
}

/* ---- forgetting ---- */

/* Takes a version out: what used it, or came from it, goes on with its parent. */
static rv_err splice(sqlite3 *conn, int64_t id)
{
    static const char *const sql[] = {
        "UPDATE adapter_use SET adapter = (SELECT parent FROM adapter WHERE id = ?1) WHERE adapter = ?1",
        "UPDATE adapter SET parent = (SELECT parent FROM adapter WHERE id = ?1) WHERE parent = ?1",
        "DELETE FROM adapter_key WHERE adapter = ?1",
        "DELETE FROM adapter WHERE id = ?1",
    };
    for (size_t i = 0; i < RV_COUNT(sql); i++) {
        RV_TRY(rv_db_exec(conn, sql[i], "i", id));
    }
    return RV_OK;
}

/* All versions that a query of one id finds, one after the other: user is ?1, number ?2. */
static rv_err splice_all(sqlite3 *conn, const char *sql, const char *user, int64_t number, size_t *n)
{
    for (*n = 0;; ++*n) {
        int64_t id = 0;
        RV_TRY(rv_db_int(conn, &id, sql, "ti", user, number));
        if (id == 0) {
            return RV_OK;
        }
        RV_TRY(splice(conn, id));
    }
}

/* Files of versions that are in no row. */
static rv_err sweep(rv_adapters *a)
{
    sqlite3 *conn;
    DIR *folder = opendir(a->folder);
    if (!folder) {
        return rv_fail(RV_E_IO, "%s: cannot read the folder: %s", a->folder, strerror(errno));
    }
    rv_err e = rv_db_reader(a->db, &conn);
    if (e) {
        closedir(folder);
        return e;
    }
    for (const struct dirent *entry; !e && (entry = readdir(folder));) {
        char *end = NULL;
        int64_t known = 0;
        long long id = strtoll(entry->d_name, &end, 10);
        bool unfinished = strstr(entry->d_name, ".ckpt") != NULL; /* of a training that was cut short */
        if (!unfinished && (end == entry->d_name || id <= 0 || strncmp(end, ".gguf", 5) != 0)) {
            continue;
        }
        id = unfinished ? 0 : id;
        e = rv_db_int(conn, &known, "SELECT count(*) FROM adapter WHERE id = ?1", "i", (int64_t)id);
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", a->folder, entry->d_name);
        if (!e && !known && unlink(path) < 0) {
            e = rv_fail(RV_E_IO, "%s: cannot be removed: %s", path, strerror(errno));
        }
    }
    closedir(folder);
    rv_db_reader_done(a->db, conn);
    return e ? e : rv_dir_sync(a->folder);
}

/* In one transaction; then memory follows, and the files go. */
static rv_err remove_versions(rv_adapters *a, const char *sql, const char *user, int64_t number, bool and_use,
                              size_t *removed)
{
    sqlite3 *conn;
    size_t n = 0;
    RV_TRY(rv_db_begin(a->db, &conn));
    rv_err e = splice_all(conn, sql, user, number, &n);
    e = e || !and_use ? e : rv_db_exec(conn, "DELETE FROM adapter_use WHERE user = ?1", "t", user);
    if (e) {
        rv_db_rollback(a->db);
        return e;
    }
    RV_TRY(rv_db_commit(a->db));
    pthread_mutex_lock(&a->lock);
    free_uses(a);
    free_keys(a);
    e = read_uses(a);
    pthread_mutex_unlock(&a->lock);
    if (!e) {
        *removed = n;
    }
    return e ? e : sweep(a);
}

rv_err rv_adapters_forget(rv_adapters *a, const char *user, int64_t since_ms, size_t *removed)
{
    static const char sql[] =
        "SELECT id FROM adapter WHERE user = ?1 AND created_ms >= ?2 AND (?2 = 0 OR origin <> "
        "'load') ORDER BY id DESC LIMIT 1";
    return remove_versions(a, sql, user, since_ms, since_ms == 0, removed);
}

rv_err rv_adapters_prune(rv_adapters *a, size_t keep, size_t *removed)
{
    static const char sql[] = "SELECT id FROM adapter v WHERE ?1 IS NULL AND origin <> 'load' AND id NOT IN "
                              "(SELECT adapter FROM adapter_use)"
                              " AND id NOT IN (SELECT base FROM adapter) AND (SELECT count(*) FROM adapter n "
                              "WHERE n.model = v.model AND"
                              " n.user = v.user AND n.id > v.id) >= ?2 ORDER BY id LIMIT 1";
    return remove_versions(a, sql, NULL, (int64_t)keep, false, removed);
}

/* ---- the questions a version is for ---- */

static rv_err read_keys(rv_adapters *a, int64_t id, keys *out)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = false;
    RV_TRY(rv_db_reader(a->db, &conn));
    rv_err e =
        rv_db_prepare(conn, &s, "SELECT embedder, dim, keys FROM adapter_key WHERE adapter = ?1", "i", id);
    e = e ? e : rv_db_step(s, &row);
    if (!e && row) {
        int64_t dim = sqlite3_column_int64(s, 1);
        size_t bytes = (size_t)sqlite3_column_bytes(s, 2);
        if (dim < 1 || dim > 1 << 20 || bytes == 0 || bytes % ((size_t)dim * sizeof(float)) != 0) {
            e = rv_fail(RV_E_CORRUPT, "adapter %lld: %zu bytes of keys of %lld dimensions", (long long)id,
                        bytes, (long long)dim);
        } else if (!(out->at = rv_new(a->mem, bytes))) {
            e = rv_fail(RV_E_NOMEM, "an adapter's keys");
        } else {
            memcpy(out->at, sqlite3_column_blob(s, 2), bytes);
            out->dim = (size_t)dim;
            out->n = bytes / (out->dim * sizeof(float));
            snprintf(out->embedder, sizeof out->embedder, "%s", (const char *)sqlite3_column_text(s, 0));
        }
    }
    sqlite3_finalize(s);
    rv_db_reader_done(a->db, conn);
    return e;
}

/* With the lock. */
static rv_err find_keys(rv_adapters *a, int64_t id, const keys **out)
{
    for (*out = a->keys; *out; *out = (*out)->next) {
        if ((*out)->id == id) {
            return RV_OK;
        }
    }
    keys *k = rv_new(a->mem, sizeof *k);
    if (!k) {
        return rv_fail(RV_E_NOMEM, "an adapter's keys");
    }
    *k = (keys){ .id = id };
    rv_err e = read_keys(a, id, k);
    if (e) {
        rv_free(a->mem, k);
        return e;
    }
    k->next = a->keys;
    a->keys = k;
    *out = k;
    return RV_OK;
}

/* With the lock. Is the version for such a question? */
static rv_err is_for(rv_adapters *a, const rv_adapter_question *q, int64_t id, bool *yes)
{
    const keys *k = NULL;
    RV_TRY(find_keys(a, id, &k));
    bool like = k->n == 0;
    if (!like && q && q->dim == k->dim && strcmp(q->embedder, k->embedder) == 0) {
        const rv_kernels *kernels = rv_kernels_best();
        for (size_t i = 0; i < k->n && !like; i++) {
            like = kernels->dot_f32(k->at + i * k->dim, q->vector, k->dim) >= RV_ADAPTER_LIKE;
        }
    }
    *yes = like;
    return RV_OK;
}

/* With the lock. What of a user's is for a question: a micro adapter with what it stands on, that alone, or nothing (0). */
static rv_err for_question(rv_adapters *a, const use *u, const rv_adapter_question *q, int64_t *id)
{
    const int64_t ids[] = { u ? u->id : 0, u ? u->base : 0 };
    *id = 0;
    for (size_t i = 0; i < RV_COUNT(ids) && *id == 0; i++) {
        bool yes = false;
        RV_TRY(ids[i] ? is_for(a, q, ids[i], &yes) : RV_OK);
        *id = yes ? ids[i] : 0;
    }
    return RV_OK;
}

/* ---- taking ---- */

static int64_t number_of(rv_adapters *a, const char *sql, int64_t id)
{
    int64_t number = 0;
    sqlite3 *conn;
    if (!rv_db_reader(a->db, &conn)) {
        if (rv_db_int(conn, &number, sql, "i", id)) {
            number = 0;
        }
        rv_db_reader_done(a->db, conn);
    }
    return number < id ? number : 0;
}

static rv_err open_file(const rv_adapters *a, const rv_engine *engine, const rv_alloc *mem, int64_t id,
                        rv_lora **out)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%lld.gguf", a->folder, (long long)id);
    return rv_engine_open_lora(engine, mem, path, out);
}

static rv_err open_files(rv_adapters *a, const rv_engine *engine, const rv_alloc *mem, int64_t id,
                         rv_lora **own, rv_lora **base)
{
    int64_t under = number_of(a, "SELECT base FROM adapter WHERE id = ?1", id);
    rv_lora *first = NULL, *second = NULL;
    RV_TRY(open_file(a, engine, mem, id, &first));
    rv_err e = under ? open_file(a, engine, mem, under, &second) : RV_OK;
    if (e) {
        rv_lora_close(first);
        return e;
    }
    *own = first;
    *base = second;
    return RV_OK;
}

rv_err rv_adapters_open_files(rv_adapters *a, const rv_engine *engine, int64_t id, rv_lora **own,
                              rv_lora **base)
{
    return open_files(a, engine, a->mem, id, own, base);
}

static rv_err open_whole(rv_adapters *a, const rv_engine *engine, int64_t id, rv_lora **out)
{
    rv_lora *own = NULL, *base = NULL;
    RV_TRY(open_files(a, engine, a->weights, id, &own, &base));
    if (!base) {
        *out = own;
        return RV_OK;
    }
    rv_err e = rv_lora_stack(a->weights, base, own, out);
    rv_lora_close(own);
    rv_lora_close(base);
    return e;
}

/* A claim that was refused looks like memory that is not there. */
static rv_err no_room(const rv_adapters *a)
{
    return a->budget
               ? rv_fail(RV_E_FULL,
                         "the memory pool of %zu bytes has room for %zu more, which is too little for an "
                         "adapter; ask again, or raise inference.pool_mb",
                         rv_budget_bytes(a->budget), rv_budget_room(a->budget))
               : rv_fail(RV_E_NOMEM, "no memory for an adapter");
}

/* The version, or the newest of its ancestors whose files are sound. NULL: none. */
static rv_err open_version(rv_adapters *a, const rv_engine *engine, int64_t id, rv_lora **out)
{
    *out = NULL;
    for (; id; id = number_of(a, "SELECT parent FROM adapter WHERE id = ?1", id)) {
        rv_err e;
        do { /* others were asked, and could not ask us */
            e = open_whole(a, engine, id, out);
        } while (e == RV_E_NOMEM && drop_cheapest(a));
        if (!e || e == RV_E_NOMEM) {
            return e ? no_room(a) : RV_OK;
        }
        rv_metric_add(&damaged, 1);
        rv_log(RV_LOG_WARN, "adapter.damaged", "error", rv_err_text(), "doing", "using the version before it",
               (char *)NULL);
    }
    return RV_OK;
}

static rv_err open_both(rv_adapters *a, const rv_engine *engine, held *h)
{
    rv_lora *shared = NULL, *own = NULL;
    rv_err e = open_version(a, engine, h->shared, &shared);
    if (!e) {
        e = open_version(a, engine, h->own, &own);
    }
    if (!e && shared && own) {
        do {
            e = rv_lora_stack(a->weights, shared, own, &h->lora);
        } while (e == RV_E_NOMEM && drop_cheapest(a));
        e = e == RV_E_NOMEM ? no_room(a) : e;
    } else if (!e) {
        h->lora = shared ? shared : own;
        return RV_OK;
    }
    rv_lora_close(shared);
    rv_lora_close(own);
    return e;
}

/* With the lock. Those that nobody holds and that are not in use any more. */
static void tidy(rv_adapters *a)
{
    for (held **link = &a->open; *link;) {
        held *h = *link;
        bool used_shared = !h->shared, used_own = !h->own;
        for (const use *u = a->uses; u; u = u->next) {
            used_shared |= u->id == h->shared || u->base == h->shared;
            used_own |= u->id == h->own || u->base == h->own;
        }
        if (h->refs || (used_shared && used_own)) {
            link = &h->next;
            continue;
        }
        *link = h->next;
        rv_lora_close(h->lora);
        rv_free(a->mem, h);
    }
}

static rv_err find_or_open(rv_adapters *a, const rv_engine *engine, int64_t shared, int64_t own, held **out)
{
    for (held *h = a->open; h; h = h->next) {
        if (h->shared == shared && h->own == own) {
            *out = h;
            return RV_OK;
        }
    }
    held *h = rv_new(a->mem, sizeof *h);
    if (!h) {
        return rv_fail(RV_E_NOMEM, "taking an adapter");
    }
    *h = (held){ .shared = shared, .own = own };
    double start = rv_clock_ms();
    rv_err e = open_both(a, engine, h);
    h->used_ms = rv_clock_ms();
    h->open_ms = h->used_ms - start;
    if (e) {
        rv_free(a->mem, h);
        return e;
    }
    h->next = a->open;
    a->open = h;
    *out = h;
    return RV_OK;
}

rv_err rv_adapters_take(rv_adapters *a, const rv_engine *engine, const char *user,
                        const rv_adapter_question *question, const rv_lora **out)
{
    char model[17];
    model_text(rv_engine_get_info(engine)->fingerprint, model);
    pthread_mutex_lock(&a->lock);
    const use *shared = find_use(a, model, ""), *own = user && *user ? find_use(a, model, user) : NULL;
    int64_t shared_id = 0, own_id = 0;
    held *h = NULL;
    rv_err e = for_question(a, shared, question, &shared_id);
    e = e ? e : for_question(a, own, question, &own_id);
    if (!e && (shared_id || own_id)) {
        tidy(a);
        e = find_or_open(a, engine, shared_id, own_id, &h);
    }
    if (!e) {
        *out = h ? h->lora : NULL;
        if (*out) {
            h->refs++;
        }
    }
    pthread_mutex_unlock(&a->lock);
    return e;
}

void rv_adapters_put(rv_adapters *a, const rv_lora *lora)
{
    if (!lora) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    for (held *h = a->open; h; h = h->next) {
        if (h->lora == lora) {
            h->refs--;
            h->used_ms = rv_clock_ms();
        }
    }
    tidy(a);
    pthread_mutex_unlock(&a->lock);
}
