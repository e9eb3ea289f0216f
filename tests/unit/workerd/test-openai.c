/* Chat completions: bodies compared as text; streams as different servers send them, whole and
 * byte by byte; everything that is wrong. */
#include "tests/unit/common/unit.h"

#include "workerd/provider-openai.h"

static const struct provider_tool tools[] = {
        { .name = "computer",
          .description = "Mouse.",
          .schema = "{\"type\":\"object\"}",
          .native = PROVIDER_NATIVE_COMPUTER },
        { .name = "bash",
          .description = "Runs.",
          .schema = "{\"type\":\"object\"}",
          .native = PROVIDER_NATIVE_BASH },
};

static char *body(const char *conversation, const char *model, uint32_t width, unsigned quirks,
                  int expected)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        cleanup_json json_t *c = json_loads(conversation, 0, NULL), *parsed = NULL;
        struct json_problem problem;
        struct buf out = BUF_INIT;

        assert_non_null(c);
        history_set_image(h, "d1", "image/png", span_of("abc"));
        assert_int_equal(openai_body(&out,
                                     &(struct provider_request){ .model = model,
                                                                 .system = "be good",
                                                                 .history = h,
                                                                 .conversation = c,
                                                                 .tools = tools,
                                                                 .n_tools = ARRAY_LEN(tools),
                                                                 .width = width,
                                                                 .height = 800,
                                                                 .max_tokens = 1024 },
                                     quirks),
                         expected);
        if (expected == 0)
                assert_int_equal(json_parse(out.data, out.len, &parsed, &problem), 0);
        return buf_take(&out, NULL);
}

#define BASH_TOOL                                                                                  \
        "{\"type\":\"function\",\"function\":{\"name\":\"bash\",\"description\":\"Runs.\","        \
        "\"parameters\":{\"type\":\"object\"}}}"

static void test_body(void **state)
{
        cleanup_free char *got = body(
                "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one\"}]},"
                "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\","
                "\"signature\":\"s\"},{\"type\":\"text\",\"text\":\"I look\"},"
                "{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"screenshot\",\"toolset_name\":"
                "\"computer\",\"input\":{}},"
                "{\"type\":\"tool_use\",\"id\":\"b\",\"name\":\"bash\",\"input\":{\"command\":\"ls"
                "\"}}]},"
                "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"a\","
                "\"toolset_name\":\"computer\",\"content\":[{\"type\":\"image\",\"digest\":\"d1\","
                "\"media_type\":\"image/png\"}]},"
                "{\"type\":\"tool_result\",\"tool_use_id\":\"b\",\"content\":\"no such\","
                "\"is_error\":true},{\"type\":\"text\",\"text\":\"and now?\"}]}]",
                "m", 1280, 0, 0);

        assert_string_equal(
                got,
                "{\"model\":\"m\",\"max_tokens\":1024,\"stream\":true,\"stream_options\":{"
                "\"include_"
                "usage\":true},"
                "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"computer\","
                "\"description\":\"Mouse. The screen is 1280x800 pixels; coordinates are [x,y] in "
                "it, from the top left.\",\"parameters\":{\"type\":\"object\"}}}," BASH_TOOL "],"
                "\"messages\":[{\"role\":\"system\",\"content\":\"be good\"},"
                "{\"role\":\"user\",\"content\":\"one\"},"
                "{\"role\":\"assistant\",\"content\":\"I look\",\"tool_calls\":["
                "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"computer\","
                "\"arguments\":\"{\\\"action\\\":\\\"screenshot\\\"}\"}},"
                "{\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"bash\",\"arguments\":"
                "\"{\\\"command\\\":\\\"ls\\\"}\"}}]},"
                "{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"(The picture is in the "
                "next message.)\"},"
                "{\"role\":\"tool\",\"tool_call_id\":\"b\",\"content\":\"Error: no such\"},"
                "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Picture of tool "
                "call "
                "a:\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,"
                "YWJj\"}},{\"type\":\"text\",\"text\":\"and now?\"}]}]}");
}

static void test_body_quirks(void **state)
{
        static const char plain[] =
                "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one\"}]}]";
        static const struct {
                const char *model;
                unsigned quirks;
                const char *limit;
                bool usage;
        } rows[] = {
                { "gpt-5.2", 0, "{\"model\":\"gpt-5.2\",\"max_completion_tokens\":1024,", true },
                { "gpt-5.2", OPENAI_QUIRK_OTHER_LIMIT,
                  "{\"model\":\"gpt-5.2\",\"max_tokens\":1024,", true },
                { "qwen", OPENAI_QUIRK_OTHER_LIMIT | OPENAI_QUIRK_NO_USAGE,
                  "{\"model\":\"qwen\",\"max_completion_tokens\":1024,", false },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                cleanup_free char *got = body(plain, rows[i].model, 0, rows[i].quirks, 0);

                assert_true(str_starts(got, rows[i].limit));
                assert_int_equal(strstr(got, "stream_options") != NULL, rows[i].usage);
                assert_null(strstr(got, "\"computer\"")); /* there is no screen */
        }
}

static void test_body_without_picture(void **state)
{
        free(body("[{\"role\":\"user\",\"content\":[{\"type\":\"image\","
                  "\"digest\":\"gone\",\"media_type\":\"image/png\"}]}]",
                  "m", 0, 0, -ENOENT));
}

/* ---- streams ---- */

struct scene {
        struct openai_stream s;
        struct provider_events events;
        struct buf deltas;
};

static void on_delta(void *userdata, size_t block, enum provider_delta kind, struct span text)
{
        struct scene *c = userdata;

        buf_putf(&c->deltas, "%zu%c:%.*s;", block, "txi"[kind], (int) text.len, text.data);
}

static int on_event(void *userdata, const char *event, struct span data)
{
        return openai_stream_event(&((struct scene *) userdata)->s, data);
}

/* Through the event parser, as the bytes of the answer come. */
static int feed(struct scene *c, const char *bytes, size_t piece)
{
        struct sse sse;
        int r = 0;

        *c = (struct scene){ 0 };
        c->events = (struct provider_events){ .on_delta = on_delta, .userdata = c };
        openai_stream_init(&c->s, &c->events);
        sse_init(&sse, MIB, on_event, c);
        for (size_t at = 0, n = strlen(bytes); r == 0 && at < n; at += piece)
                r = sse_feed(&sse, (struct span){ bytes + at, MIN(piece, n - at) });
        sse_done(&sse);
        return r;
}

static void end(struct scene *c)
{
        openai_stream_free(&c->s);
        buf_done(&c->deltas);
}

/* Ids are our own and random: checked for form, then taken out. */
static char *content_text(struct scene *c, char **ret_bad)
{
        cleanup_json json_t *bad = NULL, *content = openai_stream_content(&c->s, &bad);
        const char *key;
        json_t *block, *why;
        size_t i;

        *ret_bad = NULL;
        json_array_foreach (content, i, block) {
                const char *id = json_string_value(json_object_get(block, "id"));

                if (!id)
                        continue;
                assert_true(str_starts(id, "call_") && strlen(id) > 30);
                if (json_object_get(bad, id))
                        json_object_set_new(block, "bad", json_true());
                json_object_del(block, "id");
        }
        json_object_foreach (bad, key, why)
                *ret_bad = xstrdup(json_string_value(why));
        return json_text(content);
}

#define CHUNK(delta, finish)                                                                       \
        "data: "                                                                                   \
        "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m-1\","      \
        "\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" finish "}]}\n\n"
#define USAGE                                                                                      \
        "data: {\"id\":\"c\",\"model\":\"m-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":30,"    \
        "\"completion_tokens\":5,\"total_tokens\":35,\"prompt_tokens_details\":{\"cached_tokens\"" \
        ":10}}}\n\n"
#define DONE "data: [DONE]\n\n"
#define LS "{\"type\":\"tool_use\",\"name\":\"bash\",\"input\":{\"command\":\"ls\"}}"

static const struct {
        const char *server, *bytes, *content, *stop;
        bool usage;
} good[] = {
        { "the cloud: text",
          CHUNK("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", "null")
                  CHUNK("{\"content\":\"Hel\"}", "null") CHUNK("{\"content\":\"lo\"}", "null")
                          CHUNK("{}", "\"stop\"") USAGE DONE,
          "[{\"type\":\"text\",\"text\":\"Hello\"}]", "end_turn", true },
        { "the cloud: two calls in pieces",
          CHUNK("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":"
                "\"a\","
                "\"type\":\"function\",\"function\":{\"name\":\"bash\",\"arguments\":\"\"}}]}",
                "null") CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{"
                              "\\\"comm\"}}]}",
                              "null")
                  CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
                        "\"and\\\":\\\"ls\\\"}\"}}]}",
                        "null") CHUNK("{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"type\":"
                                      "\"function\",\"function\":{\"name\":\"look\",\"arguments\":"
                                      "\"{}\"}}]}",
                                      "null") CHUNK("{}", "\"tool_calls\"") USAGE DONE,
          "[" LS ",{\"type\":\"tool_use\",\"name\":\"look\",\"input\":{}}]", "tool_use", true },
        { "Ollama: thinking as `reasoning`, the whole call in one delta, finish `stop`",
          CHUNK("{\"role\":\"assistant\",\"content\":\"\",\"reasoning\":\"Let me\"}", "null") CHUNK(
                  "{\"role\":\"assistant\",\"content\":\"\",\"reasoning\":\" see\"}", "null")
                  CHUNK("{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":"
                        "\"call_x\",\"index\":0,\"type\":\"function\",\"function\":{"
                        "\"name\":\"bash\",\"arguments\":\"{\\\"command\\\":\\\"ls\\\"}\"}}]"
                        "}",
                        "null") CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "\"stop\"") DONE,
          "[{\"type\":\"thinking\",\"thinking\":\"Let me see\"}," LS "]", "tool_use", false },
        { "llama.cpp: reasoning_content, usage and timings in the last chunk",
          CHUNK("{\"role\":\"assistant\",\"content\":null}", "null") CHUNK(
                  "{\"reasoning_content\":\"Hm\"}", "null") CHUNK("{\"content\":\"Hi\"}", "null")
                  CHUNK("{}", "\"stop\"") "data: {\"choices\":[],\"model\":\"m-1\",\"usage\":{"
                                          "\"completion_tokens\":5,\"prompt_tokens\":30,\"total_"
                                          "tokens\":35,"
                                          "\"prompt_tokens_details\":{\"cached_tokens\":10}},"
                                          "\"timings\":{"
                                          "\"predicted_ms\":1.5}}\n\n" DONE,
          "[{\"type\":\"thinking\",\"thinking\":\"Hm\"},{\"type\":\"text\",\"text\":\"Hi\"}]",
          "end_turn", true },
        { "vLLM: name and arguments apart, usage on each chunk, cut by length, comments",
          ": ping\n\n" CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null") CHUNK(
                  "{\"tool_calls\":[{\"id\":\"chatcmpl-tool-1\",\"type\":\"function\","
                  "\"index\":0,\"function\":{\"name\":\"bash\"}}]}",
                  "null") CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
                                "\"{\\\"command\\\":\\\"ls\\\"}\"}}]}",
                                "null") CHUNK("{\"content\":\"\"}", "\"tool_calls\"") USAGE DONE,
          "[" LS "]", "tool_use", true },
        { "openai-mock-api: no index, no [DONE], finish `stop`",
          CHUNK("{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"a\",\"type\":\"function\","
                "\"function\":{\"name\":\"bash\",\"arguments\":\"{\\\"command\\\":\\\"ls\\\"}\"}}]"
                "}",
                "null") CHUNK("{}", "\"stop\""),
          "[" LS "]", "tool_use", false },
        { "no index, pieces told apart by id",
          CHUNK("{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"bash\",\"arguments\":"
                "\"{\\\"command\\\"\"}},{\"id\":\"b\",\"function\":{\"name\":\"look\"}}]}",
                "null") CHUNK("{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"arguments\":"
                              "\":\\\"ls\\\"}\"}}]}",
                              "null") CHUNK("{}", "\"tool_calls\"") DONE,
          "[" LS ",{\"type\":\"tool_use\",\"name\":\"look\",\"input\":{}}]", "tool_use", false },
        { "each call index 0, arguments as an object, [DONE] without finish_reason",
          CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"bash\","
                "\"arguments\":{\"command\":\"ls\"}}}]}",
                "null") CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"b\",\"function\":{\"name\":"
                              "\"bash\","
                              "\"arguments\":{\"command\":\"ls\"}}}]}",
                              "null") DONE,
          "[" LS "," LS "]", "tool_use", false },
        { "a whole completion in one event",
          "data: {\"object\":\"chat.completion\",\"model\":\"m-1\",\"choices\":[{\"index\":0,"
          "\"message\":{\"role\":\"assistant\",\"content\":\"Hi\",\"tool_calls\":null},"
          "\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":5,"
          "\"prompt_tokens_details\":{\"cached_tokens\":10}}}\n\n",
          "[{\"type\":\"text\",\"text\":\"Hi\"}]", "max_tokens", true },
        { "a refusal",
          CHUNK("{\"refusal\":\"No.\"}", "null") CHUNK("{}", "\"content_filter\"") DONE,
          "[{\"type\":\"text\",\"text\":\"No.\"}]", "refusal", false },
};

static void test_servers(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(good); i++)
                for (size_t piece = 1; piece < 10000; piece = piece == 1 ? 7 : piece * 100) {
                        cleanup_free char *text = NULL, *bad = NULL;
                        struct scene c;

                        assert_int_equal(feed(&c, good[i].bytes, piece), 0);
                        assert_true(c.s.finished);
                        text = content_text(&c, &bad);
                        assert_string_equal(text, good[i].content);
                        assert_null(bad);
                        assert_string_equal(openai_stop_reason(&c.s), good[i].stop);
                        assert_string_equal(c.s.model, "m-1");
                        assert_int_equal(c.s.usage.input_tokens, good[i].usage ? 20 : 0);
                        assert_int_equal(c.s.usage.cache_read_tokens, good[i].usage ? 10 : 0);
                        assert_int_equal(c.s.usage.output_tokens, good[i].usage ? 5 : 0);
                        end(&c);
                }
}

static void test_deltas(void **state)
{
        struct scene c;

        assert_int_equal(feed(&c,
                              CHUNK("{\"reasoning_content\":\"a\"}", "null")
                                      CHUNK("{\"content\":\"b\"}", "null")
                                              CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{"
                                                    "\"name\":\"x\",\"arguments\":\"{}\"}}]}",
                                                    "null"),
                              1000),
                         0);
        assert_string_equal(c.deltas.data, "0x:a;1t:b;2i:{};");
        assert_false(c.s.finished); /* the connection may end here: nobody said it is whole */
        end(&c);
}

static void test_bad_arguments(void **state)
{
        static const struct {
                const char *arguments, *why;
        } rows[] = {
                { "[1]", "expected an object" },
                { "{\\\"a\\\":", "The arguments could not be used" },
                { "{\\\"a\\\":1,\\\"a\\\":2}", "The arguments could not be used" },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                cleanup_free char *bytes = xasprintf(
                        "data: "
                        "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
                        "\"name\":\"bash\",\"arguments\":\"%s\"}}]},\"finish_reason\":\"stop\"}]}"
                        "\n\n",
                        rows[i].arguments);
                cleanup_free char *text = NULL, *bad = NULL;
                struct scene c;

                assert_int_equal(feed(&c, bytes, 1000), 0);
                text = content_text(&c, &bad);
                assert_non_null(strstr(text, "\"input\":{},\"bad\":true"));
                assert_non_null(strstr(bad, rows[i].why));
                end(&c);
        }
}

static void test_failures(void **state)
{
        static const struct {
                const char *bytes, *code;
                bool retry;
        } rows[] = {
                { "data: {\"error\":{\"message\":\"Busy\",\"type\":\"server_error\",\"code\":null}}"
                  "\n\n",
                  "server_error", true },
                { "data: {\"error\":{\"object\":\"error\",\"message\":\"bad\",\"type\":"
                  "\"BadRequestError\",\"code\":400}}\n\n",
                  "BadRequestError", false },
                { "data: {\"error\":{\"message\":\"pay\",\"type\":\"insufficient_quota\",\"code\":"
                  "\"insufficient_quota\"}}\n\n",
                  "insufficient_quota", false },
                { "data: {\"error\":\"out of memory\"}\n\n", "api_error", true },
                { "data: nonsense\n\n", "bad_stream", true },
                { "data: [1]\n\n", "bad_stream", true },
                { "data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n", "bad_stream",
                  true },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct scene c;

                assert_int_equal(feed(&c, rows[i].bytes, 1000), -EBADMSG);
                assert_true(c.s.failed);
                assert_string_equal(c.s.code, rows[i].code);
                assert_int_equal(c.s.retry, rows[i].retry);
                assert_int_equal(openai_stream_event(&c.s, span_of("{}")), -EBADMSG);
                end(&c);
        }
}

static void test_limits(void **state)
{
        cleanup_free char *text = xcalloc(1, 900001), *chunk = NULL;
        struct openai_stream s;
        int r = 0;

        memset(text, 'x', 900000);
        chunk = xasprintf("{\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}", text);
        openai_stream_init(&s, NULL);
        for (int i = 0; i < 3; i++)
                assert_int_equal(openai_stream_event(&s, span_of(chunk)), 0);
        assert_int_equal(openai_stream_event(&s, span_of(chunk)), -EBADMSG);
        assert_string_equal(s.code, "answer_too_large");
        openai_stream_free(&s);

        openai_stream_init(&s, NULL);
        for (int i = 0; r == 0 && i < 1000; i++) {
                cleanup_free char *call = xasprintf("{\"choices\":[{\"delta\":{\"tool_calls\":[{"
                                                    "\"index\":%d,\"id\":\"i%d\",\"function\":{"
                                                    "\"name\":\"x\"}}]}}]}",
                                                    i, i);

                r = openai_stream_event(&s, span_of(call));
        }
        assert_int_equal(r, -EBADMSG);
        assert_int_equal(s.n_blocks, OPENAI_BLOCKS_MAX);
        openai_stream_free(&s);
}

/* ---- what both providers share ---- */

static void test_retry_headers(void **state)
{
        static const struct {
                const char *name, *value;
                long status;
                bool retry;
                uint64_t after_ms;
        } rows[] = {
                { "x-should-retry", "false", 429, false, 0 },
                { "x-should-retry", "True", 400, true, 0 },
                { "x-should-retry", "maybe", 400, false, 0 },
                { "retry-after-ms", "1500", 429, true, 1500 },
                { "retry-after", "2", 529, true, 2000 },
                { "retry-after", "Thu, 01 Jan 1970 00:00:00 GMT", 503, true, 0 },
                { "retry-after", "soon", 408, true, 0 },
                { "other", "1", 404, false, 0 },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct provider_retry r = PROVIDER_RETRY_INIT;

                provider_retry_header(&r, rows[i].name, span_of(rows[i].value));
                assert_int_equal(provider_retries(&r, rows[i].status), rows[i].retry);
                assert_int_equal(r.after_usec / 1000, rows[i].after_ms);
        }
}

static void test_choice(void **state)
{
        struct provider a, o;
        struct provider_set set = { .anthropic = &a, .openai = &o };
        const char *model;

        assert_ptr_equal(provider_for(&set, "openai/gpt-5.2", &model), &o);
        assert_string_equal(model, "gpt-5.2");
        assert_ptr_equal(provider_for(&set, "openai/meta/llama", &model), &o);
        assert_string_equal(model, "meta/llama");
        assert_ptr_equal(provider_for(&set, "claude-sonnet-5-5", &model), &a);
        set.openai_first = true;
        assert_ptr_equal(provider_for(&set, "qwen3", &model), &o);
        assert_ptr_equal(provider_for(&set, "anthropic/claude-x", &model), &a);
        assert_string_equal(model, "claude-x");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_body),
                cmocka_unit_test(test_body_quirks),
                cmocka_unit_test(test_body_without_picture),
                cmocka_unit_test(test_servers),
                cmocka_unit_test(test_deltas),
                cmocka_unit_test(test_bad_arguments),
                cmocka_unit_test(test_failures),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_retry_headers),
                cmocka_unit_test(test_choice),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
