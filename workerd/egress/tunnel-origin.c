/* The origin of a tunnel: resolved, dialled, greeted. */
#include "tunnel-private.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hello.h"

static void open_tunnel(struct tunnel *t)
{
        tunnel_set_state(t, TUNNEL_OPEN, t->proxy->idle_usec);
        if (t->head.len > 0 && tunnel_pass_up(t, buf_head(&t->head), buf_pending(&t->head)) < 0) {
                tunnel_cut(t, "bad_request", "the body's chunks are malformed");
                return;
        }
        buf_done(&t->head);
        loop_task_queue(&t->again);
}

/* In mode allow a client must not name another host inside TLS than it asked the proxy for: one
 * address may serve many. */
void tunnel_check_name(struct tunnel *t)
{
        char name[HOST_TEXT_MAX];
        int r = hello_name(buf_head(&t->head), buf_pending(&t->head), name);
        if (r == -EAGAIN && buf_pending(&t->head) < HELLO_MAX) {
                if (t->client.eof)
                        tunnel_cut(t, "name_mismatch", "the tunnel ended before a TLS hello");
                else
                        tunnel_watch_both(t);
                return;
        }
        if (r == 0 && streq(name, t->request.host))
                open_tunnel(t);
        else if (r == 0)
                tunnel_cut(t, "name_mismatch", "the TLS hello names another host");
        else if (r == -ENOENT && t->request.kind != HOST_NAME)
                open_tunnel(t); /* an address has no name */
        else
                tunnel_cut(t, "name_mismatch",
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
                tunnel_set_state(t, TUNNEL_NAMING, HEAD_TIMEOUT);
                if (!tunnel_drain(t, &t->client))
                        tunnel_free(t);
                else
                        tunnel_check_name(t);
                return;
        }
        size_t length = request_head_length(buf_head(&t->head), buf_pending(&t->head));
        struct request_field added = { 0 };
        if (t->credential)
                added = (struct request_field){ t->credential->name, t->credential->value };
        struct span head = { buf_head(&t->head), length };
        if (request_rewrite(head, r, t->credential ? &added : NULL, &t->origin.out) < 0) {
                tunnel_refuse(t, 400, "bad_request", "the request's head is too large");
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
                tunnel_watch(&t->origin, e == SSL_ERROR_WANT_READ, e == SSL_ERROR_WANT_WRITE);
                return;
        }
        long verified = SSL_get_verify_result(t->tls);
        tunnel_refuse(t, 502, "unreachable", "no trusted TLS with %s: %s", t->request.host,
                      verified != X509_V_OK ? X509_verify_cert_error_string(verified)
                                            : "the handshake failed");
}

static void begin_tls(struct tunnel *t)
{
        t->tls = SSL_new(t->proxy->tls);
        if (!t->tls || SSL_set_fd(t->tls, t->origin.fd) != 1 ||
            SSL_set_tlsext_host_name(t->tls, t->request.host) != 1 ||
            SSL_set1_host(t->tls, t->request.host) != 1) {
                tunnel_refuse(t, 502, "unreachable", "no TLS with %s", t->request.host);
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
                tunnel_dial_next(t);
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
                tunnel_pump_open(t);
        else if (revents & (EPOLLERR | EPOLLHUP))
                tunnel_finish(t, "closed");
        return 0;
}

void tunnel_dial_next(struct tunnel *t)
{
        tunnel_side_done(&t->origin);
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
                        tunnel_side_done(&t->origin);
                        continue;
                }
                loop_timer_arm(&t->deadline, DIAL_TIMEOUT);
                return;
        }
        tunnel_refuse(t, 502, "unreachable", "%s:%u does not answer", t->request.host,
                      t->request.port);
}

static void dial(struct tunnel *t, const struct address *addresses, size_t n)
{
        const char *what;
        for (size_t i = 0; i < n; i++) {
                /* One bad address is enough: a name that mixes them is somebody's attempt. */
                if (proxy_address_allowed(t->proxy, (const void *) &addresses[i].storage, &what))
                        continue;
                tunnel_refuse(t, 403, "special_address",
                              "%s has an address that slots may not reach (%s)", t->request.host,
                              what);
                return;
        }
        t->n_addresses = MIN(n, (size_t) ADDRESSES_TRIED_MAX);
        memcpy(t->addresses, addresses, t->n_addresses * sizeof(*addresses));
        tunnel_dial_next(t);
}

static void on_resolved(void *userdata, int r, const struct address *addresses, size_t n)
{
        struct tunnel *t = userdata;
        t->lookup = NULL;
        if (r < 0)
                tunnel_refuse(t, 502, "unresolved",
                              r == -ENOENT ? "there is no host %s"
                                           : "no name server answers for %s",
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

void tunnel_reach(struct tunnel *t)
{
        struct address known;
        uint16_t port = t->credential ? t->credential->port : t->request.port;
        tunnel_set_state(t, TUNNEL_DIALING, DIAL_TIMEOUT);
        tunnel_watch_both(t);
        if (known_address(t, &known)) {
                set_port(&known, port);
                dial(t, &known, 1);
                return;
        }
        int r = resolver_lookup(t->proxy->resolver, t->request.host, port, on_resolved, t,
                                &t->lookup);
        if (r < 0)
                tunnel_refuse(t, 502, "unresolved", "%s cannot be looked up: %s", t->request.host,
                              strerror(-r));
}
