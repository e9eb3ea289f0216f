/* The server of a descriptor socket: who may connect, requests, replies with a descriptor. */
#include "fdlink-private.h"

#include <assert.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/list.h"
#include "daemon.h"
#include "fdlink.h"
#include "log.h"
#include "reply.h"
#include "sockpath.h"

#define CLIENTS_MAX 256
#define REQUESTS_MAX 256 /* of one client, awaiting our reply */
#define BATCH 32
#define RESUME_USEC (100 * USEC_PER_MSEC)

struct client {
        struct list link;
        struct fdlink_server *s;
        int fd;
        uint64_t number;
        bool asked; /* a handler knows of it: on_end is due */
        bool ended;
        sd_event_source *io;
        struct list requests;
        size_t n_requests;
};

struct fdlink_request {
        struct list link;
        struct client *client; /* NULL once gone */
        uint64_t connection;
        const struct wire_msg *type;
        uint8_t correlation[WIRE_CORRELATION];
        bool in_handler, replied;
};

struct fdlink_server {
        sd_event *event;
        char *path;
        int fd;
        uid_t *uids;
        size_t n_uids;
        bool any_uid;
        const struct fdlink_route *routes;
        size_t n_routes;
        void (*on_end)(void *userdata, uint64_t connection);
        void *userdata;
        sd_event_source *io;
        struct loop_timer resume; /* accepting, after descriptors had run out */
        struct list clients;
        size_t n_clients;
        uint64_t connections; /* ever */
        struct wire_arena *arena;
        struct buf out;
        char *packet; /* FDLINK_PACKET_MAX bytes to read into */
        bool closed;
};

static void client_free(void *p)
{
        struct client *c = p;
        sd_event_source_disable_unref(c->io);
        fd_close(c->fd);
        free(c);
}

/* The one way a client ends; its memory lives until the end of the turn. */
static void client_end(struct client *c, const char *why)
{
        struct fdlink_server *s = c->s;
        if (c->ended)
                return;
        c->ended = true;
        log_debug("%s: connection %" PRIu64 " ends: %s", s->path, c->number, why);
        list_remove(&c->link);
        s->n_clients--;
        c->io = sd_event_source_disable_unref(c->io);
        c->fd = fd_close(c->fd);
        struct fdlink_request *req;
        list_foreach (req, &c->requests, link)
                req->client = NULL;
        list_init(&c->requests);
        loop_defer_free(s->event, c, client_free);
        if (c->asked && s->on_end)
                s->on_end(s->userdata, c->number);
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void request_free(struct fdlink_request *req)
{
        if (req->client) {
                list_remove(&req->link);
                req->client->n_requests--;
        }
        free(req);
}

static int pack_and_send(struct client *c, const struct fdlink_request *req,
                         const struct wire_msg *type, const void *msg, int fd)
{
        buf_clear(&c->s->out);
        int r = wire_pack(&c->s->out, type, msg, WIRE_REPLY, req->correlation);
        return r < 0 ? r : fdlink_send(c->fd, &c->s->out, fd);
}

static int request_end(struct fdlink_request *req, const struct wire_msg *type, const void *msg,
                       int fd)
{
        struct client *c = req->client;
        int r = -ENOTCONN;
        assert(!req->replied);
        req->replied = true;
        if (c)
                r = pack_and_send(c, req, type, msg, fd);
        if (c && r < 0)
                /* Without its answer the client would wait for nothing: the lost link tells it. */
                client_end(c, strerrordesc_np(-r));
        if (!req->in_handler)
                request_free(req);
        return r;
}

int fdlink_reply(struct fdlink_request *req, const void *msg, int fd)
{
        return request_end(req, req->type->reply, msg, fd);
}

int fdlink_reply_error(struct fdlink_request *req, enum error_code code, const char *fmt, ...)
{
        char text[REPLY_TEXT_MAX];
        va_list ap;
        va_start(ap, fmt);
        reply_text(text, fmt, ap);
        va_end(ap);
        struct error_reply e = { .code = code, .message = text };
        return request_end(req, &wire_error_reply, &e, -1);
}

uint64_t fdlink_request_connection(const struct fdlink_request *req)
{
        return req->connection;
}

static const struct fdlink_route *find_route(const struct fdlink_server *s, uint16_t id)
{
        for (size_t i = 0; i < s->n_routes; i++)
                if (s->routes[i].type->id == id)
                        return &s->routes[i];
        return NULL;
}

static void dispatch(struct client *c, const struct fdlink_route *route,
                     const struct wire_envelope *e, const void *msg)
{
        struct fdlink_server *s = c->s;
        struct fdlink_request *req = xnew(struct fdlink_request);
        *req = (struct fdlink_request){
                .client = c,
                .connection = c->number,
                .type = route->type,
                .in_handler = true,
        };
        memcpy(req->correlation, e->correlation, WIRE_CORRELATION);
        list_push_back(&c->requests, &req->link);
        c->n_requests++;
        int r = 0;
        if (c->n_requests > REQUESTS_MAX)
                r = -EBUSY;
        else {
                c->asked = true;
                r = route->handle(s->userdata, req, msg);
        }
        if (r < 0 && !req->replied) {
                int sent = fdlink_reply_error(req, reply_code(r), "%s failed: %s",
                                              route->type->body.name, strerrordesc_np(-r));
                if (sent < 0)
                        log_debug("%s: no reply sent: %s", s->path, strerrordesc_np(-sent));
        }
        req->in_handler = false;
        if (req->replied)
                request_free(req);
}

/* Returns what was wrong, or NULL. */
static const char *handle(struct client *c, struct span frame)
{
        struct fdlink_server *s = c->s;
        struct wire_envelope e;
        void *msg;
        int r = wire_open(frame, &e);
        if (r < 0)
                return r == -EPROTO ? "speaks another version" : "not a frame";
        const struct fdlink_route *route = find_route(s, e.id);
        if (!route || !(e.flags & WIRE_REQUEST) || frame.len > route->type->frame_max)
                return "message not allowed here";
        if (wire_unpack(route->type, e.body, s->arena, &msg) < 0)
                return "a field is wrong";
        dispatch(c, route, &e, msg);
        return NULL;
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct client *c = userdata;
        struct fdlink_server *s = c->s;
        for (int i = 0; i < BATCH && !c->ended; i++) {
                size_t n;
                cleanup_close int came = -1;
                int r = fdlink_recv(c->fd, s->packet, &n, &came);
                if (r == -EAGAIN)
                        break;
                if (r < 0 || n == 0 || came >= 0) {
                        client_end(c, r < 0    ? strerrordesc_np(-r)
                                      : n == 0 ? "closed"
                                               : "a request came with a descriptor");
                        break;
                }
                const char *why = handle(c, (struct span){ s->packet, n });
                wire_arena_reset(s->arena);
                if (why)
                        client_end(c, why);
        }
        return 0;
}

/* --- connections -------------------------------------------------------------------------------
 */

static bool may_connect(const struct fdlink_server *s, int fd)
{
        struct ucred peer;
        socklen_t n = sizeof(peer);
        if (s->any_uid)
                return true;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
                return false;
        bool ok = peer.uid == 0 || peer.uid == geteuid();
        for (size_t i = 0; i < s->n_uids; i++)
                ok |= s->uids[i] == peer.uid;
        if (!ok)
                log_debug("%s: uid %u may not connect", s->path, (unsigned) peer.uid);
        return ok;
}

static void on_resume(void *userdata)
{
        struct fdlink_server *s = userdata;
        (void) sd_event_source_set_enabled(s->io, SD_EVENT_ON);
}

/* The connection that could not be accepted stays readable: without a rest the loop would spin. */
static void rest(struct fdlink_server *s, int error)
{
        log_debug("%s: no connection accepted: %s", s->path, strerrordesc_np(error));
        (void) sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
        loop_timer_arm(&s->resume, RESUME_USEC);
}

static int on_connect(sd_event_source *source, int listener, uint32_t revents, void *userdata)
{
        struct fdlink_server *s = userdata;
        for (int i = 0; i < BATCH; i++) {
                cleanup_close int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd < 0) {
                        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                                rest(s, errno);
                        break;
                }
                if (s->n_clients >= CLIENTS_MAX || !may_connect(s, fd))
                        continue;
                struct client *c = xnew(struct client);
                *c = (struct client){ .s = s, .fd = -1, .number = ++s->connections };
                list_init(&c->requests);
                if (sd_event_add_io(s->event, &c->io, fd, EPOLLIN, on_client, c) < 0) {
                        client_free(c);
                        continue;
                }
                c->fd = TAKE_FD(fd);
                list_push_back(&s->clients, &c->link);
                s->n_clients++;
        }
        return 0;
}

static int server_listen(struct fdlink_server *s, int mode)
{
        struct sockaddr_un a;
        int r = sockpath_address(s->path, &a);
        if (r == 0)
                r = sockpath_claim(s->path, SOCK_SEQPACKET);
        if (r < 0)
                return r;
        s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (s->fd < 0)
                return -errno;
        mode_t old = umask(0177);
        r = bind(s->fd, (struct sockaddr *) &a, sizeof(a)) < 0 ? -errno : 0;
        umask(old);
        if (r == 0 && (chmod(s->path, (mode_t) mode) < 0 || listen(s->fd, 128) < 0))
                r = -errno;
        return r < 0 ? r : sd_event_add_io(s->event, &s->io, s->fd, EPOLLIN, on_connect, s);
}

int fdlink_server_new(const struct fdlink_server_config *c, struct fdlink_server **ret)
{
        for (size_t i = 0; i < c->n_routes; i++)
                assert(c->routes[i].type->reply &&
                       c->routes[i].type->frame_max <= FDLINK_PACKET_MAX &&
                       c->routes[i].type->reply->frame_max <= FDLINK_PACKET_MAX);
        CLEANUP(fdlink_server_freep) struct fdlink_server *s = xnew(struct fdlink_server);
        *s = (struct fdlink_server){
                .event = sd_event_ref(c->event),
                .path = xstrdup(c->path),
                .fd = -1,
                .uids = xnewn(uid_t, c->n_uids + 1),
                .n_uids = c->n_uids,
                .any_uid = c->any_uid,
                .routes = c->routes,
                .n_routes = c->n_routes,
                .on_end = c->on_end,
                .userdata = c->userdata,
                .arena = wire_arena_new(),
                .packet = xmalloc(FDLINK_PACKET_MAX),
        };
        list_init(&s->clients);
        if (c->n_uids > 0)
                memcpy(s->uids, c->uids, c->n_uids * sizeof(uid_t));
        int r = loop_timer_init(&s->resume, s->event, on_resume, s);
        if (r == 0)
                r = server_listen(s, c->mode ? c->mode : 0600);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

static void destroy(void *p)
{
        struct fdlink_server *s = p;
        wire_arena_free(s->arena);
        buf_done(&s->out);
        free(s->packet);
        free(s->uids);
        free(s->path);
        sd_event_unref(s->event);
        free(s);
}

struct fdlink_server *fdlink_server_free(struct fdlink_server *s)
{
        if (!s || s->closed)
                return NULL;
        s->closed = true;
        bool bound = s->io != NULL;
        s->io = sd_event_source_disable_unref(s->io);
        loop_timer_done(&s->resume);
        s->fd = fd_close(s->fd);
        if (bound)
                (void) unlink(s->path);
        while (!list_empty(&s->clients))
                client_end(list_first(&s->clients, struct client, link), "server ends");
        loop_defer_free(s->event, s, destroy);
        return NULL;
}
