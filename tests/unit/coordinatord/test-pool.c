/* The pool: rules by example, then properties over random workers. */
#include "unit.h"

#include "coordinatord/pool.h"

static const struct pool_limits limits = { .min = 1, .max = 4, .spare = 1, .idle_usec = 100 };

static struct pool_worker is_free(unsigned number, uint64_t since)
{
        return (struct pool_worker){
                .number = number, .usable = true, .there = true, .free_since = since
        };
}

static struct pool_worker is_busy(unsigned number)
{
        return (struct pool_worker){
                .number = number, .usable = true, .there = true, .busy = true
        };
}

static void starts_what_is_missing(void **state)
{
        struct pool_plan p;
        struct pool_worker w[4] = { is_busy(1), is_busy(3) };

        pool_plan(NULL, 0, 0, &limits, 1000, &p);
        assert_int_equal(p.n_start, 1);
        assert_int_equal(p.start[0], 1);
        pool_plan(w, 2, 0, &limits, 1000, &p); /* one spare: the lowest number nobody has */
        assert_int_equal(p.n_start, 1);
        assert_int_equal(p.start[0], 2);
        pool_plan(w, 2, 9, &limits, 1000, &p); /* never more than max */
        assert_int_equal(p.n_start, 2);
        assert_int_equal(p.start[1], 4);
        w[2] = (struct pool_worker){ .number = 2, .starting = true };
        pool_plan(w, 3, 0, &limits, 1000, &p);
        assert_int_equal(p.n_start, 0);
        w[2] = (struct pool_worker){ .number = 2, .there = true }; /* broken: takes a place */
        pool_plan(w, 3, 5, &limits, 1000, &p);
        assert_int_equal(p.n_start, 1);
        assert_int_equal(p.start[0], 4);
}

static void stops_what_is_idle(void **state)
{
        struct pool_plan p;
        struct pool_worker w[4] = { is_free(1, 0), is_free(2, 0), is_busy(3), is_free(4, 950) };

        pool_plan(w, 4, 0, &limits, 1000, &p); /* wanted 2; 4 is too young, 1 stays as the spare */
        assert_int_equal(p.n_stop, 1);
        assert_int_equal(p.stop[0], 2);
        pool_plan(w, 4, 0, &limits, 1050, &p);
        assert_int_equal(p.n_stop, 2);
        assert_int_equal(p.stop[0], 4);
        w[1].needed = true; /* keeps what a target wants */
        pool_plan(w, 4, 0, &limits, 1050, &p);
        assert_int_equal(p.n_stop, 2);
        assert_int_equal(p.stop[1], 1);
        w[1].needed = false;
        pool_plan(w, 4, 2, &limits, 1000, &p); /* they are waited for */
        assert_int_equal(p.n_stop, 0);
        w[2] = is_free(3, 0);
        pool_plan(w, 1, 0, &limits, 1000, &p); /* the last one is min */
        assert_int_equal(p.n_stop + p.n_start, 0);
        pool_plan(w, 4, 0, &(struct pool_limits){ .idle_usec = 1 }, 1000, &p); /* not ours */
        assert_int_equal(p.n_stop + p.n_start, 0);
}

static void holds_for_any(void **state)
{
        unsigned seed = 1;

        for (int round = 0; round < 20000; round++) {
                struct pool_worker w[12];
                struct pool_plan p;
                size_t n = 0, left = 0;
                struct pool_limits l = { .min = (uint64_t) rand_r(&seed) % 5,
                                         .max = (uint64_t) rand_r(&seed) % 13,
                                         .spare = (uint64_t) rand_r(&seed) % 4,
                                         .idle_usec = 500 };
                for (unsigned number = 1; number <= 12; number++) {
                        int what = rand_r(&seed) % 5;
                        if (what == 0)
                                continue;
                        w[n] = what == 1 ? is_busy(number)
                                         : is_free(number, (uint64_t) rand_r(&seed) % 1000);
                        if (what == 2)
                                w[n] = (struct pool_worker){ .number = number, .starting = true };
                        if (what == 3)
                                w[n].usable = false;
                        w[n].needed = what != 1 && rand_r(&seed) % 3 == 0;
                        n++;
                }
                pool_plan(w, n, (size_t) rand_r(&seed) % 6, &l, 1000, &p);
                assert_true(p.n_start == 0 || p.n_stop == 0);
                for (size_t i = 0; i < n; i++) {
                        left += w[i].there || w[i].starting;
                        for (size_t k = 0; k < p.n_stop; k++)
                                assert_false(
                                        w[i].number == p.stop[k] &&
                                        (w[i].busy || w[i].needed || w[i].free_since + 500 > 1000));
                        for (size_t k = 0; k < p.n_start; k++)
                                assert_false(w[i].number == p.start[k] &&
                                             (w[i].there || w[i].starting));
                }
                for (size_t k = 0; k < p.n_start; k++)
                        assert_true(p.start[k] >= 1 && p.start[k] <= l.max);
                assert_true(p.n_start == 0 || left + p.n_start <= l.max);
                assert_true(p.n_stop == 0 || left - p.n_stop >= MIN(l.min, l.max));
                assert_true(l.max > 0 || p.n_start + p.n_stop == 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(starts_what_is_missing),
                cmocka_unit_test(stops_what_is_idle),
                cmocka_unit_test(holds_for_any),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
