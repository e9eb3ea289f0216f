/* Decides by tables which rights a route needs. */
#include "gatewayd/rights.h"

static const struct {
        const char *prefix;
        enum rights_area area;
} areas[] = {
        { "/documents", AREA_DOCUMENTS }, { "/upload", AREA_DOCUMENTS },
        { "/download", AREA_DOCUMENTS },  { "/volumes", AREA_DOCUMENTS },
        { "/agents", AREA_AGENTS },       { "/api/v1/code-agents", AREA_AGENTS },
        { "/workers", AREA_SYSTEM },      { "/status", AREA_SYSTEM },
        { "/metrics", AREA_SYSTEM },      { "/audit", AREA_SYSTEM },
        { "/tokens", AREA_SYSTEM },       { "/users", AREA_SYSTEM },
        { "/tenants", AREA_SYSTEM },      { "/models", AREA_SYSTEM },
};

static const char *const area_names[AREA_MAX] = {
        [AREA_SESSIONS] = "sessions",
        [AREA_DOCUMENTS] = "documents",
        [AREA_AGENTS] = "agents",
        [AREA_SYSTEM] = "system",
};

/* POST that only reads, or that reports what happened elsewhere, event by event. */
static const char *const no_acts[] = { "/events", "/log", "/tickets", "/documents/search",
                                       "/documents/ask" };
/* GET that acts: what comes of it can change everything in the slot. */
static const char *const acting[] = { "/sessions/{id}/terminal" };
/* POST that makes no work: a ticket is made from memory, events of others are rows. */
static const char *const cheap[] = { "/events", "/log", "/tickets" };
static const char *const installation[] = { "/tenants", "/tenants/{name}", "/workers/{id}/drain",
                                            "/audit/verify", "/models/test" };

static bool listed(const char *const *list, size_t n, const char *pattern)
{
        for (size_t i = 0; i < n; i++)
                if (streq(list[i], pattern))
                        return true;
        return false;
}

enum rights_area rights_area_of(const struct route *r)
{
        for (size_t i = 0; i < ARRAY_LEN(areas); i++) {
                size_t n = strlen(areas[i].prefix);
                if (strncmp(r->pattern, areas[i].prefix, n) == 0 &&
                    (r->pattern[n] == '\0' || r->pattern[n] == '/'))
                        return areas[i].area;
        }
        return AREA_SESSIONS;
}

static int parse_scope(const char *text, size_t len, uint32_t *ret)
{
        for (int a = 0; a < AREA_MAX; a++) {
                size_t n = strlen(area_names[a]);
                if (len <= n || strncmp(text, area_names[a], n) != 0)
                        continue;
                if (len == n + 5 && strncmp(text + n, ":read", 5) == 0)
                        *ret = SCOPE_READ(a);
                else if (len == n + 6 && strncmp(text + n, ":write", 6) == 0)
                        *ret = SCOPE_READ(a) | SCOPE_WRITE(a);
                else
                        return -EINVAL;
                return 0;
        }
        return -EINVAL;
}

int rights_scope_parse(const char *text, uint32_t *ret)
{
        return parse_scope(text, strlen(text), ret);
}

uint32_t rights_scopes_of(const char *list)
{
        uint32_t all = 0, one;

        for (const char *p = list; p && *p;) {
                p += strspn(p, "{},\"");
                size_t n = strcspn(p, "{},\"");
                if (n == 0)
                        break;
                /* A scope that we do not know must not turn into "no scopes", which is all. */
                all |= parse_scope(p, n, &one) == 0 ? one : UINT32_C(1) << 31;
                p += n;
        }
        return all;
}

bool rights_is_act(const struct route *r)
{
        if (listed(acting, ARRAY_LEN(acting), r->pattern))
                return true;
        return r->method != HTTP_GET && r->method != HTTP_HEAD && r->auth != ROUTE_PUBLIC &&
               !listed(no_acts, ARRAY_LEN(no_acts), r->pattern);
}

bool rights_is_expensive(const struct route *r)
{
        return r->method == HTTP_POST && !listed(cheap, ARRAY_LEN(cheap), r->pattern);
}

bool rights_is_host(const struct principal *who)
{
        return who->role == ROLE_ADMIN && who->scopes == 0 && streq(who->tenant, "default");
}

static bool reads(const struct route *r)
{
        if (listed(acting, ARRAY_LEN(acting), r->pattern))
                return false;
        return r->method == HTTP_GET || r->method == HTTP_HEAD ||
               streq(r->pattern, "/documents/search") || streq(r->pattern, "/documents/ask");
}

const char *rights_refusal(const struct principal *who, const struct route *r)
{
        enum rights_area area = rights_area_of(r);

        if (who->role < r->role)
                return who->role == ROLE_VIEWER
                               ? "The role viewer may read and watch only; this needs an operator "
                                 "or an admin."
                               : "This needs the role admin.";
        if (listed(installation, ARRAY_LEN(installation), r->pattern) && !rights_is_host(who))
                return "Only an admin of the tenant default, with an unscoped token, manages the "
                       "installation.";
        if (who->scopes == 0 || streq(r->pattern, "/tickets"))
                return NULL;
        if (!(who->scopes & (reads(r) ? SCOPE_READ(area) : SCOPE_WRITE(area))))
                return "The scopes of this token do not cover this call.";
        return NULL;
}
