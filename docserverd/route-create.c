/* Turns an upload into a document or a new version of one: seal, hash, claim, publish, store,
 * answer.
 *
 * Every step is asynchronous and ends in put_end, the only place that answers. What died on the way
 * is a blob without a row at most, which the sweep removes. */
#include "docserver.h"

#include "common/base/buf.h"
#include "common/base/media.h"
#include "common/io/log.h"
#include "proto/messages.h"
#include "store-recordings.h"
#include "uploads.h"

#define HASH_SLICE (8 * MIB)

struct put {
        struct docserver *server;
        struct rpc_request *req;
        struct job job;
        struct claim_wait wait;
        bool claimed;

        struct blob_file file;
        uint64_t size;
        bool sealed;
        struct blob_hash *hash;
        struct blob_send *send;
        char checksum[SHA256_HEX];

        bool replace;                /* a new version of document `id`; else a new document */
        struct recording_add *piece; /* or this piece of a recording, its texts are those below */
        char *volume;                /* or file `id` of this volume */
        char *path;                  /* in the volume, or among the session's results */
        char *id, *tenant, *filename, *content_type, *metadata, *session_id, *key, *if_match;
        char fingerprint[SHA256_HEX];
        struct document_tags tags;
        struct store_quota quota;
        struct create create;
        bool changing; /* `change` is under way */
        unsigned change;
};

static struct put *put_free(struct put *p)
{
        if (!p)
                return NULL;
        docserver_drop_file(p->server, &p->file);
        if (p->changing) /* refused */
                docserver_changed(p->server, p->change, -EEXIST);
        if (p->claimed)
                claims_unshare(p->server->claims, p->checksum);
        p->server->puts--;
        blob_hash_free(p->hash);
        blob_send_free(p->send);
        free(p->id);
        free(p->tenant);
        free(p->filename);
        free(p->content_type);
        free(p->metadata);
        free(p->session_id);
        free(p->key);
        free(p->if_match);
        free(p->piece);
        free(p->volume);
        free(p->path);
        free(p);
        return NULL;
}

static void put_end(struct put *p, int r, const char *json)
{
        if (p->changing)
                docserver_changed(p->server, p->change, r);
        p->changing = false;
        if (r == 0) {
                struct document_reply reply = { .document_json = span_of(json) };
                rpc_reply(p->req, &reply);
        } else
                docserver_reply_failure(p->req, r);
        (void) put_free(p);
}

static void put_refuse(struct put *p, enum error_code code, const char *message)
{
        rpc_reply_error(p->req, code, "%s", message);
        (void) put_free(p);
}

/* ---- the row ---- */

static void on_key_found(void *userdata, int r, const char *fingerprint, const char *json)
{
        struct put *p = userdata;
        if (r < 0)
                put_end(p, r == -ENOENT ? -EAGAIN : r, NULL);
        else if (!streq(fingerprint, p->fingerprint))
                put_refuse(p, ERROR_CODE_UNPROCESSABLE,
                           "this Idempotency-Key was used with another document");
        else if (!json)
                put_refuse(p, ERROR_CODE_CONFLICT,
                           "the document that this Idempotency-Key has made was deleted since");
        else
                put_end(p, 0, json);
}

/* Whether it was stored before the connection was lost. */
static void on_looked(void *userdata, int r, const char *json)
{
        put_end(userdata, r < 0 ? -ECONNRESET : 0, json);
}

static void on_stored(void *userdata, int r, const char *json)
{
        struct put *p = userdata;
        int q = r;
        if (r == -EEXIST && p->key)
                q = store_find_key(p->server->pg, p->tenant, p->key, on_key_found, p);
        else if (r == -ECONNRESET && !p->replace)
                q = store_json(p->server->pg, p->tenant, p->id, on_looked, p);
        else {
                put_end(p, r, json);
                return;
        }
        if (q < 0)
                put_end(p, r == -ECONNRESET ? r : q, NULL);
}

static void on_file_stored(void *userdata, int r)
{
        struct put *p = userdata;
        if (r == -EEXIST)
                put_refuse(p, ERROR_CODE_CONFLICT, "the volume has a file with this path already");
        else if (r == -EDQUOT)
                put_refuse(p, ERROR_CODE_TOO_LARGE, "the volume would be larger than is allowed");
        else if (r == -ENOENT)
                put_refuse(p, ERROR_CODE_CONFLICT, "the volume is finished already");
        else if (r < 0)
                put_end(p, r, NULL);
        else {
                rpc_reply(p->req, &(struct volume_added){ .file_id = p->id });
                (void) put_free(p);
        }
}

static struct store_quota quota_of(const struct put *p)
{
        const struct docserver_settings *s = p->server->settings;
        return (struct store_quota){ .bytes_max = s->tenant_bytes_max,
                                     .documents_max = s->tenant_documents_max };
}

static int put_store_file(struct put *p)
{
        const struct docserver_settings *s = p->server->settings;
        const struct store_quota quota = quota_of(p);
        struct store_volume_file file = {
                .quota = &quota,
                .id = p->id,
                .tenant = p->tenant,
                .volume = p->volume,
                .session_id = p->session_id,
                .path = p->path,
                .content_type = p->content_type ? p->content_type : media_type_of(p->path),
                .checksum = p->checksum,
                .size = p->size,
                .files_max = s->volume_files_max,
                .bytes_max = s->volume_max,
        };
        return store_volume_add(p->server->pg, &file, on_file_stored, p);
}

static void on_piece_stored(void *userdata, int r)
{
        struct put *p = userdata;
        if (r < 0) {
                put_end(p, r, NULL);
                return;
        }
        rpc_reply(p->req, &(struct ok_reply){ 0 });
        (void) put_free(p);
}

static void put_change(struct put *p, const char *id)
{
        p->changing = true;
        p->change = changes_begin(p->server->changes, p->tenant, id);
}

static int put_store(struct put *p)
{
        const struct store_quota quota = quota_of(p);
        if (p->piece)
                return store_recording_add(p->server->pg, p->id, p->piece, p->checksum,
                                           p->server->settings->recording_max, on_piece_stored, p);
        if (p->volume)
                return put_store_file(p);
        if (p->replace) {
                put_change(p, p->id);
                struct store_replace replace = {
                        .quota = &quota,
                        .tenant = p->tenant,
                        .id = p->id,
                        .checksum = p->checksum,
                        .size = p->size,
                        .content_type = p->content_type,
                        .if_match = p->if_match,
                };
                return store_replace(p->server->pg, &replace, on_stored, p);
        }
        p->quota = quota;
        struct store_document document = {
                .quota = &p->quota,
                .id = p->id,
                .tenant = p->tenant,
                .filename = p->filename,
                .content_type = p->content_type ? p->content_type : media_type_of(p->filename),
                .checksum = p->checksum,
                .size = p->size,
                .tags = &p->tags,
                .metadata = p->metadata ? p->metadata : "{}",
                .session_id = p->session_id,
                .idempotency_key = p->key,
                .fingerprint = p->fingerprint,
        };
        if (!p->path && !p->key) {
                p->create = (struct create){ .document = document, .fn = on_stored, .userdata = p };
                creates_add(p->server->creates, &p->create);
                return 0;
        }
        if (!p->path)
                return store_create(p->server->pg, &document, on_stored, p);
        put_change(p, NULL); /* of which document is found out on the way */
        return store_keep_result(p->server->pg, &document, p->path, on_stored, p);
}

/* ---- the file ---- */

static int publish_run(struct job *j)
{
        struct put *p = container_of(j, struct put, job);
        struct blob_store *s = p->server->blobs;
        int r = blob_send_step(s, &p->file, p->checksum, p->size, &p->send);
        if (r != 0)
                return r;
        r = blob_publish(s, &p->file, p->checksum);
        /* Once it is in the remote store, this is only a cache. */
        return r < 0 && blob_store_is_remote(s) ? 0 : r;
}

static void publish_done(struct job *j, int r)
{
        struct put *p = container_of(j, struct put, job);
        if (r < 0 && r != -ECANCELED) {
                cleanup_free char *problem = blob_store_problem(p->server->blobs);
                log_errno(LOG_ERR, r, "Publishing blob %s failed%s%s", p->checksum,
                          problem[0] ? "; the object store said: " : "", problem);
                /* Nothing is stored, later it may do. */
                bool remote = r == -EHOSTUNREACH || r == -EACCES || r == -EPROTO;
                r = remote ? -EHOSTUNREACH : r == -ENOSPC || r == -EDQUOT ? -ENOSPC : -EAGAIN;
        }
        if (r == 0)
                r = put_store(p);
        if (r < 0)
                put_end(p, r, NULL);
}

static void put_publish(struct put *p)
{
        p->claimed = true;
        p->job = (struct job){ .run = publish_run, .done = publish_done };
        int r = docserver_submit_store(p->server, &p->job);
        if (r < 0)
                put_end(p, r, NULL);
}

static void on_claimed(struct claim_wait *w)
{
        put_publish(container_of(w, struct put, wait));
}

/* The same key with other bytes or fields is another request. */
static void make_fingerprint(struct put *p)
{
        cleanup_buf struct buf b = BUF_INIT;
        buf_putf(&b, "%s\n%s\n%s\n%s\n", p->checksum, p->filename,
                 p->content_type ? p->content_type : "", p->metadata ? p->metadata : "");
        for (size_t i = 0; i < p->tags.n; i++)
                buf_putf(&b, "%s\n", p->tags.tags[i]);
        sha256_hex(b.data, b.len, p->fingerprint);
}

static int hash_run(struct job *j)
{
        struct put *p = container_of(j, struct put, job);
        if (!p->sealed) {
                int r = blob_seal(p->server->blobs, &p->file, p->size);
                if (r < 0)
                        return r;
                p->sealed = true;
        }
        return blob_hash_step(p->hash, p->file.fd, HASH_SLICE, p->checksum);
}

static void hash_done(struct job *j, int r)
{
        struct put *p = container_of(j, struct put, job);
        if (r == -EBUSY) {
                put_refuse(p, ERROR_CODE_CONFLICT,
                           "the upload's descriptor must be closed by all before it is used");
                return;
        }
        if (r == -EMSGSIZE) {
                put_refuse(p, ERROR_CODE_BAD_REQUEST,
                           "the upload has not the size that was announced");
                return;
        }
        if (r < 0) {
                if (r != -ECANCELED)
                        log_errno(LOG_ERR, r, "Reading an upload failed");
                put_end(p, -EAGAIN, NULL);
                return;
        }
        if (!p->replace && !p->volume && !p->piece)
                make_fingerprint(p);
        p->wait.granted = on_claimed;
        if (claims_share(p->server->claims, p->checksum, &p->wait))
                put_publish(p);
}

static void put_hash(struct put *p)
{
        p->hash = blob_hash_new();
        p->job = (struct job){ .run = hash_run, .done = hash_done };
        int r = docserver_submit(p->server, &p->job);
        if (r < 0)
                put_end(p, r, NULL);
}

/* ---- the requests ---- */

/* NULL: answered. */
static struct put *put_new_file(struct docserver *d, struct rpc_request *req, const char *tenant,
                                struct blob_file file, uint64_t size)
{
        struct put *p = xnew(struct put);
        p->server = d;
        p->req = req;
        p->file = file;
        p->size = size;
        p->tenant = xstrdup(tenant);
        d->puts++;
        if (size > d->settings->upload_max) {
                put_refuse(p, ERROR_CODE_TOO_LARGE,
                           "the document is larger than upload_max allows");
                return NULL;
        }
        return p;
}

/* The upload is used up whatever comes of it. NULL: answered. */
static struct put *put_new(struct docserver *d, struct rpc_request *req, const char *tenant,
                           const char *upload_id, uint64_t size)
{
        struct blob_file file;
        int r = uploads_take(d->uploads, tenant, upload_id, &file);
        if (r < 0) {
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                "the upload is gone; send the document again");
                return NULL;
        }
        return put_new_file(d, req, tenant, file, size);
}

static int check_metadata(struct put *p, struct span text, struct json_problem *problem)
{
        cleanup_json json_t *json = NULL;
        if (!text.data)
                return 0;
        int r = json_parse(text.data, text.len, &json, problem);
        if (r < 0)
                return r;
        r = document_metadata_check(json, false, problem);
        if (r < 0)
                return r;
        p->metadata = json_text(json);
        return 0;
}

static int check_create(struct put *p, const struct document_create *m,
                        struct json_problem *problem)
{
        const char *why = document_filename_problem(m->filename);
        if (why) {
                (void) snprintf(problem->message, sizeof(problem->message), "filename %s", why);
                return -EINVAL;
        }
        why = m->content_type ? document_content_type_problem(m->content_type) : NULL;
        if (why) {
                (void) snprintf(problem->message, sizeof(problem->message), "content_type %s", why);
                return -EINVAL;
        }
        why = m->result_path ? document_path_problem(m->result_path) : NULL;
        if (!why && m->result_path && strempty(m->session_id))
                why = "must belong to a session";
        if (why) {
                (void) snprintf(problem->message, sizeof(problem->message), "result_path %s", why);
                return -EINVAL;
        }
        for (size_t i = 0; i < m->n_tags; i++) {
                int r = document_tags_add(&p->tags, span_of(m->tags[i]), problem);
                if (r < 0)
                        return r;
        }
        return check_metadata(p, m->metadata, problem);
}

int route_document_create(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                          const void *msg)
{
        const struct document_create *m = msg;
        struct json_problem problem = { 0 };
        struct put *p = put_new(userdata, req, m->tenant, m->upload_id, m->size_bytes);
        if (!p)
                return 0;
        if (check_create(p, m, &problem) < 0) {
                put_refuse(p, ERROR_CODE_BAD_REQUEST, problem.message);
                return 0;
        }
        char id[UUID_MAX];
        uuid_make(id);
        p->id = xstrdup(id);
        p->filename = xstrdup(m->filename);
        p->content_type = xstrdup(m->content_type);
        p->session_id = xstrdup(m->session_id);
        p->key = xstrdup(m->idempotency_key);
        p->path = xstrdup(m->result_path);
        put_hash(p);
        return 0;
}

int route_document_replace(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                           const void *msg)
{
        const struct document_replace *m = msg;
        struct put *p = put_new(userdata, req, m->tenant, m->upload_id, m->size_bytes);
        if (!p)
                return 0;
        const char *why = m->content_type ? document_content_type_problem(m->content_type) : NULL;
        if (why) {
                put_refuse(p, ERROR_CODE_BAD_REQUEST,
                           "content_type must be a media type such as text/plain");
                return 0;
        }
        p->replace = true;
        p->id = xstrdup(m->document_id);
        p->content_type = xstrdup(m->content_type);
        p->if_match = xstrdup(m->if_match);
        put_hash(p);
        return 0;
}

void docserver_put_version(struct docserver *d, struct rpc_request *req, const char *tenant,
                           const char *id, const char *if_match, struct blob_file *file,
                           uint64_t size)
{
        struct put *p = put_new_file(d, req, tenant, *file, size);
        *file = BLOB_FILE_INIT;
        if (!p)
                return;
        p->replace = true;
        p->id = xstrdup(id);
        p->if_match = xstrdup(if_match);
        put_hash(p);
}

int route_volume_add(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg)
{
        const struct volume_add *m = msg;
        struct put *p = put_new(userdata, req, m->tenant, m->upload_id, m->size_bytes);
        if (!p)
                return 0;
        const char *why = document_path_problem(m->path);
        if (!why && m->content_type)
                why = document_content_type_problem(m->content_type);
        if (why) {
                put_refuse(p, ERROR_CODE_BAD_REQUEST, "the file's path or type is not allowed");
                return 0;
        }
        char id[UUID_MAX];
        uuid_make(id);
        p->id = xstrdup(id);
        p->volume = xstrdup(m->volume_name);
        p->session_id = xstrdup(m->session_id);
        p->path = xstrdup(m->path);
        p->content_type = xstrdup(m->content_type);
        put_hash(p);
        return 0;
}

int route_recording_add(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg)
{
        const struct recording_add *m = msg;
        struct put *p = put_new(userdata, req, m->tenant, m->upload_id, m->size_bytes);
        if (!p)
                return 0;
        char id[UUID_MAX];
        uuid_make(id);
        p->id = xstrdup(id);
        p->session_id = xstrdup(m->session_id);
        p->piece = xnew(struct recording_add);
        *p->piece = *m;
        p->piece->tenant = p->tenant;
        p->piece->session_id = p->session_id;
        p->piece->upload_id = NULL;
        put_hash(p);
        return 0;
}
