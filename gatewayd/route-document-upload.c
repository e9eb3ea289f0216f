/* POST /documents (a form) and PUT /documents/{id}/content (bare bytes): streamed to docserverd's
 * file. */
#include "common/base/media.h"
#include "gatewayd/conditional.h"
#include "gatewayd/documents.h"
#include "gatewayd/multipart.h"
#include "gatewayd/upload.h"

#define PARTS_MAX 64u

enum form_field {
        FIELD_NONE,
        FIELD_FILE,
        FIELD_TAGS,
        FIELD_METADATA,
        FORM_FIELD_MAX,
};

struct post {
        struct http_request *req;
        struct multipart *form; /* NULL: bare bytes */
        struct upload *upload;
        const char *key;      /* Idempotency-Key, lives as long as the request */
        const char *if_match; /* PUT: checksum, or NULL */
        char if_match_text[DOCUMENT_TAG_MAX + 1];

        enum form_field field; /* the part that is being read */
        struct buf text;       /* of a part that is not the file */
        bool file_seen, metadata_seen;
        char *filename, *content_type, *metadata;
        struct document_tags tags;

        /* What a callback of the parser refused, answered by whoever fed the parser. */
        int write_error;
        enum error_code code;
        struct json_problem problem;
};

static struct post *post_free(struct post *p)
{
        if (!p)
                return NULL;
        multipart_free(p->form);
        upload_free(p->upload);
        buf_done(&p->text);
        free(p->filename);
        free(p->content_type);
        free(p->metadata);
        free(p);
        return NULL;
}

/* ---- the form ---- */

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
        return -ECANCELED;
}

static int begin_file(struct post *p, const struct multipart_part *part)
{
        const char *type = part->content_type;
        if (p->file_seen)
                return refuse(p, ERROR_CODE_BAD_REQUEST, "file",
                              "The form may hold one file only.");
        if (strempty(part->filename))
                return refuse(p, ERROR_CODE_BAD_REQUEST, "file",
                              "The part file must be a file with a filename.");
        const char *why = document_filename_problem(part->filename);
        if (why)
                return refuse(p, ERROR_CODE_BAD_REQUEST, "filename", "The filename %s.", why);
        if (!type)
                type = media_type_of(part->filename);
        why = document_content_type_problem(type);
        if (why)
                return refuse(p, ERROR_CODE_BAD_REQUEST, "content_type",
                              "The file's Content-Type %s.", why);
        p->file_seen = true;
        p->filename = xstrdup(part->filename);
        p->content_type = xstrdup(type);
        p->field = FIELD_FILE;
        return 0;
}

static int on_part(void *userdata, const struct multipart_part *part)
{
        struct post *p = userdata;
        buf_clear(&p->text);
        if (streq(part->name, "file"))
                return begin_file(p, part);
        if (streq(part->name, "tags")) {
                p->field = FIELD_TAGS;
                return 0;
        }
        if (!streq(part->name, "metadata"))
                return refuse(p, ERROR_CODE_BAD_REQUEST, part->name,
                              "The form has an unknown field; known are file, tags and metadata.");
        if (p->metadata_seen)
                return refuse(p, ERROR_CODE_BAD_REQUEST, "metadata", "metadata is given twice.");
        p->metadata_seen = true;
        p->field = FIELD_METADATA;
        return 0;
}

/* Pauses the body while what was written before waits for the disk. */
static int write_file(struct post *p, struct span data)
{
        int r = upload_write(p->upload, data);
        if (r == 1)
                http_body_pause(p->req);
        else if (r < 0)
                p->write_error = r;
        return MIN(r, 0);
}

static int on_part_data(void *userdata, struct span data)
{
        struct post *p = userdata;
        if (p->field == FIELD_FILE)
                return write_file(p, data);
        if (buf_append(&p->text, data.data, data.len) < 0)
                return refuse(p, ERROR_CODE_TOO_LARGE, p->field == FIELD_TAGS ? "tags" : "metadata",
                              "A field of the form is larger than %" PRIu64 " bytes.",
                              DOCUMENT_METADATA_MAX);
        return 0;
}

static int end_metadata(struct post *p)
{
        cleanup_json json_t *json = NULL;
        struct json_problem problem = { 0 };
        struct span text = { p->text.len ? buf_head(&p->text) : "", buf_pending(&p->text) };
        if (json_parse(text.data, text.len, &json, &problem) < 0)
                return refuse(p, ERROR_CODE_BAD_REQUEST, "metadata",
                              "metadata is not valid JSON: %.150s", problem.message);
        if (document_metadata_check(json, false, &problem) < 0)
                return refuse(p, ERROR_CODE_BAD_REQUEST, problem.field, "%s", problem.message);
        p->metadata = json_text(json);
        if (strlen(p->metadata) > DOCUMENT_METADATA_MAX)
                return refuse(p, ERROR_CODE_TOO_LARGE, "metadata", "metadata is too large.");
        return 0;
}

static int on_part_end(void *userdata)
{
        struct post *p = userdata;
        struct span text = { p->text.len ? buf_head(&p->text) : "", buf_pending(&p->text) };
        enum form_field field = p->field;
        struct json_problem problem = { 0 };
        p->field = FIELD_NONE;
        if (field == FIELD_METADATA)
                return end_metadata(p);
        if (field == FIELD_TAGS && document_tags_parse(&p->tags, text, &problem) < 0)
                return refuse(p, ERROR_CODE_BAD_REQUEST, "tags", "%s", problem.message);
        return 0;
}

/* ---- from the body's bytes to docserverd's answer ---- */

/* Ends the post; r is what feeding it gave. */
static void post_fail(struct post *p, int r)
{
        struct http_request *req = p->req;
        if (p->write_error < 0)
                upload_reply_error(req, p->write_error);
        else if (p->problem.message[0])
                http_reply_error(req, p->code, p->problem.field, "%s", p->problem.message);
        else
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL, "The form is malformed: %s.",
                                 p->form ? multipart_problem(p->form) : strerrordesc_np(-r));
        (void) post_free(p);
}

static void on_data(struct http_request *req, struct span data)
{
        struct post *p = req->userdata;
        int r = p->form ? multipart_feed(p->form, data) : write_file(p, data);
        if (r < 0)
                post_fail(p, r);
}

static void on_created(void *userdata, int r, const void *reply)
{
        document_reply(userdata, 201, r, reply);
}

static void on_replaced(void *userdata, int r, const void *reply)
{
        document_reply(userdata, 200, r, reply);
}

static bool send_create(struct post *p)
{
        const char *names[DOCUMENT_TAGS_MAX];
        struct document_create m = {
                .tenant = p->req->principal.tenant,
                .idempotency_key = p->key,
                .upload_id = upload_id(p->upload),
                .size_bytes = upload_size(p->upload),
                .filename = p->filename,
                .content_type = p->content_type,
                .tags = names,
                .n_tags = p->tags.n,
                .metadata = span_of(p->metadata),
        };
        for (size_t i = 0; i < p->tags.n; i++)
                names[i] = p->tags.tags[i];
        return documents_call(p->req, &wire_document_create, &m, upload_timeout(p->upload),
                              on_created);
}

static bool send_replace(struct post *p)
{
        struct document_replace m = {
                .tenant = p->req->principal.tenant,
                .document_id = p->req->params[0],
                .upload_id = upload_id(p->upload),
                .size_bytes = upload_size(p->upload),
                .content_type = p->content_type,
                .if_match = p->if_match,
        };
        return documents_call(p->req, &wire_document_replace, &m, upload_timeout(p->upload),
                              on_replaced);
}

static void on_end(struct http_request *req, int r)
{
        struct post *p = req->userdata;
        if (r < 0) {
                (void) post_free(p);
                http_reply_body_error(req, r);
                return;
        }
        if (p->form && (r = multipart_finish(p->form)) == 0 && !p->file_seen)
                r = refuse(p, ERROR_CODE_BAD_REQUEST, "file", "The form has no part named file.");
        if (r < 0) {
                post_fail(p, r);
                return;
        }
        upload_close(p->upload);
}

static void on_upload_ready(void *userdata, int r, const void *reply)
{
        struct post *p = userdata;
        struct http_request *req = p->req;
        if (r < 0) {
                (void) post_free(p);
                http_reply_rpc_error(req, r, reply);
                return;
        }
        http_body_resume(req);
}

static void on_upload_room(void *userdata)
{
        struct post *p = userdata;
        http_body_resume(p->req);
}

static void on_upload_failed(void *userdata, int r)
{
        struct post *p = userdata;
        p->write_error = r;
        post_fail(p, r);
}

static void on_upload_closed(void *userdata)
{
        struct post *p = userdata;
        if (p->form ? send_create(p) : send_replace(p))
                upload_used(p->upload);
        (void) post_free(p);
}

/* Opens the upload; the body waits until it is there. */
static void post_start(struct post *p, uint64_t size_hint)
{
        struct http_request *req = p->req;
        const struct upload_events events = {
                .ready = on_upload_ready,
                .room = on_upload_room,
                .failed = on_upload_failed,
                .closed = on_upload_closed,
                .userdata = p,
        };
        req->userdata = p;
        req->on_data = on_data;
        req->on_end = on_end;
        http_body_pause(req);
        if (upload_new(req->gateway, req->principal.tenant, size_hint, &events, &p->upload) < 0) {
                (void) post_free(p);
                http_reply_busy(req, "document service");
        }
}

static struct post *post_new(struct http_request *req)
{
        struct post *p = xnew(struct post);
        p->req = req;
        p->text = BUF_LIMIT(DOCUMENT_METADATA_MAX);
        return p;
}

static void post(struct http_request *req)
{
        char boundary[MULTIPART_BOUNDARY_MAX + 1];
        const char *key;

        if (upload_form(req, "the document as multipart/form-data with a part named file", &key,
                        boundary) < 0)
                return;
        struct post *p = post_new(req);
        struct multipart_config config = {
                .boundary = boundary,
                .parts_max = PARTS_MAX,
                .on_part = on_part,
                .on_data = on_part_data,
                .on_part_end = on_part_end,
                .userdata = p,
        };
        p->key = key;
        p->form = multipart_new(&config);
        post_start(p, 0);
}

/* -EINVAL: answered. */
static int read_if_match(struct post *p)
{
        struct http_request *req = p->req;
        int r = etag_single(http_header(req, "if-match"), p->if_match_text,
                            sizeof(p->if_match_text));
        if (r == -EINVAL)
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "If-Match",
                                 "If-Match must be the ETag of the version to replace, or *.");
        else if (r < 0)
                http_reply_error(req, ERROR_CODE_PRECONDITION_FAILED, "If-Match",
                                 "If-Match must be one strong ETag.");
        if (r == 1)
                p->if_match = p->if_match_text;
        return r < 0 ? -EINVAL : 0;
}

static void put(struct http_request *req)
{
        static const char *const known[] = { NULL };
        const char *type = http_header(req, "content-type"), *why;

        if (!document_id(req) || http_query_only(req, known) < 0)
                return;
        if (type && (why = document_content_type_problem(type))) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "Content-Type", "Content-Type %s.",
                                 why);
                return;
        }
        struct post *p = post_new(req);
        if (read_if_match(p) < 0) {
                (void) post_free(p);
                return;
        }
        p->content_type = xstrdup(type);
        post_start(p, req->content_length == UINT64_MAX ? 0 : req->content_length);
}

static const struct route table[] = {
        { HTTP_POST, "/documents", post, .role = ROLE_USER, .body = ROUTE_BODY_STREAM,
          .listeners = LISTENER_BOTH },
        { HTTP_PUT, "/documents/{id}/content", put, .role = ROLE_USER, .body = ROUTE_BODY_STREAM,
          .listeners = LISTENER_BOTH },
};
const struct route_table document_upload_routes = { table, ARRAY_LEN(table) };
