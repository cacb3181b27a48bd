#include "kv/shelf.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    VERSION = 1,
    HEADER_BYTES = 256,
    SUM_AT = HEADER_BYTES - 8,
    MARKS_AT = 72,
    MAX_TOKENS = 1 << 24,
    NAME_BYTES = 48,
    FILES_MAX = 1 << 16
};
static const uint8_t magic[8] = { 'R', 'V', 'K', 'V', '\r', '\n', 26, '\n' };

typedef struct book {
    uint64_t id; /* its name */
    rv_shelf_key key;
    rv_kv_outline outline;
    uint64_t bytes, used, header_sum;
    int32_t *ids; /* [outline.n_tokens] */
} book;

struct rv_shelf {
    const rv_alloc *mem;
    char *dir;
    uint64_t max_bytes, bytes, uses, next_id;
    pthread_mutex_t lock; /* for all but mem and dir */
    book *books;
    size_t n, room;
};

static rv_metric metrics[] = {
    { .kind = RV_GAUGE, .name = "ruvllm_kv_files", .help = "Conversations on disk." },
    { .kind = RV_GAUGE, .name = "ruvllm_kv_file_bytes", .help = "Bytes of conversations on disk." },
    { .kind = RV_COUNTER, .name = "ruvllm_kv_saves_total", .help = "Conversations written to disk." },
    { .kind = RV_COUNTER, .name = "ruvllm_kv_restores_total", .help = "Conversations read back from disk." },
    { .kind = RV_COUNTER,
      .name = "ruvllm_kv_refused_total",
      .help = "Files of conversations that were damaged, old or foreign, and removed." },
    { .kind = RV_COUNTER,
      .name = "ruvllm_kv_file_evictions_total",
      .help = "Conversations removed from disk to make room." },
    { .kind = RV_HISTOGRAM,
      .name = "ruvllm_kv_restore_seconds",
      .help = "Time to read a conversation back." },
};
enum { FILES, FILE_BYTES, SAVES, RESTORES, REFUSED, EVICTIONS, RESTORE_TIME };

static void register_metrics(void)
{
    rv_metrics_register(metrics, RV_COUNT(metrics));
}

/* ---- bytes ---- */

static void put_u32(uint8_t *at, uint64_t x)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(x >> 8 * i);
    }
}
static void put_u64(uint8_t *at, uint64_t x)
{
    put_u32(at, x);
    put_u32(at + 4, x >> 32);
}
static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}
static uint64_t get_u64(const uint8_t *at)
{
    return get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

static void make_header(const rv_shelf_key *key, const rv_kv_outline *o, uint64_t file_bytes,
                        uint8_t out[HEADER_BYTES])
{
    memset(out, 0, HEADER_BYTES);
    memcpy(out, magic, sizeof magic);
    put_u32(out + 8, VERSION);
    put_u32(out + 12, HEADER_BYTES);
    put_u64(out + 16, key->model);
    put_u64(out + 24, key->maker);
    put_u64(out + 32, key->adapter);
    put_u64(out + 40, key->tenant);
    put_u64(out + 48, file_bytes);
    put_u32(out + 56, o->n_tokens);
    put_u32(out + 60, o->n_blocks);
    put_u32(out + 64, o->n_marks);
    for (size_t i = 0; i < o->n_marks; i++) {
        put_u32(out + MARKS_AT + 4 * i, o->marks[i]);
    }
    put_u64(out + SUM_AT, XXH64(out, SUM_AT, 0));
}

/* NULL, or what is wrong. */
static const char *read_header(const uint8_t in[HEADER_BYTES], book *b)
{
    if (memcmp(in, magic, sizeof magic) != 0) {
        return "it is no file of a conversation";
    }
    if (get_u32(in + 8) != VERSION || get_u32(in + 12) != HEADER_BYTES) {
        return "its format is of another version";
    }
    if (get_u64(in + SUM_AT) != XXH64(in, SUM_AT, 0)) {
        return "the checksum of its header is wrong";
    }
    b->key = (rv_shelf_key){ get_u64(in + 16), get_u64(in + 24), get_u64(in + 32), get_u64(in + 40) };
    b->header_sum = get_u64(in + SUM_AT);
    b->bytes = get_u64(in + 48);
    b->outline = (rv_kv_outline){ .n_tokens = get_u32(in + 56),
                                  .n_blocks = get_u32(in + 60),
                                  .n_marks = get_u32(in + 64) };
    if (b->outline.n_tokens == 0 || b->outline.n_tokens > MAX_TOKENS || b->outline.n_marks > RV_KV_MARKS) {
        return "its header makes no sense";
    }
    for (size_t i = 0; i < b->outline.n_marks; i++) {
        b->outline.marks[i] = get_u32(in + MARKS_AT + 4 * i);
    }
    return NULL;
}

/* ---- names ---- */

static void name_of(uint64_t id, char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, "%016" PRIx64 ".kv", id);
}

static bool id_of(const char *name, uint64_t *id)
{
    char again[NAME_BYTES];
    *id = strtoull(name, NULL, 16);
    name_of(*id, again);
    return strcmp(name, again) == 0;
}

/* One that is cut because the folder's path is too long is refused by the system. */
static void path_of(const rv_shelf *s, const char *name, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s", s->dir, name);
}

static void path_of_id(const rv_shelf *s, uint64_t id, char out[PATH_MAX])
{
    char name[NAME_BYTES];
    name_of(id, name);
    path_of(s, name, out);
}

static void remove_file(const rv_shelf *s, uint64_t id)
{
    char path[PATH_MAX];
    path_of_id(s, id, path);
    unlink(path); /* still there: it is found again, and judged again, at the next start */
}

static void refuse(const rv_shelf *s, uint64_t id, const char *why)
{
    char name[NAME_BYTES];
    name_of(id, name);
    rv_log(RV_LOG_WARN, "kv.refused", "file", name, "why", why, "now",
           "removed; its tokens are computed again", (char *)NULL);
    rv_metric_add(&metrics[REFUSED], 1);
    remove_file(s, id);
}

/* ---- the list; with the lock ---- */

static book *find_id(rv_shelf *s, uint64_t id)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->books[i].id == id) {
            return &s->books[i];
        }
    }
    return NULL;
}

static void drop(rv_shelf *s, book *b)
{
    s->bytes -= b->bytes;
    rv_metric_add(&metrics[FILES], -1);
    rv_metric_add(&metrics[FILE_BYTES], -(int64_t)b->bytes);
    rv_free(s->mem, b->ids);
    *b = s->books[--s->n];
}

static void evict(rv_shelf *s, uint64_t room_for, size_t files)
{
    while (s->n && (s->bytes + room_for > s->max_bytes || s->n + files > FILES_MAX)) {
        book *oldest = &s->books[0];
        for (size_t i = 1; i < s->n; i++) {
            oldest = s->books[i].used < oldest->used ? &s->books[i] : oldest;
        }
        remove_file(s, oldest->id);
        drop(s, oldest);
        rv_metric_add(&metrics[EVICTIONS], 1);
    }
}

static rv_err add(rv_shelf *s, const book *b)
{
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 16, bytes;
        book *more = rv_mul_size(room, sizeof *more, &bytes) ? rv_resize(s->mem, s->books, bytes) : NULL;
        if (!more) {
            return rv_fail(RV_E_NOMEM, "%s: no memory for its list", s->dir);
        }
        s->books = more;
        s->room = room;
    }
    s->books[s->n++] = *b;
    s->bytes += b->bytes;
    rv_metric_add(&metrics[FILES], 1);
    rv_metric_add(&metrics[FILE_BYTES], (int64_t)b->bytes);
    return RV_OK;
}

/* ---- opening ---- */

static bool read_all(int fd, void *at, size_t n)
{
    uint8_t *to = at;
    while (n) {
        ssize_t got = read(fd, to, n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        to += got;
        n -= (size_t)got;
    }
    return true;
}

static rv_err bad(const char *why)
{
    return rv_fail(RV_E_CORRUPT, "%s", why);
}

/* Header and token ids of an open file; b->ids is NULL after an error. */
static rv_err read_front(const rv_shelf *s, int fd, book *b)
{
    uint8_t header[HEADER_BYTES];
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !read_all(fd, header, sizeof header)) {
        return bad("it is cut short");
    }
    const char *why = read_header(header, b);
    if (why) {
        return bad(why);
    }
    if ((uint64_t)st.st_size != b->bytes || b->bytes / 4 < b->outline.n_tokens) {
        return bad("its size is not the one in its header");
    }
    b->used = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    size_t n = b->outline.n_tokens;
    b->ids = rv_new_array(s->mem, n, sizeof *b->ids);
    if (!b->ids) {
        return rv_fail(RV_E_NOMEM, "%s: no memory for a conversation of %zu tokens", s->dir, n);
    }
    if (!read_all(fd, b->ids, n * sizeof *b->ids)) {
        rv_free(s->mem, b->ids);
        b->ids = NULL;
        return bad("its tokens cannot be read");
    }
    return RV_OK;
}

/* What the whole program has too many of says nothing about a file. */
static rv_err open_file(const rv_shelf *s, uint64_t id, int *fd)
{
    char path[PATH_MAX];
    path_of_id(s, id, path);
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd >= 0) {
        return RV_OK;
    }
    bool passes = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
    return passes ? rv_fail(RV_E_IO, "%s: cannot be opened: %s", path, strerror(errno))
                  : bad(strerror(errno));
}

static rv_err take_in(rv_shelf *s, uint64_t id)
{
    book b = { .id = id };
    int fd = -1;
    rv_err e = open_file(s, id, &fd);
    e = e ? e : read_front(s, fd, &b);
    if (fd >= 0) {
        close(fd);
    }
    if (e == RV_E_CORRUPT) {
        refuse(s, id, rv_err_text());
        return RV_OK;
    }
    e = e ? e : add(s, &b);
    if (e) {
        rv_free(s->mem, b.ids);
        return e;
    }
    s->next_id = id >= s->next_id ? id + 1 : s->next_id;
    s->uses = b.used >= s->uses ? b.used + 1 : s->uses;
    return RV_OK;
}

static rv_err scan(rv_shelf *s)
{
    DIR *folder = opendir(s->dir);
    if (!folder) {
        return rv_fail(RV_E_IO, "%s: cannot be read: %s", s->dir, strerror(errno));
    }
    rv_err e = RV_OK;
    for (struct dirent *entry; !e && (entry = readdir(folder));) {
        uint64_t id;
        if (id_of(entry->d_name, &id) && id != UINT64_MAX) {
            e = take_in(s, id);
        } else if (strncmp(entry->d_name, "new.", 4) == 0) { /* a crash while it was written */
            unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    closedir(folder);
    return e;
}

rv_err rv_shelf_open(const rv_alloc *mem, const char *dir, uint64_t max_bytes, rv_shelf **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_metrics);
    RV_TRY(rv_dir_make(dir));
    rv_shelf *s = rv_new(mem, sizeof *s);
    if (!s) {
        return rv_fail(RV_E_NOMEM, "%s: opening", dir);
    }
    *s = (rv_shelf){ .mem = mem, .max_bytes = max_bytes, .next_id = 1, .uses = 1 };
    pthread_mutex_init(&s->lock, NULL);
    s->dir = rv_strdup(mem, dir);
    rv_err e = s->dir ? scan(s) : rv_fail(RV_E_NOMEM, "%s: opening", dir);
    if (e) {
        rv_shelf_close(s);
        return e;
    }
    evict(s, 0, 0);
    *out = s;
    return RV_OK;
}

void rv_shelf_close(rv_shelf *s)
{
    if (!s) {
        return;
    }
    while (s->n) {
        drop(s, &s->books[s->n - 1]);
    }
    rv_free(s->mem, s->books);
    rv_free(s->mem, s->dir);
    pthread_mutex_destroy(&s->lock);
    rv_free(s->mem, s);
}

/* ---- finding ---- */

static size_t common(const book *b, const int32_t *ids, size_t n)
{
    size_t same = 0, most = n < b->outline.n_tokens ? n : b->outline.n_tokens;
    while (same < most && b->ids[same] == ids[same]) {
        same++;
    }
    return same;
}

static size_t reusable(const book *b, size_t same)
{
    if (same == b->outline.n_tokens) {
        return same;
    }
    size_t i = b->outline.n_marks;
    while (i && b->outline.marks[i - 1] > same) {
        i--;
    }
    return i ? b->outline.marks[i - 1] : 0;
}

static bool same_key(const rv_shelf_key *a, const rv_shelf_key *b)
{
    return a->model == b->model && a->maker == b->maker && a->adapter == b->adapter && a->tenant == b->tenant;
}

bool rv_shelf_look(rv_shelf *s, const rv_shelf_key *key, const int32_t *ids, size_t n, rv_shelf_find *out)
{
    book *best = NULL;
    size_t most = 0;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n; i++) {
        book *b = &s->books[i];
        size_t left = same_key(&b->key, key) ? reusable(b, common(b, ids, n)) : 0;
        if (left > most) {
            best = b;
            most = left;
        }
    }
    if (best) {
        best->used = ++s->uses;
        *out = (rv_shelf_find){ .id = best->id, .reusable = most, .outline = best->outline };
    }
    pthread_mutex_unlock(&s->lock);
    return best != NULL;
}

/* ---- reading ---- */

static rv_err read_body(int fd, const book *b, const rv_kv_seq *seq, int32_t *ids)
{
    XXH64_state_t *sum = XXH64_createState();
    if (!sum) {
        return rv_fail(RV_E_NOMEM, "no memory for the checksum of a conversation");
    }
    XXH64_reset(sum, b->header_sum);
    size_t n = b->outline.n_tokens * sizeof *ids;
    uint64_t bytes = HEADER_BYTES + n + sizeof(uint64_t);
    memcpy(ids, b->ids, n);
    XXH64_update(sum, ids, n);
    bool good = true;
    void *at;
    for (size_t i = 0; good && rv_kv_part(seq, i, &at, &n); i++) {
        bytes += n;
        good = bytes <= b->bytes && read_all(fd, at, n);
        if (good && n) {
            XXH64_update(sum, at, n);
        }
    }
    uint8_t end[sizeof(uint64_t)];
    const char *why = !good || bytes != b->bytes || !read_all(fd, end, sizeof end)
                          ? "it is cut short or too long"
                      : get_u64(end) != XXH64_digest(sum) ? "its checksum is wrong"
                                                          : NULL;
    XXH64_freeState(sum);
    return why ? bad(why) : RV_OK;
}

static bool same_outline(const rv_kv_outline *a, const rv_kv_outline *b)
{
    return a->n_tokens == b->n_tokens && a->n_blocks == b->n_blocks && a->n_marks == b->n_marks &&
           memcmp(a->marks, b->marks, a->n_marks * sizeof *a->marks) == 0;
}

rv_err rv_shelf_read(rv_shelf *s, const rv_shelf_key *key, const rv_shelf_find *found, const rv_kv_seq *seq,
                     int32_t *ids)
{
    double start = rv_clock_ms();
    book b = { .id = found->id };
    int fd = -1;
    rv_err e = open_file(s, found->id, &fd);
    e = e ? e : read_front(s, fd, &b);
    if (!e && (!same_key(&b.key, key) || !same_outline(&b.outline, &found->outline))) {
        e = bad("it has been exchanged");
    }
    e = e ? e : read_body(fd, &b, seq, ids);
    if (!e) {
        futimens(fd, NULL); /* the order of use outlives the program; refused: only that is lost */
        rv_metric_add(&metrics[RESTORES], 1);
        rv_metric_time(&metrics[RESTORE_TIME], rv_clock_ms() - start);
    }
    if (fd >= 0) {
        close(fd);
    }
    rv_free(s->mem, b.ids);
    if (e == RV_E_CORRUPT) {
        pthread_mutex_lock(&s->lock);
        book *listed = find_id(s, found->id);
        if (listed) { /* else it was evicted meanwhile */
            refuse(s, found->id, rv_err_text());
            drop(s, listed);
        }
        pthread_mutex_unlock(&s->lock);
    } else if (e) {
        rv_log(RV_LOG_WARN, "kv.not_read", "why", rv_err_text(), "now", "its tokens are computed again",
               (char *)NULL);
    }
    return e;
}

/* ---- writing ---- */

static bool write_all(int fd, const void *from, size_t n)
{
    const uint8_t *at = from;
    while (n) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return false;
        }
        at += put;
        n -= (size_t)put;
    }
    return true;
}

static bool write_body(int fd, const book *b, const rv_kv_seq *seq)
{
    XXH64_state_t *sum = XXH64_createState();
    if (!sum) {
        errno = ENOMEM;
        return false;
    }
    XXH64_reset(sum, b->header_sum); /* so that header and body of two files do not pass for one */
    size_t n = b->outline.n_tokens * sizeof *b->ids;
    bool good = write_all(fd, b->ids, n);
    XXH64_update(sum, b->ids, n);
    void *at;
    for (size_t i = 0; good && rv_kv_part(seq, i, &at, &n); i++) {
        good = write_all(fd, at, n);
        if (n) {
            XXH64_update(sum, at, n);
        }
    }
    uint8_t end[sizeof(uint64_t)];
    put_u64(end, XXH64_digest(sum));
    XXH64_freeState(sum);
    return good && write_all(fd, end, sizeof end);
}

static uint64_t file_bytes(const rv_kv_outline *o, const rv_kv_seq *seq)
{
    uint64_t bytes = HEADER_BYTES + o->n_tokens * sizeof(int32_t) + sizeof(uint64_t);
    void *at;
    size_t n;
    for (size_t i = 0; rv_kv_part(seq, i, &at, &n); i++) {
        bytes += n;
    }
    return bytes;
}

static rv_err write_file(const rv_shelf *s, book *b, const rv_kv_seq *seq)
{
    uint8_t header[HEADER_BYTES];
    make_header(&b->key, &b->outline, b->bytes, header);
    b->header_sum = get_u64(header + SUM_AT);
    char path[PATH_MAX], beside[PATH_MAX];
    path_of_id(s, b->id, path);
    path_of(s, "new.XXXXXX", beside);
    int fd = mkostemp(beside, O_CLOEXEC); /* made with mode 0600 */
    if (fd < 0) {
        return rv_fail(RV_E_IO, "%s: cannot create a file: %s", s->dir, strerror(errno));
    }
    rv_err e = RV_OK;
    if (!write_all(fd, header, sizeof header) || !write_body(fd, b, seq) || fsync(fd) < 0) {
        e = rv_fail(RV_E_IO, "%s: cannot write: %s", beside, strerror(errno));
    }
    if (close(fd) < 0 && !e) {
        e = rv_fail(RV_E_IO, "%s: cannot close: %s", beside, strerror(errno));
    }
    if (!e && rename(beside, path) < 0) {
        e = rv_fail(RV_E_IO, "%s: cannot be renamed: %s", beside, strerror(errno));
    }
    if (e) {
        unlink(beside);
        return e;
    }
    e = rv_dir_sync(s->dir);
    if (e) {
        unlink(path); /* nobody would know of it */
    }
    return e;
}

rv_err rv_shelf_write(rv_shelf *s, const rv_shelf_key *key, const rv_kv_outline *o, const int32_t *ids,
                      const rv_kv_seq *seq)
{
    book b = { .key = *key, .outline = *o, .bytes = file_bytes(o, seq) };
    if (b.bytes > s->max_bytes) {
        return rv_fail(RV_E_TOO_LARGE, "a conversation of %" PRIu64 " bytes, the folder may hold %" PRIu64,
                       b.bytes, s->max_bytes);
    }
    b.ids = rv_new_array(s->mem, o->n_tokens, sizeof *b.ids);
    if (!b.ids) {
        return rv_fail(RV_E_NOMEM, "%s: no memory to write a conversation", s->dir);
    }
    memcpy(b.ids, ids, o->n_tokens * sizeof *ids);
    pthread_mutex_lock(&s->lock);
    b.id = s->next_id++;
    evict(s, b.bytes, 1);
    pthread_mutex_unlock(&s->lock);

    rv_err e = write_file(s, &b, seq);
    pthread_mutex_lock(&s->lock);
    b.used = ++s->uses;
    if (!e) {
        for (size_t i = s->n; i-- > 0;) { /* what the new one begins with, it replaces */
            book *old = &s->books[i];
            if (same_key(&old->key, key) && common(old, ids, o->n_tokens) == old->outline.n_tokens) {
                remove_file(s, old->id);
                drop(s, old);
            }
        }
        e = add(s, &b);
        if (e) {
            remove_file(s, b.id);
        }
    }
    evict(s, 0, 0);
    pthread_mutex_unlock(&s->lock);
    if (e) {
        rv_free(s->mem, b.ids);
        return e;
    }
    rv_metric_add(&metrics[SAVES], 1);
    return RV_OK;
}

rv_err rv_shelf_clear(rv_shelf *s, size_t *files)
{
    pthread_mutex_lock(&s->lock);
    *files = 0;
    rv_err e = RV_OK;
    while (s->n && !e) {
        char path[PATH_MAX];
        path_of_id(s, s->books[s->n - 1].id, path);
        if (unlink(path) < 0 && errno != ENOENT) {
            e = rv_fail(RV_E_IO, "%s: cannot be removed: %s", path, strerror(errno));
        } else {
            drop(s, &s->books[s->n - 1]);
            ++*files;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return e ? e : rv_dir_sync(s->dir);
}

rv_shelf_stats rv_shelf_get_stats(rv_shelf *s)
{
    pthread_mutex_lock(&s->lock);
    rv_shelf_stats stats = { s->n, s->bytes };
    pthread_mutex_unlock(&s->lock);
    return stats;
}
