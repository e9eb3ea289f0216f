/* The agent loop against a coordinator of the test's own (real link, real messages) and a scripted
 * provider. */
#include "agent-rig.h"

static const struct turn two_tools[] = {
        { .content = "[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"s\"}," TEXT(
                  "look") "," CALL("a", "bash") "," CALL("b", "nonsense") "]",
          .stop_reason = "tool_use" },
        { .content = "[" TEXT("done") "]" },
};
#define TWO_TOOLS                                                                                  \
        "message status:running thinking message usage pre_tool post_tool! pre_tool post_tool! "   \
        "message usage status:idle"

static void test_run(void **state)
{
        struct scene s;

        open_scene(&s, two_tools);
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.resting);
        assert_int_equal(s.rest, SESSION_STATE_IDLE);
        check_events(&s, TWO_TOOLS);
        check_rebuilt(&s);
        assert_int_equal(
                s.hub.appends,
                5); /* running; turn and intent; result and intent; result; turn and idle */
        RUN_UNTIL(s.e, 5, s.hub.lives >= 2);
        say(&s.hub, "more"); /* a message to an idle session */
        s.turns = (const struct turn[]){ { .content = "[" TEXT("again") "]" } };
        s.next_turn = 0;
        agent_message(s.agent, s.hub.last_message_seq);
        assert_false(s.resting);
        RUN_UNTIL(s.e, 10, s.resting);
        check_events(&s, TWO_TOOLS " message status:running message usage status:idle");
        check_rebuilt(&s);
        close_scene(&s);
}

/* Answers that get lost, before and after the hub stored: the same events, once. */
static void test_lost_answers(void **state)
{
        for (unsigned mode = 0; mode < 3; mode++) {
                struct scene s;

                open_scene(&s, two_tools);
                say(&s.hub, "go");
                s.hub.refuse_stored = mode != 1 ? 8 : 0;
                s.hub.refuse_unstored = mode != 0 ? 8 : 0;
                start(&s, 7);
                RUN_UNTIL(s.e, 30, s.resting);
                check_events(&s, TWO_TOOLS);
                check_rebuilt(&s);
                if (mode == 0)
                        assert_true(s.hub.replays >= 1);
                close_scene(&s);
        }
}

static void test_message_while_answering(void **state)
{
        static const struct turn turns[] = {
                { .content = "[" TEXT("first") "]", .say_meanwhile = "wait, also this" },
                { .content = "[" TEXT("second") "]" },
        };
        struct scene s;

        open_scene(&s, turns);
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.resting);
        check_events(&s, "message status:running message message usage message usage status:idle");
        check_rebuilt(&s);
        assert_int_equal(s.calls, 2);
        assert_non_null(strstr(s.asked[1], "first\"}]},{\"role\":\"user\",\"content\":[{\"type\":"
                                           "\"text\",\"text\":\"wait, also this"));
        close_scene(&s);
}

static void stored(struct hub *h, enum event_type type, const char *body)
{
        store(h, type, span_of(body));
}

#define OPEN_TURN                                                                                  \
        "{\"role\":\"assistant\",\"input_seq\":1,\"content\":[" CALL("a", "bash") "," CALL(        \
                "b", "bash") "," CALL("c", "bash") "]}"

/* An intent without result is answered as unknown; what follows it in the turn does not run. */
static void test_resume_interrupted(void **state)
{
        static const struct turn turns[] = { { .content = "[" TEXT("I look first") "]" } };
        struct scene s;

        open_scene(&s, turns);
        say(&s.hub, "go");
        stored(&s.hub, EVENT_TYPE_MESSAGE, OPEN_TURN);
        stored(&s.hub, EVENT_TYPE_PRE_TOOL, "{\"tool_call_id\":\"a\"}");
        stored(&s.hub, EVENT_TYPE_POST_TOOL,
               "{\"tool_call_id\":\"a\",\"error\":null,\"tool_output\":[]}");
        stored(&s.hub, EVENT_TYPE_PRE_TOOL, "{\"tool_call_id\":\"b\"}");
        stored(&s.hub, EVENT_TYPE_USAGE,
               "{\"total\":{\"input_tokens\":100,\"turns\":9,\"cost_usd\":0.5}}");
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.resting);
        check_events(&s, "message message pre_tool post_tool pre_tool usage status:running "
                         "post_tool! post_tool! message usage status:idle");
        assert_non_null(
                strstr(s.hub.events[7], "interrupted, effect unknown; look before you repeat"));
        assert_non_null(strstr(s.hub.events[8],
                               "not executed: an earlier call of this turn was interrupted"));
        assert_non_null(strstr(s.hub.events[10], "\"input_tokens\":110"));
        assert_non_null(strstr(s.hub.events[10], "\"cost_usd\":0.5"));
        assert_int_equal(s.calls, 1);
        check_rebuilt(&s);
        close_scene(&s);
}

/* Calls whose intent was never stored never ran: they run now, unless the user spoke since. */
static void test_resume_open(void **state)
{
        static const struct turn turns[] = { { .content = "[" TEXT("ok") "]" } };

        for (int spoken = 0; spoken < 2; spoken++) {
                struct scene s;

                open_scene(&s, turns);
                say(&s.hub, "go");
                stored(&s.hub, EVENT_TYPE_MESSAGE, OPEN_TURN);
                if (spoken)
                        say(&s.hub, "stop that");
                start(&s, 7);
                RUN_UNTIL(s.e, 10, s.resting);
                if (spoken) {
                        check_events(&s, "message message message status:running post_tool! "
                                         "post_tool! post_tool! message usage status:idle");
                        assert_non_null(strstr(s.hub.events[4], "not executed: the user spoke"));
                } else {
                        check_events(&s,
                                     "message message status:running pre_tool post_tool! pre_tool "
                                     "post_tool! pre_tool post_tool! message usage status:idle");
                }
                check_rebuilt(&s);
                close_scene(&s);
        }
}

/* After a failed member of a toolset the rest of the turn is answered, not run. */
static void test_toolset_stops_at_a_failure(void **state)
{
        static const struct turn turns[] = {
                { .content = "[" CLICK("a") "," CLICK("b") "," CALL("c", "bash") "," CLICK("d") "]",
                  .stop_reason = "tool_use" },
                { .content = "[" TEXT("ok") "]" },
        };
        struct scene s;

        open_scene(&s, turns);
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.resting);
        check_events(&s, "message status:running message usage pre_tool post_tool! post_tool! "
                         "pre_tool post_tool! post_tool! message usage status:idle");
        check_rebuilt(&s);
        close_scene(&s);
}

static void test_busy_model(void **state)
{
        static const struct turn recovers[] = { { .retry = true },
                                                { .retry = true },
                                                { .retry = true },
                                                { .content = "[" TEXT("ok") "]" } };
        static const struct turn never[] = {
                { .retry = true }, { .retry = true }, { .retry = true }, { .retry = true }
        };
        static const struct turn final[] = { { .retry = false } };
        static const struct {
                const struct turn *turns;
                size_t calls;
                const char *events;
        } rows[] = {
                { recovers, 4, "message status:running message usage status:idle" },
                { never, 4, "message status:running error status:failed" },
                { final, 1, "message status:running error status:failed" },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct scene s;

                open_scene(&s, rows[i].turns);
                say(&s.hub, "go");
                start(&s, 7);
                RUN_UNTIL(s.e, 20, s.resting || s.ended);
                check_events(&s, rows[i].events);
                assert_int_equal(s.calls, rows[i].calls);
                if (i > 0)
                        assert_string_equal(s.hub.reason, "It is busy.");
                close_scene(&s);
        }
}

/* The next model is asked when the first is of no use, and the first again for the next message. */
static void test_fallback(void **state)
{
        static const struct turn turns[] = {
                { .retry = true },  { .retry = true },
                { .retry = true },  { .retry = true },
                { .retry = true },  { .content = "[" TEXT("ok") "]" },
                { .retry = false }, { .content = "[" TEXT("ok") "]" }
        };
        static const char *const models[] = { "stub",  "stub",  "stub", "stub",
                                              "other", "other", "stub", "other" };
        struct scene s;

        open_scene(&s, turns);
        s.n_choices = 2;
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 20, s.resting);
        check_events(&s, "message status:running status:waiting status:running message usage "
                         "status:idle");
        say(&s.hub, "again");
        agent_message(s.agent, s.hub.last_message_seq);
        RUN_UNTIL(s.e, 20, s.resting);
        assert_int_equal(s.calls, ARRAY_LEN(models));
        for (size_t i = 0; i < s.calls; i++)
                assert_string_equal(s.models[i], models[i]);
        close_scene(&s);
}

/* The last choice is waited for when it is only busy. */
static void test_long_busy(void **state)
{
        static const struct turn turns[] = { { .retry = true },
                                             { .retry = true },
                                             { .retry = true },
                                             { .retry = true },
                                             { .retry = true },
                                             { .retry = true },
                                             { .content = "[" TEXT("ok") "]" } };
        struct scene s;

        open_scene(&s, turns);
        s.busy_usec = 60 * USEC_PER_SEC;
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 20, s.resting || s.ended);
        assert_false(s.ended);
        assert_int_equal(s.calls, 7);
        close_scene(&s);
}

static void test_turns_max(void **state)
{
        static const struct turn turns[] = {
                { .content = "[" CALL("a", "bash") "]", .stop_reason = "tool_use" },
                { .content = "[" CALL("b", "bash") "]", .stop_reason = "tool_use" },
                { .content = "[" TEXT("went on") "]" },
        };
        struct scene s;

        open_scene(&s, turns);
        s.turns_max = 2;
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_WAITING);
        assert_int_equal(s.rest, SESSION_STATE_WAITING);
        assert_non_null(strstr(s.hub.reason, "2 model calls"));
        say(&s.hub, "go on");
        agent_message(s.agent, s.hub.last_message_seq);
        RUN_UNTIL(s.e, 10, s.resting);
        assert_int_equal(s.hub.state, SESSION_STATE_IDLE);
        close_scene(&s);
}

static void test_odd_ends(void **state)
{
        static const struct turn empty[] = { { .content = "[]" } };
        static const struct turn refusal[] = { { .content = "[" TEXT("no") "]",
                                                 .stop_reason = "refusal" } };
        static const struct turn cut[] = { { .content = "[" TEXT("half") "]",
                                             .stop_reason = "max_tokens" } };
        static const struct turn paused[] = { { .content = "[" TEXT("a") "]",
                                                .stop_reason = "pause_turn" },
                                              { .content = "[" TEXT("b") "]" } };
        static const struct turn full[] = { { .content = "[]",
                                              .stop_reason = "model_context_window_exceeded" } };
        static const struct {
                const struct turn *turns;
                const char *events, *reason;
        } rows[] = {
                { empty, "message status:running message usage status:idle", "answered" },
                { refusal, "message status:running message usage status:idle",
                  "the model declined" },
                { cut, "message status:running message usage status:idle", "cut at the limit" },
                { paused, "message status:running message usage message usage status:idle",
                  "answered" },
                { full, "message status:running error status:failed", "longer than the model" },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct scene s;

                open_scene(&s, rows[i].turns);
                say(&s.hub, "go");
                start(&s, 7);
                RUN_UNTIL(s.e, 10, s.resting || s.ended);
                check_events(&s, rows[i].events);
                assert_non_null(strstr(s.hub.reason, rows[i].reason));
                close_scene(&s);
        }
}

static void test_fenced(void **state)
{
        struct scene s;

        open_scene(&s, two_tools);
        say(&s.hub, "go");
        start(&s, 6); /* an old epoch */
        RUN_UNTIL(s.e, 10, s.fenced);
        assert_int_equal(s.hub.n, 1);
        close_agent(&s);
        s.fenced = false;
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.calls == 1);
        s.hub.epoch = 8; /* taken away while the model answers */
        RUN_UNTIL(s.e, 10, s.fenced);
        assert_false(s.resting);
        close_scene(&s);
}

static void test_refused_event(void **state)
{
        struct scene s;

        open_scene(&s, two_tools);
        say(&s.hub, "go");
        s.hub.refuse_bad = true;
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.ended);
        check_events(&s, "message status:running error status:failed");
        close_scene(&s);
}

static void test_pictures_are_fetched(void **state)
{
        static const struct turn turns[] = { { .content = "[" TEXT("ok") "]" } };
        struct scene s;

        open_scene(&s, turns);
        say(&s.hub, "go");
        stored(&s.hub, EVENT_TYPE_MESSAGE,
               "{\"role\":\"assistant\",\"input_seq\":1,\"content\":[" CALL("a", "computer") "]}");
        stored(&s.hub, EVENT_TYPE_POST_TOOL,
               "{\"tool_call_id\":\"a\",\"error\":null,\"tool_output\":[{\"type\":\"image\","
               "\"digest\":\"d1\",\"media_type\":\"image/png\"},"
               "{\"type\":\"image\",\"digest\":\"gone\",\"media_type\":\"image/png\"}]}");
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.resting);
        assert_int_equal(s.hub.attachments_asked, 2);
        assert_int_equal(s.calls, 1);
        assert_string_equal(history_image(s.history, "d1")->base64, "cG5n");
        assert_non_null(history_image(s.history, "gone"));
        close_scene(&s);
}

/* Freed in every state: nothing calls back afterwards, nothing leaks (the sanitizers watch). */
static void test_freed_at_any_time(void **state)
{
        for (unsigned turns = 0; turns < 60; turns++) {
                struct scene s;

                open_scene(&s, two_tools);
                say(&s.hub, "go");
                start(&s, 7);
                for (unsigned i = 0; i < turns; i++)
                        assert_true(sd_event_run(s.e, 1000) >= 0);
                close_agent(&s);
                for (unsigned i = 0; i < 5; i++)
                        assert_true(sd_event_run(s.e, 1000) >= 0);
                close_scene(&s);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_run),
                cmocka_unit_test(test_lost_answers),
                cmocka_unit_test(test_message_while_answering),
                cmocka_unit_test(test_resume_interrupted),
                cmocka_unit_test(test_resume_open),
                cmocka_unit_test(test_toolset_stops_at_a_failure),
                cmocka_unit_test(test_busy_model),
                cmocka_unit_test(test_fallback),
                cmocka_unit_test(test_long_busy),
                cmocka_unit_test(test_turns_max),
                cmocka_unit_test(test_odd_ends),
                cmocka_unit_test(test_fenced),
                cmocka_unit_test(test_refused_event),
                cmocka_unit_test(test_pictures_are_fetched),
                cmocka_unit_test(test_freed_at_any_time),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
