/* ZeroMQ sockets in the sd-event loop: drained when their descriptor fires, looked at after each
 * use. */
#include "zsock.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "sockpath.h"

#define BACKLOG 128

int zsock_set(struct zsock *z, int option, int value)
{
        return zmq_setsockopt(z->sock, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

int zsock_open(struct zsock *z, void *zmq, int type, size_t hwm, int64_t max_frame)
{
        *z = (struct zsock){ .sock = zmq_socket(zmq, type) };
        if (!z->sock)
                return -errno;
        int n = (int) MIN(hwm, (size_t) INT32_MAX);
        int r = zsock_set(z, ZMQ_LINGER, 0);
        if (r == 0)
                r = zsock_set(z, ZMQ_SNDHWM, n);
        if (r == 0)
                r = zsock_set(z, ZMQ_RCVHWM, n);
        if (r == 0 && zmq_setsockopt(z->sock, ZMQ_MAXMSGSIZE, &max_frame, sizeof(max_frame)) < 0)
                r = -errno;
        if (r < 0)
                zsock_close(z);
        return r;
}

/* Looks at the socket's events, which also lets ZeroMQ do its housekeeping. */
static bool has_input(struct zsock *z)
{
        int events = 0;
        size_t size = sizeof(events);
        z->dirty = false;
        return zmq_getsockopt(z->sock, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN);
}

static int dispatch(struct zsock *z)
{
        if (z->sock)
                z->readable(z->userdata);
        return 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        return dispatch(userdata);
}

static int on_again(sd_event_source *s, void *userdata)
{
        return dispatch(userdata);
}

static int on_prepare(sd_event_source *s, void *userdata)
{
        struct zsock *z = userdata;
        if (!z->sock || !z->dirty || !has_input(z))
                return 0;
        return sd_event_source_set_enabled(z->again, SD_EVENT_ONESHOT);
}

int zsock_watch(struct zsock *z, sd_event *e, void (*readable)(void *userdata), void *userdata)
{
        int fd;
        size_t size = sizeof(fd);
        if (zmq_getsockopt(z->sock, ZMQ_FD, &fd, &size) < 0)
                return -errno;
        z->readable = readable;
        z->userdata = userdata;
        int r = sd_event_add_io(e, &z->io, fd, EPOLLIN, on_io, z);
        if (r >= 0)
                r = sd_event_source_set_prepare(z->io, on_prepare);
        if (r >= 0)
                r = sd_event_add_defer(e, &z->again, on_again, z);
        return r < 0 ? r : 0;
}

static int listen_at(const char *path, int mode)
{
        struct sockaddr_un a;
        int r = sockpath_address(path, &a);
        if (r < 0)
                return r;
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        mode_t old = umask(0177);
        r = bind(fd, (struct sockaddr *) &a, sizeof(a)) < 0 ? -errno : 0;
        umask(old);
        if (r < 0)
                return r;
        if (listen(fd, BACKLOG) < 0 || chmod(path, (mode_t) mode) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* ZeroMQ gets a socket that listens: one of its own making it would unlink by path when it closes,
 * whoever listens there by then. */
int zsock_bind(struct zsock *z, const char *endpoint, int mode)
{
        if (!str_starts(endpoint, "ipc://"))
                return zmq_bind(z->sock, endpoint) < 0 ? -errno : 0;
        const char *path = endpoint + strlen("ipc://");
        int r = sockpath_claim(path, SOCK_STREAM);
        if (r < 0)
                return r;
        cleanup_close int fd = listen_at(path, mode);
        struct stat st;
        if (fd < 0)
                return fd;
        if (stat(path, &st) < 0)
                return -errno;
        r = zsock_set(z, ZMQ_USE_FD, fd);
        if (r < 0)
                return r;
        if (zmq_bind(z->sock, endpoint) < 0)
                return -errno;
        fd = -1; /* ZeroMQ's */ /* NOLINT(clang-analyzer-deadcode.DeadStores): not to be closed */
        z->path = xstrdup(path);
        z->dev = st.st_dev;
        z->ino = st.st_ino;
        return 0;
}

int zsock_connect(struct zsock *z, const char *endpoint)
{
        int r = zsock_set(z, ZMQ_RECONNECT_IVL, 10);
        /* One that stands still takes connections and never answers. Another may take its place. */
        if (r == 0)
                r = zsock_set(z, ZMQ_HANDSHAKE_IVL, 500);
        if (r == 0)
                r = zsock_set(z, ZMQ_RECONNECT_IVL_MAX, 1000);
        if (r == 0 && zmq_connect(z->sock, endpoint) < 0)
                r = -errno;
        return r;
}

int zsock_recv(struct zsock *z, zmq_msg_t *msg)
{
        for (;;) {
                if (zmq_msg_recv(msg, z->sock, ZMQ_DONTWAIT) >= 0) {
                        z->dirty = true; /* there may be more than the owner takes */
                        return 0;
                }
                /* To say so ZeroMQ looked at all its news: the next one fires the descriptor. */
                if (errno == EAGAIN)
                        z->dirty = false;
                if (errno != EINTR)
                        return -errno;
        }
}

/* Touched by ZeroMQ's thread when it lets go of a frame. */
struct zsock_budget {
        atomic_size_t bytes; /* sent and not yet let go of */
        atomic_uint refs;
};
struct large_frame {
        struct zsock_budget *budget;
        size_t n;
};

struct zsock_budget *zsock_budget_new(void)
{
        struct zsock_budget *g = xnew(struct zsock_budget);
        atomic_store(&g->refs, 1);
        return g;
}

void zsock_budget_unref(struct zsock_budget *g)
{
        if (g && atomic_fetch_sub(&g->refs, 1) == 1)
                free(g);
}

static void free_frame(void *data, void *hint)
{
        struct large_frame *f = hint;
        atomic_fetch_sub(&f->budget->bytes, f->n);
        zsock_budget_unref(f->budget);
        free(f);
        free(data);
}

/* Hands the buffer's memory over. One frame may always go, however large. */
static int init_large(zmq_msg_t *m, struct buf *b, struct zsock_budget *g)
{
        size_t before = atomic_load(&g->bytes), n;
        if (before > 0 && before + buf_pending(b) > ZSOCK_BUDGET_MAX) {
                buf_clear(b);
                return -ENOBUFS;
        }
        char *data = buf_take(b, &n);
        struct large_frame *f = xnew(struct large_frame);
        *f = (struct large_frame){ g, n };
        atomic_fetch_add(&g->refs, 1);
        atomic_fetch_add(&g->bytes, n);
        if (zmq_msg_init_data(m, data, n, free_frame, f) == 0)
                return 0;
        free_frame(data, f);
        return -ENOMEM;
}

static int init_frame(zmq_msg_t *m, struct buf *b, struct zsock_budget *g)
{
        size_t n = buf_pending(b);
        if (n > ZSOCK_LARGE && b->off == 0)
                return init_large(m, b, g);
        int r = zmq_msg_init_size(m, n) < 0 ? -ENOMEM : 0;
        if (r == 0)
                memcpy(zmq_msg_data(m), buf_head(b), n);
        buf_clear(b);
        return r;
}

static int send_all(struct zsock *z, struct span to, zmq_msg_t *m)
{
        int r = 0;
        while (to.len > 0 && r == 0)
                if (zmq_send(z->sock, to.data, to.len, ZMQ_DONTWAIT | ZMQ_SNDMORE) >= 0)
                        break;
                else if (errno != EINTR)
                        r = -errno;
        while (r == 0)
                if (zmq_msg_send(m, z->sock, ZMQ_DONTWAIT) >= 0)
                        return 0;
                else if (errno != EINTR)
                        r = -errno;
        return r;
}

int zsock_send(struct zsock *z, struct span to, struct buf *b, struct zsock_budget *g)
{
        zmq_msg_t m;
        int r = init_frame(&m, b, g);
        if (r < 0)
                return r;
        r = send_all(z, to, &m);
        if (r == -EAGAIN) {
                /* Sending looks at news (a connection made, a queue drained) only now and then. */
                (void) has_input(z);
                r = send_all(z, to, &m);
        }
        z->dirty = true;
        zmq_msg_close(&m);
        return r;
}

void zsock_close(struct zsock *z)
{
        z->io = sd_event_source_disable_unref(z->io);
        z->again = sd_event_source_disable_unref(z->again);
        /* Our socket is open, so that no other file can have its number. */
        struct stat st;
        if (z->path && lstat(z->path, &st) == 0 && st.st_dev == z->dev && st.st_ino == z->ino)
                (void) unlink(z->path);
        free(z->path);
        z->path = NULL;
        if (z->sock)
                (void) zmq_close(z->sock);
        z->sock = NULL;
}
