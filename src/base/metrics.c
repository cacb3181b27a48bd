/* Prometheus text. Histograms hold times; their buckets double from 100 us. */
#include "base/metrics.h"

#include <assert.h>
#include <string.h>

enum { TABLES_MAX = 32 };

static struct {
    rv_metric *table;
    size_t n;
} registry[TABLES_MAX];
static size_t n_registry; /* both change before threads start, and not after */

/* Upper border of a bucket; the last has none. */
static double bucket_ms(int i)
{
    return 0.1 * (double)(1 << i);
}

void rv_metric_add(rv_metric *m, int64_t n)
{
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}

void rv_metric_set(rv_metric *m, int64_t value)
{
    atomic_store_explicit(&m->value, value, memory_order_relaxed);
}

void rv_metric_time(rv_metric *m, double ms)
{
    assert(m->kind == RV_HISTOGRAM);
    if (!(ms >= 0)) {
        ms = 0;
    }
    int i = 0;
    while (i < RV_HISTOGRAM_BUCKETS - 1 && ms > bucket_ms(i)) {
        i++;
    }
    double us = ms * 1000 < 1e15 ? ms * 1000 : 1e15;
    atomic_fetch_add_explicit(&m->bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->sum_us, (int64_t)us, memory_order_relaxed);
    rv_metric_add(m, 1);
}

/* A copy taken once, so that one answer does not contradict itself; returns the count. */
static int64_t read_buckets(const rv_metric *m, int64_t out[RV_HISTOGRAM_BUCKETS])
{
    int64_t all = 0;
    for (int i = 0; i < RV_HISTOGRAM_BUCKETS; i++) {
        out[i] = atomic_load_explicit(&m->bucket[i], memory_order_relaxed);
        all += out[i];
    }
    return all;
}

double rv_metric_quantile(const rv_metric *m, double q)
{
    int64_t bucket[RV_HISTOGRAM_BUCKETS], all = read_buckets(m, bucket);
    if (all == 0) {
        return 0;
    }
    double rank = q * (double)all, before = 0;
    for (int i = 0; i < RV_HISTOGRAM_BUCKETS - 1; i++) {
        double here = (double)bucket[i];
        if (here > 0 && before + here >= rank) {
            double low = i ? bucket_ms(i - 1) : 0;
            double part = rank > before ? (rank - before) / here : 0;
            return low + (bucket_ms(i) - low) * part;
        }
        before += here;
    }
    return bucket_ms(RV_HISTOGRAM_BUCKETS - 2); /* all we know of the last bucket is where it begins */
}

void rv_metrics_register(rv_metric *table, size_t n)
{
    for (size_t i = 0; i < n_registry; i++) {
        if (registry[i].table == table) {
            return;
        }
    }
    assert(n_registry < TABLES_MAX);
    registry[n_registry].table = table;
    registry[n_registry].n = n;
    n_registry++;
}

static void add_help(rv_text *out, const char *help)
{
    for (const char *c = help; *c; c++) {
        if (*c == '\\' || *c == '\n') {
            rv_text_adds(out, *c == '\n' ? "\\n" : "\\\\");
        } else {
            rv_text_addc(out, *c);
        }
    }
}

static void add_histogram(rv_text *out, const rv_metric *m)
{
    int64_t bucket[RV_HISTOGRAM_BUCKETS], all = read_buckets(m, bucket), below = 0;
    const char *labels = m->labels ? m->labels : "", *comma = m->labels ? "," : "";
    const char *open = m->labels ? "{" : "", *close = m->labels ? "}" : "";
    for (int i = 0; i < RV_HISTOGRAM_BUCKETS - 1; i++) {
        below += bucket[i];
        rv_text_addf(out, "%s_bucket{%s%sle=\"%g\"} %lld\n", m->name, labels, comma, bucket_ms(i) / 1000,
                     (long long)below);
    }
    rv_text_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %lld\n", m->name, labels, comma, (long long)all);
    double sum = (double)atomic_load_explicit(&m->sum_us, memory_order_relaxed) / 1e6;
    rv_text_addf(out, "%s_sum%s%s%s %.6f\n", m->name, open, labels, close, sum);
    rv_text_addf(out, "%s_count%s%s%s %lld\n", m->name, open, labels, close, (long long)all);
}

void rv_metrics_text(rv_text *out)
{
    static const char *const kinds[] = { "counter", "gauge", "histogram" };
    const char *last = "";
    for (size_t r = 0; r < n_registry; r++) {
        for (size_t i = 0; i < registry[r].n; i++) {
            const rv_metric *m = &registry[r].table[i];
            if (strcmp(last, m->name) != 0) {
                last = m->name;
                rv_text_addf(out, "# HELP %s ", m->name);
                add_help(out, m->help);
                rv_text_addf(out, "\n# TYPE %s %s\n", m->name, kinds[m->kind]);
            }
            if (m->kind == RV_HISTOGRAM) {
                add_histogram(out, m);
                continue;
            }
            long long value = atomic_load_explicit(&m->value, memory_order_relaxed);
            rv_text_addf(out, m->labels ? "%s{%s} %lld\n" : "%s%s %lld\n", m->name,
                         m->labels ? m->labels : "", value);
        }
    }
}
