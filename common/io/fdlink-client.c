/* The client of a descriptor socket: connects when called, matches replies, hands over descriptors.
 */
#include "fdlink-private.h"

#include <assert.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "calls.h"
#include "daemon.h"
#include "log.h"
#include "sockpath.h"

#define CALLS_MAX 256
#define BATCH 32

struct fdlink_client {
        sd_event *event;
        char *path;
        int fd; /* -1 = not connected */
        sd_event_source *io;
        struct calls *calls;
        struct wire_arena *arena;
        struct buf out;
        char *packet;
        void (*lost)(void *userdata);
        void *lost_userdata;
        bool closed;
};

static void end_calls(struct fdlink_client *c, int r)
{
        struct calls *calls = c->calls;
        struct call call;
        for (size_t i = 0; calls && c->calls == calls && calls_take_next(calls, NULL, &i, &call);)
                call.fd(call.userdata, r, NULL, -1);
}

/* The one way a connection ends; the next call makes another. */
static void disconnect(struct fdlink_client *c, const char *why)
{
        log_debug("%s: connection ends: %s", c->path, why);
        c->io = sd_event_source_disable_unref(c->io);
        c->fd = fd_close(c->fd);
        if (c->lost)
                c->lost(c->lost_userdata);
        end_calls(c, -ECONNRESET);
}

static void on_expired(void *userdata, const struct call *call)
{
        call->fd(call->userdata, -ETIMEDOUT, NULL, -1);
}

/* Returns what was wrong, or NULL. *fd is taken when somebody waits for it. */
static const char *handle(struct fdlink_client *c, struct span frame, int *fd)
{
        struct wire_envelope e;
        void *msg;
        if (wire_open(frame, &e) < 0 || !(e.flags & WIRE_REPLY))
                return "not a reply";
        const struct wire_msg *type = wire_msg_by_id(e.id);
        const struct call *waiting = calls_find(c->calls, e.correlation);
        if (!waiting)
                return NULL; /* timed out or cancelled: its descriptor is closed */
        bool error = type == &wire_error_reply;
        if (!type || (!error && type != waiting->type->reply) || (error && *fd >= 0) ||
            wire_unpack(type, e.body, c->arena, &msg) < 0)
                return "wrong reply";
        struct call call;
        (void) calls_take(c->calls, e.correlation, &call);
        call.fd(call.userdata, error ? -EREMOTEIO : 0, msg, TAKE_FD(*fd));
        return NULL;
}

static int on_io(sd_event_source *source, int sock, uint32_t revents, void *userdata)
{
        struct fdlink_client *c = userdata;
        for (int i = 0; i < BATCH && c->fd >= 0; i++) {
                size_t n;
                cleanup_close int fd = -1;
                int r = fdlink_recv(c->fd, c->packet, &n, &fd);
                if (r == -EAGAIN)
                        break;
                if (r < 0 || n == 0) {
                        disconnect(c, r < 0 ? strerrordesc_np(-r) : "closed");
                        break;
                }
                const char *why = handle(c, (struct span){ c->packet, n }, &fd);
                wire_arena_reset(c->arena);
                if (why && !c->closed)
                        disconnect(c, why);
        }
        return 0;
}

static int ensure_connected(struct fdlink_client *c)
{
        struct sockaddr_un a;
        if (c->fd >= 0)
                return 0;
        int r = sockpath_address(c->path, &a);
        if (r < 0)
                return r;
        cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                return -errno;
        r = sd_event_add_io(c->event, &c->io, fd, EPOLLIN, on_io, c);
        if (r == 0 && c->lost)
                r = sd_event_source_set_priority(c->io, SD_EVENT_PRIORITY_IMPORTANT);
        if (r < 0) {
                c->io = sd_event_source_disable_unref(c->io);
                return r;
        }
        c->fd = TAKE_FD(fd);
        return 0;
}

static int try_call(struct fdlink_client *c, const struct call *call, const void *msg,
                    uint64_t timeout_usec)
{
        uint8_t correlation[WIRE_CORRELATION];
        int r = ensure_connected(c);
        if (r < 0)
                return r;
        r = calls_add(c->calls, call, timeout_usec, correlation);
        if (r < 0)
                return r;
        buf_clear(&c->out);
        r = wire_pack(&c->out, call->type, msg, WIRE_REQUEST, correlation);
        if (r == 0)
                r = fdlink_send(c->fd, &c->out, -1);
        if (r < 0) {
                struct call unsent;
                (void) calls_take(c->calls, correlation, &unsent);
        }
        return r;
}

int fdlink_call(struct fdlink_client *c, const struct wire_msg *type, const void *msg,
                uint64_t timeout_usec, fdlink_reply_fn fn, void *userdata)
{
        assert(type->reply && type->frame_max <= FDLINK_PACKET_MAX);
        struct call call = { .type = type, .fd = fn, .userdata = userdata };
        if (c->closed)
                return -ECANCELED;
        int r = try_call(c, &call, msg, timeout_usec);
        if (r != -EPIPE && r != -ECONNRESET && r != -ENOTCONN)
                return r;
        /* The server ended while nobody looked. Calls that wait are told by the loop, not from
         * here; when there are none, nothing is owed and a new connection may be tried. */
        if (calls_count(c->calls) > 0)
                return -ECONNRESET;
        disconnect(c, "lost");
        return try_call(c, &call, msg, timeout_usec);
}

void fdlink_cancel(struct fdlink_client *c, void *userdata)
{
        if (!c->closed)
                calls_cancel(c->calls, userdata);
}

void fdlink_client_on_lost(struct fdlink_client *c, void (*fn)(void *userdata), void *userdata)
{
        c->lost = fn;
        c->lost_userdata = userdata;
}

int fdlink_client_new(sd_event *e, const char *path, struct fdlink_client **ret)
{
        CLEANUP(fdlink_client_freep) struct fdlink_client *c = xnew(struct fdlink_client);
        *c = (struct fdlink_client){
                .event = sd_event_ref(e),
                .path = xstrdup(path),
                .fd = -1,
                .arena = wire_arena_new(),
                .packet = xmalloc(FDLINK_PACKET_MAX),
        };
        int r = calls_new(e, CALLS_MAX, on_expired, c, &c->calls);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

static void destroy(void *p)
{
        struct fdlink_client *c = p;
        wire_arena_free(c->arena);
        buf_done(&c->out);
        free(c->packet);
        free(c->path);
        sd_event_unref(c->event);
        free(c);
}

struct fdlink_client *fdlink_client_free(struct fdlink_client *c)
{
        if (!c || c->closed)
                return NULL;
        c->closed = true;
        c->io = sd_event_source_disable_unref(c->io);
        c->fd = fd_close(c->fd);
        end_calls(c, -ECANCELED);
        c->calls = calls_free(c->calls);
        loop_defer_free(c->event, c, destroy);
        return NULL;
}
