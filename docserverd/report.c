/* Writes the state of reading, workers and vectors to docs.status. */
#include "report.h"

#include "common/base/buf.h"
#include "reading.h"
#include "runners.h"
#include "vectors.h"

#define INTERVAL (5 * USEC_PER_SEC)
#define FIRST USEC_PER_SEC

struct report {
        struct docserver *server;
        struct loop_timer timer;
};

static void put(struct buf *b, const struct docserver *d)
{
        struct runners_load load;
        struct reading_counts reading;
        const char *problem = vectors_problem(d->vectors);
        struct otlp_counts spans;

        runners_load(d->runners, &load);
        reading_counts(d->reading, &reading);
        otlp_counts(d->daemon->otlp, &spans);
        buf_putf(b,
                 "{\"version\":\"" BERTH_VERSION
                 "\",\"jobs\":{\"workers\":%u,\"slots\":%u,\"slots_busy\":%u,\"calls\":%u,"
                 "\"calls_busy\":%u},\"reading\":{\"now\":%" PRIu64 ",\"ready\":%" PRIu64
                 ",\"none\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"again\":%" PRIu64
                 "},\"questions\":%zu,\"spans\":{\"sent\":%" PRIu64 ",\"dropped\":%" PRIu64
                 ",\"rejected\":%" PRIu64 "},\"search\":{\"language\":",
                 load.workers, load.slots, load.slots_busy, load.calls, load.calls_busy,
                 reading.now, reading.ready, reading.none, reading.failed, reading.again, d->asks,
                 spans.sent, spans.dropped, spans.rejected);
        buf_put_json_string(b, d->settings->search_language, strlen(d->settings->search_language));
        buf_putf(b, ",\"mode\":\"%s\",\"vectors\":%s", problem[0] ? "text" : "hybrid",
                 problem[0] ? "false" : "true");
        if (problem[0]) {
                buf_puts(b, ",\"why_no_vectors\":");
                buf_put_json_string(b, problem, strlen(problem));
        } else {
                buf_puts(b, ",\"model\":");
                buf_put_json_string(b, vectors_model(d->vectors),
                                    strlen(vectors_model(d->vectors)));
        }
        buf_puts(b, "}}");
}

/* What systemctl status says. */
static void tell_status(const struct docserver *d)
{
        const struct docserver_settings *s = d->settings;
        bool s3 = streq(s->blob_store, "s3");
        struct runners_load load;
        struct reading_counts reading;

        runners_load(d->runners, &load);
        reading_counts(d->reading, &reading);
        daemon_status(d->daemon,
                      "Keeping documents in %s%s: %" PRIu64 " being read, %" PRIu64
                      " to be read again, %u of %u slots for that busy, %zu questions%s",
                      s3 ? "bucket " : "", s3 ? s->s3_bucket : s->blob_dir, reading.now,
                      reading.again, load.slots_busy, load.slots, d->asks,
                      d->pg && pg_pool_up(d->pg) ? "" : "; without the database");
}

static void write_report(void *userdata)
{
        struct report *r = userdata;
        cleanup_buf struct buf b = BUF_INIT;

        loop_timer_arm(&r->timer, INTERVAL);
        tell_status(r->server);
        if (!r->server->pg || !pg_pool_up(r->server->pg))
                return;
        put(&b, r->server);
        if (!utf8_valid(b.data, b.len))
                return; /* a message of the database that was cut */
        if (pg_query(r->server->pg, NULL, NULL,
                     "INSERT INTO docs.status (json) VALUES ($1) ON CONFLICT (one) DO UPDATE SET "
                     "json = EXCLUDED.json, updated_at = now()",
                     "s", b.data) < 0)
                return; /* the next one will do */
}

struct report *report_new(struct docserver *d)
{
        struct report *r = xnew(struct report);

        r->server = d;
        if (loop_timer_init(&r->timer, d->event, write_report, r) < 0) {
                free(r);
                return NULL;
        }
        loop_timer_arm(&r->timer, FIRST);
        return r;
}

struct report *report_free(struct report *r)
{
        if (!r)
                return NULL;
        loop_timer_done(&r->timer);
        free(r);
        return NULL;
}
