/* /approvals: what agents ask people for, and the answers. */
#include "gatewayd/content.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"

static const char not_there[] = "this session has no such approval";

static void on_listed(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        if (req->params[0] && !pg_bool(results[1], 0, 0))
                return no_session(req);
        list_reply(req, results[0], "approvals", (uintptr_t) req->userdata);
}

/* session_id NULL: of all sessions. Oldest first: those wait longest. */
static void list_of(struct http_request *req, const char *session_id, const char *status)
{
        cleanup_free char *key = NULL, *id = NULL;
        enum approval_status unused;
        uint64_t limit;

        if (http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            cursor_read(req, &key, &id) < 0)
                return;
        if (status && !streq(status, "all") && approval_status_parse(status, &unused) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "status",
                                        "status must be pending, allowed, denied, expired, "
                                        "cancelled or all");
        req->userdata = (void *) (uintptr_t) limit; /* for on_listed */
        struct pg_batch *b = tenant_batch(req);
        pg_batch_add(b,
                     "SELECT core.approval_json(a), core.timestamp_text(created_at), approval_id "
                     "FROM core.approval a WHERE tenant = $1 AND ($2::text IS NULL OR "
                     "session_id = $2) AND ($3 = 'all' OR status = $3) AND ($4::text IS NULL OR "
                     "(created_at, approval_id) > ($4::timestamptz, $5)) "
                     "ORDER BY created_at, approval_id LIMIT $6",
                     "sssssu", req->principal.tenant, session_id, status ? status : "pending", key,
                     id, limit);
        pg_batch_add(b, "SELECT EXISTS (SELECT FROM core.session WHERE session_id = $1)", "s",
                     session_id);
        database_asked(req, pg_submit(req->gateway->pg, b, on_listed, req));
}

static void list_all(struct http_request *req)
{
        static const char *const known[] = { "status", "session_id", "limit", "cursor", NULL };
        const char *session_id = http_query(req, "session_id");

        if (http_query_only(req, known) < 0)
                return;
        if (session_id && !session_id_ok(session_id))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "session_id",
                                        "session_id is not a session's id");
        list_of(req, session_id, http_query(req, "status"));
}

static void list_session(struct http_request *req)
{
        static const char *const known[] = { "status", "limit", "cursor", NULL };

        if (http_query_only(req, known) < 0)
                return;
        if (!session_id_ok(req->params[0]))
                return no_session(req);
        list_of(req, req->params[0], http_query(req, "status") ? http_query(req, "status") : "all");
}

struct decide_body {
        char *decision, *scope, *note;
};
static const struct json_field decide_fields[] = {
        JSON_FIELD(struct decide_body, decision, JSON_KIND_STRING, .min = 1, .max = 16,
                   .required = true),
        JSON_FIELD(struct decide_body, scope, JSON_KIND_STRING, .min = 1, .max = 16),
        JSON_FIELD(struct decide_body, note, JSON_KIND_STRING, .max = 2000, .nullable = true),
};

static void on_decided(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct approval_reply *ok = reply;

        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_json(req, 200, ok->approval_json);
}

static void decide(struct http_request *req)
{
        struct decide_body b = { 0 };
        struct json_problem p = { 0 };
        struct approval_decide m = { .tenant = req->principal.tenant,
                                     .session_id = req->params[0],
                                     .approval_id = req->params[1],
                                     .decided_by = req->principal.name };

        if (!session_id_ok(m.session_id))
                return no_session(req);
        if (!session_id_ok(m.approval_id)) /* the same form */
                return http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "%s", not_there);
        if (json_read(req->json, decide_fields, ARRAY_LEN(decide_fields), &b, &p) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL,
                                        "%s", p.message);
        if (!streq(b.decision, "allow") && !streq(b.decision, "deny"))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "decision",
                                        "decision must be allow or deny");
        if (b.scope && approval_scope_parse(b.scope, &m.scope) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "scope",
                                        "scope must be once or session");
        m.allow = streq(b.decision, "allow");
        m.note = strempty(b.note) ? NULL : b.note;
        coordinator_call(req, &wire_approval_decide, &m, on_decided);
}

static const struct route table[] = {
        { HTTP_GET, "/approvals", list_all },
        { HTTP_GET, "/sessions/{id}/approvals", list_session },
        { HTTP_POST, "/sessions/{id}/approvals/{approval_id}", decide, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON },
};
const struct route_table approval_routes = { table, ARRAY_LEN(table) };
