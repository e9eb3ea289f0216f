/* POST /upload: a folder becomes a volume, and a session starts to work on it. */
#include <openssl/evp.h>
#include <time.h>

#include "gatewayd/content.h"
#include "gatewayd/dataset.h"
#include "gatewayd/multipart.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"
#include "gatewayd/upload.h"

#define CONTEXT_MAX (64 * KIB)
#define PATH_TEXT_MAX 512u
#define PARTS_MAX (2 * DATASET_FILES_MAX + 16)
#define SLOT_FOLDER "/data/"

enum form_field {
        FIELD_FILE,
        FIELD_PATH,
        FIELD_CONTEXT,
        FIELD_NAME,
        FIELD_AGENT,
        FIELD_MODEL,
        FIELD_KIND,
        FORM_FIELD_MAX,
};
static const struct {
        const char *name, *other;
        size_t max; /* bytes of its text */
} fields[FORM_FIELD_MAX] = {
        [FIELD_FILE] = { "files[]", "files", 0 },
        [FIELD_PATH] = { "paths[]", "paths", PATH_TEXT_MAX },
        [FIELD_CONTEXT] = { "experiment_context", NULL, CONTEXT_MAX },
        [FIELD_NAME] = { "session_name", NULL, 200 },
        [FIELD_AGENT] = { "agent_name", NULL, 64 },
        [FIELD_MODEL] = { "model", NULL, 200 },
        [FIELD_KIND] = { "kind", NULL, 16 },
};

struct post {
        struct http_request *req;
        struct multipart *form;
        struct dataset *set;
        char session_id[32], volume_name[64];
        /* Idempotency-Key in the coordinator's own scope of sessions, and what it stands for: names
         * and bytes of the parts, without the form's boundary, which differs each time. */
        char key[sizeof("upload/") + SHA256_HEX], digest[SHA256_HEX];
        EVP_MD_CTX *hash; /* NULL without a key */

        enum form_field field; /* of the part that is being read */
        uint64_t part_bytes;
        struct buf text;
        char *texts[FORM_FIELD_MAX];
        char *paths[DATASET_FILES_MAX];
        size_t n_paths;
        struct json_problem
                problem; /* what this file refuses; else it is the dataset's or parser's */
        enum error_code code;
};

static void post_free(struct post *p)
{
        multipart_free(p->form);
        (void) dataset_free(p->set);
        buf_done(&p->text);
        EVP_MD_CTX_free(p->hash);
        for (size_t i = 0; i < FORM_FIELD_MAX; i++)
                free(p->texts[i]);
        for (size_t i = 0; i < p->n_paths; i++)
                free(p->paths[i]);
        free(p);
}

static int refuse(struct post *p, enum error_code code, const char *field, const char *fmt, ...)
        printf_like(4, 5);
static int refuse(struct post *p, enum error_code code, const char *field, const char *fmt, ...)
{
        va_list ap;
        p->code = code;
        (void) snprintf(p->problem.field, sizeof(p->problem.field), "%s", field);
        va_start(ap, fmt);
        (void) vsnprintf(p->problem.message, sizeof(p->problem.message), fmt, ap);
        va_end(ap);
        return -EINVAL;
}

/* ---- the Idempotency-Key ---- */

static void hash_data(struct post *p, const char *data, size_t n)
{
        if (p->hash && EVP_DigestUpdate(p->hash, data, n) != 1)
                abort(); /* SHA-256 in memory does not fail */
}

/* With the end of each text: no two forms give the same bytes. */
static void hash_text(struct post *p, const char *text)
{
        hash_data(p, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void hash_begin(struct post *p, const char *key)
{
        char name[SHA256_HEX];
        if (!key)
                return;
        sha256_hex(key, strlen(key), name);
        (void) snprintf(p->key, sizeof(p->key), "upload/%s", name);
        p->hash = EVP_MD_CTX_new();
        if (!p->hash || EVP_DigestInit_ex(p->hash, EVP_sha256(), NULL) != 1)
                abort();
}

static void hash_end(struct post *p)
{
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned n = 0;
        if (!p->hash)
                return;
        if (EVP_DigestFinal_ex(p->hash, digest, &n) != 1)
                abort();
        hex_encode(digest, n, p->digest);
}

/* ---- the form ---- */

static int begin_file(struct post *p, const struct multipart_part *part)
{
        size_t i = dataset_count(p->set);
        if (!part->filename)
                return refuse(p, ERROR_CODE_BAD_REQUEST, "files",
                              "The part %.100s must be a file with a filename.", part->name);
        return dataset_begin_file(p->set, i < p->n_paths ? p->paths[i] : part->filename,
                                  part->content_type);
}

static int on_part(void *userdata, const struct multipart_part *part)
{
        struct post *p = userdata;
        buf_clear(&p->text);
        p->part_bytes = 0;
        hash_text(p, part->name);
        hash_text(p, part->filename);
        hash_text(p, part->content_type);
        for (p->field = 0; p->field < FORM_FIELD_MAX; p->field++)
                if (streq(part->name, fields[p->field].name) ||
                    (fields[p->field].other && streq(part->name, fields[p->field].other)))
                        break;
        if (p->field == FORM_FIELD_MAX)
                return refuse(p, ERROR_CODE_BAD_REQUEST, part->name,
                              "The form has an unknown field; known are files[], paths[], "
                              "experiment_context, session_name, agent_name, model and kind.");
        if (p->field == FIELD_FILE)
                return begin_file(p, part);
        if (p->texts[p->field])
                return refuse(p, ERROR_CODE_BAD_REQUEST, part->name, "%.100s is given twice.",
                              part->name);
        if (p->field == FIELD_PATH && p->n_paths == DATASET_FILES_MAX)
                return refuse(p, ERROR_CODE_TOO_LARGE, "paths", "An upload may have %u files.",
                              DATASET_FILES_MAX);
        if (p->field == FIELD_PATH && p->n_paths < dataset_count(p->set))
                return refuse(p, ERROR_CODE_BAD_REQUEST, "paths",
                              "Each paths[] must come before the file it belongs to.");
        return 0;
}

static int on_part_data(void *userdata, struct span data)
{
        struct post *p = userdata;
        hash_data(p, data.data, data.len);
        p->part_bytes += data.len;
        if (p->field == FIELD_FILE)
                return dataset_write(p->set, data);
        if (buf_pending(&p->text) + data.len > fields[p->field].max)
                return refuse(p, ERROR_CODE_TOO_LARGE, fields[p->field].name,
                              "%s may have %zu bytes.", fields[p->field].name,
                              fields[p->field].max);
        buf_put(&p->text, data.data, data.len);
        return 0;
}

static int on_part_end(void *userdata)
{
        struct post *p = userdata;
        const char *name = fields[p->field].name;
        char size[24];
        (void) snprintf(size, sizeof(size), "%" PRIu64, p->part_bytes);
        hash_text(p, "");
        hash_text(p, size);
        if (p->field == FIELD_FILE)
                return dataset_end_file(p->set);
        struct span text = { buf_head(&p->text), buf_pending(&p->text) };
        if (!utf8_valid(text.data, text.len) || memchr(text.data, '\0', text.len))
                return refuse(p, ERROR_CODE_BAD_REQUEST, name, "%s must be text in UTF-8.", name);
        if (text.len == 0 && p->field != FIELD_PATH)
                return 0; /* as if it were not there */
        char *copy = xstrndup(text.data, text.len);
        if (p->field == FIELD_PATH)
                p->paths[p->n_paths++] = copy;
        else
                p->texts[p->field] = copy;
        return 0;
}

/* ---- the end ---- */

static void post_fail(struct post *p)
{
        if (p->problem.message[0])
                http_reply_error(p->req, p->code, p->problem.field, "%s", p->problem.message);
        else if (multipart_problem(p->form)[0])
                http_reply_error(p->req, ERROR_CODE_BAD_REQUEST, NULL, "The form is malformed: %s.",
                                 multipart_problem(p->form));
        else
                dataset_reply_error(p->set, p->req);
        post_free(p);
}

static int name_first(struct post *p, struct span session)
{
        struct json_problem problem;
        cleanup_json json_t *object = NULL;
        if (json_parse(session.data, session.len, &object, &problem) < 0)
                return -EPROTO;
        const char *id = json_string_value(json_object_get(object, "session_id"));
        if (!id || strlen(id) >= sizeof(p->session_id))
                return -EPROTO;
        (void) snprintf(p->session_id, sizeof(p->session_id), "%s", id);
        (void) snprintf(p->volume_name, sizeof(p->volume_name), "dataset-volume-%s", id);
        return 0;
}

static void on_session(void *userdata, int r, const void *reply)
{
        struct post *p = userdata;
        const struct session_reply *answer = reply;
        char text[300];

        /* Without an answer the session may be there: then its volume must be, too. The same upload
         * again starts nothing: it is told what the first one has started. */
        if (r != -EREMOTEIO && !(r == 0 && answer->replayed))
                dataset_keep(p->set);
        if (r == 0 && answer->replayed)
                r = name_first(p, answer->session_json);
        if (r < 0)
                http_reply_rpc_error(p->req, r, reply);
        else {
                snprintf(text, sizeof(text),
                         "{\"status\":\"processing_started\",\"session_id\":\"%s\","
                         "\"volume_name\":\"%s\",\"file_count\":%zu}",
                         p->session_id, p->volume_name, dataset_count(p->set));
                http_reply_json(p->req, 202, span_of(text));
        }
        post_free(p);
}

/* Where the agent and whoever helps it reach this API. */
static char *endpoint_url(const struct gateway *g)
{
        const char *url = g->settings->public_url, *listen = g->settings->listen;
        if (!strempty(url))
                return xstrdup(url);
        return listen[0] == '/' ? xstrdup("http://localhost") : xasprintf("http://%s", listen);
}

static char *make_message(const struct post *p, const char *endpoint)
{
        const char *context = p->texts[FIELD_CONTEXT];
        cleanup_free char *text = xasprintf(
                "%s%sThe data set to work with is in /data (%zu files, folders kept, read-only). "
                "Put what you produce into /results: what is there when you are done is kept and "
                "comes with the download of this run; so does what you store with the tool "
                "document_put.\n\nsession_id: %s\nvolume_name: %s\nendpoint_url: %s",
                context ? context : "", strempty(context) ? "" : "\n\n", dataset_count(p->set),
                p->session_id, p->volume_name, endpoint);
        cleanup_json json_t *content = json_pack("[{s:s,s:s}]", "type", "text", "text", text);
        return json_text(content);
}

static void start_session(struct post *p)
{
        struct gateway *g = p->req->gateway;
        size_t n = dataset_count(p->set);
        hash_end(p);
        cleanup_free struct session_file *files = xnewn(struct session_file, n);
        char **paths = xnewn(char *, n);
        cleanup_free char *endpoint = endpoint_url(g), *message = make_message(p, endpoint);
        cleanup_json json_t *about =
                json_pack("{s:s,s:s,s:s}", "session_id", p->session_id, "volume_name",
                          p->volume_name, "endpoint_url", endpoint);
        cleanup_free char *metadata = json_text(about);
        struct session_create m = { .tenant = p->req->principal.tenant,
                                    .request_digest = p->digest,
                                    .idempotency_key = p->hash ? p->key : NULL,
                                    .session_id = p->session_id,
                                    .session_name = p->texts[FIELD_NAME],
                                    .agent_name = p->texts[FIELD_AGENT],
                                    .model = p->texts[FIELD_MODEL],
                                    .kind = SLOT_KIND_HEADLESS,
                                    .kind_default = !p->texts[FIELD_KIND],
                                    .message = span_of(message),
                                    .metadata = span_of(metadata),
                                    .files = files,
                                    .n_files = n };
        if (p->texts[FIELD_KIND] && slot_kind_parse(p->texts[FIELD_KIND], &m.kind) < 0)
                m.kind = SLOT_KIND_HEADLESS; /* cannot be: it was checked */
        for (size_t i = 0; i < n; i++) {
                const char *path;
                dataset_file(p->set, i, &files[i].document_id, &path);
                files[i].path = paths[i] = xasprintf(SLOT_FOLDER "%s", path);
        }
        TRACE_SCOPE(http_request_trace(p->req));
        int r = rpc_call(rpc_client_peer(g->coordinator), &wire_session_create, &m,
                         g->settings->request_timeout, on_session, p);
        for (size_t i = 0; i < n; i++)
                free(paths[i]);
        free(paths);
        if (r >= 0)
                return;
        if (r == -EINVAL || r == -EILSEQ || r == -EMSGSIZE)
                http_reply_error(p->req, ERROR_CODE_BAD_REQUEST, NULL,
                                 "A field of the form is not allowed or too long.");
        else
                http_reply_busy(p->req, "coordinator");
        post_free(p);
}

static int check_fields(struct post *p)
{
        enum slot_kind kind;
        const char *name = p->texts[FIELD_KIND];
        if (dataset_count(p->set) == 0)
                return refuse(p, ERROR_CODE_BAD_REQUEST, "files", "The form has no files[].");
        if (p->n_paths > dataset_count(p->set))
                return refuse(p, ERROR_CODE_BAD_REQUEST, "paths",
                              "There are more paths[] than files[].");
        if (name && (slot_kind_parse(name, &kind) < 0 || kind == SLOT_KIND_EXTERNAL))
                return refuse(p, ERROR_CODE_BAD_REQUEST, "kind",
                              "kind must be headless or desktop.");
        if (p->texts[FIELD_AGENT] && !agent_name_ok(p->texts[FIELD_AGENT]))
                return refuse(p, ERROR_CODE_BAD_REQUEST, "agent_name",
                              "agent_name must be letters and digits, joined by single hyphens.");
        return 0;
}

/* ---- events ---- */

static void on_data(struct http_request *req, struct span data)
{
        struct post *p = req->userdata;
        if (multipart_feed(p->form, data) < 0)
                post_fail(p);
        else if (dataset_full(p->set))
                http_body_pause(req);
}

static void on_end(struct http_request *req, int r)
{
        struct post *p = req->userdata;
        if (r < 0) {
                post_free(p);
                http_reply_body_error(req, r);
        } else if (multipart_finish(p->form) < 0 || check_fields(p) < 0 ||
                   dataset_finish(p->set) < 0)
                post_fail(p);
}

static void on_room(void *userdata)
{
        struct post *p = userdata;
        http_body_resume(p->req);
}

static void on_failed(void *userdata)
{
        post_fail(userdata);
}

static void on_done(void *userdata)
{
        start_session(userdata);
}

/* UTC time and 8 hex digits. */
static void make_id(char ret[static 32])
{
        unsigned char random[4];
        time_t now = (time_t) (now_realtime() / USEC_PER_SEC);
        struct tm tm = { 0 };

        random_bytes(random, sizeof(random));
        (void) gmtime_r(&now, &tm);
        (void) strftime(ret, 15, "%Y%m%d%H%M%S", &tm);
        hex_encode(random, sizeof(random), ret + strlen(ret));
}

static void post(struct http_request *req)
{
        char boundary[MULTIPART_BOUNDARY_MAX + 1];
        const char *key = NULL;

        if (upload_form(req, "the files as multipart/form-data with parts named files[]", &key,
                        boundary) < 0)
                return;
        struct post *p = xnew(struct post);
        const struct multipart_config config = { .boundary = boundary,
                                                 .parts_max = PARTS_MAX,
                                                 .on_part = on_part,
                                                 .on_data = on_part_data,
                                                 .on_part_end = on_part_end,
                                                 .userdata = p };
        const struct dataset_events events = {
                .room = on_room, .failed = on_failed, .done = on_done, .userdata = p
        };
        make_id(p->session_id);
        snprintf(p->volume_name, sizeof(p->volume_name), "dataset-volume-%s", p->session_id);
        p->req = req;
        hash_begin(p, key);
        p->form = multipart_new(&config);
        p->set = dataset_new(req->gateway, req->principal.tenant, p->session_id, p->volume_name,
                             &events);
        req->userdata = p;
        req->on_data = on_data;
        req->on_end = on_end;
}

static const struct route table[] = {
        { HTTP_POST, "/upload", post, .role = ROLE_USER, .body = ROUTE_BODY_STREAM },
};
const struct route_table upload_routes = { table, ARRAY_LEN(table) };
