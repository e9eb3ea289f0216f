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
                cmocka_unit_test(test_if_none_match),
                cmocka_unit_test(test_if_match),
                cmocka_unit_test(test_ranges),
                cmocka_unit_test(test_disposition),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
