/* Subscribers of the streams and the bus that feeds them. */
#include "gatewayd/fanout-internal.h"

#include "common/base/json.h"
#include "common/io/log.h"
#include "gatewayd/relay.h"
#include "gatewayd/sse.h"
#include "gatewayd/ws.h"

const char *fanout_update_type(enum event_type t)
{
        switch ((int) t) {
        case EVENT_TYPE_PRE_TOOL:
                return "tool_use";
        case EVENT_TYPE_POST_TOOL:
                return "tool_result";
        case EVENT_TYPE_SESSION_START:
                return "status";
        case EVENT_TYPE_SESSION_STOP:
                return "complete";
        default:
                return event_type_name(t);
        }
}

/* ---- one event in every shape ---- */

static struct span span_text(const char *s)
{
        return span_of(s);
}

/* {"type":"T", and the event object without its first brace. */
struct frame *rendering_update(const struct rendering *r, enum sink_kind kind)
{
        char head[64], id[24];

        snprintf(head, sizeof(head), "{\"type\":\"%s\",", r->type);
        snprintf(id, sizeof(id), "%" PRIu64, r->seq);
        const struct span parts[] = { span_text(head), { r->json.data + 1, r->json.len - 1 } };
        if (kind == SINK_WS)
                return frame_ws_text(parts, ARRAY_LEN(parts), false);
        return frame_sse(id, r->type, parts, ARRAY_LEN(parts), false);
}

static struct frame *render_event(struct rendering *r)
{
        const struct span parts[] = { span_text("{\"type\":\"event\",\"event\":"), r->json,
                                      span_text("}") };

        return frame_ws_text(parts, ARRAY_LEN(parts), false);
}

struct frame *rendering_for(struct rendering *r, const struct subscriber *s)
{
        if (!s->topic)
                return r->ws_event ? r->ws_event : (r->ws_event = render_event(r));
        if (sink_kind(s->sink) == SINK_WS)
                return r->ws_update ? r->ws_update : (r->ws_update = rendering_update(r, SINK_WS));
        return r->sse_update ? r->sse_update : (r->sse_update = rendering_update(r, SINK_SSE));
}

void rendering_done(struct rendering *r)
{
        frame_unref(r->ws_update);
        frame_unref(r->sse_update);
        frame_unref(r->ws_event);
}

/* ---- subscribers ---- */

uint64_t subscriber_target(const struct subscriber *s)
{
        return s->topic ? s->topic->known_seq : s->fanout->cursor;
}

bool subscriber_wants(const struct subscriber *s, const char *session_id)
{
        return s->topic || !s->filter || map_get(s->filter, session_id);
}

bool subscriber_wants_type(const struct subscriber *s, enum event_type t)
{
        return !s->types || s->types & UINT32_C(1) << t;
}

static void topic_unlink(struct subscriber *s)
{
        struct topic *t = s->topic;

        list_remove(&s->link);
        s->topic = NULL;
        if (!t || !list_empty(&t->subscribers))
                return;
        topic_forget_joined(t);
        map_remove(s->fanout->topics, t->session_id);
        free(t->session_id);
        free(t);
}

static void on_gone(struct sink *sink)
{
        struct subscriber *s = sink_userdata(sink);

        subscriber_set_state(s, SUBSCRIBER_WAITING);
        topic_unlink(s);
        s->fanout->n_subscribers--;
        map_free(s->filter);
        free(s);
}

static void on_room(struct sink *sink)
{
        struct subscriber *s = sink_userdata(sink);

        if (s->state == SUBSCRIBER_WAITING)
                subscriber_catch_up(s);
}

static struct frame *on_lagged(struct sink *sink)
{
        struct subscriber *s = sink_userdata(sink);
        char text[80];

        /* Everything up to position was queued before this frame, so the client has it when it
         * reads this. */
        snprintf(text, sizeof(text), "{\"type\":\"lagged\",\"resume_after\":%" PRIu64 "}",
                 s->position);
        const struct span part = span_text(text);
        if (sink_kind(sink) == SINK_WS)
                return frame_ws_text(&part, 1, false);
        return frame_sse(NULL, "lagged", &part, 1, false);
}

void subscriber_end(struct subscriber *s, const char *type, const char *json, uint16_t code,
                    const char *reason)
{
        const struct span part = span_text(json);
        struct frame *f = sink_kind(s->sink) == SINK_WS ? frame_ws_text(&part, 1, false)
                                                        : frame_sse(NULL, type, &part, 1, false);

        if (sink_push(s->sink, f) == 0)
                sink_close(s->sink, code, reason);
        frame_unref(f);
}

static void push_text(struct sink *sink, const char *text)
{
        const struct span part = span_text(text);
        struct frame *f = frame_ws_text(&part, 1, false);

        (void) sink_push(sink, f); /* a client that cannot take it is being closed */
        frame_unref(f);
}

static int set_filter(struct subscriber *s, const json_t *sessions)
{
        CLEANUP(map_freep) struct map *filter = NULL;
        size_t i;
        json_t *id;

        if (!sessions || (json_is_string(sessions) && streq(json_string_value(sessions), "*"))) {
                s->filter = map_free(s->filter);
                return 0;
        }
        if (!json_is_array(sessions) || json_array_size(sessions) > FANOUT_FILTER_MAX)
                return -EINVAL;
        filter = map_new();
        json_array_foreach (sessions, i, id) {
                if (!json_is_string(id) || json_string_length(id) > 64)
                        return -EINVAL;
                map_set(filter, json_string_value(id), s);
        }
        map_free(s->filter);
        s->filter = TAKE_PTR(filter);
        return 0;
}

/* {"type":"subscribe","sessions":[ids]|"*","deltas":bool} and {"type":"ping"}. */
static void on_message(struct sink *sink, struct span data, bool binary)
{
        struct subscriber *s = sink_userdata(sink);
        cleanup_json json_t *j = NULL;
        struct json_problem problem;
        const char *type;

        if (binary || json_parse(data.data, data.len, &j, &problem) < 0 || !json_is_object(j)) {
                push_text(sink,
                          "{\"type\":\"error\",\"error\":{\"code\":\"bad_request\",\"message\":"
                          "\"messages are JSON objects with a type: subscribe or ping\"}}");
                return;
        }
        type = json_string_value(json_object_get(j, "type"));
        if (streq(type, "ping")) {
                push_text(sink, "{\"type\":\"pong\"}");
        } else if (streq(type, "subscribe")) {
                const json_t *deltas = json_object_get(j, "deltas");
                if ((deltas && !json_is_boolean(deltas)) ||
                    (!s->topic && set_filter(s, json_object_get(j, "sessions")) < 0)) {
                        push_text(sink, "{\"type\":\"error\",\"error\":{\"code\":\"bad_request\","
                                        "\"message\":"
                                        "\"subscribe takes sessions (a list of at most 1000 ids, "
                                        "or \\\"*\\\") "
                                        "and deltas (true or false)\"}}");
                        return;
                }
                if (deltas)
                        s->deltas = json_is_true(deltas);
        } else {
                push_text(sink,
                          "{\"type\":\"error\",\"error\":{\"code\":\"bad_request\",\"message\":"
                          "\"unknown type: send subscribe or ping\"}}");
        }
}

static const struct sink_ops subscriber_ops = {
        .message = on_message, .room = on_room, .lagged = on_lagged, .gone = on_gone
};

static struct subscriber *subscriber_new(struct fanout *f, struct http_request *req)
{
        struct subscriber *s = xnew(struct subscriber);

        s->fanout = f;
        list_init(&s->link);
        list_init(&s->rider);
        snprintf(s->tenant, sizeof(s->tenant), "%s", req->principal.tenant);
        return s;
}

static int subscribe(struct http_request *req, struct subscriber *s)
{
        static const struct ws_options options = { .message_max = 65536 };
        int r;

        if (ws_requested(req))
                r = ws_accept(req, &options, &subscriber_ops, s, &s->sink);
        else
                r = sse_accept(req, &subscriber_ops, s, &s->sink);
        if (r < 0) {
                free(s);
                return r;
        }
        s->fanout->n_subscribers++;
        return 0;
}

void fanout_session_stream(struct fanout *f, struct http_request *req, const char *session_id,
                           uint64_t last_seq, uint64_t after_seq, uint32_t types, bool deltas)
{
        cleanup_free char *id = xstrdup(session_id);
        struct subscriber *s = subscriber_new(f, req);
        struct topic *t;

        s->position = after_seq;
        s->types = types;
        s->deltas = deltas;
        if (subscribe(req, s) < 0)
                return;
        t = map_get(f->topics, id);
        if (!t) {
                t = xnew(struct topic);
                t->session_id = TAKE_PTR(id);
                list_init(&t->subscribers);
                list_init(&t->reads);
                map_set(f->topics, t->session_id, t);
        }
        t->known_seq = MAX(t->known_seq, last_seq);
        s->topic = t;
        list_push_back(&t->subscribers, &s->link);
        subscriber_catch_up(s);
}

void fanout_all_sessions(struct fanout *f, struct http_request *req, struct span sessions_json,
                         uint64_t cursor, const char *epoch, uint64_t after)
{
        struct subscriber *s = subscriber_new(f, req);
        struct frame *init;
        char tail[160];

        fanout_history(f, cursor, cursor, epoch);
        snprintf(tail, sizeof(tail), ",\"cursor\":%" PRIu64 ",\"epoch\":\"%s\"}", cursor, epoch);
        const struct span parts[] = { span_text("{\"type\":\"init\",\"sessions\":"), sessions_json,
                                      span_text(tail) };
        init = frame_ws_text(parts, ARRAY_LEN(parts), false);
        s->position = after;
        f->cursor = MAX(f->cursor, cursor);
        if (subscribe(req, s) == 0) {
                (void) sink_push(s->sink, init);
                list_push_back(&f->all, &s->link);
                subscriber_catch_up(s);
        }
        frame_unref(init);
}

/* ---- the bus ---- */

static void deliver(struct subscriber *s, struct rendering *r, uint64_t position)
{
        if (s->state == SUBSCRIBER_LIVE && sink_push(s->sink, rendering_for(r, s)) == 0)
                s->position = position;
}

static void on_event(struct fanout *f, const struct bus_event *e)
{
        struct rendering r = { .json = e->json,
                               .type = fanout_update_type(e->event_type),
                               .seq = e->seq };
        struct topic *t = map_get(f->topics, e->session_id);
        struct subscriber *s, *tmp;
        bool gap = f->cursor && e->id > f->cursor + 1;

        f->gap = f->gap || gap;
        if (e->event_type == EVENT_TYPE_SESSION_START)
                (void) map_remove(f->deleted, e->session_id); /* there again */
        if (t)
                topic_join(f, t, e);
        if (e->id > f->cursor) {
                f->cursor = e->id;
                list_foreach_safe (s, tmp, &f->all, link) {
                        bool mine =
                                streq(s->tenant, e->tenant) && subscriber_wants(s, e->session_id);
                        /* A page may have shown it events that the bus brings only now. */
                        if (s->state == SUBSCRIBER_LIVE && !gap && e->id > s->position) {
                                if (!mine)
                                        s->position = e->id;
                                else
                                        deliver(s, &r, e->id);
                        }
                        subscriber_catch_up(s);
                }
        }
        rendering_done(&r);
}

static void to_all(struct fanout *f, const char *tenant, const char *session_id,
                   struct frame *frame, bool deltas_only)
{
        struct subscriber *s, *tmp;

        list_foreach_safe (s, tmp, &f->all, link)
                if (streq(s->tenant, tenant) && (!deltas_only || s->deltas) &&
                    subscriber_wants(s, session_id))
                        (void) sink_push(s->sink, frame);
}

static void on_session_updated(struct fanout *f, const struct bus_session_updated *u)
{
        const struct span parts[] = { span_text("{\"type\":\"session_updated\",\"session\":"),
                                      u->json, span_text("}") };
        struct frame *frame = frame_ws_text(parts, ARRAY_LEN(parts), false);

        to_all(f, u->tenant, u->session_id, frame, false);
        frame_unref(frame);
        relay_changed(f->gateway->relay, u->session_id);
}

void fanout_deleted(struct fanout *f, const char *tenant, const char *session_id)
{
        struct topic *t = map_get(f->topics, session_id);
        struct subscriber *s, *tmp;
        char text[160];

        if (map_get(f->deleted, session_id))
                return; /* by the bus and by the poll: once is enough */
        if (map_count(f->deleted) >= FANOUT_DELETED_MAX) {
                f->deleted = map_free(f->deleted);
                f->deleted = map_new();
        }
        (void) map_set(f->deleted, session_id, f);

        /* Session ids are made of letters, digits and - _ only (see session.create). */
        snprintf(text, sizeof(text), "{\"type\":\"session_deleted\",\"session_id\":\"%s\"}",
                 session_id);
        const struct span part = span_text(text);
        struct frame *frame = frame_ws_text(&part, 1, false);
        to_all(f, tenant, session_id, frame, false);
        frame_unref(frame);
        if (t) {
                topic_hand_out(t);
                list_foreach_safe (s, tmp, &t->subscribers, link)
                        subscriber_end(s, "session_deleted", text, SINK_CLOSE_NORMAL,
                                       "session deleted");
        }
}

static void on_session_deleted(struct fanout *f, const struct bus_session_deleted *d)
{
        fanout_deleted(f, d->tenant, d->session_id);
}

static void on_live(struct fanout *f, const struct bus_live *l)
{
        struct topic *t = map_get(f->topics, l->session_id);
        struct frame *ws = frame_ws_text(&l->json, 1, true);
        struct frame *sse = NULL;
        struct subscriber *s, *tmp;

        to_all(f, l->tenant, l->session_id, ws, true);
        if (t) {
                topic_hand_out(t);
                list_foreach_safe (s, tmp, &t->subscribers, link) {
                        if (!s->deltas || s->state != SUBSCRIBER_LIVE)
                                continue;
                        if (sink_kind(s->sink) == SINK_SSE && !sse)
                                sse = frame_sse(NULL, "delta", &l->json, 1, true);
                        (void) sink_push(s->sink, sink_kind(s->sink) == SINK_WS ? ws : sse);
                }
        }
        frame_unref(ws);
        frame_unref(sse);
}

static const char *epoch_of(const struct wire_msg *type, const void *msg)
{
        switch (type->id) {
        case MSG_BUS_EVENT:
                return ((const struct bus_event *) msg)->epoch;
        case MSG_BUS_SESSION_UPDATED:
                return ((const struct bus_session_updated *) msg)->epoch;
        case MSG_BUS_SESSION_DELETED:
                return ((const struct bus_session_deleted *) msg)->epoch;
        case MSG_BUS_LIVE:
                return ((const struct bus_live *) msg)->epoch;
        case MSG_BUS_TICK:
                return ((const struct bus_tick *) msg)->epoch;
        default:
                return NULL;
        }
}

/* What is of another history than the readers' is not shown to them: the database is asked, at
 * once, whose is in force; then they begin anew, or read there what was not shown. */
static bool in_doubt(struct fanout *f, const char *epoch)
{
        if (!epoch || streq(f->epoch, epoch))
                return false;
        if (!f->epoch[0]) { /* not asked yet */
                (void) snprintf(f->epoch, sizeof(f->epoch), "%s", epoch);
                return false;
        }
        if (f->n_subscribers == 0) {
                fanout_history(f, 0, 0, epoch);
                return false;
        }
        f->doubt = f->gap = true;
        fanout_poll(f);
        return true;
}

static void on_bus(void *userdata, const struct wire_msg *type, const void *msg, struct span frame)
{
        struct fanout *f = userdata;

        if (in_doubt(f, epoch_of(type, msg))) {
                f->heard_at = now_monotonic();
                if (type->id == MSG_BUS_SESSION_UPDATED) /* who drives is read from the database */
                        relay_changed(f->gateway->relay,
                                      ((const struct bus_session_updated *) msg)->session_id);
                return;
        }
        switch (type->id) {
        case MSG_BUS_EVENT:
                on_event(f, msg);
                break;
        case MSG_BUS_SESSION_UPDATED:
                on_session_updated(f, msg);
                break;
        case MSG_BUS_SESSION_DELETED:
                on_session_deleted(f, msg);
                break;
        case MSG_BUS_LIVE:
                on_live(f, msg);
                break;
        case MSG_BUS_PEOPLE_CHANGED:
                auth_changed(f->gateway->auth);
                break;
        case MSG_BUS_TICK:
                f->tick_at = f->heard_at = now_monotonic();
                if (((const struct bus_tick *) msg)->cursor > f->cursor)
                        f->gap = true;
                break;
        default:
                break;
        }
}

static int listen_to_bus(struct fanout *f)
{
        static const struct wire_msg *const types[] = { &wire_bus_event,
                                                        &wire_bus_session_updated,
                                                        &wire_bus_session_deleted,
                                                        &wire_bus_live,
                                                        &wire_bus_tick,
                                                        &wire_bus_people_changed };
        struct gateway *g = f->gateway;
        cleanup_free char *endpoint = xasprintf("ipc://%s", g->settings->bus_socket);

        f->heard_at = now_monotonic();
        f->bus = bus_free(f->bus);
        return bus_subscriber_new(g->event, g->daemon->zmq, endpoint, types, ARRAY_LEN(types),
                                  on_bus, f, &f->bus);
}

/* ---- once a second ---- */

static void on_timer(void *userdata)
{
        struct fanout *f = userdata;
        uint64_t now = now_monotonic();

        loop_timer_arm(&f->timer, USEC_PER_SEC);
        /* A coordinator that stands still keeps its connections; another may have its place. */
        if (now > f->heard_at + FANOUT_SILENCE_USEC && listen_to_bus(f) < 0)
                log_debug("bus: not subscribed; the next second tries again");
        if (f->n_subscribers && (f->gap || now > f->tick_at + FANOUT_SILENCE_USEC ||
                                 now > f->polled_at + FANOUT_POLL_USEC))
                fanout_poll(f);
}

int fanout_new(struct gateway *g, struct fanout **ret)
{
        CLEANUP(fanout_freep) struct fanout *f = xnew(struct fanout);
        int r;

        f->gateway = g;
        f->topics = map_new();
        f->deleted = map_new();
        list_init(&f->all);
        list_init(&f->joining);
        list_init(&f->reads);
        sink_set_before_flush(g->sinks, fanout_hand_out, f);
        r = loop_timer_init(&f->timer, g->event, on_timer, f);
        if (r < 0)
                return r;
        loop_timer_arm(&f->timer, USEC_PER_SEC);
        r = listen_to_bus(f);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot subscribe to the bus");
        *ret = TAKE_PTR(f);
        return 0;
}

struct fanout *fanout_free(struct fanout *f)
{
        if (!f)
                return NULL;
        bus_free(f->bus);
        loop_timer_done(&f->timer);
        map_free(f->deleted);
        map_free(
                f->topics); /* empty: ws_server_free and http_server_free ended every sink before */
        free(f);
        return NULL;
}

size_t fanout_subscribers(const struct fanout *f)
{
        return f->n_subscribers;
}

uint64_t fanout_cursor(const struct fanout *f)
{
        return f->cursor;
}
