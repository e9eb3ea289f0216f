/* /sessions/{id}/pause, /resume, /interrupt, /fork: steering a session. */
#include "gatewayd/content.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"

static void on_controlled(void *userdata, int r, const void *reply)
{
        session_reply(userdata, 200, r, reply);
}

static void control(struct http_request *req, enum session_action action)
{
        struct session_control m = { .tenant = req->principal.tenant,
                                     .session_id = req->params[0],
                                     .request_digest = req->body_digest,
                                     .action = action };

        if (!session_id_ok(m.session_id))
                return no_session(req);
        if (http_idempotency_key(req, &m.idempotency_key) < 0 || body_has_fields(req))
                return;
        coordinator_call(req, &wire_session_control, &m, on_controlled);
}

static void pause_session(struct http_request *req)
{
        control(req, SESSION_ACTION_PAUSE);
}

static void resume_session(struct http_request *req)
{
        control(req, SESSION_ACTION_RESUME);
}

static void interrupt_session(struct http_request *req)
{
        control(req, SESSION_ACTION_INTERRUPT);
}

struct fork_body {
        char *session_name;
        int64_t after_seq;
        bool has_after_seq;
};
static const struct json_field fork_fields[] = {
        JSON_FIELD(struct fork_body, after_seq, JSON_KIND_INT, .min = 0, .max = INT64_MAX,
                   .offset_set = offsetof(struct fork_body, has_after_seq)),
        JSON_FIELD(struct fork_body, session_name, JSON_KIND_STRING, .min = 1, .max = 200),
};

static void on_forked(void *userdata, int r, const void *reply)
{
        session_reply(userdata, 201, r, reply);
}

static void fork_session(struct http_request *req)
{
        struct fork_body b = { 0 };
        struct json_problem p = { 0 };
        struct session_fork m = { .tenant = req->principal.tenant,
                                  .session_id = req->params[0],
                                  .request_digest = req->body_digest };

        if (!session_id_ok(m.session_id))
                return no_session(req);
        if (http_idempotency_key(req, &m.idempotency_key) < 0)
                return;
        if (req->json && json_read(req->json, fork_fields, ARRAY_LEN(fork_fields), &b, &p) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL,
                                        "%s", p.message);
        m.has_after_seq = b.has_after_seq;
        m.after_seq = (uint64_t) b.after_seq;
        m.session_name = b.session_name;
        coordinator_call(req, &wire_session_fork, &m, on_forked);
}

static const struct route table[] = {
        { HTTP_POST, "/sessions/{id}/pause", pause_session, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON_OPTIONAL },
        { HTTP_POST, "/sessions/{id}/resume", resume_session, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON_OPTIONAL },
        { HTTP_POST, "/sessions/{id}/interrupt", interrupt_session, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON_OPTIONAL },
        { HTTP_POST, "/sessions/{id}/fork", fork_session, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON_OPTIONAL },
};
const struct route_table control_routes = { table, ARRAY_LEN(table) };
