/* The scheduler: rules by example, then properties over random queues and workers. */
#include "unit.h"

#include "coordinatord/scheduler.h"

#define KIND(k) (UINT32_C(1) << SLOT_KIND_##k)

static struct sched_worker warm(enum slot_kind kind)
{
        return (struct sched_worker){
                .kinds = KIND(HEADLESS) | KIND(DESKTOP),
                .kind = kind,
                .state = SLOT_STATE_WARM,
                .usable = true,
        };
}

static void prefers_the_best_fit(void **state)
{
        struct sched_worker w[4] = { warm(SLOT_KIND_HEADLESS), warm(SLOT_KIND_DESKTOP),
                                     warm(SLOT_KIND_DESKTOP), warm(SLOT_KIND_HEADLESS) };
        struct sched_session s = { .kind = SLOT_KIND_DESKTOP, .width = 1024, .height = 768 };
        struct sched_result r;

        w[2].width = 1024;
        w[2].height = 768;
        w[3].state = SLOT_STATE_COLD;
        static const size_t order[] = { 2, 1, 3, 0 };
        for (size_t i = 0; i < ARRAY_LEN(order); i++) {
                scheduler_run(&s, 1, w, 4, 100, 0, &r);
                assert_int_equal(r.n_assign, 1);
                assert_int_equal(r.assign[0].worker, order[i]);
                w[order[i]].taken = true;
                sched_result_done(&r);
        }
        scheduler_run(&s, 1, w, 4, 100, 0, &r);
        assert_int_equal(r.n_assign, 0);
        sched_result_done(&r);
}

static void a_worker_serves_its_own_image_only(void **state)
{
        struct sched_worker w[3] = { warm(SLOT_KIND_HEADLESS), warm(SLOT_KIND_HEADLESS),
                                     warm(SLOT_KIND_HEADLESS) };
        struct sched_session s = { .kind = SLOT_KIND_HEADLESS, .image = "code-2" };
        struct sched_result r;

        w[0].image = "desktop-1";
        w[1].image = "code-2";
        w[2].image = "code-3";
        scheduler_run(&s, 1, w, 3, 100, 0, &r);
        assert_int_equal(r.n_assign, 1);
        assert_int_equal(r.assign[0].worker, 1);
        sched_result_done(&r);
        w[1].taken = true; /* neither is waited for what is no use, nor is it taken from anybody */
        w[0].coming = w[2].coming = true;
        w[2].idle_since = 1;
        scheduler_run(&s, 1, w, 3, 100, 0, &r);
        assert_int_equal(r.n_assign + r.n_evict, 0);
        sched_result_done(&r);
        w[1].idle_since = 1;
        scheduler_run(&s, 1, w, 3, 100, 0, &r);
        assert_int_equal(r.n_evict, 1);
        assert_int_equal(r.evict[0], 1);
        sched_result_done(&r);
}

static void one_that_nobody_serves_holds_nobody_up(void **state)
{
        struct sched_worker w = warm(SLOT_KIND_HEADLESS);
        struct sched_session s[2] = { { .kind = SLOT_KIND_VM, .queued_us = 1 },
                                      { .kind = SLOT_KIND_HEADLESS, .queued_us = 2 } };
        struct sched_result r;

        scheduler_run(s, 2, &w, 1, 100, 0, &r);
        assert_int_equal(r.n_assign, 1);
        assert_int_equal(r.assign[0].session, 1);
        sched_result_done(&r);
}

static void idle_sessions_give_way_after_a_while(void **state)
{
        struct sched_worker w[2] = { warm(SLOT_KIND_HEADLESS), warm(SLOT_KIND_HEADLESS) };
        struct sched_session s = { .kind = SLOT_KIND_HEADLESS };
        struct sched_result r;

        for (size_t i = 0; i < 2; i++) {
                w[i].taken = true;
                w[i].state = SLOT_STATE_BUSY;
                w[i].idle_since = 1000 + 10 * (1 - i);
        }
        scheduler_run(&s, 1, w, 2, 1020, 50, &r);
        assert_int_equal(r.n_evict, 0);
        assert_int_equal(r.wake_at, 1050); /* the longest idle: worker 1 */
        sched_result_done(&r);
        scheduler_run(&s, 1, w, 2, 1050, 50, &r);
        assert_int_equal(r.n_evict, 1);
        assert_int_equal(r.evict[0], 1);
        sched_result_done(&r);
        w[0].coming = true; /* being reset: wait for that one */
        w[0].idle_since = 0;
        scheduler_run(&s, 1, w, 2, 1050, 50, &r);
        assert_int_equal(r.n_evict, 0);
        sched_result_done(&r);
}

static void refusing_worker_gets_a_pause(void **state)
{
        struct sched_worker w = warm(SLOT_KIND_HEADLESS);
        struct sched_session s = { .kind = SLOT_KIND_HEADLESS };
        struct sched_result r;

        w.not_before = 500;
        scheduler_run(&s, 1, &w, 1, 499, 0, &r);
        assert_int_equal(r.n_assign, 0);
        assert_int_equal(r.wake_at, 500);
        sched_result_done(&r);
        scheduler_run(&s, 1, &w, 1, 500, 0, &r);
        assert_int_equal(r.n_assign, 1);
        sched_result_done(&r);
}

/* ---- properties ---- */

static uint64_t seed = 88172645463325252;
static unsigned pick(unsigned n)
{
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        return (unsigned) (seed % n);
}

static struct sched_worker random_worker(void)
{
        struct sched_worker w = {
                .kinds = 1 + pick(7),
                .kind = pick(3),
                .state = pick(SLOT_STATE_MAX),
                .width = pick(2) * 800,
                .usable = pick(5) > 0,
                .taken = pick(3) == 0,
                .coming = pick(4) == 0,
                .free_since = pick(50),
                .not_before = pick(4) == 0 ? pick(200) : 0,
        };
        w.idle_since = w.taken && pick(2) ? 1 + pick(150) : 0;
        return w;
}

static bool could_take(const struct sched_session *s, const struct sched_worker *w, uint64_t now)
{
        return w->usable && !w->taken && (w->kinds & (1U << s->kind)) && w->not_before <= now &&
               (w->state == SLOT_STATE_WARM || w->state == SLOT_STATE_COLD);
}

static void check_plan(const struct sched_session *s, size_t ns, const struct sched_worker *w,
                       size_t nw, uint64_t now, uint64_t hold, const struct sched_result *r)
{
        bool placed[40] = { 0 }, used[40] = { 0 };

        for (size_t i = 0; i < r->n_assign; i++) {
                size_t a = r->assign[i].session, b = r->assign[i].worker;
                assert_true(a < ns && b < nw);
                assert_false(placed[a]); /* no session twice */
                assert_false(used[b]);   /* no worker twice */
                placed[a] = used[b] = true;
                assert_true(could_take(&s[a], &w[b], now));
        }
        for (size_t i = 0; i < r->n_evict; i++) {
                size_t b = r->evict[i];
                assert_false(used[b]);
                used[b] = true;
                assert_true(w[b].usable && w[b].taken && w[b].idle_since &&
                            w[b].idle_since + hold <= now);
        }
        for (size_t a = 0; a < ns; a++) {
                for (size_t b = 0; b < nw && !placed[a]; b++) /* no work is left lying */
                        assert_false(!used[b] && could_take(&s[a], &w[b], now));
                for (size_t z = 0; z < ns && !placed[a]; z++) /* first come, first served */
                        if (placed[z] && s[z].kind == s[a].kind)
                                assert_true(s[z].queued_us < s[a].queued_us ||
                                            (s[z].queued_us == s[a].queued_us && z < a));
        }
        assert_true(r->wake_at == 0 || r->wake_at > now);
}

static void properties(void **state)
{
        for (unsigned round = 0; round < 20000; round++) {
                struct sched_session s[40];
                struct sched_worker w[40];
                size_t ns = pick(40), nw = pick(40);
                uint64_t now = 100, hold = pick(100);
                struct sched_result r;
                for (size_t i = 0; i < ns; i++)
                        s[i] = (struct sched_session){ .kind = pick(3),
                                                       .width = pick(2) * 800,
                                                       .queued_us = pick(30) };
                for (size_t i = 0; i < nw; i++)
                        w[i] = random_worker();
                scheduler_run(s, ns, w, nw, now, hold, &r);
                check_plan(s, ns, w, nw, now, hold, &r);
                sched_result_done(&r);
        }
}

/* One tenant queued three before the other's one, and holds a slot: the other comes first. */
static void tenants_take_turns(void **state)
{
        struct sched_worker w[3] = { warm(SLOT_KIND_HEADLESS), warm(SLOT_KIND_HEADLESS),
                                     warm(SLOT_KIND_HEADLESS) };
        struct sched_session s[4];
        struct sched_result r;

        for (size_t i = 0; i < 4; i++)
                s[i] = (struct sched_session){ .kind = SLOT_KIND_HEADLESS,
                                               .queued_us = i,
                                               .tenant = i < 3 ? "many" : "few",
                                               .slots_max = UINT64_MAX };
        w[0].taken = true;
        w[0].state = SLOT_STATE_BUSY;
        w[0].tenant = "many";
        w[1].taken = true;
        w[1].state = SLOT_STATE_BUSY;
        scheduler_run(s, 4, w, 3, 100, 0, &r);
        assert_int_equal(r.n_assign, 1);
        assert_int_equal(r.assign[0].session, 3);
        sched_result_done(&r);
}

static void a_tenant_keeps_to_its_slots(void **state)
{
        struct sched_worker w[3] = { warm(SLOT_KIND_HEADLESS), warm(SLOT_KIND_HEADLESS),
                                     warm(SLOT_KIND_HEADLESS) };
        struct sched_session s[3];
        struct sched_result r;

        /* The first of them waits for a kind that nobody has: it takes no place in the limit. */
        for (size_t i = 0; i < 3; i++)
                s[i] = (struct sched_session){ .kind = i == 0 ? SLOT_KIND_VM : SLOT_KIND_HEADLESS,
                                               .queued_us = i,
                                               .tenant = "a",
                                               .slots_max = 1 };
        scheduler_run(s, 3, w, 3, 100, 0, &r);
        assert_int_equal(r.n_assign, 1);
        assert_int_equal(r.assign[0].session, 1);
        sched_result_done(&r);
        /* At the limit, its own idle session gives way, nobody else's. */
        w[0].taken = w[1].taken = true;
        w[0].tenant = "b";
        w[0].idle_since = 1;
        w[1].tenant = "a";
        w[1].idle_since = 2;
        scheduler_run(s + 1, 2, w, 3, 100, 0, &r);
        assert_int_equal(r.n_assign, 0);
        assert_int_equal(r.n_evict, 1);
        assert_int_equal(r.evict[0], 1);
        sched_result_done(&r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(prefers_the_best_fit),
                cmocka_unit_test(a_worker_serves_its_own_image_only),
                cmocka_unit_test(one_that_nobody_serves_holds_nobody_up),
                cmocka_unit_test(idle_sessions_give_way_after_a_while),
                cmocka_unit_test(refusing_worker_gets_a_pause),
                cmocka_unit_test(tenants_take_turns),
                cmocka_unit_test(a_tenant_keeps_to_its_slots),
                cmocka_unit_test(properties),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
