/* document_edit: a new version made from the newest by replacing some of its bytes. */
#include "docserver.h"

#include <unistd.h>

#include "common/io/log.h"
#include "fetches.h"
#include "proto/messages.h"
#include "store.h"

#define EDIT_MAX (16 * MIB) /* of the document; it is held in memory for the moment */

struct edit {
        struct docserver *server;
        struct rpc_request *req;
        struct job job;
        struct blob_wait wait;
        char *tenant, *id;
        char checksum[SHA256_HEX]; /* of the version that is edited */
        bool if_match;             /* the asker named it */
        uint64_t size;
        int from;

        bool by_text, all;
        char *old, *new;
        size_t old_len, new_len;
        uint64_t offset, length;

        /* Out. */
        struct blob_file file;
        uint64_t new_size;
        size_t found;
};

static void edit_free(struct edit *e)
{
        fetches_forget(&e->wait);
        docserver_drop_file(e->server, &e->file);
        fd_close(e->from);
        free(e->tenant);
        free(e->id);
        free(e->old);
        free(e->new);
        free(e);
}

static void edit_fail(struct edit *e, int r)
{
        docserver_reply_failure(e->req, r);
        edit_free(e);
}

static void edit_refuse(struct edit *e, enum error_code code, const char *fmt, ...)
        printf_like(3, 4);
static void edit_refuse(struct edit *e, enum error_code code, const char *fmt, ...)
{
        char text[200];
        va_list ap;
        va_start(ap, fmt);
        (void) vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        rpc_reply_error(e->req, code, "%s", text);
        edit_free(e);
}

/* ---- on the worker thread ---- */

static int write_all(struct edit *e, const char *data, size_t n)
{
        while (n > 0) {
                ssize_t k = write(e->file.fd, data, n);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                data += k;
                n -= (size_t) k;
                e->new_size += (uint64_t) k;
        }
        return 0;
}

static int replace_text(struct edit *e, const char *data)
{
        const char *at = data, *end = data + e->size, *hit;
        for (const char *p = data; (hit = memmem(p, (size_t) (end - p), e->old, e->old_len));
             p = hit + e->old_len)
                e->found++;
        if (e->found == 0 || (e->found > 1 && !e->all))
                return -ENOMSG;
        int r = 0;
        while (r == 0 && (hit = memmem(at, (size_t) (end - at), e->old, e->old_len))) {
                r = write_all(e, at, (size_t) (hit - at));
                if (r == 0)
                        r = write_all(e, e->new, e->new_len);
                at = hit + e->old_len;
        }
        return r < 0 ? r : write_all(e, at, (size_t) (end - at));
}

static int replace_range(struct edit *e, const char *data)
{
        if (e->offset > e->size || e->length > e->size - e->offset)
                return -ERANGE;
        int r = write_all(e, data, e->offset);
        if (r == 0)
                r = write_all(e, e->new, e->new_len);
        if (r == 0)
                r = write_all(e, data + e->offset + e->length, e->size - e->offset - e->length);
        return r;
}

static int edit_run(struct job *j)
{
        struct edit *e = container_of(j, struct edit, job);
        cleanup_free char *data = xmalloc(e->size + 1);
        for (uint64_t at = 0; at < e->size;) {
                ssize_t n = pread(e->from, data + at, e->size - at, (off_t) at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EUCLEAN;
                at += (uint64_t) n;
        }
        int r = blob_file_new(e->server->blobs, &e->file);
        if (r < 0)
                return r;
        return e->by_text ? replace_text(e, data) : replace_range(e, data);
}

static void edit_done(struct job *j, int r)
{
        struct edit *e = container_of(j, struct edit, job);
        if (r == -ENOMSG && e->found == 0)
                return edit_refuse(e, ERROR_CODE_UNPROCESSABLE,
                                   "the text old is not in the "
                                   "document");
        if (r == -ENOMSG)
                return edit_refuse(e, ERROR_CODE_UNPROCESSABLE,
                                   "the text old is in the document %zu times: give more of what "
                                   "is around it, or all",
                                   e->found);
        if (r == -ERANGE)
                return edit_refuse(
                        e, ERROR_CODE_UNPROCESSABLE,
                        "offset and length reach beyond the document's %" PRIu64 " bytes", e->size);
        if (r < 0) {
                if (r != -ECANCELED)
                        log_errno(LOG_ERR, r, "Editing a document failed");
                return edit_fail(e, r == -ENOSPC || r == -EDQUOT ? -ENOSPC : -EAGAIN);
        }
        docserver_put_version(e->server, e->req, e->tenant, e->id, e->checksum, &e->file,
                              e->new_size);
        edit_free(e);
}

/* ---- on the loop ---- */

static void edit_start(struct edit *e)
{
        e->job = (struct job){ .run = edit_run, .done = edit_done };
        int r = docserver_submit(e->server, &e->job);
        if (r < 0)
                edit_fail(e, r);
}

static void on_fetched(struct blob_wait *w, int r, int fd)
{
        struct edit *e = container_of(w, struct edit, wait);
        e->from = fd;
        if (r < 0)
                edit_fail(e, r == -ENOENT || r == -EUCLEAN ? -EIO : r);
        else
                edit_start(e);
}

static void on_row(void *userdata, int r, const struct store_bytes *bytes)
{
        struct edit *e = userdata;
        bool part;
        if (r < 0)
                return edit_fail(e, r);
        if (e->if_match && !streq(e->checksum, bytes->checksum))
                return edit_fail(e, -ESTALE);
        if (bytes->size > EDIT_MAX)
                return edit_refuse(e, ERROR_CODE_TOO_LARGE,
                                   "only documents of at most %" PRIu64
                                   " MiB can be edited; replace the content instead",
                                   EDIT_MAX / MIB);
        (void) snprintf(e->checksum, sizeof(e->checksum), "%s", bytes->checksum);
        e->size = bytes->size;
        e->wait.ready = on_fetched;
        r = fetches_open(e->server->fetches, bytes->checksum, bytes->size, 0, 0, &e->wait, &e->from,
                         &part);
        if (r == 0)
                edit_start(e);
        else if (r < 0)
                edit_fail(e, r == -ENOENT || r == -EUCLEAN ? -EIO : r);
}

int route_document_edit(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg)
{
        struct docserver *d = userdata;
        const struct document_edit *m = msg;
        if (m->by_text && m->old_text.len == 0)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "old must not be empty");
        struct edit *e = xnew(struct edit);
        e->server = d;
        e->req = req;
        e->tenant = xstrdup(m->tenant);
        e->id = xstrdup(m->document_id);
        e->if_match = m->if_match;
        if (m->if_match)
                (void) snprintf(e->checksum, sizeof(e->checksum), "%s", m->if_match);
        e->from = -1;
        e->file = BLOB_FILE_INIT;
        e->by_text = m->by_text;
        e->all = m->all;
        e->old_len = m->old_text.len;
        e->new_len = m->new_text.len;
        e->old = xstrndup(m->old_text.data ? m->old_text.data : "", e->old_len);
        e->new = xmalloc(e->new_len + 1);
        memcpy(e->new, m->new_text.data ? m->new_text.data : "", e->new_len);
        e->offset = m->offset;
        e->length = m->length;
        int r = store_bytes(d->pg, e->tenant, e->id, 0, on_row, e);
        if (r < 0)
                edit_fail(e, r);
        return 0;
}
