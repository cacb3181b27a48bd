/* A line of a file is a word and what it says: "witness SEQ BODY" (store/witness.h); "episode" and "judged" with the row of that table as a JSON
 * array, which SQLite writes and reads. */
#include "learn/archive.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "store/archive.h"
#include "store/witness.h"

#include <stdio.h>
#include <string.h>

/* Column 0: the request, 1: its line. A judgement comes after the answer that it refers to. */
static const char spent[] =
    "SELECT request_id, 'episode ' || json_array(request_id, session_id, user, question, answer, model, "
    "sources, "
    "confidence, total_ms, created_ms, route) || char(10) || coalesce((SELECT 'judged ' || "
    "json_array(request_id, "
    "judge, quality, trust, created_ms) || char(10) FROM judged j WHERE j.request_id = e.request_id), '') "
    "FROM episode e WHERE created_ms < ?1 AND NOT EXISTS (SELECT 1 FROM feedback f WHERE f.request_id = "
    "e.request_id) "
    "AND created_ms <= coalesce((SELECT created_ms FROM episode ORDER BY created_ms DESC LIMIT 1 OFFSET ?2), "
    "-1) "
    "ORDER BY created_ms";
static const char *const take_out[] = { "DELETE FROM judged WHERE request_id = ?1",
                                        "DELETE FROM episode WHERE request_id = ?1" };
#define AT(n) "json_extract(?1, '$[" #n "]')"
static const struct {
    const char *word, *put_back;
} kinds[] = {
    { "episode ", "INSERT OR IGNORE INTO episode SELECT " AT(0) "," AT(1) "," AT(2) "," AT(3) "," AT(
                      4) "," AT(5) "," AT(6) "," AT(7) "," AT(8) "," AT(9) "," AT(10) },
    { "judged ", "INSERT OR IGNORE INTO judged SELECT " AT(0) "," AT(1) "," AT(2) "," AT(3) "," AT(4) },
};
#undef AT

/* ---- away ---- */

static rv_err move_answers(rv_db *db, sqlite3 *conn, const rv_archiving *how, rv_text *text, rv_text *gone,
                           size_t *n)
{
    sqlite3_stmt *s = NULL;
    bool row = true;
    int64_t id;
    RV_TRY(rv_db_prepare(conn, &s, spent, "ii", how->before_ms, (int64_t)how->keep));
    rv_err e = RV_OK;
    while (!e && text->n < RV_ARCHIVE_FILE_BYTES && !(e = rv_db_step(s, &row)) && row) {
        rv_text_add(gone, (const char *)sqlite3_column_text(s, 0),
                    (size_t)sqlite3_column_bytes(s, 0) + 1); /* with its zero */
        rv_text_add(text, (const char *)sqlite3_column_text(s, 1), (size_t)sqlite3_column_bytes(s, 1));
        ++*n;
    }
    sqlite3_finalize(s);
    e = e ? e : rv_text_check(text);
    e = e ? e : rv_text_check(gone);
    e = e || text->n == 0 ? e : rv_archive_put(db, conn, rv_text_get(text), text->n, &id);
    for (size_t at = 0; !e && at < gone->n; at += strlen(rv_text_get(gone) + at) + 1) {
        for (size_t i = 0; !e && i < RV_COUNT(take_out); i++) {
            e = rv_db_exec(conn, take_out[i], "t", rv_text_get(gone) + at);
        }
    }
    return e;
}

/* n: answers, 0: none is so old. */
static rv_err archive_answers(const rv_archiving *how, size_t *n)
{
    sqlite3 *conn;
    rv_text text, gone;
    *n = 0;
    RV_TRY(rv_db_begin(how->db, &conn));
    rv_text_init(&text, &rv_heap, RV_ARCHIVE_TEXT_MAX);
    rv_text_init(&gone, &rv_heap, RV_ARCHIVE_TEXT_MAX);
    rv_err e = move_answers(how->db, conn, how, &text, &gone, n);
    rv_text_deinit(&gone);
    rv_text_deinit(&text);
    if (e || *n == 0) {
        rv_db_rollback(how->db);
        return e;
    }
    return rv_db_commit(how->db);
}

rv_err rv_learn_archive(const rv_archiving *how, rv_archived *out)
{
    rv_archived done = { 0 };
    rv_err e = RV_OK;
    for (bool answers = false, more = true; !e && more && rv_clock_ms() < how->until_ms;) {
        size_t n = 0;
        if (how->begin && !how->begin(how->self)) {
            break;
        }
        e = answers ? archive_answers(how, &n)
                    : rv_witness_archive(how->db, how->before_ms, RV_ARCHIVE_FILE_BYTES, &n);
        if (how->end) {
            how->end(how->self);
        }
        *(answers ? &done.answers : &done.records) += n;
        done.files += n > 0;
        more = n > 0 || !answers;
        answers = answers || n == 0;
    }
    *out = done;
    return e;
}

/* ---- back ---- */

static rv_err put_back(sqlite3 *conn, const char *text, size_t n, rv_archived *done)
{
    int64_t seq;
    rv_str body;
    for (size_t at = 0; rv_witness_line(text, n, &at, &seq, &body);) {
        RV_TRY(rv_witness_restore(conn, seq, body));
        done->records++;
    }
    for (size_t at = 0; at < n;) {
        const char *line = text + at, *end = memchr(line, '\n', n - at);
        size_t length = end ? (size_t)(end - line) : n - at;
        for (size_t k = 0; k < RV_COUNT(kinds); k++) {
            size_t word = strlen(kinds[k].word);
            if (length > word && memcmp(line, kinds[k].word, word) == 0) {
                RV_TRY(rv_db_exec(conn, kinds[k].put_back, "s", line + word, length - word));
                done->answers += k == 0;
            }
        }
        at += length + 1;
    }
    return RV_OK;
}

/* What a damaged file held is lost; its records are said to be forgotten, so that the chain holds. */
static rv_err give_up(sqlite3 *conn, int64_t id)
{
    char why[64];
    int64_t seqs[256];
    rv_log(RV_LOG_WARN, "archive.damaged", "error", rv_err_text(), "doing",
           "its records are noted as forgotten", (char *)NULL);
    snprintf(why, sizeof why, "{\"damaged archive\": %lld}", (long long)id);
    for (size_t n = RV_COUNT(seqs); n == RV_COUNT(seqs);) {
        sqlite3_stmt *s = NULL;
        bool row = true;
        n = 0;
        RV_TRY(rv_db_prepare(conn, &s, "SELECT seq FROM witness WHERE archive = ?1 ORDER BY seq LIMIT ?2",
                             "ii", id, (int64_t)RV_COUNT(seqs)));
        rv_err e = RV_OK;
        while (n < RV_COUNT(seqs) && !(e = rv_db_step(s, &row)) && row) {
            seqs[n++] = sqlite3_column_int64(s, 0);
        }
        sqlite3_finalize(s);
        RV_TRY(e);
        RV_TRY(n ? rv_witness_forget(conn, seqs, n, why) : RV_OK);
    }
    return RV_OK;
}

static rv_err restore_file(rv_db *db, sqlite3 *conn, int64_t id, rv_archived *done)
{
    char *text = NULL;
    size_t n = 0;
    rv_err e = rv_archive_get(&rv_heap, db, conn, id, &text, &n);
    if (e == RV_E_CORRUPT || e == RV_E_FORMAT || e == RV_E_NOT_FOUND) {
        RV_TRY(give_up(conn, id));
    } else if (e) {
        return e;
    } else {
        e = put_back(conn, text, n, done);
        rv_free(&rv_heap, text);
        RV_TRY(e);
    }
    done->files++;
    return rv_archive_drop(conn, id);
}

rv_err rv_learn_restore(rv_db *db, rv_archived *out)
{
    rv_archived done = { 0 };
    for (int64_t id = 1; id;) {
        sqlite3 *conn;
        RV_TRY(rv_db_begin(db, &conn));
        id = 0;
        rv_err e = rv_db_int(conn, &id, "SELECT coalesce(min(id), 0) FROM archive", "");
        e = e || !id ? e : restore_file(db, conn, id, &done);
        if (e || !id) {
            rv_db_rollback(db);
            RV_TRY(e);
        } else {
            RV_TRY(rv_db_commit(db));
        }
    }
    *out = done;
    return rv_archive_sweep(db);
}
