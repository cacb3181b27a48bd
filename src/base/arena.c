/* A chain of blocks, newest in front; each is twice as large as the one before, up to 1 MiB, or as large as what was
 * asked for. The first block is made at the first use: an arena that stays empty costs one small struct. */
#include "base/arena.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ALIGN = 16, FIRST_BYTES = 4096, LARGEST_BYTES = 1 << 20 };

typedef struct block block;
struct block {
    block *older;
    size_t used, room;
    _Alignas(ALIGN) unsigned char bytes[];
};

struct rv_arena {
    const rv_alloc *mem;
    block *newest;
    size_t used, max, next_bytes;
};

rv_err rv_arena_new(const rv_alloc *mem, size_t max_bytes, rv_arena **out)
{
    rv_arena *arena = rv_new(mem, sizeof *arena);
    if (!arena) {
        return rv_fail(RV_E_NOMEM, "no memory for an arena");
    }
    *arena = (rv_arena){ .mem = mem, .max = max_bytes, .next_bytes = FIRST_BYTES };
    *out = arena;
    return RV_OK;
}

/* Frees the blocks that are newer than keep. */
static void drop_blocks(rv_arena *arena, const block *keep)
{
    while (arena->newest != keep) {
        block *b = arena->newest;
        arena->newest = b->older;
        rv_free(arena->mem, b);
    }
}

void rv_arena_free(rv_arena *arena)
{
    if (arena) {
        drop_blocks(arena, NULL);
        rv_free(arena->mem, arena);
    }
}

static bool add_block(rv_arena *arena, size_t bytes)
{
    size_t room = bytes > arena->next_bytes ? bytes : arena->next_bytes, all;
    block *b = rv_add_size(sizeof *b, room, &all) ? rv_resize(arena->mem, NULL, all) : NULL;
    if (!b) {
        return false;
    }
    *b = (block){ .older = arena->newest, .room = room };
    arena->newest = b;
    if (arena->next_bytes < LARGEST_BYTES) {
        arena->next_bytes *= 2;
    }
    return true;
}

void *rv_arena_take(rv_arena *arena, size_t bytes)
{
    size_t rounded;
    if (!rv_add_size(bytes ? bytes : 1, ALIGN - 1, &rounded)) {
        return NULL;
    }
    rounded -= rounded % ALIGN;
    if (rounded > arena->max - arena->used) {
        return NULL;
    }
    block *b = arena->newest;
    if ((!b || rounded > b->room - b->used) && !add_block(arena, rounded)) {
        return NULL;
    }
    b = arena->newest;
    void *p = b->bytes + b->used;
    b->used += rounded;
    arena->used += rounded;
    return memset(p, 0, bytes);
}

char *rv_arena_strndup(rv_arena *arena, const char *text, size_t n)
{
    size_t bytes;
    char *copy = rv_add_size(n, 1, &bytes) ? rv_arena_take(arena, bytes) : NULL;
    if (copy && n > 0) {
        memcpy(copy, text, n);
    }
    return copy;
}

char *rv_arena_strdup(rv_arena *arena, const char *text)
{
    return rv_arena_strndup(arena, text, strlen(text));
}

char *rv_arena_printf(rv_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n < 0 ? NULL : rv_arena_take(arena, (size_t)n + 1);
    if (text) {
        vsnprintf(text, (size_t)n + 1, format, again);
    }
    va_end(again);
    return text;
}

size_t rv_arena_used(const rv_arena *arena)
{
    return arena->used;
}

void rv_arena_reset(rv_arena *arena)
{
    block *first = arena->newest;
    while (first && first->older) {
        first = first->older;
    }
    drop_blocks(arena, first);
    if (first) {
        first->used = 0;
    }
    arena->used = 0;
    arena->next_bytes = 2 * FIRST_BYTES;
}
