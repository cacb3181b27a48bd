/* The unified store: text, vector, words (FTS5), graph and metadata of a node change together, in one transaction. A write
 * that was acknowledged survives kill -9 and power loss. */
#ifndef RV_MEMORY_MEMORY_H
#define RV_MEMORY_MEMORY_H
#include "base/alloc.h"
#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "store/db.h"
#include <stdint.h>

typedef struct rv_memory rv_memory;

/* Handed in by the caller, because memory stands below the embedder: text to unit vector [dim]. Any thread. */
typedef struct rv_memory_embedder {
    const char *name;
    size_t dim;
    rv_err (*text)(const void *self, const char *text, size_t n, float *out);
    const void *self;
} rv_memory_embedder;

/**
 * rv_memory_open - db is open (rv_db_open); vectors live in folder dir/vectors. Brings vectors and words in line with
 * the database: an index that is older is caught up or rebuilt, bytes no transaction names are ignored. A node that does not fit its checksum
 * is named in the log and left out: it is not there, except to rv_memory_check, rv_memory_export, and rv_memory_rm by its id in the name of the whole store.
 * Errors: RV_E_CONFIG the store was filled by another embedder (both names, and the command that helps).
 *         RV_E_CORRUPT a segment's checksum is wrong (file and offset).
 */
rv_err rv_memory_open(const rv_alloc *mem, rv_db *db, const char *dir, rv_memory_embedder embedder,
                      rv_memory **out) RV_MUST_CHECK;
void rv_memory_close(rv_memory *m);                            /* accepts NULL */
rv_memory_embedder rv_memory_get_embedder(const rv_memory *m); /* borrowed from m */

/* How vectors are indexed. Zeros mean the defaults. */
typedef struct rv_memory_tuning {
    /* "auto": rabitq to 500,000 vectors, then hnsw, where they are the cheapest way. "hnsw", "rabitq": that one, whenever there is no
     * filter. "both": the cheaper one. "flat": none */
    const char *index;
    double recall;      /* of a search that names none, 0.5 .. 1; 0.99 */
    size_t index_from;  /* vectors from which on there is an index, 1024 */
    size_t m, ef_build; /* of hnsw; by the number of vectors */
    size_t ef;          /* of hnsw, least breadth of a search; the narrowest that finds enough */
} rv_memory_tuning;
/** rv_memory_tune - from now on; an index that is there already is kept. RV_E_ARG recall or index. */
rv_err rv_memory_tune(rv_memory *m, const rv_memory_tuning *tuning) RV_MUST_CHECK;
/** rv_memory_settle - returns when the indexes have caught up with all that was written, and are saved. */
rv_err rv_memory_settle(rv_memory *m) RV_MUST_CHECK;
/** rv_memory_forget_vectors - before rv_memory_open: removes the vector files, so that it makes all vectors again from the texts, with
 * any embedder. When it is cut short, it or the open is done again. */
rv_err rv_memory_forget_vectors(rv_db *db) RV_MUST_CHECK;

/* Whose memories a call sees and changes. Every call that reads or writes nodes takes one, and there is no default: a scope that was not
 * made by one of these two is refused (RV_E_ARG). A tenant is a store of its own (another folder, another rv_memory). */
typedef struct rv_memory_scope {
    enum { RV_SCOPE_UNSAID, RV_SCOPE_WHOLE, RV_SCOPE_USER } whose;
    const char *user; /* "" : nobody's in particular. Borrowed for the call */
} rv_memory_scope;
/** rv_memory_of - what that user sees: the user's own and everybody's. What is added is the user's; what is removed or kept is the user's
 * own alone. NULL or "": everybody's, and no user's. To such a call what is another user's is not there (RV_E_NOT_FOUND). */
static inline rv_memory_scope rv_memory_of(const char *user)
{
    return (rv_memory_scope){ RV_SCOPE_USER, user ? user : "" };
}
/** rv_memory_whole - all that is in the store, whoever's it is: for its owner's commands, and for upkeep. Nothing can be added so. */
static inline rv_memory_scope rv_memory_whole(void)
{
    return (rv_memory_scope){ RV_SCOPE_WHOLE, NULL };
}

/* Node types: "document" (a file), "chunk" (of a document), "note" (added by a user), "fact" (a correction),
 * "qa" (a rated question and answer), "concept" (what several nodes are about, see learn/concepts.h: only a search for that type finds
 * them). Edges: contains, follows, corrects, derived, cites, same_topic, agent_step, or a name of
 * one's own. */
typedef struct rv_memory_new {
    const char *type;        /* required, [a-z_]{1,32} */
    const char *text;        /* required, valid UTF-8, 1 .. 1 MiB */
    size_t text_bytes;       /* 0: text is zero-terminated */
    const char *source;      /* file path, "user", "feedback" ...; may be NULL */
    const char *const *tags; /* [n_tags] */
    size_t n_tags;
    const char *origin;     /* request id it came from; may be NULL */
    double confidence;      /* 0..1; 0 means not said: stored as 1 */
    const json_t *metadata; /* object or NULL */
    int64_t parent;         /* contains-edge from there, 0: none */
    int64_t corrects;       /* corrects-edge to that node, 0: none. It ranks below this one from now on */
    int64_t derived_from;   /* derived-edge, 0: none */
    const int64_t
        *contains; /* [n_contains] contains-edges from it to those, with it or not at all; at most 64 */
    size_t n_contains;
    uint64_t offset, length; /* bytes in the source */
    int64_t created_ms;      /* 0: now */
    int64_t ttl_ms;          /* it is removed so long after it was added, unless pinned; 0: never */
    bool pinned;
    bool
        examined; /* looked at before it is kept: a text without letters or digits is refused (RV_E_ARG); one that repeats
                                   itself, or is made of no words, gets a third of its confidence; one that is there in other words
                                   is not added again; one that contradicts another corrects it, and both are kept */
} rv_memory_new;

/**
 * rv_memory_add - durable when it returns. *id > 0. A node of the same type, user and text is already there: its id, *added
 * false; its tags and these are joined, metadata likewise (of a key that both have, this value), and the edges that are missing are made. The rest
 * of it stays. A correction that is said anew is itself no longer corrected.
 *
 * Errors:  RV_E_ARG, RV_E_TOO_LARGE a field, which and what is allowed.  RV_E_NOT_FOUND parent, corrects or derived_from.
 *          RV_E_NO_SPACE, RV_E_IO the disk; RV_E_NOMEM. After an error memory and disk are as before.
 * Threads: any thread, locks inside; so for all calls below.
 */
rv_err rv_memory_add(rv_memory *m, rv_memory_scope scope, const rv_memory_new *node, int64_t *id,
                     bool *added) RV_MUST_CHECK;
/** rv_memory_add_many - the same for n texts, scopes [n], which share transactions. *done of them are in the memory when it returns, the first
 * ones; out [n] what became of those. An error is that of new[*done]; later ones may be in the memory too. */
typedef struct rv_memory_added {
    int64_t id;
    bool added;
    bool near;        /* it is there in other words, as id */
    int64_t corrects; /* what it corrects, as told or as found; 0: nothing */
    const char *odd;  /* why its confidence is less; "" when it is not. A fixed text */
} rv_memory_added;
rv_err rv_memory_add_many(rv_memory *m, const rv_memory_scope *scopes, const rv_memory_new *new, size_t n,
                          rv_memory_added *out, size_t *done) RV_MUST_CHECK;
/** rv_memory_link - weight > 0; an edge of that type is there already: it gets this weight. RV_E_NOT_FOUND an end. */
rv_err rv_memory_link(rv_memory *m, rv_memory_scope scope, int64_t from, int64_t to, const char *type,
                      double weight) RV_MUST_CHECK;

/** rv_memory_tells - whether a person tells something here that may be kept ("My bike is in the shed."), rather than asks, orders or greets.
 * English only, and careful: a full stop at its end, no question mark, and no first word that asks, orders or greets. */
bool rv_memory_tells(const char *text, size_t n);

typedef struct rv_memory_edge {
    int64_t from, to;
    const char *type;
    double weight;
} rv_memory_edge;
/** rv_memory_relink - many edges in one transaction: each gets its weight; with weight 0 it goes. An edge with an end that is not there is
 * passed over. RV_E_ARG a type or a weight. */
rv_err rv_memory_relink(rv_memory *m, rv_memory_scope scope, const rv_memory_edge *edges,
                        size_t n) RV_MUST_CHECK;

typedef struct rv_memory_node {
    int64_t id;
    const char *type, *text, *source, *user, *origin; /* "" when absent */
    const char *const *tags;
    size_t n_tags;
    double confidence;
    int64_t created_ms; /* UTC */
    bool pinned;        /* neither its time nor its age count */
    int64_t expires_ms; /* UTC; 0: never */
    uint32_t used;      /* how often it stood in a prompt, and when last (UTC; 0: never) */
    int64_t used_ms;
    int64_t corrected_by; /* newest node that corrects this one (for the user of the scope), 0: none */
    uint64_t offset, length;
    const char *metadata; /* JSON text, "{}" when none */
    double score;         /* of a search, else 0 */
    double vector_score,
        words_score;         /* cosine; BM25 (higher is better); NaN when that side did not find it */
    const char *origin_side; /* "vector", "words", "both", "graph" (an edge, a name); "" outside a search */
} rv_memory_node;

/** rv_memory_get - strings live in arena. RV_E_NOT_FOUND. */
rv_err rv_memory_get(rv_memory *m, rv_memory_scope scope, int64_t id, rv_arena *arena,
                     rv_memory_node *out) RV_MUST_CHECK;

/* graph: hybrid, and what is joined to the best of it, by edges or by a name that both hold: it is lifted, or found at all. Without
 * either it is hybrid. */
typedef enum rv_memory_mode {
    RV_MEMORY_HYBRID,
    RV_MEMORY_VECTOR,
    RV_MEMORY_WORDS,
    RV_MEMORY_GRAPH,
    RV_MEMORY_MODES
} rv_memory_mode;
/** rv_memory_mode_of - "hybrid", "vector", "words", "graph"; RV_E_ARG lists them.  rv_memory_mode_name - the other way. */
rv_err rv_memory_mode_of(const char *name, rv_memory_mode *out) RV_MUST_CHECK;
const char *rv_memory_mode_name(rv_memory_mode mode);

typedef struct rv_memory_filter {
    const char *type, *tag, *source; /* NULL: any */
    int64_t since_ms, until_ms;      /* 0: open */
} rv_memory_filter;

typedef struct rv_memory_query {
    const char *text;
    size_t text_bytes;   /* 0: zero-terminated */
    const float *vector; /* [dim] or NULL: made from text */
    rv_memory_mode mode;
    size_t k; /* 1 .. 1000 */
    rv_memory_filter filter;
    bool with_corrected; /* what has been corrected stands behind its correction; false: see below */
    double
        recall; /* part of the nearest that the vector side has to find, on average: 0.5 .. 1; 1: exactly all; 0: as
                                 * tuned, or less where words are asked too and vectors alone bring nothing to the best k */
    double vector_weight; /* of the cosine, where BM25 counts 1; 0: as rv_memory_set_vector_weight said */
    /* [n_supposed] edges as rv_memory_relink takes them: the search is what it would be after that. To measure a change before it is made. */
    const rv_memory_edge *supposed;
    size_t n_supposed;
} rv_memory_query;

/* How the vector side went about a search, and why: what each way would have cost, as measured on this store. */
typedef struct rv_memory_plan {
    const char *
        path; /* "hnsw", "rabitq", "scan" (all that pass, by codes), "flat" (all that pass, exactly), "none" */
    size_t rows, passing;   /* searched nodes; those that pass the filter */
    size_t recent;          /* of these, not in the index yet: compared exactly beside it */
    size_t k, breadth;      /* of hnsw its ef, of rabitq lists */
    double asked, expected; /* recall */
    double ms, scan_ms,
        flat_ms; /* expected of this path, of a scan, of comparing all; NaN: there is no index to scan */
} rv_memory_plan;

/** rv_memory_plan_json - its fields and `why`, a sentence. NULL without memory. */
json_t *rv_memory_plan_json(const rv_memory_plan *plan);

typedef struct rv_memory_hits {
    rv_memory_node *at; /* [n] best first, in arena */
    size_t n;
    rv_memory_plan plan; /* of a search */
} rv_memory_hits;

/**
 * rv_memory_search - nearest in meaning, in words, or both: the mean of BM25 / the best BM25 and of the cosine, weighted 1 to
 * what is known of this store, or else to 1.5 times the best cosine; with graph, a part
 * of the score of the best five goes along their edges, two steps far, and up to two that hold a name of the best three are brought behind those. Never fewer than k when k nodes pass the filter and match. Nodes of type "document" are not searched, their chunks are.
 *
 * A correction that passes the filter is a hit when what it corrects is one, with at least its score. What it corrects is left out when it
 * says no more than that: a fact, an answer, a text of one sentence. A passage that says more stays; then the correction comes with it when
 * the question has more than half of the words that were corrected, and stands by its own score when not. with_corrected: nothing is left
 * out, and every correction comes with what it corrects. When the correction does not pass, what it corrects ranks below all that is not
 * corrected. To a user, corrections of other users count for nothing.
 *
 * Errors:  RV_E_ARG k, text or vector.  RV_E_NOMEM also when the arena is full.  RV_E_CORRUPT a node does not fit its checksum.
 * Threads: any thread, together with writers.
 */
rv_err rv_memory_search(rv_memory *m, rv_memory_scope scope, const rv_memory_query *q, rv_arena *arena,
                        rv_memory_hits *out) RV_MUST_CHECK;

/** rv_memory_says_more - whether a text says more than the one thing that a correction of it is about: more than one sentence, headings
 * aside, or more than 300 bytes. */
bool rv_memory_says_more(const char *text, size_t n);

/** rv_memory_set_vector_weight - from now on, in searches that do not say one; 0: 1.5 times the best cosine, as at open. */
void rv_memory_set_vector_weight(rv_memory *m, double weight);

/** rv_memory_list - newest first. after: continue below this id, 0: from the top. */
rv_err rv_memory_list(rv_memory *m, rv_memory_scope scope, const rv_memory_filter *filter, size_t limit,
                      int64_t after, rv_arena *arena, rv_memory_hits *out) RV_MUST_CHECK;

/** rv_memory_rm - by id (> 0; together with a filter only when it passes) or everything that passes the filter (id 0; of the whole store
 * an empty filter is RV_E_ARG). A document takes its chunks along, those of its user, and nothing else that was joined to it. In the name of a user that user's own goes,
 * never everybody's. Durable when it returns. *removed tells how many; none is no error. */
rv_err rv_memory_rm(rv_memory *m, rv_memory_scope scope, int64_t id, const rv_memory_filter *filter,
                    size_t *removed) RV_MUST_CHECK;

typedef struct rv_memory_import {
    size_t files, unchanged, replaced, chunks_added,
        chunks_removed; /* files: all that were read, unchanged ones too */
    size_t notes_added; /* rows of .jsonl files */
    size_t failed;      /* files and folders that were left out */
    size_t left;        /* files that were not reached when it ended before its end */
    size_t gone; /* documents of the folders that were imported, whose files are no longer there; they stay */
    /* Arrays of the caller's, to which is added {"path", "why"} of what was left out, {"id", "path"} of what is gone; NULL: not wanted */
    json_t *failed_files, *gone_files;
} rv_memory_import;
/* After each file, and within one of rows after some of them: bytes that were read, of all files. false ends the import there. */
typedef bool (*rv_memory_progress)(void *self, const char *path, uint64_t done, uint64_t total);
/**
 * rv_memory_import_paths - .txt, .md, .html, .pdf or .jsonl files, and every one below a folder (all sorted). Chunked at headings and
 * sentences; of .txt and .md offsets are kept, of .pdf the page ({"page": N} in metadata). A row of .jsonl becomes a node by itself.
 * An unchanged file adds nothing; a changed one replaces its chunks in one transaction, and a chunk whose text is the same
 * keeps its corrections. Files are known by user and absolute path, which is also the source of their nodes. Hidden files
 * and links inside a folder are passed over. A file or a folder that cannot be read does not keep the others out. Counts are added to
 * *done, also before an error.
 *
 * Errors:  of what was left out, the first, after all others were read: RV_E_NOT_FOUND, RV_E_IO a path that is not there or may not be read.
 *          RV_E_ARG neither a folder nor of these kinds; a path that no source may be; a row.  RV_E_FORMAT not UTF-8 (file and byte), a
 *          line that is no JSON, a PDF that cannot be read.  RV_E_TOO_LARGE more than 16 MiB (.pdf 128, .jsonl 1,024), or than 100,000 chunks.
 *          RV_E_UNSUPPORTED a .pdf, and pdftotext is not installed.
 *          At once: RV_E_CANCELLED progress said so; importing again goes on.  RV_E_NO_SPACE, RV_E_IO, RV_E_NOMEM what cannot be written.
 */
rv_err rv_memory_import_paths(rv_memory *m, rv_memory_scope scope, const char *const *paths, size_t n_paths,
                              const char *const *tags, size_t n_tags, rv_memory_progress progress, void *self,
                              rv_memory_import *done) RV_MUST_CHECK;
/** rv_memory_import_bytes - the same for the bytes of one file that somebody sent. name: a relative path without "..", which becomes the
 * source; RV_E_ARG else. */
rv_err rv_memory_import_bytes(rv_memory *m, rv_memory_scope scope, const char *name, const char *bytes,
                              size_t n, const char *const *tags, size_t n_tags,
                              rv_memory_import *done) RV_MUST_CHECK;

/** rv_memory_scrub - of what was removed no vector and no word stays in the files: rows of vectors that nothing names become zeros, saved indexes go, and the
 * words of removed texts leave their index. The database's own free space is rv_db_scrub's. *erased: vectors. Errors: RV_E_IO,
 * RV_E_NO_SPACE, RV_E_NOMEM; it may be called again. */
rv_err rv_memory_scrub(rv_memory *m, size_t *erased) RV_MUST_CHECK;

/* ---- bundles: a collection as files with a witness, docs/formats/bundle.md ---- */

typedef struct rv_memory_export_options {
    const char *name;         /* what the collection is called, 1 .. 4,096 bytes */
    const char *memory_class; /* the publisher's own word for it; NULL: none */
    rv_memory_filter filter;  /* what passes, with the edges among it; all zero: everything */
} rv_memory_export_options;
typedef struct rv_memory_exported {
    size_t nodes, edges, vectors;
    size_t
        damaged; /* nodes that do not fit their checksums: left out with their edges, each named in the log */
    uint64_t generation;
    char witness[65];
} rv_memory_exported;
/* Now and then; false ends it. */
typedef bool (*rv_memory_export_progress)(void *self, size_t done, size_t total);
/**
 * rv_memory_export - into a folder, made when missing; a bundle that is there is replaced in one step: whoever reads, or a kill -9, sees
 * the old one or the new one. Vectors and numbers are exactly those of the store. Changes wait meanwhile, searches do not.
 * Errors: RV_E_CORRUPT, RV_E_FORMAT what is there is damaged: remove it first.  RV_E_BUSY somebody else publishes there.
 *         RV_E_NO_SPACE, RV_E_IO; RV_E_CANCELLED by progress.
 */
rv_err rv_memory_export(rv_memory *m, rv_memory_scope scope, const char *dir,
                        const rv_memory_export_options *how, rv_memory_export_progress progress, void *self,
                        rv_memory_exported *out) RV_MUST_CHECK;

typedef struct rv_memory_restored {
    size_t nodes, there, edges; /* there: nodes that an earlier try had brought in */
} rv_memory_restored;
/**
 * rv_memory_restore - the bundle's nodes with their ids, times, provenance, pins, edges and vectors, into an empty store or one that holds
 * a beginning of it. Cut short, it is done again and goes on.
 * Errors: those of rv_bundle_open.  RV_E_CONFIG other embedder.  RV_E_ARG another node has the id.  RV_E_FORMAT a line.
 *         RV_E_CANCELLED by progress.
 */
rv_err rv_memory_restore(rv_memory *m, const char *dir, rv_memory_export_progress progress, void *self,
                         rv_memory_restored *done) RV_MUST_CHECK;
bool rv_memory_is_bundle(const char *dir);

typedef struct rv_memory_compacted {
    size_t erased, moved,
        files; /* vectors that were still there, vectors that were copied, files that were removed */
} rv_memory_compacted;
/**
 * rv_memory_compact - room of what was removed goes back to the disk: rv_memory_scrub, rv_db_scrub, and files of vectors of which a quarter
 * or more is dead are copied and removed. Searches go on, changes wait for some hundred vectors at a time. The room of a removed file is
 * free when the memory has been closed.
 * done    out, also after an error
 * Errors: those of rv_memory_scrub and rv_db_scrub.  RV_E_CANCELLED by progress. It may be called again, and goes on.
 */
rv_err rv_memory_compact(rv_memory *m, rv_memory_export_progress progress, void *self,
                         rv_memory_compacted *done) RV_MUST_CHECK;

typedef struct rv_memory_stats {
    size_t nodes, edges, documents, chunks, notes, facts, qas, vectors, vectors_dead;
    uint64_t db_bytes, vector_bytes;
    const char *embedder; /* borrowed from m */
    size_t dim;
} rv_memory_stats;
rv_err rv_memory_get_stats(rv_memory *m, rv_memory_stats *out) RV_MUST_CHECK;

/** rv_memory_recall - how much of the k (1 .. 1000) nearest the vector side finds, on this very store: for up to n_sample of its own
 * vectors, spread evenly, its search is compared with a comparison of all. A hit counts when it is as near as the k-th of those, less
 * 1e-6: of equal ones any will do. */
typedef struct rv_memory_recall_report {
    size_t asked;
    double recall, least;       /* mean, and of the worst one */
    double search_ms, exact_ms; /* of one, mean */
    const char *index;
} rv_memory_recall_report;
rv_err rv_memory_recall(rv_memory *m, size_t n_sample, size_t k, rv_memory_recall_report *out) RV_MUST_CHECK;

/** rv_memory_neighbours - edges of a node, both directions. */
rv_err rv_memory_neighbours(rv_memory *m, rv_memory_scope scope, int64_t id, rv_arena *arena,
                            rv_memory_edge **out, size_t *n) RV_MUST_CHECK;

/* ---- graph ---- */

typedef struct rv_memory_bounds {
    unsigned max_hops; /* 0 .. 8 */
    size_t max_nodes;  /* 1 .. 512, those one begins with included */
    size_t max_edges;  /* of each node, its heaviest, 1 .. 64 */
} rv_memory_bounds;

/* A node with the way on which it was first reached. */
typedef struct rv_memory_subnode {
    rv_memory_node node; /* score: that of the search, 0 for what was not a hit */
    const float *vector; /* [dim] in arena; NULL: it has none */
    unsigned hop;        /* 0: where one began */
    size_t parent;       /* index of the node it was reached from, SIZE_MAX at hop 0 */
    const char *edge;    /* type of the edge from there; "" at hop 0 */
    double weight;
    bool against; /* walked from its end to its beginning */
    double path;  /* the score at the beginning times the weights on the way */
} rv_memory_subnode;

typedef struct rv_memory_subgraph {
    rv_memory_subnode *at; /* [n] nearest first */
    size_t n;
} rv_memory_subgraph;

/**
 * rv_memory_subgraph_of - the hits and what is around them, along edges in both directions, as far as it passes the filter.
 *
 * hits    of a search, or from ids alone: only id and score are read
 * Errors: RV_E_ARG bounds.  RV_E_NOT_FOUND none of the hits is in the memory.  RV_E_NOMEM also when the arena is full.
 */
rv_err rv_memory_subgraph_of(rv_memory *m, rv_memory_scope scope, const rv_memory_hits *hits,
                             const rv_memory_filter *filter, rv_memory_bounds bounds, rv_arena *arena,
                             rv_memory_subgraph *out) RV_MUST_CHECK;

/** rv_memory_path - a shortest way from one node to another along edges in both directions, of at most max_hops (1 .. 16);
 * *n edges in arena, in order, each as it is directed; 0 when there is none. RV_E_NOT_FOUND an end. */
rv_err rv_memory_path(rv_memory *m, rv_memory_scope scope, int64_t from, int64_t to, unsigned max_hops,
                      rv_arena *arena, rv_memory_edge **out, size_t *n) RV_MUST_CHECK;

/**
 * rv_memory_reweigh - what became of an answer moves the edges, in either direction, between its anchor and what was retrieved for
 * it: used, weight x 1.05, at most 1; not used, x 0.98, at least 0.01; and with a rating both by (rating - 3) / 10 within 0.01 .. 1.
 * Edges contains and corrects say what is, and stay. Durable when it returns.
 *
 * anchor  the node of the question, or else the best hit
 * rating  1 .. 5, or 0: none was given
 * changed out, edges that have another weight now; may be NULL
 *         0.98 and not 0.95, because most of what is retrieved goes unused: even steps would starve the graph
 */
typedef struct rv_memory_outcome {
    int64_t anchor;
    const int64_t *used, *unused; /* [n_used], [n_unused]; ids that are gone are passed over */
    size_t n_used, n_unused;
    double rating;
} rv_memory_outcome;
rv_err rv_memory_reweigh(rv_memory *m, rv_memory_scope scope, const rv_memory_outcome *outcome,
                         size_t *changed) RV_MUST_CHECK;

/** rv_memory_reweigh_later - the same without the wait: queued, and written with others after 100 of them or a second, in one transaction.
 * What was used is counted too (used, used_ms of its node). When 1,000 wait already, the caller does, for at most 50 ms; then the
 * outcome is given up and counted (ruvllm_memory_writeback_dropped_total), because it is a hint and no record. At most 64 ids of each
 * kind are taken. anchor 0: no edge moves. rv_memory_flush - all that was queued before is on the disk, or was given up. */
void rv_memory_reweigh_later(rv_memory *m, rv_memory_scope scope, const rv_memory_outcome *outcome);
void rv_memory_flush(rv_memory *m);

/** rv_memory_set_habits - how much is written back together, and how fast what is not used fades: a score is multiplied with something between
 * .5 and 1, which is .75 when the node was made and last used half_life_days ago. 0: nothing fades. Pinned nodes never do. At open: 100, a
 * second, 0. */
typedef struct rv_memory_habits {
    size_t batch; /* 1 .. 1000 */
    int64_t batch_ms;
    double half_life_days;
} rv_memory_habits;
void rv_memory_set_habits(rv_memory *m, const rv_memory_habits *habits);

/** rv_memory_keep - what is said (not NULL) changes: pinned, and when the node ends (UTC ms; 0: never). Durable. RV_E_NOT_FOUND. */
rv_err rv_memory_keep(rv_memory *m, rv_memory_scope scope, int64_t id, const bool *pinned,
                      const int64_t *expires_ms) RV_MUST_CHECK;
/** rv_memory_expire - removes every node whose time is over and that is not pinned; a document takes its chunks along, as with rv_memory_rm. Runs at open, and every minute once there is one
 * that ends. */
rv_err rv_memory_expire(rv_memory *m, size_t *removed) RV_MUST_CHECK;

/** rv_memory_check - every invariant across database, words, segments and graph; first broken one. */
rv_err rv_memory_check(rv_memory *m) RV_MUST_CHECK;
#endif
