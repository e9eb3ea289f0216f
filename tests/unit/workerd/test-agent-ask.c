/* The agent loop's questions to a person and its reports: answers, restarts at each step, time
 * limits, what comes before and behind. */
#include "agent-rig.h"

#define ASK(id, more)                                                                              \
        "{\"type\":\"tool_use\",\"id\":\"" id                                                      \
        "\",\"name\":\"ask_human\",\"input\":{\"question\":\"which?\"" more "}}"
#define DONE(id, input)                                                                            \
        "{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"done\",\"input\":" input "}"

static const struct turn asks[] = {
        { .content = "[" ASK("q", "") "," CALL("b", "nonsense") "]", .stop_reason = "tool_use" },
        { .content = "[" TEXT("thanks") "]" },
};
#define ASKED "message status:running message usage pre_tool status:waiting"

static void test_answer(void **state)
{
        struct scene s;

        open_scene(&s, asks);
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_WAITING);
        assert_int_equal(s.rest, SESSION_STATE_WAITING);
        check_events(&s, ASKED);
        say(&s.hub, "the red one");
        agent_message(s.agent, s.hub.last_message_seq);
        RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_IDLE);
        check_events(&s, ASKED " message post_tool pre_tool post_tool! message usage "
                               "status:idle");
        check_rebuilt(&s);
        assert_int_equal(s.calls, 2);
        assert_non_null(strstr(s.asked[1], "the red one"));
        /* Once, as the result; not again as words of the user. */
        assert_null(strstr(strstr(s.asked[1], "the red one") + 3, "the red one"));
        close_scene(&s);
}

/* A worker that takes over asks no second time, runs nothing, and finds an answer that came
 * meanwhile. */
static void test_restarts(void **state)
{
        for (int answered = 0; answered < 2; answered++) {
                struct scene s;

                open_scene(&s, asks);
                say(&s.hub, "go");
                start(&s, 7);
                RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_WAITING);
                close_agent(&s);
                if (answered)
                        say(&s.hub, "blue");
                s.hub.state = SESSION_STATE_STARTING;
                s.hub.epoch = 8;
                s.resting = false;
                start(&s, 8);
                if (!answered) {
                        RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_WAITING);
                        say(&s.hub, "blue");
                        agent_message(s.agent, s.hub.last_message_seq);
                }
                RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_IDLE);
                assert_int_equal(s.calls, 2);
                assert_non_null(strstr(s.asked[1], "blue"));
                assert_null(strstr(s.asked[1], "interrupted"));
                assert_null(strstr(s.asked[1], "not executed"));
                check_rebuilt(&s);
                close_scene(&s);
        }
}

/* What was said before the question is no answer to it; it goes to the model beside it. */
static void test_earlier_words(void **state)
{
        static const struct turn turns[] = {
                { .content = "[" ASK("q", "") "]", .say_meanwhile = "by the way" },
                { .content = "[" TEXT("thanks") "]" },
        };
        struct scene s;

        open_scene(&s, turns);
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_WAITING);
        say(&s.hub, "green");
        agent_message(s.agent, s.hub.last_message_seq);
        RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_IDLE);
        assert_non_null(strstr(s.asked[1], "\"tool_use_id\":\"q\",\"content\":[{\"type\":\"text\","
                                           "\"text\":\"green"));
        assert_non_null(strstr(s.asked[1], "by the way"));
        check_rebuilt(&s);
        close_scene(&s);
}

static void test_limits_and_bad_questions(void **state)
{
        static const struct turn turns[] = {
                { .content = "[" ASK("q", ",\"timeout\":1") "," ASK("r", ",\"choices\":7") "]" },
                { .content = "[" TEXT("well") "]" },
        };
        struct scene s;

        open_scene(&s, turns);
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 15, s.resting && s.hub.state == SESSION_STATE_IDLE);
        assert_non_null(strstr(s.asked[1], "Nobody answered in time"));
        assert_non_null(strstr(s.asked[1], "choices must be a list"));
        check_rebuilt(&s);
        close_scene(&s);
}

/* A person stops the question; what they say next is a message, not its answer. */
static void test_interrupted(void **state)
{
        struct scene s;

        open_scene(&s, asks);
        say(&s.hub, "go");
        start(&s, 7);
        RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_WAITING);
        agent_told(s.agent, SESSION_STATE_PAUSED, 0);
        assert_int_equal(s.rest, SESSION_STATE_PAUSED);
        s.hub.state = SESSION_STATE_RUNNING;
        say(&s.hub, "go on with red");
        agent_told(s.agent, SESSION_STATE_RUNNING, s.hub.last_message_seq);
        RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_IDLE);
        assert_non_null(strstr(s.asked[1], "go on with red"));
        check_rebuilt(&s);
        close_scene(&s);
}

static void test_report(void **state)
{
        static const struct turn turns[] = {
                { .content = "[" DONE("d", "{\"summary\":\"\"}") "]" },
                { .content = "[" DONE("e", "{\"summary\":\"all is well\"}") "," CALL(
                          "b", "nonsense") "]" },
                { .content = "[" TEXT("and more") "]" },
        };
        struct scene s;

        open_scene(&s, turns);
        say(&s.hub, "go");
        start(&s, 7);
        s.host.child = true;
        RUN_UNTIL(s.e, 10, s.resting && s.hub.state == SESSION_STATE_IDLE);
        check_events(&s, "message status:running message usage pre_tool post_tool! message usage "
                         "pre_tool post_tool report post_tool! status:idle");
        assert_int_equal(s.calls, 2);
        check_rebuilt(&s);
        /* The next worker finds nothing to do until it is spoken to. */
        close_agent(&s);
        s.hub.state = SESSION_STATE_STARTING;
        s.hub.epoch = 8;
        s.resting = false;
        start(&s, 8);
        RUN_UNTIL(s.e, 10, s.resting);
        assert_int_equal(s.calls, 2);
        say(&s.hub, "one thing more");
        agent_message(s.agent, s.hub.last_message_seq);
        RUN_UNTIL(s.e, 10, s.resting && s.calls == 3);
        assert_non_null(strstr(s.asked[2], "the report ended the turn"));
        check_rebuilt(&s);
        close_scene(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_answer),
                cmocka_unit_test(test_restarts),
                cmocka_unit_test(test_earlier_words),
                cmocka_unit_test(test_limits_and_bad_questions),
                cmocka_unit_test(test_interrupted),
                cmocka_unit_test(test_report),
        };

        (void) CLICK("x"); /* of the rig, for others */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
