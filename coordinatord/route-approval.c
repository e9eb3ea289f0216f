/* approval_request, approval_decide; and the end of those that nobody decided in time. */
#include "approval.h"

#include "common/io/log.h"
#include "lease.h"
#include "route.h"

/* ---- asked by a worker ---- */

struct asking {
        struct request q;
        struct approval_wish wish;
        char worker_id[65];
        struct approval_answer answer;
        char id[UUID_MAX];
};

static void asking_release(struct request *q)
{
        approval_wish_done(&container_of(q, struct asking, q)->wish);
}

static int asking_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        struct asking *k = container_of(q, struct asking, q);
        const struct approval_request *m = q->msg;
        struct session_approval *a;

        if (!s->exists || s->epoch != m->epoch || !streq(s->worker_id, k->worker_id))
                return hub_refuse(&q->entry, ERROR_CODE_STALE_EPOCH,
                                  "epoch %" PRIu64 " of this session is over", m->epoch);
        a = m->approval_id ? approval_find(s, m->approval_id) : NULL;
        if (!a)
                a = approval_standing(s, m->ask.kind, k->wish.digest);
        if (!a && approval_add(b, s, &k->wish, q->c->settings->approval_timeout, &a) < 0)
                return hub_refuse(&q->entry, ERROR_CODE_RATE_LIMITED,
                                  "%d approvals of this session are pending already",
                                  SESSION_APPROVALS_PENDING);
        (void) snprintf(k->id, sizeof(k->id), "%s", a->id);
        k->answer = (struct approval_answer){ .approval_id = k->id,
                                              .digest = k->wish.digest,
                                              .status = a->status,
                                              .scope = a->scope };
        return 0;
}

static void asking_done(struct request *q, const struct hub_batch *b)
{
        request_reply(q, &container_of(q, struct asking, q)->answer);
}

int route_approval_request(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                           const void *msg)
{
        struct coordinator *c = userdata;
        const struct approval_request *in = msg;
        const struct worker *w = rpc_peer_userdata(peer);
        struct session *s = lease_held_by(c, peer, in->session_id, in->epoch);

        if (!s)
                return rpc_reply_error(req, ERROR_CODE_STALE_EPOCH,
                                       "epoch %" PRIu64 " of this session is over", in->epoch);
        struct request *q = request_new(c, sizeof(struct asking), peer, req, &wire_approval_request,
                                        msg, false);
        if (!q)
                return 0;
        struct asking *k = container_of(q, struct asking, q);
        const struct approval_request *m = q->msg;
        q->release = asking_release;
        q->session = session_ref(s);
        q->of_holder = true;
        (void) snprintf(k->worker_id, sizeof(k->worker_id), "%s", w->id);
        const char *problem = approval_wish_read(&k->wish, &m->ask);
        if (problem) {
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "%s", problem);
                request_end(q);
                return 0;
        }
        request_submit(q, 1024 + m->ask.bound.len * 2, 1, asking_apply, asking_done);
        return 0;
}

/* ---- decided ---- */

/* Tells the holder, if there is one, and lets the queue move. */
static void tell(struct coordinator *c, const struct session *s, const char *approval_id)
{
        struct worker *w = workers_find(&c->workers, s->worker_id);
        const struct session_approval *a = approval_find((struct session *) s, approval_id);

        if (w && w->peer && w->state == WORKER_HOLDING && streq(w->session_id, s->id) && a) {
                struct approval_notify m = {
                        .session_id = s->id,
                        .epoch = s->epoch,
                        .approval_id = a->id,
                        .digest = a->digest,
                        .kind = a->kind,
                        .status = a->status,
                        .scope = a->scope,
                };
                int r = rpc_send(w->peer, &wire_approval_notify, &m);
                if (r < 0) /* it asks again by itself */
                        (void) log_errno(LOG_DEBUG, r, "worker %s: not told of a decision", w->id);
                worker_notify(w, s);
        }
        lease_dispatch(c);
}

static int decide_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct approval_decide *m = q->msg;
        struct session_approval *a;
        enum approval_status to = m->allow ? APPROVAL_STATUS_ALLOWED : APPROVAL_STATUS_DENIED;
        int r = request_check_session(q, s, m->tenant);

        if (r < 0)
                return r;
        a = approval_find(s, m->approval_id);
        if (!a)
                return hub_refuse(&q->entry, ERROR_CODE_NOT_FOUND,
                                  "this session has no approval with this id, or not any more");
        if (a->status == to && a->scope == m->scope)
                return 0; /* the same again */
        if (a->status != APPROVAL_STATUS_PENDING)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT, "it is decided already: %s",
                                  approval_status_name(a->status));
        approval_decide(b, s, a,
                        &(struct approval_decision){ to, m->scope, m->note, m->decided_by });
        if (a->kind != APPROVAL_KIND_TOOL)
                return 0;
        r = approval_wake(b, s, m->allow ? "approved" : "denied");
        return r < 0 ? hub_refuse(&q->entry, ERROR_CODE_INTERNAL, "the state forbids it") : 0;
}

static void on_json(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct request *q = userdata;

        if (r < 0)
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the decision is stored, but could not be read; ask again");
        else if (PQntuples(results[0]) == 0)
                request_refuse(q, ERROR_CODE_NOT_FOUND, "the session was deleted meanwhile");
        else
                request_reply(q, &(struct approval_reply){ span_of(pg_str(results[0], 0, 0)) });
        request_end(q);
}

/* The answer is the stored row; it is read by a request of its own, as this one ends here. */
static void decide_done(struct request *q, const struct hub_batch *b)
{
        const struct approval_decide *m = q->msg;
        struct request *reader;

        tell(q->c, q->session, m->approval_id);
        if (!q->rpc)
                return;
        reader = request_new(q->c, sizeof(struct request), q->peer, TAKE_PTR(q->rpc), NULL, NULL,
                             false);
        if (!reader)
                return;
        if (pg_query(q->c->pool, on_json, reader, store_approval_json, "ss", m->approval_id,
                     m->session_id) < 0) {
                request_refuse(reader, ERROR_CODE_UNAVAILABLE,
                               "the decision is stored, but could not be read; ask again");
                request_end(reader);
        }
}

static void decide_submit(struct request *q)
{
        request_submit(q, 4096, 2, decide_apply, decide_done);
}

int route_approval_decide(void *userdata, struct rpc_peer *p, struct rpc_request *req,
                          const void *msg)
{
        struct request *q = request_new(userdata, sizeof(struct request), p, req,
                                        &wire_approval_decide, msg, true);

        if (!q)
                return 0;
        const struct approval_decide *m = q->msg;
        if (!session_id_valid(m->session_id)) {
                request_refuse(q, ERROR_CODE_NOT_FOUND, "there is no such session");
                request_end(q);
                return 0;
        }
        request_with_session(q, m->session_id, decide_submit);
        return 0;
}

/* ---- too late ---- */

static int late_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        const char *id = container_of(q, struct asking, q)->id;
        struct session_approval *a = s->exists ? approval_find(s, id) : NULL;

        if (!a || a->status != APPROVAL_STATUS_PENDING)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT, "it was decided meanwhile");
        approval_decide(b, s, a,
                        &(struct approval_decision){ .status = APPROVAL_STATUS_EXPIRED,
                                                     .note = "nobody decided in time" });
        return a->kind == APPROVAL_KIND_TOOL ? approval_wake(b, s, "the approval expired") : 0;
}

static void late_done(struct request *q, const struct hub_batch *b)
{
        tell(q->c, q->session, container_of(q, struct asking, q)->id);
}

static void late_submit(struct request *q)
{
        request_submit(q, 1024, 2, late_apply, late_done);
}

static void on_late(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct coordinator *c = userdata;

        c->expiring_approvals = false;
        for (int i = 0; r == 0 && i < PQntuples(results[0]); i++) {
                struct request *q =
                        request_new(c, sizeof(struct asking), NULL, NULL, NULL, NULL, false);
                if (!q)
                        return;
                (void) snprintf(container_of(q, struct asking, q)->id, UUID_MAX, "%s",
                                pg_str(results[0], i, 0));
                request_with_session(q, pg_str(results[0], i, 1), late_submit);
        }
}

void approvals_tick(struct coordinator *c)
{
        if (!c->expiring_approvals)
                c->expiring_approvals =
                        pg_query(c->pool, on_late, c, store_approvals_late, "") >= 0;
}
