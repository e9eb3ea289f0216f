/* The database client against a real PostgreSQL: batches, errors, order, losses, limits. */
#include "unit.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster.h"
#include "common/base/buf.h"
#include "common/io/pg-private.h"

static struct cluster cluster;
static sd_event *event;

/* What a callback saw. */
struct seen {
        int calls, r;
        char sqlstate[6], message[256], text[256];
        size_t n;
        int64_t number;
};

static void on_done(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct seen *s = userdata;
        s->calls++;
        s->r = r;
        s->n = n;
        (void) snprintf(s->sqlstate, sizeof(s->sqlstate), "%s", error->sqlstate);
        (void) snprintf(s->message, sizeof(s->message), "%s", error->message);
        if (r == 0 && PQntuples(results[n - 1]) > 0) {
                const char *text = pg_str(results[n - 1], 0, 0);
                (void) snprintf(s->text, sizeof(s->text), "%s", text ? text : "NULL");
                s->number = pg_i64(results[n - 1], 0, 0);
        }
}

static struct pg_pool *make_pool(unsigned connections)
{
        struct pg_config c = { .conninfo = cluster.conninfo,
                               .application = "berth-test",
                               .connections = connections,
                               .queue_timeout_usec = 20 * USEC_PER_SEC };
        struct pg_pool *p = NULL;
        assert_int_equal(pg_pool_new(event, &c, &p), 0);
        return p;
}

static struct seen query(struct pg_pool *p, const char *sql)
{
        struct seen s = { 0 };
        assert_int_equal(pg_query(p, on_done, &s, sql, ""), 0);
        RUN_UNTIL(event, 15, s.calls > 0);
        assert_int_equal(s.calls, 1);
        return s;
}

/* A second way in, independent of the client under test. */
static void outside(const char *sql)
{
        PGconn *pg = PQconnectdb(cluster.conninfo);
        PGresult *r = PQexec(pg, sql);
        ExecStatusType status = PQresultStatus(r);
        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
                fail_msg("%s: %s", sql, PQerrorMessage(pg));
        PQclear(r);
        PQfinish(pg);
}

static int64_t outside_number(const char *sql)
{
        PGconn *pg = PQconnectdb(cluster.conninfo);
        PGresult *r = PQexec(pg, sql);
        assert_int_equal(PQresultStatus(r), PGRES_TUPLES_OK);
        int64_t n = pg_i64(r, 0, 0);
        PQclear(r);
        PQfinish(pg);
        return n;
}

static void on_types(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        assert_int_equal(r, 0);
        assert_int_equal(n, 1);
        PGresult *q = results[0];
        assert_string_equal(pg_str(q, 0, 0), "it's \xe2\x82\xac");
        assert_null(pg_str(q, 0, 1));
        assert_string_equal(pg_str(q, 0, 2), "spa");
        assert_true(pg_i64(q, 0, 3) == INT64_MIN);
        assert_string_equal(pg_str(q, 0, 4), "18446744073709551615");
        assert_true(strtod(pg_str(q, 0, 5), NULL) == 0.1);
        assert_true(pg_bool(q, 0, 6));
        assert_false(pg_bool(q, 0, 7));
        void *data;
        size_t len;
        assert_int_equal(pg_bytea(q, 0, 8, &data, &len), 0);
        assert_int_equal(len, 4);
        assert_memory_equal(data, "\0\xff\\x", 4);
        free(data);
        assert_int_equal(pg_bytea(q, 0, 1, &data, &len), -ENODATA);
        assert_int_equal(pg_bytea(q, 0, 0, &data, &len), -EBADMSG);
        assert_int_equal(pg_bytea(q, 0, 9, &data, &len), 0);
        assert_int_equal(len, 0);
        free(data);
        *(bool *) userdata = true;
}

static void types(void **state)
{
        struct pg_pool *p = make_pool(1);
        bool done = false;
        const char *sql =
                "SELECT $1::text, $2::text, $3::text, $4::bigint, $5::numeric, $6::float8,"
                " $7::bool, $8::bool, $9::bytea, $10::bytea";
        assert_int_equal(pg_query(p, on_types, &done, sql, "sstiufBBbb", "it's \xe2\x82\xac", NULL,
                                  (struct span){ "spam", 3 }, INT64_MIN, UINT64_MAX, 0.1, true,
                                  false, (struct span){ "\0\xff\\x", 4 }, (struct span){ NULL, 0 }),
                         0);
        RUN_UNTIL(event, 15, done);
        struct seen s = query(p, "SHOW timezone");
        assert_string_equal(s.text, "UTC");
        s = query(p, "SHOW statement_timeout");
        assert_string_equal(s.text, "5s");
        s = query(p, "SHOW lock_timeout");
        assert_string_equal(s.text, "2s");
        s = query(p, "SHOW idle_in_transaction_session_timeout");
        assert_string_equal(s.text, "10s");
        s = query(p, "SHOW application_name");
        assert_string_equal(s.text, "berth-test");
        pg_pool_free(p);
}

static void atomic_batches(void **state)
{
        outside("CREATE TABLE atom (id bigint PRIMARY KEY)");
        struct pg_pool *p = make_pool(1);
        static const char insert[] = "INSERT INTO atom VALUES ($1) RETURNING id";
        struct seen bad = { 0 }, good = { 0 }, after = { 0 };
        struct pg_batch *b = pg_batch_new();
        for (int64_t i = 1; i <= 3; i++)
                pg_batch_add(b, insert, "i", i);
        pg_batch_add(b, insert, "i", (int64_t) 2); /* twice */
        pg_batch_add(b, insert, "i", (int64_t) 9);
        assert_int_equal(pg_batch_count(b), 5);
        assert_int_equal(pg_submit(p, b, on_done, &bad), 0);
        /* In the pipeline right behind it: not touched by its failure. */
        b = pg_batch_new();
        pg_batch_add(b, insert, "i", (int64_t) 10);
        pg_batch_add(b, insert, "i", (int64_t) 11);
        assert_int_equal(pg_submit(p, b, on_done, &good), 0);
        assert_int_equal(pg_query(p, on_done, &after, "SELECT sum(id) FROM atom", ""), 0);
        RUN_UNTIL(event, 15, after.calls);
        assert_int_equal(bad.calls, 1);
        assert_int_equal(bad.r, -EREMOTEIO);
        assert_string_equal(bad.sqlstate, "23505");
        assert_non_null(strstr(bad.message, "duplicate key"));
        assert_int_equal(bad.n, 0);
        assert_int_equal(good.r, 0);
        assert_int_equal(good.n, 2);
        assert_int_equal(good.number, 11);
        assert_int_equal(after.number, 21);
        assert_int_equal(outside_number("SELECT count(*) FROM atom"), 2);
        pg_pool_free(p);
}

static void bad_statements(void **state)
{
        struct pg_pool *p = make_pool(1);
        struct seen s[4] = { 0 };
        /* All in flight at once; the third statement is shared and cannot be prepared. */
        assert_int_equal(pg_query(p, on_done, &s[0], "SELEC 1", ""), 0);
        assert_int_equal(pg_query(p, on_done, &s[1], "SELECT 1 FROM nowhere", ""), 0);
        assert_int_equal(pg_query(p, on_done, &s[2], "SELECT 1 FROM nowhere", ""), 0);
        assert_int_equal(pg_query(p, on_done, &s[3], "SELECT 7", ""), 0);
        RUN_UNTIL(event, 15, s[3].calls);
        assert_int_equal(s[0].r, -EREMOTEIO);
        assert_string_equal(s[0].sqlstate, "42601");
        assert_string_equal(s[1].sqlstate, "42P01");
        assert_string_equal(s[2].sqlstate, "42P01");
        assert_int_equal(s[3].r, 0);
        assert_int_equal(s[3].number, 7);
        outside("CREATE TABLE nowhere ()");
        struct seen again = query(p, "SELECT 1 FROM nowhere");
        assert_int_equal(again.r, 0);
        again = query(p, "SELECT pg_sleep(0), 1/0");
        assert_string_equal(again.sqlstate, "22012");
        again = query(p, "COPY atom TO STDOUT"); /* no place in a batch: the connection goes */
        assert_true(again.r < 0);
        again = query(p, "SELECT 8");
        assert_int_equal(again.number, 8);
        pg_pool_free(p);
}

static void error_at_commit(void **state)
{
        outside("CREATE TABLE parent (id int PRIMARY KEY);"
                "CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)");
        struct pg_pool *p = make_pool(1);
        struct seen first = { 0 }, next = { 0 };
        assert_int_equal(
                pg_query(p, on_done, &first, "INSERT INTO child VALUES ($1)", "i", (int64_t) 1), 0);
        assert_int_equal(pg_query(p, on_done, &next, "SELECT count(*) FROM child", ""), 0);
        RUN_UNTIL(event, 15, next.calls);
        assert_int_equal(first.r, -EREMOTEIO);
        assert_string_equal(first.sqlstate, "23503");
        assert_int_equal(next.r, 0);
        assert_int_equal(next.number, 0);
        pg_pool_free(p);
}

struct order {
        int64_t next;
        bool wrong;
};

static void on_order(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        struct order *o = userdata;
        o->wrong |= r != 0 || pg_i64(results[0], 0, 0) != pg_i64(results[0], 0, 1) ||
                    pg_i64(results[0], 0, 0) != o->next + 1;
        o->next++;
}

static void strict_order(void **state)
{
        outside("CREATE SEQUENCE ticket");
        struct pg_pool *p = make_pool(1);
        struct order o = { 0 };
        uint64_t start = now_monotonic();
        for (int64_t i = 1; i <= 5000; i++)
                assert_int_equal(
                        pg_query(p, on_order, &o, "SELECT nextval('ticket'), $1::bigint", "i", i),
                        0);
        assert_int_equal(pg_pool_waiting(p), 5000);
        RUN_UNTIL(event, 30, o.next == 5000 || o.wrong);
        assert_false(o.wrong);
        print_message("# 5000 batches in %" PRIu64 " ms\n", (now_monotonic() - start) / 1000);
        pg_pool_free(p);
}

static void killed_backend(void **state)
{
        struct pg_pool *p = make_pool(1);
        struct seen hit = { 0 }, behind = { 0 }, later = { 0 };
        (void) query(p, "SELECT 1");
        outside("CREATE TABLE once (id int)");
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b, "INSERT INTO once VALUES (1)", "");
        pg_batch_add(b, "SELECT pg_sleep(4) /* victim */", "");
        assert_int_equal(pg_submit(p, b, on_done, &hit), 0);
        assert_int_equal(pg_query(p, on_done, &behind, "INSERT INTO once VALUES (2)", ""), 0);
        static const char find[] = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                                   " AND query LIKE '%victim%' AND pid <> pg_backend_pid()";
        RUN_UNTIL(event, 15, outside_number(find) == 1);
        outside("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'berth-test'");
        RUN_UNTIL(event, 15, hit.calls && behind.calls);
        assert_int_equal(hit.r, -ECONNRESET);
        assert_int_equal(behind.r, -ECONNRESET); /* it was sent: nobody can know */
        assert_true(*hit.message);
        uint64_t start = now_monotonic();
        assert_int_equal(pg_query(p, on_done, &later, "SELECT count(*) FROM once", ""), 0);
        RUN_UNTIL(event, 15, later.calls);
        assert_int_equal(later.r, 0);
        assert_int_equal(later.number, 0);
        assert_true(now_monotonic() - start < 2 * USEC_PER_SEC);
        assert_true(pg_pool_up(p));
        pg_pool_free(p);
}

/* The server is told that the client is gone, the client is told nothing. */
static void half_open(void **state)
{
        struct pg_pool *p = make_pool(1);
        struct seen lost = { 0 };
        int pair[2];
        (void) query(p, "SELECT 1");
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_true(dup2(pair[0], PQsocket(p->connections[0].pg)) >= 0);
        assert_int_equal(pg_query(p, on_done, &lost, "SELECT 2", ""), 0);
        RUN_UNTIL(event, 8, lost.calls); /* without a probe it takes 10 s */
        assert_int_equal(lost.r, -ECONNRESET);
        assert_int_equal(query(p, "SELECT 3").number, 3);
        pg_pool_free(p);
        close(pair[0]);
        close(pair[1]);
}

/* It is asked about twice, and has a backend. */
static void only_slow(void **state)
{
        struct pg_pool *p = make_pool(1);
        struct seen s = query(p, "SELECT 7 FROM pg_sleep(4)");
        assert_int_equal(s.r, 0);
        assert_int_equal(s.number, 7);
        pg_pool_free(p);
}

struct ups {
        int up, down;
};

static void on_state(void *userdata, bool up)
{
        struct ups *u = userdata;
        *(up ? &u->up : &u->down) += 1;
}

static void server_restart(void **state)
{
        struct ups ups = { 0 };
        struct pg_config c = { .conninfo = cluster.conninfo,
                               .connections = 3,
                               .queue_timeout_usec = 30 * USEC_PER_SEC,
                               .on_state = on_state,
                               .userdata = &ups };
        struct pg_pool *p;
        assert_int_equal(pg_pool_new(event, &c, &p), 0);
        assert_false(pg_pool_up(p));
        assert_int_equal(query(p, "SELECT 1").r, 0);
        cluster_halt(&cluster);
        RUN_UNTIL(event, 15, ups.down == 1);
        assert_true(*pg_pool_problem(p));
        struct seen waits = { 0 };
        assert_int_equal(pg_query(p, on_done, &waits, "SELECT 5", ""), 0);
        cluster_restart(&cluster);
        uint64_t start = now_monotonic();
        RUN_UNTIL(event, 15, waits.calls);
        assert_int_equal(waits.r, 0);
        assert_int_equal(waits.number, 5);
        assert_int_equal(ups.up, 2);
        assert_true(now_monotonic() - start < 2 * USEC_PER_SEC);
        pg_pool_free(p);
}

static void queue_bounds(void **state)
{
        struct ups ups = { 0 };
        struct pg_config c = { .conninfo = "host=/nonexistent user=nobody",
                               .connections = 2,
                               .queue_max = 5,
                               .queue_bytes_max = 1000,
                               .queue_timeout_usec = 200 * USEC_PER_MSEC,
                               .on_state = on_state,
                               .userdata = &ups };
        struct pg_pool *p;
        assert_int_equal(pg_pool_new(event, &c, &p), 0);
        struct seen s[6] = { 0 };
        uint64_t start = now_monotonic();
        for (int i = 0; i < 5; i++)
                assert_int_equal(pg_query(p, on_done, &s[i], "SELECT 1", ""), 0);
        assert_int_equal(pg_query(p, on_done, &s[5], "SELECT 1", ""), -EAGAIN);
        RUN_UNTIL(event, 15, s[4].calls);
        for (int i = 0; i < 5; i++)
                assert_int_equal(s[i].r, -ETIMEDOUT);
        assert_int_equal(s[5].calls, 0);
        uint64_t took = now_monotonic() - start;
        assert_true(took >= 200 * USEC_PER_MSEC && took < 2 * USEC_PER_SEC);
        assert_int_equal(ups.down, 1);
        assert_int_equal(ups.up, 0);
        assert_non_null(strstr(pg_pool_problem(p), "/nonexistent"));
        char text[600];
        memset(text, 'x', sizeof(text));
        struct span big = { text, sizeof(text) };
        assert_int_equal(pg_query(p, on_done, &s[0], "SELECT $1", "t", big), 0);
        assert_int_equal(pg_query(p, on_done, &s[1], "SELECT $1", "t", big), -EAGAIN);
        struct span nul = { "a\0b", 3 };
        assert_int_equal(pg_query(p, on_done, &s[1], "SELECT $1", "t", nul), -EINVAL);
        assert_int_equal(pg_submit(p, pg_batch_new(), on_done, &s[1]), -EINVAL);
        int calls = s[0].calls;
        pg_pool_free(p);
        assert_int_equal(s[0].calls, calls + 1);
        assert_int_equal(s[0].r, -ECANCELED);
        c.conninfo = "this is not one";
        assert_int_equal(pg_pool_new(event, &c, &p), -EINVAL);
}

static void limits_of_the_server(void **state)
{
        struct pg_config c = { .conninfo = cluster.conninfo,
                               .connections = 1,
                               .statement_timeout_usec = 100 * USEC_PER_MSEC };
        struct pg_pool *p;
        assert_int_equal(pg_pool_new(event, &c, &p), 0);
        struct seen s = query(p, "SELECT pg_sleep(3)");
        assert_int_equal(s.r, -EREMOTEIO);
        assert_string_equal(s.sqlstate, "57014");
        assert_int_equal(query(p, "SELECT 1").r, 0);
        /* A frozen server: the socket stays open, nothing comes back. */
        int64_t pid = outside_number("SELECT pid FROM pg_stat_activity WHERE query = 'SELECT 1'"
                                     " AND pid <> pg_backend_pid()");
        assert_true(pid > 1);
        assert_int_equal(kill((pid_t) pid, SIGSTOP), 0);
        s = query(p, "SELECT 2");
        assert_int_equal(s.r, -ECONNRESET);
        assert_int_equal(kill((pid_t) pid, SIGCONT), 0);
        assert_int_equal(query(p, "SELECT 3").number, 3);
        pg_pool_free(p);
}

static void many_statements(void **state)
{
        enum { N = 600 };
        struct pg_pool *p = make_pool(1);
        struct seen s[N] = { 0 };
        char *sql[N];
        for (int round = 0; round < 2; round++) {
                for (int i = 0; i < N; i++) {
                        if (round == 0)
                                sql[i] = xasprintf("SELECT %d + $1::int", i);
                        assert_int_equal(pg_query(p, on_done, &s[i], sql[i], "i", (int64_t) 1), 0);
                }
                RUN_UNTIL(event, 30, s[N - 1].calls == round + 1);
                for (int i = 0; i < N; i++)
                        assert_int_equal(s[i].number, i + 1);
        }
        assert_int_equal(query(p, "SELECT count(*) FROM pg_prepared_statements").number, 500);
        pg_pool_free(p);
        for (int i = 0; i < N; i++)
                free(sql[i]);
}

static void changed_table(void **state)
{
        outside("CREATE TABLE grows (a int)");
        struct pg_pool *p = make_pool(1);
        assert_int_equal(query(p, "SELECT * FROM grows").r, 0);
        outside("ALTER TABLE grows ADD b int");
        struct seen s = query(p, "SELECT * FROM grows");
        assert_int_equal(s.r, -EREMOTEIO);
        assert_string_equal(s.sqlstate, "0A000");
        assert_int_equal(query(p, "SELECT * FROM grows").r, 0); /* on a new connection */
        pg_pool_free(p);
}

static void on_large(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        assert_int_equal(r, 0);
        *(int *) userdata += PQgetlength(results[0], 0, 0);
}

static void large_values(void **state)
{
        struct pg_pool *p = make_pool(1);
        size_t n = 8 * MIB;
        cleanup_free char *text = xmalloc(n);
        memset(text, 'x', n);
        int got = 0;
        for (int i = 0; i < 4; i++) /* both directions at once, more than any socket buffer */
                assert_int_equal(pg_query(p, on_large, &got, "SELECT $1::text", "t",
                                          (struct span){ text, n }),
                                 0);
        RUN_UNTIL(event, 30, (size_t) got == 4 * n);
        pg_pool_free(p);
}

static struct pg_pool *doomed;
static void on_done_free(void *userdata, int r, PGresult **results, size_t n,
                         const struct pg_error *error)
{
        doomed = pg_pool_free(doomed);
        on_done(userdata, r, results, n, error);
}

static void freed_inside_a_callback(void **state)
{
        struct seen s[3] = { 0 };
        doomed = make_pool(1);
        (void) query(doomed, "SELECT 1");
        assert_int_equal(pg_query(doomed, on_done_free, &s[0], "SELECT 1", ""), 0);
        assert_int_equal(pg_query(doomed, on_done, &s[1], "SELECT 2", ""), 0);
        for (int i = 0; i < 50; i++)
                assert_int_equal(pg_query(doomed, on_done, &s[2], "SELECT 3", ""), 0);
        RUN_UNTIL(event, 15, s[0].calls);
        assert_int_equal(s[0].r, 0);
        assert_int_equal(s[1].r, -ECONNRESET);
        assert_int_equal(s[2].calls, 50);
        assert_int_equal(s[2].r, -ECANCELED);
        assert_null(doomed);
}

static void forgotten(void **state)
{
        outside("CREATE TABLE kept (id int)");
        struct pg_pool *p = make_pool(1);
        struct seen gone = { 0 }, stays = { 0 };
        assert_int_equal(pg_query(p, on_done, &gone, "INSERT INTO kept VALUES (1)", ""), 0);
        assert_int_equal(pg_query(p, on_done, &stays, "SELECT count(*) FROM kept", ""), 0);
        pg_forget(p, &gone);
        assert_int_equal(pg_query(p, NULL, NULL, "INSERT INTO kept VALUES (2)", ""), 0);
        RUN_UNTIL(event, 15, stays.calls);
        assert_int_equal(gone.calls, 0);
        assert_int_equal(stays.number, 1);
        assert_int_equal(query(p, "SELECT count(*) FROM kept").number, 2);
        pg_pool_free(p);
}

static int setup(void **state)
{
        cluster_start(&cluster);
        return sd_event_new(&event);
}

static int teardown(void **state)
{
        sd_event_unref(event);
        cluster_stop(&cluster);
        return 0;
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(types),
                cmocka_unit_test(atomic_batches),
                cmocka_unit_test(bad_statements),
                cmocka_unit_test(error_at_commit),
                cmocka_unit_test(strict_order),
                cmocka_unit_test(killed_backend),
                cmocka_unit_test(half_open),
                cmocka_unit_test(only_slow),
                cmocka_unit_test(server_restart),
                cmocka_unit_test(queue_bounds),
                cmocka_unit_test(limits_of_the_server),
                cmocka_unit_test(many_statements),
                cmocka_unit_test(changed_table),
                cmocka_unit_test(large_values),
                cmocka_unit_test(freed_inside_a_callback),
                cmocka_unit_test(forgotten),
        };
        cluster_require();
        return cmocka_run_group_tests(tests, setup, teardown);
}
