/* What the files of memory/ share. Two locks: `writing` is held through a whole change (one at a time), `state` guards what is
 * in memory: shared while searching, alone for the moment in which a committed change is taken over. Order: writing, a
 * connection of the database, state. */
#ifndef RV_MEMORY_MEMORY_PRIV_H
#define RV_MEMORY_MEMORY_PRIV_H
#include "base/metrics.h"
#include "base/str.h"
#include "graph/graph.h"
#include "memory/memory.h"
#include "memory/nearest_priv.h"
#include "memory/postings.h"
#include "memory/sense.h"
#include "store/segment.h"
#include "vector/index.h"

#include <pthread.h>

enum {
    RV_MEMORY_TEXT_MAX = 1 << 20,
    RV_MEMORY_TAGS_MAX = 32,
    RV_MEMORY_TAG_BYTES = 64,
    RV_MEMORY_USER_BYTES = 256,
    RV_MEMORY_SOURCE_BYTES = 4096,
    RV_MEMORY_ORIGIN_BYTES = 128,
    RV_MEMORY_METADATA_BYTES = 65536,
    RV_MEMORY_K_MAX = 1000
};
/* Sets of ids are bits: 1 GiB each for that many. */
#define RV_MEMORY_ID_MAX ((int64_t)1 << 33)

/* ---- names: types, users, sources and tags as small numbers; 0 is "" ---- */

typedef struct names {
    const rv_alloc *mem;
    char **at; /* [n] */
    size_t n, room;
    uint32_t *slots; /* [n_slots] number + 1 */
    size_t n_slots;
} names;

rv_err rv_names_init(names *t, const rv_alloc *mem) RV_MUST_CHECK;
void rv_names_deinit(names *t);
/** rv_names_add - the number of a name, given at first use.  rv_names_find - false when it was never added. */
rv_err rv_names_add(names *t, const char *name, size_t n, uint32_t *out) RV_MUST_CHECK;
bool rv_names_find(const names *t, const char *name, uint32_t *out);

/* ---- what is kept in memory of each node ---- */

typedef struct entry {
    int64_t id, created_ms;
    uint32_t type, user, source;
    uint32_t tags_at, n_tags;    /* in tags */
    const float *row;            /* its vector as mapped; NULL: not searched */
    int64_t expires_ms, used_ms; /* 0: never */
    uint32_t used;
    float confidence;
    bool pinned;
} entry;

typedef struct adding adding;

/* One of the keys of a text, near.c. */
struct near_key {
    int64_t key, node;
    uint32_t older; /* of the same slot + 1 */
};

/* The ids of all nodes that have a value in a field: ascending, or as bits once these take no more room. Those that were removed, or
 * never came to be, stay until the next start: an id is used once, and whoever asks also asks for what lives. */
typedef struct holders {
    int64_t *at; /* [n] */
    size_t n, room;
    idset bits; /* not empty: all are here */
} holders;

/* When the nodes of 64 consecutive ids were made, removed ones too. */
typedef struct span {
    int64_t oldest, newest;
} span;
typedef enum holders_by { RV_BY_TYPE, RV_BY_USER, RV_BY_SOURCE, RV_BY_TAG, RV_BYS } holders_by;

struct rv_memory {
    const rv_alloc *mem;
    rv_db *db;
    char *embedder_name, *folder; /* of the vector files */
    rv_memory_embedder embedder;

    pthread_mutex_t writing;
    rv_segments *segments; /* under writing */
    rv_words *cutter;      /* under writing */
    size_t n_fresh;        /* under writing: copies of vectors in the database */
    int64_t next_id;       /* under writing; never used twice, not even after a change that failed */

    pthread_mutex_t waiting; /* all to the next blank line; nothing else is locked under it */
    pthread_cond_t arrived;
    adding *first_waiting, *last_waiting;
    size_t n_waiting,
        n_awaited;     /* how many are there; how many will be there in a moment, as far as one can tell */
    bool adds_written; /* somebody writes what waits */
    double write_ms;   /* how long the last group took */

    pthread_mutex_t keeping; /* all to the next blank line */
    pthread_cond_t kept;     /* due or stop was set, or idle */
    pthread_t keeper;
    bool keeper_runs, keeper_due, keeper_settle, keeper_stop, keeper_idle;
    bool looked[RV_FASTS]; /* the keeper's own: a saved index was looked for */
    size_t words_not_before,
        not_before[RV_FASTS]; /* nor is one built again with fewer rows, after it failed */

    pthread_mutex_t queueing; /* all to the next blank line; writeback.c */
    pthread_cond_t queued, drained;
    struct queued *queue; /* [n_queued], oldest first */
    struct queued *taken; /* what the thread is writing */
    size_t n_queued;
    bool back_runs, back_stop, back_now, back_busy;
    size_t batch;
    double batch_ms;
    pthread_t back;
    int64_t opened_wall_ms; /* time goes on from there, whatever the clock of the machine is set to */
    double opened_ms;

    uint64_t store;         /* the number of this store, as in its vector files */
    pthread_rwlock_t state; /* all below */
    int64_t half_life_ms;   /* 0: nothing fades */
    double vector_weight;   /* 0: by how near the nearest is */
    entry *entries;         /* [n_entries] ascending ids */
    size_t n_entries, entry_room;
    uint32_t *tags; /* [n_tags] of all entries; those of removed ones go with the next start */
    size_t n_tags, tag_room;
    names names;
    holders *holders[RV_BYS]; /* [n_holders] by the number of the name */
    size_t n_holders[RV_BYS];
    idset live;  /* nodes that are searched, n_live of them */
    span *spans; /* [live.n] */
    size_t n_live, span_room;
    rv_index *index; /* exact: all rows */
    fast *fasts[RV_FASTS];
    size_t scrubs;      /* how often the files were scrubbed since the memory opened */
    size_t moves,       /* how often rows were given other places since then, */
        moves_scrubbed; /* and how often before the last scrub: their old places may be zeros since */
    float flat_ns;      /* of a row that is compared exactly */
    rv_memory_tuning tuning;
    rv_postings *postings;  /* words of all texts; NULL: FTS5 answers. Changed under writing too */
    size_t n_postings_dead; /* removed texts in it */
    rv_graph *graph;
    idset
        damaged; /* nodes on the disk that did not fit their checksums at the start: neither entries nor ends of edges. Under writing too */
    struct near_key *near_keys; /* [n_near_keys] of all marks; those of removed nodes go later */
    size_t n_near_keys, near_keys_room;
    size_t near_sweep_at; /* from so many keys on, those of removed nodes go */
    uint32_t *near_slots; /* [n_near_slots] by key: the newest of its keys + 1 */
    size_t n_near_slots;
    idset
        corrected; /* all that a corrects-edge leads to; those whose edge was taken away stay until the next start */
    unsigned contains, follows, corrects, derived, cites, same_topic, agent_step; /* types of edges */
    size_t
        n_pairs; /* cosines of random pairs: what is near in this store has to be told from what is usual */
    double pair_mean, pair_m2;
    uint64_t vector_rows, vector_bytes; /* of all segments, dead rows too */
};

/** rv_memory_find - the entry of an id; NULL when there is none, or its node is damaged. Under state. */
const entry *rv_memory_find(const rv_memory *m, int64_t id);

/* ---- filters ---- */

/* A filter with its names looked up. Under state, as long as it is used. */
typedef struct matcher {
    const rv_memory *m;
    bool nothing; /* a name nobody has */
    bool type_set, tag_set, source_set, user_set, only_user, unknown_user;
    bool but_set; /* a type that is left out */
    uint32_t but;
    uint32_t type, tag, source, user;
    int64_t since_ms, until_ms;
} matcher;

/** rv_matcher_of - what the scope sees. filter: NULL: all of it.
 *  rv_matcher_own - what it may remove or keep: of a user's only that user's own.
 *  rv_matcher_search - for a search: concepts are left out, unless it is for them. */
matcher rv_matcher_of(const rv_memory *m, rv_memory_scope scope, const rv_memory_filter *filter);
matcher rv_matcher_own(const rv_memory *m, rv_memory_scope scope, const rv_memory_filter *filter);
matcher rv_matcher_search(const rv_memory *m, rv_memory_scope scope, const rv_memory_filter *filter);
bool rv_matcher_takes(const matcher *f, const entry *e);
/** rv_matcher_has - is it there, and taken?  rv_matcher_need - RV_E_NOT_FOUND if not, whatever the cause. */
bool rv_matcher_has(const matcher *f, int64_t id);
rv_err rv_matcher_need(const matcher *f, int64_t id) RV_MUST_CHECK;
/** rv_matcher_corrected_by - the newest node that corrects this one, 0: none. What a user says corrects nothing for another:
 * only nodes of the filter's user, and everybody's, count. Under state. */
int64_t rv_matcher_corrected_by(const matcher *f, int64_t id);

/** rv_holders_add - under state, alone. An id that is there already is one.  rv_holders_reserve - so that n more, of ids up to this one, are
 * put by rv_holders_put, which cannot fail.  rv_holders_free - all. */
rv_err rv_holders_add(rv_memory *m, holders_by by, uint32_t name, int64_t id) RV_MUST_CHECK;
rv_err rv_holders_reserve(rv_memory *m, holders_by by, uint32_t name, int64_t highest,
                          size_t n) RV_MUST_CHECK;
void rv_holders_put(rv_memory *m, holders_by by, uint32_t name, int64_t id);
void rv_holders_free(rv_memory *m);

/** rv_live_reserve - room for ids up to this one.  rv_live_add, rv_live_remove - a searched node came or went. Under state, alone. */
rv_err rv_live_reserve(rv_memory *m, int64_t id) RV_MUST_CHECK;
void rv_live_add(rv_memory *m, int64_t id, int64_t created_ms);
void rv_live_remove(rv_memory *m, int64_t id);

/* The searched nodes that pass, as bits by id. */
typedef struct passing {
    uint64_t *bits;   /* NULL: no filter, all pass */
    size_t n_bits, n; /* n of them are set */
} passing;
/** rv_passing_of - to be freed with rv_passing_deinit. Under state. */
rv_err rv_passing_of(const matcher *f, passing *out) RV_MUST_CHECK;
void rv_passing_deinit(const rv_memory *m, passing *p);
static inline bool rv_passes(const passing *p, int64_t id)
{
    return id >= 0 && (uint64_t)id < p->n_bits && (p->bits[id / 64] >> id % 64 & 1);
}

/** rv_memory_grow - an array of at least need elements. */
rv_err rv_memory_grow(const rv_alloc *mem, void **at, size_t *room, size_t need, size_t size) RV_MUST_CHECK;

/* ---- records ---- */

/* The keys by which texts that share words meet; n is 0 or RV_SENSE_KEYS. */
typedef struct near_mark {
    size_t n;
    int64_t keys[RV_SENSE_KEYS];
} near_mark;

/* One row of nodes. Tags are joined by newlines. */
typedef struct record {
    const near_mark *mark; /* of what is added, when somebody made it before; NULL: nobody did */
    const rv_cut *cut;     /* likewise */
    int64_t id;
    rv_str type, text, source, user, origin, tags, metadata;
    double confidence;
    int64_t created_ms, offset, length;
} record;

int64_t rv_record_sum(const record *r);
int64_t rv_record_same(const record *r); /* equal for nodes of equal type, user and text */
int64_t rv_edge_sum(int64_t from, int64_t to, rv_str type, double weight, int64_t created_ms);

#define RV_RECORD_COLUMNS                                                                                    \
    "id, type, text, source, user, origin, tags, metadata, confidence, created_ms, offset, length, sum"
enum { RV_RECORD_N_COLUMNS = 13 };
rv_str rv_column_str(sqlite3_stmt *stmt, int column); /* a view, "" for NULL; ends with the next step */
/** rv_record_read - of a statement whose first columns are RV_RECORD_COLUMNS; views end with its next step. RV_E_CORRUPT the
 * checksum does not fit. */
rv_err rv_record_read(sqlite3_stmt *stmt, record *out) RV_MUST_CHECK;

/* ---- nodes of a result ---- */

/* Reads records into nodes, by a statement that stays prepared on the connection. Under state, until the reader is done. */
typedef struct node_reader {
    const matcher *f;
    sqlite3_stmt *stmt;
} node_reader;
rv_err rv_node_reader_begin(node_reader *r, const matcher *f, sqlite3 *conn) RV_MUST_CHECK;
/** rv_node_read - *found false: it was removed meanwhile. */
rv_err rv_node_read(const node_reader *r, int64_t id, rv_arena *arena, rv_memory_node *out,
                    bool *found) RV_MUST_CHECK;

/* ---- edges ---- */

/** rv_memory_edge_strength - which part of its score a node gives along an edge of this type and weight 1. */
double rv_memory_edge_strength(const rv_memory *m, unsigned type);

typedef struct near {
    int64_t id;
    float cosine;
} near;
enum { RV_MEMORY_NEAR = 3 };
/** rv_memory_near - up to RV_MEMORY_NEAR nodes that are unusually near to a vector for this store; how many. 0 when the store is too
 * small to tell, or too large to look. Takes state. */
size_t rv_memory_near(rv_memory *m, const float *vector, near out[RV_MEMORY_NEAR]);
/** rv_memory_count_pair - one more cosine of a vector with that of any node. Under state, alone, before the vector is added. */
void rv_memory_count_pair(rv_memory *m, const float *vector);

/* ---- in other words, or the opposite: near.c ---- */

/* A near-duplicate's vectors are at least so near. A sieve only: the words decide (bench/memory_sense.c). Of up to RV_SENSE_SHORT words one
 * value more or less moves the vector further than that, so there contradictions are told without it. */
#define RV_NEAR_COSINE 0.7f
typedef struct near_found {
    int64_t same, opposite; /* 0: none */
} near_found;
/** rv_near_mark - of a record that will be added; none when it is not compared. words: of this thread.
 *  rv_near_find - among the nodes of its type and user. Under writing.
 *  rv_near_meets - would two records that are not in the memory yet find each other? vectors [dim]. */
rv_err rv_near_mark(const rv_memory *m, const record *r, near_mark *out) RV_MUST_CHECK;
rv_err rv_near_find(rv_memory *m, sqlite3 *conn, const record *r, const float *vector,
                    near_found *out) RV_MUST_CHECK;
rv_err rv_near_meets(const rv_memory *m, const record *r, const float *vector, const record *other,
                     const float *other_vector, bool *out) RV_MUST_CHECK;
/** rv_near_write - in the transaction at hand.  rv_near_reserve - room for so many marks; state, alone, as for
 *  rv_near_add, which makes that a node is found.  rv_near_load - at the start; marks that are missing are made. */
rv_err rv_near_write(rv_memory *m, const record *r, const near_mark *mark) RV_MUST_CHECK;
rv_err rv_near_reserve(rv_memory *m, size_t n) RV_MUST_CHECK;
void rv_near_add(rv_memory *m, int64_t id, const near_mark *mark);
rv_err rv_near_load(rv_memory *m) RV_MUST_CHECK;
void rv_near_deinit(rv_memory *m);

/* ---- what becomes of a node: use.c ---- */

typedef struct link_row {
    int64_t from, to;
    const char *type;
    double weight;
    int64_t created_ms; /* 0: now */
} link_row;

typedef struct use_row {
    int64_t id;
    bool pinned;
    int64_t expires_ms, used, used_ms;
} use_row;

int64_t rv_use_sum(const use_row *u);
use_row rv_use_of(const entry *e);
/** rv_use_load - of all entries, at the start.  rv_use_check - the disk says what memory says. */
rv_err rv_use_load(rv_memory *m, sqlite3 *conn) RV_MUST_CHECK;
rv_err rv_use_check(const rv_memory *m, sqlite3 *conn) RV_MUST_CHECK;
rv_err rv_use_write(rv_memory *m, const use_row *rows,
                    size_t n) RV_MUST_CHECK;                        /* in the transaction at hand */
void rv_use_take_over(rv_memory *m, const use_row *rows, size_t n); /* under state, alone */

/** rv_memory_moved - the edges that an outcome moves, with their new weights, added to rows [room]; an edge that is among them already
 * moves on from there. f: what is seen; other edges stay. Under writing. */
void rv_memory_moved(const matcher *f, const rv_memory_outcome *o, link_row *rows, size_t *n, size_t room);

int64_t rv_memory_now_ms(const rv_memory *m); /* UTC; does not jump */
/** rv_memory_worth - what a score is multiplied with: .5 .. 1 by confidence, and .5 .. 1 by age, if anything fades. Under state. */
double rv_memory_worth(const rv_memory *m, int64_t id, int64_t now_ms);
/** rv_writeback_start - the thread that writes what is queued and removes what has ended.  rv_writeback_stop - what is queued is written
 * before. */
void rv_writeback_start(rv_memory *m);
void rv_writeback_stop(rv_memory *m);

/* ---- changes: all that one transaction does ---- */

/* What a node that is there says from now on: all of its tags and metadata, and the checksum that its record has with them. */
typedef struct edit_row {
    int64_t id;
    rv_str tags, metadata;
    int64_t sum;
} edit_row;

typedef struct document_row {
    int64_t node;
    rv_str user;
    const char *path;
    const unsigned char *digest; /* [32] */
} document_row;

typedef struct change {
    const record *add; /* [n_add] ascending ids of rv_memory_take_ids */
    size_t n_add;
    const float *vectors; /* [n_add][dim], of all that is added; NULL: nothing added is searched */
    size_t
        first_searched; /* add[first_searched ..] are searched, those before are not; vectors begin with it */
    const link_row *link; /* [n_link] */
    size_t n_link;
    const link_row *unlink; /* [n_unlink] */
    size_t n_unlink;
    const edit_row *edit; /* [n_edit] none of them added or dropped, each once */
    size_t n_edit;
    const int64_t *drop; /* [n_drop] ascending */
    size_t n_drop;
    const document_row *documents; /* [n_documents] of what is added */
    size_t n_documents;
    const use_row *use; /* [n_use] of what is added, or was there */
    size_t n_use;
} change;

/* ---- vectors that are not known to have reached their segment ---- */

/** rv_fresh_keep - in the transaction that names the rows, after they were appended: what makes them durable with it. ids [n], vectors
 * [n][dim]. Errors: as rv_segments_sync; RV_E_NOMEM. Under writing.
 *  rv_fresh_get - the copy of a vector [dim]; *found false: there is none, or it is damaged.
 *  rv_fresh_count - at the start. */
rv_err rv_fresh_keep(rv_memory *m, sqlite3 *conn, const int64_t *ids, const float *vectors,
                     size_t n) RV_MUST_CHECK;
rv_err rv_fresh_get(const rv_memory *m, sqlite3 *conn, int64_t id, float *out, bool *found) RV_MUST_CHECK;
rv_err rv_fresh_count(rv_memory *m, sqlite3 *conn) RV_MUST_CHECK;

/** rv_memory_take_ids - n consecutive new ids. Under writing. */
int64_t rv_memory_take_ids(rv_memory *m, size_t n);
/** rv_memory_apply - vectors synced, transaction committed, then memory follows. On failure all is as before. Under writing. */
rv_err rv_memory_apply(rv_memory *m, const change *c) RV_MUST_CHECK;

/** rv_memory_entry_add - the entry of a record, room reserved. Under state, alone. */
rv_err rv_memory_reserve(rv_memory *m, size_t entries, size_t tags) RV_MUST_CHECK;
rv_err rv_memory_entry_of(rv_memory *m, const record *r, entry *out) RV_MUST_CHECK;
/** rv_memory_tags_of - other tags of a node that is there, one of n such nodes in this change: behind all tags, at *at, *n_tags of them. They become
 * its own with rv_memory_take_tags, which cannot fail. Under state, alone. */
rv_err rv_memory_tags_of(rv_memory *m, rv_str tags, size_t n, uint32_t *at, uint32_t *n_tags) RV_MUST_CHECK;
void rv_memory_take_tags(rv_memory *m, int64_t id, uint32_t at, uint32_t n_tags);

/** rv_memory_edges_taken_back - what is said anew as a correction is itself no longer corrected: the corrects-edges that lead to
 * it go. This also means that corrections never form a circle. *out is to be freed. Under writing. */
rv_err rv_memory_edges_taken_back(rv_memory *m, int64_t id, link_row **out, size_t *n) RV_MUST_CHECK;
/** rv_memory_parts - the chunks that go with a document: of its own user, at the end of a contains-edge from it. Whatever else hangs on it stays. out
 * may be NULL: only how many.  rv_memory_with_parts - *ids [*n] and the parts of documents among them, ascending, each once; *ids is
 * resized. Under writing. */
size_t rv_memory_parts(const rv_memory *m, int64_t document, int64_t *out);
rv_err rv_memory_with_parts(const rv_memory *m, int64_t **ids, size_t *n) RV_MUST_CHECK;
bool rv_memory_good_type(const char *type); /* of a node or an edge: [a-z_]{1,32} */

/** rv_memory_check_new - every field is within its limits; RV_E_ARG, RV_E_TOO_LARGE which is not. */
rv_err rv_memory_check_new(const rv_memory_new *new, rv_memory_scope scope, size_t text_bytes) RV_MUST_CHECK;
/** rv_memory_check_scope - something can be added to it: it is a user's, and user and tags are within their limits. rv_memory_join_tags - sorted, each once, joined by newlines. */
rv_err rv_memory_check_scope(rv_memory_scope scope, const char *const *tags, size_t n_tags) RV_MUST_CHECK;
rv_err rv_memory_join_tags(const rv_alloc *mem, const char *const *tags, size_t n,
                           rv_text *out) RV_MUST_CHECK;

/* ---- metrics ---- */

typedef enum rv_memory_metric {
    RV_MEMORY_ADDS,
    RV_MEMORY_COMMITS,
    RV_MEMORY_ADD_TIME,
    RV_MEMORY_COMMIT_TIME,
    RV_MEMORY_QUEUED,
    RV_MEMORY_WRITTEN_BACK,
    RV_MEMORY_BATCHES,
    RV_MEMORY_WAITS,
    RV_MEMORY_DROPPED,
    RV_MEMORY_EXPIRED,
    RV_MEMORY_N_METRICS
} rv_memory_metric;
extern rv_metric rv_memory_metrics[RV_MEMORY_N_METRICS];

/* ---- words and chunks ---- */

/** rv_words_query - user text as an FTS5 query that matches any of its words; empty when it has none. Nothing in the text is
 * syntax. */
void rv_words_query(const char *text, size_t n, rv_text *out);
/** rv_words_empty - is this word one that is in nearly every text? */
bool rv_words_empty(const char *word, size_t n);

/** rv_memory_index_words - makes the index of words from the texts, and takes it up. The keeper's. Errors: RV_E_CANCELLED the memory
 * closes; what the database says; RV_E_NOMEM: FTS5 goes on answering. */
rv_err rv_memory_index_words(rv_memory *m) RV_MUST_CHECK;

typedef struct chunk {
    rv_str text;            /* headings, then sentences */
    size_t offset, n_bytes; /* in the source */
} chunk;

typedef struct chunks {
    chunk *at;
    size_t n;
    rv_str title; /* first heading, or empty */
} chunks;

/* headed: plain, but a line that begins with a byte 1 .. 6 is a heading of that level */
typedef enum text_kind { RV_TEXT_PLAIN, RV_TEXT_MARKDOWN, RV_TEXT_HEADED } text_kind;

/** rv_chunks_of - cut a text at headings and sentences into chunks of about 60 to 120 words. What is returned is in arena, mem
 * is for the time of the call. text: valid UTF-8 without zero bytes. */
rv_err rv_chunks_of(const rv_alloc *mem, const char *text, size_t n, text_kind kind, rv_arena *arena,
                    chunks *out) RV_MUST_CHECK;
#endif
