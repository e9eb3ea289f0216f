/* One libpq connection in the loop: connects, sends batches pipelined, receives, backs off, heals.
 */
#include "pg-private.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "log.h"

static void connection_lost(struct pg_connection *c, const char *why);

static void set_state(struct pg_connection *c, enum pg_state to)
{
        static const char *const names[PG_STATE_MAX] = {
                [PG_IDLE] = "idle",
                [PG_CONNECTING] = "connecting",
                [PG_READY] = "ready",
                [PG_BACKOFF] = "backoff",
        };
        log_debug("database connection %zu: %s -> %s", (size_t) (c - c->pool->connections),
                  names[c->state], names[to]);
        c->state = to;
}

static void forget_prepared(struct pg_connection *c)
{
        size_t iter = 0;
        void *entry;
        while (c->prepared && map_next(c->prepared, &iter, NULL, &entry))
                free(entry);
        c->prepared = map_free(c->prepared);
}

static void close_socket(struct pg_connection *c)
{
        c->io = sd_event_source_disable_unref(c->io);
        c->probe = pg_probe_free(c->probe);
        if (c->pg)
                PQfinish(c->pg);
        c->pg = NULL;
        loop_timer_disarm(&c->timer);
}

/* Results that did not come: nobody knows whether these batches happened. */
static void end_flying(struct pg_connection *c)
{
        struct pg_batch *b;
        while ((b = list_first(&c->flying, struct pg_batch, link))) {
                list_remove(&b->link);
                c->n_flying--;
                b->error = (struct pg_error){ 0 };
                pg_batch_finish(b, -ECONNRESET);
        }
        forget_prepared(c);
}

static void wait_for_next_attempt(struct pg_connection *c)
{
        /* Half fixed, half random: many clients of one database must not come back in step. */
        uint64_t jitter;
        random_bytes(&jitter, sizeof(jitter));
        uint64_t wait = c->backoff / 2 + jitter % (c->backoff / 2 + 1);
        c->backoff = MIN(c->backoff * 2, PG_BACKOFF_MAX_USEC);
        set_state(c, PG_BACKOFF);
        loop_timer_arm(&c->timer, wait);
}

static void connection_lost(struct pg_connection *c, const char *why)
{
        bool was_ready = c->state == PG_READY;
        char reason[256];
        (void) snprintf(reason, sizeof(reason), "%s", why);
        reason[strcspn(reason, "\n")] = 0;
        close_socket(c);
        wait_for_next_attempt(c);
        pg_pool_connection_lost(c->pool, was_ready, reason);
        end_flying(c);
}

static void watch(struct pg_connection *c, uint32_t events)
{
        uint32_t now;
        if (sd_event_source_get_io_events(c->io, &now) >= 0 && now != events)
                (void) sd_event_source_set_io_events(c->io, events);
}

static void arm_silence(struct pg_connection *c)
{
        c->heard = now_monotonic();
        if (list_empty(&c->flying))
                loop_timer_disarm(&c->timer);
        else
                loop_timer_arm(&c->timer, MIN(PG_PROBE_USEC, c->pool->silence));
}

static void on_silence(struct pg_connection *c)
{
        uint64_t quiet = now_monotonic() - c->heard, most = c->pool->silence;

        if (quiet >= most) {
                connection_lost(c, "it owes an answer and says nothing");
                return;
        }
        pg_probe_start(c);
        loop_timer_arm(&c->timer, MIN(PG_PROBE_AGAIN_USEC, most - quiet));
}

void pg_connection_flush(struct pg_connection *c)
{
        if (c->state != PG_READY)
                return;
        int r = PQflush(c->pg);
        if (r < 0)
                connection_lost(c, PQerrorMessage(c->pg));
        else
                watch(c, r > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* The entry of this text, or NULL when the statement has to be sent unprepared. */
static struct pg_prepared *find_prepared(struct pg_connection *c, const char *sql)
{
        if (!c->prepared)
                return NULL;
        struct pg_prepared *p = map_get(c->prepared, sql);
        if (p || map_count(c->prepared) >= PG_STATEMENTS_MAX)
                return p;
        p = xnew(struct pg_prepared);
        (void) snprintf(p->name, sizeof(p->name), "b%zu", map_count(c->prepared));
        (void) map_set(c->prepared, sql, p);
        return p;
}

/* Each statement that the server does not know yet is prepared before the batch, with a Sync of its
 * own: a batch that fails does not take the preparations of others down with it. */
static int send_parses(struct pg_connection *c, struct pg_batch *b)
{
        b->parses = xnewn(struct pg_prepared *, b->n_statements);
        for (size_t i = 0; i < b->n_statements; i++) {
                struct pg_statement *s = &b->statements[i];
                struct pg_prepared *p = s->prepared = find_prepared(c, s->sql);
                if (!p || p->state == PG_PREPARED_SENT || p->state == PG_PREPARED_READY)
                        continue;
                if (!PQsendPrepare(c->pg, p->name, s->sql, 0, NULL) || !PQpipelineSync(c->pg))
                        return -ECONNRESET;
                p->state = PG_PREPARED_SENT;
                b->parses[b->n_parses++] = p;
        }
        return 0;
}

static int send_statement(struct pg_connection *c, struct pg_batch *b, struct pg_statement *s)
{
        cleanup_free const char **values = xnewn(const char *, s->n);
        cleanup_free int *lengths = xnewn(int, s->n), *formats = xnewn(int, s->n);
        for (size_t i = 0; i < s->n; i++) {
                const struct pg_param *p = &b->params[s->first + i];
                values[i] = p->null ? NULL : b->data.data + p->offset;
                lengths[i] = p->len;
                formats[i] = p->binary;
        }
        int ok = s->prepared ? PQsendQueryPrepared(c->pg, s->prepared->name, (int) s->n, values,
                                                   lengths, formats, 0)
                             : PQsendQueryParams(c->pg, s->sql, (int) s->n, NULL, values, lengths,
                                                 formats, 0);
        return ok ? 0 : -ECONNRESET;
}

/* Without its final Sync the server rolls the batch back: it counts as not sent. */
static void unsend(struct pg_batch *b)
{
        free(b->parses);
        free(b->results);
        b->parses = NULL;
        b->results = NULL;
        b->n_parses = b->parses_done = b->syncs_left = 0;
        b->settings = false;
}

/* Behind a pooler each transaction may be in another session of the server. */
static int send_settings(struct pg_connection *c, struct pg_batch *b)
{
        if (!c->pooled)
                return 0;
        b->settings = true;
        return PQsendQueryParams(c->pg, c->pool->settings_local, 0, NULL, NULL, NULL, NULL, 0)
                       ? 0
                       : -ECONNRESET;
}

int pg_connection_send(struct pg_connection *c, struct pg_batch *b)
{
        int r = send_parses(c, b);
        if (r == 0)
                r = send_settings(c, b);
        for (size_t i = 0; r == 0 && i < b->n_statements; i++)
                r = send_statement(c, b, &b->statements[i]);
        if (r == 0) {
                b->syncs_left = b->n_parses + 1;
                b->results = xnewn(PGresult *, b->n_statements);
                /* A failure of the last Sync may come after its bytes left. */
                list_push_back(&c->flying, &b->link);
                c->n_flying++;
                if (c->n_flying == 1)
                        arm_silence(c);
                if (!PQpipelineSync(c->pg))
                        connection_lost(c, PQerrorMessage(c->pg));
                return 0;
        }
        unsend(b);
        connection_lost(c, PQerrorMessage(c->pg));
        return r;
}

static void note_error(struct pg_batch *b, const PGresult *res)
{
        if (b->failed)
                return;
        b->failed = true;
        pg_error_set(&b->error, res);
        /* The statement does not exist because preparing it failed: that error is the one to tell.
         */
        if (!streq(b->error.sqlstate, "26000"))
                return;
        for (size_t i = 0; i < b->n_statements; i++) {
                const struct pg_prepared *p = b->statements[i].prepared;
                if (p && *p->error.sqlstate) {
                        b->error = p->error;
                        return;
                }
        }
}

static void parse_finished(struct pg_batch *b, const PGresult *res)
{
        struct pg_prepared *p = b->parses[b->parses_done++];
        if (PQresultStatus(res) == PGRES_COMMAND_OK) {
                p->state = PG_PREPARED_READY;
                p->error = (struct pg_error){ 0 };
                return;
        }
        p->state = PG_PREPARED_FAILED;
        pg_error_set(&p->error, res);
}

static void batch_finished(struct pg_connection *c, struct pg_batch *b)
{
        list_remove(&b->link);
        c->n_flying--;
        c->backoff = PG_BACKOFF_MIN_USEC;
        arm_silence(c);
        /* A changed table makes cached plans useless: a new connection has none. */
        if (b->failed && (streq(b->error.sqlstate, "0A000") || streq(b->error.sqlstate, "26000")))
                c->retiring = true;
        int r = b->failed                        ? -EREMOTEIO
                : b->n_results < b->n_statements ? -EREMOTEIO
                : b->lose                        ? -ECONNRESET
                                                 : 0;
        pg_batch_finish(b, r);
}

/* Takes the result. Negative: the conversation is not what we think it is. */
static int on_result(struct pg_connection *c, struct pg_batch *b, PGresult *res)
{
        ExecStatusType status = PQresultStatus(res);
        int r = 0;
        if (status == PGRES_PIPELINE_SYNC) {
                if (--b->syncs_left == 0)
                        batch_finished(c, b);
        } else if (b->parses_done < b->n_parses) {
                parse_finished(b, res);
        } else if (status == PGRES_PIPELINE_ABORTED) {
                b->failed = true;
        } else if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE) {
                note_error(b, res);
        } else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK &&
                   status != PGRES_EMPTY_QUERY) {
                r = -EPROTO; /* COPY and the like have no place in a batch */
        } else if (b->settings) {
                b->settings = false;
        } else if (b->n_results == b->n_statements) {
                r = -EPROTO;
        } else {
                b->results[b->n_results++] = res;
                return 0;
        }
        PQclear(res);
        return r;
}

static void receive(struct pg_connection *c)
{
        bool alive = PQconsumeInput(c->pg);
        unsigned nulls = 0;
        int r = 0;
        /* After end of file whole answers may still be in the buffer: they count. */
        struct pg_batch *b;
        while (r == 0 && nulls < 2 && c->state == PG_READY &&
               (b = list_first(&c->flying, struct pg_batch, link)) && !PQisBusy(c->pg)) {
                PGresult *res = PQgetResult(c->pg);
                nulls = res ? 0 : nulls + 1; /* one ends a statement, two: nothing is there */
                r = res ? on_result(c, b, res) : 0;
        }
        if (c->state != PG_READY)
                return;
        if (!alive || PQstatus(c->pg) == CONNECTION_BAD)
                connection_lost(c, PQerrorMessage(c->pg));
        else if (r < 0)
                connection_lost(c, "unexpected kind of result");
        else if (c->retiring && list_empty(&c->flying))
                connection_lost(c, "closed to drop plans that are out of date");
        else
                arm_silence(c);
}

void pg_connection_gone(struct pg_connection *c)
{
        char byte;

        if (c->state != PG_READY || list_empty(&c->flying))
                return;
        /* Its last words, or its end, may have come meanwhile: the loop reads them. */
        if (recv(PQsocket(c->pg), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
                connection_lost(c, "half-open: the server does not know it any more");
}

static int on_ready_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct pg_connection *c = userdata;
        struct pg_pool *p = c->pool;
        pg_pool_enter(p);
        if (revents & ~(uint32_t) EPOLLOUT)
                receive(c);
        if (c->state == PG_READY)
                pg_connection_flush(c);
        if (!p->dead)
                loop_task_queue(&p->dispatch); /* there may be room in the pipeline now */
        pg_pool_leave(p);
        return 0;
}

static void connected(struct pg_connection *c)
{
        struct pg_pool *p = c->pool;

        if (c->pooled && p->own_session) {
                connection_lost(c, "a pooler (pgbouncer?) stands before PostgreSQL; what needs a "
                                   "session of its own must go past it: set database_direct");
                return;
        }
        if (!PQenterPipelineMode(c->pg)) {
                connection_lost(c, PQerrorMessage(c->pg));
                return;
        }
        if (c->pooled && !p->told_pooled) {
                log_info("the database is reached through a pooler: nothing is kept between "
                         "transactions, and statements are not prepared");
                p->told_pooled = true;
        }
        int r = sd_event_add_io(p->event, &c->io, PQsocket(c->pg), EPOLLIN, on_ready_io, c);
        if (r < 0) {
                connection_lost(c, strerror(-r));
                return;
        }
        loop_timer_disarm(&c->timer);
        c->prepared = c->pooled ? NULL : map_new();
        c->retiring = false;
        set_state(c, PG_READY);
        pg_pool_connection_ready(p);
}

static void poll_connect(struct pg_connection *c);

static int on_connecting_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct pg_connection *c = userdata;
        struct pg_pool *p = c->pool;
        pg_pool_enter(p);
        poll_connect(c);
        pg_pool_leave(p);
        return 0;
}

/* -> events to wait for, 0: it is there. Negative: it is lost. */
static int advance(struct pg_connection *c)
{
        if (c->greeted)
                return pg_greeting_step(c);
        switch (PQconnectPoll(c->pg)) {
        case PGRES_POLLING_OK:
                return pg_greeting_step(c);
        case PGRES_POLLING_READING:
                return EPOLLIN;
        case PGRES_POLLING_WRITING:
                return EPOLLOUT;
        case PGRES_POLLING_FAILED:
        case PGRES_POLLING_ACTIVE:
                break;
        }
        return -ECONNRESET;
}

static void poll_connect(struct pg_connection *c)
{
        /* libpq may change the socket at each step and reuse its number: watch it anew. */
        c->io = sd_event_source_disable_unref(c->io);
        int r = advance(c);
        if (r == 0) {
                connected(c);
                return;
        }
        if (r > 0)
                r = sd_event_add_io(c->pool->event, &c->io, PQsocket(c->pg), (uint32_t) r,
                                    on_connecting_io, c);
        else if (*PQerrorMessage(c->pg)) {
                connection_lost(c, PQerrorMessage(c->pg));
                return;
        }
        if (r < 0)
                connection_lost(c, strerror(-r));
}

static void on_notice(void *arg, const char *message)
{
        log_debug("database: %s", message);
}

static void connect_now(struct pg_connection *c)
{
        set_state(c, PG_CONNECTING);
        c->greeted = c->pooled = false;
        loop_timer_arm(&c->timer, PG_CONNECT_USEC);
        c->pg = PQconnectStartParams((const char *const *) c->pool->keywords,
                                     (const char *const *) c->pool->values, 0);
        if (!c->pg || PQstatus(c->pg) == CONNECTION_BAD) {
                connection_lost(c, c->pg ? PQerrorMessage(c->pg) : "out of memory");
                return;
        }
        (void) PQsetNoticeProcessor(c->pg, on_notice, NULL);
        /* "If PQconnectPoll was not called yet, wait as if it had said writing." */
        int r = sd_event_add_io(c->pool->event, &c->io, PQsocket(c->pg), EPOLLOUT, on_connecting_io,
                                c);
        if (r < 0)
                connection_lost(c, strerror(-r));
}

static void on_timer(void *userdata)
{
        struct pg_connection *c = userdata;
        struct pg_pool *p = c->pool;
        pg_pool_enter(p);
        switch (c->state) {
        case PG_IDLE:
        case PG_BACKOFF:
                connect_now(c);
                break;
        case PG_CONNECTING:
                connection_lost(c, "connecting took longer than 2 s");
                break;
        case PG_READY:
                on_silence(c);
                break;
        case PG_STATE_MAX:
                break;
        }
        pg_pool_leave(p);
}

void pg_connection_init(struct pg_connection *c, struct pg_pool *p)
{
        *c = (struct pg_connection){ .pool = p, .backoff = PG_BACKOFF_MIN_USEC };
        list_init(&c->flying);
}

int pg_connection_start(struct pg_connection *c)
{
        int r = loop_timer_init(&c->timer, c->pool->event, on_timer, c);
        if (r == 0)
                loop_timer_arm(&c->timer, 0);
        return r;
}

void pg_connection_done(struct pg_connection *c)
{
        close_socket(c);
        loop_timer_done(&c->timer);
        set_state(c, PG_IDLE);
        end_flying(c);
}
