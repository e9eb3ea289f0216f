/* Writes the audit log: rows of requests, rows that gateways send, partitions of days. */
#include "audit.h"

#include "batch.h"
#include "common/base/json.h"
#include "common/io/log.h"

static const char audit_add[] = "SELECT core.audit_add($1::json)";
static const char audit_append[] = "SELECT core.audit_append($1, $2::bigint, $3::json)";
static const char audit_partitions[] =
        "SELECT core.audit_partition_add((now() AT TIME ZONE 'UTC')::date + n) "
        "FROM generate_series(0, 2) AS n";
static const char audit_expire[] = "SELECT core.audit_expire((now() AT TIME ZONE 'UTC' - "
                                   "$1::bigint * interval '1 second')::date)";

char *audit_context(struct rpc_request *rpc)
{
        const char *text = rpc ? rpc_request_context(rpc) : "";
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (!*text)
                return NULL;
        if (json_parse(text, strlen(text), &j, &problem) < 0 || !json_is_object(j)) {
                log_warning("audit: a request says who asks in a form that is not understood");
                return NULL;
        }
        return json_text(j);
}

char *audit_row(const struct request *q, const char *target)
{
        cleanup_buf struct buf b = BUF_INIT;
        const char *to = target ? target : "";

        if (!q->audit)
                return NULL;
        buf_put(&b, q->audit, strlen(q->audit) - 1);
        buf_puts(&b, q->audit[1] == '}' ? "\"target\":" : ",\"target\":");
        buf_put_json_string(&b, to, strlen(to));
        buf_puts(&b, ",\"result\":\"ok\"}");
        return buf_take(&b, NULL);
}

void audit_commit(struct pg_batch *p, const struct hub_batch *b)
{
        cleanup_buf struct buf rows = BUF_INIT;

        if (b->audit.len == 0)
                return;
        buf_puts(&rows, "[");
        buf_put(&rows, b->audit.data, b->audit.len);
        buf_puts(&rows, "]");
        pg_batch_add(p, audit_add, "t", (struct span){ rows.data, rows.len });
}

void audit_with(struct request *q, struct pg_batch *b, const char *target)
{
        cleanup_free char *row = audit_row(q, target);
        cleanup_free char *rows = row ? xasprintf("[%s]", row) : NULL;

        if (rows)
                pg_batch_add(b, audit_add, "s", rows);
        q->audited = true;
}

int audit_query(struct request *q, const char *target, pg_done_fn fn, const char *sql,
                const char *types, ...)
{
        struct pg_batch *b = pg_batch_new();
        va_list ap;

        va_start(ap, types);
        pg_batch_addv(b, sql, types, ap);
        va_end(ap);
        audit_with(q, b, target);
        return pg_submit(q->c->pool, b, fn, q);
}

static void on_later(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        if (r < 0)
                log_error("audit: a row could not be stored: %s",
                          error && error->message[0] ? error->message : strerrordesc_np(-r));
}

void audit_later(struct request *q)
{
        cleanup_free char *row = audit_row(q, q->session ? q->session->id : NULL);
        cleanup_free char *rows = row ? xasprintf("[%s]", row) : NULL;

        q->audited = true;
        if (rows && pg_query(q->c->pool, on_later, NULL, audit_add, "s", rows) < 0)
                log_error("audit: a row could not be stored: the database is overloaded");
}

/* ---- rows of gateways ---- */

static void on_appended(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct request *q = userdata;

        if (r == 0)
                request_reply(q, &(struct ok_reply){ 0 });
        else if (r == -EREMOTEIO && str_starts(error->sqlstate, "22"))
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "the rows cannot be read");
        else
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the rows are not stored; try again");
        request_end(q);
}

int route_audit_append(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct coordinator *c = userdata;
        struct request *q =
                request_new(c, sizeof(struct request), p, req, &wire_audit_append, msg, true);

        if (!q)
                return 0;
        const struct audit_append *m = q->msg;
        if (pg_query(c->pool, on_appended, q, audit_append, "sut", m->source, m->number, m->rows) <
            0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded");
                request_end(q);
        }
        return 0;
}

/* ---- days ---- */

static void on_expired(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct coordinator *c = userdata;

        c->audit_busy = false;
        if (r < 0)
                log_warning("old days of the audit log are not removed: %s",
                            error && error->message[0] ? error->message : strerrordesc_np(-r));
        else if (pg_bool(results[0], 0, 0))
                audit_upkeep(c);
}

static void on_partitions(void *userdata, int r, PGresult **results, size_t n,
                          const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0)
                log_warning("the next days of the audit log are not made yet: %s",
                            error && error->message[0] ? error->message : strerrordesc_np(-r));
        c->audit_busy = c->settings->audit_keep > 0 &&
                        pg_query(c->pool, on_expired, c, audit_expire, "u",
                                 c->settings->audit_keep / USEC_PER_SEC) >= 0;
}

void audit_upkeep(struct coordinator *c)
{
        if (!c->audit_busy)
                c->audit_busy = pg_query(c->pool, on_partitions, c, audit_partitions, "") >= 0;
}
