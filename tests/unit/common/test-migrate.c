/* Migrations against a real PostgreSQL: order, repetition, failure, newer database, two at once. */
#include "unit.h"

#include <sys/wait.h>
#include <unistd.h>

#include "cluster.h"
#include "common/io/pg.h"

static struct cluster cluster;
static const struct pg_migration steps[] = {
        { 1, "first", "CREATE TABLE mig.a (id int); INSERT INTO mig.a VALUES (1);" },
        { 2, "second", "ALTER TABLE mig.a ADD b text DEFAULT 'x'; INSERT INTO mig.a VALUES (2);" },
        { 5, "gap", "CREATE TABLE mig.c (id int);" },
};

static int64_t number(const char *sql)
{
        PGconn *pg = PQconnectdb(cluster.conninfo);
        PGresult *r = PQexec(pg, sql);
        int64_t n = PQresultStatus(r) == PGRES_TUPLES_OK ? pg_i64(r, 0, 0) : -1;
        PQclear(r);
        PQfinish(pg);
        return n;
}

static int migrate(const char *schema, const struct pg_migration *m, size_t n, char **error)
{
        struct pg_config c = { .conninfo = cluster.conninfo, .application = "test" };
        *error = NULL;
        return pg_migrate(&c, schema, m, n, error);
}

static void in_order(void **state)
{
        char *error;
        assert_int_equal(migrate("mig", steps, 1, &error), 0);
        assert_int_equal(number("SELECT count(*) FROM mig.a"), 1);
        assert_int_equal(migrate("mig", steps, 3, &error), 0);
        assert_int_equal(migrate("mig", steps, 3, &error), 0); /* nothing to do */
        assert_int_equal(number("SELECT count(*) FROM mig.a WHERE b = 'x'"), 2);
        assert_int_equal(number("SELECT max(number) FROM mig.migration"), 5);
        assert_int_equal(number("SELECT count(*) FROM mig.migration"), 3);
}

static void newer_is_refused(void **state)
{
        char *error;
        assert_int_equal(migrate("mig", steps, 2, &error), -EPROTO);
        assert_string_equal(error, "schema mig is at migration 0005_gap, newer than this program, "
                                   "which knows up to 0002: install the newer version");
        free(error);
        assert_int_equal(migrate("mig", NULL, 0, &error), -EPROTO);
        free(error);
}

static void failure_leaves_nothing(void **state)
{
        static const struct pg_migration bad[] = {
                { 1, "good", "CREATE TABLE half.a (id int);" },
                { 2, "bad", "CREATE TABLE half.b (id int); INSERT INTO half.nowhere VALUES (1);" },
                { 3, "never", "CREATE TABLE half.c (id int);" },
        };
        char *error;
        assert_int_equal(migrate("half", bad, 3, &error), -EREMOTEIO);
        assert_non_null(strstr(error, "schema half: migration 0002_bad: "));
        assert_non_null(strstr(error, "half.nowhere"));
        free(error);
        assert_int_equal(number("SELECT max(number) FROM half.migration"), 1);
        assert_int_equal(number("SELECT count(*) FROM pg_tables WHERE schemaname = 'half'"), 2);
}

static void at_once(void **state)
{
        static const struct pg_migration slow[] = {
                { 1, "slow", "SELECT pg_sleep(0.2); CREATE TABLE twin.a (id int);" },
                { 2, "more", "CREATE TABLE twin.b (id int);" },
        };
        pid_t children[4];
        for (size_t i = 0; i < ARRAY_LEN(children); i++) {
                children[i] = fork();
                assert_true(children[i] >= 0);
                if (children[i] == 0) {
                        char *error;
                        _exit(migrate("twin", slow, 2, &error) == 0 ? 0 : 1);
                }
        }
        for (size_t i = 0; i < ARRAY_LEN(children); i++) {
                int status;
                assert_int_equal(waitpid(children[i], &status, 0), children[i]);
                assert_int_equal(status, 0);
        }
        assert_int_equal(number("SELECT count(*) FROM twin.migration"), 2);
}

static void no_server(void **state)
{
        struct pg_config c = { .conninfo = "host=/nonexistent", .application = "test" };
        char *error = NULL;
        assert_int_equal(pg_migrate(&c, "mig", steps, 3, &error), -EREMOTEIO);
        assert_non_null(strstr(error, "cannot connect to the database"));
        free(error);
        c.conninfo = "nonsense";
        assert_int_equal(pg_migrate(&c, "mig", steps, 3, &error), -EINVAL);
        free(error);
}

static int setup(void **state)
{
        cluster_start(&cluster);
        return 0;
}

static int teardown(void **state)
{
        cluster_stop(&cluster);
        return 0;
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(in_order),
                cmocka_unit_test(newer_is_refused),
                cmocka_unit_test(failure_leaves_nothing),
                cmocka_unit_test(at_once),
                cmocka_unit_test(no_server),
        };
        cluster_require();
        return cmocka_run_group_tests(tests, setup, teardown);
}
