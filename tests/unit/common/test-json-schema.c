/* The part of JSON Schema that reports are checked against: each keyword, each refusal, limits. */
#include "unit.h"

#include "common/base/buf.h"
#include "common/base/json-schema.h"

static json_t *parse(const char *text)
{
        struct json_problem problem;
        json_t *j = NULL;

        if (json_parse(text, strlen(text), &j, &problem) < 0)
                fail_msg("%s: %s", text, problem.message);
        return j;
}

static void keywords(void **state)
{
        static const struct {
                const char *schema, *value;
                bool fits;
                const char *field;
        } cases[] = {
                { "{}", "1", true, "" },
                { "{\"type\":\"object\"}", "{}", true, "" },
                { "{\"type\":\"object\"}", "[]", false, "" },
                { "{\"type\":\"array\"}", "[]", true, "" },
                { "{\"type\":\"string\"}", "\"a\"", true, "" },
                { "{\"type\":\"string\"}", "1", false, "" },
                { "{\"type\":\"integer\"}", "1", true, "" },
                { "{\"type\":\"integer\"}", "1.0", true, "" },
                { "{\"type\":\"integer\"}", "1.5", false, "" },
                { "{\"type\":\"integer\"}", "1e300", false, "" },
                { "{\"type\":\"number\"}", "1", true, "" },
                { "{\"type\":\"number\"}", "1.5", true, "" },
                { "{\"type\":\"number\"}", "\"1\"", false, "" },
                { "{\"type\":\"boolean\"}", "false", true, "" },
                { "{\"type\":\"boolean\"}", "0", false, "" },
                { "{\"type\":\"null\"}", "null", true, "" },
                { "{\"type\":[\"string\",\"null\"]}", "null", true, "" },
                { "{\"type\":[\"string\",\"null\"]}", "1", false, "" },
                { "{\"enum\":[1,\"a\",null]}", "1.0", true, "" },
                { "{\"enum\":[1,\"a\",null]}", "\"b\"", false, "" },
                { "{\"const\":{\"a\":[1]}}", "{\"a\":[1]}", true, "" },
                { "{\"const\":{\"a\":[1]}}", "{\"a\":[2]}", false, "" },
                { "{\"minimum\":2}", "2", true, "" },
                { "{\"minimum\":2}", "1.9", false, "" },
                { "{\"minimum\":2}", "\"1\"", true, "" },
                { "{\"maximum\":2}", "2", true, "" },
                { "{\"maximum\":2}", "3", false, "" },
                { "{\"exclusiveMinimum\":2}", "2", false, "" },
                { "{\"exclusiveMaximum\":2}", "1.999", true, "" },
                { "{\"exclusiveMaximum\":2}", "2", false, "" },
                { "{\"minLength\":2}", "\"\u00e9\u00e9\"", true, "" },
                { "{\"minLength\":2}", "\"\u00e9\"", false, "" },
                { "{\"maxLength\":1}", "\"\u00e9\"", true, "" },
                { "{\"maxLength\":1}", "\"ab\"", false, "" },
                { "{\"minItems\":1}", "[]", false, "" },
                { "{\"maxItems\":1}", "[1,2]", false, "" },
                { "{\"items\":{\"type\":\"integer\"}}", "[1,2]", true, "" },
                { "{\"items\":{\"type\":\"integer\"}}", "[1,\"2\"]", false, "1" },
                { "{\"required\":[\"a\"]}", "{\"a\":null}", true, "" },
                { "{\"required\":[\"a\"]}", "{\"b\":1}", false, "" },
                { "{\"required\":[\"a\"]}", "7", true, "" },
                { "{\"properties\":{\"a\":{\"type\":\"string\"}}}", "{\"b\":1}", true, "" },
                { "{\"properties\":{\"a\":{\"type\":\"string\"}}}", "{\"a\":1}", false, "a" },
                { "{\"properties\":{},\"additionalProperties\":false}", "{\"b\":1}", false, "" },
                { "{\"additionalProperties\":{\"type\":\"integer\"}}", "{\"b\":1}", true, "" },
                { "{\"additionalProperties\":{\"type\":\"integer\"}}", "{\"b\":\"1\"}", false,
                  "b" },
                { "{\"properties\":{\"a\":{\"items\":{\"properties\":{\"b\":{\"enum\":[1]}}}}}}",
                  "{\"a\":[{\"b\":1},{\"b\":2}]}", false, "a.1.b" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct json_problem problem = { 0 };
                cleanup_json json_t *schema = parse(cases[i].schema),
                                    *value = parse(cases[i].value);
                int r;

                assert_int_equal(json_schema_check(schema, &problem), 0);
                r = json_schema_fits(schema, value, &problem);
                if ((r == 0) != cases[i].fits)
                        fail_msg("%s, %s: %d %s", cases[i].schema, cases[i].value, r,
                                 problem.message);
                if (r < 0) {
                        assert_string_equal(problem.field, cases[i].field);
                        assert_true(strlen(problem.message) > 10);
                }
        }
}

static void refused_schemas(void **state)
{
        static const struct {
                const char *schema, *field, *word;
        } cases[] = {
                { "1", "", "object" },
                { "{\"type\":\"text\"}", "", "type must be" },
                { "{\"type\":[]}", "", "type must be" },
                { "{\"type\":[1]}", "", "type must be" },
                { "{\"properties\":[]}", "", "properties" },
                { "{\"properties\":{\"a\":1}}", "a", "object" },
                { "{\"required\":{}}", "", "required" },
                { "{\"required\":[1]}", "", "required" },
                { "{\"items\":[]}", "", "items" },
                { "{\"enum\":[]}", "", "enum" },
                { "{\"enum\":1}", "", "enum" },
                { "{\"minLength\":-1}", "", "lengths" },
                { "{\"maxItems\":1.5}", "", "lengths" },
                { "{\"minimum\":\"1\"}", "", "limits" },
                { "{\"additionalProperties\":1}", "", "additionalProperties" },
                { "{\"pattern\":\"a\"}", "", "pattern is not supported" },
                { "{\"properties\":{\"a\":{\"oneOf\":[]}}}", "a", "oneOf is not supported" },
                { "{\"items\":{\"$ref\":\"#\"}}", "items", "$ref is not supported" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct json_problem problem = { 0 };
                cleanup_json json_t *schema = parse(cases[i].schema);

                assert_int_equal(json_schema_check(schema, &problem), -EINVAL);
                assert_string_equal(problem.field, cases[i].field);
                if (!strstr(problem.message, cases[i].word))
                        fail_msg("%s: %s", cases[i].schema, problem.message);
        }
}

static void limits(void **state)
{
        cleanup_buf struct buf text = BUF_INIT;
        cleanup_json json_t *schema = parse("{\"items\":{\"type\":\"integer\"}}"), *value = NULL;
        struct json_problem problem = { 0 };

        buf_puts(&text, "[0");
        for (size_t i = 0; i < JSON_SCHEMA_STEPS_MAX + 10; i++)
                buf_puts(&text, ",1");
        buf_puts(&text, "]");
        value = parse(text.data);
        assert_int_equal(json_schema_fits(schema, value, &problem), -E2BIG);
        assert_true(strlen(problem.message) > 10);

        buf_clear(&text);
        buf_puts(&text, "{\"properties\":{\"x\":{}");
        for (size_t i = 0; i < JSON_SCHEMA_NODES_MAX; i++)
                buf_putf(&text, ",\"m%zu\":{}", i);
        buf_puts(&text, "}}");
        json_decref(schema);
        schema = parse(text.data);
        assert_int_equal(json_schema_check(schema, &problem), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(keywords),
                cmocka_unit_test(refused_schemas),
                cmocka_unit_test(limits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
