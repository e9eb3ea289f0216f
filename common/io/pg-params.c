/* Turns the configuration into libpq's connection parameters, and the settings into a statement. */
#include "pg-private.h"

#define PARAMS_MAX 64

struct params {
        char **keywords, **values;
        size_t n;
};

static void set(struct params *p, const char *keyword, const char *value)
{
        if (strempty(value))
                return;
        for (size_t i = 0; i < p->n; i++) {
                if (streq(p->keywords[i], keyword)) {
                        free(p->values[i]);
                        p->values[i] = xstrdup(value);
                        return;
                }
        }
        if (p->n == PARAMS_MAX - 1)
                abort(); /* libpq knows about 40 */
        p->keywords[p->n] = xstrdup(keyword);
        p->values[p->n++] = xstrdup(value);
}

void pg_params_free(char **list)
{
        for (char **p = list; p && *p; p++) {
                explicit_bzero(*p, strlen(*p)); /* the conninfo may hold a password */
                free(*p);
        }
        free(list);
}

char *pg_settings_sql(uint64_t statement_timeout, uint64_t lock_timeout, bool local)
{
        const char *l = local ? "true" : "false";

        return xasprintf("SELECT set_config('statement_timeout', '%" PRIu64 "', %s),"
                         " set_config('lock_timeout', '%" PRIu64 "', %s),"
                         " set_config('idle_in_transaction_session_timeout', '%" PRIu64 "', %s),"
                         " set_config('client_min_messages', 'warning', %s),"
                         " set_config('timezone', 'UTC', %s), set_config('datestyle', 'ISO', %s),"
                         " set_config('bytea_output', 'hex', %s)",
                         statement_timeout / USEC_PER_MSEC, l, lock_timeout / USEC_PER_MSEC, l,
                         PG_IDLE_USEC / USEC_PER_MSEC, l, l, l, l, l);
}

int pg_params_make(const struct pg_config *c, char ***ret_keywords, char ***ret_values)
{
        PQconninfoOption *given = PQconninfoParse(c->conninfo, NULL);
        if (!given)
                return -EINVAL;
        struct params p = { xnewn(char *, PARAMS_MAX), xnewn(char *, PARAMS_MAX), 0 };
        for (PQconninfoOption *o = given; o->keyword; o++)
                set(&p, o->keyword, o->val);
        PQconninfoFree(given);

        set(&p, "passfile", c->passfile);
        set(&p, "application_name", c->application);
        set(&p, "client_encoding", "UTF8");
        set(&p, "connect_timeout", "2"); /* for the blocking connect of migrations */
        set(&p, "tcp_user_timeout", "5000");
        set(&p, "keepalives", "1");
        set(&p, "keepalives_idle", "10");
        set(&p, "keepalives_interval", "2");
        set(&p, "keepalives_count", "3");
        *ret_keywords = p.keywords;
        *ret_values = p.values;
        return 0;
}
