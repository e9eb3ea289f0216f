/* session_fork: a new session with the history of another up to some point.
 *
 * Attachments are copied first, in small steps, under a guard row in core.purge that removes them
 * should the fork never happen; events are copied by the group commit that makes the session. */
#include "lease.h"
#include "route.h"

#define STEP_ATTACHMENTS 20

struct fork {
        struct request q; /* q.session: the new one */
        struct session *from;
        char id[UUID_MAX];
        char scope[SESSION_ID_MAX + 16];
        uint64_t oldest, at, last_message_seq;
};

static void fork_release(struct request *q)
{
        (void) session_unref(container_of(q, struct fork, q)->from);
}

static void give_up(struct request *q, enum error_code code, const char *why)
{
        request_refuse(q, code, "%s", why);
        request_end(q);
}

static void emit_start(struct hub_batch *b, struct session *s, const struct fork *f)
{
        cleanup_buf struct buf body = BUF_INIT;

        buf_putf(
                &body,
                "{\"kind\":\"%s\",\"status\":\"idle\",\"forked_from\":\"%s\",\"after_seq\":%" PRIu64
                "}",
                slot_kind_name(s->kind), f->from->id, f->at);
        (void) hub_event(b, s, EVENT_TYPE_SESSION_START, (struct span){ body.data, body.len });
}

static void fill(struct session *s, const struct fork *f, const struct session_fork *m)
{
        const struct session *from = f->from;

        session_clear(s);
        s->tenant = xstrdup(from->tenant);
        s->name = xstrdup(m->session_name ? m->session_name : from->name);
        s->agent_name = xstrdup(from->agent_name);
        s->model = xstrdup(from->model);
        s->kind = from->kind;
        s->project_dir = xstrdup(from->project_dir);
        s->metadata = xstrdup(from->metadata);
        s->budget = xstrdup(from->budget);
        s->network = xstrdup(from->network);
        s->blueprint = xstrdup(from->blueprint);
        s->files = xstrdup(from->files);
        s->image = xstrdup(from->image);
        s->width = from->width;
        s->height = from->height;
        s->parent = xstrdup(from->id);
        s->depth = 0; /* a person's, beside the first one and not under it: session_is_under */
        s->last_message_seq = f->last_message_seq;
}

static int fork_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct fork *f = container_of(q, struct fork, q);
        const struct session_fork *m = q->msg;
        int r = request_check_session(q, f->from, m->tenant);

        if (r < 0)
                return r;
        if (f->at > f->from->last_seq)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT, "the session has changed");
        fill(s, f, m);
        s->queued_us = hub_now(b);
        hub_session_insert(b, s);
        session_set_first_state(s, b, SESSION_STATE_IDLE);
        hub_copy(b, s, f->from, f->oldest, f->at);
        emit_start(b, s, f);
        if (m->idempotency_key)
                hub_idempotency(b, m->tenant, f->scope, m->idempotency_key, m->request_digest,
                                s->id, NULL, 0);
        return 0;
}

static void submit(struct fork *f)
{
        struct request *q = &f->q;

        q->session = sessions_get(&q->c->sessions, f->id);
        q->session->loaded = true;
        request_submit(q, 4096, (f->at - f->oldest + 2), fork_apply, route_session_done);
}

/* ---- attachments ---- */

static void copy_attachments(struct fork *f);

static void on_attachments(void *userdata, int r, PGresult **results, size_t n,
                           const struct pg_error *error)
{
        struct fork *f = userdata;

        if (r < 0)
                give_up(&f->q, ERROR_CODE_UNAVAILABLE,
                        "the attachments could not be copied; try again");
        else if (f->q.late && !f->q.sticky)
                request_end(&f->q);
        else if (pg_i64(results[0], 0, 0) >= STEP_ATTACHMENTS)
                copy_attachments(f);
        else
                submit(f);
}

static void copy_attachments(struct fork *f)
{
        if (pg_query(f->q.c->pool, on_attachments, f, store_fork_attachments, "ssi", f->from->id,
                     f->id, (int64_t) STEP_ATTACHMENTS) < 0)
                give_up(&f->q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
}

static void on_guard(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        struct fork *f = userdata;

        if (r < 0)
                give_up(&f->q, ERROR_CODE_UNAVAILABLE, "the database does not answer; try again");
        else
                copy_attachments(f);
}

/* ---- what there is to copy ---- */

static void on_look(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct fork *f = userdata;
        struct request *q = &f->q;
        uint64_t max = q->c->settings->fork_events_max;

        if (r < 0) {
                give_up(q, ERROR_CODE_UNAVAILABLE, "the session could not be read; try again");
                return;
        }
        f->oldest = pg_str(results[0], 0, 0) ? (uint64_t) pg_i64(results[0], 0, 0) : f->at + 1;
        f->last_message_seq = (uint64_t) pg_i64(results[0], 0, 1);
        if (f->at > 0 && f->oldest > f->at) {
                request_refuse(q, ERROR_CODE_GONE,
                               "these events are gone; the oldest there is has seq %" PRIu64,
                               f->oldest);
                request_end(q);
        } else if (f->at >= f->oldest && f->at - f->oldest >= max) {
                request_refuse(q, ERROR_CODE_UNPROCESSABLE, "a fork may copy %" PRIu64 " events",
                               max);
                request_end(q);
        } else if (pg_query(q->c->pool, on_guard, f, store_fork_guard, "s", f->id) < 0) {
                give_up(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
        }
}

static const char *problem(const struct session *s, const struct session_fork *m,
                           enum error_code *code)
{
        *code = ERROR_CODE_NOT_FOUND;
        if (!s->exists || !streq(s->tenant, m->tenant))
                return "there is no such session";
        *code = ERROR_CODE_CONFLICT;
        if (s->kind == SLOT_KIND_EXTERNAL)
                return "an agent that runs elsewhere cannot be forked";
        *code = ERROR_CODE_BAD_REQUEST;
        return m->has_after_seq && m->after_seq > s->last_seq
                       ? "after_seq is beyond the newest event"
                       : NULL;
}

static void fork_loaded(struct request *q)
{
        struct fork *f = container_of(q, struct fork, q);
        const struct session_fork *m = q->msg;
        enum error_code code;

        f->from = TAKE_PTR(q->session);
        const char *why = problem(f->from, m, &code);
        if (why) {
                give_up(q, code, why);
                return;
        }
        f->at = m->has_after_seq ? m->after_seq : f->from->last_seq;
        uuid_make(f->id);
        if (pg_query(q->c->pool, on_look, f, store_fork_look, "su", f->from->id, f->at) < 0)
                give_up(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
}

static void fork_once(struct request *q)
{
        request_with_session(q, ((const struct session_fork *) q->msg)->session_id, fork_loaded);
}

int route_session_fork(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct request *q =
                request_new(userdata, sizeof(struct fork), p, req, &wire_session_fork, msg, true);

        if (!q)
                return 0;
        struct fork *f = container_of(q, struct fork, q);
        const struct session_fork *m = q->msg;
        q->release = fork_release;
        /* Many pictures may take longer than a client waits. With a key it finds the fork when it
         * asks again; without one it would make another each time. */
        q->sticky = m->idempotency_key != NULL;
        snprintf(f->scope, sizeof(f->scope), "session.fork/%s", m->session_id);
        request_once(q, m->tenant, f->scope, m->idempotency_key, m->request_digest, fork_once,
                     route_session_replay);
        return 0;
}
