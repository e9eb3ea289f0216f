/* Rates, scopes, and whom to believe about addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gatewayd/proxies.h"
#include "gatewayd/rate.h"
#include "gatewayd/rights.h"

static void rate_allows_a_burst_then_its_rate(void **state)
{
        struct rate_table *t = rate_table_new(3);
        const struct rate_limit l = { 10, 5 };
        uint64_t now = 1000 * USEC_PER_SEC;

        for (size_t i = 0; i < 5; i++) {
                struct rate_verdict v = rate_take(t, "a", &l, now);
                assert_true(v.allowed);
                assert_int_equal(v.limit, 5);
                assert_int_equal(v.remaining, 4 - i);
        }
        struct rate_verdict no = rate_take(t, "a", &l, now);
        assert_false(no.allowed);
        assert_int_equal(no.retry_usec, 100 * USEC_PER_MSEC);
        assert_int_equal(no.remaining, 0);
        assert_false(rate_take(t, "a", &l, now + no.retry_usec - 1).allowed);
        assert_true(rate_look(t, "a", &l, now + no.retry_usec).allowed);
        assert_true(rate_take(t, "a", &l, now + no.retry_usec).allowed);
        assert_false(rate_take(t, "a", &l, now + no.retry_usec).allowed);
        assert_true(rate_take(t, "b", &l, now).allowed);
        /* One day later the whole burst is there, no more. */
        now += 86400 * USEC_PER_SEC;
        for (size_t i = 0; i < 5; i++)
                assert_true(rate_take(t, "a", &l, now).allowed);
        assert_false(rate_take(t, "a", &l, now).allowed);
        /* The table is bounded: who asked longest ago is forgotten. */
        assert_true(rate_take(t, "c", &l, now).allowed);
        assert_true(rate_take(t, "d", &l, now).allowed);
        assert_int_equal(rate_table_keys(t), 3);
        /* No limit, no key. */
        assert_true(rate_take(t, "e", &(struct rate_limit){ 0, 1 }, now).allowed);
        assert_int_equal(rate_table_keys(t), 3);
        (void) rate_table_free(t);
}

static void rate_over_time_is_the_rate(void **state)
{
        struct rate_table *t = rate_table_new(10);
        const struct rate_limit l = { 100, 10 };
        uint64_t allowed = 0;

        for (uint64_t us = 0; us < 10 * USEC_PER_SEC; us += 1000)
                allowed += rate_take(t, "k", &l, USEC_PER_SEC + us).allowed;
        assert_in_range(allowed, 1000, 1010);
        (void) rate_table_free(t);
}

static const char *client(const char *trusted, const char *peer, const char *header)
{
        static char out[64];
        struct proxies *p = NULL;
        char *bad = NULL;
        struct span rest = span_of(header);

        assert_int_equal(proxies_new(trusted, &p, &bad), 0);
        (void) snprintf(out, sizeof(out), "%s", peer);
        while (proxies_step(p, &rest, out)) {
        }
        (void) proxies_free(p);
        return out;
}

static void only_trusted_proxies_are_believed(void **state)
{
        static const struct {
                const char *trusted, *peer, *header, *client;
        } cases[] = {
                { "", "127.0.0.1", "1.2.3.4", "127.0.0.1" },
                { "10.0.0.1", "127.0.0.1", "1.2.3.4", "127.0.0.1" },
                { "127.0.0.1", "127.0.0.1", "1.2.3.4", "1.2.3.4" },
                { "127.0.0.1", "127.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4" },
                { "127.0.0.1,10.0.0.0/8", "127.0.0.1", "6.6.6.6, 1.2.3.4, 10.9.8.7", "1.2.3.4" },
                { "127.0.0.1, 10.0.0.0/8", "127.0.0.1", "10.1.1.1, 10.9.8.7", "10.1.1.1" },
                { "127.0.0.1", "127.0.0.1", "", "127.0.0.1" },
                { "127.0.0.1", "127.0.0.1", "nonsense", "127.0.0.1" },
                { "127.0.0.1", "127.0.0.1", "1.2.3.4, nonsense", "127.0.0.1" },
                { "127.0.0.1", "127.0.0.1", "1.2.3.4,", "127.0.0.1" },
                { "127.0.0.1", "127.0.0.1", "1.2.3.4:80", "127.0.0.1" },
                { "127.0.0.1", "127.0.0.1", "999.2.3.4", "127.0.0.1" },
                { "127.0.0.1", "127.0.0.1", " \t 1.2.3.4 ", "1.2.3.4" },
                { "::1", "::1", "2001:db8::5", "2001:db8::5" },
                { "127.0.0.1", "::ffff:127.0.0.1", "1.2.3.4", "1.2.3.4" },
                { "2001:db8::/33", "2001:db8:7fff::1", "1.2.3.4", "1.2.3.4" },
                { "2001:db8::/33", "2001:db8:8000::1", "1.2.3.4", "2001:db8:8000::1" },
                { "192.168.0.0/23", "192.168.1.255", "1.2.3.4", "1.2.3.4" },
                { "192.168.0.0/23", "192.168.2.0", "1.2.3.4", "192.168.2.0" },
                { "unix", "unix", "1.2.3.4", "1.2.3.4" },
                { "127.0.0.1", "unix", "1.2.3.4", "unix" },
        };
        static const char *const wrong[] = { "x",          "1.2.3",    "0.0.0.0/0",  "::/0",
                                             "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "localhost" };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                assert_string_equal(client(cases[i].trusted, cases[i].peer, cases[i].header),
                                    cases[i].client);
        for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
                struct proxies *p = NULL;
                cleanup_free char *bad = NULL;
                assert_int_equal(proxies_new(wrong[i], &p, &bad), -EINVAL);
                assert_string_equal(bad, wrong[i]);
        }
}

static void scopes_and_roles(void **state)
{
        const struct route read_sessions = { HTTP_GET, "/sessions" };
        const struct route stop = { HTTP_POST, "/sessions/{id}/stop", .role = ROLE_OPERATOR };
        const struct route put = { HTTP_POST, "/documents", .role = ROLE_OPERATOR };
        const struct route search = { HTTP_POST, "/documents/search" };
        const struct route drain = { HTTP_POST, "/workers/{id}/drain", .role = ROLE_ADMIN };
        const struct route odd = { HTTP_GET, "/documentsx" };
        struct principal who = { .tenant = "default", .role = ROLE_OPERATOR };
        uint32_t one;

        assert_int_equal(rights_area_of(&put), AREA_DOCUMENTS);
        assert_int_equal(rights_area_of(&odd), AREA_SESSIONS);
        assert_null(rights_refusal(&who, &stop));
        who.scopes = rights_scopes_of("{sessions:read,documents:read}");
        assert_null(rights_refusal(&who, &read_sessions));
        assert_non_null(rights_refusal(&who, &stop));
        assert_non_null(rights_refusal(&who, &put));
        assert_null(rights_refusal(&who, &search));
        /* What is not known gives nothing, and is not "no scopes". */
        who.scopes = rights_scopes_of("{everything}");
        assert_int_not_equal(who.scopes, 0);
        assert_non_null(rights_refusal(&who, &read_sessions));
        assert_int_equal(rights_scopes_of("{}"), 0);
        assert_int_equal(rights_scope_parse("sessions", &one), -EINVAL);
        assert_int_equal(rights_scope_parse("sessions:write", &one), 0);
        assert_true(one & SCOPE_READ(AREA_SESSIONS));
        who = (struct principal){ .tenant = "default", .role = ROLE_VIEWER };
        assert_non_null(rights_refusal(&who, &stop));
        who.role = ROLE_ADMIN;
        assert_null(rights_refusal(&who, &drain));
        (void) snprintf(who.tenant, sizeof(who.tenant), "other");
        assert_non_null(rights_refusal(&who, &drain));
        assert_false(rights_is_act(&search));
        assert_true(rights_is_act(&put));
        assert_false(rights_is_act(&read_sessions));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rate_allows_a_burst_then_its_rate),
                cmocka_unit_test(rate_over_time_is_the_rate),
                cmocka_unit_test(only_trusted_proxies_are_believed),
                cmocka_unit_test(scopes_and_roles),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
