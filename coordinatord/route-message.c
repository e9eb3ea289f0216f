/* message_post: a person's message, and what it does to the session. */
#include "approval.h"
#include "lease.h"
#include "route.h"

struct post {
        struct request q;
        char message_id[UUID_MAX];
        char scope[SESSION_ID_MAX + 16];
        char *content;
        uint64_t seq;
};

static void post_release(struct request *q)
{
        free(container_of(q, struct post, q)->content);
}

/* What a message does to the session's state. */
static int wake_session(struct request *q, struct session *s, struct hub_batch *b)
{
        bool asleep = s->state == SESSION_STATE_IDLE || s->state == SESSION_STATE_PAUSED;

        if (s->kind == SLOT_KIND_EXTERNAL)
                return asleep || session_ended(s)
                               ? session_set_state(s, b, SESSION_STATE_RUNNING, "message")
                               : 0;
        if (asleep && s->worker_id)
                return session_set_state(s, b, SESSION_STATE_RUNNING, "message");
        if (s->state == SESSION_STATE_WAITING && session_resting(s))
                return approval_wake(b, s, "message");
        if (!asleep && !session_ended(s))
                return 0; /* queued, starting, running, waiting: it is taken in at the next turn */
        s->queued_us = hub_now(b);
        return session_set_state(s, b, SESSION_STATE_QUEUED, "message");
}

static int post_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        struct post *po = container_of(q, struct post, q);
        const struct message_post *m = q->msg;
        int r = request_check_session(q, s, m->tenant);

        if (r >= 0 && s->kind != SLOT_KIND_EXTERNAL && !s->worker_id &&
            s->state != SESSION_STATE_QUEUED)
                r = route_check_room(q, s, s->tenant);
        if (r < 0)
                return r;
        /* Who speaks instead of deciding wants something else. */
        approvals_cancel(b, s, true, "answered with a message");
        route_emit_message(b, s, po->message_id, po->content, m->has_pinned && m->pinned);
        po->seq = s->last_message_seq;
        s->losses = 0;
        s->stop_requested = false;
        hub_session_write(b, s, false);
        r = wake_session(q, s, b);
        if (r < 0)
                return hub_refuse(&q->entry, ERROR_CODE_INTERNAL, "the session's state forbids it");
        if (m->idempotency_key)
                hub_idempotency(b, m->tenant, po->scope, m->idempotency_key, m->request_digest,
                                s->id, po->message_id, po->seq);
        return 0;
}

static void post_done(struct request *q, const struct hub_batch *b)
{
        struct post *po = container_of(q, struct post, q);
        struct message_posted reply = { .message_id = po->message_id, .seq = po->seq };

        request_reply(q, &reply);
        if (q->session->worker_id)
                worker_notify(workers_find(&q->c->workers, q->session->worker_id), q->session);
        lease_dispatch(q->c);
}

static void post_submit(struct request *q)
{
        const struct message_post *m = q->msg;

        request_submit(q, 1024 + m->content.len, 2, post_apply, post_done);
}

static void post_once(struct request *q)
{
        request_with_session(q, ((const struct message_post *) q->msg)->session_id, post_submit);
}

static void post_replay(struct request *q, const PGresult *found)
{
        struct message_posted reply = {
                .message_id = pg_str(found, 0, 2),
                .seq = (uint64_t) pg_i64(found, 0, 3),
                .replayed = true,
        };

        request_reply(q, &reply);
        request_end(q);
}

int route_message_post(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct request *q =
                request_new(userdata, sizeof(struct post), p, req, &wire_message_post, msg, true);

        if (!q)
                return 0;
        struct post *po = container_of(q, struct post, q);
        const struct message_post *m = q->msg;
        q->release = post_release;
        if (!route_tenant(q, m->tenant) ||
            route_json(q, "content", m->content, JSON_ARRAY, &po->content) < 0) {
                request_end(q);
                return 0;
        }
        uuid_make(po->message_id);
        (void) snprintf(po->scope, sizeof(po->scope), "message.post/%s", m->session_id);
        request_once(q, m->tenant, po->scope, m->idempotency_key, m->request_digest, post_once,
                     post_replay);
        return 0;
}
