/* Listeners, and who may hold how many connections: limits by count and by address, oldest idle
 * ones give way. */
#include "gatewayd/http-private.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

#include "common/io/log.h"
#include "gatewayd/gateway.h"
#include "gatewayd/proxies.h"

#define ACCEPTS_PER_TURN 64
#define RESUME_USEC (100 * USEC_PER_MSEC)

const char *http_date(struct http_server *s)
{
        uint64_t now = now_realtime() / USEC_PER_SEC;

        if (now != s->date_second) {
                time_t t = (time_t) now;
                struct tm tm;
                (void) gmtime_r(&t, &tm);
                (void) strftime(s->date, sizeof(s->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
                s->date_second = now;
        }
        return s->date;
}

/* ---- limits ---- */

static struct http_peer *peer_get(struct http_server *s, const char *address)
{
        struct http_peer *p = map_get(s->peers, address);

        if (!p) {
                p = xnew(struct http_peer);
                p->address = xstrdup(address);
                list_init(&p->waiting);
                (void) map_set(s->peers, address, p);
        }
        return p;
}

void http_slot_release(struct http_server *s, void *slot)
{
        struct http_slot *sl = slot;
        struct http_peer *p = sl->peer;

        s->n--;
        s->stats.connections = s->n;
        if (p && --p->count == 0) {
                (void) map_remove(s->peers, p->address);
                free(p->address);
                free(p);
        }
        free(sl);
}

void http_peer_note_waiting(struct http_conn *c, bool waiting)
{
        list_remove(&c->by_age);
        list_remove(&c->by_peer);
        if (!waiting)
                return;
        list_push_back(&c->server->waiting, &c->by_age);
        if (c->slot->peer)
                list_push_back(&c->slot->peer->waiting, &c->by_peer);
}

/* Makes room for one more from this address. False: all of its connections are at work. */
static bool make_room(struct http_server *s, const char *address)
{
        const struct gateway_settings *settings = s->gateway->settings;
        struct http_peer *p = address ? map_get(s->peers, address) : NULL;

        if (p && p->count >= settings->connections_per_address) {
                struct http_conn *oldest = list_first(&p->waiting, struct http_conn, by_peer);
                if (!oldest)
                        return false;
                http_conn_end(oldest);
        }
        if (s->n >= settings->connections_max) {
                struct http_conn *oldest = list_first(&s->waiting, struct http_conn, by_age);
                if (!oldest)
                        return false;
                http_conn_end(oldest);
        }
        return true;
}

bool http_forwarded_room(struct http_server *s, const char *address)
{
        const struct http_peer *p = map_get(s->peers, address);

        return !p || p->count < s->gateway->settings->connections_per_address;
}

void http_slot_rehome(struct http_server *s, struct http_slot *slot, const char *address)
{
        if (slot->peer)
                return;
        slot->peer = peer_get(s, address);
        slot->peer->count++;
}

static void turn_away(struct http_server *s, int fd)
{
        static const char text[] =
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
                "Content-Type: application/json\r\nContent-Length: 76\r\n\r\n"
                "{\"error\":{\"code\":\"unavailable\",\"message\":\"There are too many "
                "connections.\"}}";

        s->stats.refused++;
        (void) send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void) fd_close(fd);
}

/* ---- accepting ---- */

static void welcome(struct http_listener *l, int fd, const struct sockaddr_storage *sa)
{
        struct http_server *s = l->server;
        char address[INET6_ADDRSTRLEN] = "", label[64] = "unix";
        int one = 1;

        if (sa->ss_family == AF_INET) {
                const struct sockaddr_in *in = (const struct sockaddr_in *) sa;
                (void) inet_ntop(AF_INET, &in->sin_addr, address, sizeof(address));
                (void) snprintf(label, sizeof(label), "%s:%u", address, ntohs(in->sin_port));
        } else if (sa->ss_family == AF_INET6) {
                const struct sockaddr_in6 *in = (const struct sockaddr_in6 *) sa;
                (void) inet_ntop(AF_INET6, &in->sin6_addr, address, sizeof(address));
                (void) snprintf(label, sizeof(label), "[%s]:%u", address, ntohs(in->sin6_port));
        }
        if (address[0])
                (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        /* All clients of a trusted proxy come from its address: its connections count in all only,
         * and its streams for the client that it tells. */
        bool counts = address[0] && !proxies_trust(s->gateway->proxies, address);
        if (!make_room(s, counts ? address : NULL)) {
                turn_away(s, fd);
                return;
        }
        struct http_slot *slot = xnew(struct http_slot);
        slot->server = s;
        if (counts) {
                slot->peer = peer_get(s, address);
                slot->peer->count++;
        }
        s->n++;
        s->stats.accepted++;
        s->stats.connections = s->n;
        http_conn_new(s, fd, slot, label, address[0] ? address : "unix", l->listener);
}

static void pause_listeners(struct http_server *s, bool pause)
{
        struct http_listener *l;

        list_foreach (l, &s->listeners, link)
                (void) sd_event_source_set_enabled(l->io, pause ? SD_EVENT_OFF : SD_EVENT_ON);
        if (pause)
                loop_timer_arm(&s->resume, RESUME_USEC);
}

static void on_resume(void *userdata)
{
        struct http_server *s = userdata;

        if (s->reserve_fd < 0)
                s->poll_fd = -1;
        s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        pause_listeners(s, false);
}

/* No descriptor is left: the reserve lets us tell one client, then we wait a little. */
static void out_of_descriptors(struct http_listener *l)
{
        struct http_server *s = l->server;

        if (s->reserve_fd >= 0) {
                s->reserve_fd = fd_close(s->reserve_fd);
                int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd >= 0)
                        turn_away(s, fd);
                s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        }
        log_warning("no file descriptor left for a new connection; %zu are open", s->n);
        pause_listeners(s, true);
}

static int on_accept(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata)
{
        struct http_listener *l = userdata;

        for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
                struct sockaddr_storage sa = { 0 };
                socklen_t len = sizeof(sa);
                int fd = accept4(listen_fd, (struct sockaddr *) &sa, &len,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd >= 0) {
                        welcome(l, fd, &sa);
                        continue;
                }
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                        out_of_descriptors(l);
                else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
                        (void) log_errno(LOG_WARNING, errno, "cannot accept a connection");
                        pause_listeners(l->server, true);
                }
                break;
        }
        return 0;
}

/* ---- listeners ---- */

static void listener_free(struct http_listener *l)
{
        list_remove(&l->link);
        l->io = sd_event_source_disable_unref(l->io);
        if (l->fd >= 0 && l->path)
                (void) unlink(l->path);
        l->fd = fd_close(l->fd);
        free(l->path);
        free(l);
}

int http_server_listen(struct http_server *s, const char *address, unsigned listener,
                       bool public_ok)
{
        bool ours;
        cleanup_close int fd = http_open(address, listener, public_ok, &ours);

        if (fd < 0)
                return fd;
        struct http_listener *l = xnew(struct http_listener);
        l->server = s;
        l->listener = listener;
        l->fd = TAKE_FD(fd);
        list_push_back(&s->listeners, &l->link);
        int r = sd_event_add_io(s->gateway->event, &l->io, l->fd, EPOLLIN, on_accept, l);
        if (r < 0) {
                listener_free(l);
                return r;
        }
        if (address[0] == '/' && ours)
                l->path = xstrdup(address);
        return 0;
}

int http_server_new(struct gateway *g, struct http_server **ret)
{
        struct http_server *s = xnew(struct http_server);

        s->gateway = g;
        list_init(&s->listeners);
        list_init(&s->conns);
        list_init(&s->waiting);
        list_init(&s->ready);
        s->peers = map_new();
        s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int r = loop_timer_init(&s->resume, g->event, on_resume, s);
        if (r >= 0)
                r = loop_task_init(&s->advance, g->event, http_conn_advance_ready, s);
        if (r >= 0)
                r = http_conn_poll_new(s);
        if (r < 0) {
                (void) http_server_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

void http_server_stop_listening(struct http_server *s)
{
        struct http_listener *l;

        while ((l = list_first(&s->listeners, struct http_listener, link)))
                listener_free(l);
}

struct http_server *http_server_free(struct http_server *s)
{
        struct http_conn *c;

        if (!s)
                return NULL;
        http_server_stop_listening(s);
        while ((c = list_first(&s->conns, struct http_conn, all)))
                http_conn_end(c);
        loop_timer_done(&s->resume);
        loop_task_done(&s->advance);
        s->poll = sd_event_source_disable_unref(s->poll);
        (void) fd_close(s->poll_fd);
        (void) fd_close(s->reserve_fd);
        (void) map_free(s->peers);
        free(s);
        return NULL;
}

void http_server_stats(const struct http_server *s, struct http_server_stats *ret)
{
        *ret = s->stats;
}
