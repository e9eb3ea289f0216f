/* The hub on a real PostgreSQL: numbering, repeats, lost connections, refused content, fencing. */
#include "unit.h"

#include <libpq-fe.h>

#include "cluster.h"
#include "common/io/daemon.h"
#include "common/io/log.h"
#include "coordinatord/hub.h"
#include "coordinatord/store.h"

#define SESSIONS 12

struct rig {
        sd_event *event;
        struct pg_pool *pool;
        struct hub *hub;
        struct sessions sessions;
        struct session *s[SESSIONS];
        PGconn *db; /* for the test's own, blocking questions */
        uint64_t published, last_id;
        uint64_t published_seq[SESSIONS];
        size_t deleted;
        bool fenced;
        struct store_start start;
        bool started;
        unsigned done, refused; /* entries that ended */
};

static struct cluster cluster;

static char *ask(struct rig *t, const char *sql)
{
        PGresult *r = PQexec(t->db, sql);
        if (PQresultStatus(r) != PGRES_TUPLES_OK && PQresultStatus(r) != PGRES_COMMAND_OK)
                fail_msg("%s: %s", sql, PQerrorMessage(t->db));
        char *answer = xstrdup(PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
        PQclear(r);
        return answer;
}

static void assert_sql(struct rig *t, const char *sql, const char *expected)
{
        cleanup_free char *got = ask(t, sql);
        assert_string_equal(got, expected);
}

static size_t index_of(const struct rig *t, const struct session *s)
{
        size_t i = 0;
        while (t->s[i] != s)
                i++;
        return i;
}

/* Published: in order of ids without a gap, per session in order of seq, and stored before. */
static void on_event(void *userdata, const struct hub_event *e)
{
        struct rig *t = userdata;

        assert_int_equal(e->id, t->last_id + 1);
        t->last_id = e->id;
        size_t i = index_of(t, e->session);
        assert_int_equal(e->seq, t->published_seq[i] + 1);
        t->published_seq[i] = e->seq;
        t->published++;
}

static void on_session(void *userdata, const struct session *s, const char *json, uint64_t cursor)
{
        assert_non_null(strstr(json, s->id));
}

static void on_deleted(void *userdata, const struct session *s, uint64_t cursor)
{
        ((struct rig *) userdata)->deleted++;
}

static void on_fenced(void *userdata)
{
        ((struct rig *) userdata)->fenced = true;
}

static void on_start(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        struct rig *t = userdata;

        assert_int_equal(r, 0);
        store_read_start(results[0], &t->start);
        t->started = true;
}

static void open_hub(struct rig *t)
{
        t->started = false;
        assert_int_equal(pg_query(t->pool, on_start, t, store_activate, ""), 0);
        RUN_UNTIL(t->event, 10, t->started);
        struct hub_config hc = {
                .event = t->event,
                .pool = t->pool,
                .batch_events_max = 200,
                .batch_bytes_max = MIB,
                .queue_max = 5000,
                .queue_bytes_max = 64 * MIB,
                .term = t->start.term,
                .batch = t->start.batch,
                .cursor = t->start.cursor,
                .on_event = on_event,
                .on_session = on_session,
                .on_deleted = on_deleted,
                .on_fenced = on_fenced,
                .userdata = t,
        };
        t->last_id = t->start.cursor;
        assert_int_equal(hub_new(&hc, &t->hub), 0);
}

/* ---- entries ---- */

struct op {
        struct hub_entry entry;
        struct rig *rig;
        struct session *s;
        char idem[32];
        unsigned n;
        uint64_t first, last;
        int *ret; /* where the result goes, or NULL */
        bool *ret_replayed;
};

static int make_apply(struct hub_entry *e, struct hub_batch *b)
{
        struct op *op = container_of(e, struct op, entry);
        struct session *s = op->s;

        if (s->exists)
                return hub_refuse(e, ERROR_CODE_CONFLICT, "exists");
        session_clear(s);
        s->tenant = xstrdup("default");
        s->metadata = xstrdup("{\"a\":\"\\u00fc\"}");
        s->budget = xstrdup("{}");
        s->files = xstrdup("[]");
        s->kind = SLOT_KIND_EXTERNAL;
        s->queued_us = hub_now(b);
        hub_session_insert(b, s);
        session_set_first_state(s, b, SESSION_STATE_RUNNING);
        (void) hub_event(b, s, EVENT_TYPE_SESSION_START, (struct span){ "{}", 2 });
        return 0;
}

static int append_apply(struct hub_entry *e, struct hub_batch *b)
{
        const struct span body = span_of("{\"text\":\"a \\\"b\\\" \\\\ \xc3\xbc\"}");
        struct op *op = container_of(e, struct op, entry);
        const struct session_append *earlier = session_recent(op->s, op->idem);

        if (op->ret_replayed)
                *op->ret_replayed = earlier != NULL;
        if (earlier) {
                op->first = earlier->first_seq;
                op->last = earlier->last_seq;
                return 0;
        }
        op->first = op->s->last_seq + 1;
        for (unsigned i = 0; i < op->n; i++)
                (void) hub_event(b, op->s, EVENT_TYPE_LOG, body);
        op->last = op->s->last_seq;
        if (op->n % 3 == 0)
                hub_session_write(b, op->s, true);
        hub_append_done(b, op->s, op->idem, op->first);
        return 0;
}

static int delete_apply(struct hub_entry *e, struct hub_batch *b)
{
        hub_session_delete(b, container_of(e, struct op, entry)->s);
        return 0;
}

static void op_done(struct hub_entry *e, int r, const struct hub_batch *b)
{
        struct op *op = container_of(e, struct op, entry);
        struct rig *t = op->rig;

        t->done++;
        t->refused += r < 0;
        if (r == 0 && op->n > 0) /* acknowledged: it must be published by now */
                assert_true(t->published_seq[index_of(t, op->s)] >= op->last);
        if (op->ret)
                *op->ret = r;
        free(op);
}

static struct op *submit(struct rig *t, struct session *s, const char *idem, unsigned n,
                         int (*apply)(struct hub_entry *, struct hub_batch *))
{
        struct op *op = xnew(struct op);

        op->rig = t;
        op->s = s;
        op->n = n;
        (void) snprintf(op->idem, sizeof(op->idem), "%s", idem);
        op->entry = (struct hub_entry){
                .session = s,
                .apply = apply,
                .done = op_done,
                .weight = 64 * (n + 1),
                .events = n,
        };
        assert_int_equal(hub_submit(t->hub, &op->entry), 0);
        return op;
}

/* ---- rig ---- */

static int setup(void **state)
{
        struct rig *t = xnew(struct rig);
        struct pg_config config = { .conninfo = cluster.conninfo, .connections = 1 };
        cleanup_free char *why = NULL;

        assert_true(sd_event_new(&t->event) >= 0);
        *state = t;
        t->db = PQconnectdb(cluster.conninfo);
        free(ask(t, "SET client_min_messages = error"));
        free(ask(t, "DROP SCHEMA IF EXISTS core CASCADE"));
        free(ask(t, "DO $$ BEGIN CREATE ROLE berth_gatewayd; EXCEPTION WHEN duplicate_object THEN "
                    "NULL; END $$"));
        if (store_migrate(&config, &why) < 0)
                fail_msg("%s", why);
        assert_int_equal(pg_pool_new(t->event, &config, &t->pool), 0);
        sessions_init(&t->sessions);
        open_hub(t);
        for (size_t i = 0; i < SESSIONS; i++) {
                char id[16];
                (void) snprintf(id, sizeof(id), "s%zu", i);
                t->s[i] = sessions_get(&t->sessions, id);
                t->s[i]->loaded = true;
                (void) submit(t, t->s[i], "", 0, make_apply);
        }
        RUN_UNTIL(t->event, 10, t->done == SESSIONS);
        assert_int_equal(t->refused, 0);
        t->done = 0;
        return 0;
}

static int teardown(void **state)
{
        struct rig *t = *state;

        t->hub = hub_free(t->hub);
        t->pool = pg_pool_free(t->pool);
        for (size_t i = 0; i < SESSIONS; i++)
                (void) session_unref(t->s[i]);
        sessions_done(&t->sessions);
        PQfinish(t->db);
        sd_event_unref(t->event);
        free(t);
        return 0;
}

static void assert_store_is_whole(struct rig *t)
{
        char n[24];

        assert_sql(t,
                   "SELECT count(*) FROM (SELECT 1 FROM core.event GROUP BY session_id "
                   "HAVING max(seq) <> count(*) OR min(seq) <> 1) AS x",
                   "0");
        assert_sql(t,
                   "SELECT count(*) FROM core.event e JOIN core.event f ON f.session_id = "
                   "e.session_id AND f.seq > e.seq AND f.id < e.id",
                   "0");
        assert_sql(t,
                   "SELECT count(*) FROM core.event WHERE (json::json ->> 'seq')::bigint <> seq "
                   "OR (json::json ->> 'id')::bigint <> id",
                   "0");
        assert_sql(t,
                   "SELECT count(*) FROM core.session s WHERE last_seq <> (SELECT count(*) FROM "
                   "core.event e WHERE e.session_id = s.session_id)",
                   "0");
        (void) snprintf(n, sizeof(n), "%" PRIu64, t->published);
        assert_sql(t, "SELECT count(*) FROM core.event", n);
        (void) snprintf(n, sizeof(n), "%" PRIu64, hub_cursor(t->hub));
        assert_sql(t, "SELECT cursor FROM core.hub", n);
}

static void cut_connection(struct rig *t)
{
        free(ask(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"));
}

/* ---- tests ---- */

/* Random sessions, sizes, repeats and moments: acknowledged appends are stored once, seqs have no
 * gap. */
static void random_work(struct rig *t, unsigned appends, unsigned cut_every)
{
        unsigned sent = 0, next_cut = cut_every;

        srand(7);
        while (t->done < appends) {
                for (int burst = rand() % 40; burst > 0 && sent < appends && sent - t->done < 1000;
                     burst--) {
                        struct session *s = t->s[rand() % SESSIONS];
                        char idem[32];
                        /* One in five repeats an earlier one, perhaps while that is under way. */
                        unsigned n =
                                sent > 20 && rand() % 5 == 0 ? sent - (unsigned) rand() % 20 : sent;
                        (void) snprintf(idem, sizeof(idem), "%.16s-%u", s->id, n);
                        (void) submit(t, s, idem, 1 + (unsigned) rand() % 5, append_apply);
                        sent++;
                }
                assert_true(sd_event_run(t->event, 1000) >= 0);
                if (cut_every && t->done >= next_cut) {
                        cut_connection(t);
                        next_cut += cut_every;
                }
                assert_true(hub_stuck_usec(t->hub) < 20 * USEC_PER_SEC);
        }
        assert_int_equal(t->refused, 0);
        assert_store_is_whole(t);
        assert_sql(t,
                   "SELECT count(*) FROM (SELECT 1 FROM core.event WHERE idem IS NOT NULL "
                   "GROUP BY session_id, idem HAVING count(*) > 1) AS x",
                   "0");
        assert_sql(t, "SELECT sum(span) = count(*) - 12 FROM core.event", "t");
}

static void random_interleavings(void **state)
{
        random_work(*state, 6000, 0);
        assert_true(hub_counters(((struct rig *) *state)->hub)->batches < 6000);
}

static void connections_are_cut_in_mid_commit(void **state)
{
        struct rig *t = *state;

        random_work(t, 6000, 200);
        assert_true(hub_counters(t->hub)->retries > 10);
        print_message("# %" PRIu64 " commits, %" PRIu64 " repeated, %" PRIu64
                      " of them had been stored\n",
                      hub_counters(t->hub)->batches, hub_counters(t->hub)->retries,
                      hub_counters(t->hub)->replays);
}

/* The commit happens, its answer is lost: what R5 is about, made certain. */
static void commit_without_answer(void **state)
{
        struct rig *t = *state;
        int r = 1;

        /* A deferred trigger runs inside COMMIT's own work; killing right after cannot be timed, so
         * the same batch is written by hand first and the hub must find it stored. */
        char sql[200];
        (void) snprintf(sql, sizeof(sql),
                        "SELECT core.batch_begin(%" PRIu64 ", batch + 1, cursor) FROM core.hub",
                        t->start.term);
        struct op *op = submit(t, t->s[0], "lost", 2, append_apply);
        op->ret = &r;
        free(ask(t, "BEGIN"));
        free(ask(t, "LOCK TABLE core.hub IN ACCESS EXCLUSIVE MODE"));
        for (int i = 0; i < 20; i++) /* now the commit waits for our lock */
                assert_true(sd_event_run(t->event, 5000) >= 0);
        free(ask(t, sql));
        cut_connection(t);
        free(ask(t, "COMMIT"));
        RUN_UNTIL(t->event, 10, r != 1);
        assert_int_equal(r, 0);
        assert_int_equal(hub_counters(t->hub)->replays, 1);
        assert_false(t->fenced);
}

/* The database refuses a batch until the hub gives it up, after an attempt whose answer was lost:
 * that one was stored, or it was not and must never be. */
static void given_up_after_a_lost_answer(void **state)
{
        struct rig *t = *state;
        const char *broken =
                "CREATE OR REPLACE FUNCTION core.batch_begin(p_term bigint, p_batch bigint, "
                "p_cursor bigint) RETURNS void LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION "
                "'broken' USING ERRCODE = 'XX000'; END $f$";

        for (int was_stored = 0; was_stored < 2; was_stored++) {
                cleanup_free char *whole =
                        ask(t, "SELECT pg_get_functiondef('core.batch_begin'::regproc)");
                cleanup_free char *number = ask(t, "SELECT batch + 1 FROM core.hub");
                cleanup_free char *late = NULL;
                uint64_t replays = hub_counters(t->hub)->replays;
                int r = 1, next = 1;

                submit(t, t->s[0], was_stored ? "stored" : "lost", 2, append_apply)->ret = &r;
                free(ask(t, "BEGIN"));
                free(ask(t, "LOCK TABLE core.hub IN ACCESS EXCLUSIVE MODE"));
                for (int i = 0; i < 20; i++)
                        assert_true(sd_event_run(t->event, 5000) >= 0);
                if (was_stored)
                        free(ask(t, "UPDATE core.hub SET batch = batch + 1"));
                free(ask(t, broken));
                cut_connection(t);
                free(ask(t, "COMMIT"));
                RUN_UNTIL(t->event, 30, r != 1);
                assert_int_equal(r, was_stored ? 0 : -EREMOTEIO);
                assert_int_equal(hub_counters(t->hub)->replays, replays + (uint64_t) was_stored);
                free(ask(t, whole));
                late = xasprintf(
                        "DO $$ BEGIN PERFORM core.batch_begin((SELECT term FROM core.hub), "
                        "%s, 0); RAISE 'stored late'; EXCEPTION WHEN SQLSTATE 'BT003' "
                        "OR SQLSTATE 'BT002' THEN NULL; END $$",
                        number);
                free(ask(t, late));
                submit(t, t->s[1], was_stored ? "n1" : "n2", 1, append_apply)->ret = &next;
                RUN_UNTIL(t->event, 30, next != 1);
                assert_int_equal(next, 0);
                assert_false(t->fenced);
        }
}

/* Takes a key that is taken already: the database refuses the row. */
static int key_apply(struct hub_entry *e, struct hub_batch *b)
{
        struct session *s = container_of(e, struct op, entry)->s;

        (void) hub_event(b, s, EVENT_TYPE_LOG, (struct span){ "{\"x\":1}", 7 });
        hub_idempotency(b, "t", "scope", "taken", "d", s->id, NULL, 0);
        return 0;
}

/* What the database refuses fails alone; all others go on. */
static void refused_content_fails_alone(void **state)
{
        struct rig *t = *state;
        int guilty = 1, others[20];

        free(ask(t, "INSERT INTO core.idempotency (tenant, scope, key, request_digest, session_id) "
                    "VALUES ('t', 'scope', 'taken', 'd', 's')"));
        for (size_t i = 0; i < ARRAY_LEN(others); i++) {
                char idem[16];
                others[i] = 1;
                (void) snprintf(idem, sizeof(idem), "o%zu", i);
                submit(t, t->s[i % 3], idem, 2, append_apply)->ret = &others[i];
                if (i == 10)
                        submit(t, t->s[0], "", 0, key_apply)->ret = &guilty;
        }
        RUN_UNTIL(t->event, 20, t->done == ARRAY_LEN(others) + 1);
        assert_int_equal(guilty, -EREMOTEIO);
        for (size_t i = 0; i < ARRAY_LEN(others); i++)
                assert_int_equal(others[i], 0);
        assert_true(hub_counters(t->hub)->rebuilds > 0);
        assert_store_is_whole(t);
}

/* A session that does not stand where memory has it: nothing is stored, the coordinator ends. */
static void wrong_seq_fences(void **state)
{
        struct rig *t = *state;

        free(ask(t, "UPDATE core.session SET last_seq = last_seq + 1"));
        (void) submit(t, t->s[0], "x", 1, append_apply);
        RUN_UNTIL(t->event, 10, t->fenced);
        assert_sql(t, "SELECT count(*) FROM core.event WHERE idem = 'x'", "0");
}

static int poison_apply(struct hub_entry *e, struct hub_batch *b)
{
        (void) hub_event(b, container_of(e, struct op, entry)->s, EVENT_TYPE_LOG,
                         (struct span){ "{\"bad\":\"\xff\"}", 11 });
        return 0;
}

static void poison_fails_alone(void **state)
{
        struct rig *t = *state;
        int r = 1, before = 1, after = 1;

        submit(t, t->s[0], "b", 1, append_apply)->ret = &before;
        submit(t, t->s[0], "", 0, poison_apply)->ret = &r;
        submit(t, t->s[0], "a", 1, append_apply)->ret = &after;
        RUN_UNTIL(t->event, 10, t->done == 3);
        assert_int_equal(r, -EREMOTEIO);
        assert_int_equal(before, 0);
        assert_int_equal(after, 0);
        assert_store_is_whole(t);
}

static void another_term_fences(void **state)
{
        struct rig *t = *state;

        free(ask(t, "UPDATE core.hub SET term = term + 1"));
        (void) submit(t, t->s[0], "x", 1, append_apply);
        RUN_UNTIL(t->event, 10, t->fenced);
        assert_int_equal(t->done, 0);
        assert_sql(t, "SELECT count(*) FROM core.event WHERE idem = 'x'", "0");
}

static void deletion(void **state)
{
        struct rig *t = *state;
        int r = 1;

        (void) submit(t, t->s[0], "x", 3, append_apply);
        submit(t, t->s[0], "", 0, delete_apply)->ret = &r;
        RUN_UNTIL(t->event, 10, r != 1);
        assert_int_equal(r, 0);
        assert_int_equal(t->deleted, 1);
        assert_sql(t, "SELECT count(*) FROM core.session WHERE session_id = 's0'", "0");
        assert_sql(t, "SELECT count(*) FROM core.purge", "1");
        assert_false(t->s[0]->exists);
}

static void queue_is_bounded(void **state)
{
        struct rig *t = *state;
        unsigned taken = 0;
        int r = 0;

        while (r == 0) {
                struct op *op = xnew(struct op);
                op->rig = t;
                op->s = t->s[taken % SESSIONS];
                op->n = 1;
                (void) snprintf(op->idem, sizeof(op->idem), "q%u", taken);
                op->entry = (struct hub_entry){
                        .session = op->s,
                        .apply = append_apply,
                        .done = op_done,
                        .weight = 100,
                        .events = 1,
                };
                r = hub_submit(t->hub, &op->entry);
                if (r < 0)
                        free(op);
                else
                        taken++;
        }
        assert_int_equal(r, -EAGAIN);
        assert_int_equal(taken, 5000);
        RUN_UNTIL(t->event, 20, t->done == taken);
        assert_int_equal(hub_waiting(t->hub), 0);
        assert_store_is_whole(t);
}

static void waiting_entries_end_with_the_hub(void **state)
{
        struct rig *t = *state;

        for (unsigned i = 0; i < 100; i++)
                (void) submit(t, t->s[0], "w", 1, append_apply);
        t->hub = hub_free(t->hub);
        assert_int_equal(t->done, 100);
        assert_int_equal(t->refused, 100);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(random_interleavings),
                TEST(connections_are_cut_in_mid_commit),
                TEST(commit_without_answer),
                TEST(refused_content_fails_alone),
                TEST(poison_fails_alone),
                TEST(another_term_fences),
                TEST(wrong_seq_fences),
                TEST(deletion),
                TEST(queue_is_bounded),
                TEST(waiting_entries_end_with_the_hub),
                TEST(given_up_after_a_lost_answer),
        };

        log_set_level(LOG_CRIT);
        cluster_require();
        cluster_start(&cluster);
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        cluster_stop(&cluster);
        return failed;
}
