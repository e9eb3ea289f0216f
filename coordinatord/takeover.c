/* From start to active: one coordinator per database at a time, by an advisory lock on a connection
 * of its own; then migrations, the new term that fences whoever was active before, and what is live
 * is read. */
#include "common/io/log.h"
#include "coordinator.h"
#include "token.h"

#define RETRY_USEC (500 * USEC_PER_MSEC)
#define BEAT_USEC (500 * USEC_PER_MSEC)
#define ENDED_USEC (50 * USEC_PER_MSEC) /* until the lock of an ended connection is free */
#define SILENCE_USEC (6 * USEC_PER_SEC) /* of the database: one more than a statement may take */

static void try_lock(struct coordinator *c);
static void read_live(struct coordinator *c);

static struct pg_config database(const struct coordinator *c, const char *name, unsigned n)
{
        const struct coordinator_settings *s = c->settings;

        return (struct pg_config){
                .conninfo = s->database,
                .passfile = strempty(s->database_passfile) ? NULL : s->database_passfile,
                .application = name,
                .connections = n,
                .silence_usec = SILENCE_USEC,
        };
}

void takeover_retry(struct coordinator *c, const char *why)
{
        coordinator_set_phase(c, c->phase, why);
        loop_timer_arm(&c->takeover_timer, RETRY_USEC);
}

static void on_retry(void *userdata)
{
        try_lock(userdata);
}

/* Past a pooler, where there is one. */
static struct pg_config direct(const struct coordinator *c, const char *name)
{
        const struct coordinator_settings *s = c->settings;
        struct pg_config config = database(c, name, 1);

        if (!strempty(s->database_direct))
                config.conninfo = s->database_direct;
        return config;
}

/* ---- reading ---- */

static void all_read(struct coordinator *c)
{
        token_first(c); /* then coordinator_activate */
}

static void on_session_read(void *userdata, int r)
{
        struct coordinator *c = userdata;

        c->loading--;
        if (r < 0) {
                log_warning("coordinator: a live session could not be read: %s",
                            strerrordesc_np(-r));
                c->unread = true;
        }
        if (c->loading > 0)
                return;
        if (c->unread)
                takeover_retry(c, "a live session could not be read");
        else
                all_read(c);
}

static void on_live_ids(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0) {
                takeover_retry(c, "the live sessions could not be read");
                return;
        }
        log_info("coordinator: %d sessions are live", PQntuples(results[0]));
        c->loading = 1;
        c->unread = false;
        for (int i = 0; i < PQntuples(results[0]); i++) {
                CLEANUP(session_unrefp)
                struct session *s = sessions_get(&c->sessions, pg_str(results[0], i, 0));
                c->loading++;
                r = store_session_reload(c->pool, s, on_session_read, c);
                if (r < 0)
                        on_session_read(c, r);
        }
        on_session_read(c, 0);
}

static void on_workers(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0) {
                takeover_retry(c, "the workers could not be read");
                return;
        }
        workers_load(&c->workers, results[0]);
        if (pg_query(c->pool, on_live_ids, c, store_live_ids, "") < 0)
                takeover_retry(c, "the database is overloaded");
}

static void read_live(struct coordinator *c)
{
        if (pg_query(c->pool, on_workers, c, store_workers_read, "u", c->settings->workers_max) < 0)
                takeover_retry(c, "the database is overloaded");
}

static void on_partitions(void *userdata, int r, PGresult **results, size_t n,
                          const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0) /* events have a place in any case; upkeep tries again */
                log_warning("coordinator: this month's partition of events is not made: %s",
                            error && error->message[0] ? error->message : strerror(-r));
        read_live(c);
}

/* Before the first event of a month can come. */
static void make_partitions(struct coordinator *c)
{
        if (pg_query(c->pool, on_partitions, c, store_partitions, "") < 0)
                takeover_retry(c, "the database is overloaded");
}

/* ---- lock, migrations, term ---- */

static void on_term(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0) {
                takeover_retry(c, "no new term could be begun");
                return;
        }
        store_read_start(results[0], &c->start);
        log_info("coordinator: term %" PRIu64 ", batch %" PRIu64 ", cursor %" PRIu64, c->start.term,
                 c->start.batch, c->start.cursor);
        make_partitions(c);
}

static int make_pools(struct coordinator *c)
{
        struct pg_config hub = database(c, "coordinatord hub", 1);
        struct pg_config rest =
                database(c, "coordinatord", (unsigned) c->settings->database_connections);
        int r = pg_pool_new(c->daemon->event, &hub, &c->hub_pool);

        rest.queue_max = c->settings->sessions_live_max + 10000;
        if (r >= 0)
                r = pg_pool_new(c->daemon->event, &rest, &c->pool);
        if (r >= 0)
                r = workers_init(&c->workers, c->daemon->event, c->pool, c->settings->workers_max);
        return r;
}

/* Holds the lock. Blocks while it migrates: nothing else is in the loop yet but this. */
static void locked(struct coordinator *c)
{
        struct pg_config config = direct(c, "coordinatord migration");
        cleanup_free char *why = NULL;
        int r;

        coordinator_set_phase(c, PHASE_STARTING, "reading the database");
        r = store_migrate(&config, &why);
        if (r < 0) {
                log_error("coordinator: %s", why ? why : strerrordesc_np(-r));
                if (r == -EPROTO)
                        daemon_quit(c->daemon, r);
                else
                        takeover_retry(c, "migrations failed");
                return;
        }
        if (!c->pool && (r = make_pools(c)) < 0) {
                daemon_quit(c->daemon, log_errno(LOG_ERR, r, "cannot use the database"));
                return;
        }
        if (pg_query(c->hub_pool, on_term, c, store_activate, "") < 0)
                takeover_retry(c, "the database is overloaded");
}

/* ---- the one that holds the lock ---- */

static void on_holder_ended(void *userdata, int r, PGresult **results, size_t n,
                            const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r == 0 && PQntuples(results[0]) > 0 && pg_bool(results[0], 0, 0))
                loop_timer_arm(&c->takeover_timer, ENDED_USEC);
        else
                log_warning("coordinator: the connection of the one that shows no life stays: %s",
                            error && error->message[0] ? error->message : "it moved");
}

/* A coordinator that stands still keeps its connection, and with it the lock. What it does should
 * it wake up is fenced by the term; it ends as soon as it sees that the lock is gone. Time counts
 * only as long as the database answers us at our own pace: when it, or we, stood still, that says
 * nothing about the other one. */
static void look_at_holder(struct coordinator *c, const PGresult *r)
{
        struct lock_holder *h = &c->holder;
        uint64_t now = now_monotonic(), step = MIN(now - h->looked_at, 2 * RETRY_USEC);
        const char *beat = PQntuples(r) > 0 ? pg_str(r, 0, 1) : NULL;

        h->looked_at = now;
        if (!beat || pg_i64(r, 0, 0) != h->pid || !streq(beat, h->beat)) {
                h->pid = beat ? pg_i64(r, 0, 0) : 0;
                (void) snprintf(h->beat, sizeof(h->beat), "%s", beat ? beat : "");
                h->silent_usec = 0;
                return;
        }
        h->silent_usec += step;
        if (h->silent_usec < c->settings->standby_after)
                return;
        log_warning("coordinator: the active one shows no life for %.1f s; taking over",
                    (double) h->silent_usec / (double) USEC_PER_SEC);
        h->silent_usec = 0;
        if (pg_query(c->lock_pool, on_holder_ended, c, store_end_holder, "is", h->pid, h->beat) < 0)
                log_warning("coordinator: the database is overloaded");
}

static void on_beat_answered(void *userdata, int r, PGresult **results, size_t n,
                             const struct pg_error *error)
{
        ((struct coordinator *) userdata)->beating = false;
}

static void on_beat(void *userdata)
{
        struct coordinator *c = userdata;

        if (!c->beating)
                c->beating = pg_query(c->lock_pool, on_beat_answered, c, store_beat, "") >= 0;
        loop_timer_arm(&c->beat_timer, BEAT_USEC);
}

void takeover_active(struct coordinator *c)
{
        on_beat(c);
}

static void on_lock(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct coordinator *c = userdata;
        bool got = r == 0 && pg_bool(results[0], 0, 0);

        if (c->phase == PHASE_ACTIVE) {
                /* The lock's connection was lost and made anew. Another may have been faster. */
                if (r == 0 && !got) {
                        log_error("coordinator: another one holds the lock now; ending");
                        daemon_quit(c->daemon, -ESTALE);
                } else if (r < 0) {
                        loop_timer_arm(&c->takeover_timer, RETRY_USEC);
                }
        } else if (got) {
                locked(c);
        } else if (r < 0) {
                takeover_retry(c, "waiting for the database");
        } else {
                c->waited = true;
                takeover_retry(c, "another coordinator is active");
                look_at_holder(c, results[1]);
        }
}

static void try_lock(struct coordinator *c)
{
        struct pg_batch *b;

        if (pg_pool_up(c->lock_pool)) {
                b = pg_batch_new();
                pg_batch_add(b, store_try_lock, "");
                pg_batch_add(b, store_holder, "");
                if (pg_submit(c->lock_pool, b, on_lock, c) == 0)
                        return;
        }
        loop_timer_arm(&c->takeover_timer, RETRY_USEC);
}

static void on_lock_state(void *userdata, bool up)
{
        struct coordinator *c = userdata;

        if (up) {
                try_lock(c);
                return;
        }
        log_warning("coordinator: the database is away: %s", pg_pool_problem(c->lock_pool));
        if (c->phase == PHASE_ACTIVE)
                return;
        cleanup_free char *status =
                xasprintf("waiting for the database: %s", pg_pool_problem(c->lock_pool));
        coordinator_set_phase(c, PHASE_WAITING, status);
}

int takeover_start(struct coordinator *c)
{
        struct pg_config config = direct(c, "coordinatord lock");
        int r = loop_timer_init(&c->takeover_timer, c->daemon->event, on_retry, c);

        if (r >= 0)
                r = loop_timer_init(&c->beat_timer, c->daemon->event, on_beat, c);
        if (r < 0)
                return r;
        config.own_session = true;
        config.on_state = on_lock_state;
        config.userdata = c;
        r = pg_pool_new(c->daemon->event, &config, &c->lock_pool);
        if (r < 0)
                return log_errno(LOG_ERR, r, "setting database");
        coordinator_set_phase(c, PHASE_WAITING, "waiting for the database");
        return 0;
}
