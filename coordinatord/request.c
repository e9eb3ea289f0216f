/* Requests between arrival and answer. */
#include "request.h"

#include "audit.h"

#include "common/io/log.h"

#define REQUESTS_MAX 20000
#define STUCK_USEC USEC_PER_SEC

static int copy_message(struct request *q, const struct wire_msg *type, const void *msg)
{
        static const uint8_t none[WIRE_CORRELATION];
        struct wire_envelope e;
        void *copy;
        int r;

        r = wire_pack(&q->frame, type, msg, 0, none);
        if (r >= 0)
                r = wire_open((struct span){ q->frame.data, q->frame.len }, &e);
        if (r < 0)
                return r;
        q->arena = wire_arena_new();
        r = wire_unpack(type, e.body, q->arena, &copy);
        if (r >= 0)
                q->msg = copy;
        return r;
}

bool coordinator_database_up(const struct coordinator *c)
{
        return pg_pool_up(c->hub_pool) && pg_pool_up(c->pool) &&
               hub_stuck_usec(c->hub) < STUCK_USEC;
}

struct request *request_new(struct coordinator *c, size_t size, struct rpc_peer *peer,
                            struct rpc_request *rpc, const struct wire_msg *type, const void *msg,
                            bool from_client)
{
        c->counters.requests++;
        if (c->n_requests >= REQUESTS_MAX || (from_client && !coordinator_database_up(c))) {
                c->counters.requests_refused++;
                if (rpc)
                        rpc_reply_error(rpc, ERROR_CODE_UNAVAILABLE,
                                        c->n_requests >= REQUESTS_MAX
                                                ? "too many requests are under way"
                                                : "the database does not answer");
                return NULL;
        }
        struct request *q = xcalloc(1, size);
        q->c = c;
        q->rpc = rpc;
        q->peer = peer;
        q->deadline = from_client ? now_monotonic() + c->settings->request_timeout : 0;
        list_push_back(&c->requests, &q->link);
        list_init(&q->wait_link);
        if (rpc)
                q->trace = *rpc_request_trace(rpc);
        q->audit = audit_context(rpc);
        c->n_requests++;
        if (type && copy_message(q, type, msg) < 0) {
                request_refuse(q, ERROR_CODE_INTERNAL, "the request could not be kept");
                request_end(q);
                return NULL;
        }
        return q;
}

void request_refuse(struct request *q, enum error_code code, const char *fmt, ...)
{
        char text[400];
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        q->c->counters.requests_refused++;
        if (q->rpc)
                rpc_reply_error(q->rpc, code, "%s", text);
        q->rpc = NULL;
}

void request_reply(struct request *q, const void *reply)
{
        if (q->audit && !q->audited)
                audit_later(q);
        if (q->rpc)
                rpc_reply(q->rpc, reply);
        q->rpc = NULL;
}

void request_end(struct request *q)
{
        struct coordinator *c = q->c;

        if (q->rpc)
                request_refuse(q, ERROR_CODE_INTERNAL, "the request ended without an answer");
        if (q->key)
                (void) map_remove(c->keys, q->key);
        if (q->release)
                q->release(q);
        list_remove(&q->link);
        list_remove(&q->wait_link);
        c->n_requests--;
        (void) session_unref(q->session);
        (void) wire_arena_free(q->arena);
        buf_done(&q->frame);
        free(q->key);
        free(q->audit);
        free(q);
}

static void run_step(struct request *q, void (*step)(struct request *q))
{
        if (q->late && !q->sticky)
                request_end(q);
        else
                step(q);
}

/* ---- reading a session ---- */

struct session_read {
        struct coordinator *c;
        struct session *session;
};

static void on_session_read(void *userdata, int r)
{
        struct session_read *l = userdata;
        struct session *s = TAKE_PTR(l->session);
        struct request *q;

        free(l);
        while ((q = list_first(&s->waiters, struct request, wait_link))) {
                list_remove(&q->wait_link);
                if (r < 0) {
                        request_refuse(q, ERROR_CODE_UNAVAILABLE,
                                       "the session could not be read; try again");
                        request_end(q);
                } else {
                        run_step(q, q->step);
                }
        }
        (void) session_unref(s);
}

void request_with_session(struct request *q, const char *session_id,
                          void (*step)(struct request *q))
{
        struct coordinator *c = q->c;
        struct session *s = sessions_get(&c->sessions, session_id);

        q->session = s;
        q->step = step;
        if (s->loaded) {
                run_step(q, step);
                return;
        }
        bool reading = !list_empty(&s->waiters);
        list_push_back(&s->waiters, &q->wait_link);
        if (reading)
                return;
        struct session_read *l = xnew(struct session_read);
        *l = (struct session_read){ c, session_ref(s) };
        int r = store_session_reload(c->pool, s, on_session_read, l);
        if (r < 0)
                on_session_read(l, r);
}

/* ---- Idempotency-Key ---- */

static void on_key_found(void *userdata, int r, PGresult **results, size_t n,
                         const struct pg_error *error)
{
        struct request *q = userdata;

        if (r < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the Idempotency-Key could not be looked up; try again");
                request_end(q);
        } else if (PQntuples(results[0]) == 0) {
                run_step(q, q->step);
        } else if (!streq(pg_str(results[0], 0, 0), q->digest)) {
                request_refuse(q, ERROR_CODE_CONFLICT,
                               "this Idempotency-Key was used with another request");
                request_end(q);
        } else {
                q->audited = true; /* as the first one: this one does nothing */
                q->replay(q, results[0]);
        }
}

void request_once(struct request *q, const char *tenant, const char *scope, const char *key,
                  const char *digest, void (*step)(struct request *q),
                  void (*replay)(struct request *q, const PGresult *found))
{
        struct coordinator *c = q->c;
        cleanup_free char *name = NULL;

        if (!key || !digest) {
                step(q);
                return;
        }
        name = xasprintf("%s\x1f%s\x1f%s", tenant, scope, key);
        const struct request *first = map_get(c->keys, name);
        if (first) {
                /* Whoever was told to come again is told so until the answer is there. */
                request_refuse(q, first->late ? ERROR_CODE_UNAVAILABLE : ERROR_CODE_CONFLICT,
                               "a request with this Idempotency-Key is being worked on");
                request_end(q);
                return;
        }
        (void) map_set(c->keys, name, q);
        q->key = TAKE_PTR(name);
        q->step = step;
        q->replay = replay;
        q->digest = digest;
        if (pg_query(c->pool, on_key_found, q, store_idempotency_find, "sss", tenant, scope, key) <
            0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
                request_end(q);
        }
}

/* ---- the hub ---- */

static int apply_entry(struct hub_entry *e, struct hub_batch *b)
{
        struct request *q = container_of(e, struct request, entry);

        if (q->late && !q->sticky)
                return hub_refuse(e, ERROR_CODE_UNAVAILABLE, "the request came too late");
        TRACE_SCOPE(&q->trace);
        int r = q->apply(q, q->session, b);
        if (r >= 0 && q->audit && !q->replayed) {
                cleanup_free char *row = audit_row(q, q->session ? q->session->id : NULL);
                hub_audit(b, row);
                q->audited = true;
        }
        return r;
}

static void entry_done(struct hub_entry *e, int r, const struct hub_batch *b)
{
        struct request *q = container_of(e, struct request, entry);

        TRACE_SCOPE(&q->trace);
        if (r >= 0 && q->session && trace_is_set(&q->trace) && !q->of_holder)
                q->session->trace = q->trace;
        if (r < 0)
                request_refuse(q, e->code, "%s", e->message);
        else
                q->done(q, b);
        request_end(q);
}

void request_submit(struct request *q, size_t weight, size_t events,
                    int (*apply)(struct request *q, struct session *s, struct hub_batch *b),
                    void (*done)(struct request *q, const struct hub_batch *b))
{
        q->apply = apply;
        q->done = done;
        q->entry = (struct hub_entry){
                .session = q->session,
                .apply = apply_entry,
                .done = entry_done,
                .weight = weight,
                .events = events,
        };
        if (hub_submit(q->c->hub, &q->entry) < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "too many events are waiting; try again");
                request_end(q);
        }
}

int request_check_session(struct request *q, const struct session *s, const char *tenant)
{
        if (!s->exists || !streq(s->tenant, tenant))
                return hub_refuse(&q->entry, ERROR_CODE_NOT_FOUND, "there is no session %s", s->id);
        return 0;
}

void requests_sweep(struct coordinator *c)
{
        uint64_t now = now_monotonic();
        struct request *q;

        list_foreach (q, &c->requests, link) {
                if (!q->rpc || !q->deadline || q->deadline > now)
                        continue;
                c->counters.requests_late++;
                q->late = true;
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the database does not answer; the request may still happen");
        }
}

void requests_end_all(struct coordinator *c)
{
        struct request *q, *next;

        list_foreach_safe (q, next, &c->requests, link)
                request_end(q);
}
