/* One client of the proxy: reads what it asks for, has it judged, dials, and carries the bytes. */
#include "tunnel-private.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hello.h"

static const char *const state_names[TUNNEL_STATE_MAX] = { "head", "dialing", "naming", "open",
                                                           "closing" };

void tunnel_set_state(struct tunnel *t, enum tunnel_state to, uint64_t timeout)
{
        log_debug("tunnel %s -> %s", state_names[t->state], state_names[to]);
        t->state = to;
        loop_timer_arm(&t->deadline, timeout);
}

void tunnel_side_done(struct side *s)
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
        tunnel_side_done(&t->client);
        tunnel_side_done(&t->origin);
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

void tunnel_finish(struct tunnel *t, const char *reason)
{
        tell(t, true, reason, "");
        tunnel_free(t);
}

void tunnel_refuse(struct tunnel *t, unsigned status, const char *reason, const char *fmt, ...)
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
        tunnel_side_done(&t->origin);
        tunnel_set_state(t, TUNNEL_CLOSING, LINGER_TIMEOUT);
        loop_task_queue(&t->again);
}

void tunnel_cut(struct tunnel *t, const char *reason, const char *detail)
{
        tell(t, false, reason, detail);
        tunnel_free(t);
}

/* --- the client ------------------------------------------------------------------------------- */

static void judge(struct tunnel *t)
{
        const struct request *r = &t->request;
        switch (network_judge(&t->proxy->policy, r->host, r->port)) {
        case NETWORK_ALLOWED:
                t->credential = proxy_credential(t->proxy, r);
                tunnel_reach(t);
                return;
        case NETWORK_OFF:
                tunnel_refuse(t, 403, "network_off", "this session has no network");
                return;
        case NETWORK_DENIED:
                tunnel_refuse(t, 403, "denied", "%s is denied", r->host);
                return;
        case NETWORK_PORT:
                tunnel_refuse(t, 403, "port_not_allowed", "port %u of %s is not allowed", r->port,
                              r->host);
                return;
        case NETWORK_NOT_LISTED:
        case NETWORK_VERDICT_MAX:
                break;
        }
        tunnel_refuse(t, 403, "not_listed",
                      "%s is not on this session's list; a person can allow it, then try again",
                      r->host);
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
                tunnel_refuse(t, 400, "bad_request", "the request's head is larger than %d KiB",
                              REQUEST_HEAD_MAX / 1024);
                return;
        }
        if (request_parse((struct span){ buf_head(&t->head), length }, &t->request, &why) < 0) {
                quote_target(t);
                tunnel_refuse(t, 400, "bad_request", "%s", why);
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
        tunnel_check_name(t);
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
                tunnel_pump_open(t);
                break;
        case TUNNEL_CLOSING:
                tunnel_pump_closing(t);
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
                tunnel_finish(t, "closed");
        else if (t->state == TUNNEL_NAMING && buf_pending(&t->client.out) > 0 &&
                 !tunnel_drain(t, &t->client))
                tunnel_free(t);
        else
                pump(t);
        return 0;
}

static void on_deadline(void *userdata)
{
        struct tunnel *t = userdata;
        if (t->state == TUNNEL_DIALING && !t->lookup && !t->connected)
                tunnel_dial_next(t);
        else if (t->state == TUNNEL_DIALING)
                tunnel_refuse(t, 504, "unreachable", "%s takes too long", t->request.host);
        else if (t->state == TUNNEL_NAMING)
                tunnel_cut(t, "name_mismatch", "no TLS hello came");
        else if (t->state == TUNNEL_OPEN)
                tunnel_finish(t, "timeout");
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
                tunnel_refuse(t, 503, "busy", "more than %d connections at once", TUNNELS_MAX);
}
