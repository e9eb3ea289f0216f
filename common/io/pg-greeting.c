/* The first statement of a connection: settings, and who answers. A pooler tells clients process
 * ids of its own, which no backend has: PostgreSQL itself sets the session up and returns a row;
 * behind a pooler (pgbouncer, whatever it pools) nothing is set, for the session is not ours. */
#include "pg-private.h"

#include <sys/epoll.h>

static int ask(struct pg_connection *c)
{
        cleanup_free char *sql =
                xasprintf("%s WHERE pg_backend_pid() = %d", c->pool->settings, PQbackendPID(c->pg));

        c->greeted = true;
        return PQsetnonblocking(c->pg, 1) == 0 && PQsendQuery(c->pg, sql) ? 0 : -ECONNRESET;
}

int pg_greeting_step(struct pg_connection *c)
{
        int left;
        PGresult *r;

        if (!c->greeted && ask(c) < 0)
                return -ECONNRESET;
        left = PQflush(c->pg);
        if (left < 0 || !PQconsumeInput(c->pg))
                return -ECONNRESET;
        while (!PQisBusy(c->pg)) {
                r = PQgetResult(c->pg);
                if (!r)
                        return 0;
                bool answered = PQresultStatus(r) == PGRES_TUPLES_OK;
                c->pooled = PQntuples(r) == 0;
                PQclear(r);
                if (!answered)
                        return -ECONNRESET;
        }
        return left > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN;
}
