/* The scene of test-agent.c: a hub that stores events, a provider that answers by script, an agent
 * between them over the real rpc link. Included by that one file. */
#pragma once

#include "tests/unit/common/unit.h"

#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "workerd/agent.h"

#define EVENTS_MAX 200

/* The hub as far as the loop can tell: numbers, stores, replays by key, guards by the newest
 * message. */
struct hub {
        struct rpc_link *link;
        char *events[EVENTS_MAX]; /* [0] has seq 1 */
        size_t n;
        struct {
                char *idem;
                uint64_t first, last;
        } recent[EVENTS_MAX];
        size_t n_recent;
        enum session_state state;
        char reason[300];
        uint64_t last_message_seq, epoch;
        unsigned refuse_stored;   /* so many appends are stored, but answered unavailable */
        unsigned refuse_unstored; /* so many are answered unavailable before */
        bool refuse_bad;
        size_t appends, replays, lives, attachments_asked;
};

struct turn {                /* of the scripted provider */
        const char *content; /* JSON array, NULL = failure */
        const char *stop_reason;
        bool retry;
        const char *say_meanwhile; /* a user message that comes while the model answers */
};

struct scene {
        sd_event *e;
        void *zmq;
        char folder[40];
        struct hub hub;
        struct rpc_link *link;
        struct outbox *outbox;
        struct loader *loader;
        struct history *history;
        struct live live;
        struct tool_host host;
        struct agent *agent;
        struct provider provider;
        struct provider_events events;
        struct loop_task answer;
        const struct turn *turns;
        size_t next_turn, calls;
        char *asked[50]; /* conversations the provider was sent */
        bool asked_now, resting, ended, fenced;
        enum session_state rest;
        uint64_t turns_max;
        size_t n_choices;
        uint64_t busy_usec;
        char *models[50]; /* that the provider was asked for */
};

static void store(struct hub *h, enum event_type type, struct span body)
{
        assert_true(h->n < EVENTS_MAX);
        h->events[h->n] = xasprintf(
                "{\"id\":%zu,\"session_id\":\"s\",\"seq\":%zu,\"event_type\":\"%s\",%.*s", h->n + 1,
                h->n + 1, event_type_name(type), (int) body.len - 1, body.data + 1);
        h->n++;
}

static void say(struct hub *h, const char *text)
{
        cleanup_free char *body = xasprintf(
                "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]}", text);

        store(h, EVENT_TYPE_MESSAGE, span_of(body));
        h->last_message_seq = h->n;
}

static int append_new_events(struct hub *h, const struct event_append *m)
{
        size_t i = h->n_recent;
        char status[400];

        h->recent[i].first = h->n + 1;
        for (size_t k = 0; k < m->n_items; k++)
                store(h, m->items[k].event_type, m->items[k].body);
        if (m->has_to_state && m->to_state != h->state) {
                (void) snprintf(status, sizeof(status), "{\"from\":\"%s\",\"to\":\"%s\"}",
                                session_state_name(h->state), session_state_name(m->to_state));
                store(h, EVENT_TYPE_STATUS, span_of(status));
                h->state = m->to_state;
                (void) snprintf(h->reason, sizeof(h->reason), "%s", m->reason ? m->reason : "");
        }
        h->recent[i].last = h->n;
        h->recent[i].idem = xstrdup(m->idem);
        h->n_recent++;
        return 0;
}

static int on_append(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg)
{
        struct hub *h = userdata;
        const struct event_append *m = msg;
        size_t i = 0;

        h->appends++;
        if (m->epoch != h->epoch)
                return rpc_reply_error(req, ERROR_CODE_STALE_EPOCH, "old");
        if (h->refuse_unstored > 0) {
                h->refuse_unstored--;
                return rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "not now");
        }
        if (h->refuse_bad && m->n_items > 0 && m->items[0].event_type != EVENT_TYPE_ERROR)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "no such event");
        while (i < h->n_recent && !streq(h->recent[i].idem, m->idem))
                i++;
        if (i == h->n_recent) {
                if (m->has_if_last_message_seq && h->last_message_seq > m->if_last_message_seq)
                        return rpc_reply_error(req, ERROR_CODE_CONFLICT, "newer message");
                append_new_events(h, m);
        } else {
                h->replays++;
        }
        if (h->refuse_stored > 0) {
                h->refuse_stored--;
                return rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "lost");
        }
        return rpc_reply(req, &(struct event_appended){ h->recent[i].first, h->recent[i].last,
                                                        i + 1 < h->n_recent });
}

/* Two events a page, so that paging is always tried. */
static int on_history(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                      const void *msg)
{
        struct hub *h = userdata;
        const struct history_get *m = msg;
        struct span page[2];
        struct history_page reply = { .events = page };

        if (m->epoch != h->epoch)
                return rpc_reply_error(req, ERROR_CODE_STALE_EPOCH, "old");
        for (size_t i = m->after_seq; i < h->n && reply.n_events < 2; i++)
                page[reply.n_events++] = span_of(h->events[i]);
        reply.more = m->after_seq + reply.n_events < h->n;
        return rpc_reply(req, &reply);
}

static int on_attachment(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                         const void *msg)
{
        struct hub *h = userdata;
        const struct attachment_get *m = msg;

        h->attachments_asked++;
        if (streq(m->digest, "gone"))
                return rpc_reply_error(req, ERROR_CODE_NOT_FOUND, "no such picture");
        return rpc_reply(req, &(struct attachment_reply){ .media_type = "image/png",
                                                          .data = span_of("png") });
}

static int on_live(void *userdata, struct rpc_peer *peer, struct rpc_request *req, const void *msg)
{
        struct hub *h = userdata;

        h->lives++;
        return 0;
}

/* ---- the provider ---- */

struct provider_call {
        struct scene *scene;
};
static struct provider_call the_call;

static void give_answer(void *userdata)
{
        struct scene *s = userdata;
        const struct turn *t = &s->turns[s->next_turn];
        struct provider_events events = s->events;

        if (!s->asked_now)
                return; /* cancelled */
        if (t->say_meanwhile && s->hub.state != SESSION_STATE_RUNNING) {
                loop_task_queue(&s->answer); /* what the agent said before is still on its way */
                return;
        }
        s->next_turn++;
        s->asked_now = false;
        if (t->say_meanwhile)
                say(&s->hub, t->say_meanwhile);
        if (!t->content) {
                events.on_done(events.userdata, NULL,
                               &(struct provider_failure){ .retry = t->retry,
                                                           .retry_after_usec = 1000,
                                                           .code = "overloaded_error",
                                                           .message = "It is busy." });
                return;
        }
        cleanup_json json_t *content = json_loads(t->content, 0, NULL), *bad = json_object();
        assert_non_null(content);
        events.on_delta(events.userdata, 0, PROVIDER_DELTA_TEXT, span_of("live"));
        events.on_done(events.userdata,
                       &(struct provider_reply){
                               .content = content,
                               .bad_calls = bad,
                               .stop_reason = t->stop_reason ? t->stop_reason : "end_turn",
                               .stop_detail = "",
                               .model = "stub",
                               .usage = { .input_tokens = 10, .output_tokens = 2 } },
                       NULL);
}

static int stub_start(struct provider *p, const struct provider_request *r,
                      const struct provider_events *events, struct provider_call **ret)
{
        struct scene *s = container_of(p, struct scene, provider);

        s->events = *events;
        s->asked_now = true;
        the_call.scene = s;
        if (s->calls < ARRAY_LEN(s->asked))
                s->asked[s->calls] = json_text(r->conversation);
        if (s->calls < ARRAY_LEN(s->models))
                s->models[s->calls] = xstrdup(r->model);
        s->calls++;
        loop_task_queue(&s->answer);
        *ret = &the_call;
        return 0;
}

static void stub_cancel(struct provider_call *c)
{
        c->scene->asked_now = false;
}

/* ---- the scene ---- */

static bool may_act(void *userdata)
{
        return true;
}

static void on_rest(void *userdata, enum session_state state)
{
        struct scene *s = userdata;

        s->resting = true;
        s->rest = state;
}

static void on_active(void *userdata)
{
        struct scene *s = userdata;

        s->resting = false;
}

static void on_end(void *userdata, const char *why)
{
        struct scene *s = userdata;

        s->ended = true;
}

static void on_fenced(void *userdata)
{
        struct scene *s = userdata;

        s->fenced = true;
}

static void on_event(void *userdata, const json_t *event)
{
        struct scene *s = userdata;

        agent_usage_before(s->agent, event);
}

static void open_scene(struct scene *s, const struct turn *turns)
{
        static const struct rpc_route routes[] = {
                { &wire_event_append, on_append },
                { &wire_history_get, on_history },
                { &wire_attachment_get, on_attachment },
                { &wire_event_live, on_live },
        };
        cleanup_free char *endpoint = NULL;

        *s = (struct scene){
                .turns = turns, .folder = "/tmp/berth-agent-XXXXXX", .turns_max = 50, .n_choices = 1
        };
        assert_non_null(mkdtemp(s->folder));
        endpoint = xasprintf("ipc://%s/c", s->folder);
        assert_int_equal(sd_event_new(&s->e), 0);
        s->zmq = zmq_ctx_new();
        s->hub.epoch = 7;
        s->hub.state = SESSION_STATE_STARTING;
        assert_int_equal(rpc_server_new(&(struct rpc_config){ .event = s->e,
                                                              .zmq = s->zmq,
                                                              .endpoint = endpoint,
                                                              .routes = routes,
                                                              .n_routes = ARRAY_LEN(routes),
                                                              .userdata = &s->hub },
                                        &s->hub.link),
                         0);
        assert_int_equal(
                rpc_client_new(
                        &(struct rpc_config){ .event = s->e, .zmq = s->zmq, .endpoint = endpoint },
                        &s->link),
                0);
        assert_int_equal(loop_task_init(&s->answer, s->e, give_answer, s), 0);
        s->provider =
                (struct provider){ .name = "stub", .start = stub_start, .cancel = stub_cancel };
        RUN_UNTIL(s->e, 10, rpc_peer_up(rpc_client_peer(s->link)));
}

static void start(struct scene *s, uint64_t epoch)
{
        s->host = (struct tool_host){
                .event = s->e, .epoch = epoch, .tenant = "default", .session_id = "s"
        };
        s->history = history_new(MIB);
        assert_int_equal(live_init(&s->live, s->e, s->link, "s", epoch), 0);
        assert_int_equal(outbox_new(&(struct outbox_config){ .event = s->e,
                                                             .link = s->link,
                                                             .session_id = "s",
                                                             .epoch = epoch,
                                                             .on_fenced = on_fenced,
                                                             .userdata = s },
                                    &s->outbox),
                         0);
        assert_int_equal(loader_new(&(struct loader_config){ .event = s->e,
                                                             .link = s->link,
                                                             .session_id = "s",
                                                             .epoch = epoch,
                                                             .history = s->history,
                                                             .on_event = on_event,
                                                             .on_fenced = on_fenced,
                                                             .userdata = s },
                                    &s->loader),
                         0);
        assert_int_equal(agent_new(&(struct agent_config){ .event = s->e,
                                                           .choices = { { &s->provider, "stub" },
                                                                        { &s->provider, "other" } },
                                                           .n_choices = s->n_choices,
                                                           .outbox = s->outbox,
                                                           .loader = s->loader,
                                                           .history = s->history,
                                                           .host = &s->host,
                                                           .live = &s->live,
                                                           .session_id = "s",
                                                           .epoch = epoch,
                                                           .system = "",
                                                           .max_tokens = 100,
                                                           .images_kept = 3,
                                                           .turns_max = s->turns_max,
                                                           .retries = 3,
                                                           .busy_usec = s->busy_usec,
                                                           .may_act = may_act,
                                                           .on_rest = on_rest,
                                                           .on_active = on_active,
                                                           .on_end = on_end,
                                                           .userdata = s },
                                   &s->agent),
                         0);
        agent_start(s->agent);
}

static void close_agent(struct scene *s)
{
        s->agent = agent_free(s->agent);
        tool_host_close(&s->host);
        s->outbox = outbox_free(s->outbox);
        s->loader = loader_free(s->loader);
        s->history = history_free(s->history);
        live_done(&s->live);
}

static void close_scene(struct scene *s)
{
        close_agent(s);
        loop_task_done(&s->answer);
        rpc_link_free(s->link);
        rpc_link_free(s->hub.link);
        zmq_ctx_term(s->zmq);
        loop_defer_flush(s->e);
        sd_event_unref(s->e);
        for (size_t i = 0; i < s->hub.n; i++)
                free(s->hub.events[i]);
        for (size_t i = 0; i < s->hub.n_recent; i++)
                free(s->hub.recent[i].idem);
        for (size_t i = 0; i < ARRAY_LEN(s->asked); i++) {
                free(s->asked[i]);
                free(s->models[i]);
        }
        {
                cleanup_free char *path = xasprintf("%s/c", s->folder);

                (void) unlink(path);
                (void) rmdir(s->folder);
        }
}

/* The stored events by type, in short. */
static void check_events(const struct scene *s, const char *expected)
{
        cleanup_buf struct buf got = BUF_INIT;

        for (size_t i = 0; i < s->hub.n; i++) {
                cleanup_json json_t *event = json_loads(s->hub.events[i], 0, NULL);
                const char *to = json_string_value(json_object_get(event, "to"));

                assert_non_null(event);
                buf_putf(&got, "%s%s", i > 0 ? " " : "",
                         json_string_value(json_object_get(event, "event_type")));
                if (to)
                        buf_putf(&got, ":%s", to);
                if (json_is_string(json_object_get(event, "error")))
                        buf_puts(&got, "!");
        }
        assert_string_equal(got.data, expected);
}

/* What a worker that takes over now would send is what this one has in mind. */
static void check_rebuilt(struct scene *s)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        cleanup_json json_t *mine = history_compose(s->history, 3), *rebuilt = NULL;
        cleanup_free char *a = NULL, *b = NULL;

        for (size_t i = 0; i < s->hub.n; i++) {
                cleanup_json json_t *event = json_loads(s->hub.events[i], 0, NULL);

                assert_int_equal(history_add_event(h, event), 0);
        }
        rebuilt = history_compose(h, 3);
        a = json_text(mine);
        b = json_text(rebuilt);
        assert_string_equal(a, b);
}

#define TEXT(text) "{\"type\":\"text\",\"text\":\"" text "\"}"
#define CALL(id, name)                                                                             \
        "{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"" name                                \
        "\",\"input\":{\"command\":\"x\"}}"
#define CLICK(id)                                                                                  \
        "{\"type\":\"tool_use\",\"id\":\"" id                                                      \
        "\",\"name\":\"left_click\",\"toolset_name\":\"computer\",\"input\":{}}"
