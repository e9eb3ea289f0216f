/* Calls and replies of a link: packing, sending, matching, ending each exactly once. */
#include <assert.h>

#include "log.h"
#include "reply.h"
#include "rpc-private.h"

static const uint8_t no_correlation[WIRE_CORRELATION];

int rpc_transmit(struct rpc_link *l, struct span id, struct zsock_budget *g,
                 const struct wire_msg *type, const void *msg, uint8_t flags,
                 const uint8_t *correlation)
{
        buf_clear(&l->out);
        int r = wire_pack_context(&l->out, type, msg, flags,
                                  correlation ? correlation : no_correlation, l->context,
                                  flags & WIRE_REPLY ? NULL : trace_current());
        if (r < 0) {
                const char *field = wire_pack_problem(type, msg);
                return log_errno(LOG_DEBUG, r, "cannot pack %s, field %s", type->body.name,
                                 field ? field : "?");
        }
        return zsock_send(&l->z, id, &l->out, g);
}

int rpc_peer_transmit(struct rpc_peer *p, const struct wire_msg *type, const void *msg,
                      uint8_t flags, const uint8_t *correlation)
{
        int r = rpc_transmit(p->l, (struct span){ p->id, p->id_len }, p->budget, type, msg, flags,
                             correlation);
        if (r != -EHOSTUNREACH)
                return r;
        /* Our caller may be in the middle of anything: end the peer at the end of the turn. */
        p->lost = true;
        loop_task_queue(&p->l->reap);
        return -ENOTCONN;
}

static int usable(const struct rpc_peer *p)
{
        return p->l->closed ? -ECANCELED : p->up && !p->lost ? 0 : -ENOTCONN;
}

int rpc_send(struct rpc_peer *p, const struct wire_msg *type, const void *msg)
{
        assert(!type->reply);
        int r = usable(p);
        if (r == 0)
                r = rpc_peer_transmit(p, type, msg, 0, NULL);
        return r == -ENOBUFS ? -EAGAIN : r;
}

int rpc_call(struct rpc_peer *p, const struct wire_msg *type, const void *msg,
             uint64_t timeout_usec, rpc_reply_fn fn, void *userdata)
{
        assert(type->reply);
        struct call c = { .type = type, .owner = p, .rpc = fn, .userdata = userdata };
        uint8_t correlation[WIRE_CORRELATION];
        int r = usable(p);
        if (r < 0)
                return r;
        r = calls_add(p->l->calls, &c, timeout_usec, correlation);
        if (r < 0)
                return r;
        r = rpc_peer_transmit(p, type, msg, WIRE_REQUEST, correlation);
        if (r < 0)
                (void) calls_take(p->l->calls, correlation, &c);
        return r == -ENOBUFS ? -EAGAIN : r;
}

int rpc_call_context(struct rpc_peer *p, const struct wire_msg *type, const void *msg,
                     const char *context, uint64_t timeout_usec, rpc_reply_fn fn, void *userdata)
{
        p->l->context = span_of(context);
        int r = rpc_call(p, type, msg, timeout_usec, fn, userdata);
        p->l->context = (struct span){ 0 };
        return r;
}

void rpc_cancel(struct rpc_link *l, void *userdata)
{
        if (!l->closed)
                calls_cancel(l->calls, userdata);
}

void rpc_call_expired(void *userdata, const struct call *c)
{
        c->rpc(c->userdata, -ETIMEDOUT, NULL);
}

void rpc_reply_dispatch(struct rpc_peer *p, const struct wire_envelope *e,
                        const struct wire_msg *type)
{
        struct rpc_link *l = p->l;
        const struct call *waiting = calls_find(l->calls, e->correlation);
        if (!waiting || waiting->owner != p) {
                log_debug("late or foreign %s from %s dropped", type->body.name, p->process);
                return;
        }
        void *msg;
        bool error = type == &wire_error_reply;
        if ((!error && type != waiting->type->reply) ||
            wire_unpack(type, e->body, l->arena, &msg) < 0) {
                rpc_peer_end(p, "wrong reply");
                return;
        }
        struct call c;
        (void) calls_take(l->calls, e->correlation, &c);
        c.rpc(c.userdata, error ? -EREMOTEIO : 0, msg);
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void request_free(struct rpc_request *req)
{
        if (req->peer) {
                list_remove(&req->link);
                req->peer->n_requests--;
        }
        otlp_forget(&req->span);
        free(req->context);
        free(req);
}

/* The answer breaks a limit, which is our own mistake, or too many large ones are on their way:
 * whoever asked must not wait for nothing. */
static int reply_unsendable(struct rpc_request *req, int r)
{
        struct error_reply e = {
                .code = r == -EMSGSIZE  ? ERROR_CODE_TOO_LARGE
                        : r == -ENOBUFS ? ERROR_CODE_UNAVAILABLE
                                        : ERROR_CODE_INTERNAL,
                .message = r == -ENOBUFS ? "too many large answers are on their way; ask again"
                                         : "the answer could not be sent: it breaks a limit",
        };
        return rpc_peer_transmit(req->peer, &wire_error_reply, &e, WIRE_REPLY, req->correlation);
}

static int request_end(struct rpc_request *req, const struct wire_msg *type, const void *msg)
{
        struct rpc_peer *p = req->peer;
        int r = -ENOTCONN, sent;
        assert(!req->replied);
        req->replied = true;
        if (type == &wire_error_reply)
                otlp_failed(&req->span, error_code_name(((const struct error_reply *) msg)->code));
        otlp_end(req->otlp, &req->span);
        if (p && !p->lost)
                r = rpc_peer_transmit(p, type, msg, WIRE_REPLY, req->correlation);
        sent = r;
        if (r == -EMSGSIZE || r == -EINVAL || r == -EILSEQ || r == -ENOBUFS)
                sent = reply_unsendable(req, r);
        if (sent == -EAGAIN) {
                /* It asks and does not read the answers. */
                p->lost = true;
                loop_task_queue(&p->l->reap);
        }
        if (!req->in_handler)
                request_free(req);
        return r;
}

int rpc_reply(struct rpc_request *req, const void *msg)
{
        return request_end(req, req->type->reply, msg);
}

int rpc_reply_error(struct rpc_request *req, enum error_code code, const char *fmt, ...)
{
        char text[REPLY_TEXT_MAX];
        va_list ap;
        va_start(ap, fmt);
        reply_text(text, fmt, ap);
        va_end(ap);
        struct error_reply e = { .code = code, .message = text };
        return request_end(req, &wire_error_reply, &e);
}

const char *rpc_request_context(const struct rpc_request *req)
{
        return req->context ? req->context : "";
}

const struct trace_context *rpc_request_trace(const struct rpc_request *req)
{
        return &req->span.at;
}

struct rpc_peer *rpc_request_peer(struct rpc_request *req)
{
        return req->peer;
}

void rpc_request_dispatch(struct rpc_peer *p, const struct rpc_route *route,
                          const struct wire_envelope *e, const void *msg)
{
        struct rpc_link *l = p->l;
        TRACE_SCOPE(&e->trace);
        LOG_SCOPE("MSG", route->type->body.name);
        LOG_SCOPE("PEER", p->process);
        if (!route->type->reply) {
                int r = route->handle(l->userdata, p, NULL, msg);
                if (r < 0)
                        (void) log_errno(LOG_DEBUG, r, "%s from %s", route->type->body.name,
                                         p->process);
                return;
        }
        struct rpc_request *req = xnew(struct rpc_request);
        *req = (struct rpc_request){
                .peer = p, .type = route->type, .in_handler = true, .otlp = l->otlp
        };
        if (trace_is_set(&e->trace))
                otlp_begin(l->otlp, &req->span, &e->trace, OTLP_SERVER, "%s",
                           route->type->body.name);
        TRACE_SCOPE(&req->span.at);
        memcpy(req->correlation, e->correlation, WIRE_CORRELATION);
        if (e->context.len > 0)
                req->context = xstrndup(e->context.data, e->context.len);
        list_push_back(&p->requests, &req->link);
        p->n_requests++;
        int r = 0;
        if (p->n_requests > l->queue_max)
                (void) rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "too many requests at once");
        else
                r = route->handle(l->userdata, p, req, msg);
        if (r < 0 && !req->replied)
                (void) rpc_reply_error(req, reply_code(r), "%s failed: %s", route->type->body.name,
                                       strerrordesc_np(-r));
        req->in_handler = false;
        if (req->replied)
                request_free(req);
}
