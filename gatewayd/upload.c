/* Writes request bodies into descriptors that docserverd hands out. */
#include "gatewayd/upload.h"

#include <unistd.h>

#include "common/io/log.h"

#define STORE_RATE (20 * MIB) /* bytes a second that docserverd is sure to read, hash and sync */

struct upload {
        struct gateway *gateway;
        upload_ready_fn fn;
        void *userdata;
        bool waiting; /* for the descriptor */
        bool orphan;  /* freed while waiting */
        bool used;
        int fd;
        char id[UUID_MAX + 28];
        uint64_t size, max;
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
        int r = fdlink_call(g->documents_fd, &wire_upload_drop, &m, g->settings->request_timeout,
                            on_dropped, NULL);
        if (r < 0)
                log_debug("Dropping upload %s was not sent: %s", id, strerrordesc_np(-r));
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
        }
        if (u->orphan) {
                (void) upload_free(u);
                return;
        }
        if (r == 0 && fd < 0)
                r = -EPROTO;
        u->fn(u->userdata, r, reply);
}

int upload_new(struct gateway *g, const char *tenant, uint64_t size_hint, upload_ready_fn fn,
               void *userdata, struct upload **ret)
{
        if (!g->documents_fd)
                return -EHOSTUNREACH;
        struct upload_begin m = { .tenant = tenant, .size_hint = size_hint };
        struct upload *u = xnew(struct upload);
        *u = (struct upload){
                .gateway = g, .fn = fn, .userdata = userdata, .waiting = true, .fd = -1
        };
        int r = fdlink_call(g->documents_fd, &wire_upload_begin, &m, g->settings->request_timeout,
                            on_begun, u);
        if (r < 0) {
                free(u);
                return r;
        }
        *ret = u;
        return 0;
}

struct upload *upload_free(struct upload *u)
{
        if (!u)
                return NULL;
        if (u->waiting) {
                u->orphan = true;
                return NULL;
        }
        fd_close(u->fd);
        if (u->id[0] && !u->used)
                drop(u->gateway, u->id);
        free(u);
        return NULL;
}

int upload_write(struct upload *u, struct span data)
{
        if (data.len > u->max - u->size)
                return -EFBIG;
        while (data.len > 0) {
                ssize_t n = write(u->fd, data.data, data.len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data.data += n;
                data.len -= (size_t) n;
                u->size += (uint64_t) n;
        }
        return 0;
}

void upload_close(struct upload *u)
{
        u->fd = fd_close(u->fd);
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

uint64_t upload_timeout(const struct gateway *g, uint64_t size)
{
        return g->settings->request_timeout + size / STORE_RATE * USEC_PER_SEC;
}
