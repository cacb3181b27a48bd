/* Memories and sessions: the same verbs as the command line. */
#include "api/api_priv.h"
#include "base/clock.h"
#include "store/session.h"

#include <math.h>
#include <string.h>

enum {
    TAGS_MAX = 64,
    LIST_MAX = 1000,
    LIST_USUAL = 100,
    SEARCH_USUAL = 10,
    TTL_MAX_S = 2000000000,
    FORGET_MAX = 1024
};

/* ---- shapes ---- */

static void set_string(json_t *o, const char *name, const char *text)
{
    if (text && *text) {
        json_object_set_new(o, name, json_string(text));
    }
}

/* Fields that say nothing are left out; score and its parts only stand in what a search found. */
static json_t *node_json(const rv_memory_node *n, bool found)
{
    json_t *tags = json_array(), *metadata = NULL;
    for (size_t i = 0; i < n->n_tags; i++) {
        json_array_append_new(tags, json_string(n->tags[i]));
    }
    json_t *o =
        json_pack("{s:I, s:s, s:s, s:o, s:f, s:I}", "id", (json_int_t)n->id, "type", n->type, "text", n->text,
                  "tags", tags, "confidence", n->confidence, "created_ms", (json_int_t)n->created_ms);
    set_string(o, "source", n->source);
    set_string(o, "user", n->user);
    set_string(o, "origin", n->origin);
    if (n->length) {
        json_object_set_new(o, "offset", json_integer((json_int_t)n->offset));
        json_object_set_new(o, "length", json_integer((json_int_t)n->length));
    }
    if (n->corrected_by) {
        json_object_set_new(o, "corrected_by", json_integer(n->corrected_by));
    }
    if (n->pinned) {
        json_object_set_new(o, "pinned", json_true());
    }
    if (n->expires_ms) {
        json_object_set_new(o, "expires_ms", json_integer(n->expires_ms));
    }
    if (n->used) {
        json_object_set_new(o, "used", json_integer(n->used));
        json_object_set_new(o, "used_ms", json_integer(n->used_ms));
    }
    if (n->metadata && rv_json_parse(n->metadata, strlen(n->metadata), &metadata) == RV_OK) {
        json_object_set_new(o, "metadata", metadata);
    }
    if (found) {
        json_object_set_new(o, "score", json_real(n->score));
        set_string(o, "found_by", n->origin_side);
        if (!isnan(n->vector_score)) {
            json_object_set_new(o, "vector_score", json_real(n->vector_score));
        }
        if (!isnan(n->words_score)) {
            json_object_set_new(o, "words_score", json_real(n->words_score));
        }
    }
    return o;
}

static json_t *hits_json(const rv_memory_hits *hits, bool found)
{
    json_t *data = json_array();
    for (size_t i = 0; i < hits->n; i++) {
        json_array_append_new(data, node_json(&hits->at[i], found));
    }
    return data;
}

/* ---- reading ---- */

static bool has_memory(rv_api_call *call)
{
    if (call->pipeline->memory) {
        return true;
    }
    rv_api_refuse(call, 503, NULL, NULL, "this server has no memory open");
    return false;
}

#define FILTER_NAMES "type", "tag", "source", "user", "since_ms", "until_ms"

/* Who asks names a user, and sees that user's memories and everybody's. Who names none holds the key of the whole store. */
static rv_memory_scope scope_of(const char *user)
{
    return user ? rv_memory_of(user) : rv_memory_whole();
}

static rv_err filter_from_query(rv_api_call *call, rv_memory_filter *f, rv_memory_scope *scope)
{
    const char *user = NULL;
    RV_TRY(rv_api_query_string(call, "type", &f->type));
    RV_TRY(rv_api_query_string(call, "tag", &f->tag));
    RV_TRY(rv_api_query_string(call, "source", &f->source));
    RV_TRY(rv_api_query_string(call, "user", &user));
    *scope = scope_of(user);
    RV_TRY(rv_api_query_int(call, "since_ms", 0, INT64_MAX, &f->since_ms));
    return rv_api_query_int(call, "until_ms", 0, INT64_MAX, &f->until_ms);
}

static rv_err filter_from_body(const json_t *o, rv_memory_filter *f, rv_memory_scope *scope)
{
    const char *user = NULL;
    RV_TRY(rv_api_get_name(o, "type", &f->type));
    RV_TRY(rv_api_get_name(o, "tag", &f->tag));
    RV_TRY(rv_api_get_name(o, "source", &f->source));
    RV_TRY(rv_api_get_name(o, "user", &user));
    *scope = scope_of(user);
    RV_TRY(rv_json_get_int(o, "since_ms", 0, INT64_MAX, &f->since_ms));
    return rv_json_get_int(o, "until_ms", 0, INT64_MAX, &f->until_ms);
}

/* The number in the path, or 0 after having answered. */
static int64_t node_id(rv_api_call *call)
{
    int64_t id = 0;
    if (!rv_parse_i64(rv_str_from(call->id), &id) || id <= 0) {
        rv_api_refuse(call, 404, "id", NULL, "no memory has the id \"%.40s\"", call->id);
        return 0;
    }
    return id;
}

/* ---- memories ---- */

static rv_err read_tags(rv_api_call *call, rv_memory_new *node)
{
    json_t *tags = NULL;
    RV_TRY(rv_json_get_array(call->body, "tags", &tags));
    size_t n = json_array_size(tags);
    if (n > TAGS_MAX) {
        return rv_fail(RV_E_ARG, "tags: expected at most %d, found %zu", TAGS_MAX, n);
    }
    const char **list = rv_arena_take(call->arena, (n + 1) * sizeof *list);
    if (!list) {
        return rv_fail(RV_E_NOMEM, "reading tags");
    }
    for (size_t i = 0; i < n; i++) {
        list[i] = json_string_value(json_array_get(tags, i));
        if (!list[i]) {
            return rv_fail(RV_E_ARG, "tags[%zu]: expected a string", i);
        }
    }
    node->tags = list;
    node->n_tags = n;
    return RV_OK;
}

static rv_err read_new(rv_api_call *call, rv_memory_new *node, rv_memory_scope *scope)
{
    static const char *const fields[] = { "text",     "type",     "source", "user",   "tags",  "confidence",
                                          "metadata", "corrects", "parent", "pinned", "ttl_s", "as_is" };
    const json_t *o = call->body;
    int64_t ttl_s = 0;
    bool as_is = false;
    const char *user = NULL;
    json_t *metadata = NULL;
    node->type = "note";
    node->source = "user";
    RV_TRY(rv_api_only(o, fields, RV_COUNT(fields)));
    RV_TRY(rv_json_need_string(o, "text", &node->text, &node->text_bytes));
    RV_TRY(rv_api_get_name(o, "type", &node->type));
    RV_TRY(rv_api_get_name(o, "source", &node->source));
    RV_TRY(rv_api_get_name(o, "user", &user));
    *scope = rv_memory_of(user);
    RV_TRY(rv_json_get_double(o, "confidence", 0, 1, &node->confidence));
    RV_TRY(rv_json_get_object(o, "metadata", &metadata));
    RV_TRY(rv_json_get_int(o, "corrects", 1, INT64_MAX, &node->corrects));
    RV_TRY(rv_json_get_int(o, "parent", 1, INT64_MAX, &node->parent));
    RV_TRY(rv_json_get_bool(o, "pinned", &node->pinned));
    RV_TRY(rv_json_get_int(o, "ttl_s", 1, TTL_MAX_S, &ttl_s));
    RV_TRY(rv_json_get_bool(o, "as_is", &as_is));
    node->metadata = metadata;
    node->ttl_ms = 1000 * ttl_s;
    node->examined = !as_is;
    if (node->text_bytes ==
        0) { /* 0 would mean "until the zero" to the store, and an empty text is refused here by name */
        return rv_fail(RV_E_ARG, "text: expected a text, found an empty one");
    }
    if (strcmp(node->type, "note") != 0 && strcmp(node->type, "fact") != 0) {
        return rv_fail(RV_E_ARG,
                       "type: expected \"note\" or \"fact\"; the others are made by import and feedback");
    }
    return read_tags(call, node);
}

/* Four letters are three bytes; white space is not taken. */
static rv_err decode(rv_api_call *call, const char *at, size_t n, const char **out, size_t *n_out)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t pad = n >= 2 ? (size_t)(at[n - 1] == '=') + (at[n - 1] == '=' && at[n - 2] == '=') : 0, made = 0;
    char *bytes = n % 4 == 0 ? rv_arena_take(call->arena, n / 4 * 3 + 1) : NULL;
    uint32_t bits = 0;
    for (size_t i = 0; bytes && i < n; i++) {
        const char *letter = i < n - pad ? memchr(letters, at[i], 64) : letters;
        if (!letter) {
            bytes = NULL;
            break;
        }
        bits = bits << 6 | (uint32_t)(letter - letters);
        if (i % 4 == 3) {
            for (int k = 2; k >= 0; k--) {
                bytes[made++] = (char)(bits >> 8 * k);
            }
        }
    }
    if (!bytes) {
        return rv_fail(RV_E_ARG, "base64: expected letters of the standard alphabet, with padding");
    }
    *out = bytes;
    *n_out = made - pad;
    return RV_OK;
}

void rv_api_memory_add(rv_api_call *call)
{
    rv_memory_new node = { 0 };
    rv_memory_scope scope = { 0 };
    rv_memory_added a = { 0 };
    size_t done = 0;
    if (!has_memory(call)) {
        return;
    }
    rv_err e = read_new(call, &node, &scope);
    if (!e) {
        e = rv_memory_add_many(call->pipeline->memory, &scope, &node, 1, &a, &done);
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    json_t *o =
        json_pack("{s:I, s:b, s:s}", "id", (json_int_t)a.id, "added", (int)a.added, "memory", "durable");
    if (a.near) {
        json_object_set_new(o, "near", json_true());
    }
    if (a.corrects) {
        json_object_set_new(o, "corrects", json_integer(a.corrects));
    }
    if (a.odd && *a.odd) {
        json_object_set_new(o, "odd", json_string(a.odd));
    }
    rv_api_send(call, a.added ? 201 : 200, o);
}

/* What is said of the file is about the field that holds it. */
static void import_failed(rv_api_call *call, rv_err e, const char *name, const char *field)
{
    const char *text = rv_err_text();
    size_t n = name ? strlen(name) : 0;
    if (rv_err_http(e) < 500 && n > 0 && strncmp(text, name, n) == 0 && text[n] == ':') {
        rv_api_refuse(call, rv_err_http(e), field, NULL, "%s", text);
    } else {
        rv_api_fail(call, e);
    }
}

/* One file in the body: {"name", "text"} or {"name", "base64"}, and whose, and tags. */
void rv_api_memory_import(rv_api_call *call)
{
    static const char *const fields[] = { "name", "text", "base64", "user", "tags" };
    const char *name = NULL, *text = NULL, *base64 = NULL, *user = NULL;
    size_t n = 0, n_base64 = 0;
    rv_memory_new tagged = { 0 };
    rv_memory_import done = { 0 };
    if (!has_memory(call)) {
        return;
    }
    rv_err e = rv_api_only(call->body, fields, RV_COUNT(fields));
    e = e ? e : rv_json_need_string(call->body, "name", &name, NULL);
    e = e ? e : rv_json_get_string(call->body, "text", &text, &n);
    e = e ? e : rv_json_get_string(call->body, "base64", &base64, &n_base64);
    e = e ? e : rv_api_get_name(call->body, "user", &user);
    e = e ? e : read_tags(call, &tagged);
    if (!e && !text == !base64) {
        e = rv_fail(RV_E_ARG, "text: expected either text or base64");
    }
    if (!e && base64) {
        e = decode(call, base64, n_base64, &text, &n);
    }
    e = e ? e
          : rv_memory_import_bytes(call->pipeline->memory, rv_memory_of(user), name, text, n, tagged.tags,
                                   tagged.n_tags, &done);
    if (e) {
        import_failed(call, e, name, base64 ? "base64" : "text");
        return;
    }
    rv_api_send(call, 200,
                json_pack("{s:b, s:I, s:I, s:I}", "unchanged", (int)(done.unchanged > 0), "chunks_added",
                          (json_int_t)done.chunks_added, "chunks_removed", (json_int_t)done.chunks_removed,
                          "notes_added", (json_int_t)done.notes_added));
}

static json_t *edge_json(const rv_memory_edge *e)
{
    return json_pack("{s:I, s:I, s:s, s:f}", "from", (json_int_t)e->from, "to", (json_int_t)e->to, "type",
                     e->type, "weight", e->weight);
}

/* A node of the scope with its edges to others of it. */
static void answer_node(rv_api_call *call, int64_t id, rv_memory_scope scope)
{
    rv_memory_node node;
    rv_memory_edge *edges = NULL;
    size_t n = 0;
    rv_err e = rv_memory_get(call->pipeline->memory, scope, id, call->arena, &node);
    if (!e) {
        e = rv_memory_neighbours(call->pipeline->memory, scope, id, call->arena, &edges, &n);
    }
    if (e == RV_E_NOT_FOUND) {
        rv_api_refuse(call, 404, "id", NULL, "no memory has the id %lld", (long long)id);
        return;
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    json_t *o = node_json(&node, false), *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, edge_json(&edges[i]));
    }
    json_object_set_new(o, "edges", list);
    rv_api_send(call, 200, o);
}

/* {"pinned"?, "ttl_s"?: seconds from now, 0 never} */
void rv_api_memory_keep(rv_api_call *call)
{
    static const char *const fields[] = { "pinned", "ttl_s", "user" };
    const char *user = NULL;
    bool pinned = false;
    int64_t ttl_s = -1, ends = 0;
    int64_t id = has_memory(call) ? node_id(call) : 0;
    if (!id) {
        return;
    }
    const json_t *pin = json_object_get(call->body, "pinned");
    bool pins = pin && !json_is_null(pin);
    rv_err e = rv_api_only(call->body, fields, RV_COUNT(fields));
    e = e ? e : rv_json_get_bool(call->body, "pinned", &pinned);
    e = e ? e : rv_json_get_int(call->body, "ttl_s", 0, TTL_MAX_S, &ttl_s);
    e = e ? e : rv_api_get_name(call->body, "user", &user);
    if (!e && ttl_s < 0 && !pins) {
        e = rv_fail(RV_E_ARG, "pinned: expected pinned or ttl_s");
    }
    ends = ttl_s > 0 ? rv_clock_wall_ms() + 1000 * ttl_s : 0;
    e = e ? e
          : rv_memory_keep(call->pipeline->memory, scope_of(user), id, pins ? &pinned : NULL,
                           ttl_s >= 0 ? &ends : NULL);
    if (e == RV_E_NOT_FOUND) {
        rv_api_refuse(call, 404, "id", NULL, "no memory has the id %lld", (long long)id);
    } else if (e) {
        rv_api_fail(call, e);
    } else {
        answer_node(call, id, scope_of(user));
    }
}

void rv_api_memory_list(rv_api_call *call)
{
    static const char *const names[] = { FILTER_NAMES, "limit", "after" };
    rv_memory_filter filter = { 0 };
    rv_memory_scope scope = { 0 };
    rv_memory_hits hits = { 0 };
    int64_t limit = LIST_USUAL, after = 0;
    if (!has_memory(call)) {
        return;
    }
    rv_err e = rv_api_query_only(call, names, RV_COUNT(names));
    if (!e) {
        e = filter_from_query(call, &filter, &scope);
    }
    if (!e) {
        e = rv_api_query_int(call, "limit", 1, LIST_MAX, &limit);
    }
    if (!e) {
        e = rv_api_query_int(call, "after", 0, INT64_MAX, &after);
    }
    if (!e) {
        e = rv_memory_list(call->pipeline->memory, scope, &filter, (size_t)limit, after, call->arena, &hits);
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    bool full = hits.n == (size_t)limit; /* there may be more: ask again with after=next */
    json_t *next = full ? json_integer(hits.at[hits.n - 1].id) : json_null();
    rv_api_send(
        call, 200,
        json_pack("{s:s, s:o, s:o}", "object", "list", "data", hits_json(&hits, false), "next", next));
}

static rv_err read_search(rv_api_call *call, rv_memory_query *q, rv_memory_scope *scope, bool *explain)
{
    static const char *const fields[] = { "query",  "k",      "mode",     "type",     "tag",
                                          "source", "user",   "since_ms", "until_ms", "with_corrected",
                                          "recall", "explain" };
    static const char *const names[] = { FILTER_NAMES,     "query",  "k",      "mode",
                                         "with_corrected", "recall", "explain" };
    int64_t k = SEARCH_USUAL;
    const char *mode = "graph";
    if (call->body) {
        RV_TRY(rv_api_only(call->body, fields, RV_COUNT(fields)));
        RV_TRY(rv_json_need_string(call->body, "query", &q->text, &q->text_bytes));
        RV_TRY(rv_json_get_int(call->body, "k", 1, LIST_MAX, &k));
        RV_TRY(rv_json_get_string(call->body, "mode", &mode, NULL));
        RV_TRY(rv_json_get_bool(call->body, "with_corrected", &q->with_corrected));
        RV_TRY(rv_json_get_double(call->body, "recall", 0.5, 1, &q->recall));
        RV_TRY(rv_json_get_bool(call->body, "explain", explain));
        RV_TRY(filter_from_body(call->body, &q->filter, scope));
    } else {
        RV_TRY(rv_api_query_only(call, names, RV_COUNT(names)));
        RV_TRY(rv_api_query_string(call, "query", &q->text));
        RV_TRY(rv_api_query_int(call, "k", 1, LIST_MAX, &k));
        RV_TRY(rv_api_query_string(call, "mode", &mode));
        const char *recall = NULL;
        RV_TRY(rv_api_query_string(call, "recall", &recall));
        if (recall &&
            !(rv_parse_f64(rv_str_from(recall), &q->recall) && q->recall >= 0.5 && q->recall <= 1)) {
            return rv_fail(RV_E_ARG, "recall: expected a number from 0.5 to 1, found \"%s\"", recall);
        }
        RV_TRY(rv_api_query_bool(call, "with_corrected", &q->with_corrected));
        RV_TRY(rv_api_query_bool(call, "explain", explain));
        RV_TRY(filter_from_query(call, &q->filter, scope));
        q->text_bytes = q->text ? strlen(q->text) : 0;
    }
    if (q->text_bytes == 0) {
        return rv_fail(RV_E_ARG, "query: expected a text to search for");
    }
    q->k = (size_t)k;
    return rv_memory_mode_of(mode, &q->mode);
}

void rv_api_memory_search(rv_api_call *call)
{
    rv_memory_query q = { 0 };
    rv_memory_scope scope = { 0 };
    rv_memory_hits hits = { 0 };
    if (!has_memory(call)) {
        return;
    }
    bool explain = false;
    rv_err e = read_search(call, &q, &scope, &explain);
    if (!e) {
        e = rv_memory_search(call->pipeline->memory, scope, &q, call->arena, &hits);
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    json_t *found = json_pack("{s:s, s:o}", "object", "list", "data", hits_json(&hits, true));
    if (explain) {
        json_object_set_new(found, "plan", rv_memory_plan_json(&hits.plan));
    }
    rv_api_send(call, 200, found);
}

void rv_api_memory_get(rv_api_call *call)
{
    static const char *const names[] = { "user" };
    const char *user = NULL;
    int64_t id = has_memory(call) ? node_id(call) : 0;
    if (!id) {
        return;
    }
    rv_err e = rv_api_query_only(call, names, RV_COUNT(names));
    e = e ? e : rv_api_query_string(call, "user", &user);
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    answer_node(call, id, scope_of(user));
}

/* A node and what is around it, each with the edge it was reached by. */
void rv_api_memory_around(rv_api_call *call)
{
    static const char *const names[] = { FILTER_NAMES, "id", "hops", "limit" };
    rv_memory_filter filter = { 0 };
    rv_memory_scope scope = { 0 };
    rv_memory_node start = { .score = 1 };
    int64_t hops = 2, limit = LIST_USUAL;
    if (!has_memory(call)) {
        return;
    }
    rv_memory_subgraph g = { 0 };
    rv_err e = rv_api_query_only(call, names, RV_COUNT(names));
    e = e ? e : filter_from_query(call, &filter, &scope);
    e = e ? e : rv_api_query_int(call, "id", 1, INT64_MAX, &start.id);
    e = e ? e : rv_api_query_int(call, "hops", 0, 8, &hops);
    e = e ? e : rv_api_query_int(call, "limit", 1, 512, &limit);
    if (!e && start.id == 0) {
        e = rv_fail(RV_E_ARG, "id: expected the node to begin with");
    }
    if (!e) {
        e = rv_memory_subgraph_of(call->pipeline->memory, scope, &(rv_memory_hits){ .at = &start, .n = 1 },
                                  &filter, (rv_memory_bounds){ (unsigned)hops, (size_t)limit, 64 },
                                  call->arena, &g);
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < g.n; i++) {
        const rv_memory_subnode *n = &g.at[i];
        json_t *o = node_json(&n->node, false);
        json_object_set_new(o, "hop", json_integer((json_int_t)n->hop));
        if (n->hop > 0) {
            int64_t from = g.at[n->parent].node.id;
            rv_memory_edge edge = { n->against ? n->node.id : from, n->against ? from : n->node.id, n->edge,
                                    n->weight };
            json_object_set_new(o, "edge", edge_json(&edge));
        }
        json_array_append_new(data, o);
    }
    rv_api_send(call, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

void rv_api_memory_path(rv_api_call *call)
{
    static const char *const names[] = { "from", "to", "hops", "user" };
    const char *user = NULL;
    int64_t from = 0, to = 0, hops = 6;
    rv_memory_edge *edges = NULL;
    size_t n = 0;
    if (!has_memory(call)) {
        return;
    }
    rv_err e = rv_api_query_only(call, names, RV_COUNT(names));
    e = e ? e : rv_api_query_int(call, "from", 1, INT64_MAX, &from);
    e = e ? e : rv_api_query_int(call, "to", 1, INT64_MAX, &to);
    e = e ? e : rv_api_query_int(call, "hops", 1, 16, &hops);
    e = e ? e : rv_api_query_string(call, "user", &user);
    if (!e && (from == 0 || to == 0)) {
        e = rv_fail(RV_E_ARG, "from, to: expected two nodes");
    }
    if (!e) {
        e = rv_memory_path(call->pipeline->memory, scope_of(user), from, to, (unsigned)hops, call->arena,
                           &edges, &n);
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(data, edge_json(&edges[i]));
    }
    rv_api_send(call, 200,
                json_pack("{s:s, s:b, s:o}", "object", "list", "found", n > 0 || from == to, "data", data));
}

/* With an id that one; without, everything the filter names. A filter that names nothing is refused, never "all". */
void rv_api_memory_rm(rv_api_call *call)
{
    static const char *const names[] = { FILTER_NAMES };
    rv_memory_filter filter = { 0 };
    rv_memory_scope scope = rv_memory_whole();
    size_t removed = 0;
    int64_t id = 0;
    rv_err e = RV_OK;
    if (!has_memory(call)) {
        return;
    }
    if (call->id) {
        id = node_id(call);
        if (!id) {
            return;
        }
    }
    e = rv_api_query_only(call, names, RV_COUNT(names));
    e = e ? e : filter_from_query(call, &filter, &scope);
    if (!e && !id && !filter.type && !filter.tag && !filter.source && scope.whose == RV_SCOPE_WHOLE &&
        !filter.since_ms && !filter.until_ms) {
        e = rv_fail(
            RV_E_ARG,
            "say what to remove: an id in the path, or type, tag, source, user, since_ms or until_ms");
    }
    if (!e) {
        e = rv_memory_rm(call->pipeline->memory, scope, id, &filter, &removed);
    }
    if (e == RV_E_NOT_FOUND || (!e && id && removed == 0)) {
        rv_api_refuse(call, 404, "id", NULL, "no memory has the id %lld", (long long)id);
    } else if (e) {
        rv_api_fail(call, e);
    } else {
        rv_api_send(call, 200, json_pack("{s:I}", "removed", (json_int_t)removed));
    }
}

/* Memories or a user with all that was made of them (learn/forget.h). */
void rv_api_forget(rv_api_call *call)
{
    static const char *const names[] = { "user", "ids" };
    const rv_pipeline *p = call->pipeline;
    json_t *list = NULL;
    const char *user = NULL;
    rv_forgotten done;
    if (!p->forget) {
        rv_api_refuse(call, 503, NULL, NULL, "this server has no memory open");
        return;
    }
    rv_err e = rv_api_only(call->body, names, RV_COUNT(names));
    e = e ? e : rv_api_get_name(call->body, "user", &user);
    e = e ? e : rv_json_get_array(call->body, "ids", &list);
    size_t n = json_array_size(list);
    if (!e && list && (n == 0 || n > FORGET_MAX)) {
        e = rv_fail(RV_E_ARG, "ids: expected an array of 1 to %d ids, found %zu", FORGET_MAX, n);
    }
    int64_t *ids = e ? NULL : rv_arena_take(call->arena, (n + 1) * sizeof *ids);
    e = !e && !ids ? rv_fail(RV_E_NOMEM, "forgetting") : e;
    for (size_t i = 0; !e && i < n; i++) {
        ids[i] = json_integer_value(json_array_get(list, i));
        e = ids[i] > 0 ? RV_OK : rv_fail(RV_E_ARG, "ids: the %zuth is no id", i + 1);
    }
    e = e ? e : p->forget(p->forget_self, user, ids, n, &done);
    if (e == RV_E_NOT_FOUND) {
        rv_api_refuse(call, 404, user ? "user" : "ids", NULL, "%s", rv_err_text());
    } else if (e == RV_E_ARG) {
        rv_api_fail(call, e);
    } else if (e) {
        rv_api_fault(call, e,
                     "forgetting is not finished; the next request for it, or the next start, goes on");
    } else {
        rv_api_send(call, 200, rv_forgotten_json(&done));
    }
}

/* ---- sessions ---- */

static const char *const session_names[] = { "user", "limit" };

static bool session_id_good(rv_api_call *call)
{
    if (rv_session_check_id(call->id, strlen(call->id)) == RV_OK) {
        return true;
    }
    rv_api_refuse(call, 404, "id", NULL, "no session has this id");
    return false;
}

static bool has_db(rv_api_call *call)
{
    if (call->pipeline->db) {
        return true;
    }
    rv_api_refuse(call, 503, NULL, NULL, "this server has no database open");
    return false;
}

void rv_api_session_list(rv_api_call *call)
{
    const char *user = NULL;
    int64_t limit = LIST_USUAL;
    rv_session_info *sessions = NULL;
    size_t n = 0;
    if (!has_db(call)) {
        return;
    }
    rv_err e = rv_api_query_only(call, session_names, RV_COUNT(session_names));
    if (!e) {
        e = rv_api_query_string(call, "user", &user);
    }
    if (!e) {
        e = rv_api_query_int(call, "limit", 1, LIST_MAX, &limit);
    }
    if (!e) {
        e = rv_session_list(call->pipeline->db, user, (size_t)limit, call->arena, &sessions, &n);
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(data, json_pack("{s:s, s:I, s:I, s:I}", "id", sessions[i].id, "turns",
                                              (json_int_t)sessions[i].turns, "created_ms",
                                              (json_int_t)sessions[i].created_ms, "last_ms",
                                              (json_int_t)sessions[i].last_ms));
    }
    rv_api_send(call, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

void rv_api_session_get(rv_api_call *call)
{
    const char *user = NULL;
    int64_t limit = LIST_USUAL;
    rv_turn *turns = NULL;
    size_t n = 0;
    if (!has_db(call) || !session_id_good(call)) {
        return;
    }
    rv_err e = rv_api_query_only(call, session_names, RV_COUNT(session_names));
    if (!e) {
        e = rv_api_query_string(call, "user", &user);
    }
    if (!e) {
        e = rv_api_query_int(call, "limit", 1, LIST_MAX, &limit);
    }
    if (!e) {
        e = rv_session_recent(call->pipeline->db, call->id, user, (size_t)limit, call->arena, &turns, &n);
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    if (n == 0) {
        rv_api_refuse(call, 404, "id", NULL, "no session has this id");
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I}", "request_id", turns[i].request_id,
                                              "question", turns[i].question, "answer", turns[i].answer,
                                              "created_ms", (json_int_t)turns[i].created_ms));
    }
    rv_api_send(call, 200, json_pack("{s:s, s:o}", "id", call->id, "turns", list));
}

void rv_api_session_rm(rv_api_call *call)
{
    const char *user = NULL;
    size_t removed = 0;
    if (!has_db(call) || !session_id_good(call)) {
        return;
    }
    rv_err e = rv_api_query_only(call, session_names, RV_COUNT(session_names));
    if (!e) {
        e = rv_api_query_string(call, "user", &user);
    }
    if (!e) {
        e = rv_session_rm(call->pipeline->db, call->id, user, &removed);
    }
    if (e == RV_E_NOT_FOUND || (!e && removed == 0)) {
        rv_api_refuse(call, 404, "id", NULL, "no session has this id");
    } else if (e) {
        rv_api_fail(call, e);
    } else {
        rv_api_send(call, 200, json_pack("{s:I}", "removed", (json_int_t)removed));
    }
}
