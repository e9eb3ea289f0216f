/* The agent loop's tool calls: running them one by one, and what a restart left unanswered. */
#include "agent-internal.h"

#include "common/base/fault.h"
#include "common/io/log.h"

static bool turn_failed(const struct history_entry *e)
{
        for (size_t i = 0; i < e->n_calls; i++)
                if (e->calls[i].toolset && e->calls[i].state == CALL_DONE && e->calls[i].error)
                        return true;
        return false;
}

/* Adds the intent of the next call that may run, and answers those before it that may not: the
 * members of a toolset that follow one that failed. after_id: a call whose result is in this very
 * step. */
void agent_plan_calls(struct agent *a, struct step *s, const char *after_id, bool failed)
{
        bool unused, reached = !after_id;
        const struct history_entry *e = history_last_turn(a->c.history, &unused);

        failed = failed || turn_failed(e);
        for (size_t i = 0; i < e->n_calls && step_room(s) > 0; i++) {
                const struct history_call *call = &e->calls[i];

                if (!reached || call->state == CALL_DONE) {
                        reached = reached || streq(call->id, after_id);
                        continue;
                }
                if (failed && call->toolset) {
                        step_no_result(s, a, call->id, call->name, NOT_AFTER_FAILURE);
                        continue;
                }
                switch (agent_approve(s, a, call)) {
                case GATE_OPEN:
                        step_intent(s, a, call->id, call->name, call->input);
                        return;
                case GATE_WAITS:
                        return;
                case GATE_REFUSED:
                        failed = failed || call->toolset;
                        break;
                }
        }
}

/* The report is the last word of the turn. */
static void answer_rest(struct agent *a, struct step *s)
{
        bool unused;
        const struct history_entry *e = history_last_turn(a->c.history, &unused);

        for (size_t i = 0; e && i < e->n_calls && step_room(s) > 0; i++)
                if (e->calls[i].state != CALL_DONE && !streq(e->calls[i].id, a->acting_id))
                        step_no_result(s, a, e->calls[i].id, e->calls[i].name, NOT_AFTER_REPORT);
}

static void on_tool_done(void *userdata, struct tool_result *result)
{
        struct agent *a = userdata;
        struct step *s = step_new();
        uint64_t ms = (now_monotonic() - a->tool_started) / USEC_PER_MSEC;
        bool failed = result->error && a->acting_toolset;

        crash_point("worker.after_effect");
        a->tool = NULL; /* it frees itself */
        TRACE_SCOPE(agent_trace_here(a));
        agent_trace_acted(a, result);
        loop_timer_disarm(&a->grace);
        agent_note_below(a, result->more);
        step_result(s, a, a->acting_id, a->acting_name, result, ms);
        if (result->report && !result->error)
                answer_rest(a, s);
        else if (!agent_stops_here(a))
                agent_plan_calls(a, s, a->acting_id, failed);
        s->after = agent_run;
        step_commit(s, a);
}

static void set_acting(struct agent *a, const struct history_call *call)
{
        free(a->acting_id);
        free(a->acting_name);
        free(a->acting_toolset);
        a->acting_id = xstrdup(call->id);
        a->acting_name = xstrdup(call->name);
        a->acting_toolset = xstrdup(call->toolset);
}

/* Its intent is stored and was made by us: it runs now, once. */
void agent_act(struct agent *a, const struct history_call *call)
{
        const char *bad = json_string_value(json_object_get(a->answer.bad_calls, call->id));
        int r;

        agent_set_state(a, AGENT_ACTING);
        set_acting(a, call);
        agent_trace_tool(a, call);
        TRACE_SCOPE(agent_trace_here(a));
        a->tool_started = now_monotonic();
        a->c.host->call_seq = call->intent_seq;
        json_decref(a->c.host->budget_left);
        a->c.host->budget_left = agent_budget_left(a);
        if (bad) {
                struct tool_result result = { .error = xstrdup(bad), .invalid = true };

                on_tool_done(a, &result);
                tool_result_done(&result);
                return;
        }
        r = tool_start(a->c.host, call->id, call->name, call->toolset, call->input, on_tool_done, a,
                       &a->tool);
        if (r < 0)
                agent_fail(a, "internal", "The worker could not start a tool.");
}

static const char *why_unanswered(const struct history_call *call, bool answered, bool interrupted)
{
        if (call->state == CALL_INTENT)
                return INTERRUPTED;
        if (interrupted)
                return NOT_AFTER_INTERRUPTION;
        return answered ? NOT_AFTER_MESSAGE : NULL;
}

static void after_heal(struct agent *a)
{
        if (!agent_heal(a))
                agent_run(a);
}

bool agent_heal(struct agent *a)
{
        bool answered, interrupted = false;
        const struct history_entry *e = history_last_turn(a->c.history, &answered);
        struct step *s = step_new();
        size_t n = 0;

        for (size_t i = 0; e && i < e->n_calls; i++) {
                const struct history_call *call = &e->calls[i];

                if (agent_runs_again(call))
                        break; /* it goes on; those behind it wait for it */
                interrupted |= call->state == CALL_INTENT || streq(call->error, INTERRUPTED);
                n = i + 1;
        }
        for (size_t i = 0; i < n && step_room(s) > 0; i++) {
                const struct history_call *call = &e->calls[i];
                const char *why = call->state == CALL_DONE
                                          ? NULL
                                          : why_unanswered(call, answered, interrupted);

                if (why)
                        step_no_result(s, a, call->id, call->name, why);
        }
        if (s->n_effects == 0) {
                step_free(s);
                return false;
        }
        log_info("answering %zu tool calls that an earlier run left open", s->n_effects);
        s->after = after_heal;
        step_commit(s, a);
        return true;
}
