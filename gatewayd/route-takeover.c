/* Driving a desktop: POST /sessions/{id}/control, its clipboard and its size. */
#include "common/base/json.h"
#include "gatewayd/content.h"
#include "gatewayd/query.h"
#include "gatewayd/relay.h"
#include "gatewayd/route.h"

#define WORKER_TIMEOUT (4 * USEC_PER_SEC) /* xclip has 2 s */
#define CLIPBOARD_TEXT_MAX 32768

/* ---- control ---- */

struct control_body {
        bool take, release, secret, force;
        bool has_take, has_release, has_secret;
        char *viewer;
};
static const struct json_field control_fields[] = {
        JSON_FIELD(struct control_body, take, JSON_KIND_BOOL,
                   .offset_set = offsetof(struct control_body, has_take)),
        JSON_FIELD(struct control_body, release, JSON_KIND_BOOL,
                   .offset_set = offsetof(struct control_body, has_release)),
        JSON_FIELD(struct control_body, secret, JSON_KIND_BOOL,
                   .offset_set = offsetof(struct control_body, has_secret)),
        JSON_FIELD(struct control_body, force, JSON_KIND_BOOL),
        JSON_FIELD(struct control_body, viewer, JSON_KIND_STRING, .min = 1, .max = 64),
};

static void on_set(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct control_reply *m = reply;
        cleanup_buf struct buf b = BUF_INIT;

        relay_changed(req->gateway->relay, req->params[0]);
        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        buf_putf(&b, "{\"lease_ms\":%" PRIu32 ",\"session\":%.*s}", m->lease_ms,
                 (int) m->session_json.len, m->session_json.data);
        http_reply_json_take(req, 200, &b);
}

static void control(struct http_request *req)
{
        struct control_body b = { 0 };
        struct json_problem p = { 0 };
        struct control_set m = { .tenant = req->principal.tenant,
                                 .session_id = req->params[0],
                                 .person = req->principal.name,
                                 .token_hash = req->principal.token_hash,
                                 .may_force = req->principal.role >= ROLE_ADMIN };

        if (!session_id_ok(m.session_id))
                return no_session(req);
        if (json_read(req->json, control_fields, ARRAY_LEN(control_fields), &b, &p) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL,
                                        "%s", p.message);
        if (b.viewer && !session_id_ok(b.viewer))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "viewer",
                                        "viewer may hold letters, digits, - and _, at most 64");
        if (b.take + b.release + b.has_secret != 1)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL,
                                        "say one of {\"take\":true}, {\"release\":true}, "
                                        "{\"secret\":true} and {\"secret\":false}");
        if (b.take)
                m.action = CONTROL_ACTION_TAKE;
        else if (b.release)
                m.action = CONTROL_ACTION_RELEASE;
        else
                m.action = b.secret ? CONTROL_ACTION_SECRET_ON : CONTROL_ACTION_SECRET_OFF;
        m.viewer = b.viewer;
        m.force = b.force;
        coordinator_call(req, &wire_control_set, &m, on_set);
}

/* ---- what only the holder may ---- */

/* The worker of the session, for whoever holds the control. go: runs with its endpoint. */
struct held {
        struct http_request *req;
        void (*go)(struct http_request *req, const char *endpoint);
};

static void on_held(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        cleanup_free struct held *h = userdata;
        struct http_request *req = h->req;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_session(req);
        if (!streq(pg_str(results[0], 0, 1), req->principal.token_hash))
                return http_reply_error(req, ERROR_CODE_CONFLICT, NULL,
                                        "Take over the desktop first: this is for whoever has its "
                                        "controls.");
        if (!pg_str(results[0], 0, 0))
                return http_reply_busy(req, "worker of the session");
        h->go(req, pg_str(results[0], 0, 0));
}

static void for_holder(struct http_request *req,
                       void (*go)(struct http_request *req, const char *endpoint))
{
        struct held *h;

        if (!session_id_ok(req->params[0]))
                return no_session(req);
        h = xnew(struct held);
        *h = (struct held){ req, go };
        int r = pg_query_as(
                req->gateway->pg, req->principal.tenant, on_held, h,
                "SELECT w.endpoint, s.control ->> 'token_hash' FROM core.session s "
                "LEFT JOIN core.worker w ON w.worker_id = s.worker_id AND w.online "
                "AND w.session_id = s.session_id WHERE s.session_id = $1 AND s.tenant = $2",
                "ss", req->params[0], req->principal.tenant);
        if (r < 0) {
                free(h);
                http_reply_busy(req, "database");
        }
}

static void ask_worker(struct http_request *req, const char *endpoint, const struct wire_msg *type,
                       const void *msg, fdlink_reply_fn fn)
{
        if (relay_worker_call(req->gateway->relay, endpoint, type, msg, WORKER_TIMEOUT, fn, req) <
            0)
                http_reply_busy(req, "worker of the session");
}

/* ---- clipboard ---- */

static void on_clipboard(void *userdata, int r, const void *reply, int fd)
{
        struct http_request *req = userdata;
        const struct clipboard_text *m = reply;
        cleanup_buf struct buf b = BUF_INIT;

        (void) fd_close(fd);
        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        if (!utf8_valid(m->text.data, m->text.len))
                return http_reply_error(req, ERROR_CODE_INTERNAL, NULL,
                                        "The worker sent a text that is no UTF-8.");
        buf_puts(&b, "{\"text\":");
        buf_put_json_string(&b, m->text.data, m->text.len);
        buf_puts(&b, "}");
        http_reply_json_take(req, 200, &b);
}

static void clipboard_read(struct http_request *req, const char *endpoint)
{
        ask_worker(req, endpoint, &wire_clipboard_get,
                   &(struct clipboard_get){ .session_id = req->params[0] }, on_clipboard);
}

static void get_clipboard(struct http_request *req)
{
        static const char *const known[] = { NULL };

        if (http_query_only(req, known) == 0)
                for_holder(req, clipboard_read);
}

static void on_pasted(void *userdata, int r, const void *reply, int fd)
{
        struct http_request *req = userdata;

        (void) fd_close(fd);
        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        relay_pasted(req->gateway->relay, req->params[0]);
        http_reply_empty(req, 204);
}

static void clipboard_write(struct http_request *req, const char *endpoint)
{
        const json_t *text = json_object_get(req->json, "text");

        ask_worker(req, endpoint, &wire_clipboard_put,
                   &(struct clipboard_put){
                           .session_id = req->params[0],
                           .text = { json_string_value(text), json_string_length(text) } },
                   on_pasted);
}

struct clipboard_body {
        char *text;
};
static const struct json_field clipboard_fields[] = {
        JSON_FIELD(struct clipboard_body, text, JSON_KIND_STRING, .max = CLIPBOARD_TEXT_MAX,
                   .required = true),
};

static void put_clipboard(struct http_request *req)
{
        struct clipboard_body b = { 0 };
        struct json_problem p = { 0 };

        if (json_read(req->json, clipboard_fields, ARRAY_LEN(clipboard_fields), &b, &p) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL,
                                        "%s", p.message);
        if (strlen(b.text) > CLIPBOARD_TEXT_MAX)
                return http_reply_error(req, ERROR_CODE_TOO_LARGE, "text", "text may have 32 KiB");
        for_holder(req, clipboard_write);
}

/* ---- size ---- */

struct size_body {
        int64_t width, height;
};
static const struct json_field size_fields[] = {
        JSON_FIELD(struct size_body, width, JSON_KIND_INT, .min = 320, .max = 3840,
                   .required = true),
        JSON_FIELD(struct size_body, height, JSON_KIND_INT, .min = 200, .max = 2160,
                   .required = true),
};

static void on_resized(void *userdata, int r, const void *reply, int fd)
{
        struct http_request *req = userdata;
        const struct display_resized *m = reply;
        char text[80];

        (void) fd_close(fd);
        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        (void) snprintf(text, sizeof(text), "{\"width\":%" PRIu32 ",\"height\":%" PRIu32 "}",
                        m->width, m->height);
        http_reply_json(req, 200, span_of(text));
}

static void resize(struct http_request *req, const char *endpoint)
{
        struct size_body b = { 0 };
        struct json_problem p = { 0 };

        if (json_read(req->json, size_fields, ARRAY_LEN(size_fields), &b, &p) < 0)
                return http_reply_busy(req, "request");
        ask_worker(req, endpoint, &wire_display_resize,
                   &(struct display_resize){ .session_id = req->params[0],
                                             .width = (uint32_t) b.width,
                                             .height = (uint32_t) b.height },
                   on_resized);
}

static void put_size(struct http_request *req)
{
        struct size_body b = { 0 };
        struct json_problem p = { 0 };

        if (json_read(req->json, size_fields, ARRAY_LEN(size_fields), &b, &p) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL,
                                        "%s", p.message);
        for_holder(req, resize);
}

static const struct route table[] = {
        { HTTP_POST, "/sessions/{id}/control", control, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON },
        { HTTP_GET, "/sessions/{id}/clipboard", get_clipboard, .role = ROLE_USER },
        { HTTP_PUT, "/sessions/{id}/clipboard", put_clipboard, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON },
        { HTTP_PUT, "/sessions/{id}/display", put_size, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON },
};
const struct route_table takeover_routes = { table, ARRAY_LEN(table) };
