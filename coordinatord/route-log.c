/* log_append: log entries of whoever works for a session become its events. */
#include "route.h"

struct log_entry {
        struct request q;
        char *data;
        uint64_t id, seq;
        char scope[128], id_text[24]; /* of the Idempotency-Key */
};

static void log_release(struct request *q)
{
        free(container_of(q, struct log_entry, q)->data);
}

static int log_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        struct log_entry *l = container_of(q, struct log_entry, q);
        const struct log_append *m = q->msg;
        cleanup_buf struct buf body = BUF_INIT;
        int r = request_check_session(q, s, m->tenant);

        if (r < 0)
                return r;
        buf_puts(&body, "{\"level\":");
        buf_put_json_string(&body, m->level, strlen(m->level));
        buf_puts(&body, ",\"message\":");
        buf_put_json_string(&body, m->message.data, m->message.len);
        if (l->data)
                buf_putf(&body, ",\"data\":%s", l->data);
        buf_puts(&body, "}");
        l->seq = hub_event(b, s, EVENT_TYPE_LOG, (struct span){ body.data, body.len });
        l->id = hub_last_id(b);
        (void) snprintf(l->id_text, sizeof(l->id_text), "%" PRIu64, l->id);
        hub_session_write(b, s, false);
        if (m->idempotency_key && m->request_digest)
                hub_idempotency(b, m->tenant, l->scope, m->idempotency_key, m->request_digest,
                                s->id, l->id_text, l->seq);
        return 0;
}

static void log_done(struct request *q, const struct hub_batch *b)
{
        struct log_entry *l = container_of(q, struct log_entry, q);

        request_reply(q, &(struct log_appended){ .id = l->id, .seq = l->seq });
}

static void log_submit(struct request *q)
{
        const struct log_append *m = q->msg;

        request_submit(q, 512 + m->message.len + m->data.len, 1, log_apply, log_done);
}

static void log_once(struct request *q)
{
        request_with_session(q, ((const struct log_append *) q->msg)->session_id, log_submit);
}

static void log_replay(struct request *q, const PGresult *found)
{
        request_reply(q, &(struct log_appended){ .id = (uint64_t) pg_i64(found, 0, 2),
                                                 .seq = (uint64_t) pg_i64(found, 0, 3) });
        request_end(q);
}

int route_log_append(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct request *q = request_new(userdata, sizeof(struct log_entry), p, req,
                                        &wire_log_append, msg, true);

        if (!q)
                return 0;
        const struct log_append *m = q->msg;
        q->release = log_release;
        if (!route_tenant(q, m->tenant) ||
            (m->data.data && route_json(q, "data", m->data, JSON_OBJECT,
                                        &container_of(q, struct log_entry, q)->data) < 0)) {
                request_end(q);
                return 0;
        }
        struct log_entry *l = container_of(q, struct log_entry, q);
        (void) snprintf(l->scope, sizeof(l->scope), "log.append/%s", m->session_id);
        request_once(q, m->tenant, l->scope, m->request_digest ? m->idempotency_key : NULL,
                     m->request_digest, log_once, log_replay);
        return 0;
}
