/* A terminal of a session's slot on this terminal: takes the controls, carries bytes both ways,
 * gives the controls back.
 *
 * The connection is libwebsockets', which is only asked to go on when something came: the wait is
 * ours, for this terminal's input and size, too. */
#include "ctl.h"

#include <fcntl.h>
#include <libwebsockets.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define DETACH 0x1d      /* Ctrl-] */
#define RENEW_MSEC 10000 /* the controls are lent for control_ttl, 30 s */
#define PIECE 4096u
#define WAITING_MAX (64u << 10) /* typed and not yet taken: more is not read */
#define SOCKETS_MAX 4
#define CLOSE_ENDED 1001 /* the shell has ended */

struct terminal {
        struct ctl *ctl;
        const char *session; /* quoted */
        char viewer[32], *control;
        struct lws_context *context;
        struct lws *wsi;
        struct pollfd sockets[SOCKETS_MAX]; /* those of libwebsockets */
        size_t n_sockets;
        struct buf typed;
        bool open, held, resized, done;
        int result;
        char why[200];
};

static volatile sig_atomic_t size_changed;

static void on_winch(int signal)
{
        size_changed = 1;
}

static uint64_t now_msec(void)
{
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static void end(struct terminal *t, int result, const char *why)
{
        if (t->done)
                return;
        t->done = true;
        t->result = result;
        (void) snprintf(t->why, sizeof(t->why), "%s", why ? why : "");
}

/* ---- what comes ---- */

static void put_out(struct terminal *t, const char *data, size_t n)
{
        while (n > 0) {
                ssize_t r = write(STDOUT_FILENO, data, n);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0) {
                        end(t, 1, "nobody reads the output");
                        return;
                }
                data += r;
                n -= (size_t) r;
        }
}

static void on_text(struct terminal *t, const char *data, size_t n)
{
        json_t *m = json_loadb(data, n, 0, NULL);

        if (streq(json_string_value(json_object_get(m, "type")), "control"))
                t->held = json_is_true(json_object_get(m, "held"));
        json_decref(m);
        if (t->held && buf_pending(&t->typed) > 0)
                lws_callback_on_writable(t->wsi);
}

static void on_closed(struct terminal *t, const unsigned char *reason, size_t n)
{
        unsigned code = n >= 2 ? (unsigned) reason[0] << 8 | reason[1] : 0;

        if (code == CLOSE_ENDED)
                end(t, 0, NULL);
        else if (n > 2) {
                char why[150];
                (void) snprintf(why, sizeof(why), "%.*s", (int) (n - 2), reason + 2);
                end(t, 1, why);
        }
}

/* ---- what goes ---- */

/* One frame a call, as libwebsockets wants it: a new size first, then what was typed. */
static int on_writable(struct terminal *t)
{
        unsigned char frame[LWS_PRE + PIECE];
        struct winsize w;
        int n = 0;

        if (t->resized) {
                t->resized = false;
                if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
                        n = snprintf((char *) frame + LWS_PRE, PIECE,
                                     "{\"type\":\"resize\",\"cols\":%u,\"rows\":%u}", w.ws_col,
                                     w.ws_row);
                if (n > 0 && lws_write(t->wsi, frame + LWS_PRE, (size_t) n, LWS_WRITE_TEXT) < n)
                        return -1;
        } else if (t->held && buf_pending(&t->typed) > 0) {
                n = (int) MIN(buf_pending(&t->typed), (size_t) PIECE);
                memcpy(frame + LWS_PRE, buf_head(&t->typed), (size_t) n);
                if (lws_write(t->wsi, frame + LWS_PRE, (size_t) n, LWS_WRITE_BINARY) < n)
                        return -1;
                buf_consume(&t->typed, (size_t) n);
        }
        if (t->resized || (t->held && buf_pending(&t->typed) > 0))
                lws_callback_on_writable(t->wsi);
        return 0;
}

/* ---- libwebsockets ---- */

static void watch(struct terminal *t, const struct lws_pollargs *p, bool add)
{
        size_t i = 0;

        while (i < t->n_sockets && t->sockets[i].fd != p->fd)
                i++;
        if (add && i == t->n_sockets && i < SOCKETS_MAX)
                t->sockets[t->n_sockets++] = (struct pollfd){ .fd = p->fd };
        if (i < t->n_sockets && add)
                t->sockets[i].events = (short) p->events;
        else if (i < t->n_sockets)
                t->sockets[i] = t->sockets[--t->n_sockets];
}

static int add_token(struct terminal *t, struct lws *wsi, unsigned char **at, unsigned char *last)
{
        cleanup_free char *value = xasprintf("Bearer %s", t->ctl->token ? t->ctl->token : "");

        return lws_add_http_header_by_name(
                wsi, (const unsigned char *) "authorization:", (const unsigned char *) value,
                (int) strlen(value), at, last);
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                  size_t len)
{
        struct terminal *t = lws_context_user(lws_get_context(wsi));

        switch ((int) reason) {
        case LWS_CALLBACK_ADD_POLL_FD:
        case LWS_CALLBACK_CHANGE_MODE_POLL_FD:
                watch(t, in, true);
                return 0;
        case LWS_CALLBACK_DEL_POLL_FD:
                watch(t, in, false);
                return 0;
        case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
                return add_token(t, wsi, in, *(unsigned char **) in + len);
        case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
                end(t, 1, in && len > 0 ? in : "no connection");
                return 0;
        case LWS_CALLBACK_CLIENT_ESTABLISHED:
                t->open = true;
                return 0;
        case LWS_CALLBACK_CLIENT_RECEIVE:
                if (lws_frame_is_binary(wsi))
                        put_out(t, in, len);
                else
                        on_text(t, in, len);
                return 0;
        case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
                on_closed(t, in, len);
                return 0;
        case LWS_CALLBACK_CLIENT_WRITEABLE:
                return t->done ? -1 : on_writable(t);
        case LWS_CALLBACK_CLIENT_CLOSED:
                end(t, 1, "the connection was lost");
                return 0;
        default:
                return 0;
        }
}

static const struct lws_protocols protocols[] = {
        { .name = "berth", .callback = on_lws, .rx_buffer_size = 65536 },
        { 0 },
};

/* http://host:port/base -> its parts; both are the caller's. */
static bool parse_url(const char *url, bool *tls, char **host, char **base, int *port)
{
        const char *s = strstr(url, "://");
        char *colon;

        *tls = str_starts(url, "https://");
        if (!s || !(*tls || str_starts(url, "http://")))
                return false;
        s += 3;
        size_t n = strcspn(s, "/");
        *base = xstrdup(s + n);
        *host = span_dup((struct span){ s, n });
        colon = strrchr(*host, ':');
        *port = *tls ? 443 : 80;
        if (colon && !strchr(colon, ']')) {
                *port = (int) MIN(strtoul(colon + 1, NULL, 10), 65536UL);
                *colon = '\0';
        }
        if (**host == '[') { /* an IPv6 address */
                memmove(*host, *host + 1, strlen(*host));
                (*host)[strcspn(*host, "]")] = '\0';
        }
        return **host && *port > 0 && *port < 65536;
}

static int open_socket(struct terminal *t)
{
        cleanup_free char *host = NULL, *base = NULL, *path = NULL;
        struct lws_context_creation_info info = {
                .port = CONTEXT_PORT_NO_LISTEN,
                .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
                .protocols = protocols,
                .gid = (gid_t) -1,
                .uid = (uid_t) -1,
                .user = t,
        };
        struct winsize w = { .ws_col = 80, .ws_row = 24 };
        bool tls;
        int port;

        if (!parse_url(t->ctl->url, &tls, &host, &base, &port)) {
                fprintf(stderr, "berthctl: %s is no address\n", t->ctl->url);
                return -EINVAL;
        }
        if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col == 0)
                w = (struct winsize){ .ws_col = 80, .ws_row = 24 };
        path = xasprintf("%s/sessions/%s/terminal?viewer=%s&cols=%u&rows=%u", base, t->session,
                         t->viewer, MIN(w.ws_col, 1000), MIN(w.ws_row, 500));
        lws_set_log_level(0, NULL);
        t->context = lws_create_context(&info);
        if (!t->context)
                return -ENOMEM;
        const struct lws_client_connect_info connect = {
                .context = t->context,
                .address = host,
                .port = port,
                .path = path,
                .host = host,
                .ssl_connection = tls ? LCCSCF_USE_SSL : 0,
                .ietf_version_or_minus_one = -1,
                .pwsi = &t->wsi,
        };
        if (!lws_client_connect_via_info(&connect) && !t->done)
                end(t, 1, "no connection");
        return 0;
}

/* ---- the controls ---- */

static int control(struct terminal *t, const char *what, bool quiet)
{
        cleanup_json json_t *body = json_object(), *reply = NULL;

        (void) json_object_set_new(body, what, json_true());
        if (streq(what, "take"))
                (void) json_object_set_new(body, "viewer", json_string(t->viewer));
        int r = ctl_call(t->ctl, "POST", t->control, body, &reply);
        if (r < 0 && !quiet)
                end(t, 1, NULL); /* it has said why */
        return r;
}

/* ---- this terminal ---- */

static void on_typed(struct terminal *t)
{
        char data[PIECE];
        ssize_t n = read(STDIN_FILENO, data, sizeof(data));
        const char *detach = n > 0 ? memchr(data, DETACH, (size_t) n) : NULL;

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0 || detach == data) {
                end(t, 0, NULL);
                return;
        }
        buf_put(&t->typed, data, detach ? (size_t) (detach - data) : (size_t) n);
        if (detach)
                end(t, 0, NULL);
        else if (t->open)
                lws_callback_on_writable(t->wsi);
}

static void serve(struct terminal *t)
{
        struct pollfd all[SOCKETS_MAX + 1];
        size_t n = t->n_sockets;

        memcpy(all, t->sockets, n * sizeof(all[0]));
        all[n] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
        bool full = buf_pending(&t->typed) > WAITING_MAX || !t->open;
        (void) poll(all, full ? n : n + 1, 200);
        (void) lws_service(t->context, -1); /* what there is, without a wait */
        if (!full && (all[n].revents & (POLLIN | POLLHUP)) && !t->done)
                on_typed(t);
        if (size_changed && t->open) {
                size_changed = 0;
                t->resized = true;
                lws_callback_on_writable(t->wsi);
        }
}

static void carry(struct terminal *t)
{
        uint64_t renewed = now_msec();

        while (!t->done) {
                serve(t);
                if (!t->done && now_msec() > renewed + RENEW_MSEC) {
                        renewed = now_msec();
                        if (control(t, "take", false) < 0)
                                return;
                }
        }
}

int cmd_terminal(struct ctl *c, int argc, char **argv)
{
        cleanup_free char *session = argc == 1 ? ctl_quote(argv[0]) : NULL;
        struct terminal t = { .ctl = c, .session = session };
        struct sigaction on = { .sa_handler = on_winch };
        struct termios before, raw;

        if (argc != 1) {
                fprintf(stderr, "usage: berthctl terminal SESSION     Ctrl-] leaves it\n");
                return 2;
        }
        if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0) {
                fprintf(stderr, "berthctl: terminal needs a terminal to be on\n");
                return 2;
        }
        (void) snprintf(t.viewer, sizeof(t.viewer), "ctl-%d-%" PRIx64, (int) getpid(), now_msec());
        t.control = xasprintf("/sessions/%s/control", session);
        if (control(&t, "take", false) == 0 && open_socket(&t) == 0) {
                (void) sigaction(SIGWINCH, &on, NULL);
                fprintf(stderr, "Ctrl-] leaves the terminal.\n");
                raw = before;
                cfmakeraw(&raw);
                (void) tcsetattr(STDIN_FILENO, TCSANOW, &raw);
                carry(&t);
                (void) tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
                (void) control(&t, "release", true);
        }
        if (t.context)
                lws_context_destroy(t.context);
        fprintf(stderr, "\n");
        if (t.why[0])
                fprintf(stderr, "berthctl: %s\n", t.why);
        buf_done(&t.typed);
        free(t.control);
        return t.done ? t.result : 1;
}
