/* POST /events: agents that run elsewhere report themselves. */
#include "gatewayd/content.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"

#define EVENTS_MAX 100u

struct event_body {
        char *id, *session_id, *event_type, *timestamp, *tool_name, *tool_call_id, *reason, *role;
        char *message_id, *model, *session_name, *agent_name, *project_dir, *level, *message, *code,
                *error;
        json_t *tool_input, *tool_output, *content, *metadata, *data, *usage;
        int64_t exit_code, duration_ms;
};
#define FIELD(member, kind_, ...) JSON_FIELD(struct event_body, member, kind_, ##__VA_ARGS__)
#define TEXT(member, max_, ...)                                                                    \
        FIELD(member, JSON_KIND_STRING, .min = 1, .max = (max_), .nullable = true, ##__VA_ARGS__)
static const struct json_field fields[] = {
        FIELD(session_id, JSON_KIND_STRING, .min = 1, .max = 64, .required = true),
        FIELD(event_type, JSON_KIND_STRING, .min = 1, .max = 32, .required = true),
        TEXT(id, 90),
        TEXT(timestamp, 64),
        TEXT(tool_name, 200),
        TEXT(tool_call_id, 200),
        FIELD(tool_input, JSON_KIND_ANY),
        FIELD(tool_output, JSON_KIND_ANY),
        FIELD(error, JSON_KIND_STRING, .max = 65536, .nullable = true),
        FIELD(exit_code, JSON_KIND_INT, .min = INT32_MIN, .max = INT32_MAX, .nullable = true),
        FIELD(duration_ms, JSON_KIND_INT, .max = INT64_C(1) << 53, .nullable = true),
        TEXT(reason, 400),
        TEXT(role, 32),
        FIELD(content, JSON_KIND_ANY),
        TEXT(message_id, 64),
        TEXT(model, 200),
        TEXT(session_name, 200),
        TEXT(agent_name, 64),
        TEXT(project_dir, 4096),
        FIELD(metadata, JSON_KIND_OBJECT, .nullable = true),
        TEXT(level, 32),
        TEXT(message, 65536),
        TEXT(code, 64),
        FIELD(data, JSON_KIND_ANY),
        FIELD(usage, JSON_KIND_OBJECT, .nullable = true),
};

/* What the texts of the events being sent belong to. */
struct outgoing {
        struct external_event events[EVENTS_MAX];
        char *bodies[EVENTS_MAX], *metadata[EVENTS_MAX];
        size_t n;
};

static void outgoing_freep(struct outgoing **place)
{
        struct outgoing *o = *place;

        for (size_t i = 0; o && i < o->n; i++) {
                free(o->bodies[i]);
                free(o->metadata[i]);
        }
        free(o);
}

static void problem_set(struct json_problem *p, const char *field, const char *text)
{
        snprintf(p->field, sizeof(p->field), "%s", field);
        snprintf(p->message, sizeof(p->message), "%s", text);
}

static bool has_content(const json_t *content)
{
        size_t i;
        json_t *block;

        if (json_is_string(content))
                return true;
        json_array_foreach (content, i, block)
                if (!json_is_string(json_object_get(block, "type")))
                        return false;
        return json_is_array(content);
}

static bool known_role(const char *role)
{
        static const char *const roles[] = { "user", "assistant", "tool", "system" };

        for (size_t i = 0; i < ARRAY_LEN(roles); i++)
                if (streq(role, roles[i]))
                        return true;
        return false;
}

/* What each type needs beside the types of its fields. */
static int check_type(const struct event_body *b, enum event_type type, struct json_problem *p)
{
        bool tool = type == EVENT_TYPE_PRE_TOOL || type == EVENT_TYPE_POST_TOOL;

        if (!session_id_ok(b->session_id))
                problem_set(p, "session_id", "session_id may hold letters, digits, - and _");
        else if (b->agent_name && !agent_name_ok(b->agent_name))
                problem_set(p, "agent_name",
                            "agent_name must be letters and digits, joined by single hyphens");
        else if (tool && !b->tool_name)
                problem_set(p, "tool_name", "a tool event must name its tool");
        else if (type == EVENT_TYPE_MESSAGE && !known_role(b->role))
                problem_set(p, "role", "role must be user, assistant, tool or system");
        else if ((type == EVENT_TYPE_MESSAGE || type == EVENT_TYPE_THINKING) &&
                 !has_content(b->content))
                problem_set(p, "content",
                            "content must be a text or a list of blocks, each with a type");
        else if ((type == EVENT_TYPE_LOG || type == EVENT_TYPE_ERROR) && !b->message)
                problem_set(p, "message", "message must say what happened");
        else
                return 0;
        return -EINVAL;
}

static int read_type(const char *text, enum event_type *ret, struct json_problem *p)
{
        static const uint32_t taken =
                UINT32_C(1) << EVENT_TYPE_SESSION_START | UINT32_C(1) << EVENT_TYPE_SESSION_STOP |
                UINT32_C(1) << EVENT_TYPE_PRE_TOOL | UINT32_C(1) << EVENT_TYPE_POST_TOOL |
                UINT32_C(1) << EVENT_TYPE_MESSAGE | UINT32_C(1) << EVENT_TYPE_THINKING |
                UINT32_C(1) << EVENT_TYPE_LOG | UINT32_C(1) << EVENT_TYPE_ERROR |
                UINT32_C(1) << EVENT_TYPE_USAGE;

        if (event_type_parse(text, ret) >= 0 && taken & UINT32_C(1) << *ret)
                return 0;
        problem_set(p, "event_type",
                    "event_type must be session_start, session_stop, pre_tool, post_tool, message, "
                    "thinking, log, error or usage");
        return -EINVAL;
}

/* The stored body: all that was given, as it was, but for what the hub adds. */
static char *make_body(const json_t *event, const struct event_body *b, enum event_type type)
{
        static const char *const ours[] = { "id", "session_id", "event_type", "timestamp" };
        cleanup_json json_t *body = json_copy((json_t *) event);
        char id[UUID_MAX];

        for (size_t i = 0; i < ARRAY_LEN(ours); i++)
                json_object_del(body, ours[i]);
        if (b->timestamp)
                json_object_set_new(body, "reported_at", json_string(b->timestamp));
        if (type == EVENT_TYPE_MESSAGE && json_is_string(b->content))
                json_object_set_new(body, "content",
                                    json_pack("[{s:s,s:O}]", "type", "text", "text", b->content));
        if (type == EVENT_TYPE_MESSAGE && !b->message_id) {
                uuid_make(id);
                json_object_set_new(body, "message_id", json_string(id));
        }
        if (type == EVENT_TYPE_SESSION_START)
                json_object_set_new(body, "kind", json_string("external"));
        return json_text(body);
}

static bool says_failed(const struct event_body *b)
{
        static const char *const words[] = { "error", "failed", "failure", "crash", "crashed" };

        for (size_t i = 0; i < ARRAY_LEN(words); i++)
                if (streq(b->reason, words[i]))
                        return true;
        return b->exit_code != 0 || !strempty(b->error);
}

static int read_event(const json_t *event, struct outgoing *o, struct json_problem *p)
{
        struct external_event *e = &o->events[o->n];
        struct event_body b = { 0 };
        enum event_type type;

        if (!json_is_object(event)) {
                problem_set(p, "", "an event must be a JSON object");
                return -EINVAL;
        }
        if (json_read(event, fields, ARRAY_LEN(fields), &b, p) < 0 ||
            read_type(b.event_type, &type, p) < 0 || check_type(&b, type, p) < 0)
                return -EINVAL;
        *e = (struct external_event){
                .event_id = b.id,
                .session_id = b.session_id,
                .event_type = type,
                .failed = type == EVENT_TYPE_SESSION_STOP && says_failed(&b),
                .reason = b.reason,
                .session_name = b.session_name,
                .agent_name = b.agent_name,
                .model = b.model,
                .project_dir = b.project_dir,
        };
        o->bodies[o->n] = make_body(event, &b, type);
        e->body = span_of(o->bodies[o->n]);
        if (b.metadata) {
                o->metadata[o->n] = json_text(b.metadata);
                e->metadata = span_of(o->metadata[o->n]);
        }
        o->n++;
        return 0;
}

static void put_event(struct buf *out, const struct posted_event *e)
{
        buf_putf(out, "{\"id\":%" PRIu64 ",\"session_id\":\"%s\",\"seq\":%" PRIu64, e->id,
                 e->session_id, e->seq);
        if (e->stop_requested)
                buf_puts(out, ",\"stop_requested\":true");
        buf_puts(out, "}");
}

static void on_posted(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct external_posted *ok = reply;
        cleanup_buf struct buf out = BUF_INIT;
        bool stop = false;

        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        if (json_is_object(req->json)) {
                put_event(&out, &ok->events[0]);
        } else {
                buf_puts(&out, "{\"events\":[");
                for (size_t i = 0; i < ok->n_events; i++) {
                        buf_puts(&out, i > 0 ? "," : "");
                        put_event(&out, &ok->events[i]);
                        stop = stop || ok->events[i].stop_requested;
                }
                buf_puts(&out, stop ? "],\"stop_requested\":true}" : "]}");
        }
        http_reply_json_take(req, 201, &out);
}

static void post(struct http_request *req)
{
        CLEANUP(outgoing_freep) struct outgoing *o = xnew(struct outgoing);
        struct external_post m = { .tenant = req->principal.tenant,
                                   .request_digest = req->body_digest };
        size_t n = json_is_array(req->json) ? json_array_size(req->json) : 1;

        if (http_idempotency_key(req, &m.idempotency_key) < 0)
                return;
        if (n == 0 || n > EVENTS_MAX)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL,
                                        "send one event, or a list of 1 to %u", EVENTS_MAX);
        for (size_t i = 0; i < n; i++) {
                struct json_problem p = { 0 };
                char field[100];
                if (read_event(json_is_array(req->json) ? json_array_get(req->json, i) : req->json,
                               o, &p) >= 0)
                        continue;
                snprintf(field, sizeof(field), "events[%zu]%s%s", i, p.field[0] ? "." : "",
                         p.field);
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST,
                                        json_is_array(req->json) ? field
                                        : p.field[0]             ? p.field
                                                                 : NULL,
                                        "%s", p.message);
        }
        m.events = o->events;
        m.n_events = n;
        coordinator_call(req, &wire_external_post, &m, on_posted);
}

static const struct route table[] = {
        { HTTP_POST, "/events", post, .role = ROLE_USER, .body = ROUTE_BODY_JSON },
};
const struct route_table external_routes = { table, ARRAY_LEN(table) };
