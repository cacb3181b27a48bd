/* Another program as a filter: bytes in, bytes out, within limits, without a shell. For readers of formats that we would not read
 * in our own address space. */
#ifndef RV_BASE_CHILD_H
#define RV_BASE_CHILD_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"

typedef struct rv_child_limits {
    size_t output_bytes; /* more is an error */
    size_t memory_bytes; /* address space of the child */
    int cpu_s, wall_s;
} rv_child_limits;

/** rv_child_find - the program's file by PATH; NULL when it is not installed. To be freed with mem. */
char *rv_child_find(const rv_alloc *mem, const char *name);

/**
 * rv_child_run - path with argv (NULL at the end); the input stands for it in a file of no name that it opens as /dev/fd/3. What it
 * writes to standard output is added to out; standard error is dropped, the environment is PATH and LC_ALL=C.UTF-8, and core dumps
 * and writing files are off.
 *
 * exit_code  out; 128 + signal when one ended it (SIGXCPU: cpu_s)
 * Errors:  RV_E_TOO_LARGE more output than allowed.  RV_E_TIMEOUT wall_s.  RV_E_IO it cannot be started or fed.  RV_E_NOMEM. In all
 *          cases the child has ended when it returns.
 * Threads: any thread.
 */
rv_err rv_child_run(const char *path, const char *const *argv, const void *input, size_t n,
                    const rv_child_limits *limits, rv_text *out, int *exit_code) RV_MUST_CHECK;
#endif
