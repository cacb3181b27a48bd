#include "base/metrics.h"
#include "test.h"

#include <math.h>
#include <string.h>

static rv_metric first[] = {
    { .kind = RV_COUNTER, .name = "t_requests_total", .help = "Requests.", .labels = "code=\"200\"" },
    { .kind = RV_COUNTER, .name = "t_requests_total", .help = "Requests.", .labels = "code=\"500\"" },
    { .kind = RV_GAUGE, .name = "t_slots", .help = "Back\\slash\nand line." },
};
static rv_metric second[] = {
    { .kind = RV_HISTOGRAM, .name = "t_stage_seconds", .help = "Time.", .labels = "stage=\"embed\"" },
    { .kind = RV_HISTOGRAM, .name = "t_plain_seconds", .help = "Time." },
};

TEST(everything_registered_is_written_once)
{
    rv_metrics_register(first, RV_COUNT(first));
    rv_metrics_register(second, RV_COUNT(second));
    rv_metrics_register(first, RV_COUNT(first)); /* a second server in one process */
    rv_metric_add(&first[0], 3);
    rv_metric_add(&first[0], 2);
    rv_metric_set(&first[2], -7);
    rv_metric_time(&second[0], 0.1); /* the first bucket's border belongs to it */
    rv_metric_time(&second[0], 0.15);
    rv_metric_time(&second[0], 1e9);
    rv_metric_time(&second[0], -1);
    rv_metric_time(&second[0], (double)NAN);
    rv_text t;
    rv_text_init(&t, &rv_heap, 1 << 20);
    rv_metrics_text(&t);
    CHECK_OK(rv_text_check(&t));
    static const char *const lines[] = {
        "# HELP t_requests_total Requests.\n# TYPE t_requests_total counter\nt_requests_total{code=\"200\"} "
        "5\n"
        "t_requests_total{code=\"500\"} 0\n",
        "# HELP t_slots Back\\\\slash\\nand line.\n# TYPE t_slots gauge\nt_slots -7\n",
        "# TYPE t_stage_seconds histogram\nt_stage_seconds_bucket{stage=\"embed\",le=\"0.0001\"} 3\n"
        "t_stage_seconds_bucket{stage=\"embed\",le=\"0.0002\"} 4\n",
        "t_stage_seconds_bucket{stage=\"embed\",le=\"26.2144\"} "
        "4\nt_stage_seconds_bucket{stage=\"embed\",le=\"+Inf\"} 5\n"
        "t_stage_seconds_sum{stage=\"embed\"} 1000000.000250\nt_stage_seconds_count{stage=\"embed\"} 5\n",
        "t_plain_seconds_bucket{le=\"+Inf\"} 0\nt_plain_seconds_sum 0.000000\nt_plain_seconds_count 0\n",
    };
    for (size_t i = 0; i < RV_COUNT(lines); i++) {
        const char *at = strstr(t.at, lines[i]);
        CHECK(at, "not there:\n%s\nin:\n%s", lines[i], t.at);
        CHECK(!strstr(at + 1, lines[i]), "twice:\n%s", lines[i]);
    }
    rv_text_deinit(&t);
}

TEST(quantiles_come_from_the_right_bucket)
{
    static rv_metric m = { .kind = RV_HISTOGRAM, .name = "t_q", .help = "q" };
    CHECK(rv_metric_quantile(&m, 0.5) == 0, "empty");
    for (int i = 0; i < 99; i++) {
        rv_metric_time(&m, 5); /* bucket 3.2 to 6.4 ms */
    }
    rv_metric_time(&m, 5000);
    double p50 = rv_metric_quantile(&m, 0.5), p99 = rv_metric_quantile(&m, 0.99),
           p100 = rv_metric_quantile(&m, 1);
    CHECK(p50 > 3.2 && p50 <= 6.4 && p99 <= 6.4 && p99 >= p50, "p50 %g p99 %g", p50, p99);
    CHECK(p100 > 3276.7 && p100 <= 6553.7, "p100 %g", p100);
    rv_metric_time(&m, 1e9);
    CHECK(rv_metric_quantile(&m, 1) == 26214.4, "past the last border: %g", rv_metric_quantile(&m, 1));
}
