/* Buckets, labels and counts as Prometheus reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gatewayd/metrics.h"
#include "gatewayd/route.h"

static void durations_fall_into_buckets(void **state)
{
        struct histogram h = { 0 };

        for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
                histogram_add(&h, histogram_bounds[i]);
                histogram_add(&h, histogram_bounds[i] + 1);
        }
        histogram_add(&h, 0);
        assert_int_equal(h.counts[0], 2);
        for (size_t i = 1; i < HISTOGRAM_BOUNDS; i++) {
                assert_true(histogram_bounds[i] > histogram_bounds[i - 1]);
                assert_int_equal(h.counts[i], 2);
        }
        assert_int_equal(h.counts[HISTOGRAM_BOUNDS], 1);
}

static void a_histogram_is_summed_up(void **state)
{
        cleanup_buf struct buf b = BUF_INIT;
        struct histogram h = { 0 };

        histogram_add(&h, 400);
        histogram_add(&h, 200000);
        histogram_add(&h, 60 * USEC_PER_SEC);
        metric_histogram(&b, "x_seconds", "a=\"b\"", &h);
        buf_put(&b, "", 1);
        assert_non_null(strstr(b.data, "x_seconds_bucket{a=\"b\",le=\"0.0005\"} 1\n"));
        assert_non_null(strstr(b.data, "x_seconds_bucket{a=\"b\",le=\"0.25\"} 2\n"));
        assert_non_null(strstr(b.data, "x_seconds_bucket{a=\"b\",le=\"10.0\"} 2\n"));
        assert_non_null(strstr(b.data, "x_seconds_bucket{a=\"b\",le=\"+Inf\"} 3\n"));
        assert_non_null(strstr(b.data, "x_seconds_sum{a=\"b\"} 60.200400\n"));
        assert_non_null(strstr(b.data, "x_seconds_count{a=\"b\"} 3\n"));
        buf_clear(&b);
        metric_histogram(&b, "x_seconds", "", &h);
        buf_put(&b, "", 1);
        assert_non_null(strstr(b.data, "x_seconds_bucket{le=\"0.001\"} 1\n"));
        assert_non_null(strstr(b.data, "\nx_seconds_count 3\n"));
}

static void labels_are_escaped(void **state)
{
        cleanup_buf struct buf b = BUF_INIT;

        metric_label(&b, "worker", "a\"b\\c\nd", true);
        metric_label(&b, "x", "", false);
        buf_put(&b, "", 1);
        assert_string_equal(b.data, "worker=\"a\\\"b\\\\c\\nd\",x=\"\"");
}

static void answers_count_by_pattern(void **state)
{
        CLEANUP(metrics_freep) struct metrics *m = metrics_new();
        cleanup_buf struct buf b = BUF_INIT;
        const struct route *r = &route_tables[0]->routes[0];
        cleanup_free char *line = xasprintf(
                "berth_http_requests_total{route=\"%s\",method=\"GET\",status=\"200\"} 2\n",
                r->pattern);
        struct route foreign = { .pattern = "/of/no/table" };

        metrics_answered(m, r, HTTP_GET, 200, 1000);
        metrics_answered(m, r, HTTP_GET, 200, UINT64_MAX);
        metrics_answered(m, &foreign, HTTP_GET, 404, 10);
        for (int status = 0; status < 1000; status++)
                metrics_answered(m, NULL, HTTP_GET, status, UINT64_MAX);
        metrics_lagged(m);
        metrics_put(m, &b);
        buf_put(&b, "", 1);
        assert_non_null(strstr(b.data, line));
        assert_null(strstr(b.data, "/of/no/table"));
        assert_non_null(strstr(b.data, "berth_stream_lagged_total 1\n"));
        assert_true(b.len < 20000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(durations_fall_into_buckets),
                cmocka_unit_test(a_histogram_is_summed_up),
                cmocka_unit_test(labels_are_escaped),
                cmocka_unit_test(answers_count_by_pattern),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
