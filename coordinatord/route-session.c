/* session_patch, session_stop, session_delete. */
#include "approval.h"
#include "common/base/json.h"
#include "common/io/log.h"
#include "lease.h"
#include "route.h"

struct patch {
        struct request q;
        json_t *metadata, *budget; /* budget may be NULL */
};

static void patch_release(struct request *q)
{
        struct patch *p = container_of(q, struct patch, q);

        json_decref(p->metadata);
        json_decref(p->budget);
}

static void set_text(char **place, const char *value)
{
        if (!value)
                return;
        free(*place);
        *place = xstrdup(value);
}

/* The members of `changes` replace those of the same name; null removes. */
static int merge(struct request *q, const char *what, char **place, size_t max, json_t *changes)
{
        struct json_problem problem;
        cleanup_json json_t *all = NULL;
        cleanup_free char *text = NULL;
        const char *key;
        json_t *value;

        if (json_parse(*place, strlen(*place), &all, &problem) < 0)
                return hub_refuse(&q->entry, ERROR_CODE_INTERNAL, "the stored %s is damaged", what);
        json_object_foreach (changes, key, value) {
                if (json_is_null(value))
                        (void) json_object_del(all, key);
                else if (json_object_set(all, key, value) < 0)
                        return hub_refuse(&q->entry, ERROR_CODE_INTERNAL, "out of memory");
        }
        text = json_text(all);
        if (strlen(text) > max)
                return hub_refuse(&q->entry, ERROR_CODE_TOO_LARGE, "%s may have %zu KiB in all",
                                  what, max / 1024);
        free(*place);
        *place = TAKE_PTR(text);
        return 0;
}

static int patch_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct session_patch *m = q->msg;
        const struct patch *p = container_of(q, struct patch, q);
        int r = request_check_session(q, s, m->tenant);

        if (r >= 0)
                r = merge(q, "metadata", &s->metadata, 65536, p->metadata);
        if (r >= 0 && p->budget)
                r = merge(q, "budget", &s->budget, 4096, p->budget);
        if (r < 0)
                return r;
        if (p->budget && s->state == SESSION_STATE_WAITING &&
            s->waiting_for == WAITING_FOR_BUDGET && approval_wake(b, s, "new budget") < 0)
                return hub_refuse(&q->entry, ERROR_CODE_INTERNAL, "the state forbids it");
        set_text(&s->name, m->session_name);
        set_text(&s->agent_name, m->agent_name);
        set_text(&s->project_dir, m->project_dir);
        hub_session_write(b, s, true);
        return 0;
}

/* A new budget is told to whoever holds the session: it may be waiting for it. */
static void patch_done(struct request *q, const struct hub_batch *b)
{
        const struct session *s = q->session;

        if (container_of(q, struct patch, q)->budget && s->worker_id)
                worker_notify(workers_find(&q->c->workers, s->worker_id), s);
        route_session_done(q, b);
}

static void patch_submit(struct request *q)
{
        const struct session_patch *m = q->msg;

        request_submit(q, 1024 + m->metadata.len, 0, patch_apply, patch_done);
}

int route_session_patch(void *userdata, struct rpc_peer *p, struct rpc_request *req,
                        const void *msg)
{
        struct request *q =
                request_new(userdata, sizeof(struct patch), p, req, &wire_session_patch, msg, true);
        struct json_problem problem;

        if (!q)
                return 0;
        const struct session_patch *m = q->msg;
        struct span text = m->metadata.data ? m->metadata : (struct span){ "{}", 2 };
        json_t **metadata = &container_of(q, struct patch, q)->metadata;
        q->release = patch_release;
        if (json_parse(text.data, text.len, metadata, &problem) < 0 || !json_is_object(*metadata)) {
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "metadata must be a JSON object");
                request_end(q);
                return 0;
        }
        json_t **budget = &container_of(q, struct patch, q)->budget;
        if (m->budget.data && (json_parse(m->budget.data, m->budget.len, budget, &problem) < 0 ||
                               !json_is_object(*budget))) {
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "budget must be a JSON object");
                request_end(q);
                return 0;
        }
        request_with_session(q, m->session_id, patch_submit);
        return 0;
}

/* ---- stop and delete: the worker hears of it before it is stored ---- */

struct ending {
        struct request q;
        char scope[SESSION_ID_MAX + 16];
        char worker_id[65]; /* who held it when it was stored, "" = nobody */
        uint64_t epoch;
        enum cancel_reason reason;
};

static void tell_worker(struct request *q, const char *tenant, enum cancel_reason reason)
{
        struct session *s = q->session;

        container_of(q, struct ending, q)->reason = reason;
        if (s->exists && streq(s->tenant, tenant) && s->worker_id)
                worker_cancel(&q->c->workers, workers_find(&q->c->workers, s->worker_id), s->id,
                              s->epoch, reason);
}

static void take_lease(struct request *q, struct session *s, struct hub_batch *b)
{
        struct ending *e = container_of(q, struct ending, q);

        e->worker_id[0] = 0;
        if (!s->worker_id)
                return;
        (void) snprintf(e->worker_id, sizeof(e->worker_id), "%s", s->worker_id);
        e->epoch = s->epoch;
        session_set_holder(s, b, NULL);
}

static int stop_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct session_stop *m = q->msg;
        int r = request_check_session(q, s, m->tenant);

        if (r < 0)
                return r;
        if (session_ended(s))
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                                  "the session has ended already (%s)",
                                  session_state_name(s->state));
        s->stop_requested = s->kind == SLOT_KIND_EXTERNAL;
        r = session_set_state(s, b, SESSION_STATE_STOPPED, "stopped on request");
        if (r < 0)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                                  "a session that is %s cannot stop", session_state_name(s->state));
        take_lease(q, s, b);
        route_keep_key(q, b, container_of(q, struct ending, q)->scope, m->idempotency_key);
        return 0;
}

static void end_done(struct request *q, const struct hub_batch *b)
{
        struct ending *e = container_of(q, struct ending, q);
        struct worker *w = workers_find(&q->c->workers, e->worker_id);
        struct ok_reply reply = { 0 };

        request_reply(q, &reply);
        /* The assignment may have been on its way when the worker was told first. */
        if (w && w->state == WORKER_HOLDING && w->epoch == e->epoch &&
            streq(w->session_id, q->session->id))
                worker_cancel(&q->c->workers, w, q->session->id, e->epoch, e->reason);
        upkeep_purge(q->c);
        lease_dispatch(q->c);
}

static void stop_submit(struct request *q)
{
        tell_worker(q, ((const struct session_stop *) q->msg)->tenant, CANCEL_REASON_STOP);
        request_submit(q, 512, 2, stop_apply, end_done);
}

static void stop_once(struct request *q)
{
        request_with_session(q, ((const struct session_stop *) q->msg)->session_id, stop_submit);
}

/* It was stopped by the first request with this key, whatever happened to it since. */
static void stop_replay(struct request *q, const PGresult *found)
{
        struct ok_reply reply = { 0 };

        request_reply(q, &reply);
        request_end(q);
}

int route_session_stop(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct request *q =
                request_new(userdata, sizeof(struct ending), p, req, &wire_session_stop, msg, true);

        if (!q)
                return 0;
        struct ending *e = container_of(q, struct ending, q);
        const struct session_stop *m = q->msg;
        q->sticky = true; /* the worker is told at once: it must not be taken back */
        (void) snprintf(e->scope, sizeof(e->scope), "session.stop/%s", m->session_id);
        request_once(q, m->tenant, e->scope, m->idempotency_key, m->request_digest, stop_once,
                     stop_replay);
        return 0;
}

static int delete_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct session_delete *m = q->msg;
        int r = request_check_session(q, s, m->tenant);

        if (r < 0)
                return r;
        session_control_clear(s);
        take_lease(q, s, b);
        log_info("session %s: deleted", s->id);
        hub_session_delete(b, s);
        return 0;
}

static void delete_submit(struct request *q)
{
        tell_worker(q, ((const struct session_delete *) q->msg)->tenant, CANCEL_REASON_DELETE);
        request_submit(q, 512, 0, delete_apply, end_done);
}

int route_session_delete(void *userdata, struct rpc_peer *p, struct rpc_request *req,
                         const void *msg)
{
        struct request *q = request_new(userdata, sizeof(struct ending), p, req,
                                        &wire_session_delete, msg, true);

        if (!q)
                return 0;
        q->sticky = true;
        request_with_session(q, ((const struct session_delete *) q->msg)->session_id,
                             delete_submit);
        return 0;
}
