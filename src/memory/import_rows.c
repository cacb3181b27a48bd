/* Lines of JSON objects: {"text": ..., "type"?, "source"?, "user"?, "origin"?, "tags"?, "confidence"?, "created_ms"?, "metadata"?}. Other
 * keys are passed over, so that what an export or another program wrote can be read for its texts. A text that is there already (same
 * type and user) is not added again, which also makes the import of a file go on where it was cut short. The whole file is gone through twice:
 * when a line is refused, nothing of the file was added. */
#include "memory/import_priv.h"

#include <string.h>

enum { ROWS_MAX = 128, ASKED_BYTES = 4 << 20 };

typedef struct rows {
    importing *job;
    const char *path;
    json_t *objects[ROWS_MAX]; /* [n] what the nodes borrow from */
    size_t lines[ROWS_MAX];
    rv_memory_new nodes[ROWS_MAX];
    rv_memory_scope scopes[ROWS_MAX];
    const char *tags[ROWS_MAX][RV_MEMORY_TAGS_MAX];
    size_t n;
} rows;

/* A row is one line, so the line that JSON says is always its first: the file's is told. */
static rv_err at_line(const rows *r, size_t line, rv_err e)
{
    static const char first[] = "line 1 ";
    const char *why = rv_err_text();
    return e == RV_E_FORMAT && strncmp(why, first, strlen(first)) == 0
               ? rv_fail(e, "%s: line %zu %s", r->path, line, why + strlen(first))
               : rv_fail(e, "%s: line %zu: %s", r->path, line, why);
}

static rv_err read_tags(const rows *r, const json_t *o, const char **tags, size_t *n)
{
    json_t *list = NULL;
    RV_TRY(rv_json_get_array(o, "tags", &list));
    size_t own = json_array_size(list);
    if (own + r->job->n_tags > RV_MEMORY_TAGS_MAX) {
        return rv_fail(RV_E_ARG, "tags: %zu, expected at most %d", own + r->job->n_tags, RV_MEMORY_TAGS_MAX);
    }
    for (size_t i = 0; i < own; i++) {
        tags[i] = json_string_value(json_array_get(list, i));
        if (!tags[i] || strlen(tags[i]) != json_string_length(json_array_get(list, i))) {
            return rv_fail(RV_E_ARG, "tags: expected texts without zero bytes");
        }
    }
    for (size_t i = 0; i < r->job->n_tags; i++) {
        tags[own + i] = r->job->tags[i];
    }
    *n = own + r->job->n_tags;
    return RV_OK;
}

static rv_err read_row(const rows *r, const json_t *o, const char **tags, rv_memory_new *out,
                       rv_memory_scope *scope)
{
    rv_memory_new node = { .type = "note", .source = r->path, .tags = tags };
    json_t *metadata = NULL;
    if (!json_is_object(o)) {
        return rv_fail(RV_E_ARG, "expected an object {\"text\": ...}");
    }
    RV_TRY(rv_json_need_string(o, "text", &node.text, &node.text_bytes));
    RV_TRY(node.text_bytes ? RV_OK : rv_fail(RV_E_ARG, "text: expected a text, found an empty one"));
    RV_TRY(rv_json_get_string(o, "type", &node.type, NULL));
    RV_TRY(rv_json_get_string(o, "source", &node.source, NULL));
    const char *user = r->job->scope.user; /* said by the caller, it is whose all of it is */
    RV_TRY(*user ? RV_OK : rv_json_get_string(o, "user", &user, NULL));
    RV_TRY(rv_json_get_string(o, "origin", &node.origin, NULL));
    RV_TRY(rv_json_get_double(o, "confidence", 0, 1, &node.confidence));
    RV_TRY(rv_json_get_int(o, "created_ms", 0, INT64_MAX / 2, &node.created_ms));
    RV_TRY(rv_json_get_object(o, "metadata", &metadata));
    RV_TRY(read_tags(r, o, tags, &node.n_tags));
    node.metadata = metadata;
    *out = node;
    *scope = rv_memory_of(user);
    return RV_OK;
}

static rv_err write_rows(rows *r)
{
    rv_memory_added added[ROWS_MAX];
    size_t done = 0, n = r->n;
    rv_err e = n ? rv_memory_add_many(r->job->m, r->scopes, r->nodes, n, added, &done) : RV_OK;
    for (size_t i = 0; i < done; i++) {
        r->job->done->notes_added += added[i].added;
    }
    if (e) {
        e = at_line(r, r->lines[done], e);
    }
    for (size_t i = 0; i < n; i++) {
        json_decref(r->objects[i]);
    }
    r->n = 0;
    return e;
}

/* Parts of files come with their file. */
static bool is_part(const rv_memory_new *node)
{
    return strcmp(node->type, "document") == 0 || strcmp(node->type, "chunk") == 0;
}

/* All that an add would refuse, but for what the memory holds. */
static rv_err check_node(const rows *r, const rv_memory_new *node, rv_memory_scope scope)
{
    rv_text metadata;
    rv_text_init(&metadata, r->job->m->mem, RV_MEMORY_METADATA_BYTES);
    rv_err e = rv_memory_check_new(node, scope, node->text_bytes);
    if (!e && node->metadata) {
        rv_json_text(node->metadata, &metadata);
        e = rv_text_check(&metadata)
                ? rv_fail(RV_E_TOO_LARGE, "metadata: more than %d bytes", RV_MEMORY_METADATA_BYTES)
                : RV_OK;
    }
    rv_text_deinit(&metadata);
    return e;
}

static rv_err check_line(rows *r, const char *at, size_t n, size_t line)
{
    json_t *o = NULL;
    rv_memory_new node = { 0 };
    rv_memory_scope scope;
    rv_err e = rv_json_parse(at, n, &o);
    e = e ? e : read_row(r, o, r->tags[0], &node, &scope);
    e = e || is_part(&node) ? e : check_node(r, &node, scope);
    json_decref(o);
    return e ? at_line(r, line, e) : RV_OK;
}

static rv_err add_line(rows *r, const char *at, size_t n, size_t line)
{
    json_t *o = NULL;
    rv_err e = rv_json_parse(at, n, &o);
    e = e ? e : read_row(r, o, r->tags[r->n], &r->nodes[r->n], &r->scopes[r->n]);
    if (e || is_part(&r->nodes[r->n])) {
        json_decref(o);
        return e ? at_line(r, line, e) : RV_OK;
    }
    r->objects[r->n] = o;
    r->lines[r->n++] = line;
    return r->n == ROWS_MAX ? write_rows(r) : RV_OK;
}

/* The next line that is not empty; false: there is none. */
typedef struct line_reader {
    const char *bytes;
    size_t n, next, line;
} line_reader;

static bool next_line(line_reader *in, rv_str *out)
{
    while (in->next < in->n) {
        const char *at = in->bytes + in->next, *end = memchr(at, '\n', in->n - in->next);
        size_t length = end ? (size_t)(end - at) : in->n - in->next;
        in->next += length + (end != NULL);
        in->line++;
        *out = rv_str_of(at, length);
        if (rv_str_trim(*out).n > 0) {
            return true;
        }
    }
    return false;
}

static rv_err check_rows(rows *r, line_reader in)
{
    rv_str line;
    for (size_t asked = 0; next_line(&in, &line);) {
        RV_TRY(check_line(r, line.at, line.n, in.line));
        if (in.next - asked >= ASKED_BYTES) { /* nothing is done yet, but it can be stopped */
            asked = in.next;
            RV_TRY(rv_import_tell(r->job, r->path, 0));
        }
    }
    return RV_OK;
}

static rv_err add_rows(rows *r, line_reader in)
{
    rv_str line;
    while (next_line(&in, &line)) {
        RV_TRY(add_line(r, line.at, line.n, in.line));
        RV_TRY(r->n ? RV_OK : rv_import_tell(r->job, r->path, in.next));
    }
    return write_rows(r);
}

rv_err rv_import_rows(importing *job, const char *path, const char *bytes, size_t n)
{
    rows *r = rv_new(job->m->mem, sizeof *r);
    if (!r) {
        return rv_fail(RV_E_NOMEM, "%s: no memory to read it", path);
    }
    *r = (rows){ .job = job, .path = path };
    line_reader in = { bytes, n, 0, 0 };
    rv_err e = check_rows(r, in);
    e = e ? e : add_rows(r, in);
    for (size_t i = 0; i < r->n; i++) {
        json_decref(r->objects[i]);
    }
    rv_free(job->m->mem, r);
    return e;
}
