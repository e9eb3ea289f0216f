/* Server side of the HTTP client's tests. */
#include "http-peer.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/list.h"

struct peer_link {
        struct list link;
        struct http_peer *server;
        int fd;
        sd_event_source *io;
        struct buf in, out;
        bool endless, close_after, streaming;
};

struct http_peer {
        sd_event *event;
        sd_event_source *io;
        int fd, port, accepted, open;
        struct list links;
};

static void link_end(struct peer_link *l)
{
        list_remove(&l->link);
        l->server->open--;
        sd_event_source_disable_unref(l->io);
        (void) fd_close(l->fd);
        buf_done(&l->in);
        buf_done(&l->out);
        free(l);
}

/* False when the link is gone. */
static bool link_write(struct peer_link *l)
{
        for (;;) {
                if (l->endless && buf_pending(&l->out) < 4096) {
                        char filler[16384];
                        memset(filler, 'x', sizeof(filler));
                        buf_put(&l->out, filler, sizeof(filler));
                }
                if (buf_pending(&l->out) == 0)
                        break;
                ssize_t n = send(l->fd, buf_head(&l->out), buf_pending(&l->out),
                                 MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0) {
                        link_end(l);
                        return false;
                }
                buf_consume(&l->out, (size_t) n);
        }
        bool more = buf_pending(&l->out) > 0;
        (void) sd_event_source_set_io_events(l->io, more ? EPOLLIN | EPOLLOUT : EPOLLIN);
        if (more || !l->close_after)
                return true;
        link_end(l);
        return false;
}

static void plain(struct peer_link *l, int status, const char *text, size_t n)
{
        buf_putf(&l->out, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nX-Test:  a b \r\n\r\n", status,
                 n);
        buf_put(&l->out, text, n);
}

static void answer(struct peer_link *l, const char *path, const char *request, size_t n)
{
        if (str_starts(path, "/echo ")) {
                plain(l, 200, request, n);
        } else if (str_starts(path, "/status/")) {
                plain(l, atoi(path + 8), "sorry", 5);
        } else if (str_starts(path, "/chunks ")) {
                buf_puts(&l->out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                l->streaming = true;
        } else if (str_starts(path, "/stall ")) {
                buf_puts(&l->out, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
        } else if (str_starts(path, "/cut ")) {
                buf_puts(&l->out, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
                l->close_after = true;
        } else if (str_starts(path, "/endless ")) {
                buf_puts(&l->out, "HTTP/1.1 200 OK\r\n\r\n");
                l->endless = true;
        } else if (str_starts(path, "/garbage ")) {
                buf_puts(&l->out, "HTTP/1.1 abc\r\nno colon here\r\n\r\n");
                l->close_after = true;
        } else if (str_starts(path, "/interim ")) {
                buf_puts(&l->out, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX-A: 1\r\n"
                                  "\r\n");
                plain(l, 201, "made", 4);
        } else if (str_starts(path, "/headers ")) {
                buf_puts(&l->out, "HTTP/1.1 200 OK\r\n");
                for (int i = 0; i < 40; i++) {
                        buf_putf(&l->out, "X-%d: ", i);
                        for (int k = 0; k < 1000; k++)
                                buf_puts(&l->out, "0123456789");
                        buf_puts(&l->out, "\r\n");
                }
                buf_puts(&l->out, "Content-Length: 0\r\n\r\n");
        } else if (!str_starts(path, "/silent ")) {
                plain(l, 404, "", 0);
        }
}

/* Takes whole requests from what came in. */
static void link_requests(struct peer_link *l)
{
        for (;;) {
                const char *head = buf_head(&l->in), *end = strstr(head, "\r\n\r\n");
                const char *length = strcasestr(head, "content-length: ");
                if (!end)
                        return;
                size_t body = length && length < end ? strtoul(length + 16, NULL, 10) : 0;
                size_t n = (size_t) (end - head) + 4 + body;
                if (buf_pending(&l->in) < n)
                        return;
                answer(l, strchr(head, ' ') + 1, head, n);
                buf_consume(&l->in, n);
        }
}

static int on_link(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct peer_link *l = userdata;
        if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                if (buf_reserve(&l->in, 65536) < 0)
                        abort();
                ssize_t n = recv(fd, buf_tail(&l->in), 65536, MSG_DONTWAIT);
                if (n == 0 || (n < 0 && errno != EAGAIN)) {
                        link_end(l);
                        return 0;
                }
                if (n > 0) {
                        buf_added(&l->in, (size_t) n);
                        link_requests(l);
                }
        }
        (void) link_write(l);
        return 0;
}

static int on_accept(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct http_peer *p = userdata;
        int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (c < 0)
                return 0;
        struct peer_link *l = xnew(struct peer_link);
        *l = (struct peer_link){ .server = p, .fd = c };
        list_push_back(&p->links, &l->link);
        p->accepted++;
        p->open++;
        return sd_event_add_io(p->event, &l->io, c, EPOLLIN, on_link, l);
}

struct http_peer *http_peer_new(sd_event *e)
{
        struct http_peer *p = xnew(struct http_peer);
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t n = sizeof(a);
        p->event = e;
        list_init(&p->links);
        p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (p->fd < 0 || bind(p->fd, (struct sockaddr *) &a, sizeof(a)) < 0 ||
            listen(p->fd, 256) < 0 || getsockname(p->fd, (struct sockaddr *) &a, &n) < 0 ||
            sd_event_add_io(e, &p->io, p->fd, EPOLLIN, on_accept, p) < 0)
                abort();
        p->port = ntohs(a.sin_port);
        return p;
}

void http_peer_free(struct http_peer *p)
{
        struct peer_link *l;
        while ((l = list_first(&p->links, struct peer_link, link)))
                link_end(l);
        sd_event_source_disable_unref(p->io);
        (void) fd_close(p->fd);
        free(p);
}

int http_peer_port(const struct http_peer *p)
{
        return p->port;
}

int http_peer_accepted(const struct http_peer *p)
{
        return p->accepted;
}

int http_peer_open(const struct http_peer *p)
{
        return p->open;
}

void http_peer_chunk(struct http_peer *p, const char *text, bool last)
{
        struct peer_link *l, *next;
        list_foreach_safe (l, next, &p->links, link) {
                if (!l->streaming)
                        continue;
                buf_putf(&l->out, "%zx\r\n%s\r\n%s", strlen(text), text, last ? "0\r\n\r\n" : "");
                l->streaming = !last;
                (void) link_write(l);
        }
}
