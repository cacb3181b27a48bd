/* Files. Every message names the path and says what the system said. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static rv_err fail_errno(const char *path, const char *what)
{
    int e = errno;
    rv_err code = e == ENOENT || e == ENOTDIR ? RV_E_NOT_FOUND : e == ENOMEM ? RV_E_NOMEM : RV_E_IO;
    return rv_fail(code, "%s: %s: %s", path, what, strerror(e));
}

/* Opens a regular file; without O_NONBLOCK a pipe would hang us here. */
static rv_err open_regular(const char *path, int *out, size_t *n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return fail_errno(path, "cannot open");
    }
    struct stat st;
    rv_err e = RV_OK;
    if (fstat(fd, &st) < 0) {
        e = fail_errno(path, "cannot look at");
    } else if (!S_ISREG(st.st_mode)) {
        e = rv_fail(RV_E_IO, "%s: %s, expected a file", path,
                    S_ISDIR(st.st_mode) ? "is a folder" : "not a regular file");
    }
    if (e) {
        close(fd);
        return e;
    }
    *out = fd;
    *n = (size_t)st.st_size;
    return RV_OK;
}

rv_err rv_file_map(const char *path, rv_map *out)
{
    int fd;
    size_t n;
    RV_TRY(open_regular(path, &fd, &n));
    rv_map map = { NULL, n };
    rv_err e = RV_OK;
    if (n > 0) {
        void *at = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) {
            e = fail_errno(path, "cannot map");
        } else {
            map.at = at;
        }
    }
    close(fd);
    if (!e) {
        *out = map;
    }
    return e;
}

void rv_file_unmap(rv_map *map)
{
    if (map->at) {
        munmap((void *)(uintptr_t)map->at, map->n);
    }
    *map = (rv_map){ 0 };
}

static rv_err read_all(const rv_alloc *mem, const char *path, int fd, size_t expect, size_t max, char **out,
                       size_t *n)
{
    if (expect > max) {
        return rv_fail(RV_E_TOO_LARGE, "%s: %zu bytes, at most %zu are read", path, expect, max);
    }
    /* One more than expected, so that the end is seen without growing. */
    size_t room = (expect ? expect : 4096) + 1, used = 0;
    char *at = rv_resize(mem, NULL, room);
    while (at) {
        ssize_t got = read(fd, at + used, room - used);
        if (got == 0) {
            at[used] = 0; /* there is room: a full buffer was grown before this read */
            *out = at;
            *n = used;
            return RV_OK;
        }
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            rv_err e = fail_errno(path, "cannot read");
            rv_free(mem, at);
            return e;
        }
        used += (size_t)got;
        if (used > max) {
            rv_free(mem, at);
            return rv_fail(RV_E_TOO_LARGE, "%s: more than %zu bytes", path, max);
        }
        if (used == room) {
            size_t bytes;
            char *bigger = rv_mul_size(room, 2, &bytes) ? rv_resize(mem, at, bytes) : NULL;
            if (!bigger) {
                break;
            }
            at = bigger;
            room = bytes;
        }
    }
    rv_free(mem, at);
    return rv_fail(RV_E_NOMEM, "%s: no memory to read it", path);
}

rv_err rv_file_read(const rv_alloc *mem, const char *path, size_t max, char **out, size_t *n)
{
    if (strcmp(path, "-") == 0) {
        return read_all(mem, "standard input", STDIN_FILENO, 0, max, out, n);
    }
    int fd;
    size_t size;
    RV_TRY(open_regular(path, &fd, &size));
    rv_err e = read_all(mem, path, fd, size, max, out, n);
    close(fd);
    return e;
}

rv_err rv_fd_write(const char *path, int fd, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return fail_errno(path, "cannot write");
        }
        at += put;
        n -= (size_t)put;
    }
    return RV_OK;
}

/* The folder a path lies in. */
static rv_err folder_of(const char *path, char out[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t n = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (n >= PATH_MAX) {
        return rv_fail(RV_E_ARG, "%s: path longer than %d bytes", path, PATH_MAX - 1);
    }
    memcpy(out, n ? path : ".", n ? n : 1);
    out[n ? n : 1] = 0;
    return RV_OK;
}

rv_err rv_file_replace(const char *path, const void *bytes, size_t n)
{
    char folder[PATH_MAX], beside[PATH_MAX];
    RV_TRY(folder_of(path, folder));
    if (snprintf(beside, sizeof beside, "%s.XXXXXX", path) >= (int)sizeof beside) {
        return rv_fail(RV_E_ARG, "%s: path too long", path);
    }
    int fd = mkostemp(beside, O_CLOEXEC); /* made with mode 0600 */
    if (fd < 0) {
        return fail_errno(path, "cannot create a file beside it");
    }
    rv_err e = rv_fd_write(path, fd, bytes, n);
    if (!e && fsync(fd) < 0) {
        e = fail_errno(path, "cannot sync");
    }
    if (close(fd) < 0 && !e) {
        e = fail_errno(path, "cannot close");
    }
    if (!e && rename(beside, path) < 0) {
        e = fail_errno(path, "cannot rename over it");
    }
    if (e) {
        unlink(beside);
        return e;
    }
    return rv_dir_sync(folder);
}

static rv_err make_one(const char *path)
{
    if (mkdir(path, 0700) == 0) {
        char folder[PATH_MAX];
        RV_TRY(folder_of(path, folder));
        return rv_dir_sync(folder); /* or a power loss takes it, and all that was synced in it */
    }
    struct stat st;
    int why = errno;
    if (why == EEXIST && stat(path, &st) == 0) {
        return S_ISDIR(st.st_mode) ? RV_OK : rv_fail(RV_E_IO, "%s: exists and is not a folder", path);
    }
    errno = why;
    return fail_errno(path, "cannot make the folder");
}

rv_err rv_dir_make(const char *path)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) {
        return rv_fail(RV_E_ARG, "%s: a folder's path has 1 to %d bytes", path, PATH_MAX - 1);
    }
    memcpy(part, path, n + 1);
    for (size_t i = 1; i < n; i++) {
        if (part[i] == '/' && part[i - 1] != '/') {
            part[i] = 0;
            RV_TRY(make_one(part));
            part[i] = '/';
        }
    }
    return make_one(part);
}

rv_err rv_dir_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail_errno(path, "cannot open the folder");
    }
    rv_err e = fsync(fd) < 0 ? fail_errno(path, "cannot sync the folder") : RV_OK;
    close(fd);
    return e;
}

bool rv_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

char *rv_path_join(const rv_alloc *mem, const char *a, const char *b)
{
    size_t n = strlen(a);
    if (b[0] == '/' || n == 0) {
        return rv_strdup(mem, b);
    }
    rv_text t;
    rv_text_init(&t, mem, SIZE_MAX);
    rv_text_add(&t, a, n);
    if (a[n - 1] != '/' && b[0]) {
        rv_text_addc(&t, '/');
    }
    rv_text_adds(&t, b);
    return rv_text_take(&t);
}
