/* /documents: lists, tags, metadata, changes and deletion; health of the edge. */
#include "gatewayd/documents.h"

#define LIST_BYTES_MAX "8388608" /* of one page; what does not fit comes with the next cursor */

/* ---- shared ---- */

void no_document(struct http_request *req)
{
        http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "There is no document with this id.");
}

const char *document_id(struct http_request *req)
{
        const char *id = req->params[0];
        size_t n = strspn(id, "0123456789abcdef-");
        if (n == UUID_MAX - 1 && !id[n])
                return id;
        no_document(req);
        return NULL;
}

bool documents_call(struct http_request *req, const struct wire_msg *type, const void *msg,
                    uint64_t timeout_usec, rpc_reply_fn fn)
{
        struct rpc_link *link = req->gateway->documents;
        if (!link || !rpc_peer_up(rpc_client_peer(link))) {
                http_reply_busy(req, "document service");
                return false;
        }
        TRACE_SCOPE(http_request_trace(req));
        int r = rpc_call(rpc_client_peer(link), type, msg, timeout_usec, fn, req);
        if (r == -EMSGSIZE)
                http_reply_error(req, ERROR_CODE_TOO_LARGE, NULL,
                                 "A field of the request is too long.");
        else if (r < 0)
                http_reply_busy(req, "document service");
        return r >= 0;
}

void document_reply(struct http_request *req, int status, int r, const void *reply)
{
        const struct document_reply *m = reply;
        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_json(req, status, m->document_json);
}

void document_problem(struct http_request *req, const struct json_problem *problem)
{
        http_reply_error(req, ERROR_CODE_BAD_REQUEST, problem->field[0] ? problem->field : NULL,
                         "%s", problem->message);
}

/* ---- GET /documents ---- */

struct page {
        uint64_t limit, offset;
        const struct sort *sort;
        char *key, *id; /* of the last row of the page before, NULL = none */
};

static void page_free(struct page *p)
{
        free(p->key);
        free(p->id);
        free(p);
}

static void put_page(struct buf *b, const struct page *page, PGresult **results)
{
        int rows = PQntuples(results[1]);
        /* One row more than the limit was asked for, and rows beyond the bytes of a page were left
         * out. */
        int64_t found = rows > 0 ? pg_i64(results[1], 0, 2) : 0;
        int shown = (int) MIN((uint64_t) rows, page->limit);
        buf_puts(b, "{\"documents\":[");
        for (int i = 0; i < shown; i++) {
                const char *json = pg_str(results[1], i, 0);
                if (i > 0)
                        buf_puts(b, ",");
                buf_puts(b, json);
        }
        buf_putf(b,
                 "],\"total\":%" PRId64 ",\"limit\":%" PRIu64 ",\"offset\":%" PRIu64
                 ",\"next_cursor\":",
                 pg_i64(results[0], 0, 0), page->limit, page->offset);
        if (found > shown) {
                cleanup_free char *cursor = cursor_make(pg_str(results[1], shown - 1, 3),
                                                        pg_str(results[1], shown - 1, 1));
                buf_putf(b, "\"%s\"}", cursor);
        } else
                buf_puts(b, "null}");
}

static void on_list(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct http_request *req = userdata;
        struct page *page = req->userdata;
        cleanup_buf struct buf b = BUF_INIT;
        if (r < 0)
                database_failed(req, r, error);
        else {
                put_page(&b, page, results);
                http_reply_json_take(req, 200, &b);
        }
        page_free(page);
}

/* Tags as PostgreSQL writes arrays; their rules leave nothing to escape. */
static int read_tags(struct http_request *req, struct buf *array)
{
        struct document_tags tags = { 0 };
        struct json_problem problem = { 0 };
        int r = document_tags_parse(&tags, span_of(http_query(req, "tags")), &problem);
        if (r < 0) {
                document_problem(req, &problem);
                return r;
        }
        buf_puts(array, "{");
        for (size_t i = 0; i < tags.n; i++)
                buf_putf(array, "%s\"%s\"", i ? "," : "", tags.tags[i]);
        buf_puts(array, "}");
        return 0;
}

/* OFFSET 0 keeps the planner from rendering each document once for every mention of its JSON.
 *
 * One statement per set of filters, so that each is planned with the indexes it can use. What is
 * not asked for still names its parameter. */
/* Words are looked up in their index and what was found is sorted: the database guesses that many
 * have a word, and would walk the newest first through all of those that have it not. */
#define SORTED_LAST "d.id || ''"
#define NAME_ANY " AND $2::text IS NULL"
#define NAME_LIKE " AND strpos(lower(d.filename), lower($2::text)) > 0"
#define TAGS_ANY " AND $3::text[] IS NOT NULL"
#define TAGS_ALL " AND d.tags @> $3::text[]"
#define TEXT_ANY " AND $4::text IS NULL"
#define TEXT_HAS " AND d.search @@ websearch_to_tsquery('simple', $4::text)"
/* The view, not the table: see docserverd/sql/0004_tenant_rules.sql. */
#define OWN " FROM (SELECT doc, (doc).* FROM docs.document_own) AS d WHERE d.tenant = $1 "
#define WHERE(name, tags, text) OWN name tags text
#define COUNT(...) "SELECT count(*)" WHERE(__VA_ARGS__)
#define PAGE(order, ...)                                                                           \
        "SELECT json, id, found, ''::text FROM (SELECT json, id, count(*) OVER () AS found, "      \
        "sum(octet_length(json)) OVER (ORDER BY id DESC) - octet_length(json) AS before "          \
        "FROM (SELECT (page.doc).id, docs.document_json(page.doc) AS json "                        \
        "FROM (SELECT d.doc AS doc" WHERE(                                                         \
                __VA_ARGS__) " AND ($5::text IS NULL OR d.id < $5::text) "                         \
                             "AND $8::text IS NULL ORDER BY " order                                \
                             " DESC LIMIT $6 OFFSET $7) AS "                                       \
                             "page OFFSET 0) AS rendered) AS sized "                               \
                             "WHERE before < " LIST_BYTES_MAX " ORDER BY id DESC"
#define BOTH(order, ...)                                                                           \
        {                                                                                          \
                COUNT(__VA_ARGS__), PAGE(order, __VA_ARGS__)                                       \
        }

/* Other orders than the newest first. The id breaks ties; $8, $5: key and id of the last row of the
 * page before, `after` is > or <, and casts say what the key's text is. */
#define SORTED(key, cast, after, order)                                                            \
        "SELECT json, id, found, key FROM (SELECT json, id, key, place, count(*) OVER () AS "      \
        "found, "                                                                                  \
        "sum(octet_length(json)) OVER (ORDER BY place) - octet_length(json) AS before "            \
        "FROM (SELECT (page.doc).id, page.place, page.key::text, docs.document_json(page.doc) AS " \
        "json FROM (SELECT d.doc AS doc, " key " AS key, row_number() OVER (ORDER BY " key         \
        " " order ", d.id DESC) AS "                                                               \
        "place" OWN "AND ($2::text IS NULL OR strpos(lower(d.filename), lower($2::text)) > 0) "    \
        "AND d.tags @> $3::text[] "                                                                \
        "AND ($4::text IS NULL OR d.search @@ websearch_to_tsquery('simple', $4::text)) "          \
        "AND ($8::text IS NULL OR " key " " after " $8" cast " OR (" key " = $8" cast              \
        " AND d.id < $5::text)) ORDER BY " key " " order                                           \
        ", d.id DESC LIMIT $6 OFFSET $7) AS page OFFSET 0) "                                       \
        "AS rendered) AS sized WHERE before < " LIST_BYTES_MAX " ORDER BY place"
static const struct sort {
        const char *name, *sql;
} sorts[] = {
        { "-created_at", NULL },
        { "created_at", SORTED("d.id", "::text", ">", "ASC") },
        { "-updated_at", SORTED("d.updated_at", "::timestamptz", "<", "DESC") },
        { "updated_at", SORTED("d.updated_at", "::timestamptz", ">", "ASC") },
        { "filename", SORTED("lower(d.filename)", "::text", ">", "ASC") },
        { "-filename", SORTED("lower(d.filename)", "::text", "<", "DESC") },
        { "size_bytes", SORTED("d.size_bytes", "::bigint", ">", "ASC") },
        { "-size_bytes", SORTED("d.size_bytes", "::bigint", "<", "DESC") },
};

static const struct {
        const char *count, *page;
} statements[] = {
        BOTH("d.id", NAME_ANY, TAGS_ANY, TEXT_ANY),
        BOTH("d.id", NAME_LIKE, TAGS_ANY, TEXT_ANY),
        BOTH("d.id", NAME_ANY, TAGS_ALL, TEXT_ANY),
        BOTH("d.id", NAME_LIKE, TAGS_ALL, TEXT_ANY),
        BOTH(SORTED_LAST, NAME_ANY, TAGS_ANY, TEXT_HAS),
        BOTH(SORTED_LAST, NAME_LIKE, TAGS_ANY, TEXT_HAS),
        BOTH(SORTED_LAST, NAME_ANY, TAGS_ALL, TEXT_HAS),
        BOTH(SORTED_LAST, NAME_LIKE, TAGS_ALL, TEXT_HAS),
};

static struct pg_batch *list_batch(const struct http_request *req, const char *tags,
                                   const struct page *page)
{
        const char *tenant = req->principal.tenant;
        const char *filename = http_query(req, "filename"), *q = http_query(req, "q");
        size_t which = (filename ? 1 : 0) + (streq(tags, "{}") ? 0 : 2) + (q ? 4 : 0);
        struct pg_batch *b = tenant_batch(req);
        pg_batch_add(b, statements[which].count, "ssss", tenant, filename, tags, q);
        const char *sorted = page->sort->sql;
        pg_batch_add(b, sorted ? sorted : statements[which].page, "sssssuus", tenant, filename,
                     tags, q, page->id, page->limit + 1, page->offset, sorted ? page->key : NULL);
        return b;
}

/* 0, or -EINVAL after the request was answered. */
static int read_sort(struct http_request *req, struct page *page)
{
        const char *sort = http_query(req, "sort");
        size_t i = 0;
        while (sort && i < ARRAY_LEN(sorts) && !streq(sort, sorts[i].name))
                i++;
        if (i == ARRAY_LEN(sorts)) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "sort",
                                 "sort knows created_at, updated_at, filename and size_bytes, with "
                                 "- in front for descending.");
                return -EINVAL;
        }
        page->sort = &sorts[i];
        return 0;
}

static void list(struct http_request *req)
{
        static const char *const known[] = { "filename", "tags",   "q",      "sort",
                                             "limit",    "offset", "cursor", NULL };
        struct page page = { 0 };
        cleanup_buf struct buf tags = BUF_INIT;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &page.limit) < 0 ||
            http_query_u64(req, "offset", 0, INT64_MAX, 0, &page.offset) < 0 ||
            read_tags(req, &tags) < 0)
                return;
        if (read_sort(req, &page) < 0 || cursor_read(req, &page.key, &page.id) < 0)
                return;
        struct page *kept = xnew(struct page);
        *kept = page;
        req->userdata = kept;
        int r = pg_submit(req->gateway->pg, list_batch(req, tags.data, &page), on_list, req);
        if (r < 0)
                page_free(kept);
        database_asked(req, r);
}

/* ---- GET /documents/tags ---- */

static void on_tags(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct http_request *req = userdata;
        cleanup_buf struct buf b = BUF_INIT;
        if (r < 0) {
                database_failed(req, r, error);
                return;
        }
        buf_puts(&b, "{\"tags\":[");
        for (int i = 0; i < PQntuples(results[0]); i++)
                buf_putf(&b, "%s{\"name\":\"%s\",\"count\":%" PRId64 "}", i ? "," : "",
                         pg_str(results[0], i, 0), pg_i64(results[0], i, 1));
        buf_puts(&b, "]}");
        http_reply_json_take(req, 200, &b);
}

static void tags(struct http_request *req)
{
        static const char *const known[] = { "limit", NULL };
        uint64_t limit;
        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 10000, 1000, &limit) < 0)
                return;
        database_query(
                req, on_tags,
                "SELECT tag, count(*) FROM docs.document, unnest(tags) AS tag WHERE tenant = $1 "
                "GROUP BY tag ORDER BY count(*) DESC, tag COLLATE \"C\" LIMIT $2",
                "su", req->principal.tenant, limit);
}

/* ---- one document ---- */

static void on_metadata(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct http_request *req = userdata;
        if (r < 0)
                database_failed(req, r, error);
        else if (PQntuples(results[0]) == 0)
                no_document(req);
        else
                http_reply_json(req, 200, span_of(pg_str(results[0], 0, 0)));
}

static void metadata(struct http_request *req)
{
        const char *id = document_id(req);
        if (!id)
                return;
        database_query(
                req, on_metadata,
                "SELECT docs.document_json(d) FROM docs.document d WHERE tenant = $1 AND id = $2",
                "ss", req->principal.tenant, id);
}

struct patch_body {
        json_t *tags, *description, *metadata;
        char *filename;
};
static const struct json_field patch_fields[] = {
        JSON_FIELD(struct patch_body, tags, JSON_KIND_ARRAY, .min = 0, .max = 10000),
        JSON_FIELD(struct patch_body, description, JSON_KIND_ANY),
        JSON_FIELD(struct patch_body, metadata, JSON_KIND_OBJECT),
        JSON_FIELD(struct patch_body, filename, JSON_KIND_STRING, .min = 1,
                   .max = DOCUMENT_FILENAME_MAX),
};

/* The description may stand in both places if it says the same. */
static int join_description(struct patch_body *b, json_t **ret, struct json_problem *p)
{
        if (!b->metadata && !b->description)
                return 0;
        cleanup_json json_t *joined = b->metadata ? json_copy(b->metadata) : json_object();
        json_t *inner = json_object_get(joined, "description");
        if (b->description && inner && !json_equal(b->description, inner)) {
                *p = (struct json_problem){ .field = "description",
                                            .message =
                                                    "description and metadata.description differ" };
                return -EINVAL;
        }
        if (b->description)
                json_object_set(joined, "description", b->description);
        int r = document_metadata_check(joined, true, p);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(joined);
        return 0;
}

static void on_patched(void *userdata, int r, const void *reply)
{
        document_reply(userdata, 200, r, reply);
}

static void patch(struct http_request *req)
{
        struct patch_body b = { 0 };
        struct json_problem p = { 0 };
        struct document_tags set = { 0 };
        cleanup_json json_t *joined = NULL;
        cleanup_free char *text = NULL;
        const char *names[DOCUMENT_TAGS_MAX], *id = document_id(req);

        if (!id)
                return;
        if (json_read(req->json, patch_fields, ARRAY_LEN(patch_fields), &b, &p) < 0 ||
            (b.tags && document_tags_from_json(&set, b.tags, &p) < 0) ||
            join_description(&b, &joined, &p) < 0) {
                document_problem(req, &p);
                return;
        }
        const char *why = b.filename ? document_filename_problem(b.filename) : NULL;
        if (why) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "filename", "The filename %s.", why);
                return;
        }
        struct document_patch m = {
                .tenant = req->principal.tenant,
                .document_id = id,
                .set_tags = b.tags != NULL,
                .tags = names,
                .n_tags = set.n,
                .filename = b.filename,
        };
        for (size_t i = 0; i < set.n; i++)
                names[i] = set.tags[i];
        if (joined) {
                text = json_text(joined);
                m.metadata = span_of(text);
        }
        (void) documents_call(req, &wire_document_patch, &m,
                              MIN(req->gateway->settings->request_timeout, GATEWAY_ANSWER_USEC),
                              on_patched);
}

static void delete (struct http_request *req)
{
        const char *id = document_id(req);
        if (!id)
                return;
        struct document_delete m = { .tenant = req->principal.tenant, .document_id = id };
        (void) documents_call(req, &wire_document_delete, &m,
                              MIN(req->gateway->settings->request_timeout, GATEWAY_ANSWER_USEC),
                              empty_reply);
}

static void health(struct http_request *req)
{
        char text[128];
        (void) snprintf(text, sizeof(text),
                        "{\"status\":\"healthy\",\"service\":\"%s\",\"version\":\"%s\"}",
                        req->listener == LISTENER_DOCUMENTS ? "documents" : "gateway",
                        BERTH_VERSION);
        http_reply_json(req, 200, span_of(text));
}

static const struct route table[] = {
        { HTTP_GET, "/health", health, .auth = ROUTE_PUBLIC, .listeners = LISTENER_BOTH },
        { HTTP_GET, "/documents", list, .listeners = LISTENER_BOTH },
        { HTTP_GET, "/documents/tags", tags, .listeners = LISTENER_BOTH },
        { HTTP_GET, "/documents/{id}/metadata", metadata, .listeners = LISTENER_BOTH },
        { HTTP_PATCH, "/documents/{id}", patch, .role = ROLE_USER, .body = ROUTE_BODY_JSON,
          .listeners = LISTENER_BOTH },
        { HTTP_DELETE, "/documents/{id}", delete, .role = ROLE_USER, .listeners = LISTENER_BOTH },
};
const struct route_table document_routes = { table, ARRAY_LEN(table) };
