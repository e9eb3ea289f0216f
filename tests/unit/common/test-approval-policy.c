/* Rules of approval: which call is allowed, asked for, denied; what cannot be used is refused. */
#include "unit.h"

#include "common/base/approval-policy.h"

static json_t *parse(const char *text)
{
        json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);

        if (!j)
                fail_msg("bad JSON in the test: %s", text);
        return j;
}

#define RULED                                                                                      \
        "{\"bash\":{\"default\":\"ask\",\"rules\":["                                               \
        "{\"argument\":\"command\",\"glob\":\"git status*\",\"then\":\"allow\"},"                  \
        "{\"argument\":\"command\",\"regex\":\"^(curl|wget) \",\"then\":\"deny\"},"                \
        "{\"argument\":\"n\",\"glob\":\"[1,2]\",\"then\":\"deny\"}]},"                             \
        "\"computer\":{\"default\":\"allow\",\"rules\":["                                          \
        "{\"argument\":\"action\",\"glob\":\"t?pe\",\"then\":\"ask\"}]},"                          \
        "\"edit\":\"deny\",\"*\":\"ask\"}"

static void test_decide(void **state)
{
        static const struct {
                const char *tool, *action, *input;
                enum policy expected;
        } cases[] = {
                { "bash", NULL, "{\"command\":\"git status -s\"}", POLICY_ALLOW },
                { "bash", NULL, "{\"command\":\" git status\"}", POLICY_ASK },
                { "bash", NULL, "{\"command\":\"git status\\ncurl x\"}", POLICY_ALLOW },
                { "bash", NULL, "{\"command\":\"curl x\"}", POLICY_DENY },
                { "bash", NULL, "{\"command\":\"curlx\"}", POLICY_ASK },
                { "bash", NULL, "{\"command\":5}", POLICY_ASK },
                { "bash", NULL, "{\"n\":[1,2]}", POLICY_DENY },
                { "bash", NULL, "{}", POLICY_ASK },
                { "computer", NULL, "{\"action\":\"type\"}", POLICY_ASK },
                { "computer", NULL, "{\"action\":\"key\"}", POLICY_ALLOW },
                { "computer", "type", "{\"text\":\"x\"}", POLICY_ASK },
                { "computer", "left_click", "{}", POLICY_ALLOW },
                { "edit", NULL, "{}", POLICY_DENY },
                { "other", NULL, "{}", POLICY_ASK },
        };
        cleanup_json json_t *ruled = parse(RULED);

        assert_null(policy_check(ruled));
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                cleanup_json json_t *input = parse(cases[i].input);

                if (policy_decide(ruled, cases[i].tool, cases[i].action, input) !=
                    cases[i].expected)
                        fail_msg("%s %s", cases[i].tool, cases[i].input);
        }
        assert_int_equal(policy_decide(NULL, "bash", NULL, NULL), POLICY_ALLOW);
        assert_true(policy_hides(ruled, "edit"));
        assert_false(policy_hides(ruled, "bash"));
        assert_false(policy_hides(NULL, "bash"));
}

/* What nobody can judge never counts as allowed; and no text takes long. */
static void test_closed(void **state)
{
        cleanup_json json_t *allow =
                parse("{\"bash\":{\"default\":\"ask\",\"rules\":[{\"argument\":"
                      "\"command\",\"glob\":\"*\",\"then\":\"allow\"}]}}");
        cleanup_json json_t *deny =
                parse("{\"bash\":{\"default\":\"allow\",\"rules\":[{\"argument\""
                      ":\"command\",\"regex\":\"x\",\"then\":\"deny\"}]}}");
        cleanup_json json_t *slow =
                parse("{\"bash\":{\"default\":\"ask\",\"rules\":[{\"argument\":\"command\","
                      "\"glob\":\"*a*a*a*a*a*a*a*a*a*a*b\",\"then\":\"allow\"}]}}");
        cleanup_free char *text = xmalloc(70001);
        cleanup_json json_t *large = NULL, *fits = NULL;

        memset(text, 'a', 70000);
        text[70000] = 0;
        large = json_pack("{s:s}", "command", text);
        assert_int_equal(policy_decide(allow, "bash", NULL, large), POLICY_ASK);
        assert_int_equal(policy_decide(deny, "bash", NULL, large), POLICY_DENY);
        text[60000] = 0;
        fits = json_pack("{s:s}", "command", text);
        assert_int_equal(policy_decide(allow, "bash", NULL, fits), POLICY_ALLOW);
        assert_int_equal(policy_decide(deny, "bash", NULL, fits), POLICY_ALLOW);
        assert_int_equal(policy_decide(slow, "bash", NULL, fits), POLICY_ASK);
}

static void test_refused(void **state)
{
#define RULE(text) "{\"a\":{\"default\":\"ask\",\"rules\":[{\"argument\":\"x\"," text "}]}}"
        static const char *const bad[] = {
                "{\"a\":\"maybe\"}",
                "{\"a\":1}",
                "{\"a\":null}",
                "{\"a\":{}}",
                "{\"a\":{\"default\":\"ask\"}}",
                "{\"a\":{\"default\":\"ask\",\"rules\":[],\"more\":1}}",
                "{\"a\":{\"default\":\"ask\",\"rules\":[{}]}}",
                RULE("\"then\":\"ask\""),
                RULE("\"glob\":\"y\",\"then\":\"no\""),
                RULE("\"regex\":\"(\",\"then\":\"ask\""),
                RULE("\"regex\":\"(a)\\\\1\",\"then\":\"ask\""),
        };

        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                cleanup_json json_t *j = parse(bad[i]);

                if (!policy_check(j))
                        fail_msg("taken: %s", bad[i]);
        }
}

static void test_digest(void **state)
{
        cleanup_json json_t *a = parse("{\"tool\":\"bash\",\"arguments\":{\"b\":1,\"a\":2.5}}");
        cleanup_json json_t *b = parse("{\"arguments\":{\"a\":2.50,\"b\":1},\"tool\":\"bash\"}");
        cleanup_json json_t *c = parse("{\"arguments\":{\"a\":2.5,\"b\":2},\"tool\":\"bash\"}");
        char da[SHA256_HEX], db[SHA256_HEX], dc[SHA256_HEX], dn[SHA256_HEX];

        approval_digest("tool", a, da);
        approval_digest("tool", b, db);
        approval_digest("tool", c, dc);
        approval_digest("network", a, dn);
        assert_string_equal(da, db);
        assert_string_not_equal(da, dc);
        assert_string_not_equal(da, dn);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_decide),
                cmocka_unit_test(test_closed),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_digest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
