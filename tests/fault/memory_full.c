/* A disk that is full, a real one: a small file system in memory. Writes are refused and change nothing, reading goes on, and writing works
 * again as soon as there is room, also in the process that was refused. Needs the right to mount; left out without it. */
#include "memory_helpers.h"
#include "base/file.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1 << 20, NOTES_MAX = 20000 };

static bool mount_small(const char *dir)
{
    return mkdir(dir, 0700) == 0 && unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", dir, "tmpfs", 0, "size=24m,mode=0700") == 0;
}

/* Takes the room that is left, down to `left` bytes. */
static void fill(const char *path, size_t left)
{
    static char block[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    CHECK(fd >= 0, "%s", path);
    size_t n = 0;
    while (write(fd, block, sizeof block) == sizeof block) {
        n += sizeof block;
    }
    CHECK(n > left && ftruncate(fd, (off_t)(n - left)) == 0, "%zu bytes were left", n);
    close(fd);
}

static rv_err add_numbered(rv_memory *m, int number, int64_t *id)
{
    char text[128];
    bool added;
    snprintf(text, sizeof text, "note number %d of a disk that becomes full while it is written", number);
    return rv_memory_add(m, rv_memory_of(NULL), &(rv_memory_new){ .type = "note", .text = text }, id, &added);
}

static void check_all(rv_memory *m, const int64_t *ids, int n)
{
    rv_arena *arena;
    rv_memory_node node;
    CHECK_OK(rv_arena_new(&rv_heap, MIB, &arena));
    for (int i = 0; i < n; i++) {
        rv_arena_reset(arena);
        CHECK_OK(rv_memory_get(m, rv_memory_whole(), ids[i], arena, &node));
    }
    rv_memory_hits hits;
    rv_arena_reset(arena);
    CHECK_OK(rv_memory_search(m, rv_memory_whole(),
                              &(rv_memory_query){ .text = "a disk that becomes full", .k = 5 }, arena,
                              &hits));
    CHECK(hits.n == 5, "%zu", hits.n);
    rv_arena_free(arena);
}

TEST(a_full_disk_refuses_writes_until_there_is_room)
{
    static int64_t ids[NOTES_MAX];
    char dir[4096], data[4200], ballast[4200];
    snprintf(dir, sizeof dir, "%s", temp_path("small"));
    snprintf(data, sizeof data, "%s/data", dir);
    snprintf(ballast, sizeof ballast, "%s/ballast", dir);
    if (!mount_small(dir)) {
        SKIP("mounting is not allowed here");
    }
    store s = store_open(data);
    int n = 0, refused = 0;
    for (; n < 20; n++) {
        CHECK_OK(add_numbered(s.m, n, &ids[n]));
    }
    fill(ballast, MIB);
    rv_err e = RV_OK;
    while (n < NOTES_MAX && !(e = add_numbered(s.m, n, &ids[n]))) {
        n++;
    }
    CHECK(e == RV_E_NO_SPACE, "%d after %d notes: %s", (int)e, n, rv_err_text());
    for (int i = 0; i < 3; i++) {
        int64_t id;
        refused += add_numbered(s.m, n, &id) == RV_E_NO_SPACE;
    }
    CHECK(refused == 3, "%d of 3 refused", refused);
    check_all(s.m, ids, n);
    CHECK(unlink(ballast) == 0, "%s", ballast);
    for (int i = 0; i < 20; i++, n++) {
        CHECK_OK(add_numbered(s.m, n, &ids[n]));
    }
    store_close(&s);
    s = store_open(data);
    check_all(s.m, ids, n);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
    CHECK(umount(dir) == 0, "%s", dir);
}
