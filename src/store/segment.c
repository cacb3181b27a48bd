/* A segment is a header of one page and rows of fixed size. A row holds its vector, the id it was stored with and a
 * checksum whose seed is the row's own place, so that a row that was changed, moved, torn or left over from another time
 * does not pass. The file is mapped once at its full size: pages beyond its end are touched only after it grew. */
#include "store/segment.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    HEADER_BYTES = 4096,
    VERSION = 1,
    ALIGN = 64,
    NAME_BYTES = 12, /* 00000001.seg */
    SEGMENTS_MAX = 65536,
    BUFFER_ROWS = 64, /* written at a time */
    GROW_LEAST = 1 << 16,
    GROW_MOST = 1 << 20 /* bytes that a file grows at once */
};
static const size_t default_bytes = (size_t)64 << 20;
static const char magic[8] = { 'R', 'V', 'S', 'E', 'G', '\r', '\n', 26 };

/* Places in the header, little-endian; unnamed bytes are zero. */
enum {
    AT_VERSION = 8,
    AT_BYTES = 12,
    AT_DIM = 16,
    AT_STRIDE = 20,
    AT_NUMBER = 24,
    AT_CAPACITY = 28,
    AT_STORE = 32,
    AT_EMBEDDER = 40,
    AT_SUM = HEADER_BYTES - 8
};

typedef struct segment {
    uint32_t number, capacity; /* rows that fit */
    uint32_t n_rows;           /* named or appended: the next one goes here */
    uint64_t n_bytes;          /* of the file */
    bool unsynced;             /* rows were written since the last sync */
    bool left;                 /* sparse: nothing is appended any more */
    int fd;                    /* -1: the file was removed; what is mapped stays until close */
    const uint8_t *map;        /* NULL: the header is damaged or does not fit this store */
    size_t map_bytes;
} segment;

struct rv_segments {
    const rv_alloc *mem;
    char *dir;
    char embedder[RV_SEGMENT_EMBEDDER_MAX + 1];
    uint64_t store;
    size_t dim, stride;
    uint32_t capacity; /* of new files */
    uint32_t highest;  /* number seen or named */
    segment *at;       /* [n] by number */
    size_t n, room;
    uint8_t *buffer; /* [BUFFER_ROWS][stride] */
    bool failed;
};

/* ---- bytes ---- */

static void put(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t take(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static size_t stride_of(size_t dim)
{
    return (dim * sizeof(float) + 16 + ALIGN - 1) / ALIGN * ALIGN; /* vector, id, checksum */
}

/* Of vector and id; the seed is the row's place. */
static uint64_t row_sum(const rv_segments *s, const uint8_t *row, uint32_t number, uint32_t index)
{
    return XXH64(row, s->dim * sizeof(float) + 8, (uint64_t)number << 32 | index);
}

static size_t row_offset(const rv_segments *s, uint32_t index)
{
    return HEADER_BYTES + (size_t)index * s->stride;
}

/* ---- files ---- */

typedef struct path {
    char at[4096];
} path;

static path path_of(const rv_segments *s, uint32_t number)
{
    path p;
    snprintf(p.at, sizeof p.at, "%s/%08u.seg", s->dir, number); /* rv_segments_open saw that it fits */
    return p;
}

static rv_err fail_write(const rv_segments *s, uint32_t number, const char *what)
{
    int why = errno;
    return rv_fail(why == ENOSPC || why == EDQUOT ? RV_E_NO_SPACE : RV_E_IO, "%s: %s: %s",
                   path_of(s, number).at, what, strerror(why));
}

static void close_segment(segment *g)
{
    if (g->map) {
        munmap((void *)(uintptr_t)g->map, g->map_bytes);
    }
    if (g->fd >= 0) {
        close(g->fd);
    }
}

/* The first entry whose number is not below this one. */
static size_t place_of(const rv_segments *s, uint32_t number)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->at[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static segment *find(const rv_segments *s, uint32_t number)
{
    size_t place = place_of(s, number);
    return place < s->n && s->at[place].number == number ? &s->at[place] : NULL;
}

static rv_err reserve_one(rv_segments *s)
{
    if (s->n < s->room) {
        return RV_OK;
    }
    size_t room = s->room ? 2 * s->room : 16;
    segment *at = room <= SEGMENTS_MAX ? rv_resize(s->mem, s->at, room * sizeof *at) : NULL;
    if (!at) {
        return rv_fail(RV_E_NOMEM, "%s: no room for more than %zu files", s->dir, s->n);
    }
    s->at = at;
    s->room = room;
    return RV_OK;
}

/* Room was reserved. Takes over what g holds. */
static void insert(rv_segments *s, segment g)
{
    size_t place = place_of(s, g.number);
    memmove(s->at + place + 1, s->at + place, (s->n - place) * sizeof *s->at);
    s->at[place] = g;
    s->n++;
    s->highest = g.number > s->highest ? g.number : s->highest;
}

static rv_err map_segment(const rv_segments *s, segment *g)
{
    g->map_bytes = row_offset(s, g->capacity);
    void *map = mmap(NULL, g->map_bytes, PROT_READ, MAP_SHARED, g->fd, 0);
    if (map == MAP_FAILED) {
        return rv_fail(errno == ENOMEM ? RV_E_NOMEM : RV_E_IO, "%s: cannot map: %s", path_of(s, g->number).at,
                       strerror(errno));
    }
    g->map = map;
    return RV_OK;
}

/* Bytes at place in the file, all n of them; fewer leaves *whole false. */
static rv_err read_at(const rv_segments *s, const segment *g, uint8_t *out, size_t n, bool *whole)
{
    size_t got = 0;
    while (got < n) {
        ssize_t k = pread(g->fd, out + got, n - got, (off_t)got);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            return rv_fail(RV_E_IO, "%s: cannot read: %s", path_of(s, g->number).at, strerror(errno));
        }
        if (k == 0) {
            break;
        }
        got += (size_t)k;
    }
    *whole = got == n;
    return RV_OK;
}

static void fill_header(const rv_segments *s, uint32_t number, uint8_t header[HEADER_BYTES])
{
    memset(header, 0, HEADER_BYTES);
    memcpy(header, magic, sizeof magic);
    put(header + AT_VERSION, VERSION, 4);
    put(header + AT_BYTES, HEADER_BYTES, 4);
    put(header + AT_DIM, s->dim, 4);
    put(header + AT_STRIDE, s->stride, 4);
    put(header + AT_NUMBER, number, 4);
    put(header + AT_CAPACITY, s->capacity, 4);
    put(header + AT_STORE, s->store, 8);
    memcpy(header + AT_EMBEDDER, s->embedder, sizeof s->embedder);
    put(header + AT_SUM, XXH64(header, AT_SUM, 0), 8);
}

/* Maps the file when its header fits; a damaged one stays unmapped, and is reported when somebody names a row of it. */
static rv_err read_header(const rv_segments *s, segment *g)
{
    uint8_t header[HEADER_BYTES];
    bool whole = false;
    RV_TRY(read_at(s, g, header, sizeof header, &whole));
    if (!whole || memcmp(header, magic, sizeof magic) != 0 ||
        take(header + AT_SUM, 8) != XXH64(header, AT_SUM, 0)) {
        return RV_OK;
    }
    if (take(header + AT_STORE, 8) != s->store) {
        return rv_fail(RV_E_CORRUPT,
                       "%s: belongs to another store: database and vectors do not fit together; restore both "
                       "from one backup, or move the folder away and its vectors are made again",
                       path_of(s, g->number).at);
    }
    uint64_t capacity = take(header + AT_CAPACITY, 4);
    bool fits = take(header + AT_VERSION, 4) == VERSION && take(header + AT_BYTES, 4) == HEADER_BYTES &&
                take(header + AT_DIM, 4) == s->dim && take(header + AT_STRIDE, 4) == s->stride &&
                take(header + AT_NUMBER, 4) == g->number && capacity > 0 && capacity <= UINT32_MAX / 2 &&
                memcmp(header + AT_EMBEDDER, s->embedder, sizeof s->embedder) == 0;
    if (!fits) {
        return RV_OK;
    }
    g->capacity = (uint32_t)capacity;
    return map_segment(s, g);
}

static rv_err open_segment(rv_segments *s, uint32_t number)
{
    RV_TRY(reserve_one(s));
    segment g = { .number = number };
    path p = path_of(s, number);
    g.fd = open(p.at, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (g.fd < 0 || fstat(g.fd, &st) < 0) {
        rv_err e = rv_fail(RV_E_IO, "%s: cannot open: %s", p.at, strerror(errno));
        close_segment(&g);
        return e;
    }
    g.n_bytes = (uint64_t)st.st_size;
    rv_err e = read_header(s, &g);
    if (e) {
        close_segment(&g);
        return e;
    }
    insert(s, g);
    return RV_OK;
}

/* A new file, its header on the disk. What had its name was named by nobody. */
static rv_err make_segment(rv_segments *s)
{
    if (s->highest == UINT32_MAX) {
        return rv_fail(RV_E_FULL, "%s: no file number is left", s->dir);
    }
    RV_TRY(reserve_one(s));
    segment g = { .number = s->highest + 1, .capacity = s->capacity, .n_bytes = HEADER_BYTES };
    path p = path_of(s, g.number);
    uint8_t header[HEADER_BYTES];
    fill_header(s, g.number, header);
    g.fd = open(p.at, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    rv_err e = g.fd < 0 ? fail_write(s, g.number, "cannot create") : RV_OK;
    if (!e) {
        ssize_t n = pwrite(g.fd, header, sizeof header, 0);
        if (n != (ssize_t)sizeof header) {
            errno = n < 0 ? errno : ENOSPC;
            e = fail_write(s, g.number, "cannot write");
        }
    }
    if (!e && fdatasync(g.fd) < 0) {
        e = fail_write(s, g.number, "cannot sync");
        s->failed = true;
    }
    if (!e && rv_dir_sync(s->dir)) {
        e = RV_E_IO; /* with the text of rv_dir_sync */
        s->failed = true;
    }
    if (!e) {
        e = map_segment(s, &g);
    }
    if (e) {
        close_segment(&g);
        return e;
    }
    insert(s, g);
    return RV_OK;
}

/* ---- opening ---- */

static bool parse_name(const char *name, uint32_t *number)
{
    uint64_t value;
    if (strlen(name) != NAME_BYTES || strcmp(name + 8, ".seg") != 0 ||
        !rv_parse_u64(rv_str_of(name, 8), &value) || value == 0) {
        return false;
    }
    *number = (uint32_t)value; /* eight digits */
    return true;
}

static rv_err open_folder(rv_segments *s)
{
    if (strlen(s->dir) + NAME_BYTES + 2 > sizeof(path)) {
        return rv_fail(RV_E_ARG, "%s: the path is too long", s->dir);
    }
    RV_TRY(rv_dir_make(s->dir));
    DIR *folder = opendir(s->dir);
    if (!folder) {
        return rv_fail(RV_E_IO, "%s: cannot read the folder: %s", s->dir, strerror(errno));
    }
    rv_err e = RV_OK;
    for (const struct dirent *entry; !e && (entry = readdir(folder));) {
        uint32_t number;
        if (parse_name(entry->d_name, &number)) {
            e = open_segment(s, number);
        }
    }
    closedir(folder);
    for (size_t i = s->n > 2 ? s->n - 2 : 0; i < s->n; i++) {
        s->at[i].unsynced = true; /* who wrote the last rows may have ended before a sync */
    }
    return e;
}

rv_err rv_segments_open(const rv_alloc *mem, const rv_segment_config *config, rv_segments **out)
{
    if (config->dim < 1 || config->dim > RV_SEGMENT_DIM_MAX || !config->embedder[0] ||
        strlen(config->embedder) > RV_SEGMENT_EMBEDDER_MAX) {
        return rv_fail(
            RV_E_ARG,
            "vectors: dimension %zu of embedder \"%s\", expected 1 .. %d and a name of 1 .. %d bytes",
            config->dim, config->embedder, RV_SEGMENT_DIM_MAX, RV_SEGMENT_EMBEDDER_MAX);
    }
    rv_segments *s = rv_new(mem, sizeof *s);
    if (!s) {
        return rv_fail(RV_E_NOMEM, "%s: opening", config->dir);
    }
    *s = (rv_segments){
        .mem = mem, .store = config->store, .dim = config->dim, .stride = stride_of(config->dim)
    };
    memcpy(s->embedder, config->embedder, strlen(config->embedder));
    size_t room = config->max_bytes ? config->max_bytes : default_bytes;
    size_t rows = room > HEADER_BYTES + s->stride ? (room - HEADER_BYTES) / s->stride : 1;
    s->capacity = rows > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)rows;
    s->dir = rv_strdup(mem, config->dir);
    s->buffer = rv_new_array(mem, BUFFER_ROWS, s->stride);
    rv_err e = s->dir && s->buffer ? open_folder(s) : rv_fail(RV_E_NOMEM, "%s: opening", config->dir);
    if (e) {
        rv_segments_close(s);
        return e;
    }
    *out = s;
    return RV_OK;
}

void rv_segments_close(rv_segments *s)
{
    if (!s) {
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        close_segment(&s->at[i]);
    }
    rv_free(s->mem, s->at);
    rv_free(s->mem, s->buffer);
    rv_free(s->mem, s->dir);
    rv_free(s->mem, s);
}

/* ---- rows ---- */

static rv_err fail_damaged(const rv_segments *s, uint32_t number, size_t offset, const char *what)
{
    return rv_fail(
        RV_E_CORRUPT,
        "%s: %s at byte %zu; the file is damaged, and its vectors are made again from the texts at the next "
        "start",
        path_of(s, number).at, what, offset);
}

rv_err rv_segments_get(rv_segments *s, rv_segment_row row, int64_t id, const float **out)
{
    segment *g = find(s, row.segment);
    if (!g) {
        s->highest = row.segment > s->highest ? row.segment : s->highest; /* the number is never used again */
        return rv_fail(RV_E_NOT_FOUND, "%s: is not there", path_of(s, row.segment).at);
    }
    if (!g->map) {
        return fail_damaged(s, row.segment, 0, "the header does not fit its checksum or this store");
    }
    size_t offset = row_offset(s, row.row);
    if (row.row >= g->capacity || offset + s->stride > g->n_bytes) {
        return fail_damaged(s, row.segment, g->n_bytes, "a row is missing");
    }
    const uint8_t *at = g->map + offset, *tail = at + s->dim * sizeof(float);
    if (take(tail, 8) != (uint64_t)id || take(tail + 8, 8) != row_sum(s, at, row.segment, row.row)) {
        return fail_damaged(s, row.segment, offset, "a row does not fit its checksum");
    }
    if (row.row >= g->n_rows) {
        g->n_rows = row.row + 1;
    }
    *out = (const float *)(const void *)at;
    return RV_OK;
}

uint64_t rv_segments_row_sum(const float *row, size_t dim)
{
    return take((const uint8_t *)(row + dim) + 8, 8);
}

/* Makes the file longer before it is needed: a sync of bytes inside a file is one write to the disk, a sync of a file that grew
 * is also an entry in the journal of the file system. Zeros are no row: their checksum does not fit. A disk without room for
 * them may still have room for the row. */
static void grow_file(const rv_segments *s, segment *g)
{
    static const uint8_t zeros[GROW_LEAST];
    size_t whole = row_offset(s, g->capacity), more = (size_t)g->n_bytes;
    more = more < GROW_LEAST ? GROW_LEAST : more > GROW_MOST ? GROW_MOST : more;
    more = more > whole - g->n_bytes ? whole - g->n_bytes : more;
    while (more > 0) {
        ssize_t n = pwrite(g->fd, zeros, more < sizeof zeros ? more : sizeof zeros, (off_t)g->n_bytes);
        if (n <= 0) {
            return;
        }
        g->n_bytes += (uint64_t)n;
        more -= (size_t)n;
    }
}

static rv_err write_rows(rv_segments *s, segment *g, const int64_t *ids, const float *vectors, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t *row = s->buffer + i * s->stride, *tail = row + s->dim * sizeof(float);
        memset(row, 0, s->stride);
        memcpy(row, vectors + i * s->dim, s->dim * sizeof(float));
        put(tail, (uint64_t)ids[i], 8);
        put(tail + 8, row_sum(s, row, g->number, g->n_rows + (uint32_t)i), 8);
    }
    size_t bytes = n * s->stride, done = 0;
    off_t offset = (off_t)row_offset(s, g->n_rows);
    if ((uint64_t)offset + bytes > g->n_bytes) {
        grow_file(s, g);
    }
    while (done < bytes) {
        ssize_t k = pwrite(g->fd, s->buffer + done, bytes - done, offset + (off_t)done);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            return fail_write(s, g->number, "cannot write");
        }
        done += (size_t)k;
    }
    if (g->n_bytes < (uint64_t)offset + bytes) {
        g->n_bytes = (uint64_t)offset + bytes;
    }
    return RV_OK;
}

/* The file the next row goes to: the last one, when it is whole and not full. */
static rv_err file_with_room(rv_segments *s, size_t *index)
{
    const segment *last = s->n ? &s->at[s->n - 1] : NULL;
    if (!last || !last->map || last->left || last->n_rows >= last->capacity || last->number != s->highest) {
        RV_TRY(make_segment(s));
    }
    *index = s->n - 1;
    return RV_OK;
}

static rv_err fail_stopped(const rv_segments *s)
{
    return rv_fail(RV_E_IO, "%s: the disk did not take what was written before; start ruvllm anew", s->dir);
}

rv_err rv_segments_append(rv_segments *s, const int64_t *ids, const float *vectors, size_t n,
                          rv_segment_row *rows)
{
    if (s->failed) {
        return fail_stopped(s);
    }
    size_t done = 0;
    while (done < n) {
        size_t index;
        RV_TRY(file_with_room(s, &index));
        segment *g = &s->at[index];
        uint32_t before = g->n_rows;
        rv_err e = RV_OK;
        while (!e && done < n && g->n_rows < g->capacity) {
            size_t part = n - done;
            part = part > BUFFER_ROWS ? BUFFER_ROWS : part;
            part = part > g->capacity - g->n_rows ? g->capacity - g->n_rows : part;
            e = write_rows(s, g, ids + done, vectors + done * s->dim, part);
            for (size_t i = 0; !e && i < part; i++) {
                rows[done++] = (rv_segment_row){ g->number, g->n_rows++ };
            }
        }
        if (e) {
            g->n_rows = before;
            return e;
        }
        g->unsynced = true;
        /* The disk begins while the caller goes on; a sync later waits for less. A mere hint: its result says nothing. */
        if (n > BUFFER_ROWS) {
            (void)sync_file_range(g->fd, (off_t)row_offset(s, before),
                                  (off_t)((g->n_rows - before) * s->stride), SYNC_FILE_RANGE_WRITE);
        }
    }
    return RV_OK;
}

rv_err rv_segments_sync(rv_segments *s)
{
    for (size_t i = 0; !s->failed && i < s->n; i++) {
        if (s->at[i].unsynced && fdatasync(s->at[i].fd) < 0) {
            s->failed = true;
            return fail_write(s, s->at[i].number, "cannot sync");
        }
        s->at[i].unsynced = false;
    }
    return s->failed ? fail_stopped(s) : RV_OK;
}

static bool is_zero(const uint8_t *at, size_t n)
{
    return n == 0 || (at[0] == 0 && memcmp(at, at + 1, n - 1) == 0);
}

/* named [n] are those of this file. */
static rv_err scrub_file(rv_segments *s, const segment *g, const rv_segment_row *named, size_t n,
                         size_t *erased)
{
    static const uint8_t zeros[RV_SEGMENT_DIM_MAX * sizeof(float) + 2 * ALIGN];
    size_t next = 0, before = *erased;
    for (uint32_t row = 0; row < g->capacity && row_offset(s, row) + s->stride <= g->n_bytes; row++) {
        while (next < n && named[next].row < row) {
            next++;
        }
        size_t offset = row_offset(s, row);
        if ((next < n && named[next].row == row) || is_zero(g->map + offset, s->stride)) {
            continue;
        }
        if (pwrite(g->fd, zeros, s->stride, (off_t)offset) != (ssize_t)s->stride) {
            return fail_write(s, g->number, "cannot erase a row");
        }
        ++*erased;
    }
    if (*erased > before && fdatasync(g->fd) < 0) { /* rows that were appended may be lost with the zeros */
        s->failed = true;
        return fail_write(s, g->number, "cannot sync");
    }
    return RV_OK;
}

/* How many of named [n] are rows of this file; those of files before it are skipped. */
static size_t named_in(const segment *g, const rv_segment_row **named, size_t *n)
{
    while (*n > 0 && (*named)->segment < g->number) {
        ++*named;
        --*n;
    }
    size_t count = 0;
    while (count < *n && (*named)[count].segment == g->number) {
        count++;
    }
    return count;
}

rv_err rv_segments_scrub(rv_segments *s, const rv_segment_row *named, size_t n, size_t *erased)
{
    *erased = 0;
    if (s->failed) {
        return fail_stopped(s);
    }
    for (size_t i = 0; i < s->n; i++) {
        const segment *g = &s->at[i];
        size_t count = named_in(g, &named, &n);
        if (g->map) {
            RV_TRY(scrub_file(s, g, named, count, erased));
        }
    }
    return RV_OK;
}

/* ---- files that have become sparse ---- */

/* Of the last file only what was written: the room behind it is used again. */
static size_t rows_of(const rv_segments *s, const segment *g)
{
    bool last = g == &s->at[s->n - 1];
    return last || g->n_bytes < HEADER_BYTES ? g->n_rows : (g->n_bytes - HEADER_BYTES) / s->stride;
}

size_t rv_segments_leave(rv_segments *s, const rv_segment_row *named, size_t n)
{
    size_t left = 0;
    for (size_t i = 0; i < s->n; i++) {
        segment *g = &s->at[i];
        size_t count = named_in(g, &named, &n), rows = g->map ? rows_of(s, g) : 0;
        size_t dead = rows > count ? rows - count : 0;
        g->left = g->left || (dead > 0 && 4 * dead >= rows);
        left += g->left ? count : 0;
    }
    return left;
}

bool rv_segments_is_left(const rv_segments *s, uint32_t number)
{
    const segment *g = find(s, number);
    return g && g->left;
}

static rv_err remove_file(const rv_segments *s, segment *g)
{
    path p = path_of(s, g->number);
    if (unlink(p.at) < 0) {
        return rv_fail(RV_E_IO, "%s: cannot be removed: %s", p.at, strerror(errno));
    }
    close(g->fd);
    g->fd = -1;
    g->n_rows = 0;
    g->n_bytes = 0;
    return RV_OK;
}

rv_err rv_segments_shed(rv_segments *s, const rv_segment_row *named, size_t n, size_t *removed)
{
    *removed = 0;
    RV_TRY(rv_segments_sync(s));
    for (size_t i = 0; i + 1 < s->n; i++) { /* the last one stays, and its number with it */
        segment *g = &s->at[i];
        if (named_in(g, &named, &n) == 0 && g->map && g->fd >= 0) {
            RV_TRY(remove_file(s, g));
            ++*removed;
        }
    }
    segment *last = s->n ? &s->at[s->n - 1] : NULL;
    uint64_t end = last && last->map ? row_offset(s, last->n_rows) : 0;
    if (end && last->n_bytes > end + GROW_LEAST) {
        if (ftruncate(last->fd, (off_t)end) < 0) {
            return fail_write(s, last->number, "cannot be cut");
        }
        last->n_bytes = end;
    }
    if (*removed && rv_dir_sync(s->dir)) {
        s->failed = true;
        return RV_E_IO; /* with the text of rv_dir_sync */
    }
    return RV_OK;
}

bool rv_segments_failed(const rv_segments *s)
{
    return s->failed;
}

void rv_segments_size(const rv_segments *s, uint64_t *rows, uint64_t *bytes)
{
    *rows = *bytes = 0;
    for (size_t i = 0; i < s->n; i++) {
        *rows += s->at[i].n_rows;
        *bytes += s->at[i].n_bytes;
    }
}

rv_err rv_segments_wipe(const rv_alloc *mem, const char *dir)
{
    DIR *folder = opendir(dir);
    if (!folder) {
        return errno == ENOENT ? RV_OK
                               : rv_fail(RV_E_IO, "%s: cannot read the folder: %s", dir, strerror(errno));
    }
    rv_err e = RV_OK;
    for (const struct dirent *entry; !e && (entry = readdir(folder));) {
        uint32_t number;
        if (!parse_name(entry->d_name, &number)) {
            continue;
        }
        char *file = rv_path_join(mem, dir, entry->d_name);
        if (!file) {
            e = rv_fail(RV_E_NOMEM, "%s: removing vector files", dir);
        } else if (unlink(file) < 0) {
            e = rv_fail(RV_E_IO, "%s: cannot be removed: %s", file, strerror(errno));
        }
        rv_free(mem, file);
    }
    closedir(folder);
    return e ? e : rv_dir_sync(dir);
}
