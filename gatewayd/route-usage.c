/* /usage: what was used, by day, agent, session or model; /budgets: limits of the tenant and of its
 * agents. */
#include <time.h>

#include "gatewayd/content.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"

#define DAYS_DEFAULT 30
#define DAYS_MAX 366
#define SECONDS_PER_DAY 86400

#define SUM(column) "COALESCE(sum(" column "), 0)"
#define SUMS                                                                                                                                           \
        "'calls', " SUM("calls") ", 'input_tokens', " SUM(                                                                                             \
                "input_tokens") ", 'output_tokens', " SUM("output_tokens") ", "                                                                        \
                                                                           "'cache_read_tokens',"                                                      \
                                                                           " " SUM("cache_read_"                                                       \
                                                                                   "tokens") ", "                                                      \
                                                                                             "'ca"                                                     \
                                                                                             "che"                                                     \
                                                                                             "_wr"                                                     \
                                                                                             "ite"                                                     \
                                                                                             "_to"                                                     \
                                                                                             "ken"                                                     \
                                                                                             "s',"                                                     \
                                                                                             " " SUM("cache_write_tokens") ", 'cost_usd', round(" SUM( \
                                                                                                     "cost_microusd") " / 1000000.0, 6)"
/* The whole answer in one statement. */
#define BY(name, column, shown, order)                                                             \
        {                                                                                          \
                name, "WITH u AS MATERIALIZED (SELECT * FROM core.usage WHERE tenant = $1 AND "    \
                      "day >= "                                                                    \
                      "$2::date AND day <= $3::date AND ($4::text IS NULL OR agent_name = $4) "    \
                      "AND "                                                                       \
                      "($5::text IS NULL OR session_id = $5) AND ($6::text IS NULL OR model = "    \
                      "$6)), "                                                                     \
                      "page AS (SELECT json_build_object('" name "', " shown ", " SUMS             \
                      ") AS one FROM "                                                             \
                      "u GROUP BY " column " ORDER BY " order " LIMIT $7 OFFSET $8) "              \
                      "SELECT json_build_object('group_by', '" name "', 'from', $2::date, 'to', "  \
                      "$3::date, 'usage', COALESCE((SELECT json_agg(one) FROM page), "             \
                      "'[]'::json), "                                                              \
                      "'total', (SELECT json_build_object(" SUMS ") FROM u))::text"                \
        }
#define DEAREST "sum(cost_microusd) DESC, sum(input_tokens) DESC, "

static const struct {
        const char *name, *sql;
} groupings[] = {
        BY("day", "day", "day", "day DESC"),
        BY("agent", "agent_name", "NULLIF(agent_name, '')", DEAREST "agent_name"),
        BY("session", "session_id", "NULLIF(session_id, '')", DEAREST "session_id"),
        BY("model", "model", "model", DEAREST "model"),
};

static void on_json(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        http_reply_json(req, 200, span_of(pg_str(results[0], 0, 0)));
}

/* YYYY-MM-DD, else the day `ago` days before today. -EINVAL after the request was answered. */
static int read_day(struct http_request *req, const char *name, int ago, char out[static 16],
                    time_t *ret)
{
        const char *text = http_query(req, name), *end = NULL;
        time_t at = (time_t) (now_realtime() / USEC_PER_SEC) - (time_t) ago * SECONDS_PER_DAY;
        struct tm tm = { 0 };

        if (text) {
                end = strptime(text, "%Y-%m-%d", &tm);
                at = timegm(&tm);
        }
        if (text && (!end || *end || strlen(text) != 10 || at < 0)) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, name, "%s must be a day, YYYY-MM-DD",
                                 name);
                return -EINVAL;
        }
        *ret = at;
        (void) gmtime_r(&at, &tm);
        (void) strftime(out, 16, "%Y-%m-%d", &tm);
        return 0;
}

static void usage(struct http_request *req)
{
        static const char *const known[] = { "group_by",   "from",       "to",
                                             "agent_name", "session_id", "model",
                                             "limit",      "offset",     NULL };
        const char *group = http_query(req, "group_by"), *sql = NULL;
        char from[16], to[16];
        uint64_t limit, offset;
        time_t from_at, to_at;

        for (size_t i = 0; i < ARRAY_LEN(groupings); i++)
                if (streq(groupings[i].name, group ? group : "day"))
                        sql = groupings[i].sql;
        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            http_query_u64(req, "offset", 0, 1000000, 0, &offset) < 0 ||
            read_day(req, "from", DAYS_DEFAULT - 1, from, &from_at) < 0 ||
            read_day(req, "to", 0, to, &to_at) < 0)
                return;
        if (!sql)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "group_by",
                                        "group_by must be day, agent, session or model");
        if (to_at < from_at - SECONDS_PER_DAY || to_at - from_at > DAYS_MAX * SECONDS_PER_DAY)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "from",
                                        "from must not be after to, nor more than %d days before "
                                        "it",
                                        DAYS_MAX);
        database_query(req, on_json, sql, "ssssssuu", req->principal.tenant, from, to,
                       http_query(req, "agent_name"), http_query(req, "session_id"),
                       http_query(req, "model"), limit, offset);
}

/* ---- limits ---- */

static void on_budgets(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        list_reply(req, results[0], "budgets", (uintptr_t) req->userdata);
}

/* The tenant's own comes first: its agent_name is null. */
static void list(struct http_request *req)
{
        static const char *const known[] = { "limit", "cursor", NULL };
        cleanup_free char *key = NULL, *id = NULL;
        uint64_t limit;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            cursor_read(req, &key, &id) < 0)
                return;
        req->userdata = (void *) (uintptr_t) limit; /* for on_budgets */
        database_query(req, on_budgets,
                       "SELECT core.budget_json(b), 'x' || agent_name, 'x' || agent_name FROM "
                       "core.budget b WHERE tenant = $1 AND ($2::text IS NULL OR 'x' || agent_name "
                       "> $2) ORDER BY agent_name LIMIT $3",
                       "ssu", req->principal.tenant, key, limit);
}

struct budget_body {
        char *agent_name;
        json_t *limits;
};
static const struct json_field budget_fields[] = {
        JSON_FIELD(struct budget_body, agent_name, JSON_KIND_STRING, .min = 1, .max = 64,
                   .nullable = true),
        JSON_FIELD(struct budget_body, limits, JSON_KIND_OBJECT, .required = true),
};
struct limits_body {
        double cost_usd_day, cost_usd_month;
        int64_t tokens_day, tokens_month;
};
#define LIMIT(member, kind_, max_)                                                                 \
        JSON_FIELD(struct limits_body, member, kind_, .min = 0, .max = max_, .nullable = true)
static const struct json_field limit_fields[] = {
        LIMIT(cost_usd_day, JSON_KIND_NUMBER, 1000000),
        LIMIT(cost_usd_month, JSON_KIND_NUMBER, 1000000),
        LIMIT(tokens_day, JSON_KIND_INT, INT64_C(1000000000000)),
        LIMIT(tokens_month, JSON_KIND_INT, INT64_C(1000000000000)),
};

static void on_put(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct budget_reply *ok = reply;

        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_json(req, 200, ok->budget_json);
}

/* Members that are given replace what is there, null removes. */
static void put(struct http_request *req)
{
        struct budget_body b = { 0 };
        struct limits_body limits = { 0 };
        struct json_problem p = { 0 };
        cleanup_free char *text = NULL;

        if (json_read(req->json, budget_fields, ARRAY_LEN(budget_fields), &b, &p) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL,
                                        "%s", p.message);
        if (b.agent_name && !agent_name_ok(b.agent_name))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "agent_name",
                                        "agent_name is not the name of an agent");
        if (json_read(b.limits, limit_fields, ARRAY_LEN(limit_fields), &limits, &p) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "limits", "%s", p.message);
        text = json_text(b.limits);
        coordinator_call(req, &wire_budget_put,
                         &(struct budget_put){ .tenant = req->principal.tenant,
                                               .agent_name = b.agent_name,
                                               .limits = span_of(text) },
                         on_put);
}

static const struct route table[] = {
        { HTTP_GET, "/usage", usage },
        { HTTP_GET, "/budgets", list },
        { HTTP_PUT, "/budgets", put, .role = ROLE_ADMIN, .body = ROUTE_BODY_JSON },
};
const struct route_table usage_routes = { table, ARRAY_LEN(table) };
