/* The takeover lease: taking, giving back, running out; what its holder did, as events. */
#include "control.h"

#include "common/base/json.h"
#include "common/io/log.h"
#include "lease.h"
#include "route.h"

#define CONFIRM_TIMEOUT USEC_PER_SEC
#define CONTROL_UNTIL_NEW UINT64_MAX /* just read: it gets a full term */

enum control_mode control_mode(const struct session *s)
{
        if (!s->control.person)
                return CONTROL_MODE_AGENT;
        return s->control.secret ? CONTROL_MODE_SECRET : CONTROL_MODE_PERSON;
}

/* ---- the row ---- */

char *control_text(const struct session *s)
{
        const struct session_driver *l = &s->control;
        char since[TIMESTAMP_MAX];

        if (!l->person)
                return NULL;
        timestamp_format(l->since_us, since);
        cleanup_json json_t *j =
                json_pack("{s:s,s:s?,s:s,s:s,s:I,s:b}", "person", l->person, "viewer", l->viewer,
                          "token_hash", l->token_hash, "since", since, "since_us",
                          (json_int_t) l->since_us, "secret", (int) l->secret);
        return json_text(j);
}

int control_read(struct session *s, const char *text)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        session_control_clear(s);
        if (!text)
                return 0;
        if (json_parse(text, strlen(text), &j, &problem) < 0)
                return -EBADMSG;
        const char *person = json_string_value(json_object_get(j, "person"));
        const char *hash = json_string_value(json_object_get(j, "token_hash"));
        if (!person || !hash)
                return -EBADMSG;
        s->control = (struct session_driver){
                .person = xstrdup(person),
                .viewer = xstrdup(json_string_value(json_object_get(j, "viewer"))),
                .token_hash = xstrdup(hash),
                .since_us = (uint64_t) json_integer_value(json_object_get(j, "since_us")),
                .secret = json_is_true(json_object_get(j, "secret")),
                .until = CONTROL_UNTIL_NEW,
        };
        return 0;
}

/* ---- telling the worker ---- */

/* A change that is stored and waits for the worker's word; then it is answered. */
struct confirm {
        struct rpc_request *rpc; /* NULL: nobody waits */
        char *json;
        uint32_t lease_ms;
};

static void confirm_end(struct confirm *k, int r)
{
        if (k->rpc && r < 0)
                rpc_reply_error(k->rpc, ERROR_CODE_UNAVAILABLE,
                                "the worker of the session has not confirmed it yet; try again");
        else if (k->rpc)
                rpc_reply(k->rpc, &(struct control_reply){ .session_json = span_of(k->json),
                                                           .lease_ms = k->lease_ms });
        free(k->json);
        free(k);
}

static void on_confirmed(void *userdata, int r, const void *reply)
{
        confirm_end(userdata, r);
}

static void tell(struct coordinator *c, const struct session *s, struct confirm *k)
{
        struct worker *w = s->worker_id ? workers_find(&c->workers, s->worker_id) : NULL;
        struct control_mode_set m = { .session_id = s->id,
                                      .epoch = s->epoch,
                                      .mode = control_mode(s),
                                      .person = s->control.person };
        int r = -ENOTCONN;

        if (!s->worker_id) {
                confirm_end(k, 0); /* nobody holds it, nobody acts */
                return;
        }
        if (w && w->peer)
                r = rpc_call(w->peer, &wire_control_mode_set, &m, CONFIRM_TIMEOUT, on_confirmed, k);
        if (r < 0)
                confirm_end(k, r);
}

/* ---- control_set ---- */

static bool is_holder(const struct session *s, const struct control_set *m)
{
        const struct session_driver *l = &s->control;

        return l->person && streq(l->token_hash, m->token_hash) && streq(l->viewer, m->viewer);
}

static int held_by_other(struct request *q, const struct session *s)
{
        return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                          "%s has the controls; take them with force", s->control.person);
}

static int take(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct control_set *m = q->msg;
        uint64_t until = now_monotonic() + q->c->settings->control_ttl;

        if (is_holder(s, m)) {
                s->control.until = until;
                return 0;
        }
        if (s->kind == SLOT_KIND_EXTERNAL)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                                  "the session runs elsewhere: nothing here can be taken over");
        if (!s->worker_id)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                                  "the session holds no slot now, so there is nothing to take "
                                  "over");
        if (s->control.person && !m->force)
                return held_by_other(q, s);
        if (s->control.person && !streq(s->control.token_hash, m->token_hash) && !m->may_force)
                return hub_refuse(&q->entry, ERROR_CODE_FORBIDDEN,
                                  "%s has the controls; only an admin may take them",
                                  s->control.person);
        session_control_take(s, b,
                             &(struct session_driver){ .person = xstrdup(m->person),
                                                       .viewer = xstrdup(m->viewer),
                                                       .token_hash = xstrdup(m->token_hash),
                                                       .since_us = hub_now(b),
                                                       .until = until });
        return 0;
}

static int release(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct control_set *m = q->msg;

        if (!s->control.person)
                return 0;
        if (!streq(s->control.token_hash, m->token_hash) && !(m->force && m->may_force))
                return held_by_other(q, s);
        session_control_end(s, b, "released");
        return 0;
}

static int secret(struct request *q, struct session *s, struct hub_batch *b, bool on)
{
        if (!is_holder(s, q->msg))
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                                  "secret entry is for whoever has the controls; take them first");
        session_control_secret(s, b, on);
        return 0;
}

static int set_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct control_set *m = q->msg;
        int r = request_check_session(q, s, m->tenant);

        if (r < 0)
                return r;
        switch (m->action) {
        case CONTROL_ACTION_TAKE:
                r = take(q, s, b);
                break;
        case CONTROL_ACTION_RELEASE:
                r = release(q, s, b);
                break;
        case CONTROL_ACTION_SECRET_ON:
        case CONTROL_ACTION_SECRET_OFF:
                r = secret(q, s, b, m->action == CONTROL_ACTION_SECRET_ON);
                break;
        case CONTROL_ACTION_MAX:
                r = hub_refuse(&q->entry, ERROR_CODE_BAD_REQUEST, "unknown action");
                break;
        }
        if (r < 0)
                return r;
        hub_session_write(b, s, true);
        return 0;
}

static void set_done(struct request *q, const struct hub_batch *b)
{
        const struct session *s = q->session;
        const char *json = hub_session_json(b, s);
        struct confirm *k = xnew(struct confirm);

        if (!json) {
                free(k);
                request_refuse(q, ERROR_CODE_NOT_FOUND, "the session was deleted meanwhile");
                return;
        }
        *k = (struct confirm){ .rpc = TAKE_PTR(q->rpc), .json = xstrdup(json) };
        if (s->control.person)
                k->lease_ms = (uint32_t) (q->c->settings->control_ttl / USEC_PER_MSEC);
        tell(q->c, s, k);
}

static void set_submit(struct request *q)
{
        request_submit(q, 512, 1, set_apply, set_done);
}

int route_control_set(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct request *q =
                request_new(userdata, sizeof(struct request), p, req, &wire_control_set, msg, true);

        if (q)
                request_with_session(q, ((const struct control_set *) q->msg)->session_id,
                                     set_submit);
        return 0;
}

/* ---- control_input ---- */

static int input_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        const struct control_input *m = q->msg;
        cleanup_buf struct buf body = BUF_INIT;

        if (!s->exists)
                return hub_refuse(&q->entry, ERROR_CODE_NOT_FOUND, "there is no session %s", s->id);
        buf_puts(&body, "{\"action\":\"input\",\"person\":");
        buf_put_json_string(&body, m->person, strlen(m->person));
        buf_putf(&body, ",\"duration_ms\":%" PRIu32, m->duration_ms);
        if (m->secret)
                buf_puts(&body, ",\"secret\":true");
        else
                buf_putf(&body,
                         ",\"clicks\":%" PRIu32 ",\"keys\":%" PRIu32 ",\"scrolls\":%" PRIu32
                         ",\"pastes\":%" PRIu32,
                         m->clicks, m->keys, m->scrolls, m->pastes);
        if (!m->secret && m->has_typed_bytes)
                buf_putf(&body, ",\"typed_bytes\":%" PRIu32 ",\"typed_lines\":%" PRIu32,
                         m->typed_bytes, m->typed_lines);
        buf_puts(&body, "}");
        (void) hub_event(b, s, EVENT_TYPE_CONTROL, (struct span){ body.data, body.len });
        hub_session_write(b, s, false);
        return 0;
}

static void input_done(struct request *q, const struct hub_batch *b)
{
        request_reply(q, &(struct ok_reply){ 0 });
}

static void input_submit(struct request *q)
{
        request_submit(q, 512, 1, input_apply, input_done);
}

int route_control_input(void *userdata, struct rpc_peer *p, struct rpc_request *req,
                        const void *msg)
{
        struct request *q = request_new(userdata, sizeof(struct request), p, req,
                                        &wire_control_input, msg, true);

        if (q)
                request_with_session(q, ((const struct control_input *) q->msg)->session_id,
                                     input_submit);
        return 0;
}

/* ---- running out ---- */

struct expiry {
        struct hub_entry entry;
        struct coordinator *c;
        uint64_t since_us;
};

static int expiry_apply(struct hub_entry *e, struct hub_batch *b)
{
        struct expiry *x = container_of(e, struct expiry, entry);
        struct session *s = e->session;

        if (!s->exists || !s->control.person || s->control.since_us != x->since_us ||
            s->control.until > now_monotonic())
                return hub_refuse(e, ERROR_CODE_CONFLICT, "it was renewed or given back");
        session_control_end(s, b, "expired");
        return 0;
}

static void expiry_done(struct hub_entry *e, int r, const struct hub_batch *b)
{
        struct expiry *x = container_of(e, struct expiry, entry);

        x->entry.session->control.expiring = false;
        if (r == 0) {
                struct confirm *k = xnew(struct confirm);
                log_info("session %s: nobody renewed the takeover", x->entry.session->id);
                tell(x->c, x->entry.session, k);
        }
        (void) session_unref(x->entry.session);
        free(x);
}

void control_sweep(struct coordinator *c)
{
        uint64_t now = now_monotonic();
        struct session *s;

        list_foreach (s, &c->sessions.leased, lease_link) {
                if (s->control.person && s->control.until == CONTROL_UNTIL_NEW)
                        s->control.until = now + c->settings->control_ttl;
                if (!s->control.person || s->control.until > now || s->control.expiring)
                        continue;
                struct expiry *x = xnew(struct expiry);
                *x = (struct expiry){ .c = c, .since_us = s->control.since_us };
                x->entry = (struct hub_entry){ .session = session_ref(s),
                                               .apply = expiry_apply,
                                               .done = expiry_done,
                                               .events = 1 };
                s->control.expiring = true;
                hub_submit_own(c->hub, &x->entry);
        }
}
