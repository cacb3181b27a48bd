/* A sequence as the list of its parts: to write it down, to read it back, and to see that all of them keep to the rules. */
#include "kv/kv_priv.h"

#include <assert.h>

/* ---- writing down, reading back ---- */

void rv_kv_outline_get(const rv_kv_seq *seq, rv_kv_outline *out)
{
    assert(seq->n_dropped == seq->n_filled);
    *out = (rv_kv_outline){ .n_tokens = seq->n_tokens, .n_blocks = seq->n_filled, .n_marks = seq->n_marks };
    for (size_t i = 0; i < seq->n_marks; i++) {
        out->marks[i] = seq->marks[i].n_tokens;
    }
}

static uint64_t mix(uint64_t hash, uint64_t x)
{
    for (int i = 0; i < 8; i++) { /* FNV-1a */
        hash = (hash ^ (x >> 8 * i & 0xff)) * 0x100000001b3u;
    }
    return hash;
}

uint64_t rv_kv_shape_hash(const rv_kv *kv)
{
    const uint64_t parts[] = { (uint64_t)kv->type, kv->n_layers, kv->head_dim,
                               kv->taps,           kv->channels, kv->quantised ? kv->window : 0 };
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < RV_COUNT(parts); i++) {
        hash = mix(hash, parts[i]);
    }
    for (size_t l = 0; l < kv->n_layers; l++) {
        hash = mix(hash, kv->n_kv_heads[l]);
    }
    return hash;
}

/* Convolution state, marks, blocks, then the pages there are. Looks only at what the outline also says, so it works while
 * a sequence is being rebuilt. */
bool rv_kv_part(const rv_kv_seq *seq, size_t i, void **at, size_t *n)
{
    const rv_kv *kv = seq->kv;
    *n = kv->state_bytes;
    if (i <= seq->n_marks) {
        *at = i ? seq->marks[i - 1].state : seq->conv;
        return true;
    }
    i -= 1 + seq->n_marks;
    if (i < seq->n_filled) {
        *at = rv_kv_numbers(seq->blocks[i]);
        *n = kv->block_bytes - UNIT_HEADER;
        return true;
    }
    i -= seq->n_filled;
    for (size_t page = 0; page < seq->n_pages; page++) {
        if (seq->pages[page] && i-- == 0) {
            *at = rv_kv_numbers(seq->pages[page]);
            *n = kv->page_bytes - UNIT_HEADER;
            return true;
        }
    }
    return false;
}

static bool is_possible(const rv_kv_seq *seq, const rv_kv_outline *o)
{
    size_t window = seq->kv->window;
    if (o->n_tokens == 0 || o->n_tokens > seq->max_tokens || o->n_marks > RV_KV_MARKS ||
        (o->n_blocks != rv_kv_blocks_before(seq, o->n_tokens) &&
         o->n_blocks != rv_kv_blocks_before(seq, o->n_tokens - 1))) {
        return false;
    }
    for (size_t i = 0; i < o->n_marks; i++) {
        size_t at = o->marks[i];
        bool inside = seq->kv->quantised && at % window && at < o->n_blocks * RV_KVQ_TOKENS;
        if (at > o->n_tokens || at <= (i ? o->marks[i - 1] : 0) || inside) {
            return false;
        }
    }
    return true;
}

static rv_err rebuild_units(rv_kv_seq *seq, const rv_kv_outline *o)
{
    for (; seq->n_blocks < o->n_blocks; seq->n_blocks++) {
        RV_TRY(rv_kv_unit_new(seq, true, &seq->blocks[seq->n_blocks]));
    }
    seq->n_filled = seq->n_dropped = seq->n_blocks;
    for (; seq->n_pages < rv_kv_pages_for(o->n_tokens); seq->n_pages++) {
        seq->pages[seq->n_pages] = NULL;
        if (seq->n_pages == 0 || seq->n_pages >= seq->n_blocks * BLOCK_PAGES) {
            RV_TRY(rv_kv_unit_new(seq, false, &seq->pages[seq->n_pages]));
        }
    }
    for (size_t i = 0; i < o->n_marks; i++) {
        if (!rv_kv_mark(seq, o->marks[i])) {
            return rv_kv_no_room(seq->kv);
        }
    }
    return RV_OK;
}

rv_err rv_kv_rebuild(rv_kv_seq *seq, const rv_kv_outline *o)
{
    assert(seq->n_tokens == 0 && seq->n_pages == 0 && seq->n_blocks == 0 && seq->n_marks == 0);
    if (!is_possible(seq, o)) {
        return rv_fail(RV_E_FORMAT, "a sequence of %zu tokens cannot have %zu blocks and these %zu marks",
                       o->n_tokens, o->n_blocks, o->n_marks);
    }
    seq->rebuilding = true;
    rv_err e = rebuild_units(seq, o);
    if (e) {
        rv_kv_rewind(seq, 0);
    }
    return e;
}

void rv_kv_rebuilt(rv_kv_seq *seq, const rv_kv_outline *o)
{
    assert(seq->n_tokens == 0 && seq->n_pages == rv_kv_pages_for(o->n_tokens) &&
           seq->n_filled == o->n_blocks);
    seq->n_tokens = o->n_tokens;
    seq->rebuilding = false;
}

/* ---- rules ---- */

static const char *check_sequence(const rv_kv_seq *s)
{
    const rv_kv *kv = s->kv;
    for (size_t i = 0; i < s->n_marks; i++) {
        if (s->marks[i].n_tokens > s->n_tokens && !s->rebuilding) {
            return "a mark past the end";
        }
        if (i && s->marks[i].n_tokens <= s->marks[i - 1].n_tokens) {
            return "marks out of order";
        }
    }
    if (s->n_pages < rv_kv_pages_for(s->n_tokens) || s->n_filled > s->n_blocks ||
        s->n_dropped > s->n_filled ||
        (s->n_tokens && s->n_filled < rv_kv_blocks_before(s, s->n_tokens - 1))) {
        return "a sequence without pages for its tokens";
    }
    for (size_t i = 0; i < s->n_pages; i++) {
        if (!s->pages[i]) {
            if (i == 0 || i >= s->n_dropped * BLOCK_PAGES) {
                return "a page that is missing";
            }
            continue;
        }
        s->pages[i]->seen++;
        if (kv->quantised && i && s->pages[i]->refs > 1) {
            return "a page that will be a block is shared";
        }
    }
    for (size_t i = 0; i < s->n_blocks; i++) {
        s->blocks[i]->seen++;
    }
    return NULL;
}

rv_err rv_kv_check(const rv_kv *kv)
{
    const char *broken = NULL;
    size_t used = 0;
    for (unit *u = kv->units; u; u = u->next) {
        u->seen = 0;
        used += u->is_block ? kv->block_bytes : kv->page_bytes;
    }
    for (const rv_kv_seq *s = kv->sequences; s && !broken; s = s->next) {
        broken = check_sequence(s);
        used += (1 + s->n_marks) * kv->state_bytes + s->promise;
    }
    for (const unit *u = kv->units; u && !broken; u = u->next) {
        broken = u->refs == 0 || u->refs != u->seen ? "a page with a wrong number of owners" : NULL;
    }
    if (!broken && used != kv->used_bytes) {
        broken = "bytes in use miscounted";
    }
    return broken ? rv_fail(RV_E_CORRUPT, "key/value cache: %s", broken) : RV_OK;
}
