/* Decoding of the Messages API's stream: blocks, split arguments, usage, and everything that is
 * wrong. */
#include "tests/unit/common/unit.h"

#include "workerd/provider-anthropic.h"

struct scene {
        struct anthropic_stream s;
        struct provider_events events;
        struct buf deltas;
        json_t *content, *bad;
};

static void on_delta(void *userdata, size_t block, enum provider_delta kind, struct span text)
{
        struct scene *c = userdata;

        buf_putf(&c->deltas, "%zu%c:%.*s;", block, "txi"[kind], (int) text.len, text.data);
}

static void begin(struct scene *c)
{
        *c = (struct scene){ 0 };
        c->events = (struct provider_events){ .on_delta = on_delta, .userdata = c };
        anthropic_stream_init(&c->s, &c->events);
}

static void end(struct scene *c)
{
        anthropic_stream_done(&c->s);
        buf_done(&c->deltas);
        json_decref(c->content);
        json_decref(c->bad);
}

static int feed(struct scene *c, const char *const *events)
{
        int r = 0;

        for (; r == 0 && *events; events++)
                r = anthropic_stream_event(&c->s, span_of(*events));
        return r;
}
#define FEED(c, ...) feed((c), (const char *const[]){ __VA_ARGS__, NULL })

static void check_content(struct scene *c, const char *expected, const char *bad)
{
        cleanup_free char *text = NULL, *bad_text = NULL;

        c->content = anthropic_stream_content(&c->s, &c->bad);
        text = json_text(c->content);
        bad_text = json_text(c->bad);
        assert_string_equal(text, expected);
        assert_string_equal(bad_text, bad);
}

#define START                                                                                      \
        "{\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-x\",\"usage\":{" \
        "\"input_tokens\":10,\"cache_read_input_tokens\":3,\"output_tokens\":1}}}"
#define STOP "{\"type\":\"message_stop\"}"
#define BLOCK(i, json)                                                                             \
        "{\"type\":\"content_block_start\",\"index\":" #i ",\"content_block\":" json "}"
#define DELTA(i, json) "{\"type\":\"content_block_delta\",\"index\":" #i ",\"delta\":" json "}"
#define END(i) "{\"type\":\"content_block_stop\",\"index\":" #i "}"
#define TOOL(id) "{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"bash\",\"input\":{}}"
#define INPUT(text) "{\"type\":\"input_json_delta\",\"partial_json\":\"" text "\"}"

static void test_whole_turn(void **state)
{
        struct scene c;

        begin(&c);
        assert_int_equal(
                FEED(&c, START, "{\"type\":\"ping\"}", "{\"type\":\"brand_new_event\",\"x\":[1]}",
                     BLOCK(0, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}"),
                     DELTA(0, "{\"type\":\"thinking_delta\",\"thinking\":\"let \"}"),
                     DELTA(0, "{\"type\":\"thinking_delta\",\"thinking\":\"me\"}"),
                     DELTA(0, "{\"type\":\"signature_delta\",\"signature\":\"c2ln\"}"), END(0),
                     BLOCK(1, "{\"type\":\"redacted_thinking\",\"data\":\"xyz\"}"), END(1),
                     BLOCK(2, "{\"type\":\"text\",\"text\":\"\",\"citations\":null}"),
                     DELTA(2, "{\"type\":\"text_delta\",\"text\":\"h\\u00e9\"}"),
                     DELTA(2, "{\"type\":\"unheard_of_delta\",\"x\":1}"), END(2),
                     BLOCK(3, "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"left_click\","
                              "\"input\":{},"
                              "\"toolset_name\":\"computer\",\"caller\":{\"type\":\"direct\"}}"),
                     DELTA(3, INPUT("")), DELTA(3, INPUT("{\\\"coordi")),
                     DELTA(3, INPUT("nate\\\":[1,")), DELTA(3, INPUT("2]}")), END(3),
                     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_"
                     "sequence\":null},"
                     "\"usage\":{\"output_tokens\":20,\"input_tokens\":null}}",
                     "{\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":25}}",
                     STOP),
                0);
        assert_int_equal(c.s.state, ANTHROPIC_STREAM_COMPLETE);
        assert_string_equal(c.s.model, "claude-x");
        assert_string_equal(c.s.stop_reason, "tool_use");
        assert_int_equal(c.s.usage.input_tokens, 10);
        assert_int_equal(c.s.usage.cache_read_tokens, 3);
        assert_int_equal(c.s.usage.output_tokens, 25);
        assert_string_equal(c.deltas.data,
                            "0x:let ;0x:me;2t:h\xc3\xa9;3i:{\"coordi;3i:nate\":[1,;3i:2]};");
        check_content(&c,
                      "[{\"type\":\"thinking\",\"thinking\":\"let me\",\"signature\":\"c2ln\"},"
                      "{\"type\":\"redacted_thinking\",\"data\":\"xyz\"},"
                      "{\"type\":\"text\",\"text\":\"h\xc3\xa9\"},"
                      "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"left_click\",\"input\":{"
                      "\"coordinate\":[1,2]},"
                      "\"toolset_name\":\"computer\",\"caller\":{\"type\":\"direct\"}}]",
                      "{}");
        end(&c);
}

/* The arguments split at every byte give the same object. */
static void test_input_splits(void **state)
{
        static const char input[] =
                "{\"command\":\"echo \\\"h\xc3\xa9\\\" \\\\ \\u00e4\",\"n\":[1.5,-0,true]}";

        for (size_t cut = 1; cut < sizeof(input) - 1; cut++) {
                struct scene c;
                size_t at = cut;

                begin(&c);
                assert_int_equal(FEED(&c, START, BLOCK(0, TOOL("a"))), 0);
                while (at > 0 && ((unsigned char) input[at] & 0xc0) == 0x80)
                        at--; /* JSON text is cut between characters */
                for (int half = 0; half < 2; half++) {
                        cleanup_buf struct buf event = BUF_INIT;

                        buf_puts(&event, "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{"
                                         "\"type\":\"input_json_delta\",\"partial_json\":");
                        buf_put_json_string(&event, input + (half ? at : 0),
                                            half ? sizeof(input) - 1 - at : at);
                        buf_puts(&event, "}}");
                        assert_int_equal(anthropic_stream_event(
                                                 &c.s, (struct span){ event.data, event.len }),
                                         0);
                }
                assert_int_equal(FEED(&c, STOP), 0);
                check_content(&c,
                              "[{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"bash\",\"input\":{"
                              "\"command\":\"echo \\\"h\xc3\xa9\\\" \\\\ "
                              "\xc3\xa4\",\"n\":[1.5,0,true]}}]",
                              "{}");
                end(&c);
        }
}

static void test_bad_input(void **state)
{
        static const char *const inputs[] = { "{\\\"a\\\":", "[1]", "nonsense", "{\\\"a\\\":1}{",
                                              "{\\\"a\\\":\\\"\\\\u0000\\\"}" };

        for (size_t i = 0; i < ARRAY_LEN(inputs); i++) {
                cleanup_free char *delta =
                        xasprintf("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{"
                                  "\"type\":\"input_json_delta\",\"partial_json\":\"%s\"}}",
                                  inputs[i]);
                struct scene c;

                begin(&c);
                assert_int_equal(FEED(&c, START, BLOCK(0, TOOL("a")), delta, STOP), 0);
                c.content = anthropic_stream_content(&c.s, &c.bad);
                assert_non_null(json_object_get(c.bad, "a"));
                assert_true(json_is_object(json_object_get(json_array_get(c.content, 0), "input")));
                end(&c);
        }
}

static void expect_failure(const char *code, const char *const *events)
{
        struct scene c;

        begin(&c);
        assert_int_equal(feed(&c, events), -EBADMSG);
        assert_int_equal(c.s.state, ANTHROPIC_STREAM_FAILED);
        assert_string_equal(c.s.code, code);
        assert_true(strlen(c.s.message) > 0);
        end(&c);
}
#define FAILS(code, ...) expect_failure(code, (const char *const[]){ START, __VA_ARGS__, NULL })

static void test_failures(void **state)
{
        FAILS("overloaded_error", "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
                                  "\"message\":\"busy\"}}");
        FAILS("api_error", "{\"type\":\"error\"}");
        FAILS("bad_stream", "not json");
        FAILS("bad_stream", "{}");
        FAILS("bad_stream", "[]");
        FAILS("bad_stream", BLOCK(256, "{\"type\":\"text\",\"text\":\"\"}"));
        FAILS("bad_stream", BLOCK(-1, "{\"type\":\"text\",\"text\":\"\"}"));
        FAILS("bad_stream", BLOCK(0, "{}"));
        FAILS("bad_stream", BLOCK(0, "{\"type\":\"tool_use\",\"name\":\"bash\",\"input\":{}}"));
        FAILS("bad_stream", BLOCK(0, "{\"type\":\"tool_use\",\"id\":\"x\",\"input\":{}}"));
        FAILS("bad_stream", BLOCK(0, TOOL("a")), BLOCK(1, TOOL("a")));
        FAILS("bad_stream", BLOCK(0, TOOL("a")), BLOCK(0, TOOL("b")));
        FAILS("bad_stream", DELTA(3, "{\"type\":\"text_delta\",\"text\":\"x\"}"));
}

static void test_too_large(void **state)
{
        cleanup_buf struct buf event = BUF_INIT;
        struct scene c;
        int r = 0;

        begin(&c);
        c.events.on_delta = NULL;
        assert_int_equal(FEED(&c, START, BLOCK(0, "{\"type\":\"text\",\"text\":\"\"}")), 0);
        buf_puts(&event, "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_"
                         "delta\",\"text\":\"");
        for (int i = 0; i < 100000; i++)
                buf_puts(&event, "x");
        buf_puts(&event, "\"}}");
        for (int i = 0; i < 100 && r == 0; i++)
                r = anthropic_stream_event(&c.s, (struct span){ event.data, event.len });
        assert_int_equal(r, -EBADMSG);
        assert_string_equal(c.s.code, "answer_too_large");
        end(&c);
}

static void test_empty_input_is_no_arguments(void **state)
{
        struct scene c;

        begin(&c);
        assert_int_equal(FEED(&c, START, BLOCK(0, TOOL("a")), DELTA(0, INPUT("")), END(0), STOP),
                         0);
        check_content(&c, "[{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"bash\",\"input\":{}}]",
                      "{}");
        end(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole_turn),
                cmocka_unit_test(test_input_splits),
                cmocka_unit_test(test_bad_input),
                cmocka_unit_test(test_failures),
                cmocka_unit_test(test_too_large),
                cmocka_unit_test(test_empty_input_is_no_arguments),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
