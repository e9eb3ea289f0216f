/* /sessions/{id}/messages: what was said, and saying something. */
#include "gatewayd/content.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"

struct post_body {
        json_t *content;
        bool pinned;
};
static const struct json_field post_fields[] = {
        JSON_FIELD(struct post_body, content, JSON_KIND_ANY, .required = true),
        JSON_FIELD(struct post_body, pinned, JSON_KIND_BOOL),
};

static void on_posted(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct message_posted *m = reply;
        char text[256];

        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        snprintf(text, sizeof(text),
                 "{\"message_id\":\"%s\",\"session_id\":\"%s\",\"seq\":%" PRIu64 "}", m->message_id,
                 req->params[0], m->seq);
        http_reply_json(req, 202, span_of(text));
}

static void post(struct http_request *req)
{
        struct post_body b = { 0 };
        struct json_problem p = { 0 };
        cleanup_json json_t *content = NULL;
        cleanup_free char *text = NULL;
        struct message_post m = { .tenant = req->principal.tenant,
                                  .session_id = req->params[0],
                                  .request_digest = req->body_digest };

        if (!session_id_ok(m.session_id))
                return no_session(req);
        if (http_idempotency_key(req, &m.idempotency_key) < 0)
                return;
        if (json_read(req->json, post_fields, ARRAY_LEN(post_fields), &b, &p) < 0 ||
            !(content = content_from_json(b.content, "content", &p)))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL,
                                        "%s", p.message);
        text = json_text(content);
        m.content = span_of(text);
        m.pinned = m.has_pinned = b.pinned;
        coordinator_call(req, &wire_message_post, &m, on_posted);
}

/* Agents that run elsewhere report any JSON as a tool's output: as blocks. */
static json_t *said_blocks(json_t *said)
{
        cleanup_free char *text = NULL;

        if (json_is_array(said))
                return json_incref(said);
        if (!said || json_is_null(said))
                return json_array();
        if (json_is_string(said))
                return json_pack("[{s:s,s:O}]", "type", "text", "text", said);
        text = json_dumps(said, JSON_COMPACT | JSON_ENCODE_ANY);
        return json_pack("[{s:s,s:s}]", "type", "text", "text", text ? text : "");
}

/* The message object of the API from a stored event: user and assistant messages as they are, the
 * result of a tool as role tool. */
static char *message_text(const char *event)
{
        cleanup_json json_t *e = json_loads(event, 0, NULL), *m = NULL;
        bool tool = streq(json_string_value(json_object_get(e, "event_type")), "post_tool");
        cleanup_json json_t *metadata = json_object();
        json_t *id = json_object_get(e, tool ? "tool_call_id" : "message_id");
        json_t *said = json_object_get(e, tool ? "tool_output" : "content");
        cleanup_json json_t *content = said_blocks(said);
        static const char *const extra[] = { "tool_name",  "tool_call_id", "error",
                                             "exit_code",  "duration_ms",  "model",
                                             "stop_reason" };

        for (size_t i = 0; i < ARRAY_LEN(extra); i++) {
                json_t *value = json_object_get(e, extra[i]);
                if (value && !json_is_null(value))
                        json_object_set(metadata, extra[i], value);
        }
        m = json_pack("{s:O?,s:O?,s:O?,s:O?,s:O?,s:O,s:O?}", "message_id", id, "session_id",
                      json_object_get(e, "session_id"), "role",
                      tool ? NULL : json_object_get(e, "role"), "content", content, "timestamp",
                      json_object_get(e, "timestamp"), "metadata", metadata, "seq",
                      json_object_get(e, "seq"));
        if (tool)
                json_object_set_new(m, "role", json_string("tool"));
        return json_text(m);
}

static void on_messages(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct http_request *req = userdata;
        cleanup_buf struct buf b = BUF_INIT;
        uint64_t limit = (uintptr_t) req->userdata;
        int rows;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_session(req);
        rows = PQntuples(results[1]);
        buf_puts(&b, "{\"messages\":[");
        for (int i = 0; i < rows; i++) {
                cleanup_free char *text = message_text(pg_str(results[1], i, 0));
                buf_putf(&b, "%s%s", i ? "," : "", text);
        }
        buf_puts(&b, "],");
        bounded_page_end(&b, results[1], limit);
        http_reply_json_take(req, 200, &b);
}

static void list(struct http_request *req)
{
        static const char *const known[] = { "limit", "cursor", NULL };
        struct pg_batch *b;
        uint64_t limit, after;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            http_query_u64(req, "cursor", 0, INT64_MAX, 0, &after) < 0)
                return;
        if (!session_id_ok(req->params[0]))
                return no_session(req);
        req->userdata = (void *) (uintptr_t) limit;
        b = tenant_batch(req);
        pg_batch_add(b, "SELECT 1 FROM core.session WHERE session_id = $1 AND tenant = $2", "ss",
                     req->params[0], req->principal.tenant);
        pg_batch_add(b,
                     BOUNDED_PAGE("seq", "SELECT json, seq FROM core.event WHERE session_id = $1 "
                                         "AND tenant = $2 AND seq > $3 AND event_type IN "
                                         "('message', 'post_tool') ORDER BY seq LIMIT $4"),
                     "ssuu", req->params[0], req->principal.tenant, after, limit);
        database_asked(req, pg_submit(req->gateway->pg, b, on_messages, req));
}

static const struct route table[] = {
        { HTTP_GET, "/sessions/{id}/messages", list },
        { HTTP_POST, "/sessions/{id}/messages", post, .role = ROLE_USER, .body = ROUTE_BODY_JSON },
};
const struct route_table message_routes = { table, ARRAY_LEN(table) };
