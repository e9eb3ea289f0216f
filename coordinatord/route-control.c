/* session_control: pause, resume, interrupt. */
#include "lease.h"
#include "route.h"

struct control {
        struct request q;
        char scope[SESSION_ID_MAX + 32];
};

static int ended(struct request *q, const struct session *s)
{
        return hub_refuse(&q->entry, ERROR_CODE_CONFLICT, "the session has ended already (%s)",
                          session_state_name(s->state));
}

/* The worker stops at the next step boundary; slot and lease stay until others need them. */
static int pause_session(struct request *q, struct session *s, struct hub_batch *b)
{
        if (session_ended(s))
                return ended(q, s);
        return session_set_state(s, b, SESSION_STATE_PAUSED, "paused on request");
}

static int resume_session(struct request *q, struct session *s, struct hub_batch *b)
{
        if (session_ended(s))
                return ended(q, s);
        if (s->state != SESSION_STATE_PAUSED)
                return 0;
        if (s->worker_id)
                return session_set_state(s, b, SESSION_STATE_RUNNING, "resumed on request");
        int r = route_check_room(q, s, s->tenant);
        if (r < 0)
                return r;
        s->queued_us = hub_now(b);
        return session_set_state(s, b, SESSION_STATE_QUEUED, "resumed on request");
}

/* What it does is given up; it waits for the next message. */
static int interrupt_session(struct request *q, struct session *s, struct hub_batch *b)
{
        if (session_ended(s))
                return ended(q, s);
        return session_set_state(s, b, SESSION_STATE_IDLE, "interrupted on request");
}

static int control_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct session_control *m = q->msg;
        int r = request_check_session(q, s, m->tenant);

        if (r < 0)
                return r;
        if (s->kind == SLOT_KIND_EXTERNAL)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                                  "this agent runs elsewhere; it can only be asked to stop");
        switch (m->action) {
        case SESSION_ACTION_PAUSE:
                r = pause_session(q, s, b);
                break;
        case SESSION_ACTION_RESUME:
                r = resume_session(q, s, b);
                break;
        case SESSION_ACTION_INTERRUPT:
                r = interrupt_session(q, s, b);
                break;
        case SESSION_ACTION_MAX:
                r = -EINVAL;
                break;
        }
        if (r == -EREMOTEIO)
                return r;
        if (r < 0)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT, "a session that is %s cannot %s",
                                  session_state_name(s->state), session_action_name(m->action));
        hub_session_write(b, s, true);
        route_keep_key(q, b, container_of(q, struct control, q)->scope, m->idempotency_key);
        return 0;
}

static void control_done(struct request *q, const struct hub_batch *b)
{
        const struct session *s = q->session;

        route_session_done(q, b);
        if (s->worker_id)
                worker_notify(workers_find(&q->c->workers, s->worker_id), s);
}

static void control_submit(struct request *q)
{
        request_submit(q, 512, 1, control_apply, control_done);
}

static void control_once(struct request *q)
{
        request_with_session(q, ((const struct session_control *) q->msg)->session_id,
                             control_submit);
}

int route_session_control(void *userdata, struct rpc_peer *p, struct rpc_request *req,
                          const void *msg)
{
        struct request *q = request_new(userdata, sizeof(struct control), p, req,
                                        &wire_session_control, msg, true);

        if (!q)
                return 0;
        struct control *o = container_of(q, struct control, q);
        const struct session_control *m = q->msg;
        (void) snprintf(o->scope, sizeof(o->scope), "session.%s/%s", session_action_name(m->action),
                        m->session_id);
        request_once(q, m->tenant, o->scope, m->idempotency_key, m->request_digest, control_once,
                     route_session_replay);
        return 0;
}
