#include "base/cond.h"

#include <time.h>

void rv_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void rv_cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, double ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    time_t seconds = (time_t)(ms / 1e3);
    until.tv_sec += seconds;
    until.tv_nsec += (long)((ms - (double)seconds * 1e3) * 1e6);
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_cond_timedwait(cond, lock, &until);
}
