/* Counts what tenants and agents use, and says when a limit is reached. */
#include "budget.h"

#include <math.h>
#include <time.h>

#include "approval.h"
#include "common/base/json.h"
#include "common/io/log.h"
#include "lease.h"
#include "route.h"

#define BUDGETS_MAX 100000
#define WAKE_MAX 1000 /* sessions that go on at a time */

struct limit {
        uint64_t cost_microusd, tokens; /* 0 = none */
        uint64_t cost_used, tokens_used;
        int period; /* the day or month that is counted */
};

struct budget {
        char *tenant, *agent; /* "" = the tenant's */
        struct limit day, month;
        bool held; /* the last time anybody asked */
};

static const char budget_read[] =
        "SELECT b.tenant, b.agent_name, b.limits::text, d.tokens, d.cost_microusd, m.tokens, "
        "m.cost_microusd FROM core.budget b, "
        "core.usage_since(b.tenant, b.agent_name, (now() AT TIME ZONE 'UTC')::date) AS d, "
        "core.usage_since(b.tenant, b.agent_name, "
        "date_trunc('month', now() AT TIME ZONE 'UTC')::date) AS m "
        "WHERE ($1::text IS NULL OR (b.tenant = $1 AND b.agent_name = $2)) "
        "ORDER BY b.tenant, b.agent_name LIMIT $3::int";
static const char budget_write[] =
        "INSERT INTO core.budget AS b (tenant, agent_name, limits) "
        "VALUES ($1, $2, jsonb_strip_nulls($3::jsonb)) ON CONFLICT (tenant, agent_name) DO UPDATE "
        "SET limits = jsonb_strip_nulls(b.limits || $3::jsonb), updated_at = now() "
        "RETURNING core.budget_json(b)";
static const char budget_waiting[] =
        "SELECT session_id, agent_name FROM core.session WHERE tenant = $1 AND status = 'waiting' "
        "AND waiting ->> 'for' = 'budget' ORDER BY queued_at LIMIT $2::int";

static char *key_of(const char *tenant, const char *agent)
{
        return xasprintf("%s\x1f%s", tenant, agent ? agent : "");
}

static void periods(int *ret_day, int *ret_month)
{
        time_t now = (time_t) (now_realtime() / USEC_PER_SEC);
        struct tm tm;

        (void) gmtime_r(&now, &tm);
        *ret_month = tm.tm_year * 12 + tm.tm_mon;
        *ret_day = (int) (now / 86400);
}

static void roll(struct limit *l, int period)
{
        if (l->period == period)
                return;
        l->period = period;
        l->cost_used = l->tokens_used = 0;
}

static void budget_free(struct budget *b)
{
        free(b->tenant);
        free(b->agent);
        free(b);
}

void budgets_init(struct coordinator *c)
{
        c->budgets = map_new();
}

void budgets_done(struct coordinator *c)
{
        size_t iter = 0;
        void *b;

        while (c->budgets && map_next(c->budgets, &iter, NULL, &b))
                budget_free(b);
        c->budgets = map_free(c->budgets);
}

static uint64_t number(const json_t *limits, const char *name, double unit)
{
        double v = json_number_value(json_object_get(limits, name)) * unit;

        return v > 0 && v < 1e18 ? (uint64_t) llround(v) : 0;
}

static void take_rows(struct coordinator *c, const PGresult *r)
{
        int day, month;

        periods(&day, &month);
        for (int i = 0; i < PQntuples(r); i++) {
                cleanup_free char *key = key_of(pg_str(r, i, 0), pg_str(r, i, 1));
                struct budget *b = map_get(c->budgets, key);
                const char *text = pg_str(r, i, 2);
                struct json_problem problem;
                cleanup_json json_t *limits = NULL;

                if (json_parse(text, strlen(text), &limits, &problem) < 0)
                        continue;
                if (!b) {
                        b = xnew(struct budget);
                        b->tenant = xstrdup(pg_str(r, i, 0));
                        b->agent = xstrdup(pg_str(r, i, 1));
                        b->held = true; /* who waits is looked at once */
                        (void) map_set(c->budgets, key, b);
                }
                b->day =
                        (struct limit){ number(limits, "cost_usd_day", 1e6),
                                        number(limits, "tokens_day", 1), (uint64_t) pg_i64(r, i, 4),
                                        (uint64_t) pg_i64(r, i, 3), day };
                b->month = (struct limit){ number(limits, "cost_usd_month", 1e6),
                                           number(limits, "tokens_month", 1),
                                           (uint64_t) pg_i64(r, i, 6), (uint64_t) pg_i64(r, i, 5),
                                           month };
        }
}

static void on_loaded(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct coordinator *c = userdata;

        c->budgets_loading = false;
        if (r < 0) {
                log_warning("the limits of tenants could not be read; trying again: %s",
                            error && error->message[0] ? error->message : strerrordesc_np(-r));
                return;
        }
        c->budgets_loaded = true;
        take_rows(c, results[0]);
}

void budgets_load(struct coordinator *c)
{
        if (!c->budgets_loading && !c->budgets_loaded)
                c->budgets_loading = pg_query(c->pool, on_loaded, c, budget_read, "ssu", NULL, NULL,
                                              (uint64_t) BUDGETS_MAX) >= 0;
}

static void add(struct limit *l, const struct usage *u)
{
        l->cost_used += u->cost_microusd;
        l->tokens_used +=
                u->input_tokens + u->output_tokens + u->cache_read_tokens + u->cache_write_tokens;
}

static struct budget *find(struct coordinator *c, const char *tenant, const char *agent)
{
        cleanup_free char *key = key_of(tenant, agent);
        struct budget *b = map_get(c->budgets, key);
        int day, month;

        if (!b)
                return NULL;
        periods(&day, &month);
        roll(&b->day, day);
        roll(&b->month, month);
        return b;
}

void budgets_used(struct coordinator *c, const char *tenant, const char *agent,
                  const struct usage *u)
{
        struct budget *b[2] = { find(c, tenant, NULL),
                                strempty(agent) ? NULL : find(c, tenant, agent) };

        for (size_t i = 0; i < ARRAY_LEN(b); i++)
                if (b[i]) {
                        add(&b[i]->day, u);
                        add(&b[i]->month, u);
                }
}

static bool over(const struct budget *b, const struct limit *l, const char *per, char *out,
                 size_t size)
{
        char whose[100] = "everybody";

        if (b->agent[0])
                (void) snprintf(whose, sizeof(whose), "the agent %s", b->agent);
        if (l->cost_microusd > 0 && l->cost_used >= l->cost_microusd)
                (void) snprintf(out, size,
                                "The limit of $%.2f a %s for %s is used up. Raise it, or wait for "
                                "the next %s?",
                                (double) l->cost_microusd / 1e6, per, whose, per);
        else if (l->tokens > 0 && l->tokens_used >= l->tokens)
                (void) snprintf(out, size,
                                "The limit of %" PRIu64 " tokens a %s for %s is used up. Raise it, "
                                "or wait for the next %s?",
                                l->tokens, per, whose, per);
        else
                return false;
        return true;
}

static bool holds(struct budget *b, char *out, size_t size)
{
        b->held = over(b, &b->day, "day", out, size) || over(b, &b->month, "month", out, size);
        return b->held;
}

const char *budgets_hold(struct coordinator *c, const char *tenant, const char *agent)
{
        struct budget *b = find(c, tenant, NULL);

        if (b && holds(b, c->hold, sizeof(c->hold)))
                return c->hold;
        b = strempty(agent) ? NULL : find(c, tenant, agent);
        return b && holds(b, c->hold, sizeof(c->hold)) ? c->hold : NULL;
}

/* ---- those that wait ---- */

static int wake_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        if (!s->exists || s->state != SESSION_STATE_WAITING ||
            s->waiting_for != WAITING_FOR_BUDGET || budgets_hold(q->c, s->tenant, s->agent_name))
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT, "it does not wait for this");
        return approval_wake(b, s, "there is a budget again");
}

static void wake_done(struct request *q, const struct hub_batch *b)
{
        /* Its holder hears that the limit is no more with the answer to its next heartbeat. */
        lease_dispatch(q->c);
}

static void wake_submit(struct request *q)
{
        request_submit(q, 512, 1, wake_apply, wake_done);
}

static void on_waiting(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct coordinator *c = userdata;

        for (int i = 0; r == 0 && i < PQntuples(results[0]); i++) {
                struct request *q =
                        request_new(c, sizeof(struct request), NULL, NULL, NULL, NULL, false);
                if (!q)
                        return;
                request_with_session(q, pg_str(results[0], i, 0), wake_submit);
        }
}

void budgets_tick(struct coordinator *c)
{
        size_t iter = 0;
        void *p;

        budgets_load(c);
        while (map_next(c->budgets, &iter, NULL, &p)) {
                struct budget *b = p;
                char text[400];

                if (!b->held || !find(c, b->tenant, b->agent) || holds(b, text, sizeof(text)))
                        continue;
                if (pg_query(c->pool, on_waiting, c, budget_waiting, "su", b->tenant,
                             (uint64_t) WAKE_MAX) < 0)
                        b->held = true;
        }
}

/* ---- budget_put ---- */

static void on_put(void *userdata, int r, PGresult **results, size_t n,
                   const struct pg_error *error)
{
        struct request *q = userdata;

        if (r == -EREMOTEIO && streq(error->sqlstate, "BT001")) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "another coordinator has taken over");
        } else if (r < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the database cannot be reached; try again");
        } else {
                take_rows(q->c, results[2]);
                request_reply(q, &(struct budget_reply){ span_of(pg_str(results[1], 0, 0)) });
                budgets_tick(q->c);
        }
        request_end(q);
}

int route_budget_put(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct coordinator *c = userdata;
        struct request *q =
                request_new(c, sizeof(struct request), p, req, &wire_budget_put, msg, true);
        cleanup_free char *limits = NULL;

        if (!q)
                return 0;
        const struct budget_put *m = q->msg;
        const char *agent = m->agent_name ? m->agent_name : "";
        if (!route_tenant(q, m->tenant) ||
            route_json(q, "limits", m->limits, JSON_OBJECT, &limits) < 0) {
                request_end(q);
                return 0;
        }
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b, store_fence, "u", c->start.term);
        pg_batch_add(b, budget_write, "sss", m->tenant, agent, limits);
        pg_batch_add(b, budget_read, "ssu", m->tenant, agent, UINT64_C(1));
        if (pg_submit(c->pool, b, on_put, q) < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
                request_end(q);
        }
        return 0;
}
