/* Server-sent events: an answer without a length that ends with the connection. */
#include "gatewayd/sse.h"

#include "gatewayd/gateway.h"
#include "gatewayd/http-private.h"
#include "gatewayd/sink-private.h"

struct sse_client {
        struct sink sink;
};

static void on_input(struct sink *s, const char *data, size_t n)
{
        /* The client has nothing to say any more; what it sends is read so that its going away is
         * seen. */
}

static struct frame *heartbeat(struct sink *s)
{
        return frame_sse_comment("alive");
}

static uint64_t heartbeat_usec(const struct sink *s)
{
        return 10 * USEC_PER_SEC;
}

static void destroy(struct sink *s)
{
        free(container_of(s, struct sse_client, sink));
}

static const struct sink_class sse_class = {
        .kind = SINK_SSE,
        .input = on_input,
        .heartbeat = heartbeat,
        .heartbeat_usec = heartbeat_usec,
        .eof_is_dead = true,
        .destroy = destroy,
};

int sse_accept(struct http_request *req, const struct sink_ops *ops, void *userdata,
               struct sink **ret)
{
        struct sink_set *set = req->gateway->sinks;
        cleanup_buf struct buf head = { 0 };
        struct http_takeover t = { .fd = -1 };

        http_reply_header(req, "X-Accel-Buffering", "no");
        http_render_head(req, &head, 200, "text/event-stream; charset=utf-8", UINT64_MAX, true);
        if (req->priv->has_head_method) {
                http_reply_bytes(req, 200, "text/event-stream; charset=utf-8", (struct span){ 0 });
                return -ECANCELED;
        }
        int r = http_take_over(req, &t);
        free(t.early);
        if (r < 0) {
                http_drop(req);
                return r;
        }
        struct sse_client *c = xnew(struct sse_client);
        r = sink_init(&c->sink, set, &sse_class, t.fd, t.slot, t.grant, ops, userdata);
        if (r < 0) {
                free(c);
                return r;
        }
        sink_push_control(&c->sink, frame_raw(buf_head(&head), buf_pending(&head)));
        *ret = &c->sink;
        return 0;
}

int sse_last_event_id(struct http_request *req, uint64_t *ret)
{
        const char *text = http_header(req, "last-event-id");

        if (!text || !*text)
                return -ENOENT;
        if (parse_u64(text, ret) < 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "Last-Event-ID",
                                 "Last-Event-ID must be the id of an event of this stream.");
                return -EINVAL;
        }
        return 0;
}
