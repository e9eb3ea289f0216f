/* The gate in front of tools while a person drives the desktop. */
#include "agent-internal.h"

#include "common/io/log.h"

/* What has to be done again after a person was there: it knew another screen. */
static bool acts_on_screen(const struct history_call *call)
{
        static const char *const looks[] = { "screenshot", "zoom", "cursor_position", "wait" };
        const char *action = json_string_value(json_object_get(call->input, "action"));

        if (tool_find(call->name, call->toolset) != &tool_computer)
                return false;
        for (size_t i = 0; i < ARRAY_LEN(looks); i++)
                if (streq(call->name, looks[i]) || streq(action, looks[i]))
                        return false;
        return true;
}

static bool looks_at_screen(const struct history_call *call)
{
        return tool_find(call->name, call->toolset) == &tool_computer && !acts_on_screen(call);
}

static void hold(struct agent *a)
{
        char reason[120];

        agent_set_state(a, AGENT_HELD);
        if (a->shown != SESSION_STATE_WAITING) {
                (void) snprintf(reason, sizeof(reason), "%s has the controls of the desktop",
                                strempty(a->driver) ? "a person" : a->driver);
                agent_show(a, SESSION_STATE_WAITING, reason);
        }
        a->c.on_rest(a->c.userdata, SESSION_STATE_WAITING);
}

/* The model is told that its picture of the screen is old. */
static void refuse(struct agent *a, const struct history_call *call)
{
        cleanup_free char *why =
                xasprintf("not executed: %s used the desktop meanwhile and it may look different; "
                          "take a screenshot before you go on",
                          strempty(a->driver) ? "a person" : a->driver);
        struct step *s = step_new();

        step_no_result(s, a, call->id, call->name, why);
        s->after = agent_run;
        step_commit(s, a);
}

bool agent_gate(struct agent *a, const struct history_call *call)
{
        if (a->driven) {
                hold(a);
                return true;
        }
        if (!a->touched)
                return false;
        if (acts_on_screen(call)) {
                a->touched = false; /* said once */
                refuse(a, call);
                return true;
        }
        if (looks_at_screen(call))
                a->touched = false;
        return false;
}

void agent_drive(struct agent *a, bool driven, const char *person)
{
        if (driven && person && !streq(a->driver, person)) {
                free(a->driver);
                a->driver = xstrdup(person);
        }
        if (a->driven == driven)
                return;
        a->driven = driven;
        log_info("session %s: %s", a->session_id,
                 driven ? "a person drives the desktop" : "the agent has the desktop again");
        if (driven) {
                a->touched = true;
                return;
        }
        if (a->state != AGENT_HELD || a->paused)
                return;
        agent_show(a, SESSION_STATE_RUNNING, "the desktop was given back");
        a->c.on_active(a->c.userdata);
        agent_run(a);
}
