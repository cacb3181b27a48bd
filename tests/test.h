/* The words tests are written in, on top of cmocka. A test file is
 *
 *     #include "test.h"
 *     TEST(a_sentence_that_is_proved)
 *     {
 *         CHECK(2 + 2 == 4, "got %d", 2 + 2);
 *     }
 *
 * and becomes a program with test.c: TAP on stdout, exit 0 when all passed. Its argument is a pattern of names ("*pool*"). */
#ifndef RV_TEST_H
#define RV_TEST_H

#include "base/alloc.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/** TEST - a function that registers itself; tests run in the order of the file. */
#define TEST(name)                                                                                           \
    static void test_##name(void **state);                                                                   \
    __attribute__((constructor)) static void register_##name(void)                                           \
    {                                                                                                        \
        test_register(#name, test_##name);                                                                   \
    }                                                                                                        \
    static void test_##name(__attribute__((unused)) void **state)

/** CHECK - when cond is false, print file, line, cond and the message, and end the test. On the test's thread only:
 * elsewhere a failure ends the program. Comparisons are written so that NaN fails: err <= bound. */
#define CHECK(cond, ...)                                                                                     \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            test_fail(__FILE__, __LINE__, #cond, __VA_ARGS__);                                               \
        }                                                                                                    \
    } while (0)

/** CHECK_OK - the call returns RV_OK, else its text is printed.  CHECK_ERR - it returns that code. */
#define CHECK_OK(call)                                                                                       \
    do {                                                                                                     \
        rv_err check_e = (call);                                                                             \
        CHECK(check_e == RV_OK, "%s: %s: %s", #call, rv_err_name(check_e), rv_err_text());                   \
    } while (0)
#define CHECK_ERR(call, code)                                                                                \
    do {                                                                                                     \
        rv_err check_e = (call);                                                                             \
        CHECK(check_e == (code), "%s: expected %s, got %s: %s", #call, rv_err_name(code),                    \
              rv_err_name(check_e), rv_err_text());                                                          \
    } while (0)

/** SKIP - end the test as neither passed nor failed; why is printed. For what this machine or folder lacks. */
#define SKIP(why)                                                                                            \
    do {                                                                                                     \
        print_message("# skipped: %s\n", why);                                                               \
        skip();                                                                                              \
    } while (0)

void test_register(const char *name, CMUnitTestFunction run);
void test_fail(const char *file, int line, const char *cond, const char *format, ...) RV_PRINTF(4, 5)
    __attribute__((noreturn));

/* ---- all below is given back by itself when the test ends ---- */

/** shared_path - the path of a file or folder below ../shared, or NULL when it is not there (then SKIP). */
const char *shared_path(const char *relative);
/** test_cpu_ms - time this thread has computed; what others do on the machine does not count. For growth (twice the input, about twice
 * the time), never for a limit in milliseconds. */
double test_cpu_ms(void);

/** ONE_THREAD_ONLY, TEST_FOR_RACES - under ThreadSanitizer a long test of one thread is skipped, and others may be shorter. */
#ifdef __SANITIZE_THREAD__
#define ONE_THREAD_ONLY() SKIP("one thread: nothing for ThreadSanitizer")
#define TEST_FOR_RACES    1
#else
#define ONE_THREAD_ONLY() ((void)0)
#define TEST_FOR_RACES    0
#endif

/** source_path - the same below the repository's root; never NULL. */
const char *source_path(const char *relative);
/** temp_dir - a new empty folder. */
const char *temp_dir(void);
/** temp_path - a path in a new empty folder; nothing is there yet. */
const char *temp_path(const char *name);
/** fenced_bytes, fenced_floats - n zeroed elements; the byte after the last cannot be read or written. n may be 0. */
uint8_t *fenced_bytes(size_t n);
float *fenced_floats(size_t n);

/* ---- memory that runs out ---- */

/* An allocator that counts. Calls that free do not count and never fail. One thread at a time. */
typedef struct test_mem {
    rv_alloc alloc;
    long calls;   /* that asked for memory */
    long fail_at; /* this call fails, once; 0: none does */
    long live;    /* blocks not freed yet */
    bool failed;  /* fail_at was reached */
    bool running;
} test_mem;

/** test_mem_init - nothing fails until fail_at is set. m must stay where it is. */
void test_mem_init(test_mem *m);

/**
 * test_mem_again - the head of a loop that runs its body with call 1 failing, then call 2, ... until no call failed:
 *
 *     for (test_mem m = { 0 }; test_mem_again(&m);) {
 *         rv_thing *thing = NULL;
 *         rv_err e = rv_thing_new(&m.alloc, &thing);
 *         CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_name(e));
 *         rv_thing_free(thing);
 *     }
 *
 * Between rounds it checks that every block was freed.
 */
bool test_mem_again(test_mem *m);

#endif
