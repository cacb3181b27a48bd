/* main() of every test program, and the helpers of test.h. */
#include "test.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef RV_SHARED
#define RV_SHARED "../shared"
#endif
#ifndef RV_SOURCE
#define RV_SOURCE "."
#endif

enum { TESTS_MAX = 512 };

static struct CMUnitTest tests[TESTS_MAX];
static size_t n_tests;
static pthread_t test_thread;

/* What the test at work holds: newest first. */
typedef struct held held;
struct held {
    held *older;
    void *at;    /* a mapping of n bytes, or a string */
    size_t n;    /* 0: a string */
    bool folder; /* the string is a folder to remove */
};
static held *holds;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void *hold(void *at, size_t n, bool folder)
{
    held *h = at ? malloc(sizeof *h) : NULL;
    if (!h) {
        die("test.c: no memory");
    }
    *h = (held){ .older = holds, .at = at, .n = n, .folder = folder };
    holds = h;
    return at;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st, (void)type, (void)where;
    return remove(path);
}

static int release_all(void **state)
{
    (void)state;
    while (holds) {
        held *h = holds;
        holds = h->older;
        if (h->folder) {
            nftw(h->at, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        }
        if (h->n) {
            munmap(h->at, h->n);
        } else {
            free(h->at);
        }
        free(h);
    }
    return 0;
}

void test_register(const char *name, CMUnitTestFunction run)
{
    if (n_tests == TESTS_MAX) {
        fprintf(stderr, "more than %d tests in one file\n", TESTS_MAX);
        exit(1);
    }
    tests[n_tests++] = (struct CMUnitTest){ .name = name, .test_func = run, .teardown_func = release_all };
}

void test_fail(const char *file, int line, const char *cond, const char *format, ...)
{
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (!pthread_equal(pthread_self(), test_thread)) {
        fprintf(stderr, "%s:%d: CHECK(%s) on another thread: %s\n", file, line, cond, message);
        _exit(1);
    }
    print_error("%s:%d: CHECK(%s): %s\n", file, line, cond, message);
    _fail(file, line);
    abort(); /* not reached: _fail jumps */
}

static char *joined(const char *root, const char *relative)
{
    char *path;
    if (asprintf(&path, "%s/%s", root, relative) < 0) {
        die("test.c");
    }
    return hold(path, 0, false);
}

const char *shared_path(const char *relative)
{
    const char *path = joined(RV_SHARED, relative);
    return access(path, R_OK) == 0 ? path : NULL;
}

double test_cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

const char *source_path(const char *relative)
{
    return joined(RV_SOURCE, relative);
}

const char *temp_dir(void)
{
    const char *root = getenv("TMPDIR");
    char *path;
    if (asprintf(&path, "%s/ruvllm-test.XXXXXX", root && *root ? root : "/tmp") < 0 || !mkdtemp(path)) {
        die("test.c: temp_dir");
    }
    return hold(path, 0, true);
}

const char *temp_path(const char *name)
{
    return joined(temp_dir(), name);
}

uint8_t *fenced_bytes(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page - 1) / page * page;
    uint8_t *at = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mprotect(at + room, page, PROT_NONE) != 0) {
        die("test.c: fenced_bytes");
    }
    hold(at, room + page, false);
    return at + room - n;
}

float *fenced_floats(size_t n)
{
    return (float *)(void *)fenced_bytes(n * sizeof(float));
}

/* ---- memory that runs out ---- */

static bool fails_now(test_mem *m)
{
    m->calls++;
    if (m->calls == m->fail_at) {
        m->failed = true;
        return true;
    }
    return false;
}

static void *counted_resize(void *self, void *old, size_t bytes)
{
    test_mem *m = self;
    if (bytes == 0) {
        m->live -= old != NULL;
        free(old);
        return NULL;
    }
    if (fails_now(m)) {
        return NULL;
    }
    void *p = realloc(old, bytes);
    m->live += p && !old;
    return p;
}

static void *counted_aligned(void *self, size_t align, size_t bytes)
{
    test_mem *m = self;
    if (fails_now(m)) {
        return NULL;
    }
    void *p = rv_heap.aligned(rv_heap.self, align, bytes);
    m->live += p != NULL;
    return p;
}

void test_mem_init(test_mem *m)
{
    *m = (test_mem){ .alloc = { .self = m, .resize = counted_resize, .aligned = counted_aligned } };
}

bool test_mem_again(test_mem *m)
{
    if (!m->running) {
        test_mem_init(m);
        m->running = true;
        m->fail_at = 1;
        return true;
    }
    CHECK(m->live == 0, "%ld blocks not freed when call %ld failed", m->live, m->fail_at);
    if (!m->failed) {
        return false;
    }
    m->failed = false;
    m->calls = 0;
    m->fail_at++;
    return true;
}

int main(int n_args, char **args)
{
    test_thread = pthread_self();
    cmocka_set_message_output(CM_OUTPUT_TAP);
    if (n_args > 1) {
        cmocka_set_test_filter(args[1]);
    }
    return _cmocka_run_group_tests(program_invocation_short_name, tests, n_tests, NULL, NULL) ? 1 : 0;
}
