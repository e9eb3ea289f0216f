/* Each refusal of the JSON parser and of the table reader; round trips of the writer. */
#include "unit.h"

#include "common/base/buf.h"
#include "common/base/json.h"

static void refusals(void **state)
{
        static const char *const bad[] = {
                "",
                " ",
                "{",
                "[1,]",
                "{\"a\":1,}",
                "{'a':1}",
                "{a:1}",
                "nul",
                "01",
                "1.",
                "+1",
                ".5",
                "NaN",
                "Infinity",
                "-",
                "[1] 2",
                "{} {}",
                "{\"a\":1}x",
                "\"a",
                "\"\t\"",
                "\"\\x\"",
                "\"\\u12\"",
                "// c\n1",
                "{\"a\":1,\"a\":2}",         /* duplicate key */
                "{\"a\":{\"b\":1,\"b\":1}}", /* duplicate inside */
                "\"\\u0000\"",               /* NUL */
                "{\"a\\u0000b\":1}",         /* NUL in a key */
                "\"\xff\"",
                "\"\xc0\x80\"",
                "\"\xed\xa0\x80\"",
                "\"\xf4\x90\x80\x80\"",
                "\"\\ud800\"",
                "\"\\udc00\\ud800\"",
                "99999999999999999999",
                "-9223372036854775809",
                "1e999",
                "-1e999",
        };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                json_t *j = NULL;
                struct json_problem p = { 0 };
                assert_int_equal(json_parse(bad[i], strlen(bad[i]), &j, &p), -EINVAL);
                assert_null(j);
                assert_true(*p.message);
                assert_true(utf8_valid(p.message, strlen(p.message)));
        }
        json_t *j = NULL;
        struct json_problem p;
        assert_int_equal(json_parse("[1]\0", 4, &j, &p), -EINVAL); /* a NUL byte behind the text */
        assert_int_equal(json_parse("\"a\0b\"", 5, &j, &p), -EINVAL);
}

static void depth(void **state)
{
        char text[4 * JSON_DEPTH_MAX];
        struct json_problem p;
        for (int levels = JSON_DEPTH_MAX - 1; levels <= JSON_DEPTH_MAX + 1; levels++) {
                memset(text, '[', (size_t) levels);
                memset(text + levels, ']', (size_t) levels);
                json_t *j = NULL;
                int r = json_parse(text, 2 * (size_t) levels, &j, &p);
                assert_int_equal(r, levels > JSON_DEPTH_MAX ? -EINVAL : 0);
                json_decref(j);
        }
        /* Brackets in strings do not count, nor do those behind an escaped quote. */
        const char *flat = "\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[\"";
        json_t *j = NULL;
        assert_int_equal(json_parse(flat, strlen(flat), &j, &p), 0);
        json_decref(j);
        size_t n = 1000000;
        cleanup_free char *bomb = xmalloc(n);
        memset(bomb, '[', n);
        assert_int_equal(json_parse(bomb, n, &j, &p), -EINVAL);
        assert_non_null(strstr(p.message, "deeper than 32"));
}

static void round_trips(void **state)
{
        static const char *const same[] = {
                "{\"z\":1,\"a\":[true,false,null],\"m\":{}}",
                "[]",
                "\"a\\\"\\\\\\n\xc3\xa4\"",
                "-9223372036854775808",
                "9223372036854775807",
                "0.1",
                "1.0",
                "-2.5",
                "1e+300",
                "3.141592653589793",
                "0.30000000000000004",
                "1e-07",
        };
        for (size_t i = 0; i < ARRAY_LEN(same); i++) {
                cleanup_json json_t *j = NULL;
                struct json_problem p;
                assert_int_equal(json_parse(same[i], strlen(same[i]), &j, &p), 0);
                cleanup_free char *text = json_text(j);
                assert_string_equal(text, same[i]);
        }
}

struct request {
        const char *name;
        int64_t count;
        bool flag;
        double ratio;
        json_t *tags, *options, *any;
        bool has_count;
};

static const struct json_field fields[] = {
        JSON_FIELD(struct request, name, JSON_KIND_STRING, .required = true, .min = 1, .max = 5),
        JSON_FIELD(struct request, count, JSON_KIND_INT, .min = -2, .max = 10, .nullable = true,
                   .offset_set = offsetof(struct request, has_count)),
        JSON_FIELD(struct request, flag, JSON_KIND_BOOL),
        JSON_FIELD(struct request, ratio, JSON_KIND_NUMBER, .min = 0, .max = 1),
        JSON_FIELD(struct request, tags, JSON_KIND_ARRAY, .max = 2),
        JSON_FIELD(struct request, options, JSON_KIND_OBJECT),
        JSON_FIELD(struct request, any, JSON_KIND_ANY),
};

static void table_reader(void **state)
{
        static const struct {
                const char *text, *field, *message;
        } bad[] = {
                { "[]", "", "expected a JSON object" },
                { "{}", "name", "name is required" },
                { "{\"name\":1}", "name", "name must be a string of 1 to 5 bytes" },
                { "{\"name\":\"\"}", "name", "name must be a string of 1 to 5 bytes" },
                { "{\"name\":\"123456\"}", "name", "name must be a string of 1 to 5 bytes" },
                { "{\"name\":null}", "name", "name must be a string of 1 to 5 bytes" },
                { "{\"name\":\"a\",\"nmae\":1}", "nmae", "unknown field \"nmae\"" },
                { "{\"name\":\"a\",\"count\":11}", "count",
                  "count must be an integer from -2 to 10" },
                { "{\"name\":\"a\",\"count\":-3}", "count",
                  "count must be an integer from -2 to 10" },
                { "{\"name\":\"a\",\"count\":1.0}", "count",
                  "count must be an integer from -2 to 10" },
                { "{\"name\":\"a\",\"flag\":1}", "flag", "flag must be true or false" },
                { "{\"name\":\"a\",\"ratio\":1.01}", "ratio",
                  "ratio must be a number from 0 to 1" },
                { "{\"name\":\"a\",\"ratio\":\"1\"}", "ratio",
                  "ratio must be a number from 0 to 1" },
                { "{\"name\":\"a\",\"tags\":[1,2,3]}", "tags",
                  "tags must be an array of at most 2 members" },
                { "{\"name\":\"a\",\"options\":[]}", "options", "options must be an object" },
        };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                cleanup_json json_t *j = NULL;
                struct json_problem p;
                struct request q = { 0 };
                assert_int_equal(json_parse(bad[i].text, strlen(bad[i].text), &j, &p), 0);
                assert_int_equal(json_read(j, fields, ARRAY_LEN(fields), &q, &p), -EINVAL);
                assert_string_equal(p.field, bad[i].field);
                assert_string_equal(p.message, bad[i].message);
        }
}

static void table_reader_good(void **state)
{
        const char *text = "{\"name\":\"abc\",\"count\":null,\"flag\":true,\"ratio\":1,"
                           "\"tags\":[1],\"options\":{},\"any\":null}";
        cleanup_json json_t *j = NULL;
        struct json_problem p;
        struct request q = { .count = 3 };
        assert_int_equal(json_parse(text, strlen(text), &j, &p), 0);
        assert_int_equal(json_read(j, fields, ARRAY_LEN(fields), &q, &p), 0);
        assert_string_equal(q.name, "abc");
        assert_false(q.has_count);
        assert_int_equal(q.count, 3); /* absent: untouched */
        assert_true(q.flag);
        assert_true(q.ratio == 1.0);
        assert_int_equal(json_array_size(q.tags), 1);
        assert_non_null(q.options);
        assert_true(json_is_null(q.any));
}

/* A hostile field name must not make the message unreadable. */
static void long_names(void **state)
{
        cleanup_buf struct buf b = BUF_INIT;
        buf_puts(&b, "{\"");
        for (int i = 0; i < 1000; i++)
                buf_puts(&b, "\xe2\x82\xac");
        buf_puts(&b, "\":1}");
        cleanup_json json_t *j = NULL;
        struct json_problem p;
        struct request q;
        assert_int_equal(json_parse(buf_head(&b), buf_pending(&b), &j, &p), 0);
        assert_int_equal(json_read(j, fields, ARRAY_LEN(fields), &q, &p), -EINVAL);
        assert_true(utf8_valid(p.field, strlen(p.field)));
        assert_true(utf8_valid(p.message, strlen(p.message)));
        assert_true(strlen(p.field) > 50);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(refusals),          cmocka_unit_test(depth),
                cmocka_unit_test(round_trips),       cmocka_unit_test(table_reader),
                cmocka_unit_test(table_reader_good), cmocka_unit_test(long_names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
