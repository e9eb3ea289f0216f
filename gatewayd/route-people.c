/* /tokens, /users, /tenants, /me: who may do what. Read from the database, written by coordinatord.
 *
 * An admin manages the people of their tenant; an admin of the tenant `default` any tenant's, named
 * by `tenant`. A token's secret is made here and told once; only its hash goes further. */
#include "common/base/json.h"
#include "gatewayd/query.h"
#include "gatewayd/rights.h"
#include "gatewayd/route.h"

#define SCOPES_MAX 16u

struct people_body {
        char *name, *role, *user_name, *expires_at, *tenant;
        json_t *scopes, *limits;
        bool disabled, has_disabled;
};
#define NAME                                                                                       \
        JSON_FIELD(struct people_body, name, JSON_KIND_STRING, .min = 1, .max = 64,                \
                   .required = true)
#define ROLE JSON_FIELD(struct people_body, role, JSON_KIND_STRING, .min = 1, .max = 16)
#define TENANT JSON_FIELD(struct people_body, tenant, JSON_KIND_STRING, .min = 1, .max = 64)
#define LIMITS JSON_FIELD(struct people_body, limits, JSON_KIND_OBJECT)
#define DISABLED                                                                                   \
        JSON_FIELD(struct people_body, disabled, JSON_KIND_BOOL,                                   \
                   .offset_set = offsetof(struct people_body, has_disabled))
static const struct json_field token_fields[] = {
        NAME,
        ROLE,
        TENANT,
        JSON_FIELD(struct people_body, user_name, JSON_KIND_STRING, .min = 1, .max = 64),
        JSON_FIELD(struct people_body, scopes, JSON_KIND_ARRAY, .min = 0, .max = SCOPES_MAX),
        JSON_FIELD(struct people_body, expires_at, JSON_KIND_STRING, .min = 10, .max = 40),
};
static const struct json_field user_fields[] = { NAME, ROLE, TENANT, DISABLED };
static const struct json_field user_changes[] = { ROLE, TENANT, DISABLED };
static const struct json_field tenant_fields[] = { NAME, LIMITS, DISABLED };
static const struct json_field tenant_changes[] = { LIMITS, DISABLED };

/* Tenants and ids of tokens. */
static bool name_ok(const char *s)
{
        size_t n = strlen(s);

        return n >= 1 && n <= 64 && s[0] != '-' && s[0] != '_' &&
               strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == n;
}

/* Users may be named like mail addresses. */
static bool user_name_ok(const char *s)
{
        size_t n = strlen(s);

        return n >= 1 && n <= 64 && strchr("-_.@", s[0]) == NULL &&
               strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.@") == n;
}

static void bad_name(struct http_request *req, const char *field)
{
        http_reply_error(req, ERROR_CODE_BAD_REQUEST, field,
                         "%s must be 1 to 64 letters, digits, - and _ (users: also . and @), and "
                         "begin with a letter or digit.",
                         field);
}

static void none(struct http_request *req, const char *what)
{
        http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "There is no %s of this name.", what);
}

/* Whose people are meant; NULL after 403. */
static const char *tenant_of(struct http_request *req, const char *asked)
{
        if (!asked || streq(asked, req->principal.tenant))
                return req->principal.tenant;
        if (rights_is_host(&req->principal) && name_ok(asked))
                return asked;
        http_reply_error(req, ERROR_CODE_FORBIDDEN, "tenant",
                         "Only an admin of the tenant default may name another tenant.");
        return NULL;
}

static bool read_body(struct http_request *req, const struct json_field *fields, size_t n,
                      struct people_body *b)
{
        struct json_problem p = { 0 };
        enum role role;

        if (json_read(req->json, fields, n, b, &p) < 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL, "%s",
                                 p.message);
                return false;
        }
        if (b->role && (role_parse(b->role, &role) < 0 || streq(b->role, "user"))) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "role",
                                 "role must be viewer, operator or admin.");
                return false;
        }
        return true;
}

static void on_object(void *userdata, int status, int r, const void *reply)
{
        const struct people_reply *m = reply;

        if (r < 0)
                http_reply_rpc_error(userdata, r, reply);
        else
                http_reply_json(userdata, status, m->json);
}

static void on_created(void *userdata, int r, const void *reply)
{
        on_object(userdata, 201, r, reply);
}

static void on_changed(void *userdata, int r, const void *reply)
{
        on_object(userdata, 200, r, reply);
}

/* ---- lists ---- */

static void on_listed(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct http_request *req = userdata;
        uint64_t limit = (uintptr_t) req->userdata;

        if (r < 0)
                return database_failed(req, r, error);
        list_reply(req, results[0], strrchr(req->route->pattern, '/') + 1, limit);
}

/* sql: $1 key and $2 id of the last row before, $3 limit; the tenant is in the rules of the rows.
 */
static void list(struct http_request *req, const char *sql, const char *scope)
{
        cleanup_free char *key = NULL, *id = NULL;
        uint64_t limit;

        if (!scope || http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            cursor_read(req, &key, &id) < 0)
                return;
        req->userdata = (void *) (uintptr_t) limit;
        database_asked(req, pg_query_as(req->gateway->pg, scope, on_listed, req, sql, "ssu", key,
                                        id, limit));
}

static const char *const list_known[] = { "limit", "cursor", "tenant", NULL };

static void tokens(struct http_request *req)
{
        if (http_query_only(req, list_known) == 0)
                list(req,
                     "SELECT core.token_json(t), core.timestamp_text(t.created_at), t.token_id "
                     "FROM core.auth_token t WHERE $1::text IS NULL OR (t.created_at, t.token_id) "
                     "< ($1::timestamptz, $2) ORDER BY t.created_at DESC, t.token_id DESC LIMIT $3",
                     tenant_of(req, http_query(req, "tenant")));
}

static void users(struct http_request *req)
{
        if (http_query_only(req, list_known) == 0)
                list(req,
                     "SELECT core.user_json(u), u.name, u.name FROM core.app_user u WHERE $1::text "
                     "IS NULL OR u.name > $2 ORDER BY u.name LIMIT $3",
                     tenant_of(req, http_query(req, "tenant")));
}

static void tenants(struct http_request *req)
{
        static const char *const known[] = { "limit", "cursor", NULL };

        if (http_query_only(req, known) == 0)
                list(req,
                     "SELECT core.tenant_json(t), t.tenant, t.tenant FROM core.tenant t WHERE "
                     "$1::text IS NULL OR t.tenant > $2 ORDER BY t.tenant LIMIT $3",
                     PG_ALL_TENANTS);
}

/* ---- tokens ---- */

/* The secret waits for the answer in req->userdata. */
static void on_token(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct people_reply *m = reply;
        cleanup_free char *secret = TAKE_PTR(req->userdata);
        cleanup_buf struct buf b = BUF_INIT;

        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        buf_put(&b, m->json.data, m->json.len - 1);
        buf_putf(&b, ",\"token\":\"%s\"}", secret);
        memset(secret, 0, strlen(secret));
        http_reply_json_take(req, 201, &b);
}

/* A token that is narrowed to scopes gives no more than it has. */
static bool read_scopes(struct http_request *req, const json_t *list, const char *ret[SCOPES_MAX],
                        size_t *ret_n)
{
        uint32_t mine = req->principal.scopes;
        size_t n = json_array_size(list);

        for (size_t i = 0; i < n; i++) {
                const char *text = json_string_value(json_array_get(list, i));
                uint32_t scope = 0;
                if (!text || rights_scope_parse(text, &scope) < 0 || (mine && (scope & ~mine))) {
                        http_reply_error(req, ERROR_CODE_BAD_REQUEST, "scopes",
                                         "scopes are sessions, documents, agents or system with "
                                         ":read or :write, and no more than your own token has.");
                        return false;
                }
                ret[i] = text;
        }
        if (n == 0 && mine) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "scopes",
                                 "Your token has scopes: name those of the new one.");
                return false;
        }
        *ret_n = n;
        return true;
}

static void token_create(struct http_request *req)
{
        struct people_body b = { 0 };
        const char *scopes[SCOPES_MAX];
        char bytes[32], hash[SHA256_HEX];
        struct token_create m = { .created_by = req->principal.name };

        if (!read_body(req, token_fields, ARRAY_LEN(token_fields), &b) ||
            !read_scopes(req, b.scopes, scopes, &m.n_scopes) ||
            !(m.tenant = tenant_of(req, b.tenant)))
                return;
        if (!user_name_ok(b.name))
                return bad_name(req, "name");
        if (http_idempotency_key(req, &m.idempotency_key) < 0)
                return;
        m.request_digest = req->body_digest;
        random_bytes(bytes, sizeof(bytes));
        cleanup_free char *text = xmalloc(4 + base64_size(sizeof(bytes)));
        memcpy(text, "bt_", 3);
        base64url_encode(bytes, sizeof(bytes), text + 3);
        sha256_hex(text, strlen(text), hash);
        m.token_hash = hash;
        m.name = b.name;
        m.role = b.role ? b.role : "operator";
        m.user_name = b.user_name;
        m.scopes = scopes;
        m.expires_at = b.expires_at;
        req->userdata = TAKE_PTR(text);
        coordinator_call(req, &wire_token_create, &m, on_token);
}

static void token_revoke(struct http_request *req)
{
        static const char *const known[] = { "tenant", NULL };
        struct token_revoke m = { .token_id = req->params[0] };

        if (http_query_only(req, known) < 0 ||
            !(m.tenant = tenant_of(req, http_query(req, "tenant"))))
                return;
        if (!name_ok(m.token_id))
                return none(req, "token");
        coordinator_call(req, &wire_token_revoke, &m, empty_reply);
}

/* ---- users ---- */

static void user_create(struct http_request *req)
{
        struct people_body b = { 0 };
        struct user_put m = { .create = true };

        if (!read_body(req, user_fields, ARRAY_LEN(user_fields), &b) ||
            !(m.tenant = tenant_of(req, b.tenant)))
                return;
        if (!user_name_ok(b.name))
                return bad_name(req, "name");
        if (http_idempotency_key(req, &m.idempotency_key) < 0)
                return;
        m.request_digest = req->body_digest;
        m.name = b.name;
        m.role = b.role;
        m.has_disabled = b.has_disabled;
        m.disabled = b.disabled;
        coordinator_call(req, &wire_user_put, &m, on_created);
}

static void user_change(struct http_request *req)
{
        struct people_body b = { 0 };
        struct user_put m = { .name = req->params[0] };

        if (!read_body(req, user_changes, ARRAY_LEN(user_changes), &b) ||
            !(m.tenant = tenant_of(req, b.tenant)))
                return;
        if (!user_name_ok(m.name))
                return none(req, "user");
        m.role = b.role;
        m.has_disabled = b.has_disabled;
        m.disabled = b.disabled;
        coordinator_call(req, &wire_user_put, &m, on_changed);
}

static void user_delete(struct http_request *req)
{
        static const char *const known[] = { "tenant", NULL };
        struct user_delete m = { .name = req->params[0] };

        if (http_query_only(req, known) < 0 ||
            !(m.tenant = tenant_of(req, http_query(req, "tenant"))))
                return;
        if (!user_name_ok(m.name))
                return none(req, "user");
        coordinator_call(req, &wire_user_delete, &m, empty_reply);
}

/* ---- tenants ---- */

static bool read_limits(struct http_request *req, const json_t *limits)
{
        static const char *const known[] = { "sessions_live", "slots" };
        const char *key;
        json_t *value;

        json_object_foreach ((json_t *) limits, key, value) {
                bool ok = streq(key, known[0]) || streq(key, known[1]);
                if (ok && (json_is_null(value) ||
                           (json_is_integer(value) && json_integer_value(value) >= 0 &&
                            json_integer_value(value) <= 1000000)))
                        continue;
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "limits",
                                 "limits are sessions_live and slots: whole numbers from 0 to "
                                 "1000000, null for none.");
                return false;
        }
        return true;
}

static void tenant_put(struct http_request *req, const char *name, bool create,
                       const struct json_field *fields, size_t n, rpc_reply_fn fn)
{
        struct people_body b = { 0 };
        struct tenant_put m = { .create = create };

        if (!read_body(req, fields, n, &b) || !read_limits(req, b.limits))
                return;
        m.tenant = create ? b.name : name;
        if (!name_ok(m.tenant))
                return create ? bad_name(req, "name") : none(req, "tenant");
        if (create && http_idempotency_key(req, &m.idempotency_key) < 0)
                return;
        m.request_digest = req->body_digest;
        cleanup_free char *limits = b.limits ? json_text(b.limits) : NULL;
        m.limits = span_of(limits);
        m.has_disabled = b.has_disabled;
        m.disabled = b.disabled;
        coordinator_call(req, &wire_tenant_put, &m, fn);
}

static void tenant_create(struct http_request *req)
{
        tenant_put(req, NULL, true, tenant_fields, ARRAY_LEN(tenant_fields), on_created);
}

static void tenant_change(struct http_request *req)
{
        tenant_put(req, req->params[0], false, tenant_changes, ARRAY_LEN(tenant_changes),
                   on_changed);
}

/* Nothing of a tenant is thrown away by one call: its tokens are refused from now on. */
static void tenant_disable(struct http_request *req)
{
        const struct tenant_put m = { .tenant = req->params[0],
                                      .has_disabled = true,
                                      .disabled = true };

        if (!name_ok(m.tenant))
                return none(req, "tenant");
        coordinator_call(req, &wire_tenant_put, &m, empty_reply);
}

/* ---- me ---- */

static void me(struct http_request *req)
{
        const struct principal *who = &req->principal;
        cleanup_buf struct buf b = BUF_INIT;

        buf_puts(&b, "{\"tenant\":");
        buf_put_json_string(&b, who->tenant, strlen(who->tenant));
        buf_puts(&b, ",\"name\":");
        buf_put_json_string(&b, who->name, strlen(who->name));
        buf_putf(&b, ",\"role\":\"%s\",\"scoped\":%s,\"installation\":%s,\"token_id\":",
                 role_name(who->role), who->scopes ? "true" : "false",
                 rights_is_host(who) ? "true" : "false");
        buf_put_json_string(&b, who->token_id, strlen(who->token_id));
        buf_puts(&b, "}");
        http_reply_json_take(req, 200, &b);
}

static const struct route table[] = {
        { HTTP_GET, "/me", me },
        { HTTP_GET, "/tokens", tokens, .role = ROLE_ADMIN },
        { HTTP_POST, "/tokens", token_create, .role = ROLE_ADMIN, .body = ROUTE_BODY_JSON },
        { HTTP_DELETE, "/tokens/{id}", token_revoke, .role = ROLE_ADMIN },
        { HTTP_GET, "/users", users, .role = ROLE_ADMIN },
        { HTTP_POST, "/users", user_create, .role = ROLE_ADMIN, .body = ROUTE_BODY_JSON },
        { HTTP_PATCH, "/users/{name}", user_change, .role = ROLE_ADMIN, .body = ROUTE_BODY_JSON },
        { HTTP_DELETE, "/users/{name}", user_delete, .role = ROLE_ADMIN },
        { HTTP_GET, "/tenants", tenants, .role = ROLE_ADMIN },
        { HTTP_POST, "/tenants", tenant_create, .role = ROLE_ADMIN, .body = ROUTE_BODY_JSON },
        { HTTP_PATCH, "/tenants/{name}", tenant_change, .role = ROLE_ADMIN,
          .body = ROUTE_BODY_JSON },
        { HTTP_DELETE, "/tenants/{name}", tenant_disable, .role = ROLE_ADMIN },
};
const struct route_table people_routes = { table, ARRAY_LEN(table) };
