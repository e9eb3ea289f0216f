/* An MCP server behind a URL: Streamable HTTP. Each message is a POST; its answer is one JSON
 * object or a stream of events, which is taken up again where it broke off. What the server says by
 * itself comes on a stream that stands: a GET (legacy), or the answer of subscriptions/listen. */
#include "common/io/local-address.h"
#include "common/io/log.h"
#include "mcp-private.h"
#include "sse.h"

#define RESUME_USEC USEC_PER_SEC /* before a stream is taken up again, when it does not say */
#define RESUME_MAX_USEC (30 * USEC_PER_SEC)
#define RESUMES_MAX 5 /* without a new event between */
#define STALL_USEC (300 * USEC_PER_SEC)
#define EXCHANGES_MAX 128
#define STANDING_STALL_USEC (3600 * USEC_PER_SEC)
#define STANDING_GOOD_USEC (60 * USEC_PER_SEC) /* a stream that stood so long was no failure */

struct http_io {
        struct list exchanges;
        size_t n;
};

struct exchange {
        struct list link;
        struct mcp_server *server;
        struct httpc_request *http;
        uint64_t id; /* 0 = no answer is expected */
        long status;
        bool stream, answered, refused;
        bool standing;  /* for what the server says by itself */
        char *text;     /* of a standing one: what is posted; NULL = a GET */
        uint64_t began; /* monotonic: the stream that stands */
        bool dead;      /* no longer the server's: freed when the callback under way has returned */
        struct buf body;
        struct sse sse;
        char *session;  /* header of the answer */
        char from[128]; /* the event the stream was taken up behind */
        unsigned resumes;
        struct loop_timer again;
};

static void exchange_free(struct exchange *x)
{
        if (!x->dead) {
                list_remove(&x->link);
                ((struct http_io *) x->server->io)->n--;
        }
        if (x->http)
                httpc_cancel(x->http);
        loop_timer_done(&x->again);
        sse_done(&x->sse);
        buf_done(&x->body);
        free(x->session);
        free(x->text);
        free(x);
}

static void exchange_lost(struct exchange *x, const char *why)
{
        struct mcp_server *s = x->server;
        uint64_t id = x->id;

        exchange_free(x);
        if (id > 0)
                mcp_lost(s, id, why);
}

static bool may_connect(void *userdata, const struct sockaddr *a)
{
        const struct mcp *m = ((struct exchange *) userdata)->server->set;

        if (!strempty(m->proxy) || !address_not_public(a))
                return true;
        for (size_t i = 0; i < m->n_allowed; i++)
                if (address_in_range(a, &m->allowed[i]))
                        return true;
        return false;
}

static void on_head(void *userdata, long status)
{
        ((struct exchange *) userdata)->status = status;
}

static void on_header(void *userdata, const char *name, struct span value)
{
        struct exchange *x = userdata;

        if (streq(name, "content-type"))
                x->stream =
                        value.len >= 17 && strncasecmp(value.data, "text/event-stream", 17) == 0;
        if (streq(name, "mcp-session-id") && value.len <= 512) {
                free(x->session);
                x->session = span_dup(value);
        }
}

/* Is this the answer that is waited for? Then nothing has to be taken up again. */
static void note_answer(struct exchange *x, struct span text)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (x->id > 0 && json_parse(text.data, text.len, &j, &problem) == 0 &&
            !json_object_get(j, "method") &&
            (uint64_t) json_integer_value(json_object_get(j, "id")) == x->id)
                x->answered = true;
}

static void take_session(struct exchange *x)
{
        struct mcp_server *s = x->server;

        if (!x->session || s->modern || s->state != MCP_OPENING)
                return;
        free(s->session);
        s->session = TAKE_PTR(x->session);
}

static int on_event(void *userdata, const char *event, struct span data)
{
        struct exchange *x = userdata;

        if (x->dead)
                return -ECANCELED;
        if (data.len == 0 || (*event && !streq(event, "message")))
                return 0;
        x->resumes = 0;
        note_answer(x, data);
        take_session(x);
        mcp_message(x->server, data);
        return 0;
}

static void release(void *p)
{
        exchange_free(p);
}

/* Maybe from inside its own callbacks. */
static void bury(struct exchange *x)
{
        struct mcp_server *s = x->server;

        list_remove(&x->link);
        ((struct http_io *) s->io)->n--;
        x->dead = true;
        if (x->http)
                httpc_cancel(TAKE_PTR(x->http));
        loop_timer_disarm(&x->again);
        loop_defer_free(s->set->event, x, release);
}

static void on_data(void *userdata, struct span data)
{
        struct exchange *x = userdata;

        if (x->stream && x->status < 300) {
                if (sse_feed(&x->sse, data) < 0)
                        x->refused = true;
        } else if (buf_append(&x->body, data.data, data.len) < 0) {
                x->refused = true;
        }
}

static int start(struct exchange *x, const char *text, const char *method, const char *name);

static void on_again(void *userdata)
{
        struct exchange *x = userdata;

        if (start(x, x->text, x->text ? MCP_LISTEN : NULL, NULL) < 0)
                exchange_lost(x, "The stream of its answer could not be taken up again.");
}

/* The stream ended before the answer came, and the server gave its events names: it goes on from
 * the last one. */
static bool resume(struct exchange *x)
{
        uint64_t wait = x->sse.retry_usec > 0 ? x->sse.retry_usec : RESUME_USEC;

        if (x->answered || x->id == 0 || !x->sse.id[0] || x->server->modern ||
            x->resumes >= RESUMES_MAX)
                return false;
        x->resumes++;
        (void) snprintf(x->from, sizeof(x->from), "%s", x->sse.id);
        loop_timer_arm(&x->again, MIN(wait, RESUME_MAX_USEC));
        return true;
}

/* The stream that stands has ended: it is opened again, unless the server has none or it keeps
 * failing. Whatever is missed meanwhile is only that its tools have changed. */
static void standing_ended(struct exchange *x, int r, long status)
{
        struct mcp_server *s = x->server;
        uint64_t wait = MAX(RESUME_USEC << MIN(x->resumes, 5U), x->sse.retry_usec);

        if (status == 404 && s->session) {
                exchange_free(x);
                mcp_session_gone(s, 0);
                return;
        }
        if (x->stream && now_monotonic() - x->began >= STANDING_GOOD_USEC)
                x->resumes = 0;
        if (x->refused || status >= 300 || (r == 0 && !x->stream) || r == -EACCES ||
            x->resumes >= RESUMES_MAX) {
                log_info("mcp %s: no stream for its notices (status %ld, tried again %u times)",
                         s->name, status, x->resumes);
                exchange_free(x);
                return;
        }
        x->resumes++;
        if (x->sse.id[0])
                (void) snprintf(x->from, sizeof(x->from), "%s", x->sse.id);
        loop_timer_arm(&x->again, MIN(wait, RESUME_MAX_USEC));
}

static char *status_words(const struct exchange *x)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;
        const char *said = NULL;

        if (json_parse(buf_head(&x->body), buf_pending(&x->body), &j, &problem) == 0)
                said = json_string_value(json_object_get(json_object_get(j, "error"), "message"));
        return xasprintf("It answered with status %ld%s%.200s.", x->status, said ? ": " : "",
                         said ? said : "");
}

static void answered_badly(struct exchange *x)
{
        cleanup_free char *why = status_words(x);
        struct mcp_server *s = x->server;

        if (x->status == 404 && s->session) {
                exchange_free(x);
                mcp_session_gone(s, 0);
        } else {
                exchange_lost(x, why);
        }
}

static void on_done(void *userdata, int r, long status, const char *text)
{
        struct exchange *x = userdata;
        struct mcp_server *s = x->server;
        cleanup_buf struct buf body = BUF_INIT;
        struct http_io *io = s->io;

        x->http = NULL;
        if (x->standing)
                standing_ended(x, r, status);
        else if (x->refused)
                exchange_lost(x, "It sent more than is taken.");
        else if (r == -EACCES)
                exchange_lost(x, "Its address is not public; an operator can allow it with the "
                                 "setting egress_private.");
        else if ((r == 0 || x->stream) && status < 300 && resume(x))
                return;
        else if (r < 0 && !x->answered)
                exchange_lost(x, strempty(text) ? strerror(-r) : text);
        else if (status >= 300)
                answered_badly(x);
        else if (x->stream)
                exchange_lost(x, "The stream ended without an answer.");
        else {
                body = x->body;
                x->body = BUF_INIT;
                take_session(x);
                uint64_t id = x->id;
                exchange_free(x);
                if (buf_pending(&body) > 0)
                        mcp_message(s, (struct span){ buf_head(&body), buf_pending(&body) });
                if (id > 0 && s->io == io)
                        mcp_lost(s, id, "It gave no answer.");
        }
}

#define HEADERS_MAX 48

struct header_list {
        const char *all[HEADERS_MAX + 8];
        char *made[8]; /* those to be freed */
        size_t n, n_made;
};

static void header_make(struct header_list *h, const char *name, const char *value)
{
        char *line = xasprintf("%s: %s", name, value);

        h->all[h->n++] = h->made[h->n_made++] = line;
}

static void make_headers(const struct exchange *x, bool post, const char *method, const char *name,
                         struct header_list *h)
{
        const struct mcp_server *s = x->server;

        h->all[h->n++] =
                post ? "accept: application/json, text/event-stream" : "accept: text/event-stream";
        if (post)
                h->all[h->n++] = "content-type: application/json";
        if (s->modern)
                header_make(h, "mcp-protocol-version", MCP_MODERN);
        else if (s->version)
                header_make(h, "mcp-protocol-version", s->version);
        if (s->modern && method)
                header_make(h, "mcp-method", method);
        if (s->modern && name)
                header_make(h, "mcp-name", name);
        if (s->session && !s->modern)
                header_make(h, "mcp-session-id", s->session);
        if (!post && x->from[0])
                header_make(h, "last-event-id", x->from);
        for (size_t i = 0; s->headers && s->headers[i] && i < HEADERS_MAX; i++)
                h->all[h->n++] = s->headers[i];
}

static int start(struct exchange *x, const char *text, const char *method, const char *name)
{
        struct mcp_server *s = x->server;
        struct header_list h = { 0 };
        int r;

        make_headers(x, text, method, name, &h);
        x->stream = false;
        x->status = 0;
        x->began = now_monotonic();
        sse_done(&x->sse);
        sse_init(&x->sse, MCP_MESSAGE_MAX, on_event, x);
        r = httpc_start(s->set->http,
                        &(struct httpc_config){
                                .method = text ? "POST" : "GET",
                                .url = s->url,
                                .headers = h.all,
                                .body = span_of(text),
                                .stall_usec = x->standing ? STANDING_STALL_USEC : STALL_USEC,
                                .body_max = MCP_MESSAGE_MAX,
                                .proxy = s->set->proxy ? s->set->proxy : "",
                                .may_connect = may_connect,
                                .on_head = on_head,
                                .on_header = on_header,
                                .on_data = on_data,
                                .on_done = on_done,
                                .userdata = x,
                        },
                        &x->http);
        for (size_t i = 0; i < h.n_made; i++)
                free(h.made[i]);
        return r;
}

static int http_open(struct mcp_server *s)
{
        struct http_io *io = xnew(struct http_io);

        list_init(&io->exchanges);
        s->io = io;
        return 0;
}

static int exchange_new(struct mcp_server *s, struct exchange **ret)
{
        struct http_io *io = s->io;
        struct exchange *x;
        int r;

        if (!io || io->n >= EXCHANGES_MAX)
                return io ? -EAGAIN : -ENOTCONN;
        x = xnew(struct exchange);
        x->server = s;
        x->body = BUF_LIMIT(MCP_MESSAGE_MAX);
        list_push_back(&io->exchanges, &x->link);
        io->n++;
        r = loop_timer_init(&x->again, s->set->event, on_again, x);
        if (r < 0) {
                exchange_free(x);
                return r;
        }
        *ret = x;
        return 0;
}

static int http_send(struct mcp_server *s, const char *text, uint64_t id, const char *method,
                     const char *name)
{
        struct exchange *x;
        int r = exchange_new(s, &x);

        if (r < 0)
                return r;
        x->id = id;
        r = start(x, text, method, name);
        if (r < 0)
                exchange_free(x);
        return r;
}

static int http_listen(struct mcp_server *s, const char *text)
{
        struct exchange *x;
        int r = exchange_new(s, &x);

        if (r < 0)
                return r;
        x->standing = true;
        x->text = xstrdup(text);
        r = start(x, x->text, x->text ? MCP_LISTEN : NULL, NULL);
        if (r < 0)
                exchange_free(x);
        return r;
}

/* Closing the answer's stream tells a modern server that nobody waits. */
static void http_forget(struct mcp_server *s, uint64_t id)
{
        struct http_io *io = s->io;
        struct exchange *x, *next;

        if (!io)
                return;
        list_foreach_safe (x, next, &io->exchanges, link)
                if (x->id == id && id > 0)
                        bury(x);
}

static void http_close(struct mcp_server *s)
{
        struct http_io *io = s->io;
        struct exchange *x, *next;

        if (!io)
                return;
        list_foreach_safe (x, next, &io->exchanges, link)
                bury(x);
        s->io = NULL;
        free(io);
}

const struct mcp_transport mcp_http = {
        .open = http_open,
        .send = http_send,
        .listen = http_listen,
        .forget = http_forget,
        .close = http_close,
};
