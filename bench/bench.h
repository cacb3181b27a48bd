/* What a benchmark does about an error: it says which, and ends. */
#ifndef RV_BENCH_BENCH_H
#define RV_BENCH_BENCH_H
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

static inline void must(rv_err e)
{
    if (e) {
        fprintf(stderr, "%s\n", rv_err_text());
        exit(1);
    }
}

/* p, of an allocation that has to succeed. */
static inline void *memory(void *p)
{
    if (!p) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return p;
}
#endif
