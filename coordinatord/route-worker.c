/* worker_hello, worker_heartbeat, worker_released, worker_drain: who holds what. */
#include "approval.h"
#include "audit.h"
#include "budget.h"
#include "common/base/fault.h"
#include "common/base/json.h"
#include "common/io/log.h"
#include "control.h"
#include "lease.h"
#include "request.h"
#include "store.h"
#include "warm.h"

/* The worker is seen without the session it was given. */
static void seen_empty(struct coordinator *c, struct worker *w, const char *why)
{
        struct session *s = lease_held(c, w, w->session_id, w->epoch);

        if (s)
                lease_lost(c, s, w->epoch, why);
        worker_bind(&c->workers, w, NULL, 0);
        worker_set_state(&c->workers, w, WORKER_FREE, why);
        lease_dispatch(c);
}

/* Names are put into lists and rows; keep them plain. */
static bool hello_valid(const struct worker_hello *m)
{
        struct json_problem problem;
        cleanup_json json_t *limits = NULL;

        return session_id_valid(m->worker_id) && session_id_valid(m->instance) &&
               m->endpoint[0] == '/' && m->n_kinds > 0 &&
               json_parse(m->limits.data, m->limits.len, &limits, &problem) >= 0 &&
               json_is_object(limits);
}

static void greet(struct coordinator *c, struct worker *w, struct rpc_peer *peer,
                  const struct worker_hello *m)
{
        if (w->peer && w->peer != peer) {
                rpc_peer_set_userdata(w->peer, NULL);
                rpc_peer_end(w->peer, "another instance greets as this worker");
        }
        log_info("worker %s: greets (instance %s, slot %s, session %s epoch %" PRIu64 ")", w->id,
                 m->instance, slot_state_name(m->state), m->session_id ? m->session_id : "none",
                 m->epoch);
        w->peer = peer;
        rpc_peer_set_userdata(peer, w);
        if (!streq(w->instance, m->instance))
                w->draining = false;
        w->warm.tellable = false; /* its first heartbeat says */
        (void) snprintf(w->instance, sizeof(w->instance), "%s", m->instance);
        (void) snprintf(w->version, sizeof(w->version), "%s", m->version);
        free(w->endpoint);
        w->endpoint = xstrdup(m->endpoint);
        free(w->limits);
        w->limits = span_dup(m->limits);
        w->kind = m->kind;
        worker_set_slot(&c->workers, w, m->state, "greeted");
        w->kinds = 0;
        for (size_t i = 0; i < m->n_kinds; i++)
                w->kinds |= UINT32_C(1) << m->kinds[i];
        w->greeted_us = w->heartbeat_us = now_realtime();
        w->heard_at = now_monotonic();
        w->not_before = 0;
        worker_changed(&c->workers, w);
}

/* After a greeting: which lease goes on, which ends. Returns the session that the worker keeps. */
static struct session *settle(struct coordinator *c, struct worker *w, const struct worker_hello *m)
{
        struct session *s = lease_held(c, w, m->session_id, m->epoch);

        if (s) {
                worker_bind(&c->workers, w, s->id, m->epoch);
                w->settled = true;
                worker_set_state(&c->workers, w, WORKER_HOLDING, "greeted with its session");
                lease_renew(c, s);
                return s;
        }
        s = lease_held(c, w, w->session_id, w->epoch);
        if (s)
                lease_lost(c, s, w->epoch, "worker lost: it was restarted");
        worker_bind(&c->workers, w, m->session_id, m->epoch);
        worker_set_state(&c->workers, w, m->session_id ? WORKER_RELEASING : WORKER_FREE, "greeted");
        return NULL;
}

int route_worker_hello(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                       const void *msg)
{
        struct coordinator *c = userdata;
        const struct worker_hello *m = msg;
        struct worker *w;

        if (!hello_valid(m))
                return rpc_reply_error(
                        req, ERROR_CODE_BAD_REQUEST,
                        "worker_hello: bad worker_id, instance, endpoint, kinds or limits");
        if (workers_get(&c->workers, m->worker_id, &w) < 0)
                return rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "there are too many workers");
        worker_set_state(&c->workers, w, WORKER_OFFLINE, "greets again");
        greet(c, w, peer, m);
        struct session *s = settle(c, w, m);
        struct worker_welcome reply = {
                .lease_ttl_ms = (uint32_t) (c->settings->lease_ttl / USEC_PER_MSEC),
                .heartbeat_ms = (uint32_t) (c->settings->heartbeat / USEC_PER_MSEC),
                .keep = s != NULL,
        };
        rpc_reply(req, &reply);
        if (s)
                worker_notify(w, s); /* a notice may have been lost with us */
        lease_dispatch(c);
        return 0;
}

static struct worker *greeted(struct rpc_peer *peer, struct rpc_request *req, const char *worker_id)
{
        struct worker *w = rpc_peer_userdata(peer);

        if (w && (!worker_id || streq(w->id, worker_id)))
                return w;
        rpc_reply_error(req, ERROR_CODE_PRECONDITION_FAILED, "greet first (worker_hello)");
        return NULL;
}

/* A heartbeat's word on the session. Returns whether the lease is (still) its own. */
static bool heard_session(struct coordinator *c, struct worker *w, const struct worker_heartbeat *m,
                          struct session **ret)
{
        struct session *s = lease_held(c, w, m->session_id, m->epoch);

        if (s) {
                crash_point("lease.before_renew");
                lease_renew(c, s);
                w->settled = true;
                if (w->state == WORKER_HOLDING)
                        lease_slot(c, s, w);
                *ret = s;
                return true;
        }
        if (m->session_id) {
                if (w->state == WORKER_HOLDING && !streq(w->session_id, m->session_id))
                        return false; /* an old one; the new assignment is on its way */
                if (w->state != WORKER_RESERVED)
                        worker_set_state(&c->workers, w, WORKER_RELEASING,
                                         "holds a lease that is gone");
                return false;
        }
        if (w->state == WORKER_HOLDING && w->settled)
                seen_empty(c, w, "worker lost the session");
        else if (w->state == WORKER_RELEASING)
                seen_empty(c, w, "released");
        return true;
}

int route_worker_heartbeat(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                           const void *msg)
{
        struct coordinator *c = userdata;
        const struct worker_heartbeat *m = msg;
        struct worker *w = greeted(peer, req, m->worker_id);
        struct session *s = NULL;

        if (!w)
                return 0;
        if (worker_report(&c->workers, w, m->kind, m->state, m->slot, m->load) < 0)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST,
                                       "slot and load must be JSON objects");
        warm_heard(c->warm, w, m->has_keeps ? &m->keeps : NULL);
        struct heartbeat_reply reply = {
                .keep = heard_session(c, w, m, &s),
                .lease_ms = (uint32_t) (c->settings->lease_ttl / USEC_PER_MSEC),
        };
        reply.has_keep_kind = warm_keep(c->warm, w, &reply.keep_kind);
        if (s) {
                reply.last_message_seq = session_input_seq(s);
                reply.has_last_message_seq = true;
                reply.session_state = s->state;
                reply.has_session_state = true;
                reply.budget = span_of(s->budget);
                reply.hold = budgets_hold(c, s->tenant, s->agent_name);
                reply.control = control_mode(s);
                reply.has_control = true;
                reply.control_person = s->control.person;
        }
        rpc_reply(req, &reply);
        lease_dispatch(c);
        return 0;
}

int route_worker_released(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                          const void *msg)
{
        struct coordinator *c = userdata;
        const struct worker_released *m = msg;
        struct worker *w = greeted(peer, req, m->worker_id);
        struct ok_reply reply = { 0 };

        if (!w)
                return 0;
        rpc_reply(req, &reply);
        if (!streq(w->session_id, m->session_id) || w->epoch != m->epoch)
                return 0; /* of an earlier lease; nothing hangs on it any more */
        if (w->slot_state == SLOT_STATE_BUSY)
                worker_set_slot(&c->workers, w, SLOT_STATE_RESETTING,
                                "released"); /* until it tells */
        seen_empty(c, w, "worker released the session");
        return 0;
}

static void on_drained(void *userdata, int r, const void *reply)
{
        struct request *q = userdata;
        struct ok_reply ok = { 0 };

        const struct error_reply *error = reply;

        if (r == -EREMOTEIO && error)
                request_refuse(q, error->code, "%s", error->message);
        else if (r < 0)
                request_refuse(q, ERROR_CODE_TIMEOUT, "the worker did not answer");
        else
                request_reply(q, &ok);
        request_end(q);
}

/* Stored, with the row of who did it. */
static void on_drain_stored(void *userdata, int r, PGresult **results, size_t n,
                            const struct pg_error *error)
{
        struct request *q = userdata;
        struct coordinator *c = q->c;
        const struct worker_drain *m = q->msg;
        struct worker *w = workers_find(&c->workers, m->worker_id);

        if (r < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "this is not stored; try again");
                request_end(q);
                return;
        }
        if (!w || !w->peer) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "worker %s is offline", m->worker_id);
                request_end(q);
                return;
        }
        w->draining = true;
        worker_changed(&c->workers, w); /* a row that was on its way may have said otherwise */
        r = rpc_call(w->peer, &wire_worker_drain, m, 2 * USEC_PER_SEC, on_drained, q);
        if (r < 0)
                on_drained(q, r, NULL);
}

int route_worker_drain(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                       const void *msg)
{
        static const char drain[] = "UPDATE core.worker SET draining = true WHERE worker_id = $1";
        struct coordinator *c = userdata;
        const struct worker_drain *m = msg;
        struct worker *w = workers_find(&c->workers, m->worker_id);

        if (!w || !w->peer)
                return rpc_reply_error(req, w ? ERROR_CODE_UNAVAILABLE : ERROR_CODE_NOT_FOUND,
                                       w ? "worker %s is offline" : "there is no worker %s",
                                       m->worker_id);
        struct request *q =
                request_new(c, sizeof(struct request), peer, req, &wire_worker_drain, msg, true);
        if (!q)
                return 0;
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b, store_fence, "u", c->start.term);
        pg_batch_add(b, drain, "s", w->id);
        audit_with(q, b, w->id);
        if (pg_submit(c->pool, b, on_drain_stored, q) < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded");
                request_end(q);
        }
        return 0;
}

void worker_peer_event(void *userdata, struct rpc_peer *peer, enum rpc_peer_event what)
{
        struct coordinator *c = userdata;
        struct worker *w = rpc_peer_userdata(peer);

        if (what != RPC_PEER_GONE || !w)
                return;
        /* Its session stays leased until the lease runs out or it greets again. */
        w->peer = NULL;
        rpc_peer_set_userdata(peer, NULL);
        worker_set_state(&c->workers, w, WORKER_OFFLINE, "link lost");
}

const struct rpc_route worker_routes[] = {
        { &wire_worker_hello, route_worker_hello },
        { &wire_worker_heartbeat, route_worker_heartbeat },
        { &wire_worker_released, route_worker_released },
        { &wire_child_start, route_child_start },
        { &wire_child_look, route_child_look },
        { &wire_event_append, route_event_append },
        { &wire_approval_request, route_approval_request },
        { &wire_event_live, route_event_live },
        { &wire_history_get, route_history_get },
        { &wire_attachment_get, route_attachment_get },
};
const size_t worker_routes_count = ARRAY_LEN(worker_routes);
