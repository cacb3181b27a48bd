/* Waiting with a limit, by the monotonic clock, whatever the wall clock does. Threads: as the pthread calls they stand on. */
#ifndef RV_BASE_COND_H
#define RV_BASE_COND_H
#include <pthread.h>

/** rv_cond_init - for rv_cond_wait_ms and pthread_cond_wait; ends with pthread_cond_destroy. */
void rv_cond_init(pthread_cond_t *cond);
/** rv_cond_wait_ms - pthread_cond_wait for at most ms milliseconds; may come back early, as that does. */
void rv_cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, double ms);
#endif
