/* event_append: durable events of a worker into the hub; event_live: straight to the bus. */
#include "approval.h"
#include "budget.h"
#include "common/base/json.h"
#include "common/io/log.h"
#include "lease.h"
#include "request.h"

/* What a worker may set; the other states are the coordinator's. */
#define WORKER_MAY_SET                                                                             \
        (SESSION_STATE_BIT(SESSION_STATE_RUNNING) | SESSION_STATE_BIT(SESSION_STATE_IDLE) |        \
         SESSION_STATE_BIT(SESSION_STATE_WAITING) | SESSION_STATE_BIT(SESSION_STATE_FINISHED) |    \
         SESSION_STATE_BIT(SESSION_STATE_FAILED))

#define APPEND_MAX (32 * MIB)

struct append {
        struct request q;
        char worker_id[65];
        uint64_t first_seq, last_seq;
        bool replayed, ended;
        uint64_t old_epoch;
        struct approval_wish wish;
        char *model;   /* of the usage event */
        char **bodies; /* of the items: those that had to be written anew, else NULL */
        uint64_t tools[FIGURES_TOOLS_MAX][2]; /* calls that ended, for c->figures */
        char *question, *report;              /* JSON texts, or NULL */
};

static void append_release(struct request *q)
{
        struct append *a = container_of(q, struct append, q);
        const struct event_append *m = q->msg;

        for (size_t i = 0; a->bodies && i < m->n_items; i++)
                free(a->bodies[i]);
        free(a->bodies);
        free(a->question);
        free(a->report);
        free(a->model);
        approval_wish_done(&a->wish);
}

static bool has_control(struct span text)
{
        for (size_t i = 0; i < text.len; i++)
                if ((unsigned char) text.data[i] < 0x20)
                        return true;
        return false;
}

/* A body must be an object that does not name what the hub adds. One with raw line breaks is
 * written anew. */
static int check_body(struct append *a, size_t i, const struct event_item *item)
{
        static const char *const ours[] = { "id", "session_id", "seq", "event_type", "timestamp" };
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (json_parse(item->body.data, item->body.len, &j, &problem) < 0 || !json_is_object(j))
                return -EINVAL;
        for (size_t k = 0; k < ARRAY_LEN(ours); k++)
                if (json_object_get(j, ours[k]))
                        return -EINVAL;
        if (item->body.data[0] != '{' || item->body.data[item->body.len - 1] != '}' ||
            json_object_size(j) == 0 || has_control(item->body))
                a->bodies[i] = json_text(j);
        if (item->event_type == EVENT_TYPE_USAGE && !a->model)
                a->model = xstrdup(json_string_value(json_object_get(j, "model")));
        if (item->event_type == EVENT_TYPE_POST_TOOL) {
                const char *name = json_string_value(json_object_get(j, "tool_name"));
                a->tools[figures_tool(name ? name : "")]
                        [json_is_string(json_object_get(j, "error"))]++;
        }
        return 0;
}

static int check_attachment(const struct attachment *at)
{
        char digest[SHA256_HEX];

        sha256_hex(at->data.data, at->data.len, digest);
        return streq(digest, at->digest) && !has_control(span_of(at->media_type)) ? 0 : -EINVAL;
}

/* Parsed and written anew: no raw line breaks get into the commit. */
static int read_object(struct span text, char **ret)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (!text.data)
                return 0;
        if (json_parse(text.data, text.len, &j, &problem) < 0 || !json_is_object(j))
                return -EINVAL;
        *ret = json_text(j);
        return 0;
}

static const char *check_append(struct append *a, const struct event_append *m)
{
        if (m->n_items == 0 && !m->has_to_state)
                return "an append needs items or a state";
        if (!m->idem[0] || has_control(span_of(m->idem)))
                return "idem must be plain text";
        if (m->has_to_state && !(WORKER_MAY_SET & SESSION_STATE_BIT(m->to_state)))
                return "a worker may not set this state";
        for (size_t i = 0; i < m->n_items; i++)
                if (check_body(a, i, &m->items[i]) < 0)
                        return "an item's body must be a JSON object without id, session_id, seq, "
                               "event_type, timestamp";
        if (m->question.data && (!m->has_to_state || m->to_state != SESSION_STATE_WAITING))
                return "a question is asked with to_state waiting";
        if (read_object(m->question, &a->question) < 0 || read_object(m->report, &a->report) < 0)
                return "question and report must be JSON objects";
        for (size_t i = 0; i < m->n_attachments; i++)
                if (check_attachment(&m->attachments[i]) < 0)
                        return "an attachment's digest must be the SHA-256 of its data";
        return m->has_ask ? approval_wish_read(&a->wish, &m->ask) : NULL;
}

/* A person has paused or interrupted it: what the worker still says of running and resting comes
 * too late and is not taken; what happened is. */
static bool late_state(const struct event_append *m, const struct session *s)
{
        if (!m->has_to_state || m->to_state == SESSION_STATE_FINISHED ||
            m->to_state == SESSION_STATE_FAILED)
                return false;
        return s->state == SESSION_STATE_PAUSED || s->state == SESSION_STATE_IDLE;
}

static int append_refused(struct request *q, const struct session *s)
{
        const struct append *a = container_of(q, struct append, q);
        const struct event_append *m = q->msg;

        if (!s->exists || s->epoch != m->epoch || !streq(s->worker_id, a->worker_id)) {
                q->c->counters.stale_appends++;
                return hub_refuse(&q->entry, ERROR_CODE_STALE_EPOCH,
                                  "epoch %" PRIu64 " of this session is over", m->epoch);
        }
        if (m->has_if_last_message_seq && s->last_message_seq > m->if_last_message_seq)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                                  "there is a newer message, seq %" PRIu64, s->last_message_seq);
        if (m->has_to_state && m->to_state != s->state && !late_state(m, s) &&
            state_check(&session_states, (int) s->state, (int) m->to_state) < 0)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                                  "a session that is %s cannot be %s", session_state_name(s->state),
                                  session_state_name(m->to_state));
        return 0;
}

static void add_usage(struct usage *to, const struct usage *u)
{
        to->input_tokens += u->input_tokens;
        to->output_tokens += u->output_tokens;
        to->cache_read_tokens += u->cache_read_tokens;
        to->cache_write_tokens += u->cache_write_tokens;
        to->cost_microusd += u->cost_microusd;
        to->turns += u->turns;
}

/* The error of a failed session: the last error event of the append, else the reason. */
static void set_error(struct session *s, const struct event_append *m)
{
        for (size_t i = m->n_items; i > 0; i--) {
                struct json_problem problem;
                cleanup_json json_t *j = NULL;
                const struct event_item *item = &m->items[i - 1];
                if (item->event_type != EVENT_TYPE_ERROR ||
                    json_parse(item->body.data, item->body.len, &j, &problem) < 0)
                        continue;
                const char *code = json_string_value(json_object_get(j, "code"));
                const char *message = json_string_value(json_object_get(j, "message"));
                if (code && message) {
                        session_set_error(s, code, message);
                        return;
                }
        }
        session_set_error(s, "failed", m->reason ? m->reason : "the agent failed");
}

static int append_state(struct append *a, struct session *s, struct hub_batch *b)
{
        const struct event_append *m = a->q.msg;
        int r = session_set_state(s, b, m->to_state,
                                  m->reason ? m->reason : session_state_name(m->to_state));

        if (r >= 0 && s->state == SESSION_STATE_WAITING)
                session_set_waiting(s, b, m->has_waiting_for ? m->waiting_for : WAITING_FOR_MODEL,
                                    m->reason ? m->reason : "");
        if (s->state == SESSION_STATE_IDLE)
                s->losses = 0; /* it came through a turn */
        if (a->question && s->state == SESSION_STATE_WAITING) {
                free(s->asked);
                s->asked = xstrdup(a->question);
                hub_session_write(b, s, true);
        }
        if (r < 0 || !session_ended(s))
                return r;
        if (s->state == SESSION_STATE_FAILED)
                set_error(s, m);
        a->ended = true;
        a->old_epoch = s->epoch;
        session_set_holder(s, b, NULL);
        return 0;
}

static int append_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        struct append *a = container_of(q, struct append, q);
        const struct event_append *m = q->msg;
        const struct session_append *earlier = session_recent(s, m->idem);
        uint64_t before;

        if (earlier) {
                a->first_seq = earlier->first_seq;
                a->last_seq = earlier->last_seq;
                a->replayed = true;
                return 0;
        }
        int r = append_refused(q, s);
        if (r < 0)
                return r;
        before = s->last_seq;
        for (size_t i = 0; i < m->n_items; i++)
                (void) hub_event(b, s, m->items[i].event_type,
                                 a->bodies[i] ? span_of(a->bodies[i]) : m->items[i].body);
        for (size_t i = 0; i < m->n_attachments; i++)
                hub_attachment(b, s, &m->attachments[i]);
        if (m->has_usage) {
                add_usage(&s->usage, &m->usage);
                hub_usage(b, s, a->model ? a->model : "", &m->usage);
                hub_session_write(b, s, true);
        }
        if (m->has_ask) {
                struct session_approval *asked;
                r = approval_add(b, s, &a->wish, q->c->settings->approval_timeout, &asked);
                if (r < 0)
                        return hub_refuse(&q->entry, ERROR_CODE_RATE_LIMITED,
                                          "too many approvals of this session are pending");
        }
        if (a->report) {
                free(s->report);
                s->report = xstrdup(a->report);
                hub_session_write(b, s, true);
        }
        if (m->has_to_state && !late_state(m, s))
                r = append_state(a, s, b);
        a->first_seq = before + 1;
        a->last_seq = s->last_seq;
        if (s->last_seq > before)
                hub_append_done(b, s, m->idem, a->first_seq);
        return r;
}

static void count_append(struct coordinator *c, const struct append *a)
{
        const struct event_append *m = a->q.msg;

        for (size_t i = 0; i < FIGURES_TOOLS_MAX; i++)
                for (size_t k = 0; k < 2; k++)
                        c->figures.tools[i][k] += a->tools[i][k];
        if (m->has_usage)
                add_usage(&c->figures.usage, &m->usage);
}

static void append_done(struct request *q, const struct hub_batch *b)
{
        struct append *a = container_of(q, struct append, q);
        const struct event_append *m = q->msg;
        struct event_appended reply = { .first_seq = a->first_seq,
                                        .last_seq = a->last_seq,
                                        .replayed = a->replayed };

        if (!a->replayed)
                count_append(q->c, a);
        if (m->has_usage && !a->replayed)
                budgets_used(q->c, q->session->tenant, q->session->agent_name, &m->usage);
        if (q->session->exists)
                reply.hold = budgets_hold(q->c, q->session->tenant, q->session->agent_name);
        request_reply(q, &reply);
        if (a->ended && !a->replayed)
                worker_cancel(&q->c->workers, workers_find(&q->c->workers, a->worker_id),
                              q->session->id, a->old_epoch, CANCEL_REASON_STOP);
}

static size_t append_weight(const struct event_append *m)
{
        size_t n = 256;

        for (size_t i = 0; i < m->n_items; i++)
                n += m->items[i].body.len + 128;
        for (size_t i = 0; i < m->n_attachments; i++)
                n += m->attachments[i].data.len;
        return n;
}

int route_event_append(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                       const void *msg)
{
        struct coordinator *c = userdata;
        const struct worker *w = rpc_peer_userdata(peer);
        const struct event_append *in = msg;
        struct session *s = map_get(c->sessions.by_id, in->session_id);

        if (!w)
                return rpc_reply_error(req, ERROR_CODE_PRECONDITION_FAILED,
                                       "greet first (worker_hello)");
        if (!s || !s->loaded) {
                c->counters.stale_appends++;
                return rpc_reply_error(req, ERROR_CODE_STALE_EPOCH,
                                       "epoch %" PRIu64 " of this session is over", in->epoch);
        }
        struct request *q =
                request_new(c, sizeof(struct append), peer, req, &wire_event_append, msg, false);
        if (!q)
                return 0;
        struct append *a = container_of(q, struct append, q);
        const struct event_append *m = q->msg;
        q->release = append_release;
        q->of_holder = true;
        q->session = session_ref(s);
        a->bodies = xnewn(char *, m->n_items + 1);
        (void) snprintf(a->worker_id, sizeof(a->worker_id), "%s", w->id);
        size_t weight = append_weight(m);
        const char *problem =
                weight > APPEND_MAX ? "an append may have 32 MiB in all" : check_append(a, m);
        if (problem) {
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "%s", problem);
                request_end(q);
                return 0;
        }
        request_submit(q, weight, m->n_items + 2, append_apply, append_done);
        return 0;
}

int route_event_live(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg)
{
        struct coordinator *c = userdata;
        const struct event_live *m = msg;
        struct session *s = lease_held_by(c, peer, m->session_id, m->epoch);
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (!s || json_parse(m->json.data, m->json.len, &j, &problem) < 0 || !json_is_object(j) ||
            has_control(m->json)) {
                c->counters.live_dropped++;
                return 0;
        }
        struct bus_live out = { .tenant = s->tenant,
                                .session_id = s->id,
                                .json = m->json,
                                .epoch = c->start.db_epoch };
        if (bus_publish(c->bus, &wire_bus_live, &out) < 0)
                c->counters.live_dropped++;
        return 0;
}
