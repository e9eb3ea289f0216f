/* Grants and takes leases; each change is one entry in the hub's queue. */
#include "lease.h"

#include "budget.h"
#include "common/base/json.h"
#include "common/base/fault.h"
#include "common/io/log.h"
#include "limits.h"
#include "scheduler.h"
#include "warm.h"

#define ASSIGN_TIMEOUT (2 * USEC_PER_SEC)
#define REFUSED_PAUSE USEC_PER_SEC

struct lease_op {
        struct hub_entry entry;
        struct coordinator *c;
        struct session *session;
        char worker_id[65];
        uint64_t epoch;
        char why[200];
        char *slot;
};

static struct lease_op *op_new(struct coordinator *c, struct session *s, const char *worker_id,
                               uint64_t epoch, const char *why)
{
        struct lease_op *op = xnew(struct lease_op);

        op->c = c;
        op->session = op->entry.session = session_ref(s);
        op->epoch = epoch;
        op->entry.events = 2;
        (void) snprintf(op->worker_id, sizeof(op->worker_id), "%s", worker_id ? worker_id : "");
        (void) snprintf(op->why, sizeof(op->why), "%s", why);
        return op;
}

static void op_submit(struct lease_op *op, int (*apply)(struct hub_entry *e, struct hub_batch *b),
                      void (*done)(struct hub_entry *e, int r, const struct hub_batch *b))
{
        op->entry.apply = apply;
        op->entry.done = done;
        hub_submit_own(op->c->hub, &op->entry);
}

static void op_free(struct lease_op *op)
{
        (void) session_unref(op->session);
        free(op->slot);
        free(op);
}

static bool op_current(const struct lease_op *op)
{
        const struct session *s = op->session;

        return s->exists && s->worker_id && s->epoch == op->epoch;
}

struct session *lease_held(struct coordinator *c, const struct worker *w, const char *session_id,
                           uint64_t epoch)
{
        struct session *s = session_id ? map_get(c->sessions.by_id, session_id) : NULL;

        if (!w || !s || !s->loaded || !s->exists || s->epoch != epoch ||
            !streq(s->worker_id, w->id))
                return NULL;
        return s;
}

struct session *lease_held_by(struct coordinator *c, const struct rpc_peer *peer,
                              const char *session_id, uint64_t epoch)
{
        return lease_held(c, rpc_peer_userdata(peer), session_id, epoch);
}

void lease_renew(struct coordinator *c, struct session *s)
{
        s->lease_until = now_monotonic() + c->settings->lease_ttl;
}

/* ---- lost ---- */

static int lost_apply(struct hub_entry *e, struct hub_batch *b)
{
        struct lease_op *op = container_of(e, struct lease_op, entry);
        struct session *s = op->session;
        char text[300];

        if (!op_current(op))
                return hub_refuse(e, ERROR_CODE_STALE_EPOCH, "the lease has changed already");
        session_set_holder(s, b, NULL);
        if (session_resting(s) &&
            (s->state != SESSION_STATE_WAITING || s->waiting_for != WAITING_FOR_BUDGET))
                return 0; /* it goes on when somebody wants something of it */
        if (s->state != SESSION_STATE_STARTING && s->state != SESSION_STATE_RUNNING &&
            s->state != SESSION_STATE_WAITING)
                return 0;
        s->losses++;
        if (s->losses < op->c->settings->losses_max)
                return session_set_state(s, b, SESSION_STATE_QUEUED, op->why);
        (void) snprintf(text, sizeof(text), "%s; that was the %u. time", op->why, s->losses);
        int r = session_set_state(s, b, SESSION_STATE_FAILED, text);
        session_set_error(s, "worker_lost", text);
        return r;
}

static void lost_done(struct hub_entry *e, int r, const struct hub_batch *b)
{
        struct lease_op *op = container_of(e, struct lease_op, entry);
        struct coordinator *c = op->c;
        struct worker *w = workers_find(&c->workers, op->worker_id);

        if (r == 0) {
                c->counters.leases_lost++;
                log_notice("session %s: lease %" PRIu64 " of worker %s ended: %s", op->session->id,
                           op->epoch, op->worker_id, op->why);
                if (w && w->epoch == op->epoch && streq(w->session_id, op->session->id))
                        worker_cancel(&c->workers, w, op->session->id, op->epoch,
                                      CANCEL_REASON_FENCED);
                lease_dispatch(c);
        }
        op_free(op);
}

void lease_lost(struct coordinator *c, struct session *s, uint64_t epoch, const char *why)
{
        op_submit(op_new(c, s, s->worker_id, epoch, why), lost_apply, lost_done);
}

void lease_sweep(struct coordinator *c)
{
        uint64_t now = now_monotonic();
        struct session *s;

        list_foreach (s, &c->sessions.leased, lease_link) {
                if (s->lease_until > now)
                        continue;
                s->lease_until = now + c->settings->lease_ttl; /* not twice while that is stored */
                lease_lost(c, s, s->epoch, "worker lost");
        }
}

/* ---- assign ---- */

struct assign_call {
        struct coordinator *c;
        struct session *session;
        char worker_id[65];
        uint64_t epoch;
};

static void on_assigned(void *userdata, int r, const void *reply)
{
        struct assign_call *call = userdata;
        struct coordinator *c = call->c;

        if (r != -ECANCELED) {
                struct worker *w = workers_find(&c->workers, call->worker_id);
                if (w && w->epoch == call->epoch)
                        w->settled = true;
                if (r == -EREMOTEIO) {
                        const struct error_reply *error = reply;
                        cleanup_free char *why =
                                xasprintf("worker %s refused: %s", call->worker_id, error->message);
                        c->counters.leases_refused++;
                        if (w)
                                w->not_before = now_monotonic() + REFUSED_PAUSE;
                        lease_lost(c, call->session, call->epoch, why);
                } else if (r < 0) {
                        (void) log_errno(LOG_WARNING, r, "worker %s: assignment not answered",
                                         call->worker_id);
                }
                (void) session_unref(call->session);
        }
        free(call);
}

static size_t read_files(const json_t *list, struct session_file *files, size_t max)
{
        size_t i, n = 0;
        json_t *f;

        json_array_foreach (list, i, f) {
                if (n == max)
                        break;
                files[n].document_id = json_string_value(json_object_get(f, "document_id"));
                files[n].path = json_string_value(json_object_get(f, "path"));
                n += files[n].document_id && files[n].path;
        }
        return n;
}

static int send_assignment(struct coordinator *c, const struct session *s, struct worker *w)
{
        struct session_file files[1000];
        struct json_problem problem;
        cleanup_json json_t *list = NULL;
        struct session_assign m = {
                .session_id = s->id,
                .epoch = s->epoch,
                .tenant = s->tenant,
                .lease_ms = (uint32_t) (c->settings->lease_ttl / USEC_PER_MSEC),
                .kind = s->kind,
                .model = s->model,
                .agent_name = s->agent_name,
                .budget = span_of(s->budget),
                .metadata = span_of(s->metadata),
                .files = files,
                .network = span_of(s->network),
                .image = s->image,
                .width = s->width,
                .has_width = s->width > 0,
                .height = s->height,
                .has_height = s->height > 0,
                .last_seq = s->last_seq,
                .session_name = s->name,
                .usage = s->usage,
                .has_usage = true,
                .blueprint = span_of(s->blueprint),
                .run_us = s->run_us,
                .parent_session_id = s->parent,
                .hold = budgets_hold(c, s->tenant, s->agent_name),
        };
        struct assign_call *call = xnew(struct assign_call);

        if (json_parse(s->files, strlen(s->files), &list, &problem) >= 0)
                m.n_files = read_files(list, files, ARRAY_LEN(files));
        *call = (struct assign_call){ .c = c, .epoch = s->epoch };
        call->session = session_ref((struct session *) s);
        (void) snprintf(call->worker_id, sizeof(call->worker_id), "%s", w->id);
        TRACE_SCOPE(&s->trace);
        int r = rpc_call(w->peer, &wire_session_assign, &m, ASSIGN_TIMEOUT, on_assigned, call);
        if (r < 0) {
                (void) session_unref(call->session);
                free(call);
        }
        return r;
}

static int assign_apply(struct hub_entry *e, struct hub_batch *b)
{
        struct lease_op *op = container_of(e, struct lease_op, entry);
        struct worker *w = workers_find(&op->c->workers, op->worker_id);
        struct session *s = op->session;
        int r;

        if (!s->exists || s->state != SESSION_STATE_QUEUED)
                return hub_refuse(e, ERROR_CODE_CONFLICT, "the session is no longer queued");
        if (!w || w->state != WORKER_RESERVED || !streq(w->session_id, s->id))
                return hub_refuse(e, ERROR_CODE_CONFLICT, "the worker is no longer free");
        (void) snprintf(op->why, sizeof(op->why), "assigned to worker %s", w->id);
        r = session_set_state(s, b, SESSION_STATE_STARTING, op->why);
        if (r < 0)
                return hub_refuse(e, ERROR_CODE_INTERNAL, "state");
        session_set_holder(s, b, w->id);
        lease_renew(op->c, s);
        op->epoch = s->epoch;
        return 0;
}

/* How long it stood in the queue, as a span of its own. */
static void trace_queued(struct coordinator *c, const struct session *s, const struct worker *w)
{
        struct otlp_span span;

        if (!trace_is_set(&s->trace))
                return;
        otlp_begin(c->daemon->otlp, &span, &s->trace, OTLP_INTERNAL, "queued");
        otlp_since(&span, s->queued_us);
        otlp_text(&span, "session.id", s->id);
        otlp_text(&span, "berth.tenant", s->tenant);
        otlp_text(&span, "berth.worker_id", w->id);
        otlp_number(&span, "berth.epoch", s->epoch);
        otlp_end(c->daemon->otlp, &span);
}

static void assign_done(struct hub_entry *e, int r, const struct hub_batch *b)
{
        struct lease_op *op = container_of(e, struct lease_op, entry);
        struct coordinator *c = op->c;
        struct worker *w = workers_find(&c->workers, op->worker_id);
        struct session *s = op->session;
        bool ours = w && w->state == WORKER_RESERVED && streq(w->session_id, s->id);

        if (r < 0) {
                if (ours) {
                        worker_bind(&c->workers, w, NULL, 0);
                        worker_set_state(&c->workers, w, WORKER_FREE, e->message);
                }
                if (r != -ECANCELED)
                        lease_dispatch(c);
        } else if (!ours) {
                lease_lost(c, s, op->epoch, "worker went away");
        } else {
                crash_point("lease.before_assign");
                trace_queued(c, s, w);
                c->counters.leases_granted++;
                lease_renew(c, s);
                worker_bind(&c->workers, w, s->id, op->epoch);
                worker_set_slot(&c->workers, w, SLOT_STATE_BUSY, s->id);
                worker_set_state(&c->workers, w, WORKER_HOLDING, s->id);
                /* The session may have changed since (stopped): the lease that is sent is the
                 * stored one. */
                if (s->epoch != op->epoch || send_assignment(c, s, w) < 0) {
                        worker_bind(&c->workers, w, NULL, 0);
                        worker_set_state(&c->workers, w, WORKER_FREE, "not sent");
                        lease_lost(c, s, op->epoch, "worker could not be told");
                }
        }
        op_free(op);
}

/* ---- evict ---- */

static int evict_apply(struct hub_entry *e, struct hub_batch *b)
{
        struct lease_op *op = container_of(e, struct lease_op, entry);

        if (!op_current(op) || !session_resting(op->session) || op->session->control.person)
                return hub_refuse(e, ERROR_CODE_CONFLICT, "the session is in use again");
        session_set_holder(op->session, b, NULL);
        return 0;
}

static void evict_done(struct hub_entry *e, int r, const struct hub_batch *b)
{
        struct lease_op *op = container_of(e, struct lease_op, entry);
        struct worker *w = workers_find(&op->c->workers, op->worker_id);

        if (r == 0) {
                op->c->counters.evictions++;
                log_info("session %s: idle, gives its slot on worker %s to the queue",
                         op->session->id, op->worker_id);
                worker_cancel(&op->c->workers, w, op->session->id, op->epoch, CANCEL_REASON_IDLE);
        }
        op_free(op);
}

/* ---- slot ---- */

static int slot_apply(struct hub_entry *e, struct hub_batch *b)
{
        struct lease_op *op = container_of(e, struct lease_op, entry);

        if (!op_current(op))
                return hub_refuse(e, ERROR_CODE_STALE_EPOCH, "the lease has changed");
        free(op->session->slot);
        op->session->slot = xstrdup(op->slot);
        hub_session_write(b, op->session, true);
        return 0;
}

static void slot_done(struct hub_entry *e, int r, const struct hub_batch *b)
{
        op_free(container_of(e, struct lease_op, entry));
}

void lease_slot(struct coordinator *c, struct session *s, const struct worker *w)
{
        if (streq(s->slot, w->slot))
                return;
        struct lease_op *op = op_new(c, s, w->id, s->epoch, "slot");
        op->slot = xstrdup(w->slot);
        op_submit(op, slot_apply, slot_done);
}

/* ---- dispatch ---- */

static void describe(const struct coordinator *c, const struct worker *w, struct sched_worker *ret)
{
        const struct session *s = w->state == WORKER_HOLDING && w->settled
                                          ? map_get(c->sessions.by_id, w->session_id)
                                          : NULL;
        bool idle = s && session_resting(s) && s->epoch == w->epoch && !s->control.person;
        const struct session *holder =
                w->state != WORKER_FREE ? map_get(c->sessions.by_id, w->session_id) : NULL;
        enum slot_state state = warm_changing(w) ? SLOT_STATE_RESETTING : w->slot_state;
        bool preparing = state != SLOT_STATE_WARM && state != SLOT_STATE_COLD;

        *ret = (struct sched_worker){
                .kinds = w->kinds,
                .kind = w->kind,
                .state = state,
                .image = w->image,
                .width = w->width,
                .height = w->height,
                .usable = w->peer && !w->draining && w->slot_state != SLOT_STATE_BROKEN,
                .tenant = holder ? holder->tenant : NULL,
                .taken = w->state != WORKER_FREE,
                .coming = w->state == WORKER_RELEASING || (w->state == WORKER_FREE && preparing),
                .free_since = w->free_since,
                .not_before = w->not_before,
                .idle_since = idle ? s->idle_since : 0,
        };
}

static void assign(struct coordinator *c, struct session *s, struct worker *w)
{
        worker_bind(&c->workers, w, s->id, 0);
        worker_set_state(&c->workers, w, WORKER_RESERVED, s->id);
        op_submit(op_new(c, s, w->id, 0, "assigned"), assign_apply, assign_done);
}

static void evict(struct coordinator *c, struct worker *w)
{
        struct session *s = map_get(c->sessions.by_id, w->session_id);

        s->idle_since = now_monotonic(); /* not twice while that is stored */
        op_submit(op_new(c, s, w->id, w->epoch, "evicted"), evict_apply, evict_done);
}

static bool reserved(const struct coordinator *c, const struct session *s)
{
        size_t iter = 0;
        void *p;

        while (map_next(c->workers.by_id, &iter, NULL, &p)) {
                const struct worker *w = p;
                if (w->state == WORKER_RESERVED && streq(w->session_id, s->id))
                        return true;
        }
        return false;
}

void lease_dispatch(struct coordinator *c)
{
        if (c->phase == PHASE_ACTIVE)
                loop_task_queue(&c->dispatch_task);
}

void lease_dispatch_now(void *coordinator)
{
        struct coordinator *c = coordinator;
        size_t n_workers = map_count(c->workers.by_id), n = 0, iter = 0;
        cleanup_free struct session **queue = xnewn(struct session *, c->sessions.n_queued + 1);
        cleanup_free struct sched_session *in =
                xnewn(struct sched_session, c->sessions.n_queued + 1);
        cleanup_free struct worker **workers = xnewn(struct worker *, n_workers + 1);
        cleanup_free struct sched_worker *slots = xnewn(struct sched_worker, n_workers + 1);
        struct sched_result plan;
        struct session *s;
        void *p;

        if (c->phase != PHASE_ACTIVE || c->sessions.n_queued == 0)
                return;
        list_foreach (s, &c->sessions.queue, queue_link) {
                if (reserved(c, s))
                        continue;
                queue[n] = s;
                in[n++] = (struct sched_session){ s->kind,
                                                  s->image,
                                                  s->width,
                                                  s->height,
                                                  s->queued_us,
                                                  s->tenant,
                                                  limits_of(c, s->tenant).slots };
        }
        n_workers = 0;
        while (map_next(c->workers.by_id, &iter, NULL, &p)) {
                workers[n_workers] = p;
                describe(c, p, &slots[n_workers++]);
        }
        uint64_t now = now_monotonic();
        scheduler_run(in, n, slots, n_workers, now, c->settings->idle_hold, &plan);
        for (size_t i = 0; i < plan.n_assign; i++)
                assign(c, queue[plan.assign[i].session], workers[plan.assign[i].worker]);
        for (size_t i = 0; i < plan.n_evict; i++)
                evict(c, workers[plan.evict[i]]);
        if (plan.wake_at)
                loop_timer_arm(&c->dispatch_timer, plan.wake_at > now ? plan.wake_at - now : 0);
        sched_result_done(&plan);
}
