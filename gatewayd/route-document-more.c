/* /documents: tags of many at once, versions. */
#include "gatewayd/documents.h"

#define IDS_MAX 1000u

/* ---- POST /documents/tags/edit ---- */

struct tags_body {
        json_t *ids, *add, *remove;
};
static const struct json_field tags_fields[] = {
        JSON_FIELD(struct tags_body, ids, JSON_KIND_ARRAY, .min = 1, .max = IDS_MAX,
                   .required = true),
        JSON_FIELD(struct tags_body, add, JSON_KIND_ARRAY, .max = 10000),
        JSON_FIELD(struct tags_body, remove, JSON_KIND_ARRAY, .max = 10000),
};

static void on_tagged(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct documents_tagged *m = reply;
        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_json(req, 200, m->result_json);
}

static int read_ids(const json_t *list, const char **out, struct json_problem *p)
{
        size_t i;
        json_t *id;
        json_array_foreach (list, i, id) {
                const char *s = json_string_value(id);
                if (!s || strlen(s) != UUID_MAX - 1 ||
                    strspn(s, "0123456789abcdef-") != UUID_MAX - 1) {
                        *p = (struct json_problem){ .field = "ids",
                                                    .message = "ids must be ids of documents" };
                        return -EINVAL;
                }
                out[i] = s;
        }
        return 0;
}

static size_t names_of(const struct document_tags *tags, const char **out)
{
        for (size_t i = 0; i < tags->n; i++)
                out[i] = tags->tags[i];
        return tags->n;
}

static void edit_tags(struct http_request *req)
{
        struct tags_body b = { 0 };
        struct json_problem p = { 0 };
        struct document_tags add = { 0 }, remove = { 0 };
        const char *ids[IDS_MAX], *plus[DOCUMENT_TAGS_MAX], *minus[DOCUMENT_TAGS_MAX];

        if (json_read(req->json, tags_fields, ARRAY_LEN(tags_fields), &b, &p) < 0 ||
            read_ids(b.ids, ids, &p) < 0 ||
            (b.add && document_tags_from_json(&add, b.add, &p) < 0) ||
            (b.remove && document_tags_from_json(&remove, b.remove, &p) < 0)) {
                document_problem(req, &p);
                return;
        }
        if (json_array_size(b.ids) == 0 || add.n + remove.n == 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL,
                                 "Give at least one of ids, and a tag to add or to remove.");
                return;
        }
        const struct documents_tag m = { .tenant = req->principal.tenant,
                                         .document_ids = ids,
                                         .n_document_ids = json_array_size(b.ids),
                                         .add = plus,
                                         .n_add = names_of(&add, plus),
                                         .remove = minus,
                                         .n_remove = names_of(&remove, minus) };
        (void) documents_call(req, &wire_documents_tag, &m, req->gateway->settings->request_timeout,
                              on_tagged);
}

/* ---- GET /documents/{id}/versions ---- */

static void on_versions(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct http_request *req = userdata;
        if (r < 0)
                database_failed(req, r, error);
        else if (PQntuples(results[0]) == 0)
                no_document(req);
        else
                list_reply(req, results[0], "versions", (uintptr_t) req->userdata);
}

static void versions(struct http_request *req)
{
        static const char *const known[] = { "limit", "cursor", NULL };
        const char *id = document_id(req);
        uint64_t limit, before;
        if (!id || http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0)
                return;
        cleanup_free char *key = NULL, *last = NULL;
        if (cursor_read(req, &key, &last) < 0)
                return;
        if (key && (parse_u64(key, &before) < 0 || before > INT32_MAX || !streq(last, id))) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "cursor",
                                 "cursor is not one of an earlier page.");
                return;
        }
        req->userdata = (void *) (uintptr_t) limit;
        database_query(
                req, on_versions,
                "SELECT json_build_object('version', v.version, 'checksum', v.checksum, "
                "'size_bytes', v.size_bytes, 'content_type', v.content_type, 'created_at', "
                "to_char(v.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
                "'url', '/documents/' || d.id || '?version=' || v.version)::text, v.version, d.id "
                "FROM docs.document_version v JOIN docs.document d ON d.id = v.document_id "
                "WHERE d.tenant = $1 AND d.id = $2 AND v.version < $3::integer "
                "ORDER BY v.version DESC LIMIT $4",
                "ssuu", req->principal.tenant, id, key ? before : (uint64_t) INT32_MAX, limit);
}

static const struct route table[] = {
        { HTTP_POST, "/documents/tags/edit", edit_tags, .role = ROLE_USER, .body = ROUTE_BODY_JSON,
          .listeners = LISTENER_BOTH },
        { HTTP_GET, "/documents/{id}/versions", versions, .listeners = LISTENER_BOTH },
};
const struct route_table document_more_routes = { table, ARRAY_LEN(table) };
