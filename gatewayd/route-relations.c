/* /documents/{id}/relations: parents, children, predecessors, successors, related documents. */
#include "gatewayd/documents.h"

static bool is_document_id(const char *s)
{
        return s && strlen(s) == UUID_MAX - 1 && strspn(s, "0123456789abcdef-") == UUID_MAX - 1;
}

/* Both or 400. */
static bool read_other(struct http_request *req, const char *other, const char *kind,
                       enum document_kinship *ret)
{
        if (!is_document_id(other))
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "document_id",
                                 "document_id must be the id of a document.");
        else if (!kind || document_kinship_parse(kind, ret) < 0)
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "kind",
                                 "kind must be parent, child, related, predecessor or successor.");
        else if (streq(other, req->params[0]))
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "document_id",
                                 "A document has no relation to itself.");
        else
                return true;
        return false;
}

/* ---- GET ---- */

static void on_listed(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct http_request *req = userdata;
        cleanup_buf struct buf b = BUF_INIT;
        if (r < 0) {
                database_failed(req, r, error);
                return;
        }
        if (PQntuples(results[0]) == 0) {
                no_document(req);
                return;
        }
        buf_puts(&b, "{\"relations\":[");
        for (int i = 0; i < PQntuples(results[1]); i++)
                buf_putf(&b, "%s%s", i ? "," : "", pg_str(results[1], i, 0));
        buf_putf(&b, "],\"total\":%" PRId64 "}", pg_i64(results[0], 0, 0));
        http_reply_json_take(req, 200, &b);
}

#define MINE "(r.from_id = $1 OR r.to_id = $1)"

static void list(struct http_request *req)
{
        static const char *const known[] = { "limit", "offset", NULL };
        const char *id = document_id(req);
        uint64_t limit, offset;
        if (!id || http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            http_query_u64(req, "offset", 0, INT64_MAX, 0, &offset) < 0)
                return;
        struct pg_batch *b = tenant_batch(req);
        pg_batch_add(b,
                     "SELECT (SELECT count(*) FROM docs.document_relation r WHERE " MINE
                     ") FROM docs.document WHERE id = $1 AND tenant = $2",
                     "ss", id, req->principal.tenant);
        pg_batch_add(
                b,
                "SELECT json_build_object('kind', CASE WHEN r.kind = 'related' OR r.to_id = $1 "
                "THEN r.kind WHEN r.kind = 'parent' THEN 'child' ELSE 'successor' END, "
                "'document_id', o.id, 'filename', o.filename, 'content_type', o.content_type, "
                "'size_bytes', o.size_bytes, 'url', '/documents/' || o.id, 'created_at', "
                "to_char(r.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))"
                "::text FROM docs.document_relation r JOIN docs.document o ON o.id = CASE WHEN "
                "r.from_id = $1 THEN r.to_id ELSE r.from_id END AND o.tenant = $2 "
                "WHERE " MINE " ORDER BY r.kind, r.to_id = $1 DESC, o.id LIMIT $3 OFFSET $4",
                "ssuu", id, req->principal.tenant, limit, offset);
        database_asked(req, pg_submit(req->gateway->pg, b, on_listed, req));
}

/* ---- POST, DELETE ---- */

struct relation_body {
        char *document_id, *kind;
};
static const struct json_field relation_fields[] = {
        JSON_FIELD(struct relation_body, document_id, JSON_KIND_STRING, .min = 1, .max = 64,
                   .required = true),
        JSON_FIELD(struct relation_body, kind, JSON_KIND_STRING, .min = 1, .max = 16,
                   .required = true),
};

static void on_added(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const char *kind = json_string_value(json_object_get(req->json, "kind"));
        const char *other = json_string_value(json_object_get(req->json, "document_id"));
        char text[160];
        if (r < 0) {
                http_reply_rpc_error(req, r, reply);
                return;
        }
        (void) snprintf(text, sizeof(text), "{\"kind\":\"%s\",\"document_id\":\"%s\"}", kind,
                        other);
        http_reply_json(req, 201, span_of(text));
}

static void add(struct http_request *req)
{
        struct relation_body b = { 0 };
        struct json_problem p = { 0 };
        struct relation_add m = { .tenant = req->principal.tenant };
        m.document_id = document_id(req);
        if (!m.document_id)
                return;
        if (json_read(req->json, relation_fields, ARRAY_LEN(relation_fields), &b, &p) < 0) {
                document_problem(req, &p);
                return;
        }
        m.other_id = b.document_id;
        if (read_other(req, b.document_id, b.kind, &m.kinship))
                (void) documents_call(req, &wire_relation_add, &m,
                                      req->gateway->settings->request_timeout, on_added);
}

static void on_removed(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_empty(req, 204);
}

static void remove_one(struct http_request *req)
{
        static const char *const known[] = { "document_id", "kind", NULL };
        struct relation_remove m = { .tenant = req->principal.tenant };
        m.document_id = document_id(req);
        if (!m.document_id)
                return;
        m.other_id = http_query(req, "document_id");
        if (http_query_only(req, known) == 0 &&
            read_other(req, m.other_id, http_query(req, "kind"), &m.kinship))
                (void) documents_call(req, &wire_relation_remove, &m,
                                      req->gateway->settings->request_timeout, on_removed);
}

static const struct route table[] = {
        { HTTP_GET, "/documents/{id}/relations", list, .listeners = LISTENER_BOTH },
        { HTTP_POST, "/documents/{id}/relations", add, .role = ROLE_USER, .body = ROUTE_BODY_JSON,
          .listeners = LISTENER_BOTH },
        { HTTP_DELETE, "/documents/{id}/relations", remove_one, .role = ROLE_USER,
          .listeners = LISTENER_BOTH },
};
const struct route_table relation_routes = { table, ARRAY_LEN(table) };
