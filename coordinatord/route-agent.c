/* agent_put, agent_delete; and what a session takes from the blueprint it names. */
#include "route-agent.h"

#include "audit.h"
#include "common/base/json.h"
#include "route.h"

static const char agent_put[] = "SELECT core.agent_put($1, $2, $3, $4::jsonb)";
/* With its row of the audit log: only if there was such an agent. */
static const char agent_remove[] =
        "WITH gone AS (DELETE FROM core.agent WHERE tenant = $1 AND name = $2 RETURNING name) "
        "SELECT name, CASE WHEN $3::text IS NOT NULL THEN core.audit_add($3::json) END FROM gone";
static const char agent_shown[] =
        "SELECT core.agent_json(a) FROM core.agent a WHERE tenant = $1 AND name = $2";
static const char agent_find[] =
        "SELECT status, version, body::text FROM core.agent WHERE tenant = $1 AND name = $2";

static void refuse_by_database(struct request *q, int r, const struct pg_error *error,
                               const char *name)
{
        if (r == -EREMOTEIO && (streq(error->sqlstate, "BT005") || streq(error->sqlstate, "23505")))
                request_refuse(q, ERROR_CODE_CONFLICT, "an agent named %s exists already", name);
        else if (r == -EREMOTEIO && streq(error->sqlstate, "BT006"))
                request_refuse(q, ERROR_CODE_NOT_FOUND, "there is no agent named %s", name);
        else if (r == -EREMOTEIO && streq(error->sqlstate, "BT001"))
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "another coordinator has taken over");
        else if (r == -EREMOTEIO && streq(error->sqlstate, "BT007"))
                request_refuse(q, ERROR_CODE_CONFLICT, "there may be 10000 agents");
        else if (r == -EREMOTEIO && str_starts(error->sqlstate, "22"))
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "the agent has text that cannot be kept");
        else
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the database cannot be reached; try again");
}

/* For a statement of the coordinator whose term it still is; its result is the second. */
static struct pg_batch *fenced_batch(const struct coordinator *c)
{
        struct pg_batch *b = pg_batch_new();

        pg_batch_add(b, store_fence, "u", c->start.term);
        return b;
}

static const char put_scope[] = "agent.create"; /* only who makes one sends a key */

struct putting {
        struct request q;
        char *changes;
};

static void put_release(struct request *q)
{
        free(container_of(q, struct putting, q)->changes);
}

static void overloaded(struct request *q)
{
        request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
        request_end(q);
}

static void on_put(void *userdata, int r, PGresult **results, size_t n,
                   const struct pg_error *error)
{
        struct request *q = userdata;

        if (r < 0)
                refuse_by_database(q, r, error, ((const struct agent_put *) q->msg)->name);
        else
                request_reply(q, &(struct agent_reply){ span_of(pg_str(results[1], 0, 0)) });
        request_end(q);
}

static void put_once(struct request *q)
{
        const struct agent_put *m = q->msg;
        struct pg_batch *b = fenced_batch(q->c);

        pg_batch_add(b, agent_put, "ssBs", m->tenant, m->name, (int) m->create,
                     container_of(q, struct putting, q)->changes);
        route_keep_object(q, b, m->tenant, put_scope, m->idempotency_key, m->name);
        audit_with(q, b, m->name);
        if (pg_submit(q->c->pool, b, on_put, q) < 0)
                overloaded(q);
}

static void on_made(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct request *q = userdata;

        if (r < 0)
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the agent could not be read; try again");
        else if (PQntuples(results[0]) == 0)
                request_refuse(q, ERROR_CODE_NOT_FOUND, "the agent was deleted meanwhile");
        else
                request_reply(q, &(struct agent_reply){ span_of(pg_str(results[0], 0, 0)) });
        request_end(q);
}

static void put_replay(struct request *q, const PGresult *found)
{
        const struct agent_put *m = q->msg;

        if (pg_query(q->c->pool, on_made, q, agent_shown, "ss", m->tenant, pg_str(found, 0, 4)) < 0)
                overloaded(q);
}

int route_agent_put(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct coordinator *c = userdata;
        struct request *q =
                request_new(c, sizeof(struct putting), p, req, &wire_agent_put, msg, true);

        if (!q)
                return 0;
        const struct agent_put *m = q->msg;
        q->release = put_release;
        if (!route_tenant(q, m->tenant) ||
            route_json(q, "changes", m->changes, JSON_OBJECT,
                       &container_of(q, struct putting, q)->changes) < 0) {
                request_end(q);
                return 0;
        }
        request_once(q, m->tenant, put_scope, m->idempotency_key, m->request_digest, put_once,
                     put_replay);
        return 0;
}

static void on_removed(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct request *q = userdata;
        const char *name = ((const struct agent_delete *) q->msg)->name;

        if (r < 0)
                refuse_by_database(q, r, error, name);
        else if (PQntuples(results[1]) == 0)
                request_refuse(q, ERROR_CODE_NOT_FOUND, "there is no agent named %s", name);
        else
                request_reply(q, &(struct ok_reply){ 0 });
        request_end(q);
}

int route_agent_delete(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct coordinator *c = userdata;
        struct request *q =
                request_new(c, sizeof(struct request), p, req, &wire_agent_delete, msg, true);

        if (!q)
                return 0;
        const struct agent_delete *m = q->msg;
        if (!route_tenant(q, m->tenant)) {
                request_end(q);
                return 0;
        }
        struct pg_batch *b = fenced_batch(c);
        cleanup_free char *row = audit_row(q, m->name), *rows = row ? xasprintf("[%s]", row) : NULL;
        pg_batch_add(b, agent_remove, "sss", m->tenant, m->name, rows);
        q->audited = true;
        if (pg_submit(c->pool, b, on_removed, q) < 0)
                overloaded(q);
        return 0;
}

/* ---- a session that names one ---- */

#define TEXT_OF(j, key) json_string_value(json_object_get((j), (key)))

void blueprint_done(struct blueprint *b)
{
        json_decref(b->body);
        free(b->text);
        free(b->model);
        free(b->budget);
        free(b->network);
        *b = (struct blueprint){ 0 };
}

static char *object_text(const json_t *j)
{
        return json_object_size(j) > 0 ? json_text(j) : NULL;
}

int blueprint_read(const PGresult *r, struct blueprint *ret)
{
        struct json_problem problem;
        const char *text = pg_str(r, 0, 2), *provider;
        cleanup_json json_t *kept = NULL;
        const json_t *slot;

        *ret = (struct blueprint){ 0 };
        if (!streq(pg_str(r, 0, 0), "active"))
                return -EPERM;
        if (json_parse(text, strlen(text), &ret->body, &problem) < 0 || !json_is_object(ret->body))
                return -EBADMSG;
        provider = TEXT_OF(ret->body, "provider");
        ret->model = TEXT_OF(ret->body, "model") && provider
                             ? xasprintf("%s/%s", provider, TEXT_OF(ret->body, "model"))
                             : xstrdup(TEXT_OF(ret->body, "model"));
        ret->budget = object_text(json_object_get(ret->body, "budget"));
        ret->network = object_text(json_object_get(ret->body, "network"));
        slot = json_object_get(ret->body, "slot");
        ret->image = TEXT_OF(slot, "image");
        ret->width = (uint32_t) json_integer_value(json_object_get(slot, "width"));
        ret->height = (uint32_t) json_integer_value(json_object_get(slot, "height"));
        ret->has_kind =
                TEXT_OF(slot, "kind") && slot_kind_parse(TEXT_OF(slot, "kind"), &ret->kind) == 0;
        kept = json_pack("{s:I,s:O*,s:O*,s:O*,s:O*,s:O*,s:O*}", "version",
                         (json_int_t) pg_i64(r, 0, 1), "system_prompt",
                         json_object_get(ret->body, "system_prompt"), "tools",
                         json_object_get(ret->body, "tools"), "approval",
                         json_object_get(ret->body, "approval"), "mcp_servers",
                         json_object_get(ret->body, "mcp_servers"), "skills",
                         json_object_get(ret->body, "skills"), "output_schema",
                         json_object_get(ret->body, "output_schema"));
        ret->text = json_text(kept);
        return 0;
}

int blueprint_find(struct coordinator *c, const char *tenant, const char *name, pg_done_fn fn,
                   void *userdata)
{
        return pg_query(c->pool, fn, userdata, agent_find, "ss", tenant, name);
}
