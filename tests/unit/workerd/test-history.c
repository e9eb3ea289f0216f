/* The conversation: folding events, order, healing, trimming of pictures, and rebuilt = lived. */
#include "tests/unit/common/unit.h"

#include "common/base/buf.h"
#include "workerd/history.h"

static json_t *parse(const char *text)
{
        json_t *j = json_loads(text, 0, NULL);

        if (!j)
                fail_msg("bad JSON in the test: %s", text);
        return j;
}

static void add(struct history *h, const char *text)
{
        cleanup_json json_t *event = parse(text);

        assert_int_equal(history_add_event(h, event), 0);
}

static void expect(const struct history *h, size_t kept, const char *expected)
{
        cleanup_json json_t *got = history_compose(h, kept), *want = parse(expected);
        cleanup_free char *a = json_text(got), *b = json_text(want);

        assert_string_equal(a, b);
}

#define USER(seq, text)                                                                            \
        "{\"seq\":" #seq ",\"event_type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"   \
        "\"text\",\"text\":\"" text "\"}]}"
#define TURN(seq, input, blocks)                                                                   \
        "{\"seq\":" #seq                                                                           \
        ",\"event_type\":\"message\",\"role\":\"assistant\",\"input_seq\":" #input                 \
        ",\"content\":[" blocks "]}"
#define CALL(id) "{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"bash\",\"input\":{}}"
#define PRE(seq, id) "{\"seq\":" #seq ",\"event_type\":\"pre_tool\",\"tool_call_id\":\"" id "\"}"
#define POST(seq, id, output)                                                                      \
        "{\"seq\":" #seq ",\"event_type\":\"post_tool\",\"tool_call_id\":\"" id                    \
        "\",\"error\":null,\"tool_output\":[" output "]}"
#define ERROR(seq, id, text)                                                                       \
        "{\"seq\":" #seq ",\"event_type\":\"post_tool\",\"tool_call_id\":\"" id                    \
        "\",\"error\":\"" text "\",\"tool_output\":[{\"type\":\"text\",\"text\":\"lost\"}]}"
#define TEXT(text) "{\"type\":\"text\",\"text\":\"" text "\"}"

static void test_fold(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        const struct history_call *call = NULL;

        assert_int_equal(history_next(h, &call), HISTORY_NOTHING);
        add(h, "{\"seq\":1,\"event_type\":\"session_start\"}");
        add(h, USER(2, "hi"));
        assert_int_equal(history_next(h, &call), HISTORY_MODEL);
        add(h, TURN(3, 2, TEXT("") "," CALL("a") "," CALL("b")));
        assert_int_equal(history_next(h, &call), HISTORY_CALL);
        assert_string_equal(call->id, "a");
        assert_int_equal(call->state, CALL_OPEN);
        add(h, PRE(4, "a"));
        assert_int_equal(call->state, CALL_INTENT);
        add(h, POST(5, "a", TEXT("out")));
        assert_int_equal(history_next(h, &call), HISTORY_CALL);
        assert_string_equal(call->id, "b");
        add(h, PRE(6, "b"));
        add(h, USER(7, "and this"));
        add(h, ERROR(8, "b", "it broke"));
        assert_int_equal(history_next(h, &call), HISTORY_MODEL);
        assert_int_equal(history_last_user_seq(h), 7);
        assert_int_equal(history_turns(h), 0);
        expect(h, 0,
               "[{\"role\":\"user\",\"content\":[" TEXT(
                       "hi") "]},"
                             "{\"role\":\"assistant\",\"content\":[" CALL("a") "," CALL(
                                     "b") "]},"
                                          "{\"role\":\"user\",\"content\":[{\"type\":\"tool_"
                                          "result\",\"tool_use_id\":\"a\",\"content\":[" TEXT(
                                                  "out") "]},"
                                                         "{\"type\":\"tool_result\",\"tool_use_"
                                                         "id\":\"b\",\"content\":\"it "
                                                         "broke\",\"is_error\":true}," TEXT(
                                                                 "and this") "]}]");
        add(h, TURN(9, 7, TEXT("done")));
        assert_int_equal(history_next(h, &call), HISTORY_NOTHING);
        assert_int_equal(history_turns(h), 1);
}

/* A message that came while the model answered stands behind the answer, live and rebuilt. */
static void test_message_during_the_answer(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);

        add(h, USER(1, "one"));
        add(h, USER(2, "two"));
        add(h, TURN(3, 1, TEXT("answer to one")));
        expect(h, 0,
               "[{\"role\":\"user\",\"content\":[" TEXT(
                       "one") "]},{\"role\":\"assistant\","
                              "\"content\":[" TEXT("answer to one") "]},"
                                                                    "{\"role\":"
                                                                    "\"user\","
                                                                    "\"content"
                                                                    "\":[" TEXT("tw"
                                                                                "o") "]}]");
        assert_int_equal(history_next(h, NULL), HISTORY_MODEL);
        add(h, USER(2, "two")); /* said again: known */
        assert_int_equal(history_last_user_seq(h), 2);
}

static void test_open_calls_are_answered(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);

        add(h, USER(1, "x"));
        add(h, TURN(2, 1,
                    "{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"left_click\",\"toolset_name\":"
                    "\"computer\",\"input\":{}}"));
        expect(h, 0,
               "[{\"role\":\"user\",\"content\":[" TEXT(
                       "x") "]},{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":"
                            "\"a\","
                            "\"name\":\"left_click\",\"toolset_name\":\"computer\",\"input\":{}}]},"
                            "{\"role\":\"user\",\"content\":["
                            "{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":\"This "
                            "call was not executed.\",\"is_error\":true,"
                            "\"toolset_name\":\"computer\"}]}]");
}

static void add_pictures(struct history *h, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                cleanup_free char *turn =
                        xasprintf("{\"seq\":%u,\"event_type\":\"message\",\"role\":\"assistant\","
                                  "\"input_seq\":1,\"content\":[{\"type\":\"tool_use\",\"id\":\"c%"
                                  "u\",\"name\":\"computer\",\"input\":{}}]}",
                                  2 + 2 * i, i);
                cleanup_free char *post = xasprintf(
                        "{\"seq\":%u,\"event_type\":\"post_tool\",\"tool_call_id\":\"c%u\","
                        "\"error\":null,\"tool_output\":[{\"type\":\"image\",\"digest\":\"d%u\","
                        "\"media_type\":\"image/png\",\"url\":\"/x\",\"width\":1}]}",
                        3 + 2 * i, i, i);

                add(h, turn);
                add(h, post);
        }
}

static size_t pictures_in(const json_t *conversation)
{
        cleanup_free char *text = json_text(conversation);
        size_t n = 0;

        for (const char *p = text; (p = strstr(p, "\"digest\"")); p++)
                n++;
        return n;
}

/* The number removed is a multiple of what is kept, oldest first; the beginning stays the same
 * meanwhile. */
static void test_trimming(void **state)
{
        static const size_t left[] = { 0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3 };

        for (unsigned n = 0; n < ARRAY_LEN(left); n++) {
                CLEANUP(history_freep) struct history *h = history_new(MIB);
                cleanup_json json_t *c = NULL, *all = NULL, *missing = NULL;

                add(h, USER(1, "go"));
                add_pictures(h, n);
                c = history_compose(h, 3);
                all = history_compose(h, 0);
                assert_int_equal(pictures_in(c), left[n]);
                assert_int_equal(pictures_in(all), n);
                missing = history_missing_images(h, c);
                assert_int_equal(json_array_size(missing), left[n]);
        }
}

static void test_images_are_kept_and_forgotten(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        cleanup_json json_t *c = NULL, *none = json_array();

        add(h, USER(1, "go"));
        add_pictures(h, 2);
        history_set_image(h, "d0", "image/png", span_of("abc"));
        history_set_image(h, "d1", "image/png", span_of("xyz"));
        assert_string_equal(history_image(h, "d0")->base64, "YWJj");
        c = history_compose(h, 1);
        history_drop_images(h, c);
        assert_null(history_image(h, "d0"));
        assert_non_null(history_image(h, "d1"));
        history_drop_images(h, none);
        assert_null(history_image(h, "d1"));
}

static void test_bad_events(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(2000);
        static const char *const bad[] = {
                "{}",
                "[]",
                "{\"seq\":1}",
                "{\"seq\":0,\"event_type\":\"message\"}",
                "{\"seq\":1,\"event_type\":\"message\",\"role\":\"user\"}",
                "{\"seq\":1,\"event_type\":\"message\",\"role\":\"user\",\"content\":{}}",
                "{\"seq\":1,\"event_type\":\"message\",\"role\":\"assistant\",\"content\":[{"
                "\"type\":\"tool_use\"}]}",
                "{\"seq\":1,\"event_type\":\"message\",\"role\":\"assistant\",\"content\":[{"
                "\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"b\",\"input\":1}]}",
        };
        cleanup_buf struct buf big = BUF_INIT;

        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                cleanup_json json_t *event = parse(bad[i]);

                assert_int_equal(history_add_event(h, event), -EBADMSG);
        }
        add(h, PRE(3, "nobody"));
        add(h, POST(4, "nobody", ""));
        add(h, "{\"seq\":5,\"event_type\":\"message\",\"role\":\"user\",\"content\":\"a string\"}");
        buf_puts(&big, "{\"seq\":9,\"event_type\":\"message\",\"role\":\"user\",\"content\":[{"
                       "\"type\":\"text\",\"text\":\"");
        for (int i = 0; i < 2000; i++)
                buf_puts(&big, "x");
        buf_puts(&big, "\"}]}");
        {
                cleanup_json json_t *event = parse(big.data);

                assert_int_equal(history_add_event(h, event), -EMSGSIZE);
        }
}

static void test_an_id_twice(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        const struct history_call *call = NULL;

        add(h, USER(1, "x"));
        add(h, TURN(2, 1, CALL("a")));
        add(h, POST(3, "a", TEXT("first")));
        add(h, TURN(4, 1, CALL("a")));
        assert_int_equal(history_next(h, &call), HISTORY_CALL);
        assert_int_equal(call->state, CALL_OPEN);
        add(h, POST(5, "a", TEXT("second")));
        assert_int_equal(history_next(h, &call), HISTORY_MODEL);
}

static void test_pause_turn_goes_on(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);

        add(h, USER(1, "x"));
        add(h,
            "{\"seq\":2,\"event_type\":\"message\",\"role\":\"assistant\",\"input_seq\":1,\"stop_"
            "reason\":\"pause_turn\",\"content\":[{\"type\":\"text\",\"text\":\"wait\"}]}");
        assert_int_equal(history_next(h, NULL), HISTORY_MODEL);
}

#define SAID(text)                                                                                 \
        "{\"seq\":%d,\"event_type\":\"message\",\"role\":\"user\",\"content\":[" TEXT(text) "]}"

static void step(struct history *h, unsigned *seq, const char *command, const char *output)
{
        cleanup_free char *turn = xasprintf(
                "{\"seq\":%u,\"event_type\":\"message\",\"role\":\"assistant\",\"content\":[{"
                "\"type\":\"tool_use\",\"id\":\"i%u\",\"name\":\"bash\",\"input\":{\"command\":"
                "\"%s\"}}]}",
                *seq + 1, *seq, command);
        cleanup_free char *result = xasprintf(
                "{\"seq\":%u,\"event_type\":\"post_tool\",\"tool_call_id\":\"i%u\",\"error\":null,"
                "\"tool_output\":[{\"type\":\"image\",\"digest\":\"%s\"}]}",
                *seq + 2, *seq, output);

        add(h, turn);
        add(h, result);
        *seq += 2;
}

/* The same call with the same picture, or the same few in turn; a person's word ends it. */
static void test_loops(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        unsigned seq = 1;

        add(h, USER(1, "go"));
        step(h, &seq, "ls", "x");
        step(h, &seq, "ls", "x");
        assert_null(history_loop(h, 3));
        step(h, &seq, "ls", "x");
        assert_string_equal(history_loop(h, 3)->name, "bash");
        assert_null(history_loop(h, 4));
        assert_null(history_loop(h, 0));
        step(h, &seq, "ls", "y"); /* another screen */
        assert_null(history_loop(h, 3));
        for (size_t i = 0; i < 2; i++) {
                step(h, &seq, "a", "x");
                step(h, &seq, "b", "x");
        }
        assert_null(history_loop(h, 3));
        step(h, &seq, "a", "x");
        step(h, &seq, "b", "x");
        assert_non_null(history_loop(h, 3));
        cleanup_free char *said = xasprintf(SAID("try c"), (int) ++seq);
        add(h, said);
        assert_null(history_loop(h, 3));
}

/* What was dropped is counted on; what is kept stays as it was. */
static void test_compaction(void **state)
{
        CLEANUP(history_freep) struct history *h = history_new(MIB);
        unsigned seq = 2;

        add(h, USER(1, "first"));
        add(h, "{\"seq\":2,\"event_type\":\"message\",\"role\":\"user\",\"pinned\":true,"
               "\"content\":[" TEXT("remember") "]}");
        assert_int_equal(history_compact_upto(h, 1), 0);
        for (size_t i = 0; i < 5; i++)
                step(h, &seq, "ls", "x");
        assert_int_equal(history_turns(h), 5);
        assert_int_equal(history_compact_upto(h, 2), 7);
        assert_int_equal(history_compact_upto(h, 5), 0); /* nothing but words would go */
        add(h, "{\"seq\":13,\"event_type\":\"compaction\",\"upto_seq\":7,\"summary\":\"did it\"}");
        assert_int_equal(history_assistant_turns(h), 5);
        assert_int_equal(history_turns(h), 5);
        assert_int_equal(history_last_user_seq(h), 2);
        assert_int_equal(history_next(h, NULL), HISTORY_MODEL);
        cleanup_json json_t *got = history_compose(h, 0);
        cleanup_free char *text = json_text(got);
        assert_int_equal(json_array_size(got), 5);
        assert_non_null(strstr(text, "first"));
        assert_non_null(strstr(text, "remember"));
        assert_non_null(strstr(text, "did it"));
        assert_null(strstr(text, "\"i2\""));
        assert_non_null(strstr(text, "\"i10\""));
        add(h, "{\"seq\":14,\"event_type\":\"usage\",\"usage\":{\"input_tokens\":5,\"cache_read_"
               "tokens\":"
               "6,\"output_tokens\":7}}");
        assert_int_equal(history_context(h), 18);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fold),
                cmocka_unit_test(test_message_during_the_answer),
                cmocka_unit_test(test_open_calls_are_answered),
                cmocka_unit_test(test_trimming),
                cmocka_unit_test(test_images_are_kept_and_forgotten),
                cmocka_unit_test(test_bad_events),
                cmocka_unit_test(test_an_id_twice),
                cmocka_unit_test(test_pause_turn_goes_on),
                cmocka_unit_test(test_loops),
                cmocka_unit_test(test_compaction),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
