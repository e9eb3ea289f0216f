/* The rules for names, types, tags and metadata of documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/document.h"

static char *repeat(const char *s, size_t n)
{
        char *out = xmalloc(strlen(s) * n + 1);
        for (size_t i = 0; i < n; i++)
                memcpy(out + i * strlen(s), s, strlen(s));
        out[strlen(s) * n] = '\0';
        return out;
}

static void test_filenames(void **state)
{
        static const char *const good[] = {
                "a",
                "report 2026.csv",
                "...",
                ".hidden",
                "a:b*c?.txt",
                "\303\234bersicht",
                "a%2fb",
                "\"'`$;",
                "\360\237\221\250\342\200\215\360\237\222\273.png", /* emoji joined by U+200D */
        };
        static const char *const bad[] = {
                "",
                ".",
                "..",
                " ",
                "a/b",
                "/",
                "a\\b",
                "a\nb",
                "a\rb",
                "\x01",
                "\x7f",
                "a\302\205",           /* U+0085 */
                "a\330\234",           /* U+061C */
                "a\342\200\213",       /* U+200B */
                "a\342\200\217",       /* U+200F */
                "a\342\200\250",       /* U+2028 */
                "\342\200\256gpj.exe", /* U+202E */
                "a\342\201\246",       /* U+2066 */
                "\357\273\277a",       /* U+FEFF */
                "\363\240\201\201",    /* U+E0041 */
                "\377",
                "\300\257",
                "\355\240\200",
        };
        for (size_t i = 0; i < ARRAY_LEN(good); i++)
                assert_null(document_filename_problem(good[i]));
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_non_null(document_filename_problem(bad[i]));
        cleanup_free char *most = repeat("x", 255), *more = repeat("x", 256),
                          *wide = repeat("\303\234", 128);
        assert_null(document_filename_problem(most));
        assert_non_null(document_filename_problem(more));
        assert_non_null(document_filename_problem(wide));
        assert_non_null(document_filename_problem(NULL));
}

static void test_content_types(void **state)
{
        static const char *const good[] = { "text/plain", "image/svg+xml",
                                            "text/html; charset=utf-8", "a/b;c=\"d e\"" };
        static const char *const bad[] = { "",
                                           "text",
                                           "text/",
                                           "/plain",
                                           "text/plain\n",
                                           "te xt/plain",
                                           "a/b\r\nX: y",
                                           "text/pl\303\244in",
                                           "a/b/c",
                                           "a/b\x7f" };
        for (size_t i = 0; i < ARRAY_LEN(good); i++)
                assert_null(document_content_type_problem(good[i]));
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_non_null(document_content_type_problem(bad[i]));
        cleanup_free char *most = repeat("a/", 1), *tail = repeat("b", 98),
                          *full = xasprintf("%s%s", most, tail);
        cleanup_free char *over = xasprintf("%sb", full);
        assert_null(document_content_type_problem(full));
        assert_non_null(document_content_type_problem(over));
}

static void test_tags(void **state)
{
        static const char *const good[] = { "a", "A-1", "a-b-c", "0", "NULL" };
        static const char *const bad[] = { "",    "-",   "-a",  "a-",       "a--b", "a_b",
                                           "a b", "a/b", "a.b", "\303\251", "a\n",  "a,b" };
        for (size_t i = 0; i < ARRAY_LEN(good); i++)
                assert_null(document_tag_problem(good[i]));
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_non_null(document_tag_problem(bad[i]));
        cleanup_free char *most = repeat("x", 64), *more = repeat("x", 65);
        assert_null(document_tag_problem(most));
        assert_non_null(document_tag_problem(more));
}

static void test_tag_sets(void **state)
{
        struct json_problem p = { 0 };
        struct document_tags t = { 0 };
        assert_int_equal(document_tags_parse(&t, span_of(" b, a,,b ,\tC, "), &p), 0);
        assert_int_equal(t.n, 3);
        assert_string_equal(t.tags[0], "b");
        assert_string_equal(t.tags[1], "a");
        assert_string_equal(t.tags[2], "C");
        assert_int_equal(document_tags_parse(&t, span_of(NULL), &p), 0);
        assert_int_equal(document_tags_parse(&t, span_of(""), &p), 0);
        assert_int_equal(t.n, 3);
        assert_int_equal(document_tags_parse(&t, (struct span){ "x\0y", 3 }, &p), -EINVAL);
        assert_string_equal(p.field, "tags");
        assert_int_equal(document_tags_parse(&t, span_of("d,a b"), &p), -EINVAL);
        assert_int_equal(document_tags_parse(&t, span_of("a\nb"), &p), -EINVAL);
        cleanup_free char *huge = repeat("x", 100000);
        assert_int_equal(document_tags_parse(&t, span_of(huge), &p), -EINVAL);

        t = (struct document_tags){ 0 };
        for (unsigned i = 0; i < DOCUMENT_TAGS_MAX; i++) {
                char tag[16];
                (void) snprintf(tag, sizeof(tag), "t%u", i);
                assert_int_equal(document_tags_add(&t, span_of(tag), &p), 0);
        }
        assert_int_equal(document_tags_add(&t, span_of("t0"), &p), 0); /* is there already */
        assert_int_equal(document_tags_add(&t, span_of("new"), &p), -EINVAL);
        assert_string_equal(p.message, "tags must be at most 50");
}

static void test_tags_from_json(void **state)
{
        static const struct {
                const char *json;
                int want;
        } cases[] = {
                { "[]", 0 },
                { "[\"a\",\"a\",\"b\"]", 0 },
                { "[1]", -EINVAL },
                { "[null]", -EINVAL },
                { "\"a\"", -EINVAL },
                { "{}", -EINVAL },
                { "[\"\"]", -EINVAL },
                { "[[\"a\"]]", -EINVAL },
                { "null", -EINVAL },
                { "[\"a b\"]", -EINVAL },
                { "[\"a\",1]", -EINVAL },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct document_tags t = { 0 };
                struct json_problem p = { 0 };
                cleanup_json json_t *json = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
                assert_int_equal(document_tags_from_json(&t, json, &p), cases[i].want);
        }
}

static void test_metadata(void **state)
{
        static const struct {
                const char *json;
                int create, patch;
        } cases[] = {
                { "{}", 0, 0 },
                { "{\"description\":\"\",\"x\":null}", 0, 0 },
                { "{\"description\":null}", -EINVAL, 0 },
                { "{\"description\":1}", -EINVAL, -EINVAL },
                { "[]", -EINVAL, -EINVAL },
                { "\"x\"", -EINVAL, -EINVAL },
        };
        struct json_problem p;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                cleanup_json json_t *json = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
                assert_int_equal(document_metadata_check(json, false, &p), cases[i].create);
                assert_int_equal(document_metadata_check(json, true, &p), cases[i].patch);
        }
        for (size_t n = DOCUMENT_DESCRIPTION_MAX; n <= DOCUMENT_DESCRIPTION_MAX + 1; n++) {
                cleanup_free char *text = repeat("x", n);
                cleanup_json json_t *json = json_pack("{s:s}", "description", text);
                assert_int_equal(document_metadata_check(json, false, &p),
                                 n > DOCUMENT_DESCRIPTION_MAX ? -EINVAL : 0);
        }
        assert_string_equal(p.field, "description");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_filenames),      cmocka_unit_test(test_content_types),
                cmocka_unit_test(test_tags),           cmocka_unit_test(test_tag_sets),
                cmocka_unit_test(test_tags_from_json), cmocka_unit_test(test_metadata),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
