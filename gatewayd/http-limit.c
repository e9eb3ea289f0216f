/* 429: what one token may ask, what an address may try without one, and that no costs little. */
#include "gatewayd/gateway.h"
#include "gatewayd/http-private.h"
#include "gatewayd/rights.h"

/* Beyond these a refusal is answered late: whoever sends as fast as answers come is slowed to four
 * requests a second on each connection, and the others do not feel it. */
static const struct rate_limit prompt = { 50, 100 };
#define LATE_USEC (250 * USEC_PER_MSEC)
#define KEY_MAX (SHA256_HEX + 16)

void http_limit_answer(struct http_request *req)
{
        struct http_request_private *p = req->priv;
        uint64_t seconds = p->retry_usec / USEC_PER_SEC + 1;
        const char *what = TAKE_PTR(p->limited);

        http_reply_header(req, "Retry-After", "%" PRIu64, seconds);
        http_reply_error(req, ERROR_CODE_RATE_LIMITED, NULL,
                         "There are too many %s; try again in %" PRIu64 " s.", what, seconds);
}

void http_limit_refuse(struct http_request *req, const char *who, uint64_t retry_usec,
                       const char *what)
{
        struct http_request_private *p = req->priv;
        char key[KEY_MAX];

        (void) snprintf(key, sizeof(key), "refused %s", who);
        http_conn_set_state(p->conn, CONN_HANDLING);
        p->limited = what;
        p->retry_usec = retry_usec;
        if (rate_take(req->gateway->rates, key, &prompt, now_monotonic()).allowed)
                http_limit_answer(req);
        else
                loop_timer_arm(&p->conn->timer, LATE_USEC);
}

bool http_limit_logins(struct http_request *req, bool failed)
{
        const struct gateway_settings *s = req->gateway->settings;
        const struct rate_limit l = { s->failures_per_second, s->failures_burst };
        struct rate_table *t = req->gateway->rates;
        char key[KEY_MAX];

        (void) snprintf(key, sizeof(key), "failed %s", req->priv->address);
        struct rate_verdict v = failed ? rate_take(t, key, &l, now_monotonic())
                                       : rate_look(t, key, &l, now_monotonic());
        if (!v.allowed)
                http_limit_refuse(req, req->priv->address, v.retry_usec,
                                  "failed logins from this address");
        return v.allowed;
}

bool http_limit_public(struct http_request *req)
{
        const struct gateway_settings *s = req->gateway->settings;
        const struct rate_limit l = { s->requests_per_second, s->requests_burst };
        char key[KEY_MAX];

        (void) snprintf(key, sizeof(key), "public %s", req->priv->address);
        struct rate_verdict v = rate_take(req->gateway->rates, key, &l, now_monotonic());
        if (!v.allowed)
                http_limit_refuse(req, req->priv->address, v.retry_usec,
                                  "requests from this address");
        return v.allowed;
}

bool http_limit_token(struct http_request *req)
{
        const struct gateway_settings *s = req->gateway->settings;
        const struct rate_limit all = { s->requests_per_second, s->requests_burst };
        const struct rate_limit dear = { s->expensive_per_second, s->expensive_burst };
        struct rate_table *t = req->gateway->rates;
        uint64_t now = now_monotonic();
        char key[KEY_MAX];

        struct rate_verdict v = rate_take(t, req->principal.token_hash, &all, now);
        if (v.allowed && rights_is_expensive(req->route)) {
                (void) snprintf(key, sizeof(key), "dear %s", req->principal.token_hash);
                v = rate_take(t, key, &dear, now);
        }
        req->priv->rate = v;
        if (!v.allowed)
                http_limit_refuse(req, req->principal.token_hash, v.retry_usec,
                                  "requests with this token");
        return v.allowed;
}
