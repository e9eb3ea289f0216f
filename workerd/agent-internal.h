/* What the files of the agent loop share. */
#pragma once

#include "agent.h"

#define INTERRUPTED "interrupted, effect unknown; look before you repeat"
#define NOT_AFTER_INTERRUPTION "not executed: an earlier call of this turn was interrupted"
#define NOT_AFTER_MESSAGE "not executed: the user spoke before it could run"
#define NOT_AFTER_REPORT "not executed: the report ended the turn"
#define NOT_AFTER_FAILURE "not executed: an earlier action of this turn failed"

/* One append under way and what it changes in the conversation once it is stored. */
struct effect {
        enum { EFFECT_TURN, EFFECT_INTENT, EFFECT_RESULT, EFFECT_ASK, EFFECT_COMPACT } kind;
        size_t item; /* its event's place in the append */
        char *call_id, *error, *digest;
        json_t *content;
        uint64_t input_seq, answer_seq;
        bool paused, over;
};
struct step {
        struct append *append; /* NULL once it is sent */
        struct effect effects[OUTBOX_ITEMS_MAX];
        size_t n_effects;
        bool intent, result, ask;
        void (*after)(struct agent *a);
        void (*refused)(struct agent *a); /* a newer user message is there; NULL = cannot happen */
};

/* The model's finished answer until it is stored. */
struct answer {
        json_t *content, *bad_calls;
        char *stop_reason, *stop_detail, *model;
        char message_id[UUID_MAX];
        struct usage usage;
        uint64_t input_seq, turn;
};

/* What is recorded of its work; spans that are not under way are zeroed. */
struct agent_trace {
        struct trace_context parent; /* of what it is doing this for; may be unset */
        struct otlp_span session, turn, model, tool;
        uint64_t turn_number;
        bool runs_code; /* the tool */
};

struct agent {
        struct agent_config c;
        char *models[AGENT_CHOICES_MAX], *system, *session_id;
        size_t choice; /* which of the models is asked now */
        uint64_t busy_since;
        enum agent_state state;
        enum session_state shown;     /* the session's state as we last asked for it */
        enum waiting_for waiting_for; /* when that is waiting */
        char *hold; /* why no model may be called now: limits of tenant or agent; or NULL */
        struct usage total;
        uint64_t run_usec, working_since; /* working_since: 0 = it is not */
        struct step *step;
        struct provider_call *call;
        struct provider *caller; /* whose call that is */
        struct tool_run *tool;
        uint64_t tool_started;
        char *acting_id, *acting_name, *acting_toolset;
        struct answer answer;
        unsigned attempt;
        enum {
                COMPACT_NO,
                COMPACT_MUST,    /* the conversation was too long for the model */
                COMPACT_ASKING,  /* the next answer is a summary */
                COMPACT_REFUSED, /* it does not help: not again until the session rests */
        } compact;
        bool compact_short;    /* ask with words alone */
        size_t compact_kept;   /* turns that stay; fewer when that was not enough */
        uint64_t compact_turn; /* when it last was done */
        struct loop_timer backoff;
        bool paused;      /* hold at the next step boundary */
        bool interrupted; /* rest until a message newer than quiet_seq */
        uint64_t quiet_seq;
        bool kept;                   /* what was made is stored: it may be idle */
        char rest_why[400];          /* how the turn before ended, until it is */
        bool driven;                 /* a person drives the desktop: no tool begins */
        bool touched;                /* one did since the agent last looked at it */
        char *driver;                /* who */
        struct loop_timer ask_limit; /* of the question that is open */
        uint64_t asked_seq;          /* intent of the question that the session shows */
        struct usage below;          /* used by sessions under this one */
        struct loop_timer grace;     /* how long a paused session's tool may still run */
        struct loop_task wake;
        struct agent_trace trace;
};

void agent_set_state(struct agent *a, enum agent_state to);
void agent_run(struct agent *a); /* decides what is next, from the conversation alone */
void agent_show(struct agent *a, enum session_state state, const char *reason);
void agent_wait(struct agent *a, enum waiting_for what, const char *question); /* for a person */
void agent_send(struct agent *a, struct append *append); /* of a state: not waited for */
void agent_rest(struct agent *a, enum session_state state);
void agent_rest_idle(struct agent *a); /* says idle, then rests */
void agent_sync(struct agent *a);      /* reads what is newer, then runs */

void agent_note_hold(struct agent *a, const char *hold);

/* agent-step.c */
struct step *step_new(void);
struct step *step_free(struct step *s);
DEFINE_CLEANUP(struct step, step_free)
size_t
step_room(const struct step *s); /* events that still fit, some kept for what always follows */
void step_turn(struct step *s, struct agent *a);
void step_intent(struct step *s, struct agent *a, const char *id, const char *name,
                 const json_t *input);
void step_result(struct step *s, struct agent *a, const char *id, const char *name,
                 struct tool_result *result, uint64_t duration_ms);
void step_no_result(struct step *s, struct agent *a, const char *id, const char *name,
                    const char *why);
/* Asks a person about a call; takes `bound`. */
void step_ask(struct step *s, const char *id, const char *digest, const char *subject, char *bound);
void step_compaction(struct step *s, uint64_t upto_seq, const char *summary, uint64_t tokens,
                     const char *model);
bool step_empty(const struct step *s); /* there is nothing to store */
void step_commit(struct step *s, struct agent *a);

/* agent-model.c */
void agent_call_model(struct agent *a);
void agent_model_cancel(struct agent *a);
void agent_store_turn(struct agent *a, bool rest);
void answer_done(struct answer *answer);
json_t *usage_json(const struct usage *u);

/* agent-hold.c */
int agent_hold_init(struct agent *a) mustuse;
bool agent_held(struct agent *a); /* a person holds it: it has been dealt with, do nothing more */
bool agent_stops_here(const struct agent *a); /* no further call of the turn is to begin */

/* agent-drive.c */
bool agent_gate(struct agent *a,
                const struct history_call *call); /* not now: it has been dealt with */

/* agent-ask.c */
int agent_ask_init(struct agent *a) mustuse;
bool agent_asks(const struct history_call *call); /* its result is a person's message */
bool agent_runs_again(const struct history_call *call);
/* Its intent is stored: takes the answer when there is one, else waits for it. */
void agent_ask(struct agent *a, const struct history_call *call);

/* agent-approval.c */
enum approval_gate {
        GATE_OPEN,    /* it may run */
        GATE_WAITS,   /* a person must decide; those behind it wait, too */
        GATE_REFUSED, /* it was answered in this step */
};
/* May this call, which has no intent yet, run? What is to be said of it goes into the step. */
enum approval_gate agent_approve(struct step *s, struct agent *a, const struct history_call *call);

/* agent-below.c: what sessions under this one use counts here, too */
struct usage agent_used(const struct agent *a);   /* with what is below */
json_t *agent_budget_left(const struct agent *a); /* object of limits, NULL = none; the caller's */

/* agent-compact.c */
bool agent_compacts(struct agent *a); /* the next model call is for a summary */
/* The conversation was too long for the model: true when a summary may help; then run again. */
bool agent_compact_overflow(struct agent *a);
json_t *agent_compact_conversation(struct agent *a) mustuse;
void agent_store_compaction(struct agent *a); /* a->answer is the summary */
bool agent_loops(struct agent *a);            /* it asks for help: it has been dealt with */

/* agent-trace.c */
void agent_trace_state(struct agent *a, enum agent_state to); /* it is about to be in that state */
void agent_trace_model(struct agent *a);                      /* a model is about to be asked */
void agent_trace_answered(struct agent *a, const struct provider_reply *reply,
                          const struct provider_failure *failure);
void agent_trace_tool(struct agent *a, const struct history_call *call);
void agent_trace_acted(struct agent *a, const struct tool_result *result);
void agent_trace_over(struct agent *a, const char *why); /* everything ends; NULL = well */
const struct trace_context *agent_trace_here(const struct agent *a); /* may be unset */

/* agent-tools.c */
bool agent_heal(struct agent *a); /* false when there is nothing to heal */
void agent_act(struct agent *a, const struct history_call *call);
void agent_plan_calls(struct agent *a, struct step *s, const char *after_id, bool failed);
