/* Acknowledged is acknowledged: through kill -9 at any moment, a failing disk at any call, and every state that a power loss
 * could leave. The program runs itself again in the role of the victim (writes, and marks what was acknowledged) or of the
 * checker (opens what is left and compares with the marks). Faults and states come from ../shared/faults. How many:
 * RV_CRASH_KILLS, RV_CRASH_FAULTS (of each kind) and RV_CRASH_STATES; by default as few as a daily run can bear. */
#include "memory_helpers.h"
#include "memory/bundle.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Notes of a victim have numbers from a multiple of this on. */
enum { FIRST_STEP = 1000, STORE_KILLS = 25 };

/* ---- the victim ---- */

/* One line for each thing that was acknowledged, in one write: "+ text" is there, "- text" is gone, "* n" import n is there. */
static void mark(int fd, char kind, const char *text)
{
    char line[128];
    int n = snprintf(line, sizeof line, "%c %s\n", kind, text);
    if (write(fd, line, (size_t)n) != n) {
        _exit(9);
    }
}

static const char *document(int round)
{
    static char text[512];
    snprintf(text, sizeof text,
             "# Round %d\n\nFirst part of round %d. It is short.\n\n## Second\n\nSecond part of round %d.\n",
             round, round, round);
    return text;
}

static rv_err import_round(rv_memory *m, const char *dir, int round)
{
    char path[4200];
    snprintf(path, sizeof path, "%s-source.md", dir);
    const char *text = document(round);
    FILE *f = fopen(path, "w");
    if (!f || fwrite(text, 1, strlen(text), f) != strlen(text) || fclose(f)) {
        _exit(9);
    }
    rv_memory_import done = { 0 };
    return rv_memory_import_paths(m, rv_memory_of(NULL), (const char *const[]){ path }, 1, NULL, 0, NULL,
                                  NULL, &done);
}

/* Few rows are enough for both indexes: they are built, followed, saved and opened all the time, and no kill or fault may make a
 * difference to what is found. */
static rv_err open_indexed(const char *dir, store *s)
{
    rv_err e = store_open_with(&rv_heap, dir, toy, s);
    return e ? e : rv_memory_tune(s->m, &(rv_memory_tuning){ .index = "both", .index_from = 3 });
}

static void bundle_of(const char *dir, char out[4200])
{
    snprintf(out, 4200, "%s/bundle", dir);
}

/* What removes for good, and what publishes. The mark of a bundle is its generation. */
static void compact_and_publish(rv_memory *m, const char *dir, int fd, int i)
{
    char bundle[4200], text[64];
    rv_memory_compacted done;
    rv_memory_exported out;
    if (i % 3 == 2) {
        (void)!rv_memory_compact(m, NULL, NULL, &done); /* may fail, and changes nothing that is there */
    }
    bundle_of(dir, bundle);
    if (i % 6 == 5 &&
        rv_memory_export(m, rv_memory_whole(), bundle, &(rv_memory_export_options){ .name = "all" }, NULL,
                         NULL, &out) == RV_OK) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)out.generation);
        mark(fd, 'P', text);
    }
}

/* Adds, corrects, imports, removes, compacts and publishes. Errors are fine, they are what is tested; what succeeded is marked.
 * rounds 0: until killed. first: number of the first note, so that texts differ from run to run. */
static int victim(const char *dir, int rounds, int first)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/.iorec-mark", dir);
    mkdir(dir, 0700);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    store s;
    rv_err e = open_indexed(dir, &s);
    if (fd < 0) {
        rv_memory_close(s.m);
        rv_db_close(s.db);
        return 9;
    }
    if (e) {
        return e == RV_E_IO || e == RV_E_NO_SPACE || e == RV_E_NOMEM ? 0 : 8;
    }
    int64_t last = 0;
    for (int i = first; rounds == 0 || i < first + rounds; i++) {
        char text[64];
        int64_t id = 0;
        bool added;
        snprintf(text, sizeof text, "note number %d of the victim", i);
        rv_memory_new new = { .type = "note", .text = text, .corrects = i % 3 == 2 ? last : 0 };
        e = rv_memory_add(s.m, rv_memory_of(NULL), &new, &id, &added);
        if (!e) {
            mark(fd, '+', text);
        }
        if (!e && i % 5 == 4) {
            size_t removed = 0;
            mark(fd, '?', text); /* from here on it may be gone */
            if (rv_memory_rm(s.m, rv_memory_whole(), id, NULL, &removed) == RV_OK && removed == 1) {
                mark(fd, '-', text);
            }
        } else if (!e) {
            last = id;
        }
        if (i % 2 == 1) {
            e = rv_memory_settle(s.m); /* the indexes are saved */
        }
        if (i % 4 == 1) {
            snprintf(text, sizeof text, "%d", i);
            mark(fd, '~', text); /* from here on the new document may be there */
            if (import_round(s.m, dir, i) == RV_OK) {
                mark(fd, '*', text);
            }
        }
        compact_and_publish(s.m, dir, fd, i);
    }
    store_close(&s);
    close(fd);
    return 0;
}

/* ---- the checker ---- */

/* Of each note by its number, what the marks say (+ there, - gone, ? either, 0 nothing) and whether it is there. */
enum { NUMBERS = 1 << 16, SEARCHED = 32 };
static char said[NUMBERS];
static bool there[NUMBERS];

static bool is_there(rv_memory *m, rv_arena *arena, const char *text)
{
    rv_arena_reset(arena);
    rv_memory_hits hits = { 0 };
    rv_memory_query q = { .text = text, .k = 1000, .with_corrected = true };
    if (rv_memory_search(m, rv_memory_whole(), &q, arena, &hits)) {
        return false;
    }
    for (size_t i = 0; i < hits.n; i++) {
        if (strcmp(hits.at[i].text, text) == 0) {
            return true;
        }
    }
    return false;
}

/* Imports that were begun since the last that was acknowledged: each of them may have reached the disk before its victim was
 * killed, and the next one not. */
enum { BEGUN_MAX = 10000 };
static int begun[BEGUN_MAX];
static size_t n_begun;

/* The chunks of the imported file are those of one round, the last that was acknowledged or one begun after it. */
static int check_import(rv_memory *m, rv_arena *arena, int acknowledged)
{
    rv_memory_hits hits = { 0 };
    rv_arena_reset(arena);
    if (rv_memory_list(m, rv_memory_whole(), &(rv_memory_filter){ .type = "chunk" }, 100, 0, arena, &hits)) {
        return 1;
    }
    if (hits.n == 0) {
        return acknowledged >= 0;
    }
    int a = -1, b = -1;
    if (hits.n != 2 || sscanf(hits.at[1].text, "Round %d. First part", &a) != 1 ||
        sscanf(hits.at[0].text, "Round %d. Second.", &b) != 1) {
        return 1;
    }
    bool known = a == acknowledged;
    for (size_t i = 0; i < n_begun; i++) {
        known |= a == begun[i];
    }
    return a != b || !known;
}

/* The marks; *acknowledged: of the last import, *generation: of the last bundle. */
static void read_marks(const char *marks, int *acknowledged, unsigned long long *generation)
{
    char line[128];
    FILE *f = fopen(marks, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (!strchr(line, '\n')) {
            break; /* the mark itself was torn: not acknowledged */
        }
        int number = 0;
        if (line[0] == '*') {
            *acknowledged = atoi(line + 2);
            n_begun = 0;
        } else if (line[0] == '~' && n_begun < BEGUN_MAX) {
            begun[n_begun++] = atoi(line + 2);
        } else if (line[0] == 'P') {
            *generation = strtoull(line + 2, NULL, 10);
        } else if (sscanf(line + 2, "note number %d", &number) == 1 && number >= 0 && number < NUMBERS) {
            said[number] = line[0];
        }
    }
    if (f) {
        fclose(f);
    }
}

/* All notes from the newest to the oldest: numbers fall, so each is there once and in the order of the adds. */
static int check_order(rv_memory *m, rv_arena *arena)
{
    int before = NUMBERS;
    rv_memory_hits hits = { 0 };
    for (int64_t after = 0; after == 0 || hits.n > 0; after = hits.n ? hits.at[hits.n - 1].id : after) {
        rv_arena_reset(arena);
        if (rv_memory_list(m, rv_memory_whole(), &(rv_memory_filter){ .type = "note" }, 1000, after, arena,
                           &hits)) {
            return 1;
        }
        for (size_t i = 0; i < hits.n; i++) {
            int number = -1;
            if (sscanf(hits.at[i].text, "note number %d", &number) != 1 || number < 0 || number >= before) {
                printf("\"%s\" stands behind number %d\n", hits.at[i].text, before);
                return 1;
            }
            there[number] = true;
            before = number;
        }
        if (hits.n == 0) {
            break;
        }
    }
    return 0;
}

/* What is there is what the marks say; what nobody marked is there only when it was the next to be: its victim was killed between the
 * commit and the mark. */
static int check_notes(rv_memory *m, rv_arena *arena)
{
    int searched = 0;
    for (int i = NUMBERS - 1; i >= 0; i--) {
        char text[64];
        snprintf(text, sizeof text, "note number %d of the victim", i);
        bool next = i % FIRST_STEP == 0 || said[i - 1];
        bool wrong = said[i] == '+' ? !there[i] : said[i] == '-' ? there[i] : !said[i] && there[i] && !next;
        if (!wrong && said[i] && said[i] != '?' && searched < SEARCHED) {
            wrong = is_there(m, arena, text) != there[i];
            searched++;
        }
        if (wrong) {
            printf("\"%s\": marked '%c', %s\n", text, said[i] ? said[i] : ' ',
                   there[i] ? "there" : "not there");
            return 1;
        }
    }
    return 0;
}

/* The published bundle is whole: the last that was acknowledged, or a later one. */
static int check_bundle(const char *dir, unsigned long long generation)
{
    char path[4200];
    bundle_of(dir, path);
    rv_bundle b;
    rv_err e = rv_bundle_open(&rv_heap, path, &b);
    if (e) {
        bool whole = e == RV_E_NOT_FOUND && generation == 0;
        if (!whole) {
            printf("the bundle of generation %llu: %s\n", generation, rv_err_text());
        }
        return !whole;
    }
    bool newer = b.head.generation >= generation;
    if (!newer) {
        printf("the bundle is of generation %llu, %llu was published\n",
               (unsigned long long)b.head.generation, generation);
    }
    rv_bundle_close(&b);
    return !newer;
}

static int check(const char *dir, const char *marks)
{
    int acknowledged = -1;
    unsigned long long generation = 0;
    read_marks(marks, &acknowledged, &generation);
    store s;
    rv_arena *arena = NULL;
    rv_err e = open_indexed(dir, &s);
    e = e ? e : rv_memory_settle(s.m);
    if (!e) {
        e = rv_memory_check(s.m);
    }
    if (e || rv_arena_new(&rv_heap, 64 << 20, &arena)) {
        printf("cannot use it: %s\n", rv_err_text());
        return 1;
    }
    int rc = check_order(s.m, arena) || check_notes(s.m, arena) || check_bundle(dir, generation);
    if (!rc && check_import(s.m, arena, acknowledged)) {
        printf("the import is not that of round %d, nor one of the %zu begun after it\n", acknowledged,
               n_begun);
        rc = 1;
    }
    rv_arena_free(arena);
    store_close(&s);
    return rc;
}

/* Roles come before main: RV_CRASH_ROLE is "victim DIR ROUNDS FIRST" or "check DIR MARKS". */
__attribute__((constructor)) static void take_role(void)
{
    const char *role = getenv("RV_CRASH_ROLE");
    char dir[4000], marks[4000];
    int rounds, first;
    if (role && sscanf(role, "victim %3999s %d %d", dir, &rounds, &first) == 3) {
        _exit(victim(dir, rounds, first));
    }
    if (role && sscanf(role, "check %3999s %3999s", dir, marks) == 2) {
        int rc = check(dir, marks);
        fflush(stdout);
        _exit(rc);
    }
}

/* ---- running them ---- */

static pid_t start(const char *role, const char *dir, const char *preload, const char *log, const char *fail)
{
    pid_t child = fork();
    if (child == 0) {
        setenv("RV_CRASH_ROLE", role, 1);
        if (preload) {
            setenv("LD_PRELOAD", preload, 1);
            setenv("IOREC_DIR", dir, 1);
        }
        if (log) {
            setenv("IOREC_LOG", log, 1);
        }
        if (fail) {
            setenv("IOREC_FAIL", fail, 1);
        }
        execl("/proc/self/exe", "memory_crash", (char *)NULL);
        _exit(127);
    }
    return child;
}

static int finish(pid_t child)
{
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static const char *role_of_victim(const char *dir, int rounds, int first)
{
    static char role[4300];
    snprintf(role, sizeof role, "victim %s %d %d", dir, rounds, first);
    return role;
}

static int run_check(const char *dir)
{
    static char role[8600];
    snprintf(role, sizeof role, "check %s %s/.iorec-mark", dir, dir);
    return finish(start(role, dir, NULL, NULL, NULL));
}

static char recorder_path[64];

static void remove_recorder(void)
{
    unlink(recorder_path);
}

/* The recorder, built once; NULL when it or a compiler is not here, or a sanitizer does not go with it. */
static const char *recorder(void)
{
    char command[9000];
    const char *source = shared_path("faults/iorec.c");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    source = NULL;
#endif
    if (!source || recorder_path[0]) {
        return source ? recorder_path : NULL;
    }
    snprintf(recorder_path, sizeof recorder_path, "/tmp/ruvllm-iorec-%ld.so", (long)getpid());
    atexit(remove_recorder);
    snprintf(command, sizeof command, "cc -O2 -fPIC -shared -w -o %s %s -ldl", recorder_path, source);
    return system(command) == 0 ? recorder_path : NULL;
}

TEST(kill_9_at_any_moment_loses_nothing_acknowledged)
{
    const char *dir = NULL;
    rv_rng rng;
    uint64_t seed = (uint64_t)time(NULL);
    rv_rng_init(&rng, seed);
    int rounds = getenv("RV_CRASH_KILLS") ? atoi(getenv("RV_CRASH_KILLS")) : 10;
    for (int round = 0; round < rounds; round++) {
        int first = round % STORE_KILLS * FIRST_STEP;
        dir = first ? dir : temp_path("data"); /* a store is killed again and again, then another begins */
        pid_t child = start(role_of_victim(dir, 0, first), dir, NULL, NULL, NULL);
        long ms = 20 + (long)rv_rng_below(&rng, 400);
        nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
        kill(child, SIGKILL);
        int rc = finish(child);
        CHECK(rc == -SIGKILL, "round %d: the victim ended by itself: %d", round, rc);
        CHECK(run_check(dir) == 0, "round %d of seed %llu, killed after %ld ms", round,
              (unsigned long long)seed, ms);
    }
}

/* How many operations of these kinds (letters of iorec.c) a recorded run did. */
static long count_operations(const char *log, const char *kinds)
{
    FILE *f = fopen(log, "rb");
    long n = 0;
    unsigned char head[5], tail[12];
    while (f && fread(head, 1, sizeof head, f) == sizeof head) {
        long path = head[1] | head[2] << 8 | head[3] << 16;
        fseek(f, path, SEEK_CUR);
        if (fread(tail, 1, sizeof tail, f) != sizeof tail) {
            break;
        }
        fseek(f, tail[8] | tail[9] << 8 | tail[10] << 16, SEEK_CUR);
        n += strchr(kinds, head[0]) != NULL;
    }
    if (f) {
        fclose(f);
    }
    return n;
}

enum { ROUNDS = 6 }; /* one export among them, and a compaction that moves vectors */

TEST(a_disk_that_fails_at_any_call_leaves_all_or_nothing)
{
    static const struct {
        const char *call, *kinds, *how;
    } cases[] = {
        { "fdatasync", "SD", "5" }, { "fdatasync", "SD", "kill" }, { "write", "WM", "5" },
        { "write", "WM", "28" },    { "write", "WM", "short" },    { "write", "WM", "kill" },
        { "open", "C", "13" },      { "open", "C", "kill" },       { "ftruncate", "T", "5" },
        { "unlink", "U", "5" },     { "fdatasync", "SD", "28" },
    };
    const char *preload = recorder();
    if (!preload) {
        SKIP("../shared/faults, a compiler, or a build without sanitizers is missing");
    }
    const char *clean = temp_path("data");
    char log[4200];
    snprintf(log, sizeof log, "%s-log", clean);
    CHECK(finish(start(role_of_victim(clean, ROUNDS, 0), clean, preload, log, NULL)) == 0,
          "the victim without a fault");
    CHECK(run_check(clean) == 0, "without a fault");
    long most = getenv("RV_CRASH_FAULTS") ? atol(getenv("RV_CRASH_FAULTS")) : 8;
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        long total = count_operations(log, cases[i].kinds), step = total > most ? total / most : 1;
        CHECK(total > 0, "%s was never called", cases[i].call);
        for (long n = 1; n <= total; n += step) {
            const char *dir = temp_path("data");
            char fail[64];
            snprintf(fail, sizeof fail, "%s:%ld:%s", cases[i].call, n, cases[i].how);
            int rc = finish(start(role_of_victim(dir, ROUNDS, 0), dir, preload, NULL, fail));
            CHECK(rc == 0 || rc == -SIGKILL || rc == 9, "%s: the victim ended with %d", fail, rc);
            CHECK(run_check(dir) == 0, "%s: what is left is wrong", fail);
        }
    }
}

TEST(every_state_that_a_power_loss_could_leave_is_whole)
{
    const char *preload = recorder(), *builder = shared_path("faults/crash_states.py");
    if (!preload || !builder || system("python3 -c '' 2>/dev/null") != 0) {
        SKIP("../shared/faults, a compiler, python3, or a build without sanitizers is missing");
    }
    const char *dir = temp_path("data"), *empty = temp_dir();
    char log[4200], self[4200], command[20000];
    snprintf(log, sizeof log, "%s-log", dir);
    CHECK(finish(start(role_of_victim(dir, ROUNDS, 0), dir, preload, log, NULL)) == 0, "the victim");
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(n > 0, "readlink");
    self[n] = 0;
    const char *states = getenv("RV_CRASH_STATES") ? getenv("RV_CRASH_STATES") : "100";
    snprintf(command, sizeof command,
             "python3 %s %s %s %s --max %s -- env 'RV_CRASH_ROLE=check {} {acked}' %s", builder, log, dir,
             empty, states, self);
    int rc = system(command);
    CHECK(rc == 0, "crash_states.py ended with %d", rc);
}
