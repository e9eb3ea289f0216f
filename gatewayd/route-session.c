/* /sessions: create, list, show, change, stop, delete. */
#include "gatewayd/content.h"
#include "gatewayd/gateway.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"

#define SESSION_FILES_MAX 100

struct create_body {
        char *session_id, *session_name, *agent_name, *model, *kind, *project_dir;
        char *parent_session_id;
        json_t *message, *budget, *metadata, *files, *network, *slot;
};
#define CREATE(member, kind_, ...) JSON_FIELD(struct create_body, member, kind_, ##__VA_ARGS__)
static const struct json_field create_fields[] = {
        CREATE(session_id, JSON_KIND_STRING, .min = 1, .max = 64),
        CREATE(session_name, JSON_KIND_STRING, .min = 1, .max = 200),
        CREATE(agent_name, JSON_KIND_STRING, .min = 1, .max = 64),
        CREATE(model, JSON_KIND_STRING, .min = 1, .max = 200),
        CREATE(kind, JSON_KIND_STRING, .min = 1, .max = 16),
        CREATE(project_dir, JSON_KIND_STRING, .min = 1, .max = 4096),
        CREATE(parent_session_id, JSON_KIND_STRING, .min = 1, .max = 64),
        CREATE(message, JSON_KIND_ANY),
        CREATE(budget, JSON_KIND_OBJECT),
        CREATE(metadata, JSON_KIND_OBJECT),
        CREATE(files, JSON_KIND_ARRAY, .max = SESSION_FILES_MAX),
        CREATE(network, JSON_KIND_OBJECT),
        CREATE(slot, JSON_KIND_OBJECT),
};

struct slot_body {
        char *image;
        int64_t width, height;
};
static const struct json_field slot_fields[] = {
        JSON_FIELD(struct slot_body, image, JSON_KIND_STRING, .min = 1, .max = 100),
        JSON_FIELD(struct slot_body, width, JSON_KIND_INT, .min = 320, .max = 3840),
        JSON_FIELD(struct slot_body, height, JSON_KIND_INT, .min = 200, .max = 2160),
};

struct file_body {
        char *document_id, *path;
};
static const struct json_field file_fields[] = {
        JSON_FIELD(struct file_body, document_id, JSON_KIND_STRING, .min = 1, .max = 64,
                   .required = true),
        JSON_FIELD(struct file_body, path, JSON_KIND_STRING, .min = 1, .max = 1024,
                   .required = true),
};

static void bad(struct http_request *req, const struct json_problem *p)
{
        http_reply_error(req, ERROR_CODE_BAD_REQUEST, p->field[0] ? p->field : NULL, "%s",
                         p->message);
}

/* 0, or -EINVAL after the request was answered. */
static int read_files(struct http_request *req, const json_t *list, struct session_file *out,
                      size_t *ret_n)
{
        size_t i;
        json_t *item;

        *ret_n = 0;
        json_array_foreach (list, i, item) {
                struct json_problem p = { 0 };
                struct file_body file = { 0 };
                if (!json_is_object(item) ||
                    json_read(item, file_fields, ARRAY_LEN(file_fields), &file, &p) < 0) {
                        http_reply_error(req, ERROR_CODE_BAD_REQUEST, "files",
                                         "file %zu must be {\"document_id\",\"path\"}%s%s", i + 1,
                                         p.message[0] ? ": " : "", p.message);
                        return -EINVAL;
                }
                if (!slot_path_ok(file.path)) {
                        http_reply_error(req, ERROR_CODE_BAD_REQUEST, "files",
                                         "path of file %zu must be relative to the slot's home, "
                                         "without \"..\"",
                                         i + 1);
                        return -EINVAL;
                }
                out[i] =
                        (struct session_file){ .document_id = file.document_id, .path = file.path };
                *ret_n = i + 1;
        }
        return 0;
}

static void on_created(void *userdata, int r, const void *reply)
{
        session_reply(userdata, 201, r, reply);
}

static void on_changed(void *userdata, int r, const void *reply)
{
        session_reply(userdata, 200, r, reply);
}

/* Fields that json_read's table cannot judge. 0, or -EINVAL after the request was answered. */
static int check_create(struct http_request *req, const struct create_body *b, enum slot_kind *kind)
{
        struct json_problem p = { 0 };
        const char *field = NULL, *text = NULL;

        *kind = SLOT_KIND_DESKTOP;
        if (b->kind && slot_kind_parse(b->kind, kind) < 0) {
                field = "kind";
                text = "kind must be desktop, vm, headless or external";
        } else if (b->session_id && *kind != SLOT_KIND_EXTERNAL) {
                field = "session_id";
                text = "session_id may be given only for kind external";
        } else if (b->session_id && !session_id_ok(b->session_id)) {
                field = "session_id";
                text = "session_id may hold letters, digits, - and _";
        } else if (b->parent_session_id && !session_id_ok(b->parent_session_id)) {
                field = "parent_session_id";
                text = "parent_session_id must be the id of a session";
        } else if (b->agent_name && !agent_name_ok(b->agent_name)) {
                field = "agent_name";
                text = "agent_name must be letters and digits, joined by single hyphens";
        } else if ((b->budget && budget_check(b->budget, &p) < 0) ||
                   (b->network && network_check(b->network, &p) < 0)) {
                field = p.field;
                text = p.message;
        }
        if (!field)
                return 0;
        http_reply_error(req, ERROR_CODE_BAD_REQUEST, field, "%s", text);
        return -EINVAL;
}

static void create(struct http_request *req)
{
        struct create_body b = { 0 };
        struct slot_body slot = { 0 };
        struct json_problem p = { 0 };
        struct session_file files[SESSION_FILES_MAX];
        struct session_create m = { .tenant = req->principal.tenant,
                                    .request_digest = req->body_digest };
        cleanup_free char *message = NULL, *budget = NULL, *metadata = NULL, *network = NULL;

        if (http_idempotency_key(req, &m.idempotency_key) < 0)
                return;
        if (req->json && json_read(req->json, create_fields, ARRAY_LEN(create_fields), &b, &p) < 0)
                return bad(req, &p);
        if (b.slot && json_read(b.slot, slot_fields, ARRAY_LEN(slot_fields), &slot, &p) < 0)
                return bad(req, &p);
        if (check_create(req, &b, &m.kind) < 0 || read_files(req, b.files, files, &m.n_files) < 0)
                return;
        if (b.message && !json_is_null(b.message)) {
                cleanup_json json_t *content = content_from_json(b.message, "message", &p);
                if (!content)
                        return bad(req, &p);
                message = json_text(content);
                m.message = span_of(message);
        }
        budget = b.budget ? json_text(b.budget) : NULL;
        metadata = b.metadata ? json_text(b.metadata) : NULL;
        network = b.network ? json_text(b.network) : NULL;
        if (metadata && strlen(metadata) > 65536)
                return http_reply_error(req, ERROR_CODE_TOO_LARGE, "metadata",
                                        "metadata may have 64 KiB");
        m.kind_default = !b.kind;
        m.session_id = b.session_id;
        m.parent_session_id = b.parent_session_id;
        m.session_name = b.session_name;
        m.agent_name = b.agent_name;
        m.model = b.model;
        m.project_dir = b.project_dir;
        m.budget = span_of(budget);
        m.metadata = span_of(metadata);
        m.network = span_of(network);
        m.files = files;
        m.image = slot.image;
        m.has_width = slot.width != 0;
        m.width = (uint32_t) slot.width;
        m.has_height = slot.height != 0;
        m.height = (uint32_t) slot.height;
        coordinator_call(req, &wire_session_create, &m, on_created);
}

struct patch_body {
        char *session_name, *agent_name, *project_dir;
        json_t *metadata, *budget;
};
static const struct json_field patch_fields[] = {
        JSON_FIELD(struct patch_body, session_name, JSON_KIND_STRING, .min = 1, .max = 200),
        JSON_FIELD(struct patch_body, agent_name, JSON_KIND_STRING, .min = 1, .max = 64),
        JSON_FIELD(struct patch_body, project_dir, JSON_KIND_STRING, .min = 1, .max = 4096),
        JSON_FIELD(struct patch_body, metadata, JSON_KIND_OBJECT),
        JSON_FIELD(struct patch_body, budget, JSON_KIND_OBJECT),
};

static void patch(struct http_request *req)
{
        struct patch_body b = { 0 };
        struct json_problem p = { 0 };
        cleanup_free char *metadata = NULL, *budget = NULL;

        if (json_read(req->json, patch_fields, ARRAY_LEN(patch_fields), &b, &p) < 0)
                return bad(req, &p);
        if (b.agent_name && !agent_name_ok(b.agent_name))
                return http_reply_error(
                        req, ERROR_CODE_BAD_REQUEST, "agent_name",
                        "agent_name must be letters and digits, joined by single hyphens");
        metadata = b.metadata ? json_text(b.metadata) : NULL;
        if (metadata && strlen(metadata) > 65536)
                return http_reply_error(req, ERROR_CODE_TOO_LARGE, "metadata",
                                        "metadata may have 64 KiB");
        if (b.budget && budget_check(b.budget, &p) < 0)
                return bad(req, &p);
        budget = b.budget ? json_text(b.budget) : NULL;
        const struct session_patch m = { .tenant = req->principal.tenant,
                                         .session_id = req->params[0],
                                         .session_name = b.session_name,
                                         .agent_name = b.agent_name,
                                         .project_dir = b.project_dir,
                                         .metadata = span_of(metadata),
                                         .budget = span_of(budget) };
        if (!session_id_ok(m.session_id))
                return no_session(req);
        coordinator_call(req, &wire_session_patch, &m, on_changed);
}

static void on_stopped(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        char text[200];

        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        snprintf(text, sizeof(text),
                 "{\"success\":true,\"session_id\":\"%s\",\"message\":\"Session stopped "
                 "successfully\"}",
                 req->params[0]);
        http_reply_json(req, 200, span_of(text));
}

static void stop(struct http_request *req)
{
        struct session_stop m = { .tenant = req->principal.tenant,
                                  .session_id = req->params[0],
                                  .request_digest = req->body_digest };

        if (!session_id_ok(m.session_id))
                return no_session(req);
        if (http_idempotency_key(req, &m.idempotency_key) < 0 || body_has_fields(req))
                return;
        coordinator_call(req, &wire_session_stop, &m, on_stopped);
}

/* The session is gone; what cannot be removed of its volume and recording now goes with retention.
 */
static void on_volume_dropped(void *userdata, int r, const void *reply)
{
        http_reply_empty(userdata, 204);
}

static void on_recording_dropped(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        char name[100];
        const struct volume_drop m = { .tenant = req->principal.tenant, .volume_name = name };

        (void) snprintf(name, sizeof(name), "dataset-volume-%s", req->params[0]);
        if (rpc_call(rpc_client_peer(req->gateway->documents), &wire_volume_drop, &m,
                     USEC_PER_SEC / 2, on_volume_dropped, req) < 0)
                http_reply_empty(req, 204);
}

static void on_deleted(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        struct rpc_link *documents = req->gateway->documents;
        const struct recording_drop m = { .tenant = req->principal.tenant,
                                          .session_id = req->params[0] };

        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        if (!documents || rpc_call(rpc_client_peer(documents), &wire_recording_drop, &m,
                                   USEC_PER_SEC / 2, on_recording_dropped, req) < 0)
                http_reply_empty(req, 204);
}

static void delete (struct http_request *req)
{
        const struct session_delete m = { .tenant = req->principal.tenant,
                                          .session_id = req->params[0] };

        if (!session_id_ok(m.session_id))
                return no_session(req);
        coordinator_call(req, &wire_session_delete, &m, on_deleted);
}

static void on_shown(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_session(req);
        http_reply_json(req, 200, span_of(pg_str(results[0], 0, 0)));
}

static void show(struct http_request *req)
{
        if (!session_id_ok(req->params[0]))
                return no_session(req);
        database_query(req, on_shown,
                       "SELECT core.session_json(s) FROM core.session s WHERE session_id = $1 AND "
                       "tenant = $2",
                       "ss", req->params[0], req->principal.tenant);
}

/* ---- the list ---- */

/* Each sort order with the column it walks; the id breaks ties. Times descend, names ascend. $7 and
 * $8 are the key and id of the last row of the page before, $9 the limit. A page is held to 8 MiB,
 * as metadata may be large; its first row is always there. -> json, the cursor's key, id, how many
 * rows there were before that cut. */
#define LIST_SQL(name, key, shown, type, order, compare)                                           \
        "SELECT json, '" name ":' || shown, session_id, found FROM (SELECT *, count(*) OVER () "   \
        "AS found, sum(octet_length(json)) OVER (ORDER BY key " order ", session_id " order        \
        ") - octet_length(json) AS before FROM (SELECT core.session_json(s) AS json, " key         \
        " AS key, " shown " AS shown, session_id FROM core.session s WHERE tenant = $1 "           \
        "AND ($2::text[] IS NULL OR status = ANY($2::text[])) "                                    \
        "AND ($3::text IS NULL OR agent_name = $3) AND ($4::text IS NULL OR kind = $4) "           \
        "AND ($10::text IS NULL OR parent_session_id = $10) "                                      \
        "AND ($5::text IS NULL OR session_name ILIKE $5 OR session_id LIKE $6) "                   \
        "AND ($7::text IS NULL OR (" key ", session_id) " compare " ($7::" type ", $8)) "          \
        "ORDER BY " key " " order ", session_id " order " LIMIT $9) AS page) AS sized "            \
        "WHERE before < 8388608 ORDER BY key " order ", session_id " order
#define LIST_BY_TIME(key)                                                                          \
        LIST_SQL(key, key, "core.timestamp_text(" key ")", "timestamptz", "DESC", "<")
#define NAME_KEY "COALESCE(session_name, '')"
static const struct {
        const char *name, *sql;
} sorts[] = {
        { "created_at", LIST_BY_TIME("created_at") },
        { "modified_at", LIST_BY_TIME("modified_at") },
        { "name", LIST_SQL("name", NAME_KEY, NAME_KEY, "text", "ASC", ">") },
};

/* The key of a cursor without the name of its order; -EINVAL after a reply: it is of another one.
 */
static int cursor_of(struct http_request *req, const char *sort, const char **key)
{
        size_t n = strlen(sort);

        if (!*key)
                return 0;
        if (!str_starts(*key, sort) || (*key)[n] != ':') {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "cursor",
                                 "cursor is of a list in another order");
                return -EINVAL;
        }
        *key += n + 1;
        return 0;
}

static void on_listed(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        list_reply(req, results[0], "sessions", (uintptr_t) req->userdata);
}

/* status=a,b -> {a,b}; every word must be a state. NULL when absent, -EINVAL after a reply. */
static int status_filter(struct http_request *req, char **ret)
{
        const char *text = http_query(req, "status");
        cleanup_free char *words = NULL;
        cleanup_buf struct buf b = BUF_INIT;
        char *save = NULL;

        if (!text)
                return 0;
        words = xstrdup(text);
        for (char *w = strtok_r(words, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
                enum session_state state;
                if (session_state_parse(w, &state) < 0) {
                        http_reply_error(
                                req, ERROR_CODE_BAD_REQUEST, "status",
                                "status knows queued, starting, running, idle, waiting, paused, "
                                "finished, stopped and failed");
                        return -EINVAL;
                }
                buf_putf(&b, "%s%s", b.len ? "," : "{", w);
        }
        if (b.len == 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "status",
                                 "status must name at least one state");
                return -EINVAL;
        }
        buf_puts(&b, "}");
        *ret = buf_take(&b, NULL);
        return 0;
}

static void list(struct http_request *req)
{
        static const char *const known[] = { "status", "agent_name", "kind",   "parent", "q",
                                             "sort",   "limit",      "cursor", NULL };
        const char *sort = http_query(req, "sort"), *kind = http_query(req, "kind"),
                   *q = http_query(req, "q");
        cleanup_free char *states = NULL, *like = NULL, *prefix = NULL, *key = NULL, *id = NULL;
        const char *parent = http_query(req, "parent"), *after;
        enum slot_kind parsed;
        uint64_t limit;
        size_t i;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            status_filter(req, &states) < 0 || cursor_read(req, &key, &id) < 0)
                return;
        for (i = 0; i < ARRAY_LEN(sorts) && sort && !streq(sort, sorts[i].name); i++)
                ;
        if (i == ARRAY_LEN(sorts))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "sort",
                                        "sort must be created_at, modified_at or name");
        after = key;
        if (cursor_of(req, sorts[i].name, &after) < 0)
                return;
        if (kind && slot_kind_parse(kind, &parsed) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "kind",
                                        "kind must be desktop, vm, headless or external");
        if (parent && !session_id_ok(parent))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "parent",
                                        "parent must be the id of a session");
        if (q && (strlen(q) > 200 || !utf8_valid(q, strlen(q))))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "q",
                                        "q may have 200 characters");
        if (q && *q) {
                like = like_pattern(q, true);
                prefix = like_pattern(q, false);
        }
        req->userdata = (void *) (uintptr_t) limit; /* for on_listed */
        database_query(req, on_listed, sorts[i].sql, "ssssssssus", req->principal.tenant, states,
                       http_query(req, "agent_name"), kind, like, prefix, after, id, limit, parent);
}

static const struct route table[] = {
        { HTTP_POST, "/sessions", create, .role = ROLE_USER, .body = ROUTE_BODY_JSON_OPTIONAL },
        { HTTP_GET, "/sessions", list },
        { HTTP_GET, "/sessions/{id}", show },
        { HTTP_DELETE, "/sessions/{id}", delete, .role = ROLE_USER },
        { HTTP_PATCH, "/sessions/{id}/metadata", patch, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON },
        { HTTP_POST, "/sessions/{id}/stop", stop, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON_OPTIONAL },
};
const struct route_table session_routes = { table, ARRAY_LEN(table) };
