/* Once a second, beside work: rows of workers, counters, old keys, what deleted sessions left
 * behind. */
#include "audit.h"
#include "approval.h"
#include "budget.h"
#include "common/io/log.h"
#include "coordinator.h"
#include "limits.h"
#include "question.h"
#include "warm.h"

#define STATUS_TICKS 5
#define EXPIRE_TICKS 60
#define RETAIN_TICKS 5
#define RETAIN_EVENTS 2000
#define RETAIN_ATTACHMENTS 50
#define PARTITION_TICKS 3600
#define LIMITS_TICKS 60
#define PURGE_TICKS 30
#define PURGE_EVENTS 2000
#define PURGE_ATTACHMENTS 50

/* ---- purge: one session at a time, in small steps ---- */

static void purge_step(struct coordinator *c, const char *sql, int64_t limit, pg_done_fn fn)
{
        if (pg_query(c->pool, fn, c, sql, "si", c->purge_id, limit) < 0)
                c->purging = false;
}

static void on_purged(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct coordinator *c = userdata;

        c->purging = false;
        if (r == 0) {
                log_debug("session %s: purged", c->purge_id);
                struct session *s = map_get(c->sessions.by_id, c->purge_id);
                if (s && !s->exists)
                        s->purging = false;
                upkeep_purge(c);
        }
}

static void on_attachments(void *userdata, int r, PGresult **results, size_t n,
                           const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0)
                c->purging = false;
        else if (pg_i64(results[0], 0, 0) >= PURGE_ATTACHMENTS)
                purge_step(c, store_purge_attachments, PURGE_ATTACHMENTS, on_attachments);
        else if (pg_query(c->pool, on_purged, c, store_purge_done, "s", c->purge_id) < 0)
                c->purging = false;
}

static void on_events(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0)
                c->purging = false;
        else if (pg_i64(results[0], 0, 0) >= PURGE_EVENTS)
                purge_step(c, store_purge_events, PURGE_EVENTS, on_events);
        else
                purge_step(c, store_purge_attachments, PURGE_ATTACHMENTS, on_attachments);
}

static void on_purge_list(void *userdata, int r, PGresult **results, size_t n,
                          const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0 || PQntuples(results[0]) == 0) {
                c->purging = false;
                return;
        }
        (void) snprintf(c->purge_id, sizeof(c->purge_id), "%s", pg_str(results[0], 0, 0));
        purge_step(c, store_purge_events, PURGE_EVENTS, on_events);
}

void upkeep_purge(struct coordinator *c)
{
        if (c->purging || c->phase != PHASE_ACTIVE)
                return;
        c->purging = pg_query(c->pool, on_purge_list, c, store_purge_list, "i", INT64_C(1)) >= 0;
}

/* ---- old keys ---- */

static void on_expired(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        ((struct coordinator *) userdata)->expiring = false;
}

static void expire(struct coordinator *c)
{
        if (pg_query(c->pool, NULL, NULL, store_expire_tombstones, "") < 0)
                return;
        if (!c->expiring)
                c->expiring =
                        pg_query(c->pool, on_expired, c, store_idempotency_expire, "ui",
                                 c->settings->idempotency_keep / USEC_PER_SEC, INT64_C(1000)) >= 0;
}

/* ---- retention ---- */

static void on_old_attachments(void *userdata, int r, PGresult **results, size_t n,
                               const struct pg_error *error)
{
        ((struct coordinator *) userdata)->retaining = false;
}

static void retain_step(struct coordinator *c);

static void on_old_events(void *userdata, int r, PGresult **results, size_t n,
                          const struct pg_error *error)
{
        struct coordinator *c = userdata;

        c->retaining = false;
        if (r < 0) {
                log_warning("old events are not removed: %s",
                            error && error->message[0] ? error->message : strerror(-r));
        } else if (pg_i64(results[0], 0, 0) > 0) {
                c->counters.events_expired += (uint64_t) pg_i64(results[0], 0, 0);
                retain_step(c);
        } else {
                c->retaining = pg_query(c->pool, on_old_attachments, c, store_expire_attachments,
                                        "ui", c->settings->events_keep / USEC_PER_SEC,
                                        (int64_t) RETAIN_ATTACHMENTS) >= 0;
        }
}

/* Readers whose position is older than what is left are told (410): core.event_expired. */
static void retain_step(struct coordinator *c)
{
        if (!c->retaining && c->settings->events_keep > 0)
                c->retaining = pg_query(c->pool, on_old_events, c, store_expire_events, "ui",
                                        c->settings->events_keep / USEC_PER_SEC,
                                        (int64_t) RETAIN_EVENTS) >= 0;
}

static void on_partitions(void *userdata, int r, PGresult **results, size_t n,
                          const struct pg_error *error)
{
        struct coordinator *c = userdata;

        c->partitioning = false;
        if (r < 0)
                log_warning("next month's partition of events is not made yet: %s",
                            error && error->message[0] ? error->message : strerror(-r));
}

static void partition(struct coordinator *c)
{
        if (!c->partitioning)
                c->partitioning = pg_query(c->pool, on_partitions, c, store_partitions, "") >= 0;
}

/* ---- status ---- */

static void on_status(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        ((struct coordinator *) userdata)->writing_status = false;
}

static void put(struct buf *b, const char *name, uint64_t v)
{
        buf_putf(b, ",\"%s\":%" PRIu64, name, v);
}

static void write_status(struct coordinator *c)
{
        const struct coordinator_counters *n = &c->counters;
        const struct hub_counters *h = hub_counters(c->hub);
        cleanup_buf struct buf b = BUF_INIT;
        struct otlp_counts spans;

        if (c->writing_status)
                return;
        buf_putf(&b, "{\"version\":\"%s\",\"instance\":\"%s\",\"db_epoch\":\"%s\"", BERTH_VERSION,
                 c->instance, c->start.db_epoch);
        put(&b, "term", c->start.term);
        put(&b, "cursor", hub_cursor(c->hub));
        put(&b, "sessions_queued", c->sessions.n_queued);
        put(&b, "sessions_leased", c->sessions.n_leased);
        put(&b, "requests_waiting", c->n_requests);
        put(&b, "hub_waiting", hub_waiting(c->hub));
        put(&b, "hub_stuck_usec", hub_stuck_usec(c->hub));
        put(&b, "events", h->events);
        put(&b, "commits", h->batches);
        put(&b, "commit_retries", h->retries);
        put(&b, "commit_replies_lost", h->replays);
        put(&b, "commits_refused", h->rebuilds);
        put(&b, "hub_queue_full", h->queue_full);
        put(&b, "requests", n->requests);
        put(&b, "requests_refused", n->requests_refused);
        put(&b, "requests_late", n->requests_late);
        put(&b, "leases_granted", n->leases_granted);
        put(&b, "leases_lost", n->leases_lost);
        put(&b, "leases_refused", n->leases_refused);
        put(&b, "evictions", n->evictions);
        put(&b, "stale_appends", n->stale_appends);
        put(&b, "live_dropped", n->live_dropped);
        put(&b, "events_expired", n->events_expired);
        otlp_counts(c->daemon->otlp, &spans);
        buf_putf(&b,
                 ",\"spans\":{\"sent\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"rejected\":%" PRIu64
                 "}",
                 spans.sent, spans.dropped, spans.rejected);
        buf_puts(&b, ",\"warm\":");
        warm_json(c->warm, &b);
        figures_put(c, &b);
        buf_puts(&b, "}");
        c->writing_status = pg_query(c->pool, on_status, c, store_status_write, "st",
                                     "coordinatord", (struct span){ b.data, b.len }) >= 0;
}

/* What systemctl status says. */
static void tell_status(struct coordinator *c)
{
        uint64_t events = hub_counters(c->hub)->events;
        uint64_t stuck = hub_stuck_usec(c->hub);
        char trouble[64] = "";

        if (stuck > USEC_PER_SEC)
                (void) snprintf(trouble, sizeof(trouble), "; a commit waits for %" PRIu64 " s",
                                stuck / USEC_PER_SEC);
        daemon_status(c->daemon,
                      "active: %zu sessions live, %zu queued, %zu with a worker, %" PRIu64
                      " events/s%s",
                      sessions_live(&c->sessions), c->sessions.n_queued, c->sessions.n_leased,
                      (events - c->told_events) / STATUS_TICKS, trouble);
        c->told_events = events;
}

void upkeep_tick(struct coordinator *c)
{
        unsigned t = c->ticks++;

        workers_tick(&c->workers);
        approvals_tick(c);
        questions_tick(c);
        budgets_tick(c);
        bool news = warm_news(c->warm);
        if (t % STATUS_TICKS == 0 || news)
                write_status(c);
        if (t % STATUS_TICKS == 0)
                tell_status(c);
        if (t % EXPIRE_TICKS == 0)
                expire(c);
        if (t % LIMITS_TICKS == 0)
                limits_load(c);
        if (t % RETAIN_TICKS == 0)
                retain_step(c);
        if (t % PARTITION_TICKS == 0) {
                partition(c);
                audit_upkeep(c);
        }
        if (t % PURGE_TICKS == 0)
                upkeep_purge(c);
}
