/* Versions: rows, files, and which one is in use, a small table in memory, read once and kept equal to the one in the database. */
#include "learn/adapter_priv.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "store/witness.h"

#include <dirent.h>
#include <errno.h>
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
    ("CREATE TABLE adapter_key ("
     "  adapter INTEGER PRIMARY KEY, embedder TEXT NOT NULL, dim INTEGER NOT NULL, keys BLOB NOT NULL);"),
    "ALTER TABLE adapter ADD COLUMN base INTEGER NOT NULL DEFAULT 0;",
    /* The newest number ever given: one that was forgotten is not given again, records and what is open still name it. */
    ("CREATE TABLE adapter_last (id INTEGER NOT NULL);"
     "INSERT INTO adapter_last SELECT coalesce(max(id), 0) FROM adapter;"),
};

/* ---- what is in use ---- */

use *adapters_find_use(const rv_adapters *a, const char *model, const char *user)
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

rv_err rv_adapters_open(const rv_alloc *mem, rv_db *db, rv_budget *budget, rv_adapters **out)
{
    RV_TRY(rv_db_migrate(db, "adapter", steps, RV_COUNT(steps)));
    rv_adapters *a = rv_new(mem, sizeof *a);
    if (!a) {
        return rv_fail(RV_E_NOMEM, "opening adapters");
    }
    *a = (rv_adapters){ .mem = mem, .db = db, .budget = budget };
    pthread_mutex_init(&a->lock, NULL);
    adapters_open_room(a);
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
    adapters_close_room(a);
    free_uses(a);
    pthread_mutex_destroy(&a->lock);
    rv_free(a->mem, a->folder);
    rv_free(a->mem, a);
}

int64_t rv_adapters_in_use(rv_adapters *a, uint64_t model, const char *user)
{
    char name[17];
    adapters_model_text(model, name);
    pthread_mutex_lock(&a->lock);
    const use *u = adapters_find_use(a, name, user ? user : "");
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

rv_err rv_adapters_learned_ms(rv_adapters *a, uint64_t model, const char *user, int64_t *out)
{
    char name[17];
    sqlite3 *conn;
    int64_t newest = 0;
    adapters_model_text(model, name);
    RV_TRY(rv_db_reader(a->db, &conn));
    rv_err e =
        rv_db_int(conn, &newest,
                  "SELECT coalesce(max(created_ms), 0) FROM adapter WHERE model = ?1 AND user = ?2 AND "
                  "origin <> 'load'",
                  "tt", name, user);
    rv_db_reader_done(a->db, conn);
    if (!e) {
        *out = newest;
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
    use *u = adapters_find_use(a, model, user);
    if (u) {
        const int64_t before[] = { u->id, u->base };
        u->id = id;
        u->base = base;
        for (size_t i = 0; i < RV_COUNT(before); i++) {
            if (before[i] != id && before[i] != base) {
                adapters_drop_keys(a, before[i]);
            }
        }
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
                      parent, model, user, v->origin, v->rows, v->before, v->after,
                      v->created_ms ? v->created_ms : rv_clock_wall_ms(), v->base));
    if (v->n_keys) {
        RV_TRY(rv_db_exec(conn, "INSERT INTO adapter_key VALUES (?1,?2,?3,?4)", "itib", id, v->embedder,
                          (int64_t)v->dim, v->keys, v->n_keys * v->dim * sizeof *v->keys));
    }
    return write_use(conn, "publish", model, user, id, parent);
}

static rv_err next_id(sqlite3 *conn, int64_t *out)
{
    RV_TRY(rv_db_exec(conn, "UPDATE adapter_last SET id = id + 1", ""));
    return rv_db_int(conn, out, "SELECT id FROM adapter_last", "");
}

rv_err rv_adapters_publish(rv_adapters *a, const rv_adapter_version *v, const rv_lora *lora, int64_t *out)
{
    char model[17], path[4096];
    const char *user = v->user ? v->user : "";
    int64_t id = 0, parent = rv_adapters_in_use(a, v->model, user);
    adapters_model_text(v->model, model);
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
    e = next_id(conn, &id);
    snprintf(path, sizeof path, "%s/%lld.gguf", a->folder, (long long)id);
    if (!e) {
        e = rv_lora_write(lora, path, v->origin); /* durable before the row that names it */
    }
    if (!e) {
        e = write_version(conn, v, model, user, parent, id);
    }
    if (e) {
        unlink(path); /* nothing names it. Before another can begin, and be given the number */
        rv_db_rollback(a->db);
    } else {
        e = rv_db_commit(a->db); /* when that fails the file stays, for the next to write over or for sweep */
    }
    if (e) {
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
    adapters_model_text(model_id, model);
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
    rv_err e =
        rv_db_begin(a->db, &conn); /* alone: a version that is being published has a file before its row */
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
    rv_db_rollback(a->db);
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
    adapters_free_keys(a);
    e = read_uses(a);
    adapters_tidy(a);
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
