/* The descriptor socket: files to write uploads into, and documents' bytes to read. */
#include "docserver.h"

#include "common/io/log.h"
#include "fetches.h"
#include "lookups.h"
#include "proto/messages.h"
#include "store.h"
#include "uploads.h"

/* A remote store that does not answer is given up well within this. */
#define REMOTE_PATIENCE (10 * USEC_PER_SEC)

/* ---- upload_begin ---- */

struct begin {
        struct job job;
        struct docserver *server;
        struct fdlink_request *req;
        struct upload *upload;
        struct blob_file file;
};

static int begin_run(struct job *j)
{
        struct begin *b = container_of(j, struct begin, job);
        return blob_file_new(b->server->blobs, &b->file);
}

static void begin_done(struct job *j, int r)
{
        cleanup_free struct begin *b = container_of(j, struct begin, job);
        if (r < 0 && r != -ECANCELED)
                log_errno(LOG_ERR, r, "Making a file for an upload failed");
        int fd = b->file.fd;
        if (!uploads_opened(b->server->uploads, b->upload, r < 0 ? NULL : &b->file)) {
                fdlink_reply_error(b->req, ERROR_CODE_UNAVAILABLE,
                                   "the upload could not be opened; try again");
                return;
        }
        struct upload_begun reply = { .upload_id = b->upload->id,
                                      .size_max = b->server->settings->upload_max };
        if (blob_store_is_remote(b->server->blobs)) {
                reply.has_patience_us = true;
                reply.patience_us = REMOTE_PATIENCE;
        }
        fdlink_reply(b->req, &reply, fd);
}

int route_upload_begin(void *userdata, struct fdlink_request *req, const void *msg)
{
        struct docserver *d = userdata;
        const struct upload_begin *m = msg;
        if (m->size_hint > d->settings->upload_max)
                return fdlink_reply_error(req, ERROR_CODE_TOO_LARGE,
                                          "a document may have at most %" PRIu64 " bytes",
                                          d->settings->upload_max);
        struct upload *upload;
        int r = uploads_begin(d->uploads, m->tenant, fdlink_request_connection(req),
                              now_monotonic(), d->puts, &upload);
        if (r < 0)
                return fdlink_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                          "too many uploads are open; try again later");

        struct begin *b = xnew(struct begin);
        b->job = (struct job){ .run = begin_run, .done = begin_done };
        b->server = d;
        b->req = req;
        b->upload = upload;
        b->file = BLOB_FILE_INIT;
        r = docserver_submit(d, &b->job);
        if (r < 0)
                begin_done(&b->job, r);
        return 0;
}

int route_upload_drop(void *userdata, struct fdlink_request *req, const void *msg)
{
        struct docserver *d = userdata;
        const struct upload_drop *m = msg;
        int r = uploads_drop(d->uploads, m->upload_id, fdlink_request_connection(req));
        if (r < 0)
                return fdlink_reply_error(req, ERROR_CODE_NOT_FOUND, "there is no such upload");
        return fdlink_reply(req, &(struct ok_reply){ 0 }, -1);
}

/* ---- document_open ---- */

#define HOLD_USEC (USEC_PER_SEC) /* so long an answer may wait for the remote store */

struct open_call {
        struct docserver *server;
        struct fdlink_request *req;
        char *tenant, *id;
        uint32_t version;       /* 0 = newest */
        uint64_t first, length; /* length 0: all */
        uint64_t stamp;         /* see lookups.h */
        bool again; /* the row named a blob that was gone: a delete or a new version came in between
                     */

        /* While the blob is on its way from the remote store. */
        struct blob_wait wait;
        struct loop_timer hold;
        bool part;
        char *filename, *content_type;
        struct store_bytes bytes; /* its strings are ours */
        char checksum[SHA256_HEX];
};

static void open_call_free(struct open_call *o)
{
        fetches_forget(&o->wait);
        loop_timer_done(&o->hold);
        free(o->tenant);
        free(o->id);
        free(o->filename);
        free(o->content_type);
        free(o);
}

static void on_open_row(void *userdata, int r, const struct store_bytes *bytes);

static int open_look_up(struct open_call *o)
{
        o->stamp = changes_stamp(o->server->changes, o->tenant, o->id, now_monotonic());
        return store_bytes(o->server->pg, o->tenant, o->id, o->version, on_open_row, o);
}

static void open_failed(struct open_call *o, int r)
{
        if (r == -ENOENT)
                fdlink_reply_error(o->req, ERROR_CODE_NOT_FOUND, "there is no such document");
        else if (r == -EIO)
                fdlink_reply_error(o->req, ERROR_CODE_INTERNAL,
                                   "the document's bytes cannot be read");
        else if (r == -EHOSTUNREACH || r == -EACCES || r == -EPROTO)
                fdlink_reply_error(o->req, ERROR_CODE_UNAVAILABLE,
                                   "the object store that keeps the document's bytes cannot be "
                                   "used right now; try again");
        else
                fdlink_reply_error(o->req, ERROR_CODE_UNAVAILABLE,
                                   "documents cannot be read right now; try again");
        open_call_free(o);
}

static void open_answer(struct open_call *o, const struct store_bytes *bytes, int fd, bool part)
{
        struct document_opened reply = {
                .filename = bytes->filename,
                .content_type = bytes->content_type,
                .size_bytes = bytes->size,
                .checksum = bytes->checksum,
                .updated_at_us = bytes->updated_at_us,
                .has_partial = part,
                .partial = part,
        };
        fdlink_reply(o->req, &reply, fd);
        open_call_free(o);
}

/* What opening or fetching the blob gave. */
static void open_ended(struct open_call *o, const struct store_bytes *bytes, int r, int fd)
{
        if (r == -ENOENT && !o->again) {
                o->again = true;
                r = open_look_up(o);
                if (r < 0)
                        open_failed(o, r);
                return;
        }
        if (r == -ENOENT || r == -EUCLEAN) {
                log_errno(LOG_ERR, r, "Blob %s of document %s cannot be read", bytes->checksum,
                          o->id);
                r = -EIO;
        }
        if (r < 0)
                open_failed(o, r);
        else
                open_answer(o, bytes, fd, o->part);
}

static void on_fetched(struct blob_wait *w, int r, int fd)
{
        struct open_call *o = container_of(w, struct open_call, wait);
        cleanup_close int owned = fd;
        open_ended(o, &o->bytes, r, owned);
}

/* The asker comes back at once, and then there is more of it; ranges that are slow in coming are
 * not fetched again and again. */
static void on_hold(void *userdata)
{
        struct open_call *o = userdata;
        if (o->part)
                fetches_start(o->server->fetches, o->bytes.checksum, o->bytes.size);
        open_answer(o, &o->bytes, -1, false);
}

static void open_blob(struct open_call *o, const struct store_bytes *bytes)
{
        cleanup_close int fd = -1;
        o->wait.ready = on_fetched;
        int r = fetches_open(o->server->fetches, bytes->checksum, bytes->size, o->first, o->length,
                             &o->wait, &fd, &o->part);
        if (r < 1) {
                open_ended(o, bytes, r, fd);
                return;
        }
        free(o->filename);
        free(o->content_type);
        (void) snprintf(o->checksum, sizeof(o->checksum), "%s", bytes->checksum);
        o->bytes = *bytes;
        o->bytes.checksum = o->checksum;
        o->bytes.filename = o->filename = xstrdup(bytes->filename);
        o->bytes.content_type = o->content_type = xstrdup(bytes->content_type);
        if (!o->hold.source && loop_timer_init(&o->hold, o->server->event, on_hold, o) < 0)
                return; /* then it waits as long as it takes */
        loop_timer_arm(&o->hold, HOLD_USEC);
}

static void on_open_row(void *userdata, int r, const struct store_bytes *bytes)
{
        struct open_call *o = userdata;
        if (r < 0) {
                open_failed(o, r);
                return;
        }
        if (o->version == 0)
                lookups_keep(o->server->lookups, o->stamp, o->tenant, o->id, bytes,
                             now_monotonic());
        open_blob(o, bytes);
}

int route_document_open(void *userdata, struct fdlink_request *req, const void *msg)
{
        const struct document_open *m = msg;
        struct open_call *o = xnew(struct open_call);
        o->server = userdata;
        o->req = req;
        o->tenant = xstrdup(m->tenant);
        o->id = xstrdup(m->document_id);
        o->version = m->has_version ? m->version : 0;
        if (m->has_range_first && m->has_range_length) {
                o->first = m->range_first;
                o->length = m->range_length;
        }
        const struct store_bytes *known =
                o->version == 0
                        ? lookups_find(o->server->lookups, o->tenant, o->id, now_monotonic())
                        : NULL;
        if (known) {
                open_blob(o, known);
                return 0;
        }
        int r = open_look_up(o);
        if (r < 0)
                open_failed(o, r);
        return 0;
}

/* ---- changes_open ---- */

int route_changes_open(void *userdata, struct fdlink_request *req, const void *msg)
{
        const struct docserver *d = userdata;
        return fdlink_reply(req, &(struct ok_reply){ 0 }, changes_fd(d->changes));
}
