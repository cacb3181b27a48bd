/* For tests of the deep loop's stages: a place they work on, made-up words, and questions whose useful passage is known. */
#ifndef RV_TESTS_DEEP_HELPERS_H
#define RV_TESTS_DEEP_HELPERS_H
#include "learn/deep.h"
#include "learn/episode.h"
#include "learn/judge.h"
#include "memory_helpers.h"
#include "store/policy.h"
#include "store/witness.h"

typedef struct place {
    store s;
    rv_embed *embed;
    rv_deep_place deep;
} place;

static inline rv_err by_embed(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

static inline void place_open(const char *dir, place *p)
{
    *p = (place){ 0 };
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &p->embed));
    rv_memory_embedder e = {
        .name = "hash", .dim = rv_embed_dim(p->embed), .text = by_embed, .self = p->embed
    };
    CHECK_OK(store_open_with(&rv_heap, dir, e, &p->s));
    CHECK_OK(rv_witness_setup(p->s.db));
    CHECK_OK(rv_policy_setup(p->s.db));
    CHECK_OK(rv_episode_setup(p->s.db));
    CHECK_OK(rv_judge_setup(p->s.db));
    CHECK_OK(rv_loop_setup(p->s.db));
    p->deep = (rv_deep_place){
        .db = p->s.db, .memory = p->s.m, .embed = p->embed, .until_ms = rv_clock_ms() + 3600e3
    };
}

static inline void place_close(place *p)
{
    store_close(&p->s);
    rv_embed_close(p->embed);
}

/* Eight letters that only this number has; good until the sixteenth next call. */
static inline const char *word(int number)
{
    static char words[16][9];
    static int next;
    char *out = words[next++ % 16];
    uint64_t h = rv_hash64(&number, sizeof number, 9);
    for (int i = 0; i < 8; i++, h /= 26) {
        out[i] = (char)('a' + h % 26);
    }
    out[8] = 0;
    return out;
}

static inline int64_t add(place *p, const char *user, const char *text)
{
    int64_t id;
    bool added;
    rv_memory_new new = { .type = "note", .text = text, .created_ms = 1000 };
    CHECK_OK(rv_memory_add(p->s.m, rv_memory_of(user), &new, &id, &added));
    return id;
}

/* This user (""; nobody) asked, the answer cited what is useful, and it was rated. */
static inline void rate(place *p, int number, const char *user, const char *question, int64_t useful,
                        int rating)
{
    char id[40], body[64];
    sqlite3 *conn;
    snprintf(id, sizeof id, "00000000-0000-4000-8000-%012d", number);
    snprintf(body, sizeof body, "{\"n\":%d}", number);
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .user = user,
                     .question = question,
                     .answer = "it is so [1]",
                     .model = "m",
                     .sources = &useful,
                     .n_sources = 1,
                     .created_ms = 2000 + number };
    CHECK_OK(rv_db_begin(p->s.db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_witness_append(conn, "request", id, body, strlen(body)));
    CHECK_OK(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, 'rating', ?2, '', 0, 3000)", "ti", id,
                        (int64_t)rating));
    CHECK_OK(rv_db_commit(p->s.db));
}
#endif
