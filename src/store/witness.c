/* hash = SHA-256(previous hash, seq, created_ms, then length and bytes of kind, request id and body; numbers as 8 bytes,
 * little-endian). The first record follows 32 zero bytes. */
#include "store/witness.h"
#include "base/clock.h"
#include "base/json.h"
#include "store/archive.h"

#include <openssl/evp.h>
#include <string.h>

enum { HASH = 32 };
#define WITNESS_LINE "witness "

static const char *const steps[] = {
    "CREATE TABLE witness(seq INTEGER PRIMARY KEY, created_ms INTEGER NOT NULL, kind TEXT NOT NULL, "
    "request_id TEXT NOT NULL,"
    " body TEXT NOT NULL, hash BLOB NOT NULL) STRICT;"
    "CREATE INDEX witness_request ON witness(request_id);"
    "CREATE TABLE witness_head(one INTEGER PRIMARY KEY CHECK(one = 1), seq INTEGER NOT NULL, hash BLOB NOT "
    "NULL) STRICT;"
    "INSERT INTO witness_head VALUES(1, 0, zeroblob(32))",
    /* the file (store/archive.h) that holds the body, which is then ''; 0: none */
    "ALTER TABLE witness ADD COLUMN archive INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX witness_archive ON witness(archive) WHERE archive > 0",
};

rv_err rv_witness_setup(rv_db *db)
{
    RV_TRY(rv_archive_setup(db));
    return rv_db_migrate(db, "witness", steps, RV_COUNT(steps));
}

typedef struct record {
    int64_t seq, created_ms;
    rv_str kind, request_id, body;
} record;

static bool add_int(EVP_MD_CTX *ctx, int64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)((uint64_t)value >> (8 * i));
    }
    return EVP_DigestUpdate(ctx, bytes, sizeof bytes) == 1;
}

static bool add_text(EVP_MD_CTX *ctx, rv_str text)
{
    return add_int(ctx, (int64_t)text.n) && EVP_DigestUpdate(ctx, text.at, text.n) == 1;
}

static rv_err hash_of(const unsigned char previous[HASH], const record *r, unsigned char out[HASH])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, previous, HASH) == 1 && add_int(ctx, r->seq) &&
                add_int(ctx, r->created_ms) && add_text(ctx, r->kind) && add_text(ctx, r->request_id) &&
                add_text(ctx, r->body) && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return good ? RV_OK : rv_fail(RV_E_NOMEM, "witness: SHA-256 failed");
}

/* The last record's number and hash. */
static rv_err read_head(sqlite3 *conn, int64_t *seq, unsigned char hash[HASH])
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt, "SELECT seq, hash FROM witness_head", ""));
    bool row;
    rv_err e = rv_db_step(stmt, &row);
    if (!e && (!row || sqlite3_column_bytes(stmt, 1) != HASH)) {
        e = rv_fail(RV_E_CORRUPT,
                    "witness: the head of the chain is missing; restore the database from a backup");
    }
    if (!e) {
        *seq = sqlite3_column_int64(stmt, 0);
        memcpy(hash, sqlite3_column_blob(stmt, 1), HASH);
    }
    sqlite3_finalize(stmt);
    return e;
}

rv_err rv_witness_append(sqlite3 *conn, const char *kind, const char *request_id, const char *body, size_t n)
{
    unsigned char previous[HASH], hash[HASH];
    int64_t last;
    RV_TRY(read_head(conn, &last, previous));
    record r = { last + 1, rv_clock_wall_ms(), rv_str_from(kind), rv_str_from(request_id),
                 rv_str_of(body, n) };
    RV_TRY(hash_of(previous, &r, hash));
    RV_TRY(rv_db_exec(conn, "INSERT INTO witness VALUES(?1,?2,?3,?4,?5,?6,0)", "iitssb", r.seq, r.created_ms,
                      kind, r.request_id.at ? r.request_id.at : "", r.request_id.n, body, n, hash,
                      (size_t)HASH));
    return rv_db_exec(conn, "UPDATE witness_head SET seq=?1, hash=?2", "ib", r.seq, hash, (size_t)HASH);
}

static rv_str column_str(sqlite3_stmt *stmt, int column)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    return rv_str_of(text ? text : "", (size_t)sqlite3_column_bytes(stmt, column));
}

/* ---- bodies in the archive ---- */

/* The file that was read last: its lines are in the order of the chain. */
typedef struct cold {
    rv_db *db;
    sqlite3 *conn;
    int64_t file; /* 0: none */
    char *text;   /* [n] */
    size_t n, at;
} cold;

static rv_err open_cold(cold *c, int64_t file)
{
    if (c->file == file) {
        return RV_OK;
    }
    rv_free(&rv_heap, c->text);
    *c = (cold){ .db = c->db, .conn = c->conn };
    RV_TRY(rv_archive_get(&rv_heap, c->db, c->conn, file, &c->text, &c->n));
    c->file = file;
    return RV_OK;
}

bool rv_witness_line(const char *text, size_t n, size_t *at, int64_t *seq, rv_str *body)
{
    while (*at < n) {
        const char *line = text + *at, *end = memchr(line, '\n', n - *at);
        size_t length = end ? (size_t)(end - line) : n - *at, i = sizeof WITNESS_LINE - 1;
        *at += length + (end != NULL);
        if (length <= i || memcmp(line, WITNESS_LINE, i) != 0) {
            continue;
        }
        int64_t number = 0;
        for (; i < length && line[i] >= '0' && line[i] <= '9' && number < INT64_MAX / 10 - 1; i++) {
            number = 10 * number + (line[i] - '0');
        }
        if (i < length && line[i] == ' ') {
            *seq = number;
            *body = rv_str_of(line + i + 1, length - i - 1);
            return true;
        }
    }
    return false;
}

/* Asked for one after the other, so it goes on where the last one was; then once from the beginning. */
static rv_err find_cold(cold *c, int64_t seq, int64_t file, rv_str *body)
{
    RV_TRY(open_cold(c, file));
    for (int again = 0; again < 2; again++) {
        int64_t found;
        while (rv_witness_line(c->text, c->n, &c->at, &found, body)) {
            if (found == seq) {
                return RV_OK;
            }
        }
        c->at = 0;
    }
    return rv_fail(RV_E_CORRUPT, "witness: record %lld is not in file %lld of the archive", (long long)seq,
                   (long long)file);
}

rv_err rv_witness_archive(rv_db *db, int64_t before_ms, size_t most_bytes, size_t *n)
{
/* Records of kind forget stay: they hold no text, and say which others may be empty. */
#define OLD "archive=0 AND body<>'' AND kind<>'forget' AND instr(body, char(10))=0 AND created_ms<?1"
    sqlite3 *conn;
    sqlite3_stmt *stmt = NULL;
    rv_text text;
    bool row = true;
    int64_t last = 0, id;
    size_t found = 0;
    rv_text_init(&text, &rv_heap, RV_ARCHIVE_TEXT_MAX);
    RV_TRY(rv_db_begin(db, &conn));
    rv_err e = rv_db_prepare(conn, &stmt, "SELECT seq, body FROM witness WHERE " OLD " ORDER BY seq", "i",
                             before_ms);
    while (!e && text.n < most_bytes && !(e = rv_db_step(stmt, &row)) && row) {
        rv_str body = column_str(stmt, 1);
        if (text.n > 0 && text.n + body.n > most_bytes) {
            break;
        }
        last = sqlite3_column_int64(stmt, 0);
        rv_text_addf(&text, WITNESS_LINE "%lld ", (long long)last);
        rv_text_add(&text, body.at, body.n);
        rv_text_addc(&text, '\n');
        found++;
    }
    sqlite3_finalize(stmt);
    e = e ? e : rv_text_check(&text);
    if (!e && found) {
        e = rv_archive_put(db, conn, rv_text_get(&text), text.n, &id);
        e = e ? e
              : rv_db_exec(conn, "UPDATE witness SET body='', archive=?3 WHERE " OLD " AND seq<=?2", "iii",
                           before_ms, last, id);
    }
    rv_text_deinit(&text);
    if (e || !found) {
        rv_db_rollback(db);
    } else {
        e = rv_db_commit(db);
    }
    if (!e) {
        *n = found;
    }
    return e;
#undef OLD
}

rv_err rv_witness_restore(sqlite3 *conn, int64_t seq, rv_str body)
{
    return rv_db_exec(conn, "UPDATE witness SET body=?2, archive=0 WHERE seq=?1 AND archive>0", "is", seq,
                      body.at, body.n);
}

/* ---- checking ---- */

/* Columns: seq, created_ms, kind, request_id, body, hash, archive. Fits the record before it and its own hash? */
static rv_err check_record(cold *c, sqlite3_stmt *stmt, const unsigned char previous[HASH],
                           unsigned char hash[HASH], rv_str *body)
{
    record r = { sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1), column_str(stmt, 2),
                 column_str(stmt, 3), column_str(stmt, 4) };
    if (sqlite3_column_int64(stmt, 6)) {
        RV_TRY(find_cold(c, r.seq, sqlite3_column_int64(stmt, 6), &r.body));
    }
    *body = r.body;
    RV_TRY(hash_of(previous, &r, hash));
    if (r.body.n == 0 &&
        sqlite3_column_bytes(stmt, 5) == HASH) { /* forgotten: the record after it vouches for its hash */
        memcpy(hash, sqlite3_column_blob(stmt, 5), HASH);
        return RV_OK;
    }
    if (sqlite3_column_bytes(stmt, 5) != HASH || memcmp(sqlite3_column_blob(stmt, 5), hash, HASH) != 0) {
        return rv_fail(RV_E_CORRUPT,
                       "witness: record %lld does not fit its hash: it, or the one before it, was changed",
                       (long long)r.seq);
    }
    return RV_OK;
}

rv_err rv_witness_forget(sqlite3 *conn, const int64_t *seqs, size_t n, const char *why)
{
    json_t *body = NULL, *list = json_array();
    rv_err e = rv_json_parse(why, strlen(why), &body);
    for (size_t i = 0; !e && i < n; i++) {
        e = rv_db_exec(conn, "UPDATE witness SET body='', archive=0 WHERE seq=?1", "i", seqs[i]);
        e = !e && json_array_append_new(list, json_integer((json_int_t)seqs[i]))
                ? rv_fail(RV_E_NOMEM, "witness: no memory to forget")
                : e;
    }
    rv_text text;
    rv_text_init(&text, &rv_heap, SIZE_MAX / 2);
    if (!e && json_object_set(body, "forgotten", list)) {
        e = rv_fail(RV_E_ARG, "witness: why is no JSON object");
    }
    if (!e) {
        rv_json_text(body, &text);
        e = rv_text_check(&text);
    }
    e = e ? e : rv_witness_append(conn, "forget", "", rv_text_get(&text), text.n);
    rv_text_deinit(&text);
    json_decref(body);
    json_decref(list);
    return e;
}

/* An empty body is that of a record which a later one says was forgotten. */
static rv_err check_forgotten(sqlite3 *conn)
{
    static const char sql[] =
        "SELECT coalesce(min(seq), 0) FROM witness WHERE body='' AND archive=0 AND seq NOT IN"
        " (SELECT j.value FROM witness f, json_each(f.body, '$.forgotten') j WHERE "
        "f.kind='forget' AND f.body<>'')";
    int64_t odd = 0;
    RV_TRY(rv_db_int(conn, &odd, sql, ""));
    return odd ? rv_fail(RV_E_CORRUPT,
                         "witness: record %lld is empty, and no record says that it was forgotten",
                         (long long)odd)
               : RV_OK;
}

rv_err rv_witness_verify(rv_db *db, uint64_t *count)
{
    sqlite3 *conn;
    RV_TRY(rv_db_reader(db, &conn));
    unsigned char previous[HASH] = { 0 }, hash[HASH], head[HASH];
    int64_t next = 1, last = 0;
    sqlite3_stmt *stmt = NULL;
    cold c = { .db = db, .conn = conn };
    rv_err e = read_head(conn, &last, head);
    if (!e) {
        e = rv_db_prepare(
            conn, &stmt,
            "SELECT seq, created_ms, kind, request_id, body, hash, archive FROM witness ORDER BY seq", "");
    }
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        if (sqlite3_column_int64(stmt, 0) != next) {
            e = rv_fail(RV_E_CORRUPT, "witness: record %lld is missing", (long long)next);
            break;
        }
        rv_str body;
        e = check_record(&c, stmt, previous, hash, &body);
        memcpy(previous, hash, HASH);
        next++;
    }
    if (!e && (last != next - 1 || memcmp(head, previous, HASH) != 0)) {
        e = rv_fail(RV_E_CORRUPT, "witness: the chain ends at record %lld, expected %lld",
                    (long long)(next - 1), (long long)last);
    }
    e = e ? e : check_forgotten(conn);
    rv_free(&rv_heap, c.text);
    sqlite3_finalize(stmt);
    rv_db_reader_done(db, conn);
    if (!e) {
        *count = (uint64_t)(next - 1);
    }
    return e;
}

static const char *hex(rv_arena *arena, const unsigned char hash[HASH])
{
    static const char digits[] = "0123456789abcdef";
    char *out = rv_arena_take(arena, 2 * HASH + 1);
    for (size_t i = 0; out && i < HASH; i++) {
        out[2 * i] = digits[hash[i] >> 4];
        out[2 * i + 1] = digits[hash[i] & 15];
    }
    return out;
}

static rv_err read_record(cold *c, sqlite3_stmt *stmt, rv_arena *arena, rv_witness_record *out)
{
    unsigned char previous[HASH] = { 0 }, hash[HASH];
    int64_t seq = sqlite3_column_int64(stmt, 0);
    if (seq > 1) {
        sqlite3_stmt *before;
        RV_TRY(rv_db_prepare(c->conn, &before, "SELECT hash FROM witness WHERE seq=?1", "i", seq - 1));
        bool row;
        rv_err e = rv_db_step(before, &row);
        if (!e && (!row || sqlite3_column_bytes(before, 0) != HASH)) {
            e = rv_fail(RV_E_CORRUPT, "witness: record %lld is missing", (long long)(seq - 1));
        }
        if (!e) {
            memcpy(previous, sqlite3_column_blob(before, 0), HASH);
        }
        sqlite3_finalize(before);
        RV_TRY(e);
    }
    rv_str kind = column_str(stmt, 2), request = column_str(stmt, 3), body;
    RV_TRY(check_record(c, stmt, previous, hash, &body));
    *out = (rv_witness_record){ .seq = seq,
                                .created_ms = sqlite3_column_int64(stmt, 1),
                                .kind = rv_arena_strndup(arena, kind.at, kind.n),
                                .request_id = rv_arena_strndup(arena, request.at, request.n),
                                .body = rv_arena_strndup(arena, body.at, body.n),
                                .hash = hex(arena, hash) };
    return out->kind && out->request_id && out->body && out->hash
               ? RV_OK
               : rv_fail(RV_E_NOMEM, "witness: no memory to read");
}

rv_err rv_witness_get(rv_db *db, const char *request_id, rv_arena *arena, rv_witness_record **out, size_t *n)
{
    sqlite3 *conn;
    RV_TRY(rv_db_reader(db, &conn));
    int64_t count = 0;
    sqlite3_stmt *stmt = NULL;
    cold c = { .db = db, .conn = conn };
    rv_err e = rv_db_int(conn, &count, "SELECT count(*) FROM witness WHERE request_id=?1", "t", request_id);
    rv_witness_record *records = e ? NULL : rv_arena_take(arena, (size_t)count * sizeof *records);
    if (!e && !records) {
        e = rv_fail(RV_E_NOMEM, "witness: no memory to read");
    }
    if (!e) {
        e = rv_db_prepare(conn, &stmt,
                          "SELECT seq, created_ms, kind, request_id, body, hash, archive FROM witness WHERE "
                          "request_id=?1 ORDER BY seq",
                          "t", request_id);
    }
    size_t at = 0;
    for (bool row = true; !e && at < (size_t)count;) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        e = read_record(&c, stmt, arena, &records[at++]);
    }
    rv_free(&rv_heap, c.text);
    sqlite3_finalize(stmt);
    rv_db_reader_done(db, conn);
    if (!e) {
        *out = records;
        *n = at;
    }
    return e;
}
