/* Loops of learning: named stages one after the other, each with a time of its own within that of the loop. What each did is kept in the
 * database, and so is how far a run came: after a crash, or when the time was up, the next run goes on with the stage that was not
 * finished. A stage makes what it learned durable in one transaction of its own, so a half version is never there. */
#ifndef RV_LEARN_LOOP_H
#define RV_LEARN_LOOP_H
#include "base/arena.h"
#include "store/db.h"

/** rv_loop_setup - tables. */
rv_err rv_loop_setup(rv_db *db) RV_MUST_CHECK;

/* What a stage did. */
typedef struct rv_loop_report {
    bool accepted;        /* something new is in use */
    int64_t changed;      /* how much: rows, versions, as why says */
    const char *measure;  /* of before and after, "nDCG@10"; NULL: nothing was measured */
    double before, after; /* on what was held out */
    char why[260];
} rv_loop_report;

typedef struct rv_loop_stage {
    const char *name;                                                /* [a-z_]{1,32} */
    double seconds;                                                  /* at most, as far as it can stop */
    rv_err (*run)(void *self, double until_ms, rv_loop_report *out); /* until_ms: rv_clock_ms */
} rv_loop_stage;

typedef struct rv_loop {
    const char *name;            /* "background", "deep" */
    const rv_loop_stage *stages; /* [n] */
    size_t n;
    double seconds; /* of all stages together: no stage begins later */
    void *self;     /* of the stages */
    bool (*go_on)(
        void *
            self); /* asked before each stage; false: RV_E_CANCELLED, and the next run goes on here. May be NULL */
    void (*passing)(const char *loop, const char *stage,
                    bool after); /* for tests that end the program there. May be NULL */
} rv_loop;

typedef struct rv_loop_done {
    size_t ran, failed; /* stages of this call */
    bool resumed;       /* it went on with an earlier run */
    bool unfinished;    /* the time was up: stages are left for the next run */
} rv_loop_done;

/** rv_loop_run - a run, or the rest of one. A stage that fails is noted with its error, and the next one runs. RV_E_CANCELLED; the store's errors.
 * Threads: one at a time. */
rv_err rv_loop_run(rv_db *db, const rv_loop *loop, rv_loop_done *out) RV_MUST_CHECK;

/** rv_loop_note - what a stage of a loop without runs (the instant one) did just now. Any thread. */
rv_err rv_loop_note(rv_db *db, const char *loop, const char *stage, int64_t began_ms,
                    const rv_loop_report *report) RV_MUST_CHECK;

typedef struct rv_loop_row {
    const char *loop, *stage, *state, *measure,
        *why; /* state: "begun" (or cut short), "done", "failed"; measure "" when none */
    int64_t run, began_ms, ended_ms, changed;
    bool accepted;
    double before, after;
} rv_loop_row;
/** rv_loop_list - the last run of every stage, in order. Strings in arena. Any thread. */
rv_err rv_loop_list(rv_db *db, rv_arena *arena, rv_loop_row **out, size_t *n) RV_MUST_CHECK;
#endif
