/* What is old leaves the database: bodies of witness records, and answers that nothing learns from any more, as files of store/archive.h. Records are
 * still verified and shown; answers can no more be rated. Forgetting brings everything back first, so that all its rules hold for it too. */
#ifndef RV_LEARN_ARCHIVE_H
#define RV_LEARN_ARCHIVE_H
#include "store/db.h"

#define RV_ARCHIVE_FILE_BYTES (1u << 20) /* of text, about: writers wait while a file of so much is made */

typedef struct rv_archiving {
    rv_db *db;
    int64_t before_ms;         /* records and answers made before it */
    size_t keep;               /* and of the answers not the newest so many, nor those with feedback */
    double until_ms;           /* rv_clock_ms: no file is begun after it */
    bool (*begin)(void *self); /* before each file; false: stop. May be NULL */
    void (*end)(void *self);   /* after each that began. May be NULL */
    void *self;
} rv_archiving;

typedef struct rv_archived {
    size_t records, answers, files;
} rv_archived;

/** rv_learn_archive - one file after the other, each a transaction. Errors: the store's. One thread at a time. */
rv_err rv_learn_archive(const rv_archiving *how, rv_archived *out) RV_MUST_CHECK;

/**
 * rv_learn_restore - all of it is in the database again, and no file is left. Cut short it may be called again.
 *
 * A file that is damaged goes too: its records are then as those whose text was forgotten, and a record says so.
 *
 * Errors: the store's. One thread at a time, and none that archives.
 */
rv_err rv_learn_restore(rv_db *db, rv_archived *out) RV_MUST_CHECK;
#endif
