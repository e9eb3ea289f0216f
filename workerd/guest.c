/* The link to the helper in the slot: frames, queues, the epoch fence, and the end of it all. */
#include "guest-private.h"

#include "common/base/fault.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int guest_fence(const struct guest *g, uint64_t epoch)
{
        if (!g->up || g->ended || g->freed)
                return -ENOTCONN;
        return epoch == (g->config.epoch ? *g->config.epoch : 0) ? 0 : -ESTALE;
}

static void flush(struct guest *g)
{
        while (buf_pending(&g->out) > 0) {
                ssize_t n = send(g->fd, buf_head(&g->out), buf_pending(&g->out),
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        break; /* a lost link shows as end of stream */
                buf_consume(&g->out, (size_t) n);
        }
        uint32_t events = EPOLLIN | (buf_pending(&g->out) > 0 ? (uint32_t) EPOLLOUT : 0);
        (void) sd_event_source_set_io_events(g->io, events);
}

int guest_send(struct guest *g, const struct wire_msg *type, const void *msg)
{
        static const uint8_t correlation[WIRE_CORRELATION];
        if (buf_pending(&g->out) > GUEST_QUEUE_MAX)
                return -EAGAIN;
        uint32_t length = 0;
        /* Counted from the first byte not yet sent: the buffer may move what it holds. */
        size_t before = buf_pending(&g->out);
        buf_put(&g->out, &length, sizeof(length));
        int r = wire_pack(&g->out, type, msg, 0, correlation);
        if (r < 0) {
                g->out.len = g->out.off + before;
                return r;
        }
        char *at = g->out.data + g->out.off + before;
        length = htonl((uint32_t) (g->out.data + g->out.len - at - sizeof(length)));
        memcpy(at, &length, sizeof(length));
        if (type == &wire_guest_spawn || type == &wire_guest_input || type == &wire_guest_write)
                fault_ledger(at, g->out.len - (size_t) (at - g->out.data));
        flush(g);
        return 0;
}

bool guest_has_volume(const struct guest *g)
{
        return g->volume;
}

static int on_hello(struct guest *g, const struct guest_hello *m)
{
        if (g->up || m->version == 0)
                return -EPROTO;
        g->up = true;
        g->volume = m->has_volume && m->volume;
        if (g->config.on_up)
                g->config.on_up(g->config.userdata);
        return 0;
}

const struct guest_limits *guest_limits(const struct guest *g)
{
        return &g->limits;
}

static int dispatch(struct guest *g, struct span frame)
{
        struct wire_envelope e;
        void *msg;
        if (wire_open(frame, &e) < 0)
                return -EPROTO;
        const struct wire_msg *type = wire_msg_by_id(e.id);
        if (!type || frame.len > type->frame_max || (!g->up && e.id != MSG_GUEST_HELLO))
                return -EPROTO;
        if (wire_unpack(type, e.body, g->arena, &msg) < 0)
                return -EPROTO;
        switch (e.id) {
        case MSG_GUEST_HELLO:
                return on_hello(g, msg);
        case MSG_GUEST_OUTPUT:
                return guest_on_output(g, msg);
        case MSG_GUEST_TAKEN:
                return guest_on_taken(g, msg);
        case MSG_GUEST_EXIT:
                return guest_on_exit(g, msg);
        case MSG_GUEST_DATA:
                return guest_on_data(g, msg);
        case MSG_GUEST_DONE:
                return guest_on_done(g, msg);
        case MSG_GUEST_LISTING:
                return guest_on_listing(g, msg);
        case MSG_GUEST_LIMITS:
                g->limits = *(const struct guest_limits *) msg;
                return 0;
        default:
                return -EPROTO;
        }
}

/* Takes the whole frames out of `in`. */
static void take_frames(struct guest *g)
{
        while (!g->ended && buf_pending(&g->in) >= sizeof(uint32_t)) {
                uint32_t length;
                memcpy(&length, buf_head(&g->in), sizeof(length));
                length = ntohl(length);
                if (length == 0 || length > GUEST_FRAME_MAX) {
                        guest_end(g, "the helper in the slot sent a frame of bad length");
                        return;
                }
                if (buf_pending(&g->in) < sizeof(length) + length)
                        return;
                struct span frame = { buf_head(&g->in) + sizeof(length), length };
                int r = dispatch(g, frame);
                if (g->freed)
                        return;
                wire_arena_reset(g->arena);
                buf_consume(&g->in, sizeof(length) + length);
                if (r < 0)
                        guest_end(g, "the helper in the slot broke the protocol");
        }
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct guest *g = userdata;
        if (revents & EPOLLOUT)
                flush(g);
        if (!(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                return 0;
        if (buf_reserve(&g->in, 4 * GUEST_PIECE) < 0) {
                guest_end(g, "no memory for what the slot sends");
                return 0;
        }
        ssize_t n = recv(g->fd, buf_tail(&g->in), 4 * GUEST_PIECE, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0) {
                guest_end(g, "the helper in the slot ended");
                return 0;
        }
        buf_added(&g->in, (size_t) n);
        take_frames(g);
        return 0;
}

int guest_new(const struct guest_config *c, struct guest **ret)
{
        struct guest *g = xnew(struct guest);
        g->config = *c;
        g->fd = c->fd;
        g->arena = wire_arena_new();
        list_init(&g->commands);
        list_init(&g->calls);
        int r = fcntl(g->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
        if (r == 0)
                r = sd_event_add_io(c->event, &g->io, g->fd, EPOLLIN, on_io, g);
        if (r < 0) {
                guest_free(g);
                return r;
        }
        *ret = g;
        return 0;
}

void guest_end(struct guest *g, const char *why)
{
        if (g->ended || g->freed)
                return;
        g->ended = true;
        g->io = sd_event_source_disable_unref(g->io);
        guest_commands_end(g, why);
        if (!g->freed)
                guest_calls_end(g, -ECONNRESET);
        if (!g->freed && g->config.on_end)
                g->config.on_end(g->config.userdata, why);
}

static void destroy(void *p)
{
        struct guest *g = p;
        fd_close(g->fd);
        buf_done(&g->in);
        buf_done(&g->out);
        wire_arena_free(g->arena);
        free(g);
}

struct guest *guest_free(struct guest *g)
{
        if (!g || g->freed)
                return NULL;
        g->freed = true;
        g->io = sd_event_source_disable_unref(g->io);
        guest_commands_end(g, "the slot is being taken down");
        guest_calls_end(g, -ECANCELED);
        /* A callback of ours may be on the stack. */
        loop_defer_free(g->config.event, g, destroy);
        return NULL;
}
