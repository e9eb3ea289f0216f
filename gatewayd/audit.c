/* Sends rows of the audit log to coordinatord. */
#include "gatewayd/audit.h"

#include "common/io/log.h"
#include "gatewayd/gateway.h"
#include "gatewayd/http-private.h"
#include "gatewayd/rate.h"
#include "gatewayd/rights.h"

#define WAITING_MAX (4 * MIB)  /* rows that wait while coordinatord is away; then they are lost */
#define SEND_MAX (400u * 1024) /* of one message; its limit is 512 KiB */
#define RETRY_USEC USEC_PER_SEC
#define REFUSALS_KEYS 10000u
#define PATH_MAX_SHOWN 300

static const struct rate_limit refusals_of_one = { 1, 30 }, refusals_in_all = { 20, 200 };

struct audit {
        struct gateway *gateway;
        struct buf waiting; /* rows, by commas */
        struct buf sending; /* the array under way */
        uint64_t number;    /* of it */
        bool asked;
        uint64_t left_out, lost;
        struct rate_table *refusals;
        struct loop_timer retry;
        struct loop_task turn;
        char *context;
};

static void put_text(struct buf *b, const char *name, const char *value)
{
        size_t n = MIN(strlen(value), (size_t) PATH_MAX_SHOWN);

        while (n > 0 && !utf8_valid(value, n))
                n--;
        buf_putf(b, "\"%s\":", name);
        buf_put_json_string(b, value, n);
}

/* The members of who asks and what for, without braces. */
static void put_who(struct buf *b, const struct http_request *req)
{
        const struct principal *who = &req->principal;
        cleanup_free char *action = xasprintf("%s %s", http_method_name(req->method),
                                              req->route ? req->route->pattern : req->path);

        put_text(b, "tenant", who->tenant);
        buf_puts(b, ",");
        put_text(b, "actor", who->name);
        buf_putf(b, ",\"role\":\"%s\",", who->name[0] ? role_name(who->role) : "");
        if (who->token_id[0]) {
                put_text(b, "token_id", who->token_id);
                buf_puts(b, ",");
        }
        put_text(b, "address", req->priv->address);
        buf_putf(b, ",\"request_id\":\"%s\",", req->priv->id);
        put_text(b, "action", action);
}

const char *audit_context(struct http_request *req)
{
        struct audit *a = req->gateway->audit;
        cleanup_buf struct buf b = BUF_INIT;

        if (req->priv->audited || !req->route || !rights_is_act(req->route))
                return "";
        req->priv->audited = true;
        buf_puts(&b, "{");
        put_who(&b, req);
        buf_puts(&b, "}");
        free(a->context);
        a->context = buf_take(&b, NULL);
        return a->context;
}

static void send_rows(struct audit *a);

static void on_stored(void *userdata, int r, const void *reply)
{
        struct audit *a = userdata;
        const struct error_reply *e = reply;

        a->asked = false;
        if (r == -EREMOTEIO && e && e->code == ERROR_CODE_BAD_REQUEST) {
                log_error("audit: rows were refused: %s", e->message);
                r = 0; /* they would be refused for ever */
        }
        if (r == 0) {
                buf_done(&a->sending);
                send_rows(a);
        } else
                loop_timer_arm(&a->retry, RETRY_USEC);
}

static void send_rows(struct audit *a)
{
        struct gateway *g = a->gateway;

        if (a->asked || (a->waiting.len == 0 && a->sending.len == 0))
                return;
        if (a->sending.len == 0) {
                size_t n = a->waiting.len;
                if (n > SEND_MAX) { /* rows end with "}," */
                        n = SEND_MAX;
                        while (n > 0 && !(a->waiting.data[n - 1] == '\n'))
                                n--;
                }
                buf_puts(&a->sending, "[");
                buf_put(&a->sending, a->waiting.data, n);
                while (a->sending.len > 0 && strchr(",\n", a->sending.data[a->sending.len - 1]))
                        a->sending.len--;
                buf_puts(&a->sending, "]");
                struct buf rest = BUF_INIT;
                buf_put(&rest, a->waiting.data + n, a->waiting.len - n);
                buf_done(&a->waiting);
                a->waiting = rest;
                a->number++;
        }
        const struct audit_append m = {
                .source = g->instance,
                .number = a->number,
                .rows = { a->sending.data, a->sending.len },
        };
        if (rpc_call(rpc_client_peer(g->coordinator), &wire_audit_append, &m,
                     g->settings->request_timeout, on_stored, a) < 0)
                loop_timer_arm(&a->retry, RETRY_USEC);
        else
                a->asked = true;
}

static void on_turn(void *userdata)
{
        send_rows(userdata);
}

static bool refusal_counts(struct audit *a, const char *address)
{
        uint64_t now = now_monotonic();

        if (rate_take(a->refusals, address, &refusals_of_one, now).allowed &&
            rate_take(a->refusals, "*", &refusals_in_all, now).allowed)
                return true;
        a->left_out++;
        return false;
}

static const char *result_of(int status)
{
        return status == 401   ? "unauthorized"
               : status == 403 ? "forbidden"
               : status == 429 ? "rate_limited"
                               : "ok";
}

void audit_answered(struct http_request *req, int status)
{
        struct audit *a = req->gateway->audit;
        bool refused = status == 401 || status == 403 || status == 429;

        if (!a || !req->route || (!refused && (status >= 300 || !rights_is_act(req->route))) ||
            req->priv->audited)
                return;
        if (refused && !refusal_counts(a, req->priv->address))
                return;
        if (a->waiting.len > WAITING_MAX) {
                if (a->lost++ == 0)
                        log_error("audit: coordinatord is away for too long; rows are lost");
                return;
        }
        req->priv->audited = true;
        cleanup_free char *target =
                a->left_out > 0 ? xasprintf("%s (%" PRIu64 " refusals before were not recorded)",
                                            req->path, a->left_out)
                                : xstrdup(req->path);
        a->left_out = 0;
        buf_puts(&a->waiting, "{");
        put_who(&a->waiting, req);
        buf_puts(&a->waiting, ",");
        put_text(&a->waiting, "target", target);
        buf_putf(&a->waiting, ",\"result\":\"%s\"},\n", result_of(status));
        loop_task_queue(&a->turn);
}

size_t audit_waiting(const struct audit *a)
{
        return a->waiting.len + a->sending.len;
}

struct audit *audit_new(struct gateway *g)
{
        struct audit *a = xnew(struct audit);

        a->gateway = g;
        a->refusals = rate_table_new(REFUSALS_KEYS);
        if (loop_timer_init(&a->retry, g->event, on_turn, a) < 0 ||
            loop_task_init(&a->turn, g->event, on_turn, a) < 0)
                return audit_free(a);
        return a;
}

struct audit *audit_free(struct audit *a)
{
        if (!a)
                return NULL;
        if (a->gateway->coordinator)
                rpc_cancel(a->gateway->coordinator, a);
        loop_timer_done(&a->retry);
        loop_task_done(&a->turn);
        (void) rate_table_free(a->refusals);
        buf_done(&a->waiting);
        buf_done(&a->sending);
        free(a->context);
        free(a);
        return NULL;
}
