/* What a person does to a running agent: pause, go on, interrupt. */
#include "agent-internal.h"

#include "common/io/log.h"

#define GRACE_USEC (5 * USEC_PER_SEC) /* for a running tool when the session is paused */
#define PAUSED_AWAY "stopped by a pause; effect unknown; look before you repeat"

/* The running tool is killed now and its call answered. */
static void kill_tool(struct agent *a, const char *why)
{
        struct step *s = step_new();

        loop_timer_disarm(&a->grace);
        tool_cancel(TAKE_PTR(a->tool));
        step_no_result(s, a, a->acting_id, a->acting_name, why);
        s->after = agent_run;
        step_commit(s, a);
}

static void on_grace(void *userdata)
{
        struct agent *a = userdata;

        if (a->state == AGENT_ACTING && a->tool)
                kill_tool(a, PAUSED_AWAY);
}

/* Leaves a model call or the wait for one. */
static bool leave_model(struct agent *a)
{
        if (a->state != AGENT_CALLING && a->state != AGENT_BACKOFF)
                return false;
        agent_model_cancel(a);
        loop_timer_disarm(&a->backoff);
        a->attempt = 0;
        return true;
}

static void pause_agent(struct agent *a)
{
        if (a->paused)
                return;
        log_info("session %s: paused", a->session_id);
        a->paused = true;
        if (leave_model(a))
                agent_run(a);
        else if (a->state == AGENT_ACTING)
                loop_timer_arm(&a->grace, GRACE_USEC);
        else if (a->state == AGENT_RESTING)
                a->c.on_rest(a->c.userdata, SESSION_STATE_PAUSED);
}

static void resume_agent(struct agent *a)
{
        if (!a->paused)
                return;
        log_info("session %s: goes on", a->session_id);
        a->paused = false;
        loop_timer_disarm(&a->grace);
        if (a->state != AGENT_HELD && a->state != AGENT_RESTING)
                return;
        a->shown = SESSION_STATE_RUNNING; /* so the coordinator told us */
        a->c.on_active(a->c.userdata);
        agent_run(a);
}

static void interrupt_agent(struct agent *a, uint64_t seq)
{
        if (a->state == AGENT_RESTING) {
                a->paused = false;
                return;
        }
        log_info("session %s: interrupted", a->session_id);
        a->paused = false;
        a->interrupted = true;
        a->quiet_seq = seq;
        a->shown = SESSION_STATE_IDLE; /* so the coordinator told us */
        if (leave_model(a) || a->state == AGENT_HELD)
                agent_run(a);
        else if (a->state == AGENT_ACTING && a->tool)
                kill_tool(a, HISTORY_HUMAN_STOPPED);
}

/* The coordinator thinks that what it waited for is there. If not, it waits again, and says so. */
static void look_again(struct agent *a)
{
        a->shown = SESSION_STATE_RUNNING;
        a->c.on_active(a->c.userdata);
        agent_run(a);
}

void agent_told(struct agent *a, enum session_state state, uint64_t seq)
{
        if (a->state == AGENT_ENDED)
                return;
        loader_announce(a->c.loader, seq);
        if (state == SESSION_STATE_PAUSED)
                pause_agent(a);
        else if (state == SESSION_STATE_IDLE)
                interrupt_agent(a, seq);
        else if (state == SESSION_STATE_RUNNING && a->state == AGENT_RESTING && !a->paused &&
                 a->shown == SESSION_STATE_WAITING)
                look_again(a);
        else
                resume_agent(a);
}

/* Calls of the newest turn that nobody will run any more. False: there are none. */
static bool answer_calls(struct agent *a)
{
        bool unused;
        const struct history_entry *e = history_last_turn(a->c.history, &unused);
        struct step *s = step_new();

        for (size_t i = 0; e && i < e->n_calls && step_room(s) > 0; i++)
                if (e->calls[i].state != CALL_DONE)
                        step_no_result(s, a, e->calls[i].id, e->calls[i].name,
                                       HISTORY_HUMAN_STOPPED);
        if (s->n_effects == 0) {
                step_free(s);
                return false;
        }
        s->after = agent_run;
        step_commit(s, a);
        return true;
}

bool agent_held(struct agent *a)
{
        if (a->interrupted) {
                if (answer_calls(a))
                        return true;
                if (loader_behind(a->c.loader)) {
                        agent_sync(a);
                        return true;
                }
                if (history_last_user_seq(a->c.history) <= a->quiet_seq) {
                        agent_rest_idle(a);
                        return true;
                }
                a->interrupted = false; /* spoken to again */
        }
        if (!a->paused)
                return false;
        agent_set_state(a, AGENT_HELD);
        a->c.on_rest(a->c.userdata, SESSION_STATE_PAUSED);
        return true;
}

bool agent_stops_here(const struct agent *a)
{
        return a->paused || a->interrupted;
}

int agent_hold_init(struct agent *a)
{
        return loop_timer_init(&a->grace, a->c.event, on_grace, a);
}
