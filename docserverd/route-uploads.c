/* The descriptor socket: files to write uploads into, and documents' bytes to read. */
#include "docserver.h"

#include "common/io/log.h"
#include "proto/messages.h"
#include "store.h"
#include "uploads.h"

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

struct open_call {
        struct docserver *server;
        struct fdlink_request *req;
        char *tenant, *id;
        uint32_t version; /* 0 = newest */
        bool again; /* the row named a blob that was gone: a delete or a new version came in between
                     */
};

static void open_call_free(struct open_call *o)
{
        free(o->tenant);
        free(o->id);
        free(o);
}

static void on_open_row(void *userdata, int r, const struct store_bytes *bytes);

static int open_look_up(struct open_call *o)
{
        return store_bytes(o->server->pg, o->tenant, o->id, o->version, on_open_row, o);
}

static void open_failed(struct open_call *o, int r)
{
        if (r == -ENOENT)
                fdlink_reply_error(o->req, ERROR_CODE_NOT_FOUND, "there is no such document");
        else if (r == -EIO)
                fdlink_reply_error(o->req, ERROR_CODE_INTERNAL,
                                   "the document's bytes cannot be read");
        else
                fdlink_reply_error(o->req, ERROR_CODE_UNAVAILABLE,
                                   "documents cannot be read right now; try again");
        open_call_free(o);
}

static void on_open_row(void *userdata, int r, const struct store_bytes *bytes)
{
        struct open_call *o = userdata;
        if (r < 0) {
                open_failed(o, r);
                return;
        }
        cleanup_close int fd = -1;
        uint64_t size;
        r = blob_open(o->server->blobs, bytes->checksum, &fd, &size);
        if (r == -ENOENT && !o->again) {
                o->again = true;
                r = open_look_up(o);
                if (r < 0)
                        open_failed(o, r);
                return;
        }
        if (r < 0 || size != bytes->size) {
                log_errno(LOG_ERR, r < 0 ? r : -EUCLEAN, "Blob %s of document %s cannot be read",
                          bytes->checksum, o->id);
                open_failed(o, -EIO);
                return;
        }
        struct document_opened reply = {
                .filename = bytes->filename,
                .content_type = bytes->content_type,
                .size_bytes = bytes->size,
                .checksum = bytes->checksum,
                .updated_at_us = bytes->updated_at_us,
        };
        fdlink_reply(o->req, &reply, fd);
        open_call_free(o);
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
        int r = open_look_up(o);
        if (r < 0)
                open_failed(o, r);
        return 0;
}
