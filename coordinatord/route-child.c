/* Sessions under others: child_start, child_look; the end of a parent ends what works under it. */
#include "common/base/json.h"
#include "common/io/log.h"
#include "lease.h"
#include "request.h"

#define LOOK_MAX_MS 20000
#define OVER_MAX 256 /* parents that ended in one turn of the loop; more: children_heal looks */

struct children {
        struct coordinator *c;
        struct list looks; /* struct look that wait for their child */
        struct loop_task end_task;
        char over[OVER_MAX][SESSION_ID_MAX];
        size_t n_over;
        bool heal, healing;
};

/* ---- child_start ---- */

static bool has_live_child(const struct coordinator *c, const char *id)
{
        size_t iter = 0;
        void *p;

        while (map_next(c->sessions.by_id, &iter, NULL, &p)) {
                const struct session *s = p;

                if (s->exists && session_is_under(s, id) && !session_ended(s) &&
                    s->state != SESSION_STATE_IDLE)
                        return true;
        }
        return false;
}

static size_t live_children(const struct coordinator *c, const char *id)
{
        size_t iter = 0, n = 0;
        void *p;

        while (map_next(c->sessions.by_id, &iter, NULL, &p)) {
                const struct session *s = p;

                n += s->exists && session_is_under(s, id) && !session_ended(s) &&
                     s->state != SESSION_STATE_IDLE;
        }
        return n;
}

/* Is there a slot that does not itself wait for a child? Else all would wait for ever. */
static bool slot_may_come(struct coordinator *c, const struct session *parent)
{
        size_t iter = 0;
        void *p;

        while (map_next(c->workers.by_id, &iter, NULL, &p)) {
                const struct worker *w = p;

                if (!w->peer || w->draining || w->slot_state == SLOT_STATE_BROKEN ||
                    !(w->kinds & (UINT32_C(1) << parent->kind)))
                        continue;
                if (!w->session_id[0] ||
                    (!streq(w->session_id, parent->id) && !has_live_child(c, w->session_id)))
                        return true;
        }
        return false;
}

int route_child_start(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                      const void *msg)
{
        struct coordinator *c = userdata;
        const struct child_start *m = msg;
        const struct session *parent = lease_held_by(c, peer, m->session_id, m->epoch);
        const struct session *child = map_get(c->sessions.by_id, m->child_id);
        char digest[SHA256_HEX];

        if (!parent)
                return rpc_reply_error(req, ERROR_CODE_STALE_EPOCH,
                                       "epoch %" PRIu64 " of this session is over", m->epoch);
        if (child && child->exists)
                return rpc_reply_error(req, ERROR_CODE_CONFLICT, "session %s exists already",
                                       m->child_id);
        if (live_children(c, parent->id) >= c->settings->session_children_max)
                return rpc_reply_error(req, ERROR_CODE_UNPROCESSABLE,
                                       "a session may have %" PRIu64 " sessions at work under it; "
                                       "wait for one of them first",
                                       c->settings->session_children_max);
        if (!slot_may_come(c, parent))
                return rpc_reply_error(req, ERROR_CODE_UNPROCESSABLE,
                                       "every slot is held by a session that waits for another; do "
                                       "the work yourself");
        sha256_hex(m->message.data, m->message.len, digest);
        return route_session_create(c, peer, req,
                                    &(struct session_create){
                                            .tenant = parent->tenant,
                                            .request_digest = digest,
                                            .session_id = m->child_id,
                                            .session_name = m->session_name,
                                            .agent_name = m->agent_name,
                                            .kind = parent->kind,
                                            .kind_default = true,
                                            .message = m->message,
                                            .budget = m->budget,
                                            .files = m->files,
                                            .n_files = m->n_files,
                                            .network = span_of(parent->network),
                                            .parent_session_id = parent->id,
                                    });
}

/* ---- child_look ---- */

struct look {
        struct request q;
        struct list link; /* in children.looks */
        uint64_t until;   /* monotonic */
};

/* Nothing more comes of it without a person. */
static bool rests(const struct session *s)
{
        return s->state == SESSION_STATE_IDLE || session_ended(s);
}

static void on_result(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct request *q = userdata;
        struct child_state reply = { 0 };

        if (r < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the session could not be read; try again");
        } else if (PQntuples(results[0]) == 0 ||
                   session_state_parse(pg_str(results[0], 0, 1), &reply.state) < 0) {
                request_refuse(q, ERROR_CODE_NOT_FOUND, "the session was deleted");
        } else {
                reply.rests = reply.state == SESSION_STATE_IDLE ||
                              (SESSION_ENDED & SESSION_STATE_BIT(reply.state));
                reply.result = span_of(pg_str(results[0], 0, 0));
                reply.usage = (struct usage){
                        .input_tokens = (uint64_t) pg_i64(results[0], 0, 2),
                        .output_tokens = (uint64_t) pg_i64(results[0], 0, 3),
                        .cache_read_tokens = (uint64_t) pg_i64(results[0], 0, 4),
                        .cache_write_tokens = (uint64_t) pg_i64(results[0], 0, 5),
                        .cost_microusd = (uint64_t) pg_i64(results[0], 0, 6),
                        .turns = (uint64_t) pg_i64(results[0], 0, 7),
                };
                request_reply(q, &reply);
        }
        request_end(q);
}

static void look_answer(struct request *q)
{
        const struct child_look *m = q->msg;

        if (pg_query(q->c->pool, on_result, q,
                     "SELECT core.session_result(s), s.status, b[1], b[2], b[3], b[4], b[5], b[6] "
                     "FROM core.session s, core.session_below($2) AS b WHERE s.session_id = $1",
                     "ss", m->child_id, m->session_id) < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
                request_end(q);
        }
}

static void look_loaded(struct request *q)
{
        struct look *l = container_of(q, struct look, q);
        const struct child_look *m = q->msg;
        const struct session *s = q->session;

        if (!s->exists || !session_is_under(s, m->session_id)) {
                request_refuse(q, ERROR_CODE_NOT_FOUND, "there is no session %s under this one",
                               m->child_id);
                request_end(q);
        } else if (rests(s) || m->wait_ms == 0) {
                look_answer(q);
        } else {
                l->until =
                        now_monotonic() + MIN(m->wait_ms, (uint32_t) LOOK_MAX_MS) * USEC_PER_MSEC;
                list_push_back(&q->c->children->looks, &l->link);
        }
}

static void look_release(struct request *q)
{
        list_remove(&container_of(q, struct look, q)->link);
}

int route_child_look(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg)
{
        struct coordinator *c = userdata;
        const struct child_look *in = msg;
        struct request *q;

        if (!lease_held_by(c, peer, in->session_id, in->epoch))
                return rpc_reply_error(req, ERROR_CODE_STALE_EPOCH,
                                       "epoch %" PRIu64 " of this session is over", in->epoch);
        if (!session_id_valid(in->child_id))
                return rpc_reply_error(req, ERROR_CODE_NOT_FOUND,
                                       "there is no such session under this one");
        q = request_new(c, sizeof(struct look), peer, req, &wire_child_look, msg, false);
        if (!q)
                return 0;
        list_init(&container_of(q, struct look, q)->link);
        q->release = look_release;
        request_with_session(q, ((const struct child_look *) q->msg)->child_id, look_loaded);
        return 0;
}

static void answer_looks(struct children *ch, const struct session *s, uint64_t now)
{
        struct look *l, *next;

        list_foreach_safe (l, next, &ch->looks, link)
                if (s ? l->q.session == s : l->until <= now) {
                        list_remove(&l->link);
                        look_answer(&l->q);
                }
}

void children_changed(struct coordinator *c, const struct session *s)
{
        if (s->parent && rests(s))
                answer_looks(c->children, s, 0);
}

void children_sweep(struct coordinator *c)
{
        answer_looks(c->children, NULL, now_monotonic());
}

/* ---- the end of a parent ---- */

struct ending {
        struct hub_entry entry;
        struct coordinator *c;
        struct session *session;
        char worker_id[65];
        uint64_t epoch;
};

static int end_apply(struct hub_entry *e, struct hub_batch *b)
{
        struct ending *op = container_of(e, struct ending, entry);
        struct session *s = op->session;
        int r;

        op->worker_id[0] = '\0';
        if (!s->exists || session_ended(s))
                return hub_refuse(e, ERROR_CODE_CONFLICT, "the session has ended already");
        r = session_set_state(s, b, SESSION_STATE_STOPPED, "the session above it ended");
        if (r < 0)
                return hub_refuse(e, ERROR_CODE_CONFLICT, "the session cannot stop now");
        if (s->worker_id) {
                (void) snprintf(op->worker_id, sizeof(op->worker_id), "%s", s->worker_id);
                op->epoch = s->epoch;
                session_set_holder(s, b, NULL);
        }
        return 0;
}

static void end_done(struct hub_entry *e, int r, const struct hub_batch *b)
{
        struct ending *op = container_of(e, struct ending, entry);

        if (r == 0 && op->worker_id[0])
                worker_cancel(&op->c->workers, workers_find(&op->c->workers, op->worker_id),
                              op->session->id, op->epoch, CANCEL_REASON_STOP);
        if (r == 0)
                lease_dispatch(op->c);
        (void) session_unref(op->session);
        free(op);
}

static void end_child(struct coordinator *c, struct session *s)
{
        struct ending *op = xnew(struct ending);

        op->c = c;
        op->session = op->entry.session = session_ref(s);
        op->entry.events = 2;
        op->entry.apply = end_apply;
        op->entry.done = end_done;
        hub_submit_own(c->hub, &op->entry);
}

static bool parent_is_over(const struct children *ch, const struct session *s)
{
        for (size_t i = 0; i < ch->n_over; i++)
                if (session_is_under(s, ch->over[i]))
                        return true;
        return false;
}

/* Every session that works is in memory: queued, or held by a worker. */
static void on_end_task(void *userdata)
{
        struct children *ch = userdata;
        struct coordinator *c = ch->c;
        size_t iter = 0;
        void *p;

        while (map_next(c->sessions.by_id, &iter, NULL, &p)) {
                struct session *s = p;

                if (s->loaded && s->exists && !session_ended(s) && parent_is_over(ch, s) &&
                    (s->worker_id || s->state == SESSION_STATE_QUEUED))
                        end_child(c, s);
        }
        ch->n_over = 0;
        if (ch->heal)
                children_heal(c);
}

void children_parent_over(struct coordinator *c, const char *session_id)
{
        struct children *ch = c->children;

        if (ch->n_over == OVER_MAX) {
                ch->heal = true;
                return;
        }
        (void) snprintf(ch->over[ch->n_over++], SESSION_ID_MAX, "%s", session_id);
        loop_task_queue(&ch->end_task);
}

static void on_orphans(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct coordinator *c = userdata;

        c->children->healing = false;
        for (int i = 0; r == 0 && i < PQntuples(results[0]); i++) {
                struct session *s = map_get(c->sessions.by_id, pg_str(results[0], i, 0));

                if (s && s->loaded && s->exists)
                        end_child(c, s);
        }
}

/* A message to the child after the parent's end makes it run again: that is not ended. */
void children_heal(struct coordinator *c)
{
        if (c->children->healing)
                return;
        c->children->heal = false;
        c->children->healing =
                pg_query(c->pool, on_orphans, c,
                         "SELECT s.session_id FROM core.session s LEFT JOIN core.session p "
                         "ON p.session_id = s.parent_session_id "
                         "WHERE s.parent_session_id IS NOT NULL AND s.depth > 0 "
                         "AND (s.worker_id IS NOT NULL OR s.status = 'queued') "
                         "AND (p.session_id IS NULL OR (p.status IN ('finished', 'stopped', "
                         "'failed') AND s.queued_at < p.modified_at)) LIMIT 1000",
                         "") >= 0;
}

int children_init(struct coordinator *c)
{
        struct children *ch = xnew(struct children);

        ch->c = c;
        list_init(&ch->looks);
        c->children = ch;
        return loop_task_init(&ch->end_task, c->daemon->event, on_end_task, ch);
}

void children_done(struct coordinator *c)
{
        if (!c->children)
                return;
        loop_task_done(&c->children->end_task);
        free(c->children);
        c->children = NULL;
}
