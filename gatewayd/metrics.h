/* What the gateway counts about itself for GET /metrics, and how that page is written (Prometheus
 * text format 0.0.4). Labels come from fixed sets only: patterns of the route tables, methods that
 * the head parser knows, statuses that were answered, states and names of Berth's own. */
#pragma once

#include "common/base/buf.h"
#include "common/base/histogram.h"
#include "gatewayd/http.h"

struct metrics;
struct metrics *metrics_new(void);
struct metrics *metrics_free(struct metrics *m);
DEFINE_CLEANUP(struct metrics, metrics_free)

/* An answer. route NULL: nothing was found at the path, or the bytes were no request; then method
 * is not looked at. usec UINT64_MAX: a stream, whose length says nothing. */
void metrics_answered(struct metrics *m, const struct route *route, enum http_method method,
                      int status, uint64_t usec);
void metrics_lagged(struct metrics *m); /* a stream was ended because its client was too slow */

/* berth_http_*, berth_stream_lagged_total. */
void metrics_put(const struct metrics *m, struct buf *b);
void metrics_put_process(struct buf *b, uint64_t started_us); /* process_*, from /proc/self */

/* # HELP and # TYPE, before the samples of a name. */
void metric_head(struct buf *b, const char *name, const char *type, const char *help);
void metric_label(struct buf *b, const char *name, const char *value, bool first); /* escaped */
void metric_u64(struct buf *b, const char *name, uint64_t v); /* without labels */
/* labels: "route=\"x\"" or "". */
void metric_histogram(struct buf *b, const char *name, const char *labels,
                      const struct histogram *h);
