/* Opening, closing and looking over the whole. The database is the truth; entries, index and graph are made from it at every
 * start, and every record and vector is checked against its sum on the way. */
#include "memory/memory_priv.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const steps[] = {
    "CREATE TABLE memory_meta(one INTEGER PRIMARY KEY CHECK(one = 1), store INTEGER NOT NULL, embedder TEXT "
    "NOT NULL,"
    " dim INTEGER NOT NULL) STRICT;"
    "CREATE TABLE nodes(id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, text TEXT NOT NULL, source "
    "TEXT NOT NULL,"
    " user TEXT NOT NULL, origin TEXT NOT NULL, tags TEXT NOT NULL, metadata TEXT NOT NULL, confidence REAL "
    "NOT NULL,"
    " created_ms INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL, sum INTEGER NOT NULL,"
    " same INTEGER NOT NULL, segment INTEGER, segment_row INTEGER) STRICT;"
    "CREATE INDEX nodes_same ON nodes(same);"
    "CREATE TABLE edges(from_id INTEGER NOT NULL REFERENCES nodes, to_id INTEGER NOT NULL REFERENCES nodes,"
    " type TEXT NOT NULL, weight REAL NOT NULL, created_ms INTEGER NOT NULL, sum INTEGER NOT NULL,"
    " PRIMARY KEY(from_id, to_id, type)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX edges_to ON edges(to_id);"
    "CREATE TABLE documents(node INTEGER PRIMARY KEY REFERENCES nodes ON DELETE CASCADE, user TEXT NOT NULL,"
    " path TEXT NOT NULL, digest BLOB NOT NULL, UNIQUE(user, path)) STRICT;"
    "CREATE VIEW searched AS SELECT id, text FROM nodes WHERE segment IS NOT NULL;"
    "CREATE VIRTUAL TABLE words USING fts5(text, content='searched', content_rowid='id',"
    " tokenize='porter unicode61 remove_diacritics 2')",
    "CREATE TABLE node_use(node INTEGER PRIMARY KEY REFERENCES nodes ON DELETE CASCADE, pinned INTEGER NOT "
    "NULL,"
    " expires_ms INTEGER NOT NULL, used INTEGER NOT NULL, used_ms INTEGER NOT NULL, sum INTEGER NOT NULL) "
    "STRICT;"
    "CREATE TABLE near_keys(key INTEGER NOT NULL, node INTEGER NOT NULL, PRIMARY KEY(key, node)) STRICT, "
    "WITHOUT ROWID",
    "CREATE TABLE fresh(id INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT",
    "DROP TABLE near_keys;" /* by key: six places of the file for each node */
    "CREATE TABLE near_marks(node INTEGER PRIMARY KEY REFERENCES nodes ON DELETE CASCADE, keys BLOB NOT "
    "NULL) STRICT",
};

rv_metric rv_memory_metrics[RV_MEMORY_N_METRICS] = {
    [RV_MEMORY_ADDS] = { .kind = RV_COUNTER,
                         .name = "ruvllm_memory_adds_total",
                         .help = "Texts added to the memory, also those that were there." },
    [RV_MEMORY_COMMITS] = { .kind = RV_COUNTER,
                            .name = "ruvllm_memory_commits_total",
                            .help = "Transactions of the memory; adds that come together share one." },
    [RV_MEMORY_ADD_TIME] = { .kind = RV_HISTOGRAM,
                             .name = "ruvllm_memory_add_seconds",
                             .help = "From the call of an add until it is durable." },
    [RV_MEMORY_COMMIT_TIME] = { .kind = RV_HISTOGRAM,
                                .name = "ruvllm_memory_commit_seconds",
                                .help = "One change: vectors synced, transaction committed." },
    [RV_MEMORY_QUEUED] = { .kind = RV_COUNTER,
                           .name = "ruvllm_memory_writeback_queued_total",
                           .help = "Outcomes of recalls that were queued." },
    [RV_MEMORY_WRITTEN_BACK] = { .kind = RV_COUNTER,
                                 .name = "ruvllm_memory_writeback_written_total",
                                 .help = "Outcomes of recalls that are on the disk." },
    [RV_MEMORY_BATCHES] = { .kind = RV_COUNTER,
                            .name = "ruvllm_memory_writeback_batches_total",
                            .help = "Transactions these took." },
    [RV_MEMORY_WAITS] = { .kind = RV_COUNTER,
                          .name = "ruvllm_memory_writeback_waits_total",
                          .help = "Outcomes whose sender had to wait because the queue was full." },
    [RV_MEMORY_DROPPED] = { .kind = RV_COUNTER,
                            .name = "ruvllm_memory_writeback_dropped_total",
                            .help = "Outcomes that were given up: the queue stayed full, or they could not "
                                    "be written." },
    [RV_MEMORY_EXPIRED] = { .kind = RV_COUNTER,
                            .name = "ruvllm_memory_expired_total",
                            .help = "Nodes that were removed because their time was over." },
};

/* ---- opening ---- */

/* What memory_meta says: the store's number, and whether it was filled by another embedder (or by none yet: the number is
 * new then). why: what to say when there are vector files all the same. */
static rv_err read_meta(rv_memory *m, sqlite3 *conn, const char *dir, uint64_t *store, bool *other,
                        rv_text *why)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt, "SELECT store, embedder, dim FROM memory_meta", ""));
    bool row;
    rv_err e = rv_db_step(stmt, &row);
    if (!e && row) {
        *store = (uint64_t)sqlite3_column_int64(stmt, 0);
        rv_str name = rv_column_str(stmt, 1);
        long long dim = sqlite3_column_int64(stmt, 2);
        *other = !rv_str_eq(name, m->embedder_name) || dim != (long long)m->embedder.dim;
        rv_text_addf(
            why,
            "%s was filled by embedder \"%.*s\" with %lld dimensions, and \"%s\" with %zu is configured: "
            "choose the old "
            "one in [embedding] again, or have all vectors made anew: ruvllm memory reembed",
            dir, (int)name.n, name.at, dim, m->embedder_name, m->embedder.dim);
    } else if (!e) {
        e = rv_random_bytes(store, sizeof *store);
        *other = true;
        rv_text_addf(why,
                     "%s/vectors holds vectors, but the database knows none: it was emptied or replaced; "
                     "restore it, or "
                     "start anew by removing them: rm -r %s/vectors",
                     dir, dir);
    }
    sqlite3_finalize(stmt);
    return e ? e : rv_text_check(why);
}

static rv_err open_segments_in(rv_memory *m, sqlite3 *conn, const char *dir, const char *folder, rv_text *why)
{
    uint64_t store = 0, rows, bytes;
    bool other = false;
    RV_TRY(read_meta(m, conn, dir, &store, &other, why));
    rv_segment_config config = {
        .dir = folder, .store = store, .embedder = m->embedder_name, .dim = m->embedder.dim
    };
    RV_TRY(rv_segments_open(m->mem, &config, &m->segments));
    m->store = store;
    rv_segments_size(m->segments, &rows, &bytes);
    if (!other) {
        return RV_OK;
    }
    if (bytes > 0) {
        return rv_fail(RV_E_CONFIG, "%s", rv_text_get(why));
    }
    RV_TRY(rv_db_exec(conn, "DELETE FROM fresh", "")); /* of another embedder */
    return rv_db_exec(conn, "INSERT OR REPLACE INTO memory_meta VALUES(1,?1,?2,?3)", "iti", (int64_t)store,
                      m->embedder_name, (int64_t)m->embedder.dim);
}

static rv_err open_segments(rv_memory *m, const char *dir)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(m->db, &conn));
    rv_text why;
    rv_text_init(&why, m->mem, 16384);
    m->folder = rv_path_join(m->mem, dir, "vectors");
    rv_err e =
        m->folder ? open_segments_in(m, conn, dir, m->folder, &why) : rv_fail(RV_E_NOMEM, "%s: opening", dir);
    rv_text_deinit(&why);
    if (e) {
        rv_db_rollback(m->db);
        return e;
    }
    return rv_db_commit(m->db); /* writes nothing when nothing was new */
}

/* Ids whose vectors are not where they should be: the file is gone or damaged, or a power loss came before it was synced. */
typedef struct lost {
    int64_t *at;
    size_t n, room;
    size_t n_damaged;
    char first[512]; /* what was wrong with the first damaged one */
} lost;

/* Nothing that it says is believed, not even whose it is; the others are as good as before. */
static rv_err leave_out(rv_memory *m, int64_t id)
{
    rv_log(RV_LOG_WARN, "memory.node_damaged", "error", rv_err_text(), "doing", "leaving it out",
           (char *)NULL);
    RV_TRY(rv_idset_reserve(m->mem, &m->damaged, id));
    rv_idset_add(&m->damaged, id);
    m->next_id = id + 1; /* at least */
    return RV_OK;
}

static rv_err load_node(rv_memory *m, sqlite3_stmt *stmt, lost *gone)
{
    record r;
    rv_err read = rv_record_read(stmt, &r);
    bool searched = sqlite3_column_type(stmt, RV_RECORD_N_COLUMNS) != SQLITE_NULL;
    if (r.id < 1 || r.id > RV_MEMORY_ID_MAX) {
        return rv_fail(RV_E_CORRUPT, "%s: node %lld, expected 1 .. %lld; restore the file from a backup",
                       sqlite3_db_filename(sqlite3_db_handle(stmt), "main"), (long long)r.id,
                       (long long)RV_MEMORY_ID_MAX);
    }
    if (read) {
        return leave_out(m, r.id);
    }
    RV_TRY(rv_memory_reserve(m, 1, 0));
    RV_TRY(rv_memory_entry_of(m, &r, &m->entries[m->n_entries]));
    m->n_entries++;
    if (!searched) {
        return RV_OK;
    }
    RV_TRY(rv_index_reserve(m->index, 1));
    RV_TRY(rv_live_reserve(m, r.id));
    int64_t segment = sqlite3_column_int64(stmt, RV_RECORD_N_COLUMNS),
            row = sqlite3_column_int64(stmt, RV_RECORD_N_COLUMNS + 1);
    if (segment < 1 || segment > UINT32_MAX || row < 0 || row > UINT32_MAX) {
        return rv_fail(RV_E_CORRUPT,
                       "%s: node %lld names row %lld of vector file %lld; restore the file from a backup",
                       sqlite3_db_filename(sqlite3_db_handle(stmt), "main"), (long long)r.id, (long long)row,
                       (long long)segment);
    }
    const float *vector;
    rv_err e =
        rv_segments_get(m->segments, (rv_segment_row){ (uint32_t)segment, (uint32_t)row }, r.id, &vector);
    if (!e) {
        rv_memory_count_pair(m, vector);
        m->entries[m->n_entries - 1].row = vector;
        rv_index_add(m->index, r.id, vector);
        rv_live_add(m, r.id, r.created_ms);
    } else if (e == RV_E_NOT_FOUND || e == RV_E_CORRUPT) {
        void *at = gone->at;
        if (e == RV_E_CORRUPT && gone->n_damaged++ == 0) {
            snprintf(gone->first, sizeof gone->first, "%s", rv_err_text());
        }
        e = rv_memory_grow(m->mem, &at, &gone->room, gone->n + 1, sizeof *gone->at);
        gone->at = at;
        if (!e) {
            gone->at[gone->n++] = r.id;
        }
    }
    return e;
}

static rv_err load_nodes(rv_memory *m, sqlite3 *conn, lost *gone)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt,
                         "SELECT " RV_RECORD_COLUMNS ", segment, segment_row FROM nodes ORDER BY id", ""));
    rv_err e = RV_OK;
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        if (!e && row) {
            e = load_node(m, stmt, gone);
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

static rv_err load_edges(rv_memory *m, sqlite3 *conn)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(
        conn, &stmt,
        "SELECT from_id, to_id, type, weight, created_ms, sum FROM edges ORDER BY created_ms, from_id", ""));
    rv_err e = RV_OK;
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        int64_t from = sqlite3_column_int64(stmt, 0), to = sqlite3_column_int64(stmt, 1);
        rv_str type = rv_column_str(stmt, 2);
        double weight = sqlite3_column_double(stmt, 3);
        bool good = rv_edge_sum(from, to, type, weight, sqlite3_column_int64(stmt, 4)) ==
                    sqlite3_column_int64(stmt, 5);
        if (good && (rv_idset_has(&m->damaged, from) || rv_idset_has(&m->damaged, to))) {
            continue;
        }
        if (!good || !rv_memory_find(m, from) || !rv_memory_find(m, to)) {
            e = rv_fail(
                RV_E_CORRUPT,
                "%s: the edge from %lld to %lld does not fit its checksum or its nodes; restore the file "
                "from a backup",
                sqlite3_db_filename(conn, "main"), (long long)from, (long long)to);
            break;
        }
        rv_graph_edge edge = { .from = from, .to = to, .weight = (float)weight };
        e = rv_graph_type(m->graph, type.at, &edge.type);
        if (!e) {
            e = rv_graph_reserve(m->graph, 1);
        }
        if (!e && edge.type == m->corrects) {
            e = rv_idset_reserve(m->mem, &m->corrected, to);
        }
        if (!e) {
            rv_graph_link(m->graph, edge);
            if (edge.type == m->corrects) {
                rv_idset_add(&m->corrected, to);
            }
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

static rv_err read_text(const rv_memory *m, sqlite3 *conn, int64_t id, float *vector)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt, "SELECT " RV_RECORD_COLUMNS " FROM nodes WHERE id=?1", "i", id));
    bool row, kept = false;
    record r;
    rv_err e = rv_db_step(stmt, &row);
    if (!e) {
        e = row ? rv_record_read(stmt, &r) : rv_fail(RV_E_CORRUPT, "node %lld is gone", (long long)id);
    }
    if (!e) {
        e = rv_fresh_get(m, conn, id, vector, &kept);
    }
    if (!e && !kept) {
        e = m->embedder.text(m->embedder.self, r.text.at, r.text.n, vector);
    }
    sqlite3_finalize(stmt);
    return e;
}

enum { REBUILD_ROWS = 256 };

/* Makes n <= REBUILD_ROWS vectors again, as one transaction. vectors, rows: scratch. */
static rv_err remake(rv_memory *m, const int64_t *ids, size_t n, float *vectors, rv_segment_row *rows)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(m->db, &conn));
    rv_err e = RV_OK;
    for (size_t i = 0; !e && i < n; i++) {
        e = read_text(m, conn, ids[i], vectors + i * m->embedder.dim);
    }
    if (!e) {
        e = rv_segments_append(m->segments, ids, vectors, n, rows);
    }
    for (size_t i = 0; !e && i < n; i++) {
        const float *vector;
        e = rv_db_exec(conn, "UPDATE nodes SET segment=?2, segment_row=?3 WHERE id=?1", "iii", ids[i],
                       (int64_t)rows[i].segment, (int64_t)rows[i].row);
        if (!e) {
            e = rv_segments_get(m->segments, rows[i], ids[i], &vector);
        }
        if (!e) {
            entry *found = &m->entries[rv_memory_find(m, ids[i]) - m->entries];
            found->row = vector;
            rv_live_add(m, found->id, found->created_ms);
            rv_index_add(m->index, ids[i], vector); /* room since load_node; on failure all is closed */
        }
    }
    if (!e) {
        e = rv_segments_sync(m->segments);
    }
    if (e) {
        rv_db_rollback(m->db);
        return e;
    }
    return rv_db_commit(m->db);
}

static rv_err remake_lost(rv_memory *m, const lost *gone)
{
    if (gone->n == 0) {
        return RV_OK;
    }
    if (gone->n > m->n_fresh) { /* more than a power loss explains */
        char count[32], damaged[32];
        snprintf(count, sizeof count, "%zu", gone->n);
        snprintf(damaged, sizeof damaged, "%zu", gone->n_damaged);
        rv_log(RV_LOG_WARN, "memory.vectors_missing", "vectors", count, "damaged", damaged, "first",
               gone->first, "action", "made again from the texts", (char *)NULL);
    }
    float *vectors = rv_new_array(m->mem, REBUILD_ROWS * m->embedder.dim, sizeof *vectors);
    rv_segment_row *rows = rv_new_array(m->mem, REBUILD_ROWS, sizeof *rows);
    rv_err e =
        vectors && rows ? rv_index_reserve(m->index, gone->n) : rv_fail(RV_E_NOMEM, "memory: making vectors");
    for (size_t at = 0; !e && at < gone->n; at += REBUILD_ROWS) {
        size_t n = gone->n - at > REBUILD_ROWS ? REBUILD_ROWS : gone->n - at;
        e = remake(m, gone->at + at, n, vectors, rows);
    }
    rv_free(m->mem, vectors);
    rv_free(m->mem, rows);
    return e;
}

/* Words change in the transactions of their nodes; a count that differs means that the file was damaged or edited. */
static rv_err match_words(rv_memory *m)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(m->db, &conn));
    int64_t nodes = 0, words = 0;
    rv_err e = rv_db_int(conn, &nodes, "SELECT count(*) FROM searched", "");
    if (!e) {
        e = rv_db_int(conn, &words, "SELECT count(*) FROM words_docsize", "");
    }
    if (!e && nodes != words) {
        rv_log(RV_LOG_WARN, "memory.words_differ", "action", "rebuilt from the texts", (char *)NULL);
        e = rv_db_exec(conn, "INSERT INTO words(words) VALUES('rebuild')", "");
    }
    if (e || nodes == words) {
        rv_db_rollback(m->db);
        return e;
    }
    return rv_db_commit(m->db);
}

static rv_err load(rv_memory *m)
{
    lost gone = { 0 };
    sqlite3 *conn;
    RV_TRY(rv_db_reader(m->db, &conn));
    int64_t last = 0;
    rv_err e = rv_db_int(conn, &last, "SELECT seq FROM sqlite_sequence WHERE name='nodes'", "");
    if (!e) {
        e = rv_fresh_count(m, conn);
    }
    if (!e) {
        e = load_nodes(m, conn, &gone);
    }
    if (!e) {
        e = rv_use_load(m, conn);
    }
    if (!e) {
        e = load_edges(m, conn);
    }
    rv_db_reader_done(m->db, conn);
    if (!e && (last < 0 || last > RV_MEMORY_ID_MAX)) {
        e = rv_fail(RV_E_CORRUPT, "%s: the last node would be %lld; restore the file from a backup",
                    rv_db_dir(m->db), (long long)last);
    }
    if (!e) {
        int64_t highest = m->n_entries ? m->entries[m->n_entries - 1].id : 0;
        highest = m->next_id - 1 > highest ? m->next_id - 1 : highest;
        m->next_id = (last > highest ? last : highest) + 1;
        e = remake_lost(m, &gone);
    }
    rv_free(m->mem, gone.at);
    if (!e) {
        rv_segments_size(m->segments, &m->vector_rows, &m->vector_bytes);
        e = match_words(m);
    }
    return e ? e : rv_near_load(m);
}

static rv_err open_all(rv_memory *m, const char *dir)
{
    RV_TRY(rv_names_init(&m->names, m->mem));
    RV_TRY(rv_index_new(m->mem, &(rv_index_config){ .kind = "flat", .dim = m->embedder.dim }, &m->index));
    RV_TRY(rv_graph_new(m->mem, &m->graph));
    RV_TRY(rv_graph_type(m->graph, "contains", &m->contains));
    RV_TRY(rv_graph_type(m->graph, "follows", &m->follows));
    RV_TRY(rv_graph_type(m->graph, "corrects", &m->corrects));
    RV_TRY(rv_graph_type(m->graph, "derived", &m->derived));
    RV_TRY(rv_graph_type(m->graph, "cites", &m->cites));
    RV_TRY(rv_graph_type(m->graph, "same_topic", &m->same_topic));
    RV_TRY(rv_graph_type(m->graph, "agent_step", &m->agent_step));
    RV_TRY(rv_db_migrate(m->db, "memory", steps, RV_COUNT(steps)));
    RV_TRY(open_segments(m, dir));
    return load(m);
}

rv_err rv_memory_open(const rv_alloc *mem, rv_db *db, const char *dir, rv_memory_embedder embedder,
                      rv_memory **out)
{
    rv_memory *m = rv_new(mem, sizeof *m);
    if (!m) {
        return rv_fail(RV_E_NOMEM, "%s: opening", dir);
    }
    *m = (rv_memory){ .mem = mem, .db = db, .embedder = embedder };
    rv_metrics_register(rv_memory_metrics, RV_COUNT(rv_memory_metrics));
    pthread_mutex_init(&m->writing, NULL);
    pthread_mutex_init(&m->waiting, NULL);
    pthread_mutex_init(&m->keeping, NULL);
    rv_cond_init(&m->kept);
    rv_cond_init(&m->arrived);
    pthread_mutex_init(&m->queueing, NULL);
    rv_cond_init(&m->queued);
    rv_cond_init(&m->drained);
    m->opened_wall_ms = rv_clock_wall_ms();
    m->opened_ms = rv_clock_ms();
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(
        &attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP); /* else searches starve changes */
    pthread_rwlock_init(&m->state, &attr);
    pthread_rwlockattr_destroy(&attr);
    rv_memory_set_habits(m, &(rv_memory_habits){ .batch = 100, .batch_ms = 1000 });
    m->embedder_name = rv_strdup(mem, embedder.name);
    m->embedder.name = m->embedder_name;
    rv_err e = rv_words_new(mem, &m->cutter);
    e = e ? e : m->embedder_name ? open_all(m, dir) : rv_fail(RV_E_NOMEM, "%s: opening", dir);
    e = e ? e : rv_memory_tune(m, &(rv_memory_tuning){ 0 });
    if (e) {
        rv_memory_close(m);
        return e;
    }
    size_t removed;
    e = rv_memory_expire(m, &removed);
    if (e == RV_E_NO_SPACE || e == RV_E_IO) {
        rv_log(RV_LOG_WARN, "memory.expire_failed", "error", rv_err_text(), "doing",
               "leaving what has ended for later", (char *)NULL);
    } else if (e) {
        rv_memory_close(m);
        return e;
    }
    for (size_t i = 0; i < m->n_entries; i++) {
        if (m->entries[i].expires_ms) {
            rv_writeback_start(m);
            break;
        }
    }
    *out = m;
    return RV_OK;
}

rv_memory_embedder rv_memory_get_embedder(const rv_memory *m)
{
    return m->embedder;
}

/* A database that no memory was opened on yet has no such table. */
static rv_err forget_fresh(rv_db *db)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(db, &conn));
    int64_t there = 0;
    rv_err e = rv_db_int(conn, &there, "SELECT count(*) FROM sqlite_master WHERE name='fresh'", "");
    e = e || !there ? e : rv_db_exec(conn, "DELETE FROM fresh", "");
    if (e) {
        rv_db_rollback(db);
        return e;
    }
    return rv_db_commit(db);
}

rv_err rv_memory_forget_vectors(rv_db *db)
{
    char *folder = rv_path_join(&rv_heap, rv_db_dir(db), "vectors");
    rv_err e = folder ? forget_fresh(db) : rv_fail(RV_E_NOMEM, "removing vector files");
    e = e ? e : rv_fast_forget(folder);
    e = e ? e : rv_segments_wipe(&rv_heap, folder);
    rv_free(&rv_heap, folder);
    return e;
}

void rv_memory_close(rv_memory *m)
{
    if (!m) {
        return;
    }
    rv_writeback_stop(m);
    rv_keeper_stop(m);
    rv_postings_free(m->postings);
    rv_words_free(m->cutter);
    rv_index_free(m->index);
    rv_graph_free(m->graph);
    rv_segments_close(m->segments);
    rv_names_deinit(&m->names);
    rv_holders_free(m);
    rv_idset_deinit(m->mem, &m->damaged);
    rv_near_deinit(m);
    rv_free(m->mem, m->entries);
    rv_free(m->mem, m->tags);
    rv_free(m->mem, m->embedder_name);
    rv_free(m->mem, m->folder);
    pthread_cond_destroy(&m->kept);
    pthread_mutex_destroy(&m->keeping);
    pthread_rwlock_destroy(&m->state);
    pthread_cond_destroy(&m->arrived);
    pthread_cond_destroy(&m->queued);
    pthread_cond_destroy(&m->drained);
    pthread_mutex_destroy(&m->queueing);
    pthread_mutex_destroy(&m->waiting);
    pthread_mutex_destroy(&m->writing);
    rv_free(m->mem, m);
}

/* ---- looking over it ---- */

rv_err rv_memory_get_stats(rv_memory *m, rv_memory_stats *out)
{
    sqlite3 *conn;
    RV_TRY(rv_db_reader(m->db, &conn));
    int64_t pages = 0, page_bytes = 0;
    rv_err e = rv_db_int(conn, &pages, "PRAGMA page_count", "");
    if (!e) {
        e = rv_db_int(conn, &page_bytes, "PRAGMA page_size", "");
    }
    rv_db_reader_done(m->db, conn);
    if (e) {
        return e;
    }
    rv_memory_stats s = { .db_bytes = (uint64_t)pages * (uint64_t)page_bytes,
                          .embedder = m->embedder_name,
                          .dim = m->embedder.dim };
    const struct {
        const char *type;
        size_t *count;
    } kinds[] = { { "document", &s.documents },
                  { "chunk", &s.chunks },
                  { "note", &s.notes },
                  { "fact", &s.facts },
                  { "qa", &s.qas } };
    uint32_t numbers[RV_COUNT(kinds)];
    pthread_rwlock_rdlock(&m->state);
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        if (!rv_names_find(&m->names, kinds[k].type, &numbers[k])) {
            numbers[k] = UINT32_MAX;
        }
    }
    for (size_t i = 0; i < m->n_entries; i++) {
        for (size_t k = 0; k < RV_COUNT(kinds); k++) {
            *kinds[k].count += m->entries[i].type == numbers[k];
        }
    }
    s.nodes = m->n_entries;
    s.edges = rv_graph_count(m->graph);
    s.vectors = rv_index_count(m->index);
    s.vectors_dead = m->vector_rows > s.vectors ? (size_t)m->vector_rows - s.vectors : 0;
    s.vector_bytes = m->vector_bytes;
    pthread_rwlock_unlock(&m->state);
    *out = s;
    return RV_OK;
}

static rv_err check_nodes(rv_memory *m, sqlite3 *conn)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(
        conn, &stmt, "SELECT " RV_RECORD_COLUMNS ", segment, segment_row, same FROM nodes ORDER BY id", ""));
    rv_err e = RV_OK;
    size_t n = 0, searched = 0;
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        record r;
        e = rv_record_read(stmt, &r);
        const entry *found = e ? NULL : rv_memory_find(m, r.id);
        bool has_vector = sqlite3_column_type(stmt, RV_RECORD_N_COLUMNS) != SQLITE_NULL;
        if (!e && (!found || (found->row != NULL) != has_vector ||
                   rv_record_same(&r) != sqlite3_column_int64(stmt, RV_RECORD_N_COLUMNS + 2))) {
            e = rv_fail(RV_E_CORRUPT, "node %lld on the disk is not the one in memory", (long long)r.id);
        }
        if (!e && has_vector) {
            const float *vector;
            rv_segment_row at = { (uint32_t)sqlite3_column_int64(stmt, RV_RECORD_N_COLUMNS),
                                  (uint32_t)sqlite3_column_int64(stmt, RV_RECORD_N_COLUMNS + 1) };
            e = rv_segments_get(m->segments, at, r.id, &vector);
        }
        n++;
        searched += has_vector;
    }
    sqlite3_finalize(stmt);
    if (!e && (n != m->n_entries || searched != rv_index_count(m->index))) {
        e = rv_fail(RV_E_CORRUPT, "%zu nodes with %zu vectors on the disk, %zu with %zu in memory", n,
                    searched, m->n_entries, rv_index_count(m->index));
    }
    return e;
}

static rv_err check_edges(const rv_memory *m, sqlite3 *conn)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt, "SELECT from_id, to_id, type, weight, created_ms, sum FROM edges", ""));
    rv_err e = RV_OK;
    size_t n = 0;
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        int64_t from = sqlite3_column_int64(stmt, 0), to = sqlite3_column_int64(stmt, 1);
        rv_str type = rv_column_str(stmt, 2);
        bool found = false;
        rv_graph_edge edge;
        for (rv_graph_cursor c = { 0 }; !found && rv_graph_next(m->graph, from, RV_GRAPH_OUT, &c, &edge);) {
            found = edge.to == to && rv_str_eq(type, rv_graph_type_name(m->graph, edge.type));
        }
        if (!found || rv_edge_sum(from, to, type, sqlite3_column_double(stmt, 3),
                                  sqlite3_column_int64(stmt, 4)) != sqlite3_column_int64(stmt, 5)) {
            e = rv_fail(RV_E_CORRUPT, "the edge from %lld to %lld on the disk is not the one in memory",
                        (long long)from, (long long)to);
        }
        n++;
    }
    sqlite3_finalize(stmt);
    if (!e && n != rv_graph_count(m->graph)) {
        e = rv_fail(RV_E_CORRUPT, "%zu edges on the disk, %zu in memory", n, rv_graph_count(m->graph));
    }
    return e;
}

static rv_err check_documents(sqlite3 *conn)
{
    int64_t odd = 0;
    RV_TRY(rv_db_int(conn, &odd,
                     "SELECT count(*) FROM documents LEFT JOIN nodes ON id=node WHERE path IS NOT source OR"
                     " nodes.user IS NOT documents.user OR type IS NOT 'document' OR length(digest)<>32",
                     ""));
    return odd == 0 ? RV_OK
                    : rv_fail(RV_E_CORRUPT, "%lld imported files do not fit their nodes", (long long)odd);
}

static rv_err check_disk(rv_memory *m)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(m->db, &conn)); /* FTS5 checks itself through an insert that writes nothing */
    rv_err e = check_nodes(m, conn); /* first: it names the node, where the words only say that they differ */
    if (!e) {
        e = rv_db_exec(conn, "INSERT INTO words(words, rank) VALUES('integrity-check', 1)", "");
    }
    if (!e) {
        e = check_edges(m, conn);
    }
    if (!e) {
        e = check_documents(conn);
    }
    if (!e) {
        e = rv_use_check(m, conn);
    }
    rv_db_rollback(m->db);
    return e;
}

rv_err rv_memory_check(rv_memory *m)
{
    RV_TRY(rv_db_check(m->db));
    pthread_mutex_lock(&m->writing);
    rv_err e =
        check_disk(m); /* entries, index and graph change only under writing, so they may be read here */
    if (!e) {
        e = rv_index_check(m->index);
    }
    if (!e) {
        e = rv_graph_check(m->graph);
    }
    if (!e && m->postings) {
        e = rv_postings_check(m->postings);
        if (!e && rv_postings_count(m->postings) != m->n_live + m->n_postings_dead) {
            e = rv_fail(RV_E_CORRUPT, "%zu texts with their words in memory, expected %zu",
                        rv_postings_count(m->postings), m->n_live + m->n_postings_dead);
        }
    }
    pthread_mutex_unlock(&m->writing);
    return e;
}
