/* Wakes sessions whose question nobody answered in time and that no worker holds. */
#include "question.h"

#include "approval.h"
#include "coordinator.h"
#include "lease.h"
#include "request.h"

#define WAKE_MAX UINT64_C(100) /* in one tick; the rest with the next */

static const char question_late[] =
        "SELECT session_id FROM core.session WHERE asked IS NOT NULL AND worker_id IS NULL AND "
        "status = 'waiting' AND asked ->> 'until' COLLATE \"C\" <= "
        "core.timestamp_text(clock_timestamp()) ORDER BY asked ->> 'until' COLLATE \"C\" "
        "LIMIT $1::int";

static int late_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        if (!s->exists || s->state != SESSION_STATE_WAITING || !s->asked || s->worker_id)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT, "it was answered meanwhile");
        return approval_wake(b, s, "nobody answered in time");
}

static void late_done(struct request *q, const struct hub_batch *b)
{
        lease_dispatch(q->c);
}

static void late_submit(struct request *q)
{
        request_submit(q, 512, 1, late_apply, late_done);
}

static void on_late(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct coordinator *c = userdata;

        c->waking_askers = false;
        for (int i = 0; r == 0 && i < PQntuples(results[0]); i++) {
                struct request *q =
                        request_new(c, sizeof(struct request), NULL, NULL, NULL, NULL, false);
                if (!q)
                        return;
                request_with_session(q, pg_str(results[0], i, 0), late_submit);
        }
}

void questions_tick(struct coordinator *c)
{
        if (!c->waking_askers)
                c->waking_askers = pg_query(c->pool, on_late, c, question_late, "u", WAKE_MAX) >= 0;
}
