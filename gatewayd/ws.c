/* WebSocket clients: checks the handshake, guards what comes in, lets libwebsockets speak RFC 6455.
 *
 * The only file that knows libwebsockets. The client's socket stays ours (sink.c writes finished
 * frames straight to it). libwebsockets is given one end of a socket pair as its connection; every
 * piece of a frame that the guard let pass is written to the other end and served at once by hand
 * (but for what take_short takes), and what libwebsockets writes (the 101, pongs, close frames) is
 * read back and queued. So it never sees an unchecked byte, reads no more than was checked, and
 * needs no loop and no timers of its own.
 */
#include "gatewayd/ws.h"

#include <sys/ioctl.h>

#include <libwebsockets.h>
#include <openssl/evp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/io/log.h"
#include "gatewayd/gateway.h"
#include "gatewayd/http-private.h"
#include "gatewayd/sink-private.h"
#include "gatewayd/ws-guard.h"

#define MESSAGE_MAX (1u << 20)
#define RX_BUFFER 256u     /* of each client, inside libwebsockets */
#define SERVE_BUFFER 4096u /* what libwebsockets reads at once */
#define SHORT_MAX 512u
#define PIECE_MAX (SERVE_BUFFER - WS_HEAD_MAX) /* so that a piece and its header fit into it */

struct ws_client {
        struct sink sink;
        struct ws_server *server;
        struct lws *wsi; /* NULL once libwebsockets has closed its end */
        int wire;        /* our end of the pair */
        int wire_far;    /* number of its end, owned by libwebsockets */
        bool binary, deaf;
        struct buf message;
        struct ws_guard guard;
};

struct ws_server {
        struct gateway *gateway;
        struct lws_context *context;
        struct lws_vhost *vhost;
        struct ws_client *adopting; /* whose ESTABLISHED callback is due */
};

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                  size_t len)
{
        struct ws_client *c;

        switch ((int) reason) {
        case LWS_CALLBACK_ESTABLISHED: {
                struct ws_server *s = lws_context_user(lws_get_context(wsi));
                if (!s->adopting)
                        return -1;
                s->adopting->wsi = wsi;
                lws_set_opaque_user_data(wsi, s->adopting);
                return 0;
        }
        case LWS_CALLBACK_RECEIVE:
                c = lws_get_opaque_user_data(wsi);
                if (!c || c->sink.state != SINK_OPEN)
                        return 0;
                if (lws_is_first_fragment(wsi)) {
                        buf_clear(&c->message);
                        c->binary = lws_frame_is_binary(wsi);
                }
                if (buf_append(&c->message, in, len) < 0)
                        return -1; /* the guard counts, too: cannot happen */
                if (lws_remaining_packet_payload(wsi) == 0 && lws_is_final_fragment(wsi)) {
                        if (c->sink.ops->message)
                                c->sink.ops->message(&c->sink,
                                                     (struct span){ buf_head(&c->message),
                                                                    buf_pending(&c->message) },
                                                     c->binary);
                        buf_done(&c->message);
                }
                return 0;
        case LWS_CALLBACK_CLOSED:
                c = lws_get_opaque_user_data(wsi);
                if (c)
                        c->wsi = NULL;
                return 0;
        default:
                return 0;
        }
}

static const struct lws_protocols protocols[] = {
        { .name = "default", .callback = on_lws, .rx_buffer_size = RX_BUFFER },
        { .name = "binary", .callback = on_lws, .rx_buffer_size = RX_BUFFER },
        { 0 },
};

/* ---- feeding libwebsockets ---- */

static void serve(struct ws_client *c, short what)
{
        if (!c->wsi)
                return;
        struct lws_pollfd p = { .fd = c->wire_far,
                                .events = LWS_POLLIN | LWS_POLLOUT,
                                .revents = what };
        (void) lws_service_fd(c->server->context, &p);
}

/* Takes over what libwebsockets has written. Returns true when there was a close frame among it. */
static bool collect(struct ws_client *c)
{
        char bytes[SERVE_BUFFER];
        bool closes = false;

        for (;;) {
                ssize_t n = recv(c->wire, bytes, sizeof(bytes), MSG_DONTWAIT);
                if (n <= 0)
                        return closes;
                /* Only whole control frames of up to 125 bytes are ever written after the
                 * handshake. */
                for (size_t i = 0; i + 1 < (size_t) n; i += 2u + (bytes[i + 1] & 0x7f))
                        closes |= (bytes[i] & 0x0f) == WS_CLOSE;
                sink_push_control(&c->sink, frame_raw(bytes, (size_t) n));
        }
}

static void fail(struct ws_client *c, uint16_t code, const char *reason)
{
        c->deaf = true;
        sink_close_with(&c->sink, frame_ws_close(code, reason));
}

static void hand_on(struct ws_client *c, struct span head, struct span payload)
{
        struct iovec iov[2] = { { (void *) head.data, head.len },
                                { (void *) payload.data, payload.len } };
        struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

        if (!c->wsi || head.len + payload.len == 0)
                return;
        if (sendmsg(c->wire, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) !=
            (ssize_t) (head.len + payload.len)) {
                fail(c, SINK_CLOSE_ERROR, "internal");
                return;
        }
        /* It takes RX_BUFFER bytes at a time, and nothing else would make it come back for more. */
        int left = 1;
        for (unsigned i = 0; i <= SERVE_BUFFER / RX_BUFFER + 1 && left > 0 && c->wsi; i++) {
                serve(c, LWS_POLLIN);
                if (!c->wsi || ioctl(c->wire_far, FIONREAD, &left) < 0)
                        break;
        }
}

/* A binary message of one short frame that is all here, as each key and each request of a display
 * is: nothing of it is left to check, refuse or answer. libwebsockets, which stands between two
 * frames and has read all it was given, need not see it; the way through it costs three calls of
 * the kernel. */
static bool take_short(struct ws_client *c, const struct ws_piece *p)
{
        char bytes[SHORT_MAX];

        if (p->opcode != WS_BINARY || !p->end || p->payload.len > sizeof(bytes) ||
            p->head.len < 6 || !(p->head.data[0] & 0x80) || !c->wsi || !c->sink.ops->message)
                return false;
        const char *mask = p->head.data + p->head.len - 4;
        for (size_t i = 0; i < p->payload.len; i++)
                bytes[i] = (char) (p->payload.data[i] ^ mask[i % 4]);
        c->sink.ops->message(&c->sink, (struct span){ bytes, p->payload.len }, true);
        return true;
}

static void piece(struct ws_client *c, const struct ws_piece *p)
{
        struct span head = p->head;
        size_t at = 0;

        if (head.len == 0 && p->payload.len == 0 && !p->end)
                return; /* a header that is not complete yet */
        do {
                size_t n = MIN(p->payload.len - at, (size_t) PIECE_MAX);
                struct span part = { n > 0 ? p->payload.data + at : NULL, n };
                hand_on(c, head, part);
                head.len = 0;
                at += n;
        } while (at < p->payload.len && c->wsi);
        if (p->opcode == WS_BINARY && c->wsi)
                return; /* is never answered and cannot be refused: display and terminal bytes */
        /* A pong, the answer to a close frame, or (within a message, too) a close frame because the
         * text is not UTF-8 may be due. */
        serve(c, LWS_POLLOUT);
        bool closes = collect(c);
        if (c->guard.closed) {
                c->deaf = true;
                sink_peer_closed(&c->sink);
        } else if (closes || !c->wsi) { /* libwebsockets has refused the content */
                c->deaf = true;
                sink_close_with(&c->sink, closes ? NULL : frame_ws_close(1002, "protocol error"));
        }
}

static void on_input(struct sink *s, const char *data, size_t n)
{
        struct ws_client *c = container_of(s, struct ws_client, sink);

        while (n > 0 && s->state != SINK_DEAD) {
                struct ws_piece p;
                struct ws_problem why;
                size_t used = 0;
                if (c->deaf)
                        return;
                if (ws_guard_feed(&c->guard, data, n, &used, &p, &why) < 0) {
                        log_debug("websocket client refused: %s", why.reason);
                        fail(c, why.code, why.reason);
                        return;
                }
                data += used;
                n -= used;
                if (s->state == SINK_OPEN) {
                        if (!take_short(c, &p))
                                piece(c, &p);
                } else if (c->guard.closed) { /* the answer to our close frame */
                        c->deaf = true;
                        sink_peer_closed(s);
                }
        }
}

/* ---- as a sink ---- */

static struct frame *heartbeat(struct sink *s)
{
        return frame_ws(WS_PING, NULL, 0, false);
}

static uint64_t heartbeat_usec(const struct sink *s)
{
        return s->set->gateway->settings->ping_interval;
}

static void destroy(struct sink *s)
{
        struct ws_client *c = container_of(s, struct ws_client, sink);

        if (c->wsi) {
                lws_set_opaque_user_data(c->wsi, NULL);
                lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
        }
        (void) fd_close(c->wire);
        buf_done(&c->message);
        free(c);
}

static const struct sink_class ws_class = {
        .kind = SINK_WS,
        .input = on_input,
        .closing = frame_ws_close,
        .heartbeat = heartbeat,
        .heartbeat_usec = heartbeat_usec,
        .mute_is_dead = true,
        .destroy = destroy,
};

/* ---- the handshake ---- */

static bool key_valid(const char *key)
{
        static const char alphabet[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        cleanup_free void *bytes = NULL;
        size_t n = 0;

        return key && strlen(key) == 24 && strspn(key, alphabet) == 22 &&
               base64_decode(key, 24, &bytes, &n) == 0 && n == 16;
}

static size_t count_headers(const struct http_request *req, const char *name)
{
        const struct http_head *h = req->priv->head;
        size_t n = 0;

        for (size_t i = 0; i < h->n_headers; i++)
                n += http_name_eq(h->headers[i].name, name);
        return n;
}

bool ws_check_handshake(struct http_request *req)
{
        const char *upgrade = http_header(req, "upgrade"),
                   *version = http_header(req, "sec-websocket-version");
        const char *origin = http_header(req, "origin"), *wrong = NULL;

        if (!http_head_has_token(req->priv->head, "upgrade", "websocket"))
                return true; /* another protocol: the upgrade is not taken, the request is an
                                ordinary one */
        if (req->method != HTTP_GET)
                wrong = "A WebSocket begins with GET.";
        else if (count_headers(req, "upgrade") != 1 || !http_name_eq(span_of(upgrade), "websocket"))
                wrong = "The Upgrade header must name websocket and nothing else.";
        else if (req->content_length != 0)
                wrong = "The handshake of a WebSocket has no body.";
        else if (count_headers(req, "sec-websocket-version") != 1 || !streq(version, "13")) {
                http_reply_header(req, "Sec-WebSocket-Version", "13");
                http_reply_problem(req, 426, "upgrade_required", NULL,
                                   "Only version 13 of WebSocket is spoken here.");
                return false;
        } else if (count_headers(req, "sec-websocket-key") != 1 ||
                   !key_valid(http_header(req, "sec-websocket-key")))
                wrong = "Sec-WebSocket-Key must be 16 bytes in base64.";
        if (wrong) {
                req->priv->conn->close = true;
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL, "%s", wrong);
                return false;
        }
        if (count_headers(req, "origin") > 1 ||
            !auth_origin_ok(req->gateway, origin, http_header(req, "host"))) {
                http_reply_error(req, ERROR_CODE_FORBIDDEN, NULL,
                                 "A page of another site may not connect here.");
                return false;
        }
        req->priv->ws_handshake = true;
        return true;
}

bool ws_requested(const struct http_request *req)
{
        return req->priv->ws_handshake;
}

static int adopt(struct ws_client *c, const char *key, const char *subprotocol)
{
        struct ws_server *s = c->server;
        char head[512];
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        c->wire = pair[0];
        c->wire_far = pair[1];
        int n = snprintf(
                head, sizeof(head),
                "GET / HTTP/1.1\r\nHost: berth\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s%s%s\r\n",
                key, subprotocol ? "Sec-WebSocket-Protocol: " : "", subprotocol ? subprotocol : "",
                subprotocol ? "\r\n" : "");
        s->adopting = c;
        struct lws *wsi = lws_adopt_socket_vhost_readbuf(s->vhost, pair[1], head, (size_t) n);
        s->adopting = NULL;
        if (!wsi || !c->wsi) { /* on failure libwebsockets has closed its end */
                c->wsi = NULL;
                c->wire = fd_close(c->wire);
                return -EPROTO;
        }
        return 0;
}

int ws_accept(struct http_request *req, const struct ws_options *options,
              const struct sink_ops *ops, void *userdata, struct sink **ret)
{
        struct ws_server *s = req->gateway->ws;
        struct ws_client *c = xnew(struct ws_client);
        struct sink_set *set = req->gateway->sinks;
        const char *sub = options->subprotocol;
        struct http_takeover t = { .fd = -1 };
        size_t max = options->message_max ? options->message_max : MESSAGE_MAX;

        c->server = s;
        c->wire = -1;
        c->message.limit = max;
        ws_guard_init(&c->guard, max);
        if (sub && !http_head_has_token(req->priv->head, "sec-websocket-protocol", sub))
                sub = NULL;
        int r = adopt(c, http_header(req, "sec-websocket-key"), sub);
        if (r < 0) {
                free(c);
                http_reply_busy(req, "WebSocket service");
                return r;
        }
        r = http_take_over(req, &t);
        if (r < 0)
                http_drop(req);
        else
                r = sink_init(&c->sink, set, &ws_class, t.fd, t.slot, t.grant, ops, userdata);
        if (r < 0) {
                destroy(&c->sink);
                free(t.early);
                return r;
        }
        (void) collect(c); /* the 101 */
        *ret = &c->sink;
        if (t.n_early > 0)
                on_input(&c->sink, t.early, t.n_early);
        free(t.early);
        return 0;
}

/* ---- the server ---- */

int ws_server_new(struct gateway *g, struct ws_server **ret)
{
        struct ws_server *s = xnew(struct ws_server);
        struct lws_context_creation_info info = {
                .port = CONTEXT_PORT_NO_LISTEN,
                .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_VALIDATE_UTF8,
                .gid = (gid_t) -1,
                .uid = (uid_t) -1,
                .pt_serv_buf_size = SERVE_BUFFER,
                .max_http_header_data = 1024,
                .max_http_header_pool = 4,
                .user = s,
        };

        s->gateway = g;
        lws_set_log_level(0, NULL); /* it calls its own normal work errors; we log what matters */
        s->context = lws_create_context(&info);
        if (s->context) {
                struct lws_context_creation_info v = info;
                v.protocols = protocols;
                v.vhost_name = "berth";
                s->vhost = lws_create_vhost(s->context, &v);
        }
        if (!s->vhost) {
                (void) ws_server_free(s);
                return -ENOMEM;
        }
        *ret = s;
        return 0;
}

struct ws_server *ws_server_free(struct ws_server *s)
{
        if (!s)
                return NULL;
        if (s->context)
                lws_context_destroy(s->context);
        free(s);
        return NULL;
}

size_t ws_server_clients(const struct ws_server *s)
{
        return s->gateway->sinks->n[SINK_WS];
}
