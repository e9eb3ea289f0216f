/* Turns the configuration into libpq's connection parameters with all of Berth's timeouts in them.
 */
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

static const char *get(const struct params *p, const char *keyword)
{
        for (size_t i = 0; i < p->n; i++) {
                if (streq(p->keywords[i], keyword))
                        return p->values[i];
        }
        return NULL;
}

void pg_params_free(char **list)
{
        for (char **p = list; p && *p; p++) {
                explicit_bzero(*p, strlen(*p)); /* the conninfo may hold a password */
                free(*p);
        }
        free(list);
}

int pg_params_make(const struct pg_config *c, uint64_t statement_timeout, uint64_t lock_timeout,
                   char ***ret_keywords, char ***ret_values)
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
        const char *theirs = get(&p, "options");
        cleanup_free char *options = xasprintf(
                "%s%s-c statement_timeout=%" PRIu64 " -c lock_timeout=%" PRIu64
                " -c idle_in_transaction_session_timeout=%" PRIu64
                " -c client_min_messages=warning -c timezone=UTC -c datestyle=ISO"
                " -c bytea_output=hex",
                theirs ? theirs : "", theirs ? " " : "", statement_timeout / USEC_PER_MSEC,
                lock_timeout / USEC_PER_MSEC, PG_IDLE_USEC / USEC_PER_MSEC);
        set(&p, "options", options);
        *ret_keywords = p.keywords;
        *ret_values = p.values;
        return 0;
}
