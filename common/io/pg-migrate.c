/* Brings one schema to the version this daemon knows: blocking, at start. Each step is a
 * transaction that holds an advisory lock and looks again what is missing: others may migrate, too,
 * and a pooler may give each transaction another session. */
#include "pg-private.h"

#define MIGRATE_STATEMENT_USEC (600 * USEC_PER_SEC)
#define MIGRATE_LOCK_USEC (30 * USEC_PER_SEC)

static void pg_finishp(PGconn **c)
{
        PQfinish(*c);
}

static void pg_clearp(PGresult **r)
{
        PQclear(*r);
}

struct migrating {
        PGconn *pg;
        const char *schema;
        char *begin; /* a transaction with its settings and the lock */
        char **ret_error;
};

static int fail(struct migrating *m, const char *what)
{
        const char *why = PQerrorMessage(m->pg);
        int n = (int) strcspn(why, "\n");
        *m->ret_error = xasprintf("schema %s: %s: %.*s", m->schema, what, n, why);
        return -EREMOTEIO;
}

/* Runs one command; *ret may be NULL when the rows do not matter. */
static int run(struct migrating *m, const char *what, const char *sql, PGresult **ret)
{
        CLEANUP(pg_clearp) PGresult *r = PQexec(m->pg, sql);
        ExecStatusType status = PQresultStatus(r);
        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
                return fail(m, what);
        if (ret)
                *ret = TAKE_PTR(r);
        return 0;
}

static int begin(struct migrating *m)
{
        return run(m, "waiting for another migration", m->begin, NULL);
}

static int prepare_schema(struct migrating *m)
{
        cleanup_free char *find = xasprintf("SELECT to_regnamespace('%s') IS NULL,"
                                            " to_regclass('%s.migration') IS NULL",
                                            m->schema, m->schema);
        CLEANUP(pg_clearp) PGresult *missing = NULL;
        int r = begin(m);
        if (r == 0)
                r = run(m, "looking for the schema", find, &missing);
        if (r < 0)
                return r;
        if (pg_bool(missing, 0, 0)) {
                cleanup_free char *sql = xasprintf("CREATE SCHEMA %s", m->schema);
                r = run(m, "making the schema", sql, NULL);
        }
        if (r == 0 && pg_bool(missing, 0, 1)) {
                cleanup_free char *sql = xasprintf(
                        "CREATE TABLE %s.migration (number integer PRIMARY KEY, name text NOT NULL,"
                        " applied_at timestamptz NOT NULL DEFAULT now())",
                        m->schema);
                r = run(m, "making the table of migrations", sql, NULL);
        }
        return r < 0 ? r : run(m, "making the schema", "COMMIT", NULL);
}

static int current_number(struct migrating *m, int *ret, char **ret_name)
{
        cleanup_free char *sql = xasprintf(
                "SELECT number, name FROM %s.migration ORDER BY number DESC LIMIT 1", m->schema);
        CLEANUP(pg_clearp) PGresult *rows = NULL;
        int r = run(m, "reading the table of migrations", sql, &rows);
        if (r < 0)
                return r;
        bool any = PQntuples(rows) > 0;
        *ret = any ? (int) pg_i64(rows, 0, 0) : 0;
        *ret_name = xstrdup(any ? pg_str(rows, 0, 1) : "none");
        return 0;
}

static int apply(struct migrating *m, const struct pg_migration *step)
{
        cleanup_free char *what = xasprintf("migration %04d_%s", step->number, step->name);
        cleanup_free char *record =
                xasprintf("INSERT INTO %s.migration (number, name) VALUES ($1, $2)", m->schema);
        cleanup_free char *name = NULL;
        char number[16];
        const char *values[] = { number, step->name };
        int current = 0;
        int r = begin(m);

        (void) snprintf(number, sizeof(number), "%d", step->number);
        if (r == 0)
                r = current_number(m, &current, &name);
        if (r == 0 && step->number > current) {
                r = run(m, what, step->sql, NULL);
                if (r < 0)
                        return r;
                CLEANUP(pg_clearp)
                PGresult *inserted = PQexecParams(m->pg, record, 2, NULL, values, NULL, NULL, 0);
                if (PQresultStatus(inserted) != PGRES_COMMAND_OK)
                        return fail(m, what);
        }
        return r < 0 ? r : run(m, what, "COMMIT", NULL);
}

static int set_rules(struct migrating *m)
{
        cleanup_free char *rules = pg_rules_sql(m->schema);
        int r = begin(m);

        if (r == 0)
                r = run(m, "rules of row-level security", rules, NULL);
        return r < 0 ? r : run(m, "rules of row-level security", "COMMIT", NULL);
}

static void ignore_notice(void *arg, const char *message)
{
}

static bool plain_name(const char *s)
{
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz_");
        return n > 0 && n < 64 && s[n] == 0;
}

int pg_migrate(const struct pg_config *c, const char *schema, const struct pg_migration *m,
               size_t n, char **ret_error)
{
        char **keywords, **values;
        if (!plain_name(schema))
                abort(); /* a constant of the daemon */
        int r = pg_params_make(c, &keywords, &values);
        if (r < 0) {
                *ret_error = xasprintf("the setting database is not a libpq connection string");
                return r;
        }
        CLEANUP(pg_finishp)
        PGconn *pg =
                PQconnectdbParams((const char *const *) keywords, (const char *const *) values, 0);
        pg_params_free(keywords);
        pg_params_free(values);
        cleanup_free char *settings =
                pg_settings_sql(MIGRATE_STATEMENT_USEC, MIGRATE_LOCK_USEC, true);
        cleanup_free char *start = xasprintf(
                "BEGIN; %s; SELECT pg_advisory_xact_lock(hashtext('berth migrations of %s'))",
                settings, schema);
        struct migrating mig = { pg, schema, start, ret_error };
        if (PQstatus(pg) != CONNECTION_OK)
                return fail(&mig, "cannot connect to the database");
        (void) PQsetNoticeProcessor(pg, ignore_notice, NULL);

        int current = 0, known = n > 0 ? m[n - 1].number : 0;
        cleanup_free char *name = NULL;
        r = prepare_schema(&mig);
        if (r == 0)
                r = current_number(&mig, &current, &name);
        if (r == 0 && current > known) {
                *ret_error =
                        xasprintf("schema %s is at migration %04d_%s, newer than this program, "
                                  "which knows up to %04d: install the newer version",
                                  schema, current, name, known);
                return -EPROTO;
        }
        for (size_t i = 0; r == 0 && i < n; i++) {
                if (m[i].number > current)
                        r = apply(&mig, &m[i]);
        }
        return r < 0 ? r : set_rules(&mig);
}
