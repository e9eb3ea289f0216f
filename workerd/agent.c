/* The agent loop: decides from the conversation what comes next. */
#include "agent-internal.h"

#include "common/base/states.h"
#include "common/io/log.h"

static const char *const state_names[] = {
        [AGENT_NEW] = "new",           [AGENT_LOADING] = "loading", [AGENT_SYNCING] = "syncing",
        [AGENT_PICTURES] = "pictures", [AGENT_CALLING] = "calling", [AGENT_BACKOFF] = "backoff",
        [AGENT_STORING] = "storing",   [AGENT_ACTING] = "acting",   [AGENT_RESTING] = "resting",
        [AGENT_KEEPING] = "keeping",   [AGENT_HELD] = "held",       [AGENT_ENDED] = "ended",
};

#define TO(s) (UINT32_C(1) << AGENT_##s)
#define DECIDED                                                                                    \
        (TO(SYNCING) | TO(PICTURES) | TO(CALLING) | TO(STORING) | TO(ACTING) | TO(KEEPING) |       \
         TO(RESTING) | TO(HELD) | TO(ENDED))
/* The states whose time counts. */
#define WORKING (TO(LOADING) | TO(SYNCING) | TO(PICTURES) | TO(CALLING) | TO(STORING) | TO(ACTING))
static const uint32_t allowed[] = {
        [AGENT_NEW] = TO(LOADING) | TO(ENDED),
        [AGENT_LOADING] = DECIDED,
        [AGENT_SYNCING] = DECIDED,
        [AGENT_PICTURES] = DECIDED,
        [AGENT_CALLING] =
                TO(BACKOFF) | TO(STORING) | TO(SYNCING) | TO(RESTING) | TO(HELD) | TO(ENDED),
        [AGENT_BACKOFF] = DECIDED,
        [AGENT_STORING] = DECIDED,
        [AGENT_ACTING] = TO(STORING) | TO(ENDED),
        [AGENT_KEEPING] = DECIDED,
        [AGENT_RESTING] = DECIDED,
        [AGENT_HELD] = DECIDED,
        [AGENT_ENDED] = 0,
};

const char *agent_state_name(int state)
{
        return state >= 0 && state < AGENT_STATE_MAX ? state_names[state] : "?";
}

static const struct state_table table = {
        .what = "agent", .name = agent_state_name, .allowed = allowed, .max = AGENT_STATE_MAX
};

static uint64_t run_usec(const struct agent *a)
{
        return a->run_usec + (a->working_since > 0 ? now_monotonic() - a->working_since : 0);
}

void agent_set_state(struct agent *a, enum agent_state to)
{
        if (a->state == to)
                return;
        if (state_check(&table, a->state, to) < 0) {
                log_error("agent: %s -> %s is not allowed", agent_state_name(a->state),
                          agent_state_name(to));
                abort();
        }
        agent_trace_state(a, to);
        log_debug("agent: %s -> %s", agent_state_name(a->state), agent_state_name(to));
        a->state = to;
        if (WORKING & (UINT32_C(1) << to)) {
                if (a->working_since == 0)
                        a->working_since = now_monotonic();
        } else if (a->working_since > 0) {
                a->run_usec = run_usec(a);
                a->working_since = 0;
        }
}

enum agent_state agent_state(const struct agent *a)
{
        return a->state;
}

static void on_shown(void *userdata, int r, const struct event_appended *done, const char *why)
{
        struct agent *a = userdata;

        if (r == 0)
                loader_stored(a->c.loader, done->first_seq, done->last_seq);
        else
                log_warning("the hub refused a state change: %s", why);
}

/* Asks for a state of the session without waiting for it: what is stored next comes after it. */
void agent_show(struct agent *a, enum session_state state, const char *reason)
{
        struct append *append;

        if (a->shown == state && state != SESSION_STATE_WAITING)
                return;
        a->shown = state;
        a->waiting_for = WAITING_FOR_MODEL;
        append = append_new();
        append_state(append, state, 0, reason);
        agent_send(a, append);
}

/* The question stands in the session until its state changes. */
void agent_wait(struct agent *a, enum waiting_for what, const char *question)
{
        if (a->shown != SESSION_STATE_WAITING || a->waiting_for != what) {
                struct append *append = append_new();

                a->shown = SESSION_STATE_WAITING;
                a->waiting_for = what;
                append_state(append, SESSION_STATE_WAITING, 0, question);
                append_waiting(append, what);
                agent_send(a, append);
        }
        agent_rest(a, SESSION_STATE_WAITING);
}

void agent_send(struct agent *a, struct append *append)
{
        outbox_send(a->c.outbox, append, on_shown, a);
}

void agent_rest(struct agent *a, enum session_state state)
{
        agent_set_state(a, AGENT_RESTING);
        a->choice = 0; /* the next message gets the first model again */
        if (a->compact == COMPACT_REFUSED)
                a->compact = COMPACT_NO;
        a->c.on_rest(a->c.userdata, state);
        if (loader_behind(a->c.loader))
                loop_task_queue(&a->wake);
}

static void on_end_stored(void *userdata, int r, const struct event_appended *done, const char *why)
{
        struct agent *a = userdata;

        if (r < 0)
                log_error("the hub refused the end of the session: %s", why);
        a->c.on_end(a->c.userdata, "failed");
}

void agent_fail(struct agent *a, const char *code, const char *message)
{
        struct append *append;

        if (a->state == AGENT_ENDED)
                return;
        agent_model_cancel(a);
        if (a->tool)
                tool_cancel(TAKE_PTR(a->tool));
        loop_timer_disarm(&a->backoff);
        loop_timer_disarm(&a->grace);
        agent_set_state(a, AGENT_ENDED);
        append = append_new();
        append_event(append, EVENT_TYPE_ERROR,
                     json_pack("{s:s,s:s}", "code", code, "message", message));
        append_state(append, SESSION_STATE_FAILED, 0, message);
        outbox_send(a->c.outbox, append, on_end_stored, a);
}

static void after_idle(struct agent *a)
{
        a->kept = false;
        agent_rest(a, SESSION_STATE_IDLE);
}

static void idle_refused(struct agent *a)
{
        a->shown = SESSION_STATE_RUNNING;
        agent_run(a);
}

/* Everything is answered. */
void agent_rest_idle(struct agent *a)
{
        struct step *s;

        if (a->shown == SESSION_STATE_IDLE) {
                agent_rest(a, SESSION_STATE_IDLE);
                return;
        }
        if (!a->kept && a->c.keep && a->c.keep(a->c.userdata)) {
                agent_set_state(a, AGENT_KEEPING);
                return;
        }
        s = step_new();
        append_state(s->append, SESSION_STATE_IDLE, history_last_user_seq(a->c.history),
                     a->rest_why[0] ? a->rest_why : "answered");
        a->rest_why[0] = '\0';
        a->shown = SESSION_STATE_IDLE;
        s->after = after_idle;
        s->refused = idle_refused;
        step_commit(s, a);
}

void agent_kept(struct agent *a)
{
        if (a->state != AGENT_KEEPING)
                return;
        a->kept = true;
        agent_run(a);
}

static bool over_budget(const struct agent *a, char *reason, size_t size)
{
        const struct usage all = agent_used(a), *t = &all;
        uint64_t tokens =
                t->input_tokens + t->output_tokens + t->cache_read_tokens + t->cache_write_tokens;

        if (a->hold)
                (void) snprintf(reason, size, "%s", a->hold);
        else if (history_turns(a->c.history) >= a->c.turns_max)
                (void) snprintf(reason, size,
                                "made %" PRIu64
                                " model calls since your last message; send a message to go on",
                                a->c.turns_max);
        else if (a->c.budget.turns > 0 && t->turns >= a->c.budget.turns)
                (void) snprintf(reason, size,
                                "the session's budget of %" PRIu64 " turns is used up",
                                a->c.budget.turns);
        else if (a->c.budget.tokens > 0 && tokens >= a->c.budget.tokens)
                (void) snprintf(reason, size,
                                "the session's budget of %" PRIu64 " tokens is used up",
                                a->c.budget.tokens);
        else if (a->c.budget.cost_microusd > 0 && t->cost_microusd >= a->c.budget.cost_microusd)
                (void) snprintf(reason, size, "the session's budget of $%.2f is used up",
                                (double) a->c.budget.cost_microusd / 1e6);
        else if (a->c.budget.usec > 0 && run_usec(a) >= a->c.budget.usec)
                (void) snprintf(reason, size,
                                "the session's budget of %" PRIu64 " s of work is used up",
                                a->c.budget.usec / USEC_PER_SEC);
        else
                return false;
        return true;
}

static void ask_model(struct agent *a)
{
        char reason[600];

        a->kept = false;
        a->rest_why[0] = '\0';
        if (!over_budget(a, reason, sizeof(reason))) {
                if (!agent_loops(a))
                        agent_call_model(a);
                return;
        }
        agent_wait(a, WAITING_FOR_BUDGET, reason);
}

static void on_synced(void *userdata, int r, const char *why)
{
        struct agent *a = userdata;

        if (r < 0)
                agent_fail(a, "history_unreadable", why);
        else
                agent_run(a);
}

void agent_sync(struct agent *a)
{
        agent_set_state(a, AGENT_SYNCING);
        loader_pull(a->c.loader, on_synced, a);
}

void agent_run(struct agent *a)
{
        const struct history_call *call = NULL;
        enum history_next next = history_next(a->c.history, &call);
        struct step *s;
        TRACE_SCOPE(agent_trace_here(a));

        if (a->state == AGENT_ENDED || !a->c.may_act(a->c.userdata))
                return; /* the lease is over: the session is about to be taken away */
        if (agent_held(a))
                return;
        if ((next != HISTORY_CALL || agent_asks(call) ||
             (call->asked && call->approval == APPROVAL_STATUS_PENDING)) &&
            loader_behind(a->c.loader)) {
                agent_sync(a);
                return;
        }
        switch (next) {
        case HISTORY_NOTHING:
                agent_rest_idle(a);
                return;
        case HISTORY_MODEL:
                ask_model(a);
                return;
        case HISTORY_CALL:
                break;
        }
        if (agent_gate(a, call))
                return;
        if (call->state == CALL_INTENT && agent_asks(call)) {
                agent_ask(a, call);
                return;
        }
        if (call->state == CALL_INTENT) {
                agent_act(a, call);
                return;
        }
        s = step_new();
        agent_plan_calls(a, s, NULL, false);
        if (step_empty(s)) { /* a person must decide */
                step_free(s);
                agent_rest(a, SESSION_STATE_WAITING);
                return;
        }
        s->after = agent_run;
        step_commit(s, a);
}

static void on_loaded(void *userdata, int r, const char *why)
{
        struct agent *a = userdata;

        if (a->state == AGENT_ENDED)
                return;
        if (r < 0) {
                agent_fail(a, "history_unreadable", why);
                return;
        }
        agent_show(a, SESSION_STATE_RUNNING, "");
        if (!agent_heal(a))
                agent_run(a);
}

void agent_start(struct agent *a)
{
        agent_set_state(a, AGENT_LOADING);
        loader_pull(a->c.loader, on_loaded, a);
}

void agent_message(struct agent *a, uint64_t seq)
{
        loader_announce(a->c.loader, seq);
        if (a->state != AGENT_RESTING || !loader_behind(a->c.loader))
                return;
        if (a->shown == SESSION_STATE_WAITING)
                a->shown = SESSION_STATE_RUNNING; /* so the coordinator made it */
        a->c.on_active(a->c.userdata);
        agent_run(a);
}

/* A limit has changed: who waits for that looks again. */
static void retry_budget(struct agent *a)
{
        char reason[600];

        if (a->state != AGENT_RESTING || a->shown != SESSION_STATE_WAITING || a->paused ||
            a->waiting_for != WAITING_FOR_BUDGET || over_budget(a, reason, sizeof(reason)))
                return;
        a->c.on_active(a->c.userdata);
        agent_run(a);
}

void agent_set_budget(struct agent *a, const struct agent_budget *budget)
{
        bool same = memcmp(&a->c.budget, budget, sizeof(*budget)) == 0;
        a->c.budget = *budget;
        if (!same)
                retry_budget(a);
}

void agent_note_hold(struct agent *a, const char *hold)
{
        char *copy = xstrdup(strempty(hold) ? NULL : hold);

        free(a->hold);
        a->hold = copy;
}

void agent_set_hold(struct agent *a, const char *hold)
{
        bool same = streq(a->hold, strempty(hold) ? NULL : hold);

        agent_note_hold(a, hold);
        if (!same)
                retry_budget(a);
}

void agent_usage_before(struct agent *a, const json_t *event)
{
        const json_t *total = json_object_get(event, "total");

        if (!streq(json_string_value(json_object_get(event, "event_type")), "usage") ||
            !json_is_object(total))
                return;
        a->total = (struct usage){
                .input_tokens =
                        (uint64_t) json_integer_value(json_object_get(total, "input_tokens")),
                .output_tokens =
                        (uint64_t) json_integer_value(json_object_get(total, "output_tokens")),
                .cache_read_tokens =
                        (uint64_t) json_integer_value(json_object_get(total, "cache_read_tokens")),
                .cache_write_tokens =
                        (uint64_t) json_integer_value(json_object_get(total, "cache_write_tokens")),
                .cost_microusd =
                        (uint64_t) (json_number_value(json_object_get(total, "cost_usd")) * 1e6 +
                                    0.5),
                .turns = (uint64_t) json_integer_value(json_object_get(total, "turns")),
        };
}

static void on_backoff(void *userdata)
{
        agent_run(userdata);
}

/* Rested although something newer was known already. */
static void on_wake(void *userdata)
{
        agent_message(userdata, 0);
}

int agent_new(const struct agent_config *c, struct agent **ret)
{
        struct agent *a = xnew(struct agent);
        int r;

        a->c = *c;
        a->compact_kept = c->compact_kept;
        a->total = c->total;
        a->run_usec = c->run_usec;
        for (size_t i = 0; i < c->n_choices; i++)
                a->models[i] = xstrdup(c->choices[i].model);
        a->system = xstrdup(c->system);
        a->session_id = xstrdup(c->session_id);
        a->shown = SESSION_STATE_STARTING;
        r = loop_timer_init(&a->backoff, c->event, on_backoff, a);
        if (r == 0)
                r = loop_task_init(&a->wake, c->event, on_wake, a);
        if (r == 0)
                r = agent_hold_init(a);
        if (r == 0)
                r = agent_ask_init(a);
        if (r < 0) {
                agent_free(a);
                return r;
        }
        *ret = a;
        return 0;
}

struct agent *agent_free(struct agent *a)
{
        if (!a)
                return NULL;
        agent_model_cancel(a);
        if (a->tool)
                tool_cancel(a->tool);
        agent_trace_over(a, "cancelled");
        loop_timer_done(&a->backoff);
        loop_timer_done(&a->grace);
        loop_timer_done(&a->ask_limit);
        loop_task_done(&a->wake);
        step_free(a->step);
        answer_done(&a->answer);
        free(a->acting_id);
        free(a->acting_name);
        free(a->acting_toolset);
        free(a->driver);
        free(a->hold);
        for (size_t i = 0; i < AGENT_CHOICES_MAX; i++)
                free(a->models[i]);
        free(a->system);
        free(a->session_id);
        free(a);
        return NULL;
}
