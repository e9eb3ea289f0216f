/* Counts answers by route and writes them, and the process's own figures, for Prometheus. */
#include "gatewayd/metrics.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gatewayd/route.h"

#define STATUSES_MAX 24u /* different statuses of one route and method; more count as the last */

struct tally {
        const struct route *route; /* NULL: none */
        enum http_method method;
        bool timed; /* one of its answers was no stream */
        struct histogram time;
        size_t n;
        int status[STATUSES_MAX];
        uint64_t count[STATUSES_MAX];
};

struct metrics {
        struct tally none;
        struct tally *
                *tallies; /* of the tables' routes, in their order; twice: HEAD; NULL: unused */
        size_t n;
        uint64_t lagged;
};

struct metrics *metrics_new(void)
{
        struct metrics *m = xnew(struct metrics);

        for (size_t i = 0; i < n_route_tables; i++)
                m->n += route_tables[i]->n;
        m->n *= 2;
        m->tallies = xnewn(struct tally *, m->n + 1);
        return m;
}

struct metrics *metrics_free(struct metrics *m)
{
        if (!m)
                return NULL;
        for (size_t i = 0; i < m->n; i++)
                free(m->tallies[i]);
        free(m->tallies);
        free(m);
        return NULL;
}

static struct tally *tally_of(struct metrics *m, const struct route *route, enum http_method method)
{
        size_t at = 0;

        for (size_t i = 0; route && i < n_route_tables; i++) {
                const struct route_table *t = route_tables[i];
                if (route < t->routes || route >= t->routes + t->n) {
                        at += t->n;
                        continue;
                }
                at = 2 * (at + (size_t) (route - t->routes)) + (method == HTTP_HEAD);
                if (!m->tallies[at]) {
                        m->tallies[at] = xnew(struct tally);
                        m->tallies[at]->route = route;
                        m->tallies[at]->method = method;
                }
                return m->tallies[at];
        }
        return &m->none;
}

void metrics_answered(struct metrics *m, const struct route *route, enum http_method method,
                      int status, uint64_t usec)
{
        struct tally *t = tally_of(m, route, method);
        size_t i = 0;

        while (i < t->n && t->status[i] != status)
                i++;
        if (i == t->n && t->n < STATUSES_MAX)
                t->status[t->n++] = status;
        t->count[MIN(i, STATUSES_MAX - 1)]++;
        if (usec != UINT64_MAX) {
                t->timed = true;
                histogram_add(&t->time, usec);
        }
}

void metrics_lagged(struct metrics *m)
{
        m->lagged++;
}

void metric_head(struct buf *b, const char *name, const char *type, const char *help)
{
        buf_putf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metric_label(struct buf *b, const char *name, const char *value, bool first)
{
        buf_putf(b, "%s%s=\"", first ? "" : ",", name);
        for (const char *p = value; *p; p++)
                if (*p == '\\' || *p == '"')
                        buf_putf(b, "\\%c", *p);
                else if (*p == '\n')
                        buf_puts(b, "\\n");
                else
                        buf_put(b, p, 1);
        buf_puts(b, "\"");
}

void metric_u64(struct buf *b, const char *name, uint64_t v)
{
        buf_putf(b, "%s %" PRIu64 "\n", name, v);
}

/* Seconds exactly, whatever the locale: microseconds are whole numbers. */
static void put_seconds(struct buf *b, uint64_t usec)
{
        buf_putf(b, "%" PRIu64 ".%06" PRIu64, usec / USEC_PER_SEC, usec % USEC_PER_SEC);
}

void metric_histogram(struct buf *b, const char *name, const char *labels,
                      const struct histogram *h)
{
        const char *comma = labels[0] ? "," : "";
        uint64_t n = 0;

        for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
                char le[32];
                (void) snprintf(le, sizeof(le), "%" PRIu64 ".%06" PRIu64,
                                histogram_bounds[i] / USEC_PER_SEC,
                                histogram_bounds[i] % USEC_PER_SEC);
                size_t len = strlen(le); /* 0.500000 -> 0.5, 10.000000 -> 10.0 */
                while (le[len - 1] == '0' && le[len - 2] != '.')
                        le[--len] = '\0';
                n += h->counts[i];
                buf_putf(b, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", name, labels, comma, le, n);
        }
        n += h->counts[HISTOGRAM_BOUNDS];
        buf_putf(b, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, n);
        buf_putf(b, labels[0] ? "%s_sum{%s} " : "%s_sum%s ", name, labels);
        put_seconds(b, h->sum_usec);
        buf_putf(b, labels[0] ? "\n%s_count{%s} %" PRIu64 "\n" : "\n%s_count%s %" PRIu64 "\n", name,
                 labels, n);
}

static void put_tally_labels(struct buf *b, const struct tally *t)
{
        metric_label(b, "route", t->route ? t->route->pattern : "none", true);
        metric_label(b, "method", t->route ? http_method_name(t->method) : "none", false);
}

static void put_counts(struct buf *b, const struct tally *t)
{
        for (size_t i = 0; i < t->n; i++) {
                buf_puts(b, "berth_http_requests_total{");
                put_tally_labels(b, t);
                buf_putf(b, ",status=\"%d\"} %" PRIu64 "\n", t->status[i], t->count[i]);
        }
}

static void put_times(struct buf *b, const struct tally *t)
{
        cleanup_buf struct buf labels = BUF_INIT;

        if (!t->timed)
                return;
        put_tally_labels(&labels, t);
        buf_put(&labels, "", 1);
        metric_histogram(b, "berth_http_request_duration_seconds", labels.data, &t->time);
}

void metrics_put(const struct metrics *m, struct buf *b)
{
        metric_head(b, "berth_http_requests_total", "counter",
                    "Requests answered, by pattern of the route, method and status.");
        for (size_t i = 0; i < m->n; i++)
                if (m->tallies[i])
                        put_counts(b, m->tallies[i]);
        put_counts(b, &m->none);
        metric_head(b, "berth_http_request_duration_seconds", "histogram",
                    "From the head of a request to its answer; streams are left out.");
        for (size_t i = 0; i < m->n; i++)
                if (m->tallies[i])
                        put_times(b, m->tallies[i]);
        put_times(b, &m->none);
        metric_head(b, "berth_stream_lagged_total", "counter",
                    "Streams that were ended because their client was too slow.");
        metric_u64(b, "berth_stream_lagged_total", m->lagged);
}

/* ---- the process ---- */

static uint64_t resident_bytes(void)
{
        char text[128];
        cleanup_close int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

        text[n > 0 ? n : 0] = '\0';
        const char *second = strchr(text, ' '); /* sizes in pages: all, resident ... */
        return second ? strtoull(second, NULL, 10) * (uint64_t) sysconf(_SC_PAGESIZE) : 0;
}

static uint64_t open_descriptors(void)
{
        DIR *d = opendir("/proc/self/fd");
        uint64_t n = 0;

        while (d && readdir(d))
                n++;
        if (d)
                (void) closedir(d);
        return n > 3 ? n - 3 : 0; /* without ".", ".." and the one just used */
}

void metrics_put_process(struct buf *b, uint64_t started_us)
{
        struct rusage use = { 0 };
        struct rlimit limit = { 0 };

        (void) getrusage(RUSAGE_SELF, &use);
        (void) getrlimit(RLIMIT_NOFILE, &limit);
        metric_head(b, "process_cpu_seconds_total", "counter", "CPU time of gatewayd.");
        buf_puts(b, "process_cpu_seconds_total ");
        put_seconds(b, ((uint64_t) use.ru_utime.tv_sec + (uint64_t) use.ru_stime.tv_sec) *
                                       USEC_PER_SEC +
                               (uint64_t) use.ru_utime.tv_usec + (uint64_t) use.ru_stime.tv_usec);
        buf_puts(b, "\n");
        metric_head(b, "process_resident_memory_bytes", "gauge", "Memory of gatewayd.");
        metric_u64(b, "process_resident_memory_bytes", resident_bytes());
        metric_head(b, "process_open_fds", "gauge", "Open descriptors of gatewayd.");
        metric_u64(b, "process_open_fds", open_descriptors());
        metric_head(b, "process_max_fds", "gauge", "How many gatewayd may open.");
        metric_u64(b, "process_max_fds", (uint64_t) limit.rlim_cur);
        metric_head(b, "process_start_time_seconds", "gauge", "When gatewayd started, since 1970.");
        buf_puts(b, "process_start_time_seconds ");
        put_seconds(b, started_us);
        buf_puts(b, "\n");
}
