/* Writes request bodies into descriptors that docserverd hands out. */
#include "gatewayd/upload.h"

#include <unistd.h>

#include "common/io/jobs.h"
#include "common/io/log.h"

#define STORE_RATE (8 * MIB) /* bytes a second that docserverd is sure to read, hash and store */

struct upload {
        struct gateway *gateway;
        struct upload_events events;
        bool waiting; /* for the descriptor */
        bool orphan;  /* freed while waiting or writing */
        bool used;
        int fd;
        char id[65];
        uint64_t size, max, patience;

        struct buf collected; /* not with the thread yet */
        bool paused;          /* room() is owed */
        bool closing;         /* closed() is owed */

        /* With the thread while `writing`. */
        struct job job;
        bool writing;
        struct buf batch;
};

static void on_dropped(void *userdata, int r, const void *reply, int fd)
{
        fd_close(fd);
}

/* A drop that does not get through is made up for by the end of the connection or of the upload's
 * time. */
static void drop(struct gateway *g, const char *id)
{
        struct upload_drop m = { .upload_id = id };
        int r = -EHOSTUNREACH;
        if (g->documents_fd)
                r = fdlink_call(g->documents_fd, &wire_upload_drop, &m,
                                g->settings->request_timeout, on_dropped, NULL);
        if (r < 0)
                log_debug("Dropping upload %s was not sent: %s", id, strerrordesc_np(-r));
}

struct upload *upload_free(struct upload *u)
{
        if (!u)
                return NULL;
        if (u->waiting || u->writing) {
                u->orphan = true;
                return NULL;
        }
        fd_close(u->fd);
        if (u->id[0] && !u->used)
                drop(u->gateway, u->id);
        buf_done(&u->collected);
        buf_done(&u->batch);
        free(u);
        return NULL;
}

static void on_begun(void *userdata, int r, const void *reply, int fd)
{
        struct upload *u = userdata;
        const struct upload_begun *m = reply;
        u->waiting = false;
        u->fd = fd;
        if (r == 0) {
                (void) snprintf(u->id, sizeof(u->id), "%s", m->upload_id);
                u->max = m->size_max;
                u->patience = m->has_patience_us ? m->patience_us : 0;
        }
        if (u->orphan) {
                (void) upload_free(u);
                return;
        }
        if (r == 0 && fd < 0)
                r = -EPROTO;
        u->events.ready(u->events.userdata, r, reply);
}

int upload_new(struct gateway *g, const char *tenant, uint64_t size_hint,
               const struct upload_events *events, struct upload **ret)
{
        if (!g->documents_fd)
                return -EHOSTUNREACH;
        struct upload_begin m = { .tenant = tenant, .size_hint = size_hint };
        struct upload *u = xnew(struct upload);
        u->gateway = g;
        u->events = *events;
        u->waiting = true;
        u->fd = -1;
        int r = fdlink_call(g->documents_fd, &wire_upload_begin, &m, g->settings->request_timeout,
                            on_begun, u);
        if (r < 0) {
                free(u);
                return r;
        }
        *ret = u;
        return 0;
}

int upload_form(struct http_request *req, const char *parts, const char **ret_key,
                char boundary[static MULTIPART_BOUNDARY_MAX + 1])
{
        static const char *const known[] = { NULL };
        const struct gateway *g = req->gateway;

        if (http_query_only(req, known) < 0 || http_idempotency_key(req, ret_key) < 0)
                return -EINVAL;
        int r = multipart_boundary(http_header(req, "content-type"), boundary);
        if (r == -EPROTONOSUPPORT)
                http_reply_error(req, ERROR_CODE_UNSUPPORTED_MEDIA_TYPE, "Content-Type", "Send %s.",
                                 parts);
        else if (r < 0)
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "Content-Type",
                                 "The boundary in Content-Type is missing or malformed.");
        else if (!g->documents || !rpc_peer_up(rpc_client_peer(g->documents)))
                http_reply_busy(req, "document service");
        else
                return 0;
        return -EINVAL;
}

/* ---- writing ---- */

static int write_run(struct job *j)
{
        struct upload *u = container_of(j, struct upload, job);
        while (buf_pending(&u->batch) > 0) {
                ssize_t n = write(u->fd, buf_head(&u->batch), buf_pending(&u->batch));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                buf_consume(&u->batch, (size_t) n);
        }
        return 0;
}

static void write_done(struct job *j, int r);

/* Hands what was collected to the thread. */
static int write_start(struct upload *u)
{
        struct buf empty = u->batch;
        u->batch = u->collected;
        u->collected = empty;
        buf_clear(&u->collected);
        u->job = (struct job){ .run = write_run, .done = write_done };
        int r = u->gateway->jobs ? jobs_submit(u->gateway->jobs, &u->job) : -ECANCELED;
        u->writing = r == 0;
        return r;
}

static void write_next(struct upload *u)
{
        int r = buf_pending(&u->collected) > 0 ? write_start(u) : 0;
        if (r < 0) {
                u->events.failed(u->events.userdata, r);
                return;
        }
        if (u->paused) {
                u->paused = false;
                u->events.room(u->events.userdata);
        } else if (u->closing && !u->writing) {
                u->fd = fd_close(u->fd);
                u->closing = false;
                u->events.closed(u->events.userdata);
        }
}

static void write_done(struct job *j, int r)
{
        struct upload *u = container_of(j, struct upload, job);
        u->writing = false;
        if (u->orphan)
                (void) upload_free(u);
        else if (r < 0)
                u->events.failed(u->events.userdata, r);
        else
                write_next(u);
}

int upload_write(struct upload *u, struct span data)
{
        if (data.len > u->max - u->size)
                return -EFBIG;
        int r = buf_append(&u->collected, data.data, data.len);
        if (r < 0)
                return r;
        u->size += data.len;
        if (!u->writing)
                r = write_start(u);
        if (r == 0 && buf_pending(&u->collected) >= UPLOAD_PAUSE_BYTES) {
                u->paused = true;
                return 1;
        }
        return r;
}

void upload_close(struct upload *u)
{
        u->closing = true;
        u->paused = false;
        if (!u->writing)
                write_next(u);
}

const char *upload_id(const struct upload *u)
{
        return u->id;
}

uint64_t upload_size(const struct upload *u)
{
        return u->size;
}

void upload_used(struct upload *u)
{
        u->used = true;
}

void upload_reply_error(struct http_request *req, int r)
{
        if (r == -EFBIG) {
                http_reply_error(req, ERROR_CODE_TOO_LARGE, "file",
                                 "The document is larger than is allowed here.");
                return;
        }
        log_errno(LOG_ERR, r, "Writing an upload failed");
        http_reply_error(req, ERROR_CODE_UNAVAILABLE, NULL,
                         r == -ENOSPC || r == -EDQUOT
                                 ? "There is no room for the document right now."
                                 : "The document cannot be written right now; try again.");
}

uint64_t upload_read_timeout(const struct gateway *g, uint64_t size)
{
        return g->settings->request_timeout + size / STORE_RATE * USEC_PER_SEC;
}

uint64_t upload_timeout(const struct upload *u)
{
        return upload_read_timeout(u->gateway, u->size) + u->patience;
}
