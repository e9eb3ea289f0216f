/* Every pair of states of sessions and workers: what the tables allow is what is written down here.
 */
#include "unit.h"

#include "coordinatord/batch.h"
#include "coordinatord/session.h"
#include "coordinatord/worker.h"

/* Rows: from; columns: to. Q S R I W P F T X = queued starting running idle waiting paused finished
 * stopped failed. */
static const char *const session_expected[SESSION_STATE_MAX] = {
        [SESSION_STATE_QUEUED] = ".S.I.P.TX",   [SESSION_STATE_STARTING] = "Q.RIWPFTX",
        [SESSION_STATE_RUNNING] = "Q..IWPFTX",  [SESSION_STATE_IDLE] = "Q.R.WPFTX",
        [SESSION_STATE_WAITING] = "Q.RI.PFTX",  [SESSION_STATE_PAUSED] = "Q.RI..FTX",
        [SESSION_STATE_FINISHED] = "Q.R......", [SESSION_STATE_STOPPED] = "Q.R......",
        [SESSION_STATE_FAILED] = "Q.R......",
};

static void sessions_all_pairs(void **state)
{
        for (int from = 0; from < SESSION_STATE_MAX; from++)
                for (int to = 0; to < SESSION_STATE_MAX; to++) {
                        int expected = session_expected[from][to] != '.' ? 0 : -EPERM;
                        assert_int_equal(state_check(&session_states, from, to), expected);
                }
        assert_int_equal(state_check(&session_states, SESSION_STATE_MAX, 0), -EINVAL);
        assert_int_equal(state_check(&session_states, 0, SESSION_STATE_MAX), -EINVAL);
}

/* O F R H L = offline free reserved holding releasing. */
static const char *const worker_expected[WORKER_STATE_MAX] = {
        [WORKER_OFFLINE] = ".F.HL", [WORKER_FREE] = "O.R.L",      [WORKER_RESERVED] = "OF.HL",
        [WORKER_HOLDING] = "OF..L", [WORKER_RELEASING] = "OF.H.",
};

static void workers_all_pairs(void **state)
{
        for (int from = 0; from < WORKER_STATE_MAX; from++)
                for (int to = 0; to < WORKER_STATE_MAX; to++) {
                        int expected = worker_expected[from][to] != '.' ? 0 : -EPERM;
                        assert_int_equal(state_check(&worker_states, from, to), expected);
                }
}

static void every_state_has_its_name(void **state)
{
        for (int i = 0; i < SESSION_STATE_MAX; i++)
                assert_string_not_equal(session_states.name(i), "?");
        for (int i = 0; i < WORKER_STATE_MAX; i++)
                assert_string_not_equal(worker_states.name(i), "?");
        assert_string_equal(worker_state_name(WORKER_STATE_MAX), "?");
}

static void ended_states_only_begin_again(void **state)
{
        for (int s = 0; s < SESSION_STATE_MAX; s++) {
                struct session session = { .state = (enum session_state) s };
                bool end = s == SESSION_STATE_FINISHED || s == SESSION_STATE_STOPPED ||
                           s == SESSION_STATE_FAILED;
                assert_int_equal(session_ended(&session), end);
        }
}

static void ids(void **state)
{
        static const char *const good[] = { "a", "my.agent-1", "A_b", "0" };
        static const char *const bad[] = {
                "", ".", ".a", "a b", "a/b", "a\"", "a\x1f", "ü", "a\n"
        };
        char longest[66];

        for (size_t i = 0; i < ARRAY_LEN(good); i++)
                assert_true(session_id_valid(good[i]));
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_false(session_id_valid(bad[i]));
        memset(longest, 'x', sizeof(longest));
        longest[65] = 0;
        assert_false(session_id_valid(longest));
        longest[64] = 0;
        assert_true(session_id_valid(longest));
}

static void queue_is_ordered_and_table_forgets(void **state)
{
        struct sessions t;
        struct session *s[50];
        uint64_t before = 0;
        struct session *it;

        sessions_init(&t);
        for (unsigned i = 0; i < ARRAY_LEN(s); i++) {
                char id[16];
                (void) snprintf(id, sizeof(id), "s%u", i);
                s[i] = sessions_get(&t, id);
                s[i]->exists = true;
                s[i]->queued_us = (i * 7919) % 101;
                session_place(s[i]);
        }
        assert_int_equal(t.n_queued, ARRAY_LEN(s));
        list_foreach (it, &t.queue, queue_link) {
                assert_true(it->queued_us >= before);
                before = it->queued_us;
        }
        for (unsigned i = 0; i < ARRAY_LEN(s); i++)
                (void) session_unref(s[i]);
        assert_int_equal(map_count(t.by_id), ARRAY_LEN(s)); /* queued: it stays */
        for (unsigned i = 0; i < ARRAY_LEN(s); i++) {
                session_ref(s[i])->state = SESSION_STATE_IDLE;
                session_place(s[i]);
                (void) session_unref(s[i]);
        }
        assert_int_equal(t.n_queued, 0);
        assert_int_equal(map_count(t.by_id), 0);
        sessions_done(&t);
}

static void recent_appends_are_a_ring(void **state)
{
        struct sessions t;
        char idem[16];

        sessions_init(&t);
        struct session *s = sessions_get(&t, "s");
        for (unsigned i = 0; i < 3 * SESSION_RECENT; i++) {
                (void) snprintf(idem, sizeof(idem), "i%u", i);
                session_remember(s, idem, i + 100, i, i + 1);
                assert_int_equal(session_recent(s, idem)->last_seq, i + 1);
        }
        assert_null(session_recent(s, "i0"));
        (void) snprintf(idem, sizeof(idem), "i%u", 2U * SESSION_RECENT);
        assert_int_equal(session_recent(s, idem)->first_seq, 2 * SESSION_RECENT);
        (void) session_unref(s);
        sessions_done(&t);
}

/* A day goes by on the clock in a moment: the session has not run for a day. */
static void a_clock_that_is_set_is_no_time_of_work(void **state)
{
        struct sessions t;

        sessions_init(&t);
        struct session *s = sessions_get(&t, "s");
        struct hub_batch *b = batch_new(1, 1, 0, 0);
        hub_session_insert(b, s);
        session_set_first_state(s, b, SESSION_STATE_RUNNING);
        b->now_us += 24 * 3600 * USEC_PER_SEC;
        assert_int_equal(session_set_state(s, b, SESSION_STATE_IDLE, "test"), 0);
        assert_true(s->run_us < 60 * USEC_PER_SEC);
        assert_int_equal(s->running_since_us, 0);
        /* What ran before this coordinator began has only the clock to tell. */
        s->running_since_us = b->now_us;
        s->state = SESSION_STATE_RUNNING;
        b->now_us += 7 * USEC_PER_SEC;
        uint64_t before = s->run_us;
        assert_int_equal(session_set_state(s, b, SESSION_STATE_IDLE, "test"), 0);
        assert_int_equal(s->run_us - before, 7 * USEC_PER_SEC);
        batch_free(b);
        (void) session_unref(s);
        sessions_done(&t);
}

static void batches_are_in_the_order_of_time(void **state)
{
        struct hub_batch *a = batch_new(1, 1, 0, 0);
        uint64_t ahead = a->now_us + 5 * USEC_PER_SEC, far = a->now_us + 3600 * USEC_PER_SEC;
        struct hub_batch *b = batch_new(1, 2, 0, ahead), *c = batch_new(1, 3, 0, far);

        assert_int_equal(b->now_us, ahead + 1);
        assert_true(c->now_us < far); /* put back by an hour: it is an hour earlier */
        batch_free(a);
        batch_free(b);
        batch_free(c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sessions_all_pairs),
                cmocka_unit_test(workers_all_pairs),
                cmocka_unit_test(every_state_has_its_name),
                cmocka_unit_test(ended_states_only_begin_again),
                cmocka_unit_test(ids),
                cmocka_unit_test(a_clock_that_is_set_is_no_time_of_work),
                cmocka_unit_test(batches_are_in_the_order_of_time),
                cmocka_unit_test(queue_is_ordered_and_table_forgets),
                cmocka_unit_test(recent_appends_are_a_ring),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
