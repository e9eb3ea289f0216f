/* The agent loop of one session as a state machine.
 *
 *   loading -> (pictures) -> calling -> storing -> acting -> storing -> ... -> calling -> storing
 * -> resting
 *
 * Rule 4: the assistant turn is durable before a tool runs, the intent of each call before it acts,
 * its result before the next model call. One append holds as much of that as can be said at once: a
 * turn with the first intent, a result with the next. After a restart an intent without result is
 * answered to the model as interrupted; calls without intent never ran and are run, unless
 * something came in between.
 *
 * The agent owns nothing it is given; agent_free cancels whatever is under way, at once. */
#pragma once

#include "common/io/otlp.h"
#include "live.h"
#include "loader.h"
#include "outbox.h"
#include "prices.h"
#include "provider.h"
#include "tool.h"

enum agent_state {
        AGENT_NEW,
        AGENT_LOADING,  /* reading what is stored */
        AGENT_SYNCING,  /* reading what came meanwhile */
        AGENT_PICTURES, /* fetching pictures the model is to see again */
        AGENT_CALLING,  /* the model answers */
        AGENT_BACKOFF,  /* waiting before asking it again */
        AGENT_STORING,  /* a step is on its way to the hub; nothing acts until it is stored */
        AGENT_ACTING,   /* a tool runs */
        AGENT_KEEPING,  /* what the run has made is stored before the session is idle */
        AGENT_RESTING,  /* nothing to do until a message comes */
        AGENT_HELD,     /* paused by a person, in mid-work */
        AGENT_ENDED,
        AGENT_STATE_MAX,
};
const char *agent_state_name(int state);

/* A model and who serves it. */
struct agent_choice {
        struct provider *provider;
        const char *model;
};
#define AGENT_CHOICES_MAX 8

/* Of the whole session; 0 = no limit. */
struct agent_budget {
        uint64_t turns, tokens, cost_microusd, usec;
};

struct agent_config {
        sd_event *event;
        /* In order: when the attempts of one are used up the next is asked, until the session
         * rests. One at least. */
        struct agent_choice choices[AGENT_CHOICES_MAX];
        size_t n_choices;
        struct outbox *outbox;
        struct loader *loader;
        struct history *history;
        struct tool_host *host;
        struct live *live;           /* may be NULL */
        const struct prices *prices; /* may be NULL */
        const char *session_id;
        uint64_t epoch;
        struct otlp *otlp;      /* may be NULL */
        const char *agent_name; /* may be NULL; as long as the agent */
        enum slot_kind kind;
        bool traceparent; /* model services are told where in a trace their calls stand */
        const char *system;
        uint64_t max_tokens;
        size_t images_kept;
        uint64_t turns_max;                        /* model calls for one user message */
        uint64_t context_default, compact_percent; /* see agent-compact.c; percent 0 = never */
        size_t compact_kept;                       /* turns that stay */
        uint64_t loop_repeats;                     /* below 2 = no matter */
        unsigned retries;                          /* of one model call */
        /* How long the last of the choices is asked again while it is busy (429, 529); only then
         * it counts as failed. */
        uint64_t busy_usec;
        struct agent_budget budget;
        uint64_t run_usec;  /* how long it had been working before this worker took over */
        struct usage total; /* used before this worker took over */
        bool (*may_act)(void *userdata); /* the lease holds */
        void (*on_rest)(void *userdata, enum session_state state);
        void (*on_active)(void *userdata);
        /* Before the session is idle: true when something has to be kept first; agent_kept() then
         * says that it is. May be NULL. */
        bool (*keep)(void *userdata);
        void (*on_end)(void *userdata, const char *why); /* `failed` is stored; the session ends */
        void *userdata;
};

struct agent;
/* Strings of the config are copied. */
int agent_new(const struct agent_config *c, struct agent **ret) mustuse;
struct agent *agent_free(struct agent *a);
DEFINE_CLEANUP(struct agent, agent_free)
void agent_start(struct agent *a); /* once; the slot is ready */
void agent_message(struct agent *a,
                   uint64_t seq); /* there is an event of that seq, maybe a user message */
void agent_kept(struct agent *a); /* what keep() began is done */
/* What the coordinator says of the session, with the seq of its newest user message: paused = hold
 * at the next step boundary (a model call ends at once, a tool may run for 5 s more); idle while it
 * works = interrupted: what runs ends now, open calls are answered so, and it rests until there is
 * a newer message; anything else = go on when paused. Told again and again: only a change counts.
 */
void agent_told(struct agent *a, enum session_state state, uint64_t seq);
/* A person drives the desktop, or does no more: meanwhile no tool begins. Told again and again. */
void agent_drive(struct agent *a, bool driven, const char *person);
/* The limits have changed: a session that waits for that goes on. */
void agent_set_budget(struct agent *a, const struct agent_budget *budget);
/* Why no model may be called now; NULL or "" = nothing stands against it: a session that waits for
 * that goes on. */
void agent_set_hold(struct agent *a, const char *hold);
void agent_usage_before(struct agent *a, const json_t *event); /* for the loader's on_event */
/* What sessions under this one have used, of an event of theirs; others are skipped. */
void agent_note_below(struct agent *a, const json_t *event);
/* Something other than the model ended it: stores the error, then on_end. */
void agent_fail(struct agent *a, const char *code, const char *message);
enum agent_state agent_state(const struct agent *a);
/* Where in a trace those stand who want what it does next; NULL or unset: as before. */
void agent_trace(struct agent *a, const struct trace_context *parent);
