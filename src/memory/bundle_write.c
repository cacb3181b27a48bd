/* Parts are written under names that nobody reads, renamed to what they contain when they are on the disk, and count once the head names
 * them. One writer at a time holds the folder, so what else lies there was left by one that was killed, and goes. */
#include "memory/bundle_priv.h"
#include "base/file.h"
#include "base/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 64 << 10 };

struct rv_bundle_writer {
    const rv_alloc *mem;
    char *dir;
    int folder; /* locked */
    struct part {
        int fd;       /* -1: not open */
        char *buffer; /* [n_buffer] of BUFFER_BYTES: what is not written yet */
        size_t n_buffer;
        char *path; /* of what is being written; NULL once renamed */
        EVP_MD_CTX *hash;
        uint64_t bytes;
        unsigned char digest[RV_BUNDLE_HASH];
        char name[RV_BUNDLE_NAME];
    } parts[RV_BUNDLE_PARTS];
};

static rv_err write_failed(const struct part *p)
{
    return rv_fail(errno == ENOSPC || errno == EDQUOT ? RV_E_NO_SPACE : RV_E_IO, "%s: %s", p->path,
                   strerror(errno));
}

static rv_err open_part(rv_bundle_writer *w, rv_bundle_part p)
{
    char name[RV_BUNDLE_NAME];
    struct part *part = &w->parts[p];
    snprintf(name, sizeof name, ".%s.new", rv_bundle_parts[p].name);
    part->path = rv_path_join(w->mem, w->dir, name);
    part->hash = rv_shake_begin();
    part->buffer = rv_new(w->mem, BUFFER_BYTES);
    if (!part->path || !part->hash || !part->buffer) {
        return rv_fail(RV_E_NOMEM, "%s: no memory to write a bundle", w->dir);
    }
    part->fd = open(part->path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    return part->fd >= 0 ? RV_OK : write_failed(part);
}

rv_err rv_bundle_create(const rv_alloc *mem, const char *dir, rv_bundle_writer **out)
{
    RV_TRY(rv_dir_make(dir));
    rv_bundle_writer *w = rv_new(mem, sizeof *w);
    if (!w) {
        return rv_fail(RV_E_NOMEM, "%s: no memory to write a bundle", dir);
    }
    *w = (rv_bundle_writer){ .mem = mem,
                             .dir = rv_strdup(mem, dir),
                             .folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
    for (int p = 0; p < RV_BUNDLE_PARTS; p++) {
        w->parts[p].fd = -1;
    }
    rv_err e = w->dir ? RV_OK : rv_fail(RV_E_NOMEM, "%s: no memory to write a bundle", dir);
    if (!e && w->folder < 0) {
        e = rv_fail(RV_E_IO, "%s: %s", dir, strerror(errno));
    } else if (!e && flock(w->folder, LOCK_EX | LOCK_NB) != 0) {
        e = rv_fail(RV_E_BUSY, "%s: a bundle is being published there by another process", dir);
    }
    for (int p = 0; !e && p < RV_BUNDLE_PARTS; p++) {
        e = open_part(w, (rv_bundle_part)p);
    }
    if (e) {
        rv_bundle_writer_free(w);
        return e;
    }
    *out = w;
    return RV_OK;
}

static rv_err write_buffer(struct part *p)
{
    size_t n = p->n_buffer;
    p->n_buffer = 0;
    return rv_fd_write(p->path, p->fd, p->buffer, n);
}

rv_err rv_bundle_write(rv_bundle_writer *w, rv_bundle_part part, const void *bytes, size_t n)
{
    struct part *p = &w->parts[part];
    if (n == 0) {
        return RV_OK;
    }
    EVP_DigestUpdate(p->hash, bytes, n);
    p->bytes += n;
    if (n > BUFFER_BYTES - p->n_buffer) {
        RV_TRY(write_buffer(p));
    }
    if (n > BUFFER_BYTES) {
        return rv_fd_write(p->path, p->fd, bytes, n);
    }
    memcpy(p->buffer + p->n_buffer, bytes, n);
    p->n_buffer += n;
    return RV_OK;
}

/* On the disk, and under the name of what it contains. */
static rv_err finish_part(rv_bundle_writer *w, rv_bundle_part which)
{
    struct part *p = &w->parts[which];
    EVP_MD_CTX *hash = p->hash;
    p->hash = NULL;
    RV_TRY(rv_shake_end(hash, p->digest));
    RV_TRY(write_buffer(p));
    if (fsync(p->fd) != 0) {
        return write_failed(p);
    }
    int fd = p->fd;
    p->fd = -1;
    if (close(fd) != 0) {
        return write_failed(p);
    }
    char hex[RV_BUNDLE_HEX + 1];
    rv_hex(p->digest, RV_BUNDLE_HASH, hex);
    snprintf(p->name, sizeof p->name, "%s-%.*s.%s", rv_bundle_parts[which].name, RV_BUNDLE_SHORT, hex,
             rv_bundle_parts[which].end);
    char *to = rv_path_join(w->mem, w->dir, p->name);
    if (!to) {
        return rv_fail(RV_E_NOMEM, "%s: no memory to write a bundle", w->dir);
    }
    rv_err e = rename(p->path, to) == 0 ? RV_OK : write_failed(p);
    rv_free(w->mem, to);
    if (!e) {
        rv_free(w->mem, p->path);
        p->path = NULL;
    }
    return e;
}

static rv_err head_text(const rv_bundle_writer *w, const rv_bundle_head *h, const char *content_hash,
                        const char *witness, rv_text *out)
{
    json_t *files = json_object();
    for (int p = 0; p < RV_BUNDLE_PARTS; p++) {
        json_object_set_new(
            files, rv_bundle_parts[p].name,
            json_pack("{s:s, s:I}", "name", w->parts[p].name, "bytes", (json_int_t)w->parts[p].bytes));
    }
    json_t *o = json_pack(
        "{s:i, s:s, s:I, s:i, s:i, s:I, s:s, s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o}",
        "format_version", RV_BUNDLE_VERSION, "data_ref", h->data_ref, "dim", (json_int_t)h->dim,
        "rotation_seed", 0, "rerank_factor", RV_BUNDLE_RERANK, "generation", (json_int_t)h->generation,
        "rvf_witness", witness, "content_hash", content_hash, "rotation_kind", "none", "bits", 32, "metric",
        "cosine", "space", h->space, "n", (json_int_t)h->n_nodes, "vectors", (json_int_t)h->n_vectors,
        "edges", (json_int_t)h->n_edges, "next_id", (json_int_t)h->next_id, "created_ms",
        (json_int_t)h->created_ms, "files", files);
    if (!o) {
        return rv_fail(RV_E_ARG, "%s: a name in the bundle is not UTF-8", w->dir);
    }
    const struct {
        const char *name, *text;
    } optional[] = { { "pii_policy", h->pii_policy },
                     { "lineage_id", h->lineage_id },
                     { "memory_class", h->memory_class } };
    for (size_t i = 0; i < RV_COUNT(optional); i++) {
        if (optional[i].text && *optional[i].text) {
            json_object_set_new(o, optional[i].name, json_string(optional[i].text));
        }
    }
    rv_json_text(o, out);
    json_decref(o);
    rv_text_addc(out, '\n');
    return rv_text_check(out);
}

/* Whatever looks like a part, or like a head that was never put in place, and is not named now. */
static void remove_others(const rv_bundle_writer *w)
{
    DIR *dir = opendir(w->dir);
    for (const struct dirent *at; dir && (at = readdir(dir));) {
        bool stale = strncmp(at->d_name, RV_BUNDLE_FILE ".", sizeof RV_BUNDLE_FILE) == 0, named = false;
        for (int p = 0; p < RV_BUNDLE_PARTS; p++) {
            stale |= rv_bundle_good_name((rv_bundle_part)p, at->d_name);
            named |= strcmp(at->d_name, w->parts[p].name) == 0;
        }
        if (stale && !named) {
            unlinkat(w->folder, at->d_name, 0); /* what stays behind goes next time */
        }
    }
    if (dir) {
        closedir(dir);
    }
}

rv_err rv_bundle_publish(rv_bundle_writer *w, rv_bundle_head *head, char witness[RV_BUNDLE_HEX + 1])
{
    char content_hash[RV_BUNDLE_HEX + 1], own[RV_BUNDLE_HEX + 1];
    uint64_t bytes[RV_BUNDLE_PARTS];
    unsigned char digests[RV_BUNDLE_PARTS][RV_BUNDLE_HASH];
    for (int p = 0; p < RV_BUNDLE_PARTS; p++) {
        RV_TRY(finish_part(w, (rv_bundle_part)p));
        bytes[p] = w->parts[p].bytes;
        memcpy(digests[p], w->parts[p].digest, RV_BUNDLE_HASH);
    }
    RV_TRY(rv_dir_sync(w->dir));
    RV_TRY(rv_bundle_content_hash(bytes, digests, content_hash));
    RV_TRY(rv_bundle_generation(w->mem, w->dir, &head->generation));
    head->generation++;
    RV_TRY(rv_bundle_witness_of(head, content_hash, own));
    rv_text text;
    rv_text_init(&text, w->mem, RV_BUNDLE_JSON_BYTES);
    char *path = rv_path_join(w->mem, w->dir, RV_BUNDLE_FILE);
    rv_err e = path ? head_text(w, head, content_hash, own, &text)
                    : rv_fail(RV_E_NOMEM, "%s: no memory to write a bundle", w->dir);
    e = e ? e : rv_file_replace(path, rv_text_get(&text), text.n);
    rv_free(w->mem, path);
    rv_text_deinit(&text);
    if (!e) {
        memcpy(witness, own, sizeof own);
        remove_others(w);
    }
    return e;
}

void rv_bundle_writer_free(rv_bundle_writer *w)
{
    if (!w) {
        return;
    }
    for (int p = 0; p < RV_BUNDLE_PARTS; p++) {
        struct part *part = &w->parts[p];
        if (part->fd >= 0) {
            close(part->fd);
        }
        if (part->path) { /* ours, because the lock is */
            unlink(part->path);
        }
        rv_free(w->mem, part->path);
        rv_free(w->mem, part->buffer);
        EVP_MD_CTX_free(part->hash);
    }
    if (w->folder >= 0) {
        close(w->folder);
    }
    rv_free(w->mem, w->dir);
    rv_free(w->mem, w);
}
