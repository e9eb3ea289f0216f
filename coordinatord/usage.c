/* usage_may, usage_add: models that are called for a tenant outside of any session, such as by
 * POST /documents/ask, count in its limits and in core.usage as those of sessions do. */
#include "budget.h"
#include "common/base/buf.h"
#include "route.h"

int route_usage_may(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct coordinator *c = userdata;
        struct request *q =
                request_new(c, sizeof(struct request), p, req, &wire_usage_may, msg, false);

        if (!q)
                return 0;
        const struct usage_may *m = q->msg;
        if (!c->budgets_loaded)
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "limits are not known yet; try again");
        else if (route_tenant(q, m->tenant))
                request_reply(q,
                              &(struct usage_verdict){ .hold = budgets_hold(c, m->tenant, NULL) });
        request_end(q);
        return 0;
}

static void on_added(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        struct request *q = userdata;
        const struct usage_add *m = q->msg;

        if (r == -EREMOTEIO && streq(error->sqlstate, "BT001"))
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "another coordinator has taken over");
        else if (r < 0)
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the database cannot be reached; try again");
        else {
                budgets_used(q->c, m->tenant, NULL, &m->usage);
                request_reply(q, &(struct ok_reply){ 0 });
        }
        request_end(q);
}

/* One row of core.usage: session and agent are empty. */
static void put_row(struct buf *b, const struct usage_add *m)
{
        const struct usage *u = &m->usage;

        buf_puts(b, "[{\"session_id\":\"\",\"agent_name\":\"\",\"tenant\":");
        buf_put_json_string(b, m->tenant, strlen(m->tenant));
        buf_puts(b, ",\"model\":");
        buf_put_json_string(b, m->model, strlen(m->model));
        buf_putf(b,
                 ",\"calls\":%" PRIu64 ",\"input_tokens\":%" PRIu64 ",\"output_tokens\":%" PRIu64
                 ",\"cache_read_tokens\":%" PRIu64 ",\"cache_write_tokens\":%" PRIu64
                 ",\"cost_microusd\":%" PRIu64 "}]",
                 MAX(u->turns, UINT64_C(1)), u->input_tokens, u->output_tokens,
                 u->cache_read_tokens, u->cache_write_tokens, u->cost_microusd);
}

int route_usage_add(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct coordinator *c = userdata;
        struct request *q =
                request_new(c, sizeof(struct request), p, req, &wire_usage_add, msg, false);
        cleanup_buf struct buf row = BUF_INIT;
        char now[TIMESTAMP_MAX];

        if (!q)
                return 0;
        const struct usage_add *m = q->msg;
        if (!route_tenant(q, m->tenant)) {
                request_end(q);
                return 0;
        }
        put_row(&row, m);
        timestamp_format(now_realtime(), now);
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b, store_fence, "u", c->start.term);
        pg_batch_add(b, store_usage_add, "ss", now, row.data);
        if (pg_submit(c->pool, b, on_added, q) < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
                request_end(q);
        }
        return 0;
}
