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
    const char *name;   /* ruvllm_requests_total */
    const char *help;
    const char *labels; /* "stage=\"embed\"" or NULL; entries of one name stand together */
    _Atomic int64_t value;                             /* counter, gauge; histogram: count */
    _Atomic int64_t sum_us;                            /* histogram: microseconds */
    _Atomic int64_t bucket[RV_HISTOGRAM_BUCKETS];      /* up to 100 us * 2^i, 26 s; the last takes the rest */
} rv_metric;

void rv_metric_add(rv_metric *m, int64_t n);
void rv_metric_set(rv_metric *m, int64_t value);
void rv_metric_time(rv_metric *m, double ms);
double rv_metric_quantile(const rv_metric *m, double q); /* ms, from the buckets; 0 when empty */

/** rv_metrics_register - table of n metrics that lives for ever. Before threads start. */
void rv_metrics_register(rv_metric *table, size_t n);
/** rv_metrics_text - everything registered, HELP and TYPE once per name. */
void rv_metrics_text(rv_text *out);
#endif
