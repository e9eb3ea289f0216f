/* The worker thread: results come back on the loop, long jobs let short ones pass, the queue is
 * bounded. */
#include <pthread.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/io/jobs.h"

struct counter {
        struct job job;
        int turns, result, seen;
        struct counter *first; /* what must be done before this one ends */
        bool done;
        pthread_mutex_t *gate;
};

static int run_counter(struct job *j)
{
        struct counter *c = container_of(j, struct counter, job);
        if (c->gate) {
                (void) pthread_mutex_lock(c->gate);
                (void) pthread_mutex_unlock(c->gate);
        }
        return --c->turns > 0 ? 1 : c->result;
}

static void counter_done(struct job *j, int r)
{
        struct counter *c = container_of(j, struct counter, job);
        assert_false(c->done);
        assert_true(!c->first || c->first->done);
        c->done = true;
        c->seen = r;
}

static struct counter counter(int turns, int result)
{
        return (struct counter){ .job = { .run = run_counter, .done = counter_done },
                                 .turns = turns,
                                 .result = result };
}

static void run_until(sd_event *e, const bool *done)
{
        while (!*done)
                assert_true(sd_event_run(e, 10 * USEC_PER_SEC) > 0);
}

static void test_results_come_back(void **state)
{
        sd_event *e = NULL;
        CLEANUP(jobs_freep) struct jobs *q = NULL;
        assert_true(sd_event_new(&e) >= 0);
        assert_int_equal(jobs_new(e, 4, &q), 0);
        struct counter a = counter(1, 0), b = counter(3, -EIO);
        assert_int_equal(jobs_submit(q, &a.job), 0);
        assert_int_equal(jobs_submit(q, &b.job), 0);
        run_until(e, &a.done);
        run_until(e, &b.done);
        assert_int_equal(a.seen, 0);
        assert_int_equal(b.seen, -EIO);
        assert_int_equal(jobs_count(q), 0);
        q = jobs_free(q);
        sd_event_unref(e);
}

static void test_short_jobs_pass_long_ones(void **state)
{
        sd_event *e = NULL;
        CLEANUP(jobs_freep) struct jobs *q = NULL;
        pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
        assert_true(sd_event_new(&e) >= 0);
        assert_int_equal(jobs_new(e, 4, &q), 0);
        struct counter slow = counter(50, 0), quick = counter(1, 0);
        slow.gate = &gate;
        slow.first = &quick;
        (void) pthread_mutex_lock(&gate); /* until both are in the queue */
        assert_int_equal(jobs_submit(q, &slow.job), 0);
        assert_int_equal(jobs_submit(q, &quick.job), 0);
        (void) pthread_mutex_unlock(&gate);
        run_until(e, &slow.done);
        assert_true(quick.done);
        q = jobs_free(q);
        sd_event_unref(e);
}

static void test_bounded_and_ended(void **state)
{
        sd_event *e = NULL;
        struct jobs *q = NULL;
        pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
        assert_true(sd_event_new(&e) >= 0);
        assert_int_equal(jobs_new(e, 2, &q), 0);
        struct counter endless = counter(INT32_MAX, 0), b = counter(INT32_MAX, 0),
                       c = counter(1, 0);
        endless.gate = &gate;
        (void) pthread_mutex_lock(&gate);
        assert_int_equal(jobs_submit(q, &endless.job), 0);
        assert_int_equal(jobs_submit(q, &b.job), 0);
        assert_int_equal(jobs_submit(q, &c.job), -EAGAIN);
        (void) pthread_mutex_unlock(&gate);
        jobs_free(q);
        assert_true(endless.done && b.done && !c.done);
        assert_int_equal(endless.seen, -ECANCELED);
        assert_int_equal(b.seen, -ECANCELED);
        sd_event_unref(e);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_results_come_back),
                cmocka_unit_test(test_short_jobs_pass_long_ones),
                cmocka_unit_test(test_bounded_and_ended),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
