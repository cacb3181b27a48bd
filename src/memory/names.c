#include "memory/memory_priv.h"
#include "base/rng.h"

#include <string.h>

rv_err rv_names_init(names *t, const rv_alloc *mem)
{
    *t = (names){ .mem = mem };
    uint32_t empty;
    return rv_names_add(t, "", 0, &empty);
}

void rv_names_deinit(names *t)
{
    for (size_t i = 0; i < t->n; i++) {
        rv_free(t->mem, t->at[i]);
    }
    rv_free(t->mem, t->at);
    rv_free(t->mem, t->slots);
    *t = (names){ 0 };
}

/* The slot that holds the name, or the empty one where it would go. n_slots > 0. */
static size_t find_slot(const names *t, const char *name, size_t n)
{
    size_t mask = t->n_slots - 1, slot = (size_t)rv_hash64(name, n, 0) & mask;
    for (; t->slots[slot]; slot = (slot + 1) & mask) {
        const char *other = t->at[t->slots[slot] - 1];
        if (strncmp(other, name, n) == 0 && other[n] == 0) {
            break;
        }
    }
    return slot;
}

static rv_err grow(names *t)
{
    size_t room = t->room ? 2 * t->room : 64;
    char **at = room <= UINT32_MAX / 2 ? rv_resize(t->mem, t->at, room * sizeof *at) : NULL;
    if (!at) {
        return rv_fail(RV_E_NOMEM, "no memory for %zu names", room);
    }
    t->at = at;
    uint32_t *slots = rv_new_array(t->mem, 2 * room, sizeof *slots);
    if (!slots) {
        return rv_fail(RV_E_NOMEM, "no memory for %zu names", room);
    }
    rv_free(t->mem, t->slots);
    t->slots = slots;
    t->n_slots = 2 * room;
    t->room = room;
    for (uint32_t i = 0; i < t->n; i++) {
        t->slots[find_slot(t, t->at[i], strlen(t->at[i]))] = i + 1;
    }
    return RV_OK;
}

rv_err rv_names_add(names *t, const char *name, size_t n, uint32_t *out)
{
    if (t->n == t->room) {
        RV_TRY(grow(t));
    }
    size_t slot = find_slot(t, name, n);
    if (!t->slots[slot]) {
        char *copy = rv_strndup(t->mem, name, n);
        if (!copy) {
            return rv_fail(RV_E_NOMEM, "no memory for a name");
        }
        t->at[t->n++] = copy;
        t->slots[slot] = (uint32_t)t->n;
    }
    *out = t->slots[slot] - 1;
    return RV_OK;
}

bool rv_names_find(const names *t, const char *name, uint32_t *out)
{
    size_t slot = find_slot(t, name, strlen(name));
    if (!t->slots[slot]) {
        return false;
    }
    *out = t->slots[slot] - 1;
    return true;
}
