/* /agents: blueprints of agents, by name. */
#include "common/base/approval-policy.h"
#include "gatewayd/agent-check.h"
#include "gatewayd/content.h"
#include "gatewayd/gateway.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"

#define TOOLS_MAX 64

struct agent_body {
        char *name, *description, *system_prompt, *status, *model, *provider;
        json_t *mcp_servers, *skills, *tools, *approval, *slot, *network, *budget, *output_schema;
};
#define FIELD(member, kind_, ...)                                                                  \
        JSON_FIELD(struct agent_body, member, kind_, .nullable = true, ##__VA_ARGS__)
/* The name comes first: only POST has it. */
static const struct json_field fields[] = {
        JSON_FIELD(struct agent_body, name, JSON_KIND_STRING, .min = 1, .max = 64,
                   .required = true),
        FIELD(description, JSON_KIND_STRING, .max = 2000),
        FIELD(system_prompt, JSON_KIND_STRING, .max = 200000),
        FIELD(status, JSON_KIND_STRING, .max = 16),
        FIELD(model, JSON_KIND_STRING, .min = 1, .max = 180),
        FIELD(provider, JSON_KIND_STRING, .min = 1, .max = 16),
        FIELD(mcp_servers, JSON_KIND_ARRAY, .max = 64),
        FIELD(skills, JSON_KIND_ARRAY, .max = 64),
        FIELD(tools, JSON_KIND_ARRAY, .max = TOOLS_MAX),
        FIELD(approval, JSON_KIND_OBJECT),
        FIELD(slot, JSON_KIND_OBJECT),
        FIELD(network, JSON_KIND_OBJECT),
        FIELD(budget, JSON_KIND_OBJECT),
        FIELD(output_schema, JSON_KIND_OBJECT),
};

struct slot_body {
        char *kind, *image;
        int64_t width, height;
};
static const struct json_field slot_fields[] = {
        JSON_FIELD(struct slot_body, kind, JSON_KIND_STRING, .min = 1, .max = 16),
        JSON_FIELD(struct slot_body, image, JSON_KIND_STRING, .min = 1, .max = 100),
        JSON_FIELD(struct slot_body, width, JSON_KIND_INT, .min = 320, .max = 3840),
        JSON_FIELD(struct slot_body, height, JSON_KIND_INT, .min = 200, .max = 2160),
};

static void no_agent(struct http_request *req)
{
        http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "there is no agent with this name");
}

/* Names of tools: those of one release may be unknown to another, so only their form is checked. */
static bool tool_name_ok(const char *name)
{
        size_t n = name ? strlen(name) : 0;

        return n > 0 && n <= 64 &&
               strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") ==
                       n;
}

static const char *check_tools(const struct agent_body *b)
{
        const char *key;
        json_t *value;
        size_t i;

        json_array_foreach (b->tools, i, value)
                if (!tool_name_ok(json_string_value(value)))
                        return "tools must be a list of names of tools";
        if (json_object_size(b->approval) > TOOLS_MAX)
                return "approval may name 64 tools";
        json_object_foreach (b->approval, key, value)
                if (!tool_name_ok(key) && !streq(key, "*"))
                        return "approval must give names of tools, or *";
        return policy_check(b->approval);
}

static const char *check_slot(const struct agent_body *b, struct json_problem *p)
{
        struct slot_body slot = { 0 };
        enum slot_kind kind;

        if (!b->slot)
                return NULL;
        if (json_read(b->slot, slot_fields, ARRAY_LEN(slot_fields), &slot, p) < 0)
                return p->message;
        if (slot.kind && (slot_kind_parse(slot.kind, &kind) < 0 || kind == SLOT_KIND_EXTERNAL))
                return "slot.kind must be desktop or headless";
        return NULL;
}

/* What the table cannot judge. 0, or -EINVAL after the request was answered. */
static int check(struct http_request *req, const struct agent_body *b)
{
        struct json_problem p = { 0 };
        const char *field = NULL, *text;

        if ((text = check_tools(b)))
                field = strstr(text, "approval") ? "approval" : "tools";
        else if ((text = check_slot(b, &p)))
                field = "slot";
        else if (b->status && !streq(b->status, "active") && !streq(b->status, "inactive"))
                text = "status must be active or inactive", field = "status";
        else if (b->provider && !streq(b->provider, "anthropic") && !streq(b->provider, "openai"))
                text = "provider must be anthropic or openai", field = "provider";
        else if (b->provider && !b->model)
                text = "provider is given together with model", field = "provider";
        else if ((text = agent_servers_problem(b->mcp_servers, &p)))
                field = "mcp_servers";
        else if ((text = agent_skills_problem(b->skills)))
                field = "skills";
        else if ((text = agent_schema_problem(b->output_schema, &p)))
                field = "output_schema";
        else if (b->budget && budget_check(b->budget, &p) < 0)
                text = p.message, field = "budget";
        else if (json_object_size(b->network) > 0 && network_check(b->network, &p) < 0)
                text = p.message, field = "network";
        if (!field)
                return 0;
        http_reply_error(req, ERROR_CODE_BAD_REQUEST, field, "%s", text);
        return -EINVAL;
}

static void on_agent(void *userdata, int r, const void *reply, int status)
{
        struct http_request *req = userdata;
        const struct agent_reply *ok = reply;

        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_json(req, status, ok->agent_json);
}

static void on_created(void *userdata, int r, const void *reply)
{
        on_agent(userdata, r, reply, 201);
}

static void on_changed(void *userdata, int r, const void *reply)
{
        on_agent(userdata, r, reply, 200);
}

static void put(struct http_request *req, const char *name, bool create)
{
        cleanup_json json_t *changes = json_copy(req->json);
        cleanup_free char *text = NULL;
        const char *key = NULL;

        (void) json_object_del(changes, "name");
        text = json_text(changes);
        if (create && http_idempotency_key(req, &key) < 0)
                return;
        coordinator_call(req, &wire_agent_put,
                         &(struct agent_put){ .tenant = req->principal.tenant,
                                              .name = name,
                                              .create = create,
                                              .changes = span_of(text),
                                              .idempotency_key = key,
                                              .request_digest = req->body_digest },
                         create ? on_created : on_changed);
}

static void bad(struct http_request *req, const struct json_problem *p)
{
        http_reply_error(req, ERROR_CODE_BAD_REQUEST, p->field[0] ? p->field : NULL, "%s",
                         p->message);
}

static void create(struct http_request *req)
{
        struct agent_body b = { 0 };
        struct json_problem p = { 0 };

        if (json_read(req->json, fields, ARRAY_LEN(fields), &b, &p) < 0)
                return bad(req, &p);
        if (!agent_name_ok(b.name))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "name",
                                        "name must be letters and digits, joined by single "
                                        "hyphens");
        if (check(req, &b) < 0)
                return;
        put(req, b.name, true);
}

static void change(struct http_request *req)
{
        struct agent_body b = { 0 };
        struct json_problem p = { 0 };

        if (!agent_name_ok(req->params[0]))
                return no_agent(req);
        if (json_read(req->json, fields + 1, ARRAY_LEN(fields) - 1, &b, &p) < 0)
                return bad(req, &p);
        if (check(req, &b) < 0)
                return;
        put(req, req->params[0], false);
}

static void set_status(struct http_request *req)
{
        struct agent_body b = { 0 };
        struct json_problem p = { 0 };
        static const struct json_field only[] = {
                JSON_FIELD(struct agent_body, status, JSON_KIND_STRING, .max = 16,
                           .required = true),
        };

        if (!agent_name_ok(req->params[0]))
                return no_agent(req);
        if (json_read(req->json, only, ARRAY_LEN(only), &b, &p) < 0)
                return bad(req, &p);
        if (check(req, &b) < 0)
                return;
        put(req, req->params[0], false);
}

static void on_deleted(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;

        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_empty(req, 204);
}

static void delete (struct http_request *req)
{
        if (!agent_name_ok(req->params[0]))
                return no_agent(req);
        coordinator_call(
                req, &wire_agent_delete,
                &(struct agent_delete){ .tenant = req->principal.tenant, .name = req->params[0] },
                on_deleted);
}

static void on_shown(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_agent(req);
        http_reply_json(req, 200, span_of(pg_str(results[0], 0, 0)));
}

static void show(struct http_request *req)
{
        if (!agent_name_ok(req->params[0]))
                return no_agent(req);
        database_query(
                req, on_shown,
                "SELECT core.agent_json(a) FROM core.agent a WHERE tenant = $1 AND name = $2", "ss",
                req->principal.tenant, req->params[0]);
}

static void on_listed(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        list_reply(req, results[0], "agents", (uintptr_t) req->userdata);
}

static void list(struct http_request *req)
{
        static const char *const known[] = { "status", "limit", "cursor", NULL };
        const char *status = http_query(req, "status");
        cleanup_free char *key = NULL, *id = NULL;
        uint64_t limit;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            cursor_read(req, &key, &id) < 0)
                return;
        if (status && !streq(status, "active") && !streq(status, "inactive"))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "status",
                                        "status must be active or inactive");
        req->userdata = (void *) (uintptr_t) limit; /* for on_listed */
        database_query(req, on_listed,
                       "SELECT core.agent_json(a), name, name FROM core.agent a WHERE tenant = $1 "
                       "AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR name > $3) "
                       "ORDER BY name LIMIT $4",
                       "sssu", req->principal.tenant, status, id, limit);
}

/* ---- versions: they stay, also those of agents that are gone ---- */

static void on_versions(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0 && !http_query(req, "cursor"))
                return no_agent(req);
        list_reply(req, results[0], "versions", (uintptr_t) req->userdata);
}

static void versions(struct http_request *req)
{
        static const char *const known[] = { "limit", "cursor", NULL };
        cleanup_free char *key = NULL, *id = NULL;
        uint64_t limit, before = INT32_MAX;

        if (!agent_name_ok(req->params[0]))
                return no_agent(req);
        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            cursor_read(req, &key, &id) < 0)
                return;
        if (id && parse_u64(id, &before) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "cursor",
                                        "cursor must be a next_cursor of this list");
        req->userdata = (void *) (uintptr_t) limit; /* for on_versions */
        database_query(req, on_versions,
                       "SELECT core.agent_version_json(v), version::text, version::text FROM "
                       "core.agent_version v WHERE tenant = $1 AND name = $2 AND version < $3 "
                       "ORDER BY version DESC LIMIT $4",
                       "ssuu", req->principal.tenant, req->params[0], MIN(before, INT32_MAX),
                       limit);
}

static void on_version(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                        "there is no such version of an agent with this name");
        http_reply_json(req, 200, span_of(pg_str(results[0], 0, 0)));
}

static void version(struct http_request *req)
{
        uint64_t number;

        if (!agent_name_ok(req->params[0]))
                return no_agent(req);
        if (parse_u64(req->params[1], &number) < 0 || number > INT32_MAX)
                return http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                        "there is no such version of an agent with this name");
        database_query(req, on_version,
                       "SELECT core.agent_version_json(v) FROM core.agent_version v WHERE tenant "
                       "= $1 AND name = $2 AND version = $3",
                       "ssu", req->principal.tenant, req->params[0], number);
}

static const struct route table[] = {
        { HTTP_POST, "/agents", create, .role = ROLE_USER, .body = ROUTE_BODY_JSON },
        { HTTP_GET, "/agents", list },
        { HTTP_GET, "/agents/{name}", show },
        { HTTP_PATCH, "/agents/{name}", change, .role = ROLE_USER, .body = ROUTE_BODY_JSON },
        { HTTP_DELETE, "/agents/{name}", delete, .role = ROLE_USER },
        { HTTP_GET, "/agents/{name}/versions", versions },
        { HTTP_GET, "/agents/{name}/versions/{version}", version },
        { HTTP_PATCH, "/agents/{name}/status", set_status, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON },
};
const struct route_table agent_routes = { table, ARRAY_LEN(table) };
