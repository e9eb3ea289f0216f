/* The fault shim of the database client: shares of failures, and what is stored after each kind. */
#include "unit.h"

#include "cluster.h"
#include "common/io/pg.h"

enum { BATCHES = 3000 };

struct tally {
        sd_event *event;
        int ok, refused, timed_out, lost, calls;
};

static void on_insert(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct tally *t = userdata;
        t->calls++;
        t->ok += r == 0;
        t->refused += r == -EREMOTEIO;
        t->timed_out += r == -ETIMEDOUT;
        t->lost += r == -ECONNRESET;
}

static void on_count(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        *(int64_t *) userdata = r == 0 ? pg_i64(results[0], 0, 0) : -1;
}

static void shares(void **state)
{
        struct cluster c;
        struct tally t = { 0 };
        cluster_start(&c);
        assert_int_equal(sd_event_new(&t.event), 0);
        struct pg_config config = { .conninfo = c.conninfo,
                                    .connections = 2,
                                    .queue_timeout_usec = 20 * USEC_PER_SEC };
        static const struct pg_migration m[] = { { 1, "t", "CREATE TABLE f.t (id bigint);" } };
        struct pg_pool *p;
        char *problem;
        assert_int_equal(pg_migrate(&config, "f", m, 1, &problem), 0);
        assert_int_equal(pg_pool_new(t.event, &config, &p), 0);
        for (int64_t i = 0; i < BATCHES; i++)
                assert_int_equal(pg_query(p, on_insert, &t, "INSERT INTO f.t VALUES ($1)", "i", i),
                                 0);
        RUN_UNTIL(t.event, 30, t.calls == BATCHES);
        assert_int_equal(t.ok + t.refused + t.timed_out + t.lost, BATCHES);
        assert_in_range(t.refused, BATCHES / 20, BATCHES / 5);
        assert_in_range(t.timed_out, BATCHES / 20, BATCHES / 5);
        assert_in_range(t.lost, BATCHES / 20, BATCHES / 5);
        int64_t stored = -1;
        for (int attempt = 0; stored < 0 && attempt < 100; attempt++) {
                stored = -2;
                assert_int_equal(pg_query(p, on_count, &stored, "SELECT count(*) FROM f.t", ""), 0);
                RUN_UNTIL(t.event, 30, stored != -2);
        }
        assert_int_equal(stored, t.ok + t.lost); /* lost ones did happen, refused ones did not */
        pg_pool_free(p);
        sd_event_unref(t.event);
        cluster_stop(&c);
}

int main(void)
{
#ifndef BERTH_FAULTS
        UNIT_SKIP("needs the build option faults");
#endif
        cluster_require();
        static const struct CMUnitTest tests[] = { cmocka_unit_test(shares) };
        if (setenv("BERTH_FAULT_STORE", "error=0.1,timeout=0.1,lost=0.1,seed=7", 1) < 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
