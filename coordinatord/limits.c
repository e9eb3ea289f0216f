/* Limits of tenants: what they may hold at once. */
#include "limits.h"

#include "common/io/log.h"

#define TENANTS_MAX 10000

static const char limits_read[] =
        "SELECT tenant, (limits ->> 'sessions_live')::bigint, (limits ->> 'slots')::bigint "
        "FROM core.tenant WHERE limits <> '{}' ORDER BY tenant LIMIT 10000";

static void forget(struct coordinator *c)
{
        size_t iter = 0;
        void *p;

        while (c->limits && map_next(c->limits, &iter, NULL, &p))
                free(p);
        c->limits = map_free(c->limits);
}

static uint64_t number(const PGresult *r, int row, int col)
{
        return pg_str(r, row, col) ? (uint64_t) pg_i64(r, row, col) : UINT64_MAX;
}

static void on_read(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0) { /* the next minute tries again; what is known counts until then */
                log_warning("the limits of tenants could not be read: %s",
                            error && error->message[0] ? error->message : strerrordesc_np(-r));
                return;
        }
        forget(c);
        c->limits = map_new();
        for (int i = 0; i < PQntuples(results[0]) && i < TENANTS_MAX; i++) {
                struct tenant_limits *l = xnew(struct tenant_limits);
                l->sessions_live = number(results[0], i, 1);
                l->slots = number(results[0], i, 2);
                (void) map_set(c->limits, pg_str(results[0], i, 0), l);
        }
}

void limits_load(struct coordinator *c)
{
        if (pg_query(c->pool, on_read, c, limits_read, "") < 0)
                log_debug("the limits of tenants are read later");
}

void limits_done(struct coordinator *c)
{
        forget(c);
}

struct tenant_limits limits_of(const struct coordinator *c, const char *tenant)
{
        const struct tenant_limits *l = c->limits ? map_get(c->limits, tenant) : NULL;

        return l ? *l : (struct tenant_limits){ UINT64_MAX, UINT64_MAX };
}

size_t limits_live(const struct coordinator *c, const char *tenant)
{
        struct session *s;
        size_t n = 0;

        list_foreach (s, &c->sessions.queue, queue_link)
                n += streq(s->tenant, tenant);
        list_foreach (s, &c->sessions.leased, lease_link)
                n += streq(s->tenant, tenant);
        return n;
}
