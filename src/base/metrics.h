/* Counters, gauges and histograms, written in the Prometheus text format. A metric is a static table entry of its
 * module; the registry is a list of tables, so that nothing is looked up by name on a hot path. */
#ifndef RV_BASE_METRICS_H
#define RV_BASE_METRICS_H
#include "base/str.h"
#include <stdatomic.h>
#include <stdint.h>

typedef enum rv_metric_kind { RV_COUNTER, RV_GAUGE, RV_HISTOGRAM } rv_metric_kind;

#define RV_HISTOGRAM_BUCKETS 20
typedef struct rv_metric {
    rv_metric_kind kind;
    const char *name; /* ruvllm_requests_total; a histogram's ends in _seconds */
    const char *help;
    const char *labels;     /* "stage=\"embed\"" or NULL; entries of one name stand together */
    _Atomic int64_t value;  /* counter, gauge; histogram: count */
    _Atomic int64_t sum_us; /* histogram: microseconds */
    _Atomic int64_t bucket[RV_HISTOGRAM_BUCKETS]; /* up to 100 us * 2^i, 26 s; the last takes the rest */
} rv_metric;

/** rv_metric_add, rv_metric_set - count on; put a gauge.  rv_metric_time - one more value of a histogram; negative and NaN
 * count as 0. Threads: any thread, no locks. */
void rv_metric_add(rv_metric *m, int64_t n);
void rv_metric_set(rv_metric *m, int64_t value);
void rv_metric_time(rv_metric *m, double ms);

/** rv_metric_quantile - ms below which the part q (0 .. 1) of all values lies, read between the borders of its bucket, so
 * right within a factor of two; 0 when empty. Threads: any thread. */
double rv_metric_quantile(const rv_metric *m, double q);

/** rv_metrics_register - table of n metrics that lives for ever; again is without effect. At most 32 tables. Before threads
 * start. */
void rv_metrics_register(rv_metric *table, size_t n);

/** rv_metrics_text - everything registered, HELP and TYPE once per name. Threads: any thread. */
void rv_metrics_text(rv_text *out);
#endif
