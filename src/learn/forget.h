/* Forgetting: a user, or memories, with everything that was made of them. What goes: the nodes; every request whose prompt they
 * were in, with its turns, its feedback and what was written back from it; the turns after those in the same conversations, which had
 * them before their eyes; the witness records' text (the chain holds, see store/witness.h); everything learned from those requests, by
 * going back to versions from before; conversations on the disk. Then the files are scrubbed, so that no byte of them is left.
 *
 * What is to go is written down first, so a forgetting that was cut short is finished at the next start. */
#ifndef RV_LEARN_FORGET_H
#define RV_LEARN_FORGET_H
#include "base/json.h"
#include "learn/adapter.h"
#include "memory/memory.h"
#include "store/db.h"

/* Where, and what lies above this module. */
typedef struct rv_forget_place {
    rv_db *db;
    rv_memory *memory;
    rv_adapters *adapters;
    rv_err (*conversations)(
        void *self, size_t *files); /* drop all that is kept of earlier prompts, on disk too. May be NULL */
    rv_err (*refresh)(void *self);  /* take up the versions that are in use now. May be NULL */
    void *self;
    void (*passing)(
        const char *step); /* before each step; for tests that end the program there. May be NULL */
} rv_forget_place;

/** rv_forget_setup - its table. After the tables of memory, episodes, sessions, witness, policies and adapters. */
rv_err rv_forget_setup(rv_db *db) RV_MUST_CHECK;

typedef struct rv_forgotten {
    size_t memories, requests,
        records;                   /* nodes; questions with answers; witness records whose text is gone */
    size_t conversations, vectors; /* files of conversations; vectors overwritten */
    size_t adapters;               /* versions of adapters that were removed */
    struct {
        const char *kind;
        int64_t erased, version; /* versions whose weights were removed; the one in use now, 0: none */
    } policies[4];
    size_t n_policies; /* kinds that lost any */
} rv_forgotten;

/**
 * rv_forget - a user (NULL: none) and memories [n_ids]. Nobody may be answered meanwhile: what an answer has already read it would write
 * down afterwards.
 *
 * Errors:  RV_E_NOT_FOUND nothing of that user, or no such memory.  RV_E_BUSY, RV_E_IO, RV_E_NO_SPACE ... it is not finished: the next call,
 *          or the next start, goes on.
 * Threads: one at a time.
 */
rv_err rv_forget(const rv_forget_place *place, const char *user, const int64_t *ids, size_t n_ids,
                 rv_forgotten *out) RV_MUST_CHECK;

/** rv_forget_resume - finish what was cut short; *was false: nothing was. Errors as above. */
rv_err rv_forget_resume(const rv_forget_place *place, bool *was, rv_forgotten *out) RV_MUST_CHECK;

/** rv_forgotten_json - all of it as an object; the caller's. NULL without memory. */
json_t *rv_forgotten_json(const rv_forgotten *done);
#endif
