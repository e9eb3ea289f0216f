/* Request bodies of the Messages API, compared as text; which model gets which tools. */
#include "tests/unit/common/unit.h"

#include "workerd/provider-anthropic.h"

static const struct provider_tool tools[] = {
        { .name = "computer", .native = PROVIDER_NATIVE_COMPUTER },
        { .name = "bash", .native = PROVIDER_NATIVE_BASH },
        { .name = "str_replace_based_edit_tool", .native = PROVIDER_NATIVE_EDIT },
        { .name = "document_put", .description = "Stores.", .schema = "{\"type\":\"object\"}" },
};

#define CACHE ",\"cache_control\":{\"type\":\"ephemeral\"}"
#define COMMON_TOOLS                                                                               \
        "{\"type\":\"bash_20250124\",\"name\":\"bash\"},"                                          \
        "{\"type\":\"text_editor_20250728\",\"name\":\"str_replace_based_edit_tool\"},"            \
        "{\"name\":\"document_put\",\"description\":\"Stores.\",\"input_schema\":{\"type\":"       \
        "\"object\"}}"

/* For tests/peers/anthropic-types: one body per line. */
static void keep_for_peers(const char *text)
{
        const char *path = getenv("BERTH_BODIES");
        FILE *f = path ? fopen(path, "ae") : NULL;

        if (!f)
                return;
        (void) fprintf(f, "%s\n", text);
        (void) fclose(f);
}

static char *body(const struct history *h, const char *conversation, const char *system,
                  uint32_t width, enum anthropic_computer computer, bool adaptive, int expected)
{
        cleanup_json json_t *c = json_loads(conversation, 0, NULL);
        struct buf out = BUF_INIT;
        int r;

        assert_non_null(c);
        r = anthropic_body(&out,
                           &(struct provider_request){ .model = "m",
                                                       .system = system,
                                                       .history = h,
                                                       .conversation = c,
                                                       .tools = tools,
                                                       .n_tools = ARRAY_LEN(tools),
                                                       .width = width,
                                                       .height = 800,
                                                       .max_tokens = 1024 },
                           computer, adaptive);
        assert_int_equal(r, expected);
        if (r == 0)
                keep_for_peers(out.data);
        return buf_take(&out, NULL);
}

static void test_whole_body(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        cleanup_free char *got = NULL;

        history_set_image(h, "d1", "image/png", span_of("abc"));
        got = body(h,
                   "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one\"}]},"
                   "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\","
                   "\"signature\":\"s\"},"
                   "{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"computer\",\"input\":{"
                   "\"action\":\"screenshot\"}}]},"
                   "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":"
                   "\"a\",\"content\":["
                   "{\"type\":\"image\",\"digest\":\"d1\",\"media_type\":\"image/png\"}]}]},"
                   "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]},"
                   "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"two\"},{\"type\":"
                   "\"text\",\"text\":\"three\"}]},"
                   "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":"
                   "\"b\",\"content\":\"bad\",\"is_error\":true,\"toolset_name\":\"computer\"}]}]",
                   "be good", 1280, ANTHROPIC_COMPUTER_20251124, true, 0);
        assert_string_equal(
                got, "{\"model\":\"m\",\"max_tokens\":1024,\"stream\":true,\"thinking\":{\"type\":"
                     "\"adaptive\",\"display\":\"summarized\"},"
                     "\"system\":[{\"type\":\"text\",\"text\":\"be good\"" CACHE "}],"
                     "\"tools\":[{\"type\":\"computer_20251124\",\"name\":\"computer\",\"display_"
                     "width_px\":1280,\"display_height_px\":800,"
                     "\"display_number\":1,\"enable_zoom\":true}," COMMON_TOOLS "],"
                     "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                     "\"one\"}]},"
                     "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":"
                     "\"t\",\"signature\":\"s\"},"
                     "{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"computer\",\"input\":{"
                     "\"action\":\"screenshot\"}}]},"
                     "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":"
                     "\"a\",\"content\":["
                     "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/"
                     "png\",\"data\":\"YWJj\"}}]" CACHE "}]},"
                     "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]},"
                     "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"two\"},{"
                     "\"type\":\"text\",\"text\":\"three\"" CACHE "}]},"
                     "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":"
                     "\"b\",\"content\":\"bad\",\"is_error\":true,"
                     "\"toolset_name\":\"computer\"" CACHE "}]}]}");
}

#define HI "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}]"
#define HI_SENT                                                                                    \
        "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"" CACHE   \
        "}]}]}"

static void test_forms_of_the_computer_tool(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        cleanup_free char *toolset =
                body(h, HI, "", 1280, ANTHROPIC_COMPUTER_TOOLSET_20260801, false, 0);
        cleanup_free char *older = body(h, HI, NULL, 1024, ANTHROPIC_COMPUTER_20250124, false, 0);
        cleanup_free char *headless = body(h, HI, NULL, 0, ANTHROPIC_COMPUTER_20250124, false, 0);

        assert_string_equal(toolset,
                            "{\"model\":\"m\",\"max_tokens\":1024,\"stream\":true,\"tools\":[{"
                            "\"type\":\"computer_toolset_20260801\"}," COMMON_TOOLS "]," HI_SENT);
        assert_string_equal(
                older,
                "{\"model\":\"m\",\"max_tokens\":1024,\"stream\":true,\"tools\":[{\"type\":"
                "\"computer_20250124\",\"name\":\"computer\",\"display_width_px\":1024,"
                "\"display_height_px\":800,\"display_number\":1}," COMMON_TOOLS "]," HI_SENT);
        assert_string_equal(
                headless,
                "{\"model\":\"m\",\"max_tokens\":1024,\"stream\":true,\"tools\":[" COMMON_TOOLS
                "]," HI_SENT);
}

static void test_missing_picture_and_size(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        char *big = xcalloc(1, 25 * MIB);

        free(body(h,
                  "[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"digest\":\"d\",\"media_"
                  "type\":\"image/png\"}]}]",
                  "", 0, ANTHROPIC_COMPUTER_20250124, false, -ENOENT));
        history_set_image(h, "d", "image/png", (struct span){ big, 25 * MIB });
        free(body(h,
                  "[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"digest\":\"d\",\"media_"
                  "type\":\"image/png\"}]}]",
                  "", 0, ANTHROPIC_COMPUTER_20250124, false, -EMSGSIZE));
        free(big);
}

static void test_models(void **state)
{
        static const struct {
                const char *model;
                enum anthropic_computer computer;
                bool adaptive;
        } rows[] = {
                { "claude-opus-5-5", ANTHROPIC_COMPUTER_TOOLSET_20260801, true },
                { "claude-sonnet-5-5", ANTHROPIC_COMPUTER_TOOLSET_20260801, true },
                { "claude-fable-5-2", ANTHROPIC_COMPUTER_TOOLSET_20260801, true },
                { "claude-opus-4-8", ANTHROPIC_COMPUTER_20251124, true },
                { "claude-sonnet-4-6", ANTHROPIC_COMPUTER_20251124, true },
                { "claude-opus-4-5-20251101", ANTHROPIC_COMPUTER_20251124, false },
                { "claude-haiku-4-5-20251001", ANTHROPIC_COMPUTER_20250124, false },
                { "claude-sonnet-4-5", ANTHROPIC_COMPUTER_20250124, false },
                { "claude-3-7-sonnet", ANTHROPIC_COMPUTER_20250124, false },
                { "demo", ANTHROPIC_COMPUTER_20250124, false },
                { "some-local-model", ANTHROPIC_COMPUTER_20250124, false },
        };
        enum anthropic_computer c;

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                assert_int_equal(anthropic_computer_for(rows[i].model, "", &c), 0);
                assert_int_equal(c, rows[i].computer);
                assert_int_equal(anthropic_adaptive_thinking(rows[i].model), rows[i].adaptive);
        }
        assert_int_equal(anthropic_computer_for("demo", "computer_20251124", &c), 0);
        assert_int_equal(c, ANTHROPIC_COMPUTER_20251124);
        assert_int_equal(anthropic_computer_for("demo", "computer_2031", &c), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole_body),
                cmocka_unit_test(test_forms_of_the_computer_tool),
                cmocka_unit_test(test_missing_picture_and_size),
                cmocka_unit_test(test_models),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
