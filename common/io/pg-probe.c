/* A connection owes an answer and is silent: a second one asks the server whether it still has the
 * first one's backend. A server that is slow has it, however long it takes; one that was restarted,
 * or was told by its own kernel that the client is gone, has not, and the first connection is
 * half-open. No answer says nothing. Not used behind a pooler, which has no
 * backend of its own for us. */
#include "pg-private.h"

#include <sys/epoll.h>

#include "log.h"

struct pg_probe {
        struct pg_connection *connection;
        PGconn *pg;
        sd_event_source *io;
        struct loop_timer timer;
        bool asked;
};

struct pg_probe *pg_probe_free(struct pg_probe *p)
{
        if (!p)
                return NULL;
        p->io = sd_event_source_disable_unref(p->io);
        loop_timer_done(&p->timer);
        if (p->pg)
                PQfinish(p->pg);
        free(p);
        return NULL;
}

static void over(struct pg_probe *p, bool gone)
{
        struct pg_connection *c = p->connection;

        c->probe = pg_probe_free(p);
        if (gone)
                pg_connection_gone(c);
}

static bool says_gone(struct pg_probe *p, const PGresult *r)
{
        return PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 &&
               pg_i64(r, 0, 0) == PQbackendPID(p->pg) && pg_i64(r, 0, 1) == 0;
}

static int ask(struct pg_probe *p)
{
        static const char sql[] =
                "SELECT pg_backend_pid(), count(*) FROM pg_stat_activity WHERE pid = $1::int";
        char pid[16];
        const char *values[] = { pid };

        (void) snprintf(pid, sizeof(pid), "%d", PQbackendPID(p->connection->pg));
        p->asked = true;
        return PQsetnonblocking(p->pg, 1) == 0 &&
                               PQsendQueryParams(p->pg, sql, 1, NULL, values, NULL, NULL, 0)
                       ? 0
                       : -ECONNRESET;
}

/* -> events to wait for, 0: it is over. */
static uint32_t answer(struct pg_probe *p, bool *ret_gone)
{
        int left = PQflush(p->pg);

        if (left < 0 || !PQconsumeInput(p->pg))
                return 0;
        if (PQisBusy(p->pg))
                return left > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN;
        PGresult *r = PQgetResult(p->pg);
        *ret_gone = r && says_gone(p, r);
        PQclear(r);
        return 0;
}

static uint32_t advance(struct pg_probe *p, bool *ret_gone)
{
        if (p->asked)
                return answer(p, ret_gone);
        switch (PQconnectPoll(p->pg)) {
        case PGRES_POLLING_OK:
                return ask(p) < 0 ? 0 : answer(p, ret_gone);
        case PGRES_POLLING_READING:
                return EPOLLIN;
        case PGRES_POLLING_WRITING:
                return EPOLLOUT;
        case PGRES_POLLING_FAILED:
        case PGRES_POLLING_ACTIVE:
                break;
        }
        return 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata);

static bool watch(struct pg_probe *p, uint32_t events)
{
        /* libpq may change the socket at each step and reuse its number. */
        p->io = sd_event_source_disable_unref(p->io);
        return sd_event_add_io(p->connection->pool->event, &p->io, PQsocket(p->pg), events, on_io,
                               p) >= 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct pg_probe *p = userdata;
        struct pg_pool *pool = p->connection->pool;
        bool gone = false;

        pg_pool_enter(pool);
        p->io = sd_event_source_disable_unref(p->io);
        uint32_t events = advance(p, &gone);
        if (events == 0 || !watch(p, events))
                over(p, gone);
        pg_pool_leave(pool);
        return 0;
}

static void on_timer(void *userdata)
{
        over(userdata, false);
}

void pg_probe_start(struct pg_connection *c)
{
        struct pg_pool *pool = c->pool;
        struct pg_probe *p;

        if (c->probe || c->pooled)
                return;
        p = c->probe = xnew(struct pg_probe);
        p->connection = c;
        if (loop_timer_init(&p->timer, pool->event, on_timer, p) < 0) {
                over(p, false);
                return;
        }
        loop_timer_arm(&p->timer, PG_CONNECT_USEC);
        p->pg = PQconnectStartParams((const char *const *) pool->keywords,
                                     (const char *const *) pool->values, 0);
        if (!p->pg || PQstatus(p->pg) == CONNECTION_BAD || !watch(p, EPOLLOUT)) {
                over(p, false);
                return;
        }
        log_debug("database connection %zu owes an answer: is its backend still there?",
                  (size_t) (c - pool->connections));
}
