/* The relay: GET /sessions/{id}/vnc, /terminal and /screenshot. Several viewers, bounded both ways.
 */
#include "gatewayd/relay-private.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/io/log.h"
#include "gatewayd/content.h"

/* More than the kernel holds of a display: what is there goes out as one frame, by one write. By
 * pages (splice) it is slower: the frames are as many, and each page is handled apart. */
#define READ_SIZE (256u << 10)
#define READ_MORE (64u << 10) /* so much at once: there may be more behind it */
#define READS_PER_TURN 4
#define UNSENT_MAX (1u << 20) /* in the kernel, for a viewer: a quarter of a frame */
#define WORKERS_MAX 1024u
#define VIEWER_MESSAGE_MAX (2u << 20) /* may hold a clipboard text and more */
#define TERMINAL_MESSAGE_MAX (256u << 10)
#define SCREENSHOT_TIMEOUT (5 * USEC_PER_SEC)

/* The descriptor socket of one worker. */
struct worker_link {
        char *endpoint;
        struct fdlink_client *client;
        unsigned calls;
};

/* ---- asking a worker ---- */

static struct worker_link *link_free(struct worker_link *l)
{
        (void) fdlink_client_free(l->client);
        free(l->endpoint);
        free(l);
        return NULL;
}

/* Links that nobody waits on can go when there are too many: workers come and go. */
static void prune_links(struct relay *r)
{
        size_t iter = 0;
        void *value;
        const char *key;

        while (map_count(r->workers) >= WORKERS_MAX && map_next(r->workers, &iter, &key, &value)) {
                struct worker_link *l = value;
                if (l->calls > 0)
                        continue;
                (void) map_remove(r->workers, l->endpoint);
                (void) link_free(l);
        }
}

static int link_get(struct relay *r, const char *endpoint, struct worker_link **ret)
{
        struct worker_link *l = map_get(r->workers, endpoint);

        if (!l) {
                prune_links(r);
                if (map_count(r->workers) >= WORKERS_MAX)
                        return -EAGAIN;
                l = xnew(struct worker_link);
                int e = fdlink_client_new(r->gateway->event, endpoint, &l->client);
                if (e < 0) {
                        free(l);
                        return e;
                }
                l->endpoint = xstrdup(endpoint);
                (void) map_set(r->workers, endpoint, l);
        }
        *ret = l;
        return 0;
}

int relay_worker_call(struct relay *r, const char *endpoint, const struct wire_msg *type,
                      const void *msg, uint64_t timeout_usec, fdlink_reply_fn fn, void *userdata)
{
        struct worker_link *l;
        int e = link_get(r, endpoint, &l);

        return e < 0 ? e : fdlink_call(l->client, type, msg, timeout_usec, fn, userdata);
}

enum ask_what { ASK_DISPLAY, ASK_TERMINAL, ASK_PICTURE };
struct ask {
        struct http_request *req;
        enum ask_what what;
        struct worker_link *link;
        uint64_t width;      /* of a picture */
        uint64_t cols, rows; /* of a terminal */
};

static void ask_done(struct ask *a)
{
        a->link->calls--;
        free(a);
}

/* ---- viewers ---- */

static bool held_back(const struct viewer *v)
{
        return v->full || v->blind || v->paused;
}

static void viewer_events(struct viewer *v)
{
        uint32_t events =
                (held_back(v) ? 0 : EPOLLIN) | (buf_pending(&v->to_slot) > 0 ? EPOLLOUT : 0);

        if (events == v->events || !v->io)
                return;
        v->events = events;
        (void) sd_event_source_set_io_events(v->io, events);
}

static void slot_gone(struct viewer *v)
{
        v->io = sd_event_source_disable_unref(v->io);
        v->fd = fd_close(v->fd);
        sink_close(v->sink, 1001, v->terminal ? "terminal ended" : "display ended");
}

void viewer_flush(struct viewer *v)
{
        while (v->fd >= 0 && buf_pending(&v->to_slot) > 0) {
                ssize_t n = send(v->fd, buf_head(&v->to_slot), buf_pending(&v->to_slot),
                                 MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0) {
                        if (errno != EAGAIN && errno != EINTR)
                                slot_gone(v);
                        break;
                }
                buf_consume(&v->to_slot, (size_t) n);
        }
        if (buf_pending(&v->to_slot) == 0)
                buf_done(&v->to_slot);
        sink_pause(v->sink, buf_pending(&v->to_slot) > VIEWER_TO_SLOT_MAX / 4);
        viewer_events(v);
}

static void slot_read(struct viewer *v)
{
        static char scratch[READ_SIZE];

        for (int i = 0; i < READS_PER_TURN && !held_back(v); i++) {
                ssize_t n = recv(v->fd, scratch, sizeof(scratch), MSG_DONTWAIT);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n <= 0) {
                        slot_gone(v);
                        return;
                }
                if (sink_send(v->sink, (struct span){ scratch, (size_t) n }) < 0) {
                        slot_gone(v);
                        return;
                }
                v->full = sink_space(v->sink) == 0;
                if (n < (ssize_t) READ_MORE)
                        break;
        }
        viewer_events(v);
}

static int on_slot(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct viewer *v = userdata;

        if (revents & EPOLLOUT)
                viewer_flush(v);
        if (v->fd >= 0 && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
                if (held_back(v) && !(revents & EPOLLIN))
                        slot_gone(v);
                else
                        slot_read(v);
        }
        return 0;
}

static void on_message(struct sink *s, struct span data, bool binary)
{
        struct viewer *v = sink_userdata(s);
        const char *why = "display bytes come too fast";

        if (v->fd < 0)
                return;
        if (v->terminal) {
                terminal_message(v, data, binary);
                return;
        }
        if (!binary) {
                sink_close(s, 1003, "RFB is binary");
                return;
        }
        if (rfb_filter_feed(&v->filter, data.data, data.len, &v->to_slot, &why) < 0) {
                log_debug("viewer of %s refused: %s", v->session_id, why);
                sink_close(s, SINK_CLOSE_POLICY, why);
                return;
        }
        watch_count(v->watch, &v->filter.counts);
        viewer_flush(v);
}

void viewer_control(struct viewer *v, bool control, bool blind)
{
        bool lost = v->drives && !control;

        v->filter.control = v->drives = control;
        v->blind = blind;
        if (v->fd < 0)
                return;
        if (v->terminal)
                terminal_control(v);
        if (lost && !v->terminal && rfb_filter_release(&v->filter, &v->to_slot) == 0)
                viewer_flush(v);
        else
                viewer_events(v);
}

static void on_room(struct sink *s)
{
        struct viewer *v = sink_userdata(s);

        v->full = false;
        viewer_events(v);
}

static void on_gone(struct sink *s)
{
        struct viewer *v = sink_userdata(s);

        watch_leave(v);
        v->relay->n--;
        v->relay->n_terminals -= v->terminal != NULL;
        v->io = sd_event_source_disable_unref(v->io);
        (void) fd_close(v->fd);
        buf_done(&v->to_slot);
        terminal_free(v->terminal);
        free(v);
}

static const struct sink_ops viewer_ops = {
        .message = on_message,
        .room = on_room,
        .gone = on_gone,
};

/* Takes over the descriptor and the terminal (NULL: it is a display). */
static void viewer_new(struct relay *r, struct http_request *req, int slot, struct terminal *t)
{
        struct viewer *v = xnew(struct viewer);
        const struct ws_options options = { .subprotocol = "binary",
                                            .message_max =
                                                    t ? TERMINAL_MESSAGE_MAX : VIEWER_MESSAGE_MAX };
        const char *id = http_query(req, "viewer");
        cleanup_close int fd = slot;

        v->relay = r;
        v->fd = TAKE_FD(fd);
        v->terminal = t;
        v->to_slot.limit = VIEWER_TO_SLOT_MAX + VIEWER_MESSAGE_MAX;
        (void) snprintf(v->session_id, sizeof(v->session_id), "%s", req->params[0]);
        (void) snprintf(v->id, sizeof(v->id), "%s", id ? id : "");
        memcpy(v->token_hash, req->principal.token_hash, SHA256_HEX);
        v->may_drive = req->principal.role >= ROLE_USER;
        rfb_filter_init(&v->filter);
        list_init(&v->all);
        v->watch = watch_get(r, v->session_id);
        if (ws_accept(req, &options, &viewer_ops, v, &v->sink) < 0) {
                (void) fd_close(v->fd);
                watch_leave(v);
                terminal_free(t);
                free(v);
                return;
        }
        r->n++;
        r->n_terminals += t != NULL;
        if (!t)
                sink_set_unsent(v->sink, UNSENT_MAX);
        watch_join(v->watch, v);
        if (v->fd < 0) /* what the client sent along was wrong: it is being closed */
                return;
        v->events = (held_back(v) ? 0 : EPOLLIN) | (buf_pending(&v->to_slot) > 0 ? EPOLLOUT : 0);
        if (sd_event_add_io(r->gateway->event, &v->io, v->fd, v->events, on_slot, v) < 0)
                slot_gone(v);
}

static void display_opened(void *userdata, int r, const void *reply, int fd)
{
        struct ask *a = userdata;
        struct http_request *req = a->req;
        cleanup_close int display = fd;

        ask_done(a);
        if (r < 0 || display < 0)
                http_reply_rpc_error(req, r < 0 ? r : -EPROTO, reply);
        else if (http_gone(req))
                http_drop(req);
        else
                viewer_new(req->gateway->relay, req, TAKE_FD(display), NULL);
}

static void terminal_opened(void *userdata, int r, const void *reply, int fd)
{
        struct ask *a = userdata;
        struct http_request *req = a->req;
        const struct terminal_opened *m = reply;
        struct terminal *t = r < 0 ? NULL : terminal_new(m->terminal, a->link->endpoint);
        cleanup_close int bytes = fd;

        ask_done(a);
        if (r >= 0 && bytes >= 0 && !http_gone(req)) {
                viewer_new(req->gateway->relay, req, TAKE_FD(bytes), t);
                return;
        }
        terminal_free(t);
        if (r < 0 || bytes < 0)
                http_reply_rpc_error(req, r < 0 ? r : -EPROTO, reply);
        else
                http_drop(req);
}

static void screenshot_taken(void *userdata, int r, const void *reply, int fd)
{
        struct ask *a = userdata;
        struct http_request *req = a->req;
        const struct screenshot_reply *m = reply;
        cleanup_close int picture = fd;

        ask_done(a);
        if (r < 0 || picture < 0)
                http_reply_rpc_error(req, r < 0 ? r : -EPROTO, reply);
        else
                http_reply_fd(req, 200, "image/png", TAKE_FD(picture), 0, m->size_bytes);
}

/* ---- finding the worker ---- */

static int ask(struct ask *a)
{
        struct fdlink_client *client = a->link->client;
        const char *id = a->req->params[0];
        uint64_t timeout = a->req->gateway->settings->request_timeout;

        switch (a->what) {
        case ASK_DISPLAY:
                return fdlink_call(client, &wire_display_open,
                                   &(struct display_open){ .session_id = id }, timeout,
                                   display_opened, a);
        case ASK_TERMINAL:
                return fdlink_call(client, &wire_terminal_open,
                                   &(struct terminal_open){ .session_id = id,
                                                            .cols = (uint32_t) a->cols,
                                                            .rows = (uint32_t) a->rows },
                                   timeout, terminal_opened, a);
        case ASK_PICTURE:
                break;
        }
        return fdlink_call(
                client, &wire_screenshot_get,
                &(struct screenshot_get){ .session_id = id, .width = (uint32_t) a->width },
                SCREENSHOT_TIMEOUT, screenshot_taken, a);
}

static void ask_worker(struct ask *a, const char *endpoint)
{
        struct http_request *req = a->req;
        int r = link_get(req->gateway->relay, endpoint, &a->link);

        if (r < 0) {
                free(a);
                http_reply_busy(req, "worker of the session");
                return;
        }
        a->link->calls++;
        if (ask(a) < 0) {
                ask_done(a);
                http_reply_busy(req, "worker of the session");
        }
}

static void stored_screenshot(struct http_request *req);

static void worker_found(void *userdata, int r, PGresult **results, size_t n,
                         const struct pg_error *error)
{
        struct ask *a = userdata;
        struct http_request *req = a->req;

        if (r < 0) {
                free(a);
                http_reply_busy(req, "database");
        } else if (PQntuples(results[0]) == 0) {
                free(a);
                http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                 "There is no session of that id.");
        } else if (pg_str(results[0], 0, 0))
                ask_worker(a, pg_str(results[0], 0, 0));
        else {
                enum ask_what what = a->what;
                free(a);
                if (what == ASK_PICTURE)
                        stored_screenshot(req);
                else
                        http_reply_error(req, ERROR_CODE_CONFLICT, NULL,
                                         "The session holds no slot now, so it has no %s.",
                                         what == ASK_TERMINAL ? "terminal" : "display");
        }
}

static void find_worker(struct http_request *req, struct ask what)
{
        struct ask *a = xnew(struct ask);

        *a = what;
        a->req = req;
        int r = pg_query_as(
                req->gateway->pg, req->principal.tenant, worker_found, a,
                "SELECT w.endpoint FROM core.session s LEFT JOIN core.worker w "
                "ON w.worker_id = s.worker_id AND w.online AND w.session_id = s.session_id "
                "WHERE s.session_id = $1 AND s.tenant = $2",
                "ss", req->params[0], req->principal.tenant);
        if (r < 0) {
                free(a);
                http_reply_busy(req, "database");
        }
}

/* False: the request, for a WebSocket that lets a viewer name itself, has been answered. */
static bool viewer_ok(struct http_request *req, const char *const *known, const char *what)
{
        const char *id = http_query(req, "viewer");

        if (!ws_requested(req)) {
                http_reply_header(req, "Upgrade", "websocket");
                http_reply_problem(req, 426, "upgrade_required", NULL, "%s", what);
                return false;
        }
        if (http_query_only(req, known) < 0)
                return false;
        if (id && !session_id_ok(id)) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "viewer",
                                 "viewer may hold letters, digits, - and _, at most 64");
                return false;
        }
        return true;
}

static void vnc(struct http_request *req)
{
        static const char *const known[] = { "viewer", NULL };

        if (viewer_ok(req, known,
                      "The display is a WebSocket that carries RFB: connect with a VNC client in a "
                      "page."))
                find_worker(req, (struct ask){ .what = ASK_DISPLAY });
}

static void terminal(struct http_request *req)
{
        static const char *const known[] = { "viewer", "cols", "rows", NULL };
        struct ask a = { .what = ASK_TERMINAL };

        if (viewer_ok(req, known, "A terminal is a WebSocket; the page has one.") &&
            http_query_u64(req, "cols", 1, 1000, 80, &a.cols) == 0 &&
            http_query_u64(req, "rows", 1, 500, 24, &a.rows) == 0)
                find_worker(req, a);
}

static void stored_read(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct http_request *req = userdata;
        cleanup_free void *data = NULL;
        size_t len = 0;

        if (r < 0)
                http_reply_busy(req, "database");
        else if (PQntuples(results[0]) == 0 || pg_bytea(results[0], 0, 1, &data, &len) < 0)
                http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                 "The session has no picture yet.");
        else
                http_reply_bytes(req, 200, pg_str(results[0], 0, 0), (struct span){ data, len });
}

/* The session holds no slot: its newest stored picture. */
static void stored_screenshot(struct http_request *req)
{
        int r = pg_query_as(
                req->gateway->pg, req->principal.tenant, stored_read, req,
                "SELECT a.media_type, a.data FROM core.event e JOIN core.attachment a "
                "ON a.session_id = e.session_id AND a.digest = right(e.json::json->>'url', 64) "
                "WHERE e.session_id = $1 AND e.tenant = $2 AND e.event_type = 'screenshot' "
                "ORDER BY e.seq DESC LIMIT 1",
                "ss", req->params[0], req->principal.tenant);

        if (r < 0)
                http_reply_busy(req, "database");
}

static void screenshot(struct http_request *req)
{
        static const char *const known[] = { "width", NULL };
        uint64_t width = 0;

        if (http_query_only(req, known) == 0 &&
            http_query_u64(req, "width", 16, 16384, 0, &width) == 0)
                find_worker(req, (struct ask){ .what = ASK_PICTURE, .width = width });
}

static const struct route table[] = {
        { HTTP_GET, "/sessions/{id}/vnc", vnc, .auth = ROUTE_TICKET, .upgrade = true },
        { HTTP_GET, "/sessions/{id}/terminal", terminal, .auth = ROUTE_TICKET,
          .role = ROLE_OPERATOR, .upgrade = true },
        { HTTP_GET, "/sessions/{id}/screenshot", screenshot, .auth = ROUTE_TICKET },
};
const struct route_table relay_routes = { table, ARRAY_LEN(table) };

/* ---- the relay ---- */

size_t relay_displays(const struct relay *r)
{
        return r->n - r->n_terminals;
}

size_t relay_terminals(const struct relay *r)
{
        return r->n_terminals;
}

int relay_new(struct gateway *g, struct relay **ret)
{
        struct relay *r = xnew(struct relay);

        r->gateway = g;
        r->workers = map_new();
        int e = relay_watch_init(r);
        if (e < 0) {
                (void) relay_free(r);
                return e;
        }
        *ret = r;
        return 0;
}

struct relay *relay_free(struct relay *r)
{
        size_t iter = 0;
        void *value;
        const char *key;

        if (!r)
                return NULL;
        while (map_next(r->workers, &iter, &key, &value)) {
                struct worker_link *l = value;
                (void) map_remove(r->workers, l->endpoint);
                (void) link_free(l);
        }
        (void) map_free(r->workers);
        relay_watch_done(r);
        free(r);
        return NULL;
}
