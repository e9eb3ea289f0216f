/* One client of the proxy: reads what it asks for, has it judged, dials, and carries the bytes. */
#include "egress.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hello.h"

enum tunnel_state {
        TUNNEL_HEAD,    /* reading the request */
        TUNNEL_DIALING, /* resolving, connecting, TLS */
        TUNNEL_NAMING,  /* of a CONNECT to 443 in mode allow: waiting for the name in the hello */
        TUNNEL_OPEN,
        TUNNEL_CLOSING, /* an answer of ours is on its way out, then what comes is dropped */
        TUNNEL_STATE_MAX
};
static const char *const state_names[TUNNEL_STATE_MAX] = { "head", "dialing", "naming", "open",
                                                           "closing" };

/* One socket with what waits to be written to it. */
struct side {
        int fd;
        sd_event_source *io;
        struct buf out;
        bool eof;  /* nothing more comes from it */
        bool shut; /* it was told that nothing more comes */
};

struct tunnel {
        struct list link;
        struct proxy *proxy;
        enum tunnel_state state;
        struct side client, origin;
        struct buf head; /* the request, then the hello */
        struct request request;
        struct body body;
        bool framed; /* the client's bytes are a body with an end */
        bool told, dialled_tls;
        const struct credential *credential;
        struct lookup *lookup;
        struct address addresses[ADDRESSES_TRIED_MAX];
        size_t n_addresses, next_address;
        bool connected;
        SSL *tls;
        struct loop_timer deadline;
        struct loop_task again; /* pump: later, so that no step calls another in a circle */
        uint64_t began, up, down;
        char address[INET6_ADDRSTRLEN];
};

static void dial_next(struct tunnel *t);

static void set_state(struct tunnel *t, enum tunnel_state to, uint64_t timeout)
{
        log_debug("tunnel %s -> %s", state_names[t->state], state_names[to]);
        t->state = to;
        loop_timer_arm(&t->deadline, timeout);
}

static void side_done(struct side *s)
{
        s->io = sd_event_source_disable_unref(s->io);
        s->fd = fd_close(s->fd);
        buf_done(&s->out);
}

static void destroy(void *p)
{
        struct tunnel *t = p;
        loop_timer_done(&t->deadline);
        loop_task_done(&t->again);
        buf_done(&t->head);
        free(t);
}

struct tunnel *tunnel_free(struct tunnel *t)
{
        if (!t)
                return NULL;
        list_remove(&t->link);
        t->proxy->n_tunnels--;
        t->lookup = lookup_cancel(t->lookup);
        SSL_free(t->tls);
        side_done(&t->client);
        side_done(&t->origin);
        loop_timer_disarm(&t->deadline);
        loop_task_done(&t->again);
        loop_defer_free(t->proxy->event, t, destroy);
        return NULL;
}

struct tunnel *tunnel_of(struct list *link)
{
        return container_of(link, struct tunnel, link);
}

/* --- verdicts --------------------------------------------------------------------------------- */

static void tell(struct tunnel *t, bool allowed, const char *reason, const char *detail)
{
        if (t->told)
                return;
        t->told = true;
        proxy_tell(t->proxy, &(struct egress_verdict){
                                     .allowed = allowed,
                                     .host = t->request.host,
                                     .port = t->request.port,
                                     .method = t->request.method,
                                     .reason = reason,
                                     .detail = detail,
                                     .address = t->address[0] ? t->address : NULL,
                                     .bytes_up = t->up,
                                     .bytes_down = t->down,
                                     .duration_us = now_monotonic() - t->began,
                             });
}

static void finish(struct tunnel *t, const char *reason)
{
        tell(t, true, reason, "");
        tunnel_free(t);
}

/* Answers with an error a program can show to its user, and ends. */
static void refuse(struct tunnel *t, unsigned status, const char *reason, const char *fmt, ...)
        printf_like(4, 5);
static void refuse(struct tunnel *t, unsigned status, const char *reason, const char *fmt, ...)
{
        char detail[400];
        va_list ap;
        va_start(ap, fmt);
        (void) vsnprintf(detail, sizeof(detail), fmt, ap);
        va_end(ap);
        tell(t, false, reason, detail);
        buf_clear(&t->client.out);
        buf_putf(&t->client.out,
                 "HTTP/1.1 %u %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                 "Content-Length: %zu\r\nX-Berth-Egress: %s\r\nConnection: close\r\n\r\n"
                 "berth: %s\n",
                 status,
                 status == 400   ? "Bad Request"
                 : status == 403 ? "Forbidden"
                 : status == 502 ? "Bad Gateway"
                 : status == 503 ? "Service Unavailable"
                                 : "Gateway Timeout",
                 strlen(detail) + 8, reason, detail);
        t->lookup = lookup_cancel(t->lookup);
        SSL_free(TAKE_PTR(t->tls));
        side_done(&t->origin);
        set_state(t, TUNNEL_CLOSING, LINGER_TIMEOUT);
        loop_task_queue(&t->again);
}

/* After the client was told that the tunnel stands, nothing can be said to it in HTTP. */
static void cut(struct tunnel *t, const char *reason, const char *detail)
{
        tell(t, false, reason, detail);
        tunnel_free(t);
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* As read(2) and send(2), with -EAGAIN and other negative errnos. */
static ssize_t origin_read(struct tunnel *t, void *to, size_t n)
{
        ssize_t got;
        if (!t->tls) {
                got = read(t->origin.fd, to, n);
                return got < 0 ? -errno : got;
        }
        ERR_clear_error();
        int r = SSL_read(t->tls, to, (int) MIN(n, (size_t) INT32_MAX));
        if (r > 0)
                return r;
        int e = SSL_get_error(t->tls, r);
        return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? -EAGAIN
               : e == SSL_ERROR_ZERO_RETURN                          ? 0
                                                                     : -EPIPE;
}

static ssize_t side_write(struct tunnel *t, struct side *s)
{
        ssize_t n;
        if (s != &t->origin || !t->tls) {
                n = send(s->fd, buf_head(&s->out), buf_pending(&s->out), MSG_NOSIGNAL);
                return n < 0 ? -errno : n;
        }
        ERR_clear_error();
        int r = SSL_write(t->tls, buf_head(&s->out),
                          (int) MIN(buf_pending(&s->out), (size_t) TUNNEL_BUFFER));
        int e = r > 0 ? 0 : SSL_get_error(t->tls, r);
        return r > 0 ? r : e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? -EAGAIN : -EPIPE;
}

/* Writes what waits; false when the tunnel is over. */
static bool drain(struct tunnel *t, struct side *s)
{
        while (buf_pending(&s->out) > 0) {
                ssize_t n = side_write(t, s);
                if (n == -EINTR)
                        continue;
                if (n == -EAGAIN)
                        return true;
                if (n < 0)
                        return false;
                buf_consume(&s->out, (size_t) n);
                if (s == &t->origin)
                        t->up += (uint64_t) n;
                else
                        t->down += (uint64_t) n;
        }
        return true;
}

static size_t room(const struct side *s)
{
        size_t have = buf_pending(&s->out);
        return have < TUNNEL_BUFFER ? TUNNEL_BUFFER - have : 0;
}

/* Bytes of the client on their way to the origin; -EINVAL when its chunks are malformed. */
static int pass_up(struct tunnel *t, const char *data, size_t n)
{
        if (t->framed) {
                ssize_t own = body_take(&t->body, data, n);
                if (own < 0)
                        return (int) own;
                n = (size_t) own; /* what follows would be another request: never sent */
        }
        buf_put(&t->origin.out, data, n);
        return 0;
}

static bool wants_client(const struct tunnel *t)
{
        if (t->client.eof)
                return false;
        return t->state == TUNNEL_OPEN ? room(&t->origin) > 0 && !(t->framed && t->body.done)
                                       : t->state != TUNNEL_DIALING;
}

static bool wants_origin(const struct tunnel *t)
{
        return t->state == TUNNEL_OPEN && !t->origin.eof && room(&t->client) > 0;
}

static void watch(struct side *s, bool in, bool out)
{
        if (s->io)
                (void) sd_event_source_set_io_events(s->io,
                                                     (in ? EPOLLIN : 0U) | (out ? EPOLLOUT : 0U));
}

static void watch_both(struct tunnel *t)
{
        watch(&t->client, wants_client(t), buf_pending(&t->client.out) > 0);
        if (t->state == TUNNEL_OPEN || t->state == TUNNEL_NAMING)
                watch(&t->origin, wants_origin(t), buf_pending(&t->origin.out) > 0);
}

/* Once a direction has ended and all of it is written, the other end hears so. */
static void pass_end(struct side *from, struct side *to, bool tls)
{
        if (!from->eof || to->shut || buf_pending(&to->out) > 0)
                return;
        to->shut = true;
        if (!tls)
                (void) shutdown(to->fd, SHUT_WR);
}

/* One round in each direction; false when the tunnel is over. */
static bool carry(struct tunnel *t, bool *ret_moved)
{
        char data[16 * 1024];
        uint64_t before = t->up + t->down;
        *ret_moved = false;
        if (wants_client(t)) {
                ssize_t n = read(t->client.fd, data, MIN(sizeof(data), room(&t->origin)));
                if (n > 0 && pass_up(t, data, (size_t) n) < 0)
                        return false;
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return false;
                t->client.eof = t->client.eof || n == 0;
                *ret_moved = n >= 0;
        }
        if (wants_origin(t)) {
                ssize_t n = origin_read(t, data, MIN(sizeof(data), room(&t->client)));
                if (n > 0)
                        buf_put(&t->client.out, data, (size_t) n);
                else if (n != -EAGAIN && n != -EINTR)
                        t->origin.eof = true;
                *ret_moved = *ret_moved || n >= 0;
        }
        if (!drain(t, &t->origin) || !drain(t, &t->client))
                return false;
        if (t->up + t->down != before)
                loop_timer_arm(&t->deadline, t->proxy->idle_usec);
        pass_end(&t->client, &t->origin, t->tls != NULL);
        pass_end(&t->origin, &t->client, false);
        return !(t->client.shut && (t->origin.shut || t->framed));
}

static void pump_open(struct tunnel *t)
{
        bool moved = true;
        /* A few rounds a turn, so that others have theirs; the rest is still readable. */
        for (int i = 0; i < 8 && moved; i++)
                if (!carry(t, &moved)) {
                        finish(t, "closed");
                        return;
                }
        watch_both(t);
}

static void pump_closing(struct tunnel *t)
{
        char data[4096];
        if (!drain(t, &t->client)) {
                tunnel_free(t);
                return;
        }
        if (buf_pending(&t->client.out) == 0 && !t->client.shut) {
                t->client.shut = true;
                (void) shutdown(t->client.fd, SHUT_WR);
        }
        /* Closing with unread bytes would reset the connection before the answer is read. */
        ssize_t n = read(t->client.fd, data, sizeof(data));
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                tunnel_free(t);
        else
                watch_both(t);
}

/* --- the origin ------------------------------------------------------------------------------- */

static void open_tunnel(struct tunnel *t)
{
        set_state(t, TUNNEL_OPEN, t->proxy->idle_usec);
        if (t->head.len > 0 && pass_up(t, buf_head(&t->head), buf_pending(&t->head)) < 0) {
                cut(t, "bad_request", "the body's chunks are malformed");
                return;
        }
        buf_done(&t->head);
        loop_task_queue(&t->again);
}

/* In mode allow a client must not name another host inside TLS than it asked the proxy for: one
 * address may serve many. */
static void check_name(struct tunnel *t)
{
        char name[HOST_TEXT_MAX];
        int r = hello_name(buf_head(&t->head), buf_pending(&t->head), name);
        if (r == -EAGAIN && buf_pending(&t->head) < HELLO_MAX) {
                if (t->client.eof)
                        cut(t, "name_mismatch", "the tunnel ended before a TLS hello");
                else
                        watch_both(t);
                return;
        }
        if (r == 0 && streq(name, t->request.host))
                open_tunnel(t);
        else if (r == 0)
                cut(t, "name_mismatch", "the TLS hello names another host");
        else if (r == -ENOENT && t->request.kind != HOST_NAME)
                open_tunnel(t); /* an address has no name */
        else
                cut(t, "name_mismatch",
                    r == -ENOENT ? "the TLS hello names no host"
                                 : "what is sent to port 443 is not TLS");
}

static bool must_name(const struct tunnel *t)
{
        return t->request.connect && t->request.port == 443 &&
               t->proxy->policy.mode == NETWORK_ALLOW;
}

static void established(struct tunnel *t)
{
        struct request *r = &t->request;
        if (r->connect) {
                buf_puts(&t->client.out, "HTTP/1.1 200 Connection established\r\n\r\n");
                if (!must_name(t)) {
                        open_tunnel(t);
                        return;
                }
                set_state(t, TUNNEL_NAMING, HEAD_TIMEOUT);
                if (!drain(t, &t->client))
                        tunnel_free(t);
                else
                        check_name(t);
                return;
        }
        size_t length = request_head_length(buf_head(&t->head), buf_pending(&t->head));
        struct request_field added = { 0 };
        if (t->credential)
                added = (struct request_field){ t->credential->name, t->credential->value };
        struct span head = { buf_head(&t->head), length };
        if (request_rewrite(head, r, t->credential ? &added : NULL, &t->origin.out) < 0) {
                refuse(t, 400, "bad_request", "the request's head is too large");
                return;
        }
        buf_consume(&t->head, length);
        t->framed = true;
        body_begin(&t->body, r);
        open_tunnel(t);
}

static void shake(struct tunnel *t)
{
        ERR_clear_error();
        int r = SSL_do_handshake(t->tls);
        if (r == 1) {
                established(t);
                return;
        }
        int e = SSL_get_error(t->tls, r);
        if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
                watch(&t->origin, e == SSL_ERROR_WANT_READ, e == SSL_ERROR_WANT_WRITE);
                return;
        }
        long verified = SSL_get_verify_result(t->tls);
        refuse(t, 502, "unreachable", "no trusted TLS with %s: %s", t->request.host,
               verified != X509_V_OK ? X509_verify_cert_error_string(verified)
                                     : "the handshake failed");
}

static void begin_tls(struct tunnel *t)
{
        t->tls = SSL_new(t->proxy->tls);
        if (!t->tls || SSL_set_fd(t->tls, t->origin.fd) != 1 ||
            SSL_set_tlsext_host_name(t->tls, t->request.host) != 1 ||
            SSL_set1_host(t->tls, t->request.host) != 1) {
                refuse(t, 502, "unreachable", "no TLS with %s", t->request.host);
                return;
        }
        SSL_set_connect_state(t->tls);
        shake(t);
}

static void on_connected(struct tunnel *t)
{
        int error = 0;
        socklen_t len = sizeof(error);
        if (getsockopt(t->origin.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
                error = errno;
        if (error) {
                dial_next(t);
                return;
        }
        t->connected = true;
        (void) setsockopt(t->origin.fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        if (t->credential)
                begin_tls(t);
        else
                established(t);
}

static int on_origin(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct tunnel *t = userdata;
        if (t->state == TUNNEL_DIALING && !t->connected)
                on_connected(t);
        else if (t->state == TUNNEL_DIALING)
                shake(t);
        else if (t->state == TUNNEL_OPEN)
                pump_open(t);
        else if (revents & (EPOLLERR | EPOLLHUP))
                finish(t, "closed");
        return 0;
}

static void dial_next(struct tunnel *t)
{
        side_done(&t->origin);
        while (t->next_address < t->n_addresses) {
                const struct address *a = &t->addresses[t->next_address++];
                const struct sockaddr *sa = (const void *) &a->storage;
                const void *bytes =
                        sa->sa_family == AF_INET
                                ? (const void *) &((const struct sockaddr_in *) (const void *) sa)
                                          ->sin_addr
                                : &((const struct sockaddr_in6 *) (const void *) sa)->sin6_addr;
                (void) inet_ntop(sa->sa_family, bytes, t->address, sizeof(t->address));
                t->origin.fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                if (t->origin.fd < 0 ||
                    (connect(t->origin.fd, sa, a->len) < 0 && errno != EINPROGRESS) ||
                    sd_event_add_io(t->proxy->event, &t->origin.io, t->origin.fd, EPOLLOUT,
                                    on_origin, t) < 0) {
                        side_done(&t->origin);
                        continue;
                }
                loop_timer_arm(&t->deadline, DIAL_TIMEOUT);
                return;
        }
        refuse(t, 502, "unreachable", "%s:%u does not answer", t->request.host, t->request.port);
}

static void dial(struct tunnel *t, const struct address *addresses, size_t n)
{
        const char *what;
        for (size_t i = 0; i < n; i++) {
                /* One bad address is enough: a name that mixes them is somebody's attempt. */
                if (proxy_address_allowed(t->proxy, (const void *) &addresses[i].storage, &what))
                        continue;
                refuse(t, 403, "special_address", "%s has an address that slots may not reach (%s)",
                       t->request.host, what);
                return;
        }
        t->n_addresses = MIN(n, (size_t) ADDRESSES_TRIED_MAX);
        memcpy(t->addresses, addresses, t->n_addresses * sizeof(*addresses));
        dial_next(t);
}

static void on_resolved(void *userdata, int r, const struct address *addresses, size_t n)
{
        struct tunnel *t = userdata;
        t->lookup = NULL;
        if (r < 0)
                refuse(t, 502, "unresolved",
                       r == -ENOENT ? "there is no host %s" : "no name server answers for %s",
                       t->request.host);
        else
                dial(t, addresses, n);
}

static void set_port(struct address *a, uint16_t port)
{
        if (a->storage.ss_family == AF_INET)
                ((struct sockaddr_in *) (void *) &a->storage)->sin_port = htons(port);
        else
                ((struct sockaddr_in6 *) (void *) &a->storage)->sin6_port = htons(port);
}

/* A literal or a host of the operator's list. */
static bool known_address(const struct tunnel *t, struct address *ret)
{
        *ret = (struct address){ 0 };
        struct sockaddr_in *v4 = (void *) &ret->storage;
        struct sockaddr_in6 *v6 = (void *) &ret->storage;
        if (t->request.kind == HOST_IPV4) {
                v4->sin_family = AF_INET;
                ret->len = sizeof(*v4);
                return inet_pton(AF_INET, t->request.host, &v4->sin_addr) == 1;
        }
        if (t->request.kind == HOST_IPV6) {
                v6->sin6_family = AF_INET6;
                ret->len = sizeof(*v6);
                return inet_pton(AF_INET6, t->request.host, &v6->sin6_addr) == 1;
        }
        for (size_t i = 0; i < t->proxy->n_hosts; i++)
                if (streq(t->proxy->hosts[i].name, t->request.host)) {
                        *ret = t->proxy->hosts[i].address;
                        return true;
                }
        return false;
}

static void reach(struct tunnel *t)
{
        struct address known;
        uint16_t port = t->credential ? t->credential->port : t->request.port;
        set_state(t, TUNNEL_DIALING, DIAL_TIMEOUT);
        watch_both(t);
        if (known_address(t, &known)) {
                set_port(&known, port);
                dial(t, &known, 1);
                return;
        }
        int r = resolver_lookup(t->proxy->resolver, t->request.host, port, on_resolved, t,
                                &t->lookup);
        if (r < 0)
                refuse(t, 502, "unresolved", "%s cannot be looked up: %s", t->request.host,
                       strerror(-r));
}

/* --- the client ------------------------------------------------------------------------------- */

static void judge(struct tunnel *t)
{
        const struct request *r = &t->request;
        switch (network_judge(&t->proxy->policy, r->host, r->port)) {
        case NETWORK_ALLOWED:
                t->credential = proxy_credential(t->proxy, r);
                reach(t);
                return;
        case NETWORK_OFF:
                refuse(t, 403, "network_off", "this session has no network");
                return;
        case NETWORK_DENIED:
                refuse(t, 403, "denied", "%s is denied", r->host);
                return;
        case NETWORK_PORT:
                refuse(t, 403, "port_not_allowed", "port %u of %s is not allowed", r->port,
                       r->host);
                return;
        case NETWORK_NOT_LISTED:
        case NETWORK_VERDICT_MAX:
                break;
        }
        refuse(t, 403, "not_listed",
               "%s is not on this session's list; a person can allow it, then try again", r->host);
}

/* The name that a person reads when what came is no host. */
static void quote_target(struct tunnel *t)
{
        const char *data = buf_head(&t->head);
        size_t n = MIN(buf_pending(&t->head), (size_t) 100), to = 0;
        for (size_t i = 0; i < n && data[i] != '\r' && data[i] != '\n'; i++)
                t->request.host[to++] = (char) (data[i] > ' ' && data[i] < 0x7f ? data[i] : '?');
        t->request.host[to] = '\0';
}

static void read_head(struct tunnel *t)
{
        const char *why;
        ssize_t n = read(t->client.fd, buf_tail(&t->head), REQUEST_HEAD_MAX - t->head.len);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                tunnel_free(t);
                return;
        }
        buf_added(&t->head, (size_t) n);
        size_t length = request_head_length(buf_head(&t->head), buf_pending(&t->head));
        if (length == 0 && t->head.len < REQUEST_HEAD_MAX)
                return;
        if (length == 0) {
                quote_target(t);
                refuse(t, 400, "bad_request", "the request's head is larger than %d KiB",
                       REQUEST_HEAD_MAX / 1024);
                return;
        }
        if (request_parse((struct span){ buf_head(&t->head), length }, &t->request, &why) < 0) {
                quote_target(t);
                refuse(t, 400, "bad_request", "%s", why);
                return;
        }
        if (t->request.connect)
                buf_consume(&t->head, length);
        judge(t);
}

static void read_hello(struct tunnel *t)
{
        char data[4096];
        ssize_t n =
                read(t->client.fd, data, MIN(sizeof(data), HELLO_MAX + 1 - buf_pending(&t->head)));
        if (n < 0 && errno != EAGAIN && errno != EINTR)
                t->client.eof = true;
        if (n == 0)
                t->client.eof = true;
        if (n > 0)
                buf_put(&t->head, data, (size_t) n);
        check_name(t);
}

static void pump(void *userdata)
{
        struct tunnel *t = userdata;
        switch (t->state) {
        case TUNNEL_HEAD:
                read_head(t);
                break;
        case TUNNEL_NAMING:
                read_hello(t);
                break;
        case TUNNEL_OPEN:
                pump_open(t);
                break;
        case TUNNEL_CLOSING:
                pump_closing(t);
                break;
        case TUNNEL_DIALING:
        case TUNNEL_STATE_MAX:
                break;
        }
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct tunnel *t = userdata;
        if (t->state == TUNNEL_DIALING && (revents & (EPOLLERR | EPOLLHUP)))
                tunnel_free(t);
        else if (t->state == TUNNEL_OPEN && (revents & (EPOLLERR | EPOLLHUP)) &&
                 !(revents & (EPOLLIN | EPOLLOUT)))
                finish(t, "closed");
        else if (t->state == TUNNEL_NAMING && buf_pending(&t->client.out) > 0 &&
                 !drain(t, &t->client))
                tunnel_free(t);
        else
                pump(t);
        return 0;
}

static void on_deadline(void *userdata)
{
        struct tunnel *t = userdata;
        if (t->state == TUNNEL_DIALING && !t->lookup && !t->connected)
                dial_next(t);
        else if (t->state == TUNNEL_DIALING)
                refuse(t, 504, "unreachable", "%s takes too long", t->request.host);
        else if (t->state == TUNNEL_NAMING)
                cut(t, "name_mismatch", "no TLS hello came");
        else if (t->state == TUNNEL_OPEN)
                finish(t, "timeout");
        else
                tunnel_free(t);
}

void tunnel_new(struct proxy *p, int client)
{
        struct tunnel *t = xnew(struct tunnel);
        t->proxy = p;
        t->client.fd = client;
        t->origin.fd = -1;
        t->began = now_monotonic();
        t->head = BUF_LIMIT(REQUEST_HEAD_MAX + HELLO_MAX);
        list_push_back(&p->tunnels, &t->link);
        p->n_tunnels++;
        int r = buf_reserve(&t->head, REQUEST_HEAD_MAX);
        if (r == 0)
                r = loop_task_init(&t->again, p->event, pump, t);
        if (r == 0)
                r = loop_timer_init(&t->deadline, p->event, on_deadline, t);
        if (r == 0)
                r = sd_event_add_io(p->event, &t->client.io, client, EPOLLIN, on_client, t);
        if (r < 0) {
                log_errno(LOG_WARNING, r, "a client cannot be served");
                tunnel_free(t);
                return;
        }
        loop_timer_arm(&t->deadline, HEAD_TIMEOUT);
        if (p->n_tunnels > TUNNELS_MAX)
                refuse(t, 503, "busy", "more than %d connections at once", TUNNELS_MAX);
}
