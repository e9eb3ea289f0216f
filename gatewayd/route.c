/* Finds the route of a request: walks the tables, prefers the most exact pattern. */
#include "gatewayd/route.h"

/* Compares one pattern with a path. Returns -1 when it does not fit, else a weight: more literal
 * text wins. */
static int match(const char *pattern, const char *path, struct span params[HTTP_PARAMS_MAX],
                 size_t *ret_n)
{
        int weight = 0;
        size_t n = 0;
        const char *p = pattern, *s = path;

        while (*p) {
                if (*p != '{') {
                        if (*p != *s)
                                return -1;
                        p++, s++, weight += 4;
                        continue;
                }
                const char *end = strchr(p, '}');
                bool rest = end && end - p >= 4 && strncmp(end - 3, "...", 3) == 0;
                size_t len = rest ? strlen(s) : strcspn(s, "/");
                if (!end || (len == 0 && !rest) || n == HTTP_PARAMS_MAX)
                        return -1;
                params[n++] = (struct span){ s, len };
                weight += rest ? 1 : 2;
                s += len;
                p = end + 1;
        }
        *ret_n = n;
        return *s ? -1 : weight;
}

static void add_method(char allow[static 64], enum http_method m)
{
        const char *name = http_method_name(m);

        if (strstr(allow, name))
                return;
        size_t n = strlen(allow);
        (void) snprintf(allow + n, 64 - n, "%s%s", n ? ", " : "", name);
}

static bool method_fits(const struct route *r, enum http_method m)
{
        return r->method == m || (m == HTTP_HEAD && r->method == HTTP_GET);
}

enum route_match route_find(const struct route_table *const *tables, size_t n, unsigned listener,
                            enum http_method m, const char *path, const struct route **ret,
                            const char *params[HTTP_PARAMS_MAX], char *scratch,
                            char allow[static 64])
{
        int best = -1;
        size_t best_n = 0;
        struct span found[HTTP_PARAMS_MAX], best_found[HTTP_PARAMS_MAX];
        const struct route *route = NULL;

        allow[0] = '\0';
        for (size_t t = 0; t < n; t++)
                for (size_t i = 0; i < tables[t]->n; i++) {
                        const struct route *r = &tables[t]->routes[i];
                        size_t n_found = 0;
                        if (!((r->listeners ? r->listeners : LISTENER_MAIN) & listener))
                                continue;
                        int weight = match(r->pattern, path, found, &n_found);
                        if (weight < 0)
                                continue;
                        add_method(allow, r->method);
                        if (r->method == HTTP_GET)
                                add_method(allow, HTTP_HEAD);
                        if (!method_fits(r, m) || weight <= best)
                                continue;
                        best = weight;
                        best_n = n_found;
                        memcpy(best_found, found, sizeof(found));
                        route = r;
                }
        if (!route)
                return allow[0] ? ROUTE_NO_METHOD : ROUTE_NO_PATH;
        for (size_t i = 0; i < HTTP_PARAMS_MAX; i++) {
                params[i] = NULL;
                if (i >= best_n)
                        continue;
                memcpy(scratch, best_found[i].data, best_found[i].len);
                scratch[best_found[i].len] = '\0';
                params[i] = scratch;
                scratch += best_found[i].len + 1;
        }
        *ret = route;
        return ROUTE_FOUND;
}
