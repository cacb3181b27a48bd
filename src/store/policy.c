#include "store/policy.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/witness.h"

#include <openssl/evp.h>
#include <string.h>

enum { KIND_MAX = 32, DIGEST = 32, KEPT = 8, LIST_MAX = 1000 };

static const char *const steps[] = {
    "CREATE TABLE policy ("
    "  kind TEXT NOT NULL, version INTEGER NOT NULL, parent INTEGER NOT NULL, note TEXT NOT NULL,"
    "  metrics TEXT NOT NULL, data TEXT NOT NULL, bytes BLOB, digest BLOB NOT NULL," /* bytes NULL: gone */
    "  created_ms INTEGER NOT NULL, PRIMARY KEY (kind, version));"
    "CREATE TABLE policy_use ("
    "  seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, version INTEGER NOT NULL, why TEXT NOT NULL,"
    "  created_ms INTEGER NOT NULL);"
    "CREATE INDEX policy_use_kind ON policy_use(kind, seq);",
};

/* The version in use: that of the kind's last row. */
#define IN_USE "(SELECT u.version FROM policy_use u WHERE u.kind = ?1 ORDER BY u.seq DESC LIMIT 1)"

rv_err rv_policy_setup(rv_db *db)
{
    return rv_db_migrate(db, "policy", steps, RV_COUNT(steps));
}

static rv_err check_kind(const char *kind)
{
    size_t n = kind ? strlen(kind) : 0;
    bool good = n > 0 && n <= KIND_MAX;
    for (size_t i = 0; good && i < n; i++) {
        good = (kind[i] >= 'a' && kind[i] <= 'z') || kind[i] == '_';
    }
    return good ? RV_OK : rv_fail(RV_E_ARG, "policy: kind is [a-z_], 1 to %d", KIND_MAX);
}

static rv_err check_object(const char *what, const char *text)
{
    json_t *value = NULL;
    RV_TRY(rv_json_parse(text, strlen(text), &value));
    bool object = json_is_object(value);
    json_decref(value);
    return object ? RV_OK : rv_fail(RV_E_ARG, "policy: %s is no JSON object", what);
}

static rv_err digest(const void *at, size_t n, uint8_t out[DIGEST])
{
    unsigned len = 0;
    return EVP_Digest(at, n, out, &len, EVP_sha256(), NULL) == 1 ? RV_OK : rv_fail(RV_E_NOMEM, "SHA-256");
}

static rv_err witness(sqlite3 *conn, const char *kind, int64_t version, const char *what, const char *note)
{
    json_t *body = json_pack("{s:s, s:I, s:s, s:s}", "policy", kind, "version", (json_int_t)version, "what",
                             what, "note", note);
    rv_text text;
    rv_text_init(&text, &rv_heap, 1 << 20);
    rv_err e = body ? RV_OK : rv_fail(RV_E_ARG, "policy: the note is not UTF-8");
    if (!e) {
        rv_json_text(body, &text);
        e = rv_text_check(&text);
    }
    if (!e) {
        e = rv_witness_append(conn, "policy", "", rv_text_get(&text), text.n);
    }
    rv_text_deinit(&text);
    json_decref(body);
    return e;
}

static rv_err there(sqlite3 *conn, const char *kind, int64_t version)
{
    int64_t n = 0;
    RV_TRY(rv_db_int(conn, &n,
                     "SELECT count(*) FROM policy WHERE kind = ?1 AND version = ?2 AND bytes IS NOT NULL",
                     "ti", kind, version));
    return n > 0
               ? RV_OK
               : rv_fail(RV_E_NOT_FOUND, "policy: there is no version %lld of %s", (long long)version, kind);
}

static rv_err note_use(sqlite3 *conn, const char *kind, int64_t version, const char *why)
{
    return rv_db_exec(conn, "INSERT INTO policy_use (kind, version, why, created_ms) VALUES (?1, ?2, ?3, ?4)",
                      "titi", kind, version, why, rv_clock_wall_ms());
}

rv_err rv_policy_add(sqlite3 *conn, const rv_policy_new *p, int64_t *version)
{
    const char *metrics = p->metrics ? p->metrics : "{}", *data = p->data ? p->data : "{}",
               *note = p->note ? p->note : "";
    uint8_t sum[DIGEST];
    int64_t next = 1;
    RV_TRY(check_kind(p->kind));
    RV_TRY(check_object("metrics", metrics));
    RV_TRY(check_object("data", data));
    if (p->n < 1 || p->n > RV_POLICY_MAX_BYTES) {
        return rv_fail(RV_E_ARG, "policy: %zu bytes, allowed 1 to %u", p->n, RV_POLICY_MAX_BYTES);
    }
    if (p->parent != 0) {
        int64_t known = 0;
        RV_TRY(rv_db_int(conn, &known, "SELECT count(*) FROM policy WHERE kind = ?1 AND version = ?2", "ti",
                         p->kind, p->parent));
        if (known == 0) {
            return rv_fail(RV_E_NOT_FOUND, "policy: there is no parent %lld of %s", (long long)p->parent,
                           p->kind);
        }
    }
    RV_TRY(digest(p->bytes, p->n, sum));
    RV_TRY(rv_db_int(conn, &next, "SELECT coalesce(max(version), 0) + 1 FROM policy WHERE kind = ?1", "t",
                     p->kind));
    RV_TRY(rv_db_exec(conn, "INSERT INTO policy VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", "tiitttbbi",
                      p->kind, next, p->parent, note, metrics, data, p->bytes, p->n, sum, (size_t)DIGEST,
                      rv_clock_wall_ms()));
    if (p->use) {
        RV_TRY(note_use(conn, p->kind, next, note));
    }
    RV_TRY(rv_db_exec(
        conn,
        "UPDATE policy SET bytes = NULL WHERE kind = ?1 AND version <= ?2 AND bytes IS NOT NULL AND"
        " version IS NOT " IN_USE,
        "ti", p->kind, next - KEPT));
    RV_TRY(witness(conn, p->kind, next, p->use ? "accepted" : "refused", note));
    *version = next;
    return RV_OK;
}

rv_err rv_policy_use(sqlite3 *conn, const char *kind, int64_t version, const char *why)
{
    RV_TRY(check_kind(kind));
    if (version != 0) {
        RV_TRY(there(conn, kind, version));
    }
    RV_TRY(note_use(conn, kind, version, why));
    return witness(conn, kind, version, "used", why);
}

rv_err rv_policy_rollback(sqlite3 *conn, const char *kind, const char *why, int64_t *version)
{
    int64_t now = 0, before = 0;
    RV_TRY(check_kind(kind));
    RV_TRY(rv_db_int(conn, &now, "SELECT coalesce(" IN_USE ", 0)", "t", kind));
    if (now == 0) {
        return rv_fail(RV_E_NOT_FOUND, "policy: no version of %s is in use", kind);
    }
    /* Its parent: the history would lead back to what was rolled back before. */
    RV_TRY(rv_db_int(conn, &before,
                     "SELECT coalesce((SELECT q.version FROM policy p JOIN policy q ON q.kind = p.kind AND "
                     "q.version = p.parent"
                     " WHERE p.kind = ?1 AND p.version = ?2 AND q.bytes IS NOT NULL), 0)",
                     "ti", kind, now));
    RV_TRY(note_use(conn, kind, before, why));
    RV_TRY(witness(conn, kind, before, "rolled back to", why));
    *version = before;
    return RV_OK;
}

rv_err rv_policy_forget(sqlite3 *conn, const char *kind, int64_t since_ms, const char *why, int64_t *erased,
                        int64_t *version)
{
    /* From the version in use up through its parents, to one from before that still has its bytes. */
    static const char sound[] =
        "WITH RECURSIVE up(version, parent, bytes, created_ms) AS (SELECT version, parent, bytes, created_ms "
        "FROM policy"
        " WHERE kind = ?1 AND version = " IN_USE
        " UNION SELECT p.version, p.parent, p.bytes, p.created_ms FROM policy p JOIN up ON p.version = "
        "up.parent WHERE p.kind = ?1)"
        " SELECT coalesce(max(version), 0) FROM up WHERE bytes IS NOT NULL AND created_ms < ?2";
    int64_t now = 0, next = 0;
    RV_TRY(check_kind(kind));
    RV_TRY(rv_db_int(conn, &now, "SELECT coalesce(" IN_USE ", 0)", "t", kind));
    RV_TRY(rv_db_int(conn, &next, sound, "ti", kind, since_ms));
    RV_TRY(rv_db_exec(
        conn, "UPDATE policy SET bytes = NULL WHERE kind = ?1 AND created_ms >= ?2 AND bytes IS NOT NULL",
        "ti", kind, since_ms));
    *erased = sqlite3_changes64(conn);
    *version = next;
    if (now == next) {
        return RV_OK;
    }
    RV_TRY(note_use(conn, kind, next, why));
    return witness(conn, kind, next, "rolled back to", why);
}

/* ---- reading ---- */

static rv_err read_info(sqlite3_stmt *s, rv_arena *arena, rv_policy_info *out)
{
    const char **texts[] = { &out->kind, &out->note, &out->metrics, &out->data };
    out->version = sqlite3_column_int64(s, 4);
    out->parent = sqlite3_column_int64(s, 5);
    out->created_ms = sqlite3_column_int64(s, 6);
    out->bytes = sqlite3_column_int64(s, 7);
    out->in_use = sqlite3_column_int(s, 8);
    for (int i = 0; i < 4; i++) {
        *texts[i] = rv_arena_strdup(arena, (const char *)sqlite3_column_text(s, i));
        if (!*texts[i]) {
            return rv_fail(RV_E_NOMEM, "reading policies");
        }
    }
    return RV_OK;
}

rv_err rv_policy_list(rv_db *db, const char *kind, size_t limit, rv_arena *arena, rv_policy_info **out,
                      size_t *n)
{
    static const char sql[] =
        "SELECT p.kind, p.note, p.metrics, p.data, p.version, p.parent, p.created_ms, "
        "coalesce(length(p.bytes), 0),"
        " p.version IS (SELECT u.version FROM policy_use u WHERE u.kind = p.kind ORDER BY u.seq DESC LIMIT 1)"
        " FROM policy p WHERE ?1 IS NULL OR p.kind = ?1 ORDER BY p.created_ms DESC, p.kind, p.version DESC "
        "LIMIT ?2";
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    limit = limit < LIST_MAX ? limit : LIST_MAX;
    rv_policy_info *list = rv_arena_take(arena, (limit + 1) * sizeof *list);
    size_t found = 0;
    if (!list) {
        return rv_fail(RV_E_NOMEM, "reading policies");
    }
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "ti", kind, (int64_t)limit);
    while (!e && found < limit && !(e = rv_db_step(s, &row)) && row) {
        e = read_info(s, arena, &list[found]);
        found += !e;
    }
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    if (!e) {
        *out = list;
        *n = found;
    }
    return e;
}

rv_err rv_policy_current(rv_db *db, const char *kind, rv_arena *arena, rv_policy_info *out)
{
    static const char sql[] =
        "SELECT p.kind, p.note, p.metrics, p.data, p.version, p.parent, p.created_ms,"
        " coalesce(length(p.bytes), 0), 1 FROM policy p WHERE p.kind = ?1 AND p.version = " IN_USE;
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = false;
    RV_TRY(check_kind(kind));
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "t", kind);
    e = e ? e : rv_db_step(s, &row);
    if (!e) {
        e = row ? read_info(s, arena, out)
                : rv_fail(RV_E_NOT_FOUND, "policy: no version of %s is in use", kind);
    }
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    return e;
}

rv_err rv_policy_taken_back(rv_db *db, const char *kind, int64_t *made_ms)
{
    /* What comes next in the history of such a version is an older one. */
    static const char sql[] =
        "SELECT coalesce(max(p.created_ms), 0) FROM policy p WHERE p.kind = ?1 AND p.bytes IS NOT NULL AND"
        " p.version IS NOT " IN_USE " AND EXISTS (SELECT 1 FROM policy_use u WHERE u.kind = ?1 AND"
        " u.version = p.version AND (SELECT n.version FROM policy_use n WHERE n.kind = ?1 AND n.seq > u.seq"
        " ORDER BY n.seq LIMIT 1) < p.version)";
    sqlite3 *conn;
    int64_t made = 0;
    RV_TRY(check_kind(kind));
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_int(conn, &made, sql, "t", kind);
    rv_db_reader_done(db, conn);
    if (!e) {
        *made_ms = made;
    }
    return e;
}

static rv_err take_bytes(sqlite3_stmt *s, const rv_alloc *mem, const char *kind, int64_t version,
                         uint8_t **bytes, size_t *n)
{
    const void *blob = sqlite3_column_blob(s, 0);
    size_t size = (size_t)sqlite3_column_bytes(s, 0);
    uint8_t sum[DIGEST];
    if (!blob || size == 0) {
        return rv_fail(RV_E_NOT_FOUND, "policy: the bytes of version %lld of %s are gone", (long long)version,
                       kind);
    }
    RV_TRY(digest(blob, size, sum));
    if (sqlite3_column_bytes(s, 1) != DIGEST || memcmp(sum, sqlite3_column_blob(s, 1), DIGEST) != 0) {
        return rv_fail(RV_E_CORRUPT, "policy: version %lld of %s does not fit its SHA-256",
                       (long long)version, kind);
    }
    uint8_t *copy = rv_new(mem, size);
    if (!copy) {
        return rv_fail(RV_E_NOMEM, "reading a policy");
    }
    memcpy(copy, blob, size);
    *bytes = copy;
    *n = size;
    return RV_OK;
}

rv_err rv_policy_read(rv_db *db, const rv_alloc *mem, const char *kind, int64_t version, uint8_t **bytes,
                      size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = false;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(conn, &s, "SELECT bytes, digest FROM policy WHERE kind = ?1 AND version = ?2",
                             "ti", kind, version);
    e = e ? e : rv_db_step(s, &row);
    if (!e && !row) {
        e = rv_fail(RV_E_NOT_FOUND, "policy: there is no version %lld of %s", (long long)version, kind);
    }
    e = e ? e : take_bytes(s, mem, kind, version, bytes, n);
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    return e;
}

/* ---- opening ---- */

static rv_metric damaged = { .kind = RV_COUNTER,
                             .name = "ruvllm_learn_damaged_total",
                             .help = "Stored versions of what was learned that could not be read." };

static rv_err read_parent(rv_db *db, const char *kind, int64_t version, int64_t *parent)
{
    sqlite3 *conn;
    int64_t of = 0;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_int(conn, &of, "SELECT parent FROM policy WHERE kind = ?1 AND version = ?2", "ti", kind,
                         version);
    rv_db_reader_done(db, conn);
    *parent = of < version ? of : 0; /* a damaged row must not lead in a circle */
    return e;
}

static rv_err read_current(rv_db *db, const char *kind, int64_t *version)
{
    sqlite3 *conn;
    *version = 0;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_int(conn, version, "SELECT coalesce(" IN_USE ", 0)", "t", kind);
    rv_db_reader_done(db, conn);
    return e;
}

rv_err rv_policy_open(rv_db *db, const rv_alloc *mem, const char *kind,
                      rv_err (*take)(void *self, const uint8_t *bytes, size_t n), void *self,
                      int64_t *version)
{
    int64_t at = 0;
    rv_metrics_register(&damaged, 1);
    RV_TRY(check_kind(kind));
    RV_TRY(read_current(db, kind, &at));
    while (at > 0) {
        uint8_t *bytes = NULL;
        size_t n = 0;
        rv_err e = rv_policy_read(db, mem, kind, at, &bytes, &n);
        e = e ? e : take(self, bytes, n);
        rv_free(mem, bytes);
        if (!e || e == RV_E_NOMEM || e == RV_E_IO) {
            *version = at;
            return e;
        }
        rv_metric_add(&damaged, 1);
        rv_log(RV_LOG_WARN, "learn.damaged", "kind", kind, "error", rv_err_text(), "doing",
               "the version before it is used", (char *)NULL);
        RV_TRY(read_parent(db, kind, at, &at));
    }
    *version = 0;
    return RV_OK;
}
