/* What free workers keep ready: the setting, rules by example, then properties over random pools.
 */
#include "unit.h"

#include "coordinatord/warm.h"

#define KIND(k) (UINT32_C(1) << SLOT_KIND_##k)
#define D SLOT_KIND_DESKTOP
#define H SLOT_KIND_HEADLESS
#define V SLOT_KIND_VM

static const struct warm_limits limits = { .patience = 100, .hold = 500 };

static enum slot_kind keep[64];
static size_t serves[64];
static struct warm_count counts[WARM_TARGETS_MAX];

static struct warm_worker is_free(enum slot_kind keeps)
{
        return (struct warm_worker){ .kinds = KIND(DESKTOP) | KIND(HEADLESS),
                                     .image = "a",
                                     .keeps = keeps,
                                     .usable = true,
                                     .free = true,
                                     .tellable = true,
                                     .ready = true };
}

static struct warm_worker is_busy(enum slot_kind keeps)
{
        struct warm_worker w = is_free(keeps);
        w.free = w.ready = false;
        return w;
}

static void plan(const struct warm_target *t, size_t n_t, const struct warm_worker *w, size_t n)
{
        warm_plan(t, n_t, w, n, &limits, 1000, keep, serves, counts);
}

static void reads_the_setting(void **state)
{
        static const char *const wrong[] = {
                "desktop", "desktop:",   "desktop:x",     "desktop:1001",
                "room:1",  "external:1", "desktop@:1",    "desktop:1,desktop:2",
                ":1",      "desktop:-1", "desktop:1;vm:2"
        };
        struct warm_target t[WARM_TARGETS_MAX];
        size_t n = 99;
        char *error = NULL;

        assert_int_equal(warm_parse("", t, &n, &error), 0);
        assert_int_equal(n, 0);
        assert_int_equal(warm_parse(" desktop:2 , headless@code-12:0,vm : 1000", t, &n, &error), 0);
        assert_int_equal(n, 3);
        assert_int_equal(t[0].kind, D);
        assert_int_equal(t[0].wanted, 2);
        assert_string_equal(t[0].image, "");
        assert_int_equal(t[1].kind, H);
        assert_string_equal(t[1].image, "code-12");
        assert_int_equal(t[1].wanted, 0);
        assert_int_equal(t[2].kind, V);
        assert_int_equal(t[2].wanted, 1000);
        for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
                error = NULL;
                assert_int_equal(warm_parse(wrong[i], t, &n, &error), -EINVAL);
                assert_non_null(error);
                free(error);
        }
        char many[400] = "";
        for (int i = 0; i <= WARM_TARGETS_MAX; i++)
                (void) snprintf(many + strlen(many), sizeof(many) - strlen(many), "vm@i%d:1,", i);
        assert_int_equal(warm_parse(many, t, &n, &error), -EINVAL);
        free(error);
}

static void changes_no_more_than_needed(void **state)
{
        struct warm_target t[2] = { { .kind = D, .wanted = 2 }, { .kind = H, .wanted = 2 } };
        struct warm_worker w[5] = { is_free(D), is_free(D), is_free(D), is_free(H), is_free(V) };

        plan(t, 2, w, 4); /* one of three desktops */
        assert_int_equal((keep[0] == D) + (keep[1] == D) + (keep[2] == D), 2);
        assert_int_equal(keep[3], H);
        assert_int_equal(counts[0].lack, WARM_MET);
        assert_int_equal(counts[1].kept, 2);
        assert_int_equal(counts[1].ready, 1);
        assert_int_equal(counts[1].lack, WARM_MAKING);
        w[0].told_at = w[1].told_at = w[2].told_at = 900; /* not so soon again */
        plan(t, 2, w, 4);
        assert_int_equal(keep[0] == D && keep[1] == D && keep[2] == D, true);
        assert_int_equal(counts[1].lack, WARM_TOO_FEW);
        plan(t, 2, w, 5); /* the fifth can do it */
        assert_int_equal(keep[4], H);
        plan(t, 2, w, 0);
        assert_int_equal(counts[0].lack, WARM_NO_KIND);
}

static void shares_what_there_is(void **state)
{
        struct warm_target t[2] = { { .kind = D, .wanted = 3 }, { .kind = H, .wanted = 3 } };
        struct warm_worker w[3] = { is_free(D), is_free(D), is_busy(H) };

        plan(t, 2, w, 2); /* nobody keeps H; that has not lasted yet */
        assert_int_equal(keep[0] == D && keep[1] == D, true);
        t[1].empty_since = 950;
        plan(t, 2, w, 2);
        assert_int_equal(keep[0] == D && keep[1] == D, true);
        t[1].empty_since = 800;
        plan(t, 2, w, 3);
        assert_int_equal((keep[0] == H) + (keep[1] == H), 1);
        assert_int_equal(keep[2], H); /* its next one */
        assert_int_equal(serves[2], WARM_NONE);
        w[0] = is_free(V); /* nobody needs it: at once, and one for each in turn */
        w[1] = is_free(V);
        t[1].empty_since = 0;
        plan(t, 2, w, 2);
        assert_int_equal(keep[0], D);
        assert_int_equal(keep[1], H);
}

static void knows_who_can_do_what(void **state)
{
        struct warm_target t[2] = { { .kind = D, .wanted = 1 }, { .kind = H, .wanted = 1 } };
        struct warm_worker w[2] = { is_free(D), is_free(D) };

        w[1].kinds = KIND(DESKTOP); /* so the first must change */
        plan(t, 2, w, 2);
        assert_int_equal(keep[0], H);
        assert_int_equal(keep[1], D);
        w[0].tellable = false; /* an old one */
        plan(t, 2, w, 2);
        assert_int_equal(keep[0] == D && keep[1] == D, true);
        assert_int_equal(counts[1].lack, WARM_UNTAUGHT);
        w[0] = is_free(D);
        w[0].usable = false;
        w[0].out = true;
        plan(t, 2, w, 2);
        assert_int_equal(counts[1].lack, WARM_OUT);
        /* An image is asked for: only its worker will do, whatever comes first. */
        struct warm_target image[2] = { { .kind = D, .wanted = 1 },
                                        { .kind = D, .image = "b", .wanted = 1 } };
        w[0] = is_free(D);
        w[0].image = "b";
        w[1] = is_free(H);
        plan(image, 2, w, 2);
        assert_int_equal(serves[0], 1);
        assert_int_equal(keep[1], D);
        assert_int_equal(serves[1], 0);
}

static void lets_go_of_what_nobody_wants(void **state)
{
        struct warm_target t[2] = { { .kind = V, .wanted = 0 }, { .kind = D, .wanted = 1 } };
        struct warm_worker w[3] = { is_free(D), is_free(V), is_free(H) };

        plan(t, 2, w, 3);
        assert_int_equal(keep[1], D);
        assert_int_equal(keep[2], H); /* nothing is said of that */
        assert_int_equal(counts[1].kept, 1);
}

static void promises_to_those_in_use(void **state)
{
        struct warm_target t[2] = { { .kind = D, .wanted = 2 }, { .kind = H, .wanted = 1 } };
        struct warm_worker w[3] = { is_busy(D), is_busy(D), is_busy(D) };

        w[0].told_at = 999; /* costs nothing */
        w[1].told_at = 999;
        w[2].told_at = 999;
        plan(t, 2, w, 3);
        assert_int_equal((keep[0] == D) + (keep[1] == D) + (keep[2] == D), 2);
        assert_int_equal(keep[2], H);
        assert_int_equal(counts[0].kept + counts[1].kept, 0);
        assert_int_equal(counts[0].in_use, 3);
}

static void check_plan(const struct warm_target *t, size_t n_t, const struct warm_worker *w,
                       size_t n)
{
        size_t kept[WARM_TARGETS_MAX] = { 0 };

        for (size_t i = 0; i < n; i++) {
                if (keep[i] != w[i].keeps) {
                        assert_true(w[i].usable && w[i].tellable);
                        assert_true(w[i].kinds & (UINT32_C(1) << keep[i]));
                        assert_true(!w[i].free || w[i].told_at == 0 || w[i].told_at + 500 <= 1000);
                }
                if (serves[i] == WARM_NONE)
                        continue;
                assert_true(w[i].usable && w[i].free && keep[i] == t[serves[i]].kind);
                assert_true(!t[serves[i]].image[0] || streq(t[serves[i]].image, w[i].image));
                kept[serves[i]]++;
        }
        for (size_t k = 0; k < n_t; k++) {
                assert_int_equal(kept[k], counts[k].kept);
                assert_true(kept[k] <= t[k].wanted && counts[k].ready <= kept[k]);
                /* Nobody who could stands idle while a target lacks something. */
                for (size_t i = 0; i < n && kept[k] < t[k].wanted; i++)
                        assert_false(w[i].usable && w[i].free && w[i].tellable &&
                                     w[i].told_at == 0 && serves[i] == WARM_NONE &&
                                     (w[i].kinds & (UINT32_C(1) << t[k].kind)) &&
                                     (!t[k].image[0] || streq(t[k].image, w[i].image)));
        }
}

static void holds_for_any(void **state)
{
        unsigned seed = 1;

        for (int round = 0; round < 20000; round++) {
                struct warm_target t[4] = {
                        { .kind = D, .wanted = (size_t) rand_r(&seed) % 4 },
                        { .kind = H, .wanted = (size_t) rand_r(&seed) % 4 },
                        { .kind = V, .wanted = (size_t) rand_r(&seed) % 3 },
                        { .kind = D, .image = "b", .wanted = (size_t) rand_r(&seed) % 3 }
                };
                struct warm_worker w[12];
                size_t n = (size_t) rand_r(&seed) % 13, n_t = 1 + (size_t) rand_r(&seed) % 4;

                for (size_t k = 0; k < n_t; k++)
                        t[k].empty_since = rand_r(&seed) % 2 ? 1 : 0;
                for (size_t i = 0; i < n; i++) {
                        w[i] = (struct warm_worker){
                                .kinds = 1 + (uint32_t) rand_r(&seed) % 7,
                                .image = rand_r(&seed) % 2 ? "a" : "b",
                                .usable = rand_r(&seed) % 4 > 0,
                                .free = rand_r(&seed) % 2,
                                .tellable = rand_r(&seed) % 4 > 0,
                                .told_at = rand_r(&seed) % 2 ? 0 : (uint64_t) rand_r(&seed) % 1000,
                        };
                        while (!(w[i].kinds & (UINT32_C(1) << w[i].keeps)))
                                w[i].keeps = (enum slot_kind)(w[i].keeps + 1);
                        w[i].ready = w[i].free && rand_r(&seed) % 2;
                }
                plan(t, n_t, w, n);
                check_plan(t, n_t, w, n);
                /* What was decided stands: the same again changes nothing. */
                enum slot_kind before[12];
                size_t lacking = 0;
                for (size_t k = 0; k < n_t; k++)
                        lacking += counts[k].kept < t[k].wanted;
                for (size_t i = 0; i < n; i++)
                        w[i].keeps = before[i] = keep[i];
                plan(t, n_t, w, n);
                check_plan(t, n_t, w, n);
                for (size_t i = 0; i < n && lacking == 0; i++)
                        assert_int_equal(keep[i], before[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(reads_the_setting),
                cmocka_unit_test(changes_no_more_than_needed),
                cmocka_unit_test(shares_what_there_is),
                cmocka_unit_test(knows_who_can_do_what),
                cmocka_unit_test(lets_go_of_what_nobody_wants),
                cmocka_unit_test(promises_to_those_in_use),
                cmocka_unit_test(holds_for_any),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
