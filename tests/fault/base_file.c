/* The disk fails at call 1, 2, 3... of write, fsync, close and rename. The functions below stand in front of the C library's
 * for the whole program. */
#include "base/file.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    long calls, fail_at;  /* 0: none fails */
    bool failed, shorten; /* writes of one byte */
} disk;

static bool fails_now(void)
{
    disk.calls++;
    if (disk.calls != disk.fail_at) {
        return false;
    }
    disk.failed = true;
    errno = ENOSPC;
    return true;
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    if (disk.fail_at && fd > STDERR_FILENO) {
        if (fails_now()) {
            return -1;
        }
        if (disk.shorten && n > 1) {
            n = 1;
        }
    }
    return syscall(SYS_write, fd, bytes, n);
}

int fsync(int fd)
{
    return disk.fail_at && fails_now() ? -1 : (int)syscall(SYS_fsync, fd);
}

int close(int fd)
{
    bool failing = disk.fail_at && fails_now();
    int got = (int)syscall(SYS_close, fd);
    if (failing) {
        errno = EIO;
        return -1;
    }
    return got;
}

int rename(const char *from, const char *to)
{
    return disk.fail_at && fails_now() ? -1 : (int)syscall(SYS_renameat2, -100, from, -100, to, 0);
}

static int entries_in(const char *folder)
{
    DIR *d = opendir(folder);
    int n = -2;
    while (readdir(d)) {
        n++;
    }
    closedir(d);
    return n;
}

TEST(a_failed_replace_leaves_the_old_file_or_the_new_one_and_nothing_else)
{
    const char *folder = temp_dir();
    char path[4096], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/a", folder);
    long rounds = 0;
    for (long at = 1;; at++) {
        CHECK_OK(rv_file_replace(path, "old", 3));
        disk.calls = 0, disk.failed = false, disk.shorten = true, disk.fail_at = at;
        rv_err e = rv_file_replace(path, "new content", 11);
        disk.fail_at = 0;
        bool failed = disk.failed;
        CHECK_OK(rv_file_read(&rv_heap, path, 100, &text, &n));
        bool is_old = strcmp(text, "old") == 0, is_new = strcmp(text, "new content") == 0;
        CHECK(is_old || is_new, "call %ld: a mixture: %s", at, text);
        rv_free(&rv_heap, text);
        CHECK(entries_in(folder) == 1, "call %ld: a file was left beside it", at);
        CHECK(e != RV_OK || is_new, "call %ld: said yes and kept the old", at);
        CHECK(e == RV_OK || (failed && strstr(rv_err_text(), folder)), "call %ld: %s", at, rv_err_text());
        if (!failed) {
            CHECK_OK(e);
            break;
        }
        rounds++;
    }
    /* eleven writes, two syncs, one rename, and the closing of file and folder (the latter may fail unheard) */
    CHECK(rounds == 16, "%ld calls could fail", rounds);
}

TEST(reading_and_joining_do_without_memory_cleanly)
{
    const char *path = temp_path("a");
    CHECK_OK(rv_file_replace(path, "0123456789", 10));
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        char *text = NULL;
        size_t n = 0;
        rv_err e = rv_file_read(&m.alloc, path, 100, &text, &n);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK) && (text != NULL) == !m.failed, "%s", rv_err_text());
        rv_free(&m.alloc, text);
    }
    for (test_mem m = { 0 }; test_mem_again(&m);) { /* of no known size: grows */
        char *text = NULL;
        size_t n = 0;
        rv_err e = rv_file_read(&m.alloc, "/proc/self/maps", 1 << 22, &text, &n);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK) && (text != NULL) == !m.failed, "%s", rv_err_text());
        rv_free(&m.alloc, text);
    }
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        char *joined = rv_path_join(&m.alloc, "a", "b");
        CHECK((joined == NULL) == m.failed, "join");
        rv_free(&m.alloc, joined);
    }
}
