/* One HTTP connection: reads heads and bodies, runs one request at a time, sends answers, keeps its
 * deadlines. */
#include "gatewayd/http-private.h"

#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "common/io/log.h"
#include "gatewayd/gateway.h"
#include "gatewayd/metrics.h"
#include "gatewayd/rights.h"
#include "gatewayd/static.h"
#include "gatewayd/ws.h"

#define READ_SIZE 65536u
#define SENDFILE_STEP (1u << 20)
#define POLL_BATCH 64
#define LINGER_USEC (2 * USEC_PER_SEC)
#define BODY_PROGRESS 4096u /* bytes of body that must come in each body_timeout */

static const struct gateway_settings *settings_of(const struct http_conn *c)
{
        return c->server->gateway->settings;
}

static void conn_destroy(void *p)
{
        struct http_conn *c = p;

        buf_done(&c->in);
        buf_done(&c->out);
        free(c);
}

void http_conn_set_state(struct http_conn *c, enum conn_state to)
{
        if (c->state != CONN_CLOSED)
                c->state = to;
}

void http_conn_end(struct http_conn *c)
{
        struct http_request *req = TAKE_PTR(c->req);

        if (c->state == CONN_CLOSED)
                return;
        http_peer_note_waiting(c, false);
        list_remove(&c->ready);
        http_conn_set_state(c, CONN_CLOSED);
        http_conn_unpoll(c);
        loop_timer_done(&c->timer);
        c->fd = fd_close(c->fd);
        c->file = fd_close(c->file);
        if (c->slot)
                http_slot_release(c->server, TAKE_PTR(c->slot));
        list_remove(&c->all);
        loop_defer_free(c->server->gateway->event, c, conn_destroy);
        if (req)
                http_request_lost(req, -ECONNRESET);
}

static void want_events(struct http_conn *c)
{
        uint32_t events = 0;

        switch (c->state) {
        case CONN_HEAD:
        case CONN_SKIPPING:
        case CONN_LINGER:
                events = EPOLLIN;
                break;
        case CONN_BODY:
                events = c->paused ? 0 : EPOLLIN;
                break;
        case CONN_SENDING:
                events = EPOLLOUT;
                break;
        case CONN_AUTH:
        case CONN_HANDLING:
                break;
        case CONN_CLOSED:
        case CONN_STATE_MAX:
                return;
        }
        if (c->eof)
                events &= ~(uint32_t) EPOLLIN;
        if (events == c->events)
                return;
        c->events = events;
        struct epoll_event want = { .events = events, .data.ptr = c };
        (void) epoll_ctl(c->server->poll_fd, EPOLL_CTL_MOD, c->fd, &want);
}

/* Goes on with a connection that may have something to do without new input: at the end of this
 * turn, or in http_conn_advance when that is on the stack. */
void http_conn_wake(struct http_conn *c)
{
        if (c->advancing || c->state == CONN_CLOSED)
                return;
        want_events(c);
        if (c->state == CONN_HEAD && buf_pending(&c->in) == 0 && !c->eof)
                return;
        list_remove(&c->ready);
        list_push_back(&c->server->ready, &c->ready);
        loop_task_queue(&c->server->advance);
}

void http_conn_advance_ready(void *userdata)
{
        struct http_server *s = userdata;
        struct http_conn *c;

        while ((c = list_first(&s->ready, struct http_conn, ready))) {
                list_remove(&c->ready);
                http_conn_advance(c);
        }
}

/* ---- refusing what is not a request ---- */

void http_conn_refuse(struct http_conn *c, const struct http_refusal *why)
{
        cleanup_buf struct buf body = { 0 };

        buf_putf(&body, "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}", why->code,
                 why->message);
        buf_putf(&c->out,
                 "HTTP/1.1 %d %s\r\nDate: %s\r\nX-Content-Type-Options: nosniff\r\nCache-Control: "
                 "no-store\r\n"
                 "Content-Type: application/json\r\nContent-Length: %zu\r\nConnection: "
                 "close\r\n\r\n",
                 why->status, http_status_text(why->status), http_date(c->server),
                 buf_pending(&body));
        buf_put(&c->out, buf_head(&body), buf_pending(&body));
        http_peer_note_waiting(c, false);
        c->close = true;
        c->server->stats.refused++;
        if (c->listener != LISTENER_METRICS)
                metrics_answered(c->server->gateway->metrics, NULL, HTTP_GET, why->status,
                                 UINT64_MAX);
        http_conn_set_state(c, CONN_SENDING);
        http_conn_send(c);
}

/* ---- sending ---- */

static void sent(struct http_conn *c)
{
        buf_done(&c->out);
        c->file = fd_close(c->file);
        c->used = true;
        if (c->close) {
                if (c->eof) {
                        http_conn_end(c);
                        return;
                }
                (void) shutdown(c->fd, SHUT_WR);
                http_conn_set_state(c, CONN_LINGER);
                c->skip_max = MIB;
                loop_timer_arm(&c->timer, LINGER_USEC);
        } else {
                http_conn_set_state(c, c->body_done ? CONN_HEAD : CONN_SKIPPING);
                if (c->state == CONN_HEAD)
                        http_peer_note_waiting(c, true);
                loop_timer_arm(&c->timer, settings_of(c)->idle_timeout);
        }
        http_conn_wake(c);
}

void http_conn_send(struct http_conn *c)
{
        while (buf_pending(&c->out) > 0) {
                int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (c->file_left > 0 ? MSG_MORE : 0);
                ssize_t n = send(c->fd, buf_head(&c->out), buf_pending(&c->out), flags);
                if (n < 0)
                        goto blocked;
                buf_consume(&c->out, (size_t) n);
                loop_timer_arm(&c->timer, settings_of(c)->write_timeout);
        }
        if (c->file_left >
            0) { /* one step per turn, so that a fast client does not hold the loop */
                off_t off = (off_t) c->file_offset;
                ssize_t n =
                        sendfile(c->fd, c->file, &off, (size_t) MIN(c->file_left, SENDFILE_STEP));
                if (n < 0)
                        goto blocked;
                if (n == 0) { /* the file is shorter than was announced: the client must notice */
                        http_conn_end(c);
                        return;
                }
                c->file_offset += (uint64_t) n;
                c->file_left -= (uint64_t) n;
                loop_timer_arm(&c->timer, settings_of(c)->write_timeout);
        }
        if (c->file_left == 0)
                sent(c);
        else
                want_events(c);
        return;
blocked:
        if (errno == EAGAIN || errno == EINTR) {
                if (!loop_timer_armed(&c->timer))
                        loop_timer_arm(&c->timer, settings_of(c)->write_timeout);
                want_events(c);
        } else
                http_conn_end(c);
}

/* ---- reading bodies ---- */

static void body_start(struct http_conn *c, const struct http_head *h, uint64_t max)
{
        c->body_chunked = h->chunked;
        c->body_left = h->chunked ? 0 : h->length;
        c->body_done = !h->chunked && h->length == 0;
        c->body_seen = c->body_mark = 0;
        c->body_max = max;
        c->want_continue = h->expect_continue && !c->body_done;
        http_chunked_init(&c->chunks);
}

/* Takes one piece of body out of the input. 0 (perhaps empty), -EBADMSG. */
static int body_next(struct http_conn *c, struct span *ret, size_t *ret_used)
{
        const char *why = NULL;

        if (c->body_chunked) {
                int r = http_chunked_feed(&c->chunks, buf_head(&c->in), buf_pending(&c->in),
                                          ret_used, ret, &why);
                if (r < 0)
                        return r;
                c->body_done = r == 1;
        } else {
                *ret_used = (size_t) MIN((uint64_t) buf_pending(&c->in), c->body_left);
                *ret = (struct span){ buf_head(&c->in), *ret_used };
                c->body_left -= *ret_used;
                c->body_done = c->body_left == 0;
        }
        c->body_seen += ret->len;
        return 0;
}

static void body_failed(struct http_conn *c, int r)
{
        struct http_request *req = c->req;

        c->close = true;
        if (c->state != CONN_BODY || !req) {
                http_conn_end(c);
        } else if (req->route->body == ROUTE_BODY_STREAM) {
                http_conn_set_state(c, CONN_HANDLING);
                req->priv->ended_body = true;
                if (req->on_end)
                        req->on_end(req, r);
        } else {
                http_conn_set_state(c, CONN_HANDLING);
                http_reply_body_error(req, r);
        }
}

static void body_finished(struct http_conn *c)
{
        struct http_request *req = c->req;

        http_conn_set_state(c, CONN_HANDLING);
        loop_timer_disarm(&c->timer);
        if (req->route->body == ROUTE_BODY_STREAM) {
                req->priv->ended_body = true;
                if (req->on_end)
                        req->on_end(req, 0);
        } else
                http_request_run(req);
}

/* One step of reading a body. False: needs more input (or is paused). */
static bool body_advance(struct http_conn *c)
{
        struct http_request *req = c->req;
        bool skipping = c->state == CONN_SKIPPING;
        struct span data = { 0 };
        size_t used = 0;

        if (c->paused && !skipping)
                return false;
        if (c->body_done) {
                if (!skipping) {
                        body_finished(c);
                        return true;
                }
                http_conn_set_state(c, CONN_HEAD);
                http_peer_note_waiting(c, true);
                return true;
        }
        if (buf_pending(&c->in) == 0)
                return false;
        int r = body_next(c, &data, &used);
        if (r == 0 && !skipping && c->body_seen > c->body_max)
                r = -EMSGSIZE;
        if (r < 0) {
                body_failed(c, r);
                return true;
        }
        if (!skipping && data.len > 0) {
                if (req->route->body != ROUTE_BODY_STREAM)
                        buf_put(&req->priv->body, data.data, data.len);
                else if (req->on_data)
                        req->on_data(req, data);
        }
        if (c->state != CONN_CLOSED)
                buf_consume(&c->in, used);
        return true;
}

/* ---- requests ---- */

static void send_continue(struct http_conn *c)
{
        static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

        if (!c->want_continue || c->body_seen > 0 || buf_pending(&c->in) > 0)
                return;
        /* The socket's buffer is empty at this point; a client that reads nothing is not worth
         * more. */
        if (send(c->fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) !=
            (ssize_t) sizeof(text) - 1)
                c->close = true;
        c->want_continue = false;
}

void http_conn_continue(struct http_request *req)
{
        struct http_conn *c = req->priv->conn;
        const struct route *route = req->route;

        http_conn_set_state(c, CONN_BODY);
        if (!c->body_done)
                loop_timer_arm(&c->timer, settings_of(c)->body_timeout);
        if (route->body == ROUTE_BODY_NONE) {
                http_conn_set_state(c, CONN_HANDLING);
                if (!c->body_done) {
                        http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL,
                                         "This call takes no body.");
                        return;
                }
                http_request_run(req);
                return;
        }
        if (route->body == ROUTE_BODY_STREAM) {
                http_request_run(req);
                if (c->state != CONN_BODY || c->req != req)
                        return;
        }
        send_continue(c);
        http_conn_wake(c);
}

static void authenticated(struct http_request *req, int r, const struct principal *who)
{
        req->priv->auth_pending = false;
        if (r < 0) {
                http_conn_set_state(req->priv->conn, CONN_HANDLING);
                if (r == -EACCES && !http_limit_logins(req, true))
                        return;
                if (r == -EACCES)
                        http_reply_error(req, ERROR_CODE_UNAUTHORIZED, NULL,
                                         "A valid token is needed: Authorization: Bearer TOKEN.");
                else
                        http_reply_busy(req, "database");
                return;
        }
        req->principal = *who;
        enum conn_state before = req->priv->conn->state;
        http_conn_set_state(req->priv->conn, CONN_HANDLING);
        if (!http_limit_token(req))
                return;
        const char *why = rights_refusal(who, req->route);
        if (why) {
                http_reply_error(req, ERROR_CODE_FORBIDDEN, NULL, "%s", why);
                return;
        }
        if (req->priv->forwarded && req->route->auth == ROUTE_TICKET &&
            !http_forwarded_room(req->priv->conn->server, req->priv->address)) {
                http_limit_refuse(req, req->priv->address, USEC_PER_SEC,
                                  "streams from this address");
                return;
        }
        http_conn_set_state(req->priv->conn, before);
        http_conn_continue(req);
}

/* Looks up the route; answers and returns false when there is none. */
static bool find_route(struct http_request *req, const struct http_head *head)
{
        char allow[64];
        enum route_match m =
                route_find(route_tables, n_route_tables, req->listener, req->method, req->path,
                           &req->route, req->params, req->priv->scratch, allow);

        if (m == ROUTE_NO_METHOD) {
                http_reply_header(req, "Allow", "%s", allow);
                http_reply_problem(req, 405, "method_not_allowed", NULL,
                                   "This path does not know the method %s.",
                                   http_method_name(req->method));
                return false;
        }
        if (m == ROUTE_NO_PATH && req->listener == LISTENER_MAIN &&
            (req->method == HTTP_GET || req->method == HTTP_HEAD)) {
                req->route = &static_route;
                return true;
        }
        if (m == ROUTE_NO_PATH) {
                http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "There is nothing at this path.");
                return false;
        }
        return true;
}

/* Everything that can be refused from the head alone. */
static bool check_head(struct http_conn *c, struct http_request *req, const struct http_head *head)
{
        if (!find_route(req, head))
                return false;
        const struct route *route = req->route;
        c->body_max = route->body_max                    ? route->body_max
                      : route->body == ROUTE_BODY_STREAM ? settings_of(c)->upload_max
                                                         : settings_of(c)->body_max;
        if (head->has_length && head->length > c->body_max && route->body != ROUTE_BODY_NONE) {
                http_reply_body_error(req, -EMSGSIZE);
                return false;
        }
        if (head->upgrade && route->upgrade && !ws_check_handshake(req))
                return false;
        return true;
}

static void begin(struct http_conn *c, const struct http_head *head, size_t n)
{
        struct http_refusal why;
        struct http_request *req = http_request_new(c, head, buf_head(&c->in), n, &why);

        http_peer_note_waiting(c, false);
        explicit_bzero(c->in.data + c->in.off, n); /* the token in it stays nowhere */
        buf_consume(&c->in, n);
        body_start(c, head, 0);
        if (!req) {
                http_conn_refuse(c, &why);
                return;
        }
        c->server->stats.requests++;
        c->close = false;
        c->paused = false;
        c->req = req;
        http_conn_set_state(c, CONN_HANDLING);
        loop_timer_disarm(&c->timer);
        if (!check_head(c, req, head))
                return;
        if (req->route->auth == ROUTE_PUBLIC) {
                if (http_limit_public(req))
                        http_conn_continue(req);
                return;
        }
        if (!http_limit_logins(req, false))
                return;
        http_conn_set_state(c, CONN_AUTH);
        req->priv->auth_pending = true;
        auth_check(req->gateway->auth, req, req->route->auth == ROUTE_TICKET, authenticated);
}

/* One step of reading a head. False: needs more input. */
static bool head_advance(struct http_conn *c)
{
        struct http_head head;
        struct http_refusal why;

        if (buf_pending(&c->in) == 0) {
                buf_done(&c->in);
                if (c->eof)
                        http_conn_end(c);
                return false;
        }
        ssize_t n = http_head_parse(buf_head(&c->in), buf_pending(&c->in), &head, &why);
        if (n == -EAGAIN) {
                if (c->eof)
                        http_conn_end(c);
                else if (c->used || !loop_timer_armed(&c->timer)) {
                        c->used = false; /* from now on the head's own deadline counts */
                        loop_timer_arm(&c->timer, settings_of(c)->head_timeout);
                }
                return false;
        }
        if (n < 0)
                http_conn_refuse(c, &why);
        else
                begin(c, &head, (size_t) n);
        return true;
}

void http_conn_advance(struct http_conn *c)
{
        bool more = true;

        if (c->advancing)
                return;
        c->advancing = true;
        while (more) {
                switch (c->state) {
                case CONN_HEAD:
                        more = head_advance(c);
                        break;
                case CONN_BODY:
                case CONN_SKIPPING:
                        more = body_advance(c);
                        break;
                case CONN_AUTH:
                case CONN_HANDLING:
                case CONN_SENDING:
                case CONN_LINGER:
                case CONN_CLOSED:
                case CONN_STATE_MAX:
                        more = false;
                        break;
                }
        }
        c->advancing = false;
        if (c->eof && (c->state == CONN_BODY || c->state == CONN_SKIPPING) && !c->paused)
                http_conn_end(c);
        want_events(c);
}

/* ---- the loop's side ---- */

static void on_input(struct http_conn *c)
{
        static char scratch[READ_SIZE];
        ssize_t n = recv(c->fd, scratch, sizeof(scratch), MSG_DONTWAIT);

        if (n < 0) {
                if (errno != EAGAIN && errno != EINTR)
                        http_conn_end(c);
                return;
        }
        if (c->state == CONN_LINGER) {
                if (n == 0 || (size_t) n > c->skip_max)
                        http_conn_end(c);
                else
                        c->skip_max -= (size_t) n;
                return;
        }
        if (n == 0)
                c->eof = true;
        else
                buf_put(&c->in, scratch, (size_t) n);
        if (c->state == CONN_HEAD)
                explicit_bzero(scratch, (size_t) n);
        http_conn_advance(c);
}

static void on_io(struct http_conn *c, uint32_t revents)
{
        if (c->state == CONN_SENDING && (revents & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
                http_conn_send(c);
        else if (revents & EPOLLIN)
                on_input(c);
        else if (revents & (EPOLLERR | EPOLLHUP))
                http_conn_end(c);
}

/* What one of them does may end another, whose memory lives until the turn ends, or change what it
 * waits for. */
static int on_poll(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct epoll_event ready[POLL_BATCH];
        int n = epoll_wait(fd, ready, POLL_BATCH, 0);

        for (int i = 0; i < n; i++) {
                struct http_conn *c = ready[i].data.ptr;
                uint32_t events = ready[i].events & (c->events | EPOLLERR | EPOLLHUP);
                if (c->state != CONN_CLOSED && c->polled && events)
                        on_io(c, events);
        }
        return 0;
}

int http_conn_poll_new(struct http_server *s)
{
        s->poll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (s->poll_fd < 0)
                return -errno;
        return sd_event_add_io(s->gateway->event, &s->poll, s->poll_fd, EPOLLIN, on_poll, s);
}

static int poll_add(struct http_conn *c)
{
        struct epoll_event want = { .events = c->events, .data.ptr = c };

        if (epoll_ctl(c->server->poll_fd, EPOLL_CTL_ADD, c->fd, &want) < 0)
                return -errno;
        c->polled = true;
        return 0;
}

void http_conn_unpoll(struct http_conn *c)
{
        if (c->polled)
                (void) epoll_ctl(c->server->poll_fd, EPOLL_CTL_DEL, c->fd, NULL);
        c->polled = false;
}

static void on_timer(void *userdata)
{
        struct http_conn *c = userdata;
        static const struct http_refusal slow = { 408, "request_timeout",
                                                  "The request head arrived too slowly." };

        if (c->state == CONN_HEAD && buf_pending(&c->in) > 0) {
                http_conn_refuse(c, &slow);
                want_events(c);
        } else if (c->state == CONN_BODY) {
                bool stream = c->req->route->body == ROUTE_BODY_STREAM;
                if (stream && (c->paused || c->body_seen - c->body_mark >= BODY_PROGRESS)) {
                        c->body_mark = c->body_seen;
                        loop_timer_arm(&c->timer, settings_of(c)->body_timeout);
                        return;
                }
                body_failed(c, -ETIMEDOUT);
                if (c->state != CONN_CLOSED)
                        want_events(c);
        } else if (c->state == CONN_HANDLING && c->req && c->req->priv->limited)
                http_limit_answer(c->req);
        else if (c->state != CONN_HANDLING && c->state != CONN_AUTH)
                http_conn_end(c);
}

void http_conn_new(struct http_server *s, int fd, struct http_slot *slot, const char *peer,
                   const char *address, unsigned listener)
{
        struct http_conn *c = xnew(struct http_conn);

        c->server = s;
        c->fd = fd;
        c->file = -1;
        c->slot = slot;
        c->listener = listener;
        http_conn_set_state(c, CONN_HEAD);
        c->body_done = true;
        (void) snprintf(c->peer, sizeof(c->peer), "%s", peer);
        (void) snprintf(c->address, sizeof(c->address), "%s", address);
        list_push_back(&s->conns, &c->all);
        http_peer_note_waiting(c, true);
        c->events = EPOLLIN;
        if (loop_timer_init(&c->timer, s->gateway->event, on_timer, c) < 0 || poll_add(c) < 0) {
                http_conn_end(c);
                return;
        }
        loop_timer_arm(&c->timer, settings_of(c)->head_timeout);
}
