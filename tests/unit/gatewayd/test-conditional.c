/* ETags, ranges and the names under which documents are saved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gatewayd/conditional.h"

static void test_if_none_match(void **state)
{
        static const struct {
                const char *header;
                bool want;
        } cases[] = {
                { NULL, false },
                { "", false },
                { "*", true },
                { "\"abc\"", true },
                { "W/\"abc\"", true },
                { "\"x\", \"abc\"", true },
                { "\"x\" ,W/\"y\",\t\"abc\" ,\"z\"", true },
                { "\"x\"", false },
                { "abc", false },
                { "\"abc", false },
                { "\"x\" \"abc\"", false },
                { "\"abcd\"", false },
                { "\"ABC\"", false },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                assert_int_equal(etag_listed(cases[i].header, "abc"), cases[i].want);
}

static void test_if_match(void **state)
{
        char tag[8];
        assert_int_equal(etag_single(NULL, tag, sizeof(tag)), 0);
        assert_int_equal(etag_single("*", tag, sizeof(tag)), 0);
        assert_int_equal(etag_single(" \"abc\" ", tag, sizeof(tag)), 1);
        assert_string_equal(tag, "abc");
        assert_int_equal(etag_single("\"a\", \"b\"", tag, sizeof(tag)), -ENOTSUP);
        assert_int_equal(etag_single("W/\"a\"", tag, sizeof(tag)), -ENOTSUP);
        assert_int_equal(etag_single("\"longer than that\"", tag, sizeof(tag)), -ENOTSUP);
        static const char *const bad[] = { "", "abc", "\"abc", "\"a\" \"b\"", "'a'", "w/\"a\"" };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(etag_single(bad[i], tag, sizeof(tag)), -EINVAL);
}

static void test_dates(void **state)
{
        char text[DATE_TEXT_MAX];
        time_t t;
        date_text(784111777, text);
        assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_int_equal(date_parse(text, &t), 0);
        assert_int_equal(t, 784111777);
        static const char *const bad[] = { "",
                                           "Sunday, 06-Nov-94 08:49:37 GMT",
                                           "Sun Nov  6 08:49:37 1994",
                                           "Mon, 06 Nov 1994 08:49:37 GMT",
                                           "Sun, 06 Nov 1994 08:49:37 UTC",
                                           "Sun, 06 Nov 1994 24:00:00 GMT",
                                           "Sun, 31 Feb 1994 08:49:37 GMT",
                                           "Sun, -6 Nov 1994 08:49:37 GMT" };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(date_parse(bad[i], &t), -EINVAL);
}

static void test_conditions(void **state)
{
        static const char at[] = "Sun, 06 Nov 1994 08:49:37 GMT",
                          before[] = "Sun, 06 Nov 1994 08:49:36 GMT";
        static const struct {
                struct conditions c;
                enum condition_result want;
        } cases[] = {
                { { 0 }, CONDITION_GO },
                { { .if_match = "\"abc\"" }, CONDITION_GO },
                { { .if_match = "*" }, CONDITION_GO },
                { { .if_match = "W/\"abc\"" }, CONDITION_FAILED },
                { { .if_match = "\"x\"", .if_unmodified_since = at }, CONDITION_FAILED },
                { { .if_unmodified_since = at }, CONDITION_GO },
                { { .if_unmodified_since = before }, CONDITION_FAILED },
                { { .if_unmodified_since = "never" }, CONDITION_GO },
                { { .if_none_match = "\"abc\"" }, CONDITION_NOT_MODIFIED },
                { { .if_none_match = "\"x\"", .if_modified_since = at }, CONDITION_GO },
                { { .if_modified_since = at }, CONDITION_NOT_MODIFIED },
                { { .if_modified_since = before }, CONDITION_GO },
                { { .if_modified_since = "yesterday" }, CONDITION_GO },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                assert_int_equal(conditions_check(&cases[i].c, "abc", 784111777), cases[i].want);

        static const struct {
                const char *if_range;
                time_t now;
                bool want;
        } ranges[] = {
                { NULL, 784111777, true },          { "\"abc\"", 784111777, true },
                { "W/\"abc\"", 784111777, false },  { "\"x\"", 784111777, false },
                { at, 784111777 + 2, true },        { at, 784111777 + 1, false },
                { before, 784111777 + 100, false }, { "abc", 784111777 + 100, false },
        };
        for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
                const struct conditions c = { .if_range = ranges[i].if_range };
                assert_int_equal(range_allowed(&c, "abc", 784111777, ranges[i].now),
                                 ranges[i].want);
        }
}

static void test_ranges(void **state)
{
        static const struct {
                const char *header;
                uint64_t size;
                enum range_result want;
                uint64_t first, length;
        } cases[] = {
                { NULL, 10, RANGE_WHOLE, 0, 0 },
                { "bytes=0-0", 10, RANGE_PART, 0, 1 },
                { "bytes=0-9", 10, RANGE_PART, 0, 10 },
                { "bytes=0-", 10, RANGE_PART, 0, 10 },
                { "BYTES= 3-5 ", 10, RANGE_PART, 3, 3 },
                { "bytes=9-", 10, RANGE_PART, 9, 1 },
                { "bytes=9-1000", 10, RANGE_PART, 9, 1 },
                { "bytes=5-99999999999999999999999999", 10, RANGE_PART, 5, 5 },
                { "bytes=-1", 10, RANGE_PART, 9, 1 },
                { "bytes=-10", 10, RANGE_PART, 0, 10 },
                { "bytes=-11", 10, RANGE_PART, 0, 10 },
                { "bytes=-99999999999999999999999999", 10, RANGE_PART, 0, 10 },
                { "bytes=10-", 10, RANGE_OUTSIDE, 0, 0 },
                { "bytes=99999999999999999999999999-", 10, RANGE_OUTSIDE, 0, 0 },
                { "bytes=-0", 10, RANGE_OUTSIDE, 0, 0 },
                { "bytes=0-", 0, RANGE_OUTSIDE, 0, 0 },
                { "bytes=-5", 0, RANGE_WHOLE, 0, 0 },
                /* What is not understood is as if it was not there. */
                { "bytes=5-4", 10, RANGE_WHOLE, 0, 0 },
                { "bytes=-", 10, RANGE_WHOLE, 0, 0 },
                { "bytes=", 10, RANGE_WHOLE, 0, 0 },
                { "bytes", 10, RANGE_WHOLE, 0, 0 },
                { "bytes=a-b", 10, RANGE_WHOLE, 0, 0 },
                { "bytes=1-2,4-5", 10, RANGE_WHOLE, 0, 0 },
                { "bytes=1-2x", 10, RANGE_WHOLE, 0, 0 },
                { "bytes=+1-2", 10, RANGE_WHOLE, 0, 0 },
                { "bytes=1--2", 10, RANGE_WHOLE, 0, 0 },
                { "items=0-1", 10, RANGE_WHOLE, 0, 0 },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                uint64_t first = 0, length = 0;
                enum range_result got =
                        range_parse(cases[i].header, cases[i].size, &first, &length);
                if (got != cases[i].want || first != cases[i].first || length != cases[i].length)
                        fail_msg("%s of %" PRIu64 ": %d %" PRIu64 "+%" PRIu64, cases[i].header,
                                 cases[i].size, (int) got, first, length);
        }
        uint64_t first, length;
        assert_int_equal(range_parse("bytes=1-", UINT64_MAX, &first, &length), RANGE_PART);
        assert_true(length == UINT64_MAX - 1);
}

static void test_disposition(void **state)
{
        static const struct {
                const char *name, *want;
        } cases[] = {
                { "report.csv", "attachment; filename=\"report.csv\"" },
                { "a b; c=d.txt", "attachment; filename=\"a b; c=d.txt\"" },
                { "say \"hi\".txt",
                  "attachment; filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt" },
                { "100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt" },
                { "\303\274\346\227\245.txt",
                  "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%BC%E6%97%A5.txt" },
                { "a\r\nSet-Cookie: x", "attachment; filename=\"a__Set-Cookie: x\"; "
                                        "filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x" },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                cleanup_free char *got = content_disposition(cases[i].name);
                assert_string_equal(got, cases[i].want);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_if_none_match), cmocka_unit_test(test_if_match),
                cmocka_unit_test(test_dates),         cmocka_unit_test(test_conditions),
                cmocka_unit_test(test_ranges),        cmocka_unit_test(test_disposition),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
