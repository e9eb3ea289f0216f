/* Strings, numbers, UTF-8, base64, hashes, timestamps, ids. */
#include "unit.h"

static void numbers(void **state)
{
        static const struct {
                const char *text;
                int r;
                uint64_t value;
        } table[] = {
                { "0", 0, 0 },
                { "18446744073709551615", 0, UINT64_MAX },
                { "18446744073709551616", -ERANGE, 0 },
                { "99999999999999999999999", -ERANGE, 0 },
                { "99999999999999999999999x", -EINVAL, 0 },
                { "", -EINVAL, 0 },
                { "+1", -EINVAL, 0 },
                { "-1", -EINVAL, 0 },
                { " 1", -EINVAL, 0 },
                { "1 ", -EINVAL, 0 },
                { "0x10", -EINVAL, 0 },
                { "1_000", -EINVAL, 0 },
                { "007", 0, 7 },
        };
        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                uint64_t v = 4711;
                assert_int_equal(parse_u64(table[i].text, &v), table[i].r);
                assert_int_equal(v, table[i].r == 0 ? table[i].value : 4711);
        }
        int64_t i;
        assert_int_equal(parse_i64("-9223372036854775808", &i), 0);
        assert_true(i == INT64_MIN);
        assert_int_equal(parse_i64("9223372036854775807", &i), 0);
        assert_true(i == INT64_MAX);
        assert_int_equal(parse_i64("9223372036854775808", &i), -ERANGE);
        assert_int_equal(parse_i64("-9223372036854775809", &i), -ERANGE);
        assert_int_equal(parse_i64("--1", &i), -EINVAL);
        assert_int_equal(parse_i64("-", &i), -EINVAL);
}

static void units(void **state)
{
        uint64_t v;
        bool b;
        assert_int_equal(parse_size("10M", &v), 0);
        assert_int_equal(v, 10 * MIB);
        assert_int_equal(parse_size("512", &v), 0);
        assert_int_equal(v, 512);
        assert_int_equal(parse_size("2T", &v), 0);
        assert_int_equal(v, 2048 * GIB);
        assert_int_equal(parse_size("99999999999T", &v), -ERANGE);
        assert_int_equal(parse_size("10MB", &v), -EINVAL);
        assert_int_equal(parse_size("M", &v), -EINVAL);
        assert_int_equal(parse_duration("250ms", &v), 0);
        assert_int_equal(v, 250000);
        assert_int_equal(parse_duration("3", &v), 0);
        assert_int_equal(v, 3000000);
        assert_int_equal(parse_duration("2h", &v), 0);
        assert_int_equal(v, 7200 * USEC_PER_SEC);
        assert_int_equal(parse_duration("1d", &v), 0);
        assert_int_equal(v, 86400 * USEC_PER_SEC);
        assert_int_equal(parse_duration("5 s", &v), -EINVAL);
        assert_int_equal(parse_duration("1.5s", &v), -EINVAL);
        assert_int_equal(parse_bool("yes", &b), 0);
        assert_true(b);
        assert_int_equal(parse_bool("off", &b), 0);
        assert_false(b);
        assert_int_equal(parse_bool("YES", &b), -EINVAL);
        assert_int_equal(parse_bool("", &b), -EINVAL);
}

static void strings(void **state)
{
        char s[] = " \t a b \r\n";
        assert_string_equal(strstrip(s), "a b");
        char blank[] = "  ";
        assert_string_equal(strstrip(blank), "");
        assert_true(streq(NULL, NULL));
        assert_false(streq(NULL, ""));
        assert_true(str_starts("berth", "be"));
        assert_false(str_starts("b", "be"));
        assert_true(str_ends("a.sock", ".sock"));
        assert_false(str_ends("sock", ".sock"));
        assert_true(span_eq((struct span){ "abc", 2 }, "ab"));
        assert_true(span_eq((struct span){ NULL, 0 }, ""));
        cleanup_free char *copy = span_dup((struct span){ "abc", 2 });
        assert_string_equal(copy, "ab");
        assert_true(secret_equal("bt_x", "bt_x"));
        assert_false(secret_equal("bt_x", "bt_y"));
        assert_false(secret_equal("bt_x", "bt_xx"));
        assert_null(xstrdup(NULL));
}

static void utf8(void **state)
{
        static const struct {
                const char *text;
                bool ok;
        } table[] = {
                { "plain ascii that is longer than eight bytes", true },
                { "\xc3\xa4", true },
                { "\xe2\x82\xac", true },
                { "\xf0\x9f\x9a\xa2", true },
                { "\xf4\x8f\xbf\xbf", true },
                { "\xef\xbf\xbf", true },
                { "\xed\x9f\xbf", true },
                { "\xee\x80\x80", true },
                { "\xc0\x80", false },         /* overlong NUL */
                { "\xc1\xbf", false },         /* overlong */
                { "\xe0\x9f\xbf", false },     /* overlong */
                { "\xf0\x8f\xbf\xbf", false }, /* overlong */
                { "\xed\xa0\x80", false },     /* surrogate */
                { "\xed\xbf\xbf", false },     /* surrogate */
                { "\xf4\x90\x80\x80", false }, /* beyond U+10FFFF */
                { "\xf5\x80\x80\x80", false },
                { "\x80", false },
                { "\xe2\x82", false },
                { "12345678\xe2\x82", false },
                { "\xe2\x28\xa1", false },
                { "\xff", false },
        };
        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                assert_int_equal(utf8_valid(table[i].text, strlen(table[i].text)), table[i].ok);
        assert_true(utf8_valid("", 0));
        for (size_t at = 0; at < 20; at++) { /* NUL at each place, also inside the fast path */
                char text[20];
                memset(text, 'a', sizeof(text));
                assert_true(utf8_valid(text, sizeof(text)));
                text[at] = 0;
                assert_false(utf8_valid(text, sizeof(text)));
        }
}

static void base64(void **state)
{
        static const char *const pairs[][2] = {
                { "", "" },
                { "f", "Zg==" },
                { "fo", "Zm8=" },
                { "foo", "Zm9v" },
                { "foob", "Zm9vYg==" },
                { "fooba", "Zm9vYmE=" },
                { "foobar", "Zm9vYmFy" },
        };
        void *out;
        size_t n;
        for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
                char text[32];
                base64_encode(pairs[i][0], strlen(pairs[i][0]), text);
                assert_string_equal(text, pairs[i][1]);
                assert_int_equal(base64_size(strlen(pairs[i][0])), strlen(text) + 1);
                assert_int_equal(base64_decode(text, strlen(text), &out, &n), 0);
                assert_int_equal(n, strlen(pairs[i][0]));
                assert_memory_equal(out, pairs[i][0], n);
                free(out);
        }
        static const char *const bad[] = { "Z",    "Zg",     "Zg=",  "Zh==",     "Zm9=", "====",
                                           "Z===", "Zm9v\n", "Zm 9", "Zg==Zg==", "Zm-_", "=Zg=" };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(base64_decode(bad[i], strlen(bad[i]), &out, &n), -EINVAL);
        uint8_t all[256];
        for (int i = 0; i < 256; i++)
                all[i] = (uint8_t) i;
        char text[400];
        base64_encode(all, sizeof(all), text);
        assert_int_equal(base64_decode(text, strlen(text), &out, &n), 0);
        assert_int_equal(n, 256);
        assert_memory_equal(out, all, 256);
        free(out);
        for (size_t len = 0; len <= sizeof(all); len++) {
                base64url_encode(all + sizeof(all) - len, len, text);
                assert_null(strpbrk(text, "+/="));
                assert_int_equal(base64url_decode(text, strlen(text), &out, &n), 0);
                assert_int_equal(n, len);
                assert_memory_equal(out, all + sizeof(all) - len, n);
                free(out);
        }
        static const char *const bad_url[] = { "Z", "Zg==", "Zh", "Zm+_", "Zm/_", "Zm9vZ", "Z g" };
        for (size_t i = 0; i < ARRAY_LEN(bad_url); i++)
                assert_int_equal(base64url_decode(bad_url[i], strlen(bad_url[i]), &out, &n),
                                 -EINVAL);
}

static void hashes(void **state)
{
        char hex[SHA256_HEX];
        sha256_hex("abc", 3, hex);
        assert_string_equal(hex,
                            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        sha256_hex(NULL, 0, hex);
        assert_string_equal(hex,
                            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void timestamps(void **state)
{
        static const struct {
                uint64_t us;
                const char *text;
        } table[] = {
                { 0, "1970-01-01T00:00:00.000000Z" },
                { 1, "1970-01-01T00:00:00.000001Z" },
                { UINT64_C(951782400000000), "2000-02-29T00:00:00.000000Z" },
                { UINT64_C(1795180077123456), "2026-11-20T13:07:57.123456Z" },
                { UINT64_C(2147483648000000), "2038-01-19T03:14:08.000000Z" },
                { UINT64_C(253402300799999999), "9999-12-31T23:59:59.999999Z" },
                { UINT64_MAX, "9999-12-31T23:59:59.999999Z" },
        };
        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                char text[TIMESTAMP_MAX];
                timestamp_format(table[i].us, text);
                assert_string_equal(text, table[i].text);
        }
}

static void uuids(void **state)
{
        char first[UUID_MAX], next[UUID_MAX];
        uuid_make(first);
        assert_int_equal(strlen(first), 36);
        assert_int_equal(first[14], '7');
        assert_true(strchr("89ab", first[19]) != NULL);
        uint64_t start = now_realtime();
        while (now_realtime() < start + 5)
                ;
        for (int i = 0; i < 1000; i++) {
                uuid_make(next);
                assert_true(strcmp(first, next) < 0);
                assert_int_equal(strspn(next, "0123456789abcdef-"), 36);
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers),    cmocka_unit_test(units),  cmocka_unit_test(strings),
                cmocka_unit_test(utf8),       cmocka_unit_test(base64), cmocka_unit_test(hashes),
                cmocka_unit_test(timestamps), cmocka_unit_test(uuids),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
