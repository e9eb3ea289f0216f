/* The agent loop's questions to a person: the session waits, the next message is the call's result.
 *
 * Nothing is kept here: whether a question is open follows from the stored intent, its answer from
 * the first message behind it. So a restart, of the worker or of the coordinator, only asks again.
 */
#include "agent-internal.h"

#include "common/io/log.h"

#define QUESTION_SHOWN 400 /* bytes in the reason of the state */

bool agent_asks(const struct history_call *call)
{
        const struct tool *t = tool_find(call->name, call->toolset);

        return t && t->asks && call->state == CALL_INTENT;
}

bool agent_runs_again(const struct history_call *call)
{
        const struct tool *t = tool_find(call->name, call->toolset);

        return t && t->again && call->state == CALL_INTENT;
}

static void finish(struct agent *a, const struct history_call *call, struct tool_result *result)
{
        struct step *s = step_new();
        uint64_t now = now_realtime();
        uint64_t ms = call->intent_us > 0 && now > call->intent_us
                              ? (now - call->intent_us) / USEC_PER_MSEC
                              : 0;
        cleanup_free char *id = xstrdup(call->id);

        loop_timer_disarm(&a->ask_limit);
        a->c.on_active(a->c.userdata);
        agent_show(a, SESSION_STATE_RUNNING, "");
        step_result(s, a, call->id, call->name, result, ms);
        agent_plan_calls(a, s, id, result->error && call->toolset);
        s->after = agent_run;
        tool_result_done(result);
        step_commit(s, a);
}

static uint64_t limit_usec(const struct history_call *call)
{
        double seconds = json_number_value(json_object_get(call->input, "timeout"));

        return seconds > 0 ? (uint64_t) (seconds * 1e6) : 0;
}

/* Microseconds until the question is given up; UINT64_MAX = never. */
static uint64_t time_left(const struct history_call *call)
{
        uint64_t limit = limit_usec(call), now = now_realtime();

        if (limit == 0)
                return UINT64_MAX;
        if (call->intent_us == 0 || now < call->intent_us)
                return limit;
        return now - call->intent_us < limit ? limit - (now - call->intent_us) : 0;
}

static void show(struct agent *a, const struct history_call *call, uint64_t left)
{
        const char *question = json_string_value(json_object_get(call->input, "question"));
        char reason[QUESTION_SHOWN + 30], until[TIMESTAMP_MAX];
        json_t *shown = json_pack("{s:s,s:s,s:O*}", "tool_call_id", call->id, "question", question,
                                  "choices", json_object_get(call->input, "choices"));
        struct append *append;

        if (left != UINT64_MAX) {
                timestamp_format(now_realtime() + left, until);
                json_object_set_new(shown, "until", json_string(until));
        }
        (void) snprintf(reason, sizeof(reason), "asks: %.400s", question);
        append = append_new();
        append_question(append, shown, utf8_valid(reason, strlen(reason)) ? reason : "asks");
        a->shown = SESSION_STATE_WAITING;
        a->waiting_for = WAITING_FOR_ANSWER;
        a->asked_seq = call->intent_seq;
        agent_send(a, append);
}

void agent_ask(struct agent *a, const struct history_call *call)
{
        const struct tool *t = tool_find(call->name, call->toolset);
        const struct history_entry *answer = history_answer(a->c.history, call->intent_seq);
        struct tool_result result = { 0 };
        const char *why = t->asks(call->input);
        uint64_t left = time_left(call);

        if (why) {
                result.error = xstrdup(why);
        } else if (answer) {
                result.content = json_incref(answer->content);
                result.more = json_pack("{s:I}", "answer_seq", (json_int_t) answer->seq);
        } else if (left == 0) {
                result.content = json_pack(
                        "[{s:s,s:s}]", "type", "text", "text",
                        "Nobody answered in time. Go on by your best judgement, or stop and say "
                        "what is open.");
        } else {
                if (a->asked_seq != call->intent_seq || a->shown != SESSION_STATE_WAITING)
                        show(a, call, left);
                if (left != UINT64_MAX)
                        loop_timer_arm(&a->ask_limit, left + USEC_PER_MSEC);
                agent_rest(a, SESSION_STATE_WAITING);
                return;
        }
        finish(a, call, &result);
}

static void on_limit(void *userdata)
{
        struct agent *a = userdata;

        if (a->state == AGENT_RESTING && !a->paused)
                agent_run(a);
}

int agent_ask_init(struct agent *a)
{
        return loop_timer_init(&a->ask_limit, a->c.event, on_limit, a);
}
