/* Trace contexts: the header `traceparent`, scopes. */
#include "common/base/trace.h"
#include "unit.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static void headers(void **state)
{
        static const struct {
                const char *text;
                int r;
                bool sampled;
        } table[] = {
                { "00-" TRACE "-" SPAN "-01", 0, true },
                { "00-" TRACE "-" SPAN "-00", 0, false },
                { "00-" TRACE "-" SPAN "-ff", 0, true },
                { "cc-" TRACE "-" SPAN "-03", 0, true },           /* a version to come */
                { "cc-" TRACE "-" SPAN "-01-what-ever", 0, true }, /* which may say more */
                { "cc-" TRACE "-" SPAN "-01.what-ever", -EINVAL, false },
                { "ff-" TRACE "-" SPAN "-01", -EINVAL, false },
                { "00-" TRACE "-" SPAN "-01-", -EINVAL, false },
                { "00-" TRACE "-" SPAN "-01-more", -EINVAL, false },
                { "00-" TRACE "-" SPAN "-1", -EINVAL, false },
                { "00-" TRACE "-" SPAN "-", -EINVAL, false },
                { "00-" TRACE "-" SPAN, -EINVAL, false },
                { "00-" TRACE, -EINVAL, false },
                { "00", -EINVAL, false },
                { "", -EINVAL, false },
                { "0-" TRACE "-" SPAN "-01", -EINVAL, false },
                { "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01", -EINVAL, false },
                { "00-" TRACE "-00F067AA0BA902B7-01", -EINVAL, false },
                { "00-00000000000000000000000000000000-" SPAN "-01", -EINVAL, false },
                { "00-" TRACE "-0000000000000000-01", -EINVAL, false },
                { "00-" TRACE "0-" SPAN "-01", -EINVAL, false },
                { "00-" TRACE "-" SPAN "-0g", -EINVAL, false },
                { " 00-" TRACE "-" SPAN "-01", -EINVAL, false },
                { "00_" TRACE "_" SPAN "_01", -EINVAL, false },
        };
        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                struct trace_context c = { 0 };
                char text[TRACEPARENT_MAX], id[TRACE_ID_HEX];
                print_message("# %s\n", table[i].text);
                assert_int_equal(traceparent_parse(table[i].text, &c), table[i].r);
                assert_true(trace_is_set(&c) == (table[i].r == 0));
                if (table[i].r < 0)
                        continue;
                assert_true(c.sampled == table[i].sampled);
                hex_encode(c.trace, sizeof(c.trace), id);
                assert_string_equal(id, TRACE);
                traceparent_format(&c, text);
                assert_string_equal(text, table[i].sampled ? "00-" TRACE "-" SPAN "-01"
                                                           : "00-" TRACE "-" SPAN "-00");
        }
        /* Cut anywhere it is none, and nothing behind its end is read. */
        static const char whole[] = "00-" TRACE "-" SPAN "-01";
        for (size_t n = 0; n + 1 < sizeof(whole); n++) {
                cleanup_free char *part = xstrndup(whole, n);
                struct trace_context c;
                assert_int_equal(traceparent_parse(part, &c), -EINVAL);
        }
}

static void scopes(void **state)
{
        struct trace_context c;
        assert_null(trace_current());
        assert_int_equal(traceparent_parse("00-" TRACE "-" SPAN "-01", &c), 0);
        {
                TRACE_SCOPE(&c);
                memset(&c, 1, sizeof(c)); /* it was copied */
                assert_non_null(trace_current());
                assert_int_equal(trace_current()->trace[0], 0x4b);
                {
                        TRACE_SCOPE(&c);
                        assert_int_equal(trace_current()->trace[0], 1);
                        TRACE_SCOPE(NULL);
                        assert_null(trace_current());
                }
                assert_int_equal(trace_current()->trace[0], 0x4b);
                TRACE_SCOPE(&(struct trace_context){ 0 });
                assert_null(trace_current());
        }
        assert_null(trace_current());
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(headers),
                cmocka_unit_test(scopes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
