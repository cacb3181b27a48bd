#include "base/child.h"
#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PIECE_BYTES = 65536, INPUT_FD = 3 };

char *rv_child_find(const rv_alloc *mem, const char *name)
{
    const char *path = getenv("PATH");
    for (const char *at = path ? path : "/usr/bin:/bin"; *at;) {
        size_t n = strcspn(at, ":");
        char *folder =
            n ? rv_strndup(mem, at, n) : NULL; /* an empty part would be the folder one stands in: left out */
        char *file = folder ? rv_path_join(mem, folder, name) : NULL;
        rv_free(mem, folder);
        if (file && access(file, X_OK) == 0) {
            return file;
        }
        rv_free(mem, file);
        at += n + (at[n] == ':');
    }
    return NULL;
}

static rv_err input_file(const void *input, size_t n, int *out)
{
    int fd = memfd_create("input", MFD_CLOEXEC);
    const char *at = input;
    while (fd >= 0 && n > 0) {
        ssize_t k = write(fd, at, n);
        if (k < 0 && errno != EINTR) {
            int why = errno;
            close(fd);
            errno = why;
            fd = -1;
        } else if (k > 0) {
            at += k;
            n -= (size_t)k;
        }
    }
    if (fd < 0) {
        return rv_fail(RV_E_IO, "no room for the input of a program: %s", strerror(errno));
    }
    *out = fd;
    return RV_OK;
}

/* In the child: only what is safe after a fork among threads. input and output are above 3. */
static void become(const char *path, const char *const *argv, int input, int output,
                   const rv_child_limits *limits)
{
    const struct {
        int what;
        rlim_t limit;
    } bounds[] = { { RLIMIT_AS, limits->memory_bytes },
                   { RLIMIT_CPU, (rlim_t)limits->cpu_s },
                   { RLIMIT_FSIZE, 0 },
                   { RLIMIT_CORE, 0 } };
    char *const environment[] = { "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", NULL };
    int nothing = open("/dev/null", O_RDWR);
    bool good = nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(nothing, STDERR_FILENO) >= 0 &&
                dup2(output, STDOUT_FILENO) >= 0 && dup2(input, INPUT_FD) >= 0;
    for (size_t i = 0; good && i < RV_COUNT(bounds); i++) {
        good = setrlimit(bounds[i].what, &(struct rlimit){ bounds[i].limit, bounds[i].limit }) == 0;
    }
    for (int s = 1; s < NSIG; s++) {
        signal(s, SIG_DFL); /* ours ignores SIGPIPE; SIGKILL and SIGSTOP refuse, which is right */
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (good) {
        execve(path, (char *const *)argv, environment);
    }
    _exit(127);
}

static rv_err too_slow(const char *name, const rv_child_limits *limits)
{
    return rv_fail(RV_E_TIMEOUT, "%s took longer than %d s and was stopped", name, limits->wall_s);
}

/* Reads until the end of the output or a limit. */
static rv_err collect(const char *name, int from, double until, const rv_child_limits *limits, rv_text *out)
{
    char piece[PIECE_BYTES];
    for (size_t total = 0;;) {
        double left = until - rv_clock_ms();
        struct pollfd wait = { .fd = from, .events = POLLIN };
        int ready = left > 0 ? poll(&wait, 1, (int)left + 1) : 0;
        if (ready == 0) {
            return too_slow(name, limits);
        }
        ssize_t n = ready < 0 ? -1 : read(from, piece, sizeof piece);
        if (n < 0 && errno != EINTR) {
            return rv_fail(RV_E_IO, "%s: reading its output: %s", name, strerror(errno));
        }
        if (n == 0) {
            return RV_OK;
        }
        total += n > 0 ? (size_t)n : 0;
        if (total > limits->output_bytes) {
            return rv_fail(RV_E_TOO_LARGE, "%s wrote more than %zu bytes and was stopped", name,
                           limits->output_bytes);
        }
        rv_text_add(out, piece, n > 0 ? (size_t)n : 0);
        RV_TRY(rv_text_check(out));
    }
}

/* After its output has ended: usually it has ended too, but it may have closed its output and go on. */
static rv_err await(const char *name, pid_t child, double until, const rv_child_limits *limits, int *status)
{
    const struct timespec pause = { .tv_nsec = 2000000 };
    pid_t ended;
    while ((ended = waitpid(child, status, WNOHANG)) == 0 && rv_clock_ms() < until) {
        nanosleep(&pause, NULL);
    }
    return ended == child ? RV_OK : too_slow(name, limits);
}

rv_err rv_child_run(const char *path, const char *const *argv, const void *input, size_t n,
                    const rv_child_limits *limits, rv_text *out, int *exit_code)
{
    int ends[2], file = -1;
    double until = rv_clock_ms() + 1000.0 * limits->wall_s;
    RV_TRY(input_file(input, n, &file));
    if (pipe2(ends, O_CLOEXEC) != 0) {
        close(file);
        return rv_fail(RV_E_IO, "%s: no pipe: %s", path, strerror(errno));
    }
    /* Above 3, so that neither stands in the way of the other when they are moved to their places. */
    int input_high = fcntl(file, F_DUPFD_CLOEXEC, INPUT_FD + 1),
        output_high = fcntl(ends[1], F_DUPFD_CLOEXEC, INPUT_FD + 1);
    close(file);
    close(ends[1]);
    pid_t child = input_high >= 0 && output_high >= 0 ? fork() : -1;
    if (child == 0) {
        become(path, argv, input_high, output_high, limits);
    }
    rv_err e = child > 0 ? RV_OK : rv_fail(RV_E_IO, "%s cannot be started: %s", path, strerror(errno));
    close(input_high);
    close(output_high);
    e = e ? e : collect(argv[0], ends[0], until, limits, out);
    close(ends[0]);
    int status = 0;
    e = e ? e : await(argv[0], child, until, limits, &status);
    if (e && child > 0) {
        kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
    }
    if (!e) {
        *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return e;
}
