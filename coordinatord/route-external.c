/* external_post: events of agents that run elsewhere; their sessions appear, go on and end by them.
 *
 * All events of a post are one hub entry: stored together or not at all. An event with an id of its
 * author's is stored once: its id is the event's idem, looked up in the database before and in the
 * session's recent appends in apply; while a post works on an id no other may. */
#include "common/base/json.h"
#include "lease.h"
#include "route.h"

#define POST_EVENTS_MAX 100
#define SEPARATOR "\x1f"

struct post {
        struct request q;
        struct session *sessions[POST_EVENTS_MAX]; /* references; each once */
        size_t n_sessions, n_read;                 /* n_read: events whose session was looked for */
        size_t of[POST_EVENTS_MAX];                /* event -> session */
        char *keys[POST_EVENTS_MAX];               /* in coordinator.keys */
        char *idems[POST_EVENTS_MAX];              /* NULL: not repeatable */
        char *bodies[POST_EVENTS_MAX], *metadata[POST_EVENTS_MAX];
        struct posted_event posted[POST_EVENTS_MAX];
        bool stored[POST_EVENTS_MAX]; /* found in the database: posted[] is filled */
};

static const struct external_post *message(const struct post *po)
{
        return po->q.msg;
}

static void post_release(struct request *q)
{
        struct post *po = container_of(q, struct post, q);

        for (size_t i = 0; i < po->n_sessions; i++)
                (void) session_unref(po->sessions[i]);
        for (size_t i = 0; i < POST_EVENTS_MAX; i++) {
                if (po->keys[i])
                        (void) map_remove(q->c->keys, po->keys[i]);
                free(po->keys[i]);
                free(po->idems[i]);
                free(po->bodies[i]);
                free(po->metadata[i]);
        }
}

/* ---- in the hub ---- */

/* What would be wrong with the events, in order, before anything is changed. */
static int check_events(struct post *po)
{
        const struct external_post *m = message(po);
        bool exists[POST_EVENTS_MAX];

        for (size_t i = 0; i < po->n_sessions; i++) {
                const struct session *s = po->sessions[i];
                exists[i] = s->exists;
                if (s->exists && (!streq(s->tenant, m->tenant) || s->kind != SLOT_KIND_EXTERNAL))
                        return hub_refuse(&po->q.entry, ERROR_CODE_CONFLICT,
                                          "session %s is not one of an agent that runs elsewhere",
                                          s->id);
                if (s->purging)
                        return hub_refuse(&po->q.entry, ERROR_CODE_CONFLICT,
                                          "session %s is being deleted; try again", s->id);
        }
        for (size_t i = 0; i < m->n_events; i++) {
                if (!exists[po->of[i]] && m->events[i].event_type != EVENT_TYPE_SESSION_START)
                        return hub_refuse(&po->q.entry, ERROR_CODE_NOT_FOUND,
                                          "there is no session %s; begin with session_start",
                                          m->events[i].session_id);
                exists[po->of[i]] = true;
        }
        return 0;
}

static void make_session(struct post *po, size_t i, struct session *s, struct hub_batch *b)
{
        const struct external_event *e = &message(po)->events[i];

        session_clear(s);
        s->tenant = xstrdup(message(po)->tenant);
        s->kind = SLOT_KIND_EXTERNAL;
        s->name = xstrdup(e->session_name);
        s->agent_name = xstrdup(e->agent_name);
        s->model = xstrdup(e->model);
        s->project_dir = xstrdup(e->project_dir);
        s->metadata = xstrdup(po->metadata[i] ? po->metadata[i] : "{}");
        s->budget = xstrdup("{}");
        s->files = xstrdup("[]");
        s->queued_us = hub_now(b);
        hub_session_insert(b, s);
        session_set_first_state(s, b, SESSION_STATE_RUNNING);
}

/* What the event means for the session's state; its own event follows. */
static int move_session(struct post *po, size_t i, struct session *s, struct hub_batch *b)
{
        const struct external_event *e = &message(po)->events[i];
        const char *why = strempty(e->reason) ? "the agent ended" : e->reason;
        int r = 0;

        if (!s->exists) {
                make_session(po, i, s, b);
        } else if (e->event_type == EVENT_TYPE_SESSION_STOP) {
                s->stop_requested = false;
                if (session_ended(s)) {
                        hub_session_write(b, s, false);
                        return 0;
                }
                r = session_set_end(s, b, e->failed ? SESSION_STATE_FAILED : SESSION_STATE_FINISHED,
                                    why);
                if (e->failed)
                        session_set_error(s, "agent_failed", why);
        } else if (e->event_type == EVENT_TYPE_SESSION_START || !s->stop_requested) {
                s->stop_requested = false;
                r = session_set_state(s, b, SESSION_STATE_RUNNING, "the agent goes on");
        }
        return r;
}

static int post_event(struct post *po, size_t i, struct hub_batch *b)
{
        const struct external_event *e = &message(po)->events[i];
        struct session *s = po->sessions[po->of[i]];
        struct posted_event *out = &po->posted[i];
        const struct session_append *earlier =
                s->exists && po->idems[i] ? session_recent(s, po->idems[i]) : NULL;

        if (earlier) {
                *out = (struct posted_event){ earlier->first_id, s->id, earlier->first_seq, true,
                                              false };
                return 0;
        }
        int r = move_session(po, i, s, b);
        if (r < 0)
                return r;
        uint64_t seq = hub_event(b, s, e->event_type, span_of(po->bodies[i]));
        *out = (struct posted_event){ hub_last_id(b), s->id, seq, false, false };
        if (po->idems[i])
                hub_append_done(b, s, po->idems[i], seq);
        return 0;
}

static int post_apply(struct request *q, struct session *none, struct hub_batch *b)
{
        struct post *po = container_of(q, struct post, q);
        const struct external_post *m = q->msg;
        int r = check_events(po);

        for (size_t i = 0; r == 0 && i < m->n_events; i++)
                if (!po->stored[i])
                        r = post_event(po, i, b);
        if (r == -EPERM)
                return hub_refuse(&q->entry, ERROR_CODE_INTERNAL, "the session's state forbids it");
        if (r < 0)
                return r;
        for (size_t i = 0; i < m->n_events; i++)
                po->posted[i].stop_requested = po->sessions[po->of[i]]->stop_requested;
        if (m->idempotency_key && !q->replayed)
                hub_idempotency(b, m->tenant, "events.post", m->idempotency_key, m->request_digest,
                                m->events[0].session_id, NULL, 0);
        return 0;
}

static void post_done(struct request *q, const struct hub_batch *b)
{
        struct post *po = container_of(q, struct post, q);
        struct external_posted reply = { .events = po->posted, .n_events = message(po)->n_events };

        request_reply(q, &reply);
}

static void submit(struct post *po)
{
        const struct external_post *m = message(po);
        size_t weight = 512;

        for (size_t i = 0; i < m->n_events; i++)
                weight += 512 + m->events[i].body.len;
        request_submit(&po->q, weight, m->n_events * 2, post_apply, post_done);
}

/* ---- which are stored already ---- */

static void on_idems(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        struct post *po = userdata;
        const struct external_post *m = message(po);

        if (r < 0) {
                request_refuse(&po->q, ERROR_CODE_UNAVAILABLE,
                               "the events could not be looked up; try again");
                request_end(&po->q);
                return;
        }
        for (int row = 0; row < PQntuples(results[0]); row++)
                for (size_t i = 0; i < m->n_events; i++) {
                        if (!streq(pg_str(results[0], row, 0), m->events[i].session_id) ||
                            !streq(pg_str(results[0], row, 1), po->idems[i]))
                                continue;
                        po->stored[i] = true;
                        po->posted[i] = (struct posted_event){
                                .id = (uint64_t) pg_i64(results[0], row, 2),
                                .session_id = po->sessions[po->of[i]]->id,
                                .seq = (uint64_t) pg_i64(results[0], row, 3),
                                .replayed = true,
                        };
                }
        submit(po);
}

static void find_idems(struct post *po)
{
        cleanup_buf struct buf sessions = BUF_INIT, idems = BUF_INIT;

        for (size_t i = 0; i < message(po)->n_events; i++)
                if (po->idems[i])
                        buf_putf(&idems, "%s%s", idems.len > 0 ? SEPARATOR : "", po->idems[i]);
        for (size_t i = 0; i < po->n_sessions; i++)
                buf_putf(&sessions, "%s%s", i > 0 ? SEPARATOR : "", po->sessions[i]->id);
        if (idems.len == 0) {
                submit(po);
        } else if (pg_query(po->q.c->pool, on_idems, po, store_idems_find, "tt",
                            (struct span){ sessions.data, sessions.len },
                            (struct span){ idems.data, idems.len }) < 0) {
                request_refuse(&po->q, ERROR_CODE_UNAVAILABLE,
                               "the database is overloaded; try again");
                request_end(&po->q);
        }
}

/* ---- the sessions, one after the other ---- */

static void read_sessions(struct post *po);

static void session_read(struct request *q)
{
        struct post *po = container_of(q, struct post, q);

        po->of[po->n_read++] = po->n_sessions;
        po->sessions[po->n_sessions++] = TAKE_PTR(q->session);
        read_sessions(po);
}

static bool have_session(struct post *po, const char *id)
{
        for (size_t i = 0; i < po->n_sessions; i++)
                if (streq(po->sessions[i]->id, id)) {
                        po->of[po->n_read++] = i;
                        return true;
                }
        return false;
}

static void read_sessions(struct post *po)
{
        const struct external_post *m = message(po);

        while (po->n_read < m->n_events && have_session(po, m->events[po->n_read].session_id))
                ;
        if (po->n_read < m->n_events)
                request_with_session(&po->q, m->events[po->n_read].session_id, session_read);
        else
                find_idems(po);
}

static void post_once(struct request *q)
{
        read_sessions(container_of(q, struct post, q));
}

/* The key was used with the same body: its events are found by the ids that follow from the key. */
static void post_replay(struct request *q, const PGresult *found)
{
        q->replayed = true;
        post_once(q);
}

/* ---- arrival ---- */

static bool plain(const char *text)
{
        for (; *text; text++)
                if ((unsigned char) *text < 0x20)
                        return false;
        return true;
}

/* The event's own id, or one that follows from the Idempotency-Key. */
static char *idem_of(const struct external_post *m, size_t i)
{
        char digest[SHA256_HEX];

        if (m->events[i].event_id)
                return xasprintf("e:%s", m->events[i].event_id);
        if (!m->idempotency_key)
                return NULL;
        sha256_hex(m->idempotency_key, strlen(m->idempotency_key), digest);
        return xasprintf("k:%.40s:%zu", digest, i);
}

static int check_event(struct post *po, size_t i)
{
        const struct external_event *e = &message(po)->events[i];
        struct request *q = &po->q;

        if (!session_id_valid(e->session_id) || (e->event_id && !plain(e->event_id))) {
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "event %zu: %s is not valid", i + 1,
                               session_id_valid(e->session_id) ? "id" : "session_id");
                return -EINVAL;
        }
        if (route_json(q, "an event", e->body, JSON_OBJECT, &po->bodies[i]) < 0 ||
            (e->metadata.data &&
             route_json(q, "metadata", e->metadata, JSON_OBJECT, &po->metadata[i]) < 0))
                return -EINVAL;
        po->idems[i] = idem_of(message(po), i);
        if (!po->idems[i])
                return 0;
        cleanup_free char *key =
                xasprintf("event" SEPARATOR "%s" SEPARATOR "%s", e->session_id, po->idems[i]);
        if (map_get(q->c->keys, key)) {
                request_refuse(q, ERROR_CODE_CONFLICT,
                               "event %zu: its id is in another event that is being worked on",
                               i + 1);
                return -EBUSY;
        }
        (void) map_set(q->c->keys, key, q);
        po->keys[i] = TAKE_PTR(key);
        return 0;
}

int route_external_post(void *userdata, struct rpc_peer *p, struct rpc_request *req,
                        const void *msg)
{
        struct request *q =
                request_new(userdata, sizeof(struct post), p, req, &wire_external_post, msg, true);

        if (!q)
                return 0;
        struct post *po = container_of(q, struct post, q);
        const struct external_post *m = q->msg;
        bool good = route_tenant(q, m->tenant);
        q->release = post_release;
        if (good && m->n_events == 0) {
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "there is no event");
                good = false;
        }
        for (size_t i = 0; good && i < m->n_events; i++)
                good = check_event(po, i) >= 0;
        if (good)
                request_once(q, m->tenant, "events.post", m->idempotency_key, m->request_digest,
                             post_once, post_replay);
        else
                request_end(q);
        return 0;
}
