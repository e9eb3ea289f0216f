/* Tokens, tickets and origins: decides who sends a request. */
#include "gatewayd/auth.h"

#include "common/base/json.h"
#include "common/io/log.h"
#include "gatewayd/gateway.h"
#include "gatewayd/http-private.h"
#include "gatewayd/rights.h"

#define CACHE_MAX 10000u
/* With the streams' look each second (sink.c) a revoked token is out within 5 s, bus or not. */
#define GOOD_USEC (2 * USEC_PER_SEC)
#define BAD_USEC (1 * USEC_PER_SEC)
#define STALE_USEC                                                                                 \
        (60 * USEC_PER_SEC) /* a known token goes on this long when the database cannot be asked   \
                             */
#define TICKETS_MAX 10000u
#define TICKET_USEC (30 * USEC_PER_SEC)
#define TOKEN_MAX 256u
#define WAITERS_MAX 10000u
#define REPORT_USEC (20 * USEC_PER_SEC)
#define USED_USEC (60 * USEC_PER_SEC) /* last_used_at is told this often at most */
#define USED_MAX 1000u

#define LATE_USEC (500 * USEC_PER_MSEC)

enum grant_state { GRANT_UNKNOWN, GRANT_GOOD, GRANT_BAD };

struct auth_grant {
        struct auth *auth;
        char hash[SHA256_HEX];
        enum grant_state state;
        struct principal who;
        uint64_t asked_us; /* of the answer that state is from; 0 = ask before it counts */
        uint64_t good_us;  /* of the last answer that was good */
        uint64_t since_us; /* when the question under way was put */
        bool used;         /* since that was told */
        uint64_t told_used_us;
        bool asking;
        unsigned refs;
        struct list waiters; /* struct waiter.by_grant */
        struct list age;     /* auth->grants, least recently made first */
};

/* The only way to change a state. */
static void grant_set_state(struct auth_grant *g, enum grant_state to)
{
        static const char *const names[] = { "unknown", "good", "bad" };

        if (g->state != to)
                log_debug("token %.8s: %s -> %s", g->hash, names[g->state], names[to]);
        g->state = to;
}

struct auth_waiter {
        struct http_request *req;
        auth_fn fn;
        struct list by_grant;
};

struct ticket {
        char hash[SHA256_HEX];
        char *path;   /* NULL = any */
        char *origin; /* of the page that asked for it; NULL = of none */
        struct principal who;
        uint64_t until_us;
        struct list age;
};

struct auth {
        struct gateway *gateway;
        struct map *by_hash, *tickets;
        struct list grants, tickets_by_age;
        size_t n_waiters;
        struct loop_timer report;
};

static const char *const role_names[ROLE_MAX] = {
        [ROLE_VIEWER] = "viewer",
        [ROLE_OPERATOR] = "operator",
        [ROLE_ADMIN] = "admin",
};

const char *role_name(enum role r)
{
        return r < ROLE_MAX ? role_names[r] : "?";
}

int role_parse(const char *s, enum role *ret)
{
        if (streq(s, "user"))
                s = role_names[ROLE_OPERATOR];
        for (int i = 0; i < ROLE_MAX; i++)
                if (streq(s, role_names[i])) {
                        *ret = (enum role) i;
                        return 0;
                }
        return -EINVAL;
}

/* ---- the cache of tokens ---- */

static void grant_free(struct auth_grant *g)
{
        list_remove(&g->age);
        (void) map_remove(g->auth->by_hash, g->hash);
        free(g);
}

static struct auth_grant *grant_get(struct auth *a, const char *hash)
{
        struct auth_grant *g = map_get(a->by_hash, hash), *old, *tmp;

        if (g)
                return g;
        if (map_count(a->by_hash) >= CACHE_MAX)
                list_foreach_safe (old, tmp, &a->grants, age) {
                        if (old->refs > 0 || old->asking)
                                continue;
                        grant_free(old);
                        break;
                }
        if (map_count(a->by_hash) >= CACHE_MAX)
                return NULL;
        g = xnew(struct auth_grant);
        g->auth = a;
        memcpy(g->hash, hash, SHA256_HEX);
        list_init(&g->waiters);
        list_push_back(&a->grants, &g->age);
        (void) map_set(a->by_hash, hash, g);
        return g;
}

static bool grant_fresh(const struct auth_grant *g, uint64_t now)
{
        return g->asked_us && ((g->state == GRANT_GOOD && now - g->asked_us < GOOD_USEC) ||
                               (g->state == GRANT_BAD && now - g->asked_us < BAD_USEC));
}

static int grant_verdict(const struct auth_grant *g)
{
        return g->state == GRANT_GOOD ? 0 : g->state == GRANT_BAD ? -EACCES : -EAGAIN;
}

/* late: the question took long and was not answered. A request that went on now would wait for the
 * database a second time. */
static void tell_waiters(struct auth_grant *g, bool late)
{
        struct auth_waiter *w;

        g->refs++;
        while ((w = list_first(&g->waiters, struct auth_waiter, by_grant))) {
                struct http_request *req = w->req;
                auth_fn fn = w->fn;
                list_remove(&w->by_grant);
                g->auth->n_waiters--;
                free(w);
                req->priv->auth_waiter = NULL;
                fn(req, late ? -EAGAIN : grant_verdict(g), &g->who);
        }
        g->refs--;
}

static void looked_up(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct auth_grant *g = userdata;
        uint64_t now = now_monotonic();

        g->asking = false;
        enum role of_user = ROLE_ADMIN;
        if (r == 0 && PQntuples(results[0]) == 1 &&
            role_parse(pg_str(results[0], 0, 2), &g->who.role) == 0 &&
            (!pg_str(results[0], 0, 3) || role_parse(pg_str(results[0], 0, 3), &of_user) == 0)) {
                g->who.role = MIN(g->who.role, of_user);
                g->who.scopes = rights_scopes_of(pg_str(results[0], 0, 4));
                (void) snprintf(g->who.token_id, sizeof(g->who.token_id), "%s",
                                strempty(pg_str(results[0], 0, 5)) ? "" : pg_str(results[0], 0, 5));
                grant_set_state(g, GRANT_GOOD);
                (void) snprintf(g->who.tenant, sizeof(g->who.tenant), "%s",
                                pg_str(results[0], 0, 0));
                (void) snprintf(g->who.name, sizeof(g->who.name), "%s", pg_str(results[0], 0, 1));
                memcpy(g->who.token_hash, g->hash, SHA256_HEX);
                g->asked_us = g->good_us = now;
        } else if (r == 0) {
                grant_set_state(g, GRANT_BAD);
                g->asked_us = now;
        } else if (g->state != GRANT_GOOD || now - g->good_us > STALE_USEC)
                grant_set_state(g, GRANT_UNKNOWN);
        tell_waiters(g, r < 0 && now - g->since_us > LATE_USEC);
}

static int grant_ask(struct auth_grant *g)
{
        if (g->asking)
                return 0;
        int r = pg_query_as(g->auth->gateway->pg, PG_ALL_TENANTS, looked_up, g,
                            "SELECT t.tenant, COALESCE(u.name, t.name), t.role, u.role, t.scopes, "
                            "t.token_id FROM core.auth_token t LEFT JOIN core.tenant n ON n.tenant "
                            "= t.tenant LEFT JOIN core.app_user u ON u.tenant = t.tenant AND "
                            "u.name = t.user_name WHERE t.token_hash = $1 AND t.revoked_at IS NULL "
                            "AND (t.expires_at IS NULL OR t.expires_at > now()) AND n.disabled_at "
                            "IS NULL AND (t.user_name IS NULL OR (u.name IS NOT NULL AND "
                            "u.disabled_at IS NULL))",
                            "s", g->hash);
        if (r < 0)
                return r;
        g->asking = true;
        g->since_us = now_monotonic();
        return 0;
}

static void check_token(struct auth *a, struct http_request *req, const char *hash, auth_fn fn)
{
        struct auth_grant *g = grant_get(a, hash);
        uint64_t now = now_monotonic();

        if (!g || a->n_waiters >= WAITERS_MAX) {
                fn(req, -EAGAIN, NULL);
                return;
        }
        g->used = true;
        if (grant_fresh(g, now)) {
                fn(req, grant_verdict(g), &g->who);
                return;
        }
        /* While the database is gone a known token is taken at once: the request would else wait
         * for it here and once more for what it came for. */
        bool usable = g->state == GRANT_GOOD && now - g->good_us <= STALE_USEC;
        if (grant_ask(g) < 0 || (usable && !pg_pool_up(a->gateway->pg))) {
                fn(req, usable ? 0 : -EAGAIN, &g->who);
                return;
        }
        struct auth_waiter *w = xnew(struct auth_waiter);
        w->req = req;
        w->fn = fn;
        list_push_back(&g->waiters, &w->by_grant);
        a->n_waiters++;
        req->priv->auth_waiter = w;
}

void auth_forget(struct auth *a, struct http_request *req)
{
        struct auth_waiter *w = TAKE_PTR(req->priv->auth_waiter);

        if (!w)
                return;
        list_remove(&w->by_grant);
        a->n_waiters--;
        free(w);
}

struct auth_grant *auth_grant_take(struct auth *a, const char *token_hash)
{
        struct auth_grant *g = token_hash[0] ? grant_get(a, token_hash) : NULL;

        if (g)
                g->refs++;
        return g;
}

struct auth_grant *auth_grant_release(struct auth_grant *g)
{
        if (g)
                g->refs--;
        return NULL;
}

bool auth_grant_stands(struct auth_grant *g)
{
        if (!grant_fresh(g, now_monotonic()))
                (void) grant_ask(g);
        return g->state != GRANT_BAD;
}

/* ---- tickets ---- */

static void ticket_free(struct auth *a, struct ticket *t)
{
        list_remove(&t->age);
        (void) map_remove(a->tickets, t->hash);
        free(t->path);
        free(t->origin);
        free(t);
}

static void drop_old_tickets(struct auth *a, uint64_t now)
{
        struct ticket *t;

        while ((t = list_first(&a->tickets_by_age, struct ticket, age)) &&
               (t->until_us <= now || map_count(a->tickets) >= TICKETS_MAX))
                ticket_free(a, t);
}

void auth_ticket_route(struct http_request *req)
{
        struct auth *a = req->gateway->auth;
        struct {
                char *path;
        } body = { 0 };
        static const struct json_field fields[] = {
                { .name = "path", .kind = JSON_KIND_STRING, .min = 1, .max = 2000 },
        };
        struct json_problem problem;
        if (req->json && json_read(req->json, fields, ARRAY_LEN(fields), &body, &problem) < 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, problem.field, "%s", problem.message);
                return;
        }
        struct ticket *t = xnew(struct ticket);
        t->path = xstrdup(body.path);
        t->origin = xstrdup(http_header(req, "origin"));
        char bytes[32], text[64] = "tk_", expires[TIMESTAMP_MAX];
        cleanup_buf struct buf json = { 0 };

        random_bytes(bytes, sizeof(bytes));
        base64url_encode(bytes, sizeof(bytes), text + 3);
        drop_old_tickets(a, now_monotonic());
        t->who = req->principal;
        t->until_us = now_monotonic() + TICKET_USEC;
        sha256_hex(text, strlen(text), t->hash);
        list_push_back(&a->tickets_by_age, &t->age);
        (void) map_set(a->tickets, t->hash, t);
        timestamp_format(now_realtime() + TICKET_USEC, expires);
        buf_putf(&json, "{\"ticket\":\"%s\",\"expires_in\":%u,\"expires_at\":\"%s\"}", text,
                 (unsigned) (TICKET_USEC / USEC_PER_SEC), expires);
        http_reply_json_take(req, 201, &json);
}

static void check_ticket(struct auth *a, struct http_request *req, const char *text, auth_fn fn)
{
        char hash[SHA256_HEX];

        drop_old_tickets(a, now_monotonic());
        sha256_hex(text, strlen(text), hash);
        struct ticket *t = map_get(a->tickets, hash);
        if (!t) {
                fn(req, -EACCES, NULL);
                return;
        }
        /* Used up by any attempt, right or wrong. What counts are the rights of its token now. */
        struct principal who = t->who;
        const char *origin = http_header(req, "origin");
        bool fits = (!t->path || streq(t->path, req->path)) &&
                    (!t->origin || !origin || streq(t->origin, origin));
        ticket_free(a, t);
        if (!fits)
                fn(req, -EACCES, NULL);
        else
                check_token(a, req, who.token_hash, fn);
}

/* ---- requests ---- */

static const char *bearer(const struct http_request *req)
{
        const char *h = http_header(req, "authorization");

        if (!h || strncasecmp(h, "Bearer", 6) != 0 || (h[6] != ' ' && h[6] != '\t'))
                return NULL;
        h += 6;
        return h + strspn(h, " \t");
}

void auth_check(struct auth *a, struct http_request *req, bool allow_ticket, auth_fn fn)
{
        const char *token = bearer(req), *ticket = allow_ticket ? http_query(req, "token") : NULL;
        char hash[SHA256_HEX];

        if (http_header(req, "authorization")) {
                size_t n = token ? strlen(token) : 0;
                bool fits = n > 0 && n <= TOKEN_MAX;
                if (fits)
                        sha256_hex(token, n, hash);
                http_header_wipe(req, "authorization"); /* a stream's request lives for hours */
                if (fits)
                        check_token(a, req, hash, fn);
                else
                        fn(req, -EACCES, NULL);
        } else if (ticket && strlen(ticket) <= TOKEN_MAX)
                check_ticket(a, req, ticket, fn);
        else
                fn(req, -EACCES, NULL);
}

/* ---- origins ---- */

static bool same_text(const char *a, size_t n, const char *b)
{
        return strlen(b) == n && strncasecmp(a, b, n) == 0;
}

bool auth_origin_ok(const struct gateway *g, const char *origin, const char *host)
{
        const char *allowed = g->settings->allowed_origins;

        if (!origin)
                return true;
        const char *authority = strstr(origin, "://");
        if (authority && host && authority[3] &&
            same_text(authority + 3, strlen(authority + 3), host))
                return true;
        for (const char *p = allowed; p && *p;) {
                size_t n = strcspn(p, ",");
                size_t skip = strspn(p, " \t");
                size_t len = n > skip ? n - skip : 0;
                while (len > 0 && (p[skip + len - 1] == ' ' || p[skip + len - 1] == '\t'))
                        len--;
                if (len > 0 && same_text(p + skip, len, origin))
                        return true;
                p += n + (p[n] == ',');
        }
        return false;
}

/* ---- what changes, what was used ---- */

void auth_changed(struct auth *a)
{
        struct auth_grant *g, *tmp;

        list_foreach_safe (g, tmp, &a->grants, age) {
                g->asked_us = 0;
                if (g->refs > 0)
                        (void) grant_ask(g);
        }
}

static void report_used(void *userdata)
{
        struct auth *a = userdata;
        const char *hashes[USED_MAX];
        struct tokens_used m = { .token_hashes = hashes };
        uint64_t now = now_monotonic();
        struct auth_grant *g, *tmp;

        loop_timer_arm(&a->report, REPORT_USEC);
        list_foreach_safe (g, tmp, &a->grants, age) {
                if (!g->used || g->state != GRANT_GOOD || m.n_token_hashes == USED_MAX ||
                    (g->told_used_us && now - g->told_used_us < USED_USEC))
                        continue;
                hashes[m.n_token_hashes++] = g->hash;
                g->used = false;
                g->told_used_us = now;
        }
        if (m.n_token_hashes > 0 &&
            rpc_send(rpc_client_peer(a->gateway->coordinator), &wire_tokens_used, &m) < 0)
                log_debug("the last use of %zu tokens is not told", m.n_token_hashes);
}

int auth_new(struct gateway *g, struct auth **ret)
{
        struct auth *a = xnew(struct auth);

        a->gateway = g;
        a->by_hash = map_new();
        a->tickets = map_new();
        list_init(&a->grants);
        list_init(&a->tickets_by_age);
        *ret = a;
        int r = loop_timer_init(&a->report, g->event, report_used, a);
        if (r >= 0)
                loop_timer_arm(&a->report, USEC_PER_SEC);
        return r;
}

struct auth *auth_free(struct auth *a)
{
        struct auth_grant *g;
        struct ticket *t;

        if (!a)
                return NULL;
        while ((g = list_first(&a->grants, struct auth_grant, age))) {
                pg_forget(a->gateway->pg, g);
                grant_free(g);
        }
        while ((t = list_first(&a->tickets_by_age, struct ticket, age)))
                ticket_free(a, t);
        loop_timer_done(&a->report);
        (void) map_free(a->by_hash);
        (void) map_free(a->tickets);
        free(a);
        return NULL;
}
