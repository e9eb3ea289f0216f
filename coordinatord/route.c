/* What the routes of sessions and messages share. */
#include "route.h"

#include "common/base/json.h"
#include "lease.h"
#include "limits.h"

/* Parses a text of the given JSON type and writes it compactly (no raw line breaks). */
int route_json(struct request *q, const char *what, struct span text, json_type type, char **ret)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (json_parse(text.data, text.len, &j, &problem) < 0 || json_typeof(j) != type) {
                request_refuse(q, ERROR_CODE_BAD_REQUEST, "%s must be a JSON %s", what,
                               type == JSON_ARRAY ? "array" : "object");
                return -EINVAL;
        }
        *ret = json_text(j);
        return 0;
}

bool route_tenant(struct request *q, const char *tenant)
{
        if (session_id_valid(tenant))
                return true;
        request_refuse(q, ERROR_CODE_BAD_REQUEST, "the tenant's name is not valid");
        return false;
}

int route_check_room(struct request *q, const struct session *s, const char *tenant)
{
        const struct coordinator *c = q->c;
        uint64_t most = limits_of(c, tenant).sessions_live;

        if (c->sessions.n_queued >= c->settings->sessions_queued_max)
                return hub_refuse(&q->entry, ERROR_CODE_RATE_LIMITED,
                                  "%zu sessions are queued already; try again later",
                                  c->sessions.n_queued);
        if (!s->worker_id && sessions_live(&c->sessions) >= c->settings->sessions_live_max)
                return hub_refuse(&q->entry, ERROR_CODE_RATE_LIMITED,
                                  "%zu sessions are live already; stop one or try again later",
                                  sessions_live(&c->sessions));
        if (!s->worker_id && most != UINT64_MAX && limits_live(c, tenant) >= most)
                return hub_refuse(&q->entry, ERROR_CODE_RATE_LIMITED,
                                  "this tenant may have %" PRIu64
                                  " live sessions and has them: stop "
                                  "one, or ask an admin for a higher limit",
                                  most);
        return 0;
}

void route_emit_message(struct hub_batch *b, struct session *s, const char *message_id,
                        const char *content, bool pinned)
{
        cleanup_buf struct buf body = BUF_INIT;

        buf_putf(&body, "{\"role\":\"user\",\"message_id\":\"%s\",\"content\":%s%s}", message_id,
                 content, pinned ? ",\"pinned\":true" : "");
        s->last_message_seq =
                hub_event(b, s, EVENT_TYPE_MESSAGE, (struct span){ body.data, body.len });
}

void route_keep_key(struct request *q, struct hub_batch *b, const char *scope, const char *key)
{
        if (key && q->digest)
                hub_idempotency(b, q->session->tenant, scope, key, q->digest, q->session->id, NULL,
                                0);
}

void route_keep_object(struct request *q, struct pg_batch *b, const char *tenant, const char *scope,
                       const char *key, const char *object)
{
        if (key && q->digest)
                pg_batch_add(b, store_idempotency_object, "sssss", tenant, scope, key, q->digest,
                             object);
}

void route_session_done(struct request *q, const struct hub_batch *b)
{
        const char *json = hub_session_json(b, q->session);
        struct session_reply reply = { .session_json = span_of(json) };

        if (json)
                request_reply(q, &reply);
        else
                request_refuse(q, ERROR_CODE_NOT_FOUND, "the session was deleted meanwhile");
        lease_dispatch(q->c);
}

static void on_replay_json(void *userdata, int r, PGresult **results, size_t n,
                           const struct pg_error *error)
{
        struct request *q = userdata;

        if (r < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the session could not be read; try again");
        } else if (PQntuples(results[0]) == 0) {
                request_refuse(q, ERROR_CODE_NOT_FOUND, "the session was deleted meanwhile");
        } else {
                struct session_reply reply = {
                        .session_json = span_of(pg_str(results[0], 0, 0)),
                        .replayed = true,
                };
                request_reply(q, &reply);
        }
        request_end(q);
}

void route_session_replay(struct request *q, const PGresult *found)
{
        if (pg_query(q->c->pool, on_replay_json, q, store_session_json, "s", pg_str(found, 0, 1)) <
            0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
                request_end(q);
        }
}
