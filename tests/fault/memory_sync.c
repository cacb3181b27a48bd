/* A disk that refuses one sync and takes the next, as a kernel does that has dropped the bytes: from then on nothing is acknowledged and no
 * sync is tried again, reading goes on, and the next start finds all that was acknowledged. The functions below stand in front of the C
 * library's, for SQLite as well. */
#include "memory_helpers.h"
#include "store/segment.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOTES_MAX = 200, TOGETHER = 100 };

static struct {
    long fail_at, calls, after; /* after: calls once one had failed */
    bool failed;
} disk;

static bool refuses(void)
{
    disk.calls++;
    disk.after += disk.failed;
    bool now = !disk.failed && disk.calls == disk.fail_at;
    disk.failed |= now;
    errno = now ? EIO : errno;
    return now;
}
int fsync(int fd)
{
    return refuses() ? -1 : (int)syscall(SYS_fsync, fd);
}
int fdatasync(int fd)
{
    return refuses() ? -1 : (int)syscall(SYS_fdatasync, fd);
}

/* What was acknowledged. */
static struct {
    int64_t ids[NOTES_MAX];
    size_t n;
} acknowledged;

static rv_err add_one(rv_memory *m, int i)
{
    char text[64];
    int64_t id = 0;
    bool added = false;
    snprintf(text, sizeof text, "note %c%c of the disk", 'a' + i % 26, 'a' + i / 26);
    rv_err e =
        rv_memory_add(m, rv_memory_of(NULL), &(rv_memory_new){ .type = "note", .text = text }, &id, &added);
    if (!e) {
        acknowledged.ids[acknowledged.n++] = id;
    }
    return e;
}

/* So many that the vector file itself is synced. */
static rv_err add_many(rv_memory *m, const char *what)
{
    static char texts[TOGETHER][64];
    static rv_memory_new notes[TOGETHER];
    static rv_memory_scope scopes[TOGETHER];
    static rv_memory_added added[TOGETHER];
    size_t done = 0;
    for (int i = 0; i < TOGETHER; i++) {
        snprintf(texts[i], sizeof texts[i], "%s of many %c%c", what, 'a' + i % 26, 'a' + i / 26);
        notes[i] = (rv_memory_new){ .type = "note", .text = texts[i] };
        scopes[i] = rv_memory_of(NULL);
    }
    rv_err e = rv_memory_add_many(m, scopes, notes, TOGETHER, added, &done);
    for (size_t i = 0; i < done; i++) {
        acknowledged.ids[acknowledged.n++] = added[i].id;
    }
    return e;
}

static rv_err story(rv_memory *m)
{
    rv_memory_compacted done;
    for (int i = 0; i < 8; i++) {
        RV_TRY(add_one(m, i));
    }
    size_t removed = 0;
    for (int i = 0; i < 4; i++) {
        int64_t id = acknowledged.ids[--acknowledged.n];
        RV_TRY(
            rv_memory_rm(m, rv_memory_whole(), id, NULL, &removed)); /* when refused it may be there or not */
    }
    RV_TRY(rv_memory_compact(m, NULL, NULL, &done));
    RV_TRY(add_many(m, "one"));
    return add_one(m, 30);
}

/* Whatever would have to be written. */
static void check_stopped(rv_memory *m, long at)
{
    size_t removed = 0;
    bool pinned = true;
    rv_memory_compacted done;
    for (int i = 40; i < 43; i++) {
        CHECK_ERR(add_one(m, i), RV_E_IO);
    }
    CHECK_ERR(add_many(m, "another"), RV_E_IO);
    CHECK_ERR(rv_memory_rm(m, rv_memory_whole(), acknowledged.ids[0], NULL, &removed), RV_E_IO);
    CHECK_ERR(rv_memory_keep(m, rv_memory_whole(), acknowledged.ids[0], &pinned, NULL), RV_E_IO);
    CHECK_ERR(rv_memory_link(m, rv_memory_whole(), acknowledged.ids[0], acknowledged.ids[1], "cites", 1),
              RV_E_IO);
    CHECK_ERR(rv_memory_compact(m, NULL, NULL, &done), RV_E_IO);
    CHECK(disk.after == 0, "sync %ld failed, and %ld were tried after it", at, disk.after);
}

static void check_there(rv_memory *m, long at)
{
    rv_arena *arena;
    rv_memory_node node;
    rv_memory_hits hits;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    for (size_t i = 0; i < acknowledged.n; i++) {
        rv_arena_reset(arena);
        rv_err e = rv_memory_get(m, rv_memory_whole(), acknowledged.ids[i], arena, &node);
        CHECK(!e, "sync %ld failed, and node %lld that was acknowledged is gone: %s", at,
              (long long)acknowledged.ids[i], rv_err_text());
    }
    rv_arena_reset(arena);
    CHECK_OK(rv_memory_search(m, rv_memory_whole(), &(rv_memory_query){ .text = "the disk", .k = 2 }, arena,
                              &hits));
    CHECK(hits.n == 2, "%zu hits", hits.n);
    rv_arena_free(arena);
}

TEST(after_a_sync_that_failed_nothing_is_acknowledged_and_no_sync_is_tried_again)
{
    bool failed = true;
    size_t stopped = 0;
    for (long at = 1; failed; at++) {
        const char *dir = temp_path("data");
        acknowledged.n = 0;
        store s = store_open(dir);
        CHECK_OK(add_one(s.m, 99));
        CHECK_OK(add_one(s.m, 98));
        disk.calls = disk.after = 0;
        disk.failed = false;
        disk.fail_at = at;
        rv_err e = story(s.m);
        failed = disk.failed;
        if (e) {
            CHECK(e == RV_E_IO && failed, "sync %ld: %s: %s", at, rv_err_name(e), rv_err_text());
            check_stopped(s.m, at);
            check_there(s.m, at);
            stopped++;
        }
        disk.fail_at = 0;
        store_close(&s);
        s = store_open(dir);
        CHECK_OK(rv_memory_check(s.m));
        check_there(s.m, at);
        CHECK_OK(add_one(s.m, 50));
        store_close(&s);
    }
    CHECK(stopped > 10, "%zu of the syncs stopped it", stopped);
}

/* A file of one row, and one behind it that was begun and has no room for a row. */
TEST(a_sync_reaches_the_rows_before_a_file_that_stayed_empty)
{
    const char *dir = temp_path("segments");
    rv_segment_config config = { .dir = dir, .store = 1, .embedder = "e", .dim = 4, .max_bytes = 1 };
    rv_segments *segments = NULL;
    rv_segment_row row;
    const float vector[4] = { 1, 2, 3, 4 };
    const int64_t id = 1;
    struct rlimit before;
    CHECK_OK(rv_segments_open(&rv_heap, &config, &segments));
    CHECK_OK(rv_segments_append(segments, &id, vector, 1, &row));
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0, "%s", strerror(errno));
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 4096, before.rlim_max }); /* a header, and nothing more */
    CHECK_ERR(rv_segments_append(segments, &id, vector, 1, &row), RV_E_IO);
    setrlimit(RLIMIT_FSIZE, &before);
    disk.calls = 0;
    CHECK_OK(rv_segments_sync(segments));
    CHECK(disk.calls == 1, "%ld syncs", disk.calls);
    rv_segments_close(segments);
}
