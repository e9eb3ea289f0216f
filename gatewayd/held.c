/* Calls that wait for a coordinator that is away. */
#include "gatewayd/held.h"

#include "common/base/list.h"
#include "common/io/log.h"
#include "gatewayd/http.h"

#define HELD_MAX 2000u
#define HELD_BYTES_MAX (32 * MIB)
#define CALL_LEAST_USEC (500 * USEC_PER_MSEC)

struct held {
        struct gateway *gateway;
        struct list calls; /* in the order of their coming, which is that of their deadlines */
        size_t n, bytes;
        struct loop_timer timer;
};

struct held_call {
        struct list link;
        struct http_request *req;
        const struct wire_msg *type;
        struct buf frame;
        struct wire_arena *arena;
        const void *msg; /* in frame and arena */
        char *context;
        rpc_reply_fn fn;
        uint64_t since; /* monotonic */
};

static void call_free(struct held *h, struct held_call *c)
{
        list_remove(&c->link);
        h->n--;
        h->bytes -= c->frame.len;
        (void) wire_arena_free(c->arena);
        buf_done(&c->frame);
        free(c->context);
        free(c);
}

static void refuse(struct held *h, struct held_call *c)
{
        struct http_request *req = c->req;

        call_free(h, c);
        http_reply_busy(req, "coordinator");
}

static void make(struct held *h, struct held_call *c)
{
        const struct gateway_settings *s = h->gateway->settings;
        uint64_t waited = now_monotonic() - c->since;
        uint64_t left = GATEWAY_ANSWER_USEC - MIN(waited, GATEWAY_ANSWER_USEC - CALL_LEAST_USEC);
        TRACE_SCOPE(http_request_trace(c->req));
        int r = rpc_call_context(rpc_client_peer(h->gateway->coordinator), c->type, c->msg,
                                 c->context, MIN(s->request_timeout, left), c->fn, c->req);

        if (r < 0)
                refuse(h, c);
        else
                call_free(h, c);
}

void held_up(struct held *h)
{
        struct held_call *c;

        if (h->n > 0)
                log_info("%zu requests waited for the coordinator", h->n);
        while ((c = list_first(&h->calls, struct held_call, link)))
                make(h, c);
        loop_timer_disarm(&h->timer);
}

static void arm(struct held *h)
{
        const struct held_call *c = list_first(&h->calls, struct held_call, link);
        uint64_t now = now_monotonic(),
                 until = c ? c->since + h->gateway->settings->coordinator_wait : 0;

        if (c)
                loop_timer_arm(&h->timer, until > now ? until - now : 0);
}

static void on_timer(void *userdata)
{
        struct held *h = userdata;
        uint64_t now = now_monotonic(), wait = h->gateway->settings->coordinator_wait;
        struct held_call *c;

        while ((c = list_first(&h->calls, struct held_call, link)) && now - c->since >= wait)
                refuse(h, c);
        arm(h);
}

/* The message in memory of its own. */
static int copy(struct held_call *c, const void *msg)
{
        static const uint8_t none[WIRE_CORRELATION];
        struct wire_envelope e = { 0 };
        void *own;
        int r = wire_pack(&c->frame, c->type, msg, 0, none);

        if (r == 0)
                r = wire_open((struct span){ c->frame.data, c->frame.len }, &e);
        if (r < 0)
                return r;
        c->arena = wire_arena_new();
        r = wire_unpack(c->type, e.body, c->arena, &own);
        if (r == 0)
                c->msg = own;
        return r;
}

bool held_add(struct held *h, struct http_request *req, const struct wire_msg *type,
              const void *msg, const char *context, rpc_reply_fn fn)
{
        if (h->gateway->settings->coordinator_wait == 0 || h->n >= HELD_MAX ||
            h->bytes >= HELD_BYTES_MAX || h->gateway->stop_by_us)
                return false;
        struct held_call *c = xnew(struct held_call);
        *c = (struct held_call){ .req = req, .type = type, .fn = fn, .since = now_monotonic() };
        int r = copy(c, msg);
        list_push_back(&h->calls, &c->link);
        h->n++;
        h->bytes += c->frame.len;
        c->context = xstrdup(context);
        if (r < 0) {
                call_free(h, c);
                if (r != -EMSGSIZE)
                        return false;
                http_reply_error(req, ERROR_CODE_TOO_LARGE, NULL,
                                 "a field of the request is too long");
                return true;
        }
        if (h->n == 1)
                arm(h);
        return true;
}

size_t held_waiting(const struct held *h)
{
        return h->n;
}

int held_new(struct gateway *g, struct held **ret)
{
        struct held *h = xnew(struct held);
        int r;

        h->gateway = g;
        list_init(&h->calls);
        r = loop_timer_init(&h->timer, g->event, on_timer, h);
        if (r < 0) {
                free(h);
                return r;
        }
        *ret = h;
        return 0;
}

struct held *held_free(struct held *h)
{
        struct held_call *c;

        if (!h)
                return NULL;
        while ((c = list_first(&h->calls, struct held_call, link)))
                refuse(h, c);
        loop_timer_done(&h->timer);
        free(h);
        return NULL;
}
