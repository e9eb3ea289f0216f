/* token_create, token_revoke, user_put, user_delete, tenant_put, tokens_used: who may do what. The
 * rules are in the functions of sql/0005_tenants.sql; each change is told on the bus. */
#include "audit.h"
#include "limits.h"
#include "route.h"

static const char token_create[] =
        "SELECT core.token_create($1, $2, $3, $4, $5, ARRAY(SELECT json_array_elements_text($6)), "
        "$7::timestamptz, $8)";
static const char user_shown[] =
        "SELECT core.user_json(u) FROM core.app_user u WHERE tenant = $1 AND name = $2";
static const char tenant_shown[] =
        "SELECT core.tenant_json(t) FROM core.tenant t WHERE t.tenant = $1";
static const char token_revoke[] = "SELECT core.token_revoke($1, $2)";
static const char user_put[] = "SELECT core.user_put($1, $2, $3, $4, $5::bool)";
static const char user_delete[] = "SELECT core.user_delete($1, $2)";
static const char tenant_put[] = "SELECT core.tenant_put($1, $2, $3::jsonb, $4::bool)";
static const char tokens_used[] =
        "UPDATE core.auth_token SET last_used_at = now() WHERE token_hash = ANY "
        "(ARRAY(SELECT json_array_elements_text($1::json))) AND (last_used_at IS NULL OR "
        "last_used_at < now() - interval '50 seconds')";

static void refuse_by_database(struct request *q, int r, const struct pg_error *error)
{
        const char *state = r == -EREMOTEIO ? error->sqlstate : "";

        if (streq(state, "BT005") || streq(state, "BT007") || streq(state, "BT011") ||
            streq(state, "23505"))
                request_refuse(q, ERROR_CODE_CONFLICT, "%s",
                               streq(state, "23505") ? "this exists already" : error->message);
        else if (streq(state, "BT006"))
                request_refuse(q, ERROR_CODE_NOT_FOUND, "%s", error->message);
        else if (streq(state, "22023"))
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "%s", error->message);
        else if (str_starts(state, "22") || streq(state, "23514"))
                request_refuse(q, ERROR_CODE_BAD_REQUEST,
                               "a value of the request has a form that is not allowed here");
        else
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the database cannot be reached; try again");
}

static void changed(struct request *q)
{
        struct bus_people_changed m = { 0 };

        if (bus_publish(q->c->bus, &wire_bus_people_changed, &m) < 0)
                return; /* a hint: gateways look again by themselves */
}

static void on_object(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct request *q = userdata;

        if (r < 0) {
                refuse_by_database(q, r, error);
        } else {
                changed(q);
                limits_load(q->c);
                request_reply(q, &(struct people_reply){ span_of(pg_str(results[0], 0, 0)) });
        }
        request_end(q);
}

static void on_done(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct request *q = userdata;

        if (r < 0) {
                refuse_by_database(q, r, error);
        } else {
                changed(q);
                request_reply(q, &(struct ok_reply){ 0 });
        }
        request_end(q);
}

/* NULL: the request was refused and has ended. */
static struct request *begin(struct coordinator *c, struct rpc_peer *p, struct rpc_request *req,
                             const struct wire_msg *type, const void *msg, const char *tenant)
{
        struct request *q = request_new(c, sizeof(struct request), p, req, type, msg, true);

        if (!q || route_tenant(q, tenant))
                return q;
        request_end(q);
        return NULL;
}

static int asked(struct request *q, int r)
{
        if (r < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
                request_end(q);
        }
        return 0;
}

static char *json_list(const char *const *items, size_t n)
{
        cleanup_buf struct buf b = BUF_INIT;

        buf_puts(&b, "[");
        for (size_t i = 0; i < n; i++) {
                buf_puts(&b, i > 0 ? "," : "");
                buf_put_json_string(&b, items[i], strlen(items[i]));
        }
        buf_puts(&b, "]");
        return buf_take(&b, NULL);
}

/* One statement that makes `object`, its Idempotency-Key and its row of the audit log. */
static int make(struct request *q, const char *tenant, const char *scope, const char *key,
                const char *object, struct pg_batch *b)
{
        route_keep_object(q, b, tenant, scope, key, object);
        audit_with(q, b, object);
        return asked(q, pg_submit(q->c->pool, b, on_object, q));
}

static void on_made(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct request *q = userdata;

        if (r < 0)
                refuse_by_database(q, r, error);
        else if (PQntuples(results[0]) == 0)
                request_refuse(q, ERROR_CODE_NOT_FOUND,
                               "what this Idempotency-Key made was deleted meanwhile");
        else
                request_reply(q, &(struct people_reply){ span_of(pg_str(results[0], 0, 0)) });
        request_end(q);
}

static const char token_scope[] = "token.create", user_scope[] = "user.create",
                  tenant_scope[] = "tenant.create";

static void token_once(struct request *q)
{
        const struct token_create *m = q->msg;
        cleanup_free char *scopes = json_list(m->scopes, m->n_scopes);
        struct pg_batch *b = pg_batch_new();

        pg_batch_add(b, token_create, "ssssssss", m->tenant, m->token_hash, m->name, m->role,
                     m->user_name, scopes, m->expires_at, m->created_by);
        (void) make(q, m->tenant, token_scope, m->idempotency_key, m->name, b);
}

/* Nobody has the secret any more, and a second token would be one too many. */
static void token_replay(struct request *q, const PGresult *found)
{
        request_refuse(q, ERROR_CODE_CONFLICT,
                       "a token was made with this Idempotency-Key and its secret told once; when "
                       "that answer was lost, revoke the token and make another with a new key");
        request_end(q);
}

int route_token_create(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        const struct token_create *m = msg;
        struct request *q = begin(userdata, p, req, &wire_token_create, msg, m->tenant);

        if (!q)
                return 0;
        m = q->msg;
        request_once(q, m->tenant, token_scope, m->idempotency_key, m->request_digest, token_once,
                     token_replay);
        return 0;
}

int route_token_revoke(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        const struct token_revoke *m = msg;
        struct request *q = begin(userdata, p, req, &wire_token_revoke, msg, m->tenant);

        if (!q)
                return 0;
        m = q->msg;
        return asked(q, audit_query(q, m->token_id, on_done, token_revoke, "ss", m->tenant,
                                    m->token_id));
}

static const char *bool_text(bool has, bool value)
{
        return has ? value ? "true" : "false" : NULL;
}

static void user_once(struct request *q)
{
        const struct user_put *m = q->msg;
        struct pg_batch *b = pg_batch_new();

        pg_batch_add(b, user_put, "ssBss", m->tenant, m->name, (int) m->create, m->role,
                     bool_text(m->has_disabled, m->disabled));
        (void) make(q, m->tenant, user_scope, m->idempotency_key, m->name, b);
}

static void user_replay(struct request *q, const PGresult *found)
{
        const struct user_put *m = q->msg;

        (void) asked(q, pg_query(q->c->pool, on_made, q, user_shown, "ss", m->tenant,
                                 pg_str(found, 0, 4)));
}

int route_user_put(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        const struct user_put *m = msg;
        struct request *q = begin(userdata, p, req, &wire_user_put, msg, m->tenant);

        if (!q)
                return 0;
        m = q->msg;
        request_once(q, m->tenant, user_scope, m->idempotency_key, m->request_digest, user_once,
                     user_replay);
        return 0;
}

int route_user_delete(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        const struct user_delete *m = msg;
        struct request *q = begin(userdata, p, req, &wire_user_delete, msg, m->tenant);

        if (!q)
                return 0;
        m = q->msg;
        return asked(q, audit_query(q, m->name, on_done, user_delete, "ss", m->tenant, m->name));
}

/* Keys of those who make tenants are of the tenant that may: the new one has nobody yet. */
static const char host[] = "default";

static void tenant_once(struct request *q)
{
        const struct tenant_put *m = q->msg;
        cleanup_free char *limits = NULL;
        struct pg_batch *b;

        if (m->limits.data && route_json(q, "limits", m->limits, JSON_OBJECT, &limits) < 0) {
                request_end(q);
                return;
        }
        b = pg_batch_new();
        pg_batch_add(b, tenant_put, "sBss", m->tenant, (int) m->create, limits,
                     bool_text(m->has_disabled, m->disabled));
        (void) make(q, host, tenant_scope, m->idempotency_key, m->tenant, b);
}

static void tenant_replay(struct request *q, const PGresult *found)
{
        (void) asked(q, pg_query(q->c->pool, on_made, q, tenant_shown, "s", pg_str(found, 0, 4)));
}

int route_tenant_put(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        const struct tenant_put *m = msg;
        struct request *q = begin(userdata, p, req, &wire_tenant_put, msg, m->tenant);

        if (!q)
                return 0;
        m = q->msg;
        request_once(q, host, tenant_scope, m->idempotency_key, m->request_digest, tenant_once,
                     tenant_replay);
        return 0;
}

/* A lost one costs a minute of precision. */
int route_tokens_used(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct coordinator *c = userdata;
        const struct tokens_used *m = msg;
        cleanup_free char *hashes = json_list(m->token_hashes, m->n_token_hashes);

        return coordinator_database_up(c) ? pg_query(c->pool, NULL, NULL, tokens_used, "s", hashes)
                                          : 0;
}
