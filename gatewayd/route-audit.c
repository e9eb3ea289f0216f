/* GET /audit and /audit/verify: the audit log for admins. */
#include "gatewayd/query.h"
#include "gatewayd/rights.h"
#include "gatewayd/route.h"

#define STEP 2000u /* rows that one call of /audit/verify looks at */

static void on_listed(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        list_reply(req, results[0], "audit", (uintptr_t) req->userdata);
}

/* Newest first. An admin of the tenant default may ask for another tenant's, or all (tenant=*). */
static void list(struct http_request *req)
{
        static const char *const known[] = { "actor",      "action", "target",  "result",
                                             "request_id", "since",  "until",   "tenant",
                                             "limit",      "cursor", "address", NULL };
        const char *tenant = http_query(req, "tenant"), *action = http_query(req, "action");
        cleanup_free char *key = NULL, *id = NULL;
        cleanup_free char *like = action ? like_pattern(action, true) : NULL;
        uint64_t limit;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            cursor_read(req, &key, &id) < 0)
                return;
        if (tenant && !streq(tenant, req->principal.tenant) && !rights_is_host(&req->principal))
                return http_reply_error(req, ERROR_CODE_FORBIDDEN, "tenant",
                                        "Only an admin of the tenant default may name another "
                                        "tenant.");
        req->userdata = (void *) (uintptr_t) limit;
        database_asked(
                req,
                pg_query_as(req->gateway->pg, tenant ? tenant : req->principal.tenant, on_listed,
                            req,
                            "SELECT core.audit_json(a), a.seq, a.seq FROM core.audit a WHERE "
                            "($1::text IS NULL OR a.actor = $1) AND ($2::text IS NULL OR a.action "
                            "LIKE $2) AND ($3::text IS NULL OR a.target = $3) AND ($4::text IS "
                            "NULL OR a.result = $4) AND ($5::text IS NULL OR a.request_id = $5) "
                            "AND ($6::timestamptz IS NULL OR a.ts >= $6::timestamptz) AND "
                            "($7::timestamptz IS NULL OR a.ts < $7::timestamptz) AND ($8::bigint "
                            "IS NULL OR a.seq < $8::bigint) AND ($9::text IS NULL OR a.address = "
                            "$9) ORDER BY a.seq DESC LIMIT $10",
                            "sssssssssu", http_query(req, "actor"), like, http_query(req, "target"),
                            http_query(req, "result"), http_query(req, "request_id"),
                            http_query(req, "since"), http_query(req, "until"), key,
                            http_query(req, "address"), limit));
}

static void on_verified(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        http_reply_json(req, 200, span_of(pg_str(results[0], 0, 0)));
}

/* One step along the chain of hashes; the caller goes on with after = last_seq until done. */
static void verify(struct http_request *req)
{
        static const char *const known[] = { "after", NULL };
        uint64_t after;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "after", 0, INT64_MAX, 0, &after) < 0)
                return;
        database_asked(
                req, pg_query_as(req->gateway->pg, PG_ALL_TENANTS, on_verified, req,
                                 "SELECT json_build_object('ok', c.bad_seq IS NULL, 'done', "
                                 "c.bad_seq IS NOT NULL OR c.checked < $2::int, 'checked', "
                                 "c.checked, 'last_seq', c.last_seq, 'bad_seq', c.bad_seq, 'why', "
                                 "c.why)::text FROM core.audit_check($1::bigint, $2::int) AS c",
                                 "uu", after, (uint64_t) STEP));
}

static const struct route table[] = {
        { HTTP_GET, "/audit", list, .role = ROLE_ADMIN },
        { HTTP_GET, "/audit/verify", verify, .role = ROLE_ADMIN },
};
const struct route_table audit_routes = { table, ARRAY_LEN(table) };
