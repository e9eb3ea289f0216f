/* Questions of the route files to the coordinator and the database, and pages of lists. */
#include "gatewayd/query.h"

#include "common/base/json.h"
#include "common/io/log.h"
#include "gatewayd/audit.h"
#include "gatewayd/held.h"

void coordinator_call(struct http_request *req, const struct wire_msg *type, const void *msg,
                      rpc_reply_fn fn)
{
        struct gateway *g = req->gateway;
        struct rpc_peer *peer = rpc_client_peer(g->coordinator);
        int r;

        if (!rpc_peer_up(peer)) {
                if (!held_add(g->held, req, type, msg, audit_context(req), fn))
                        http_reply_busy(req, "coordinator");
                return;
        }
        TRACE_SCOPE(http_request_trace(req));
        r = rpc_call_context(peer, type, msg, audit_context(req),
                             MIN(g->settings->request_timeout, GATEWAY_ANSWER_USEC), fn, req);
        if (r == -EMSGSIZE)
                http_reply_error(req, ERROR_CODE_TOO_LARGE, NULL,
                                 "a field of the request is too long");
        else if (r < 0)
                http_reply_busy(req, "coordinator");
}

struct pg_batch *tenant_batch(const struct http_request *req)
{
        struct pg_batch *b = pg_batch_new();

        pg_batch_tenant(b, req->principal.tenant);
        return b;
}

void database_asked(struct http_request *req, int r)
{
        if (r < 0)
                http_reply_busy(req, "database");
}

void database_failed(struct http_request *req, int r, const struct pg_error *error)
{
        /* Data exceptions: a value of the request is of the right form and still none, such as a
         * cursor of a list in another order. */
        if (r == -EREMOTEIO && str_starts(error->sqlstate, "22"))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL,
                                        "A parameter has a value that does not fit here.");
        if (r == -EREMOTEIO)
                log_error("%s %s: the database refused: %s %s", http_method_name(req->method),
                          req->path, error->sqlstate, error->message);
        http_reply_busy(req, "database");
}

void events_gone(struct http_request *req, uint64_t oldest)
{
        char text[300];

        snprintf(text, sizeof(text),
                 "{\"error\":{\"code\":\"gone\",\"message\":\"Events after this position are no "
                 "longer kept; the oldest there is has %" PRIu64 ".\",\"oldest_available\":%" PRIu64
                 "}}",
                 oldest, oldest);
        http_reply_json(req, 410, span_of(text));
}

bool body_has_fields(struct http_request *req)
{
        struct json_problem p = { 0 };

        if (!req->json || json_read(req->json, NULL, 0, NULL, &p) == 0)
                return false;
        http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL, "%s", p.message);
        return true;
}

void another_history(struct http_request *req)
{
        http_reply_problem(req, 410, "resync", "epoch",
                           "The database was restored since: positions of before mean nothing "
                           "here. Read again without one.");
}

void no_session(struct http_request *req)
{
        http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "there is no session with this id");
}

void session_reply(struct http_request *req, int status, int r, const void *reply)
{
        const struct session_reply *m = reply;

        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_json(req, status, m->session_json);
}

void empty_reply(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;

        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_empty(req, 204);
}

/* base64 of key NUL id: opaque to clients. */
char *cursor_make(const char *key, const char *id)
{
        size_t len = strlen(key) + 1 + strlen(id);
        cleanup_free char *joined = xmalloc(len + 1);
        char *text = xmalloc(base64_size(len));
        memcpy(joined, key, strlen(key) + 1);
        memcpy(joined + strlen(key) + 1, id, strlen(id) + 1);
        base64url_encode(joined, len, text);
        return text;
}

void list_reply(struct http_request *req, const PGresult *rows, const char *name, uint64_t limit)
{
        cleanup_buf struct buf b = BUF_INIT;
        int n = PQntuples(rows);
        uint64_t found =
                n > 0 && PQnfields(rows) > 3 ? (uint64_t) pg_i64(rows, 0, 3) : (uint64_t) n;

        buf_putf(&b, "{\"%s\":[", name);
        for (int i = 0; i < n; i++) {
                if (i > 0)
                        buf_puts(&b, ",");
                buf_puts(&b, pg_str(rows, i, 0));
        }
        buf_puts(&b, "],\"next_cursor\":");
        if (found < limit && found == (uint64_t) n) {
                buf_puts(&b, "null}");
        } else {
                cleanup_free char *text =
                        cursor_make(pg_str(rows, n - 1, 1), pg_str(rows, n - 1, 2));
                buf_putf(&b, "\"%s\"}", text);
        }
        http_reply_json_take(req, 200, &b);
}

void bounded_page_end(struct buf *b, const PGresult *rows, uint64_t limit)
{
        int n = PQntuples(rows);
        uint64_t found = n > 0 ? (uint64_t) pg_i64(rows, 0, 2) : 0;

        if (n > 0 && (found >= limit || found > (uint64_t) n))
                buf_putf(b, "\"next_cursor\":\"%" PRId64 "\"}", pg_i64(rows, n - 1, 1));
        else
                buf_puts(b, "\"next_cursor\":null}");
}

int cursor_read(struct http_request *req, char **ret_key, char **ret_id)
{
        const char *cursor = http_query(req, "cursor");
        cleanup_free void *data = NULL;
        size_t len, key_len;

        if (!cursor)
                return 0;
        if (strlen(cursor) > 2000 || base64url_decode(cursor, strlen(cursor), &data, &len) < 0)
                goto bad;
        key_len = strnlen(data, len);
        if (key_len + 1 >= len || memchr((char *) data + key_len + 1, 0, len - key_len - 1) ||
            !utf8_valid(data, key_len) ||
            !utf8_valid((char *) data + key_len + 1, len - key_len - 1))
                goto bad;
        *ret_key = xstrdup(data);
        *ret_id = xstrndup((char *) data + key_len + 1, len - key_len - 1);
        return 0;
bad:
        http_reply_error(req, ERROR_CODE_BAD_REQUEST, "cursor",
                         "cursor must be the next_cursor of an earlier answer");
        return -EINVAL;
}

char *like_pattern(const char *text, bool anywhere)
{
        cleanup_buf struct buf b = BUF_INIT;

        if (anywhere)
                buf_puts(&b, "%");
        for (; *text; text++) {
                if (*text == '%' || *text == '_' || *text == '\\')
                        buf_puts(&b, "\\");
                buf_put(&b, text, 1);
        }
        buf_puts(&b, "%");
        return buf_take(&b, NULL);
}
