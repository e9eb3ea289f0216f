/* Sessions in memory: the mirror of core.session for every session that is live or in use, their
 * state machine, and the queue.
 *
 * Only code that runs inside hub_entry.apply changes the fields of the mirror; what it changes is
 * written by the group commit that apply belongs to. If that commit is refused, the mirror is read
 * again from the database. Nobody else writes session.state than session_set_state.
 *
 * A session stays in the table while it is referenced or live (queued, or holding a lease); others
 * are read from the database when they are asked for (load.h). */
#pragma once

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/states.h"
#include "proto/wire.h"

struct hub_batch;
struct sessions;

#define SESSION_ID_MAX 65
#define SESSION_RECENT 64

/* An append that is stored: what its repetition is answered. */
struct session_append {
        char *idem;
        uint64_t first_id, first_seq, last_seq;
};

/* The takeover lease (control.h). */
struct session_driver {
        char *person;     /* name of the token; NULL = nobody holds it */
        char *viewer;     /* one viewer of the token, or NULL */
        char *token_hash; /* whose */
        uint64_t since_us;
        bool secret; /* types something that nobody is to see */
        /* only in memory */
        uint64_t until; /* monotonic */
        bool expiring;  /* its end is being stored */
};

struct session_approval;

struct session {
        /* mirror of the row */
        char id[SESSION_ID_MAX];
        char *tenant;
        char *name, *agent_name, *model, *project_dir; /* NULL = null */
        enum slot_kind kind;
        enum session_state state;
        char *metadata, *budget, *files, *network; /* JSON texts; network may be NULL */
        char *blueprint; /* JSON text of the agent it began with, or NULL */
        char *image;
        uint32_t width, height; /* 0 = null */
        char *parent;
        unsigned depth;      /* levels of parents above it */
        bool stop_requested; /* kind external: its agent is told with each post */
        uint64_t created_us, modified_us, queued_us, running_since_us; /* since 1970; 0 = null */
        uint64_t running_at; /* monotonic, with running_since_us; 0 = before this coordinator's
                                start */
        uint64_t last_seq, last_message_seq, epoch, run_us;
        char *worker_id; /* holder of the lease of this epoch, or NULL */
        char *slot;      /* JSON text of the holder's slot, or NULL */
        char *error;     /* JSON text, or NULL */
        char *asked;     /* JSON text: what the agent asks a person while it waits, or NULL */
        char *report;    /* JSON text of the agent's report, or NULL */
        enum waiting_for waiting_for; /* of a waiting session, with what it asks for: */
        char *question;               /* NULL unless it is waiting */
        unsigned losses;
        struct session_driver control;
        struct usage usage;
        struct session_append recent[SESSION_RECENT];
        size_t recent_next;
        struct session_approval *approvals; /* approval.h */
        size_t n_approvals;
        uint64_t last_decided_seq; /* of the newest approval_decided event */

        /* only in memory */
        struct sessions *table;
        unsigned refs;
        bool loaded;                /* the mirror was read, or the session is new */
        bool exists;                /* there is a row, or the open commit makes one */
        struct trace_context trace; /* of who last wanted something of it; may be unset */
        bool purging;               /* a deleted session's events are still being removed */
        struct list waiters;        /* of load.c while not loaded */
        struct list queue_link;     /* in sessions.queue while queued */
        struct list lease_link;     /* in sessions.leased while worker_id is set */
        uint64_t lease_until;       /* monotonic; kept by lease.c */
        uint64_t idle_since; /* monotonic: when it became idle or paused, or was last touched */
        /* what the group commit that is being built or written holds of it */
        struct {
                bool member, inserted, full, publish, deleted;
                uint64_t before; /* last_seq before it */
        } batch;
};

struct sessions {
        struct map *by_id;
        struct list queue;  /* queued sessions, oldest queued_us first */
        struct list leased; /* sessions that a worker holds */
        size_t n_queued, n_leased;
};

extern const struct state_table session_states;
#define SESSION_STATE_BIT(s) (UINT32_C(1) << (s))
#define SESSION_ENDED                                                                              \
        (SESSION_STATE_BIT(SESSION_STATE_FINISHED) | SESSION_STATE_BIT(SESSION_STATE_STOPPED) |    \
         SESSION_STATE_BIT(SESSION_STATE_FAILED))
/* Is it a child of `parent`? A fork names where it comes from, but nobody's end is its end. */
static inline bool session_is_under(const struct session *s, const char *parent)
{
        return s->depth > 0 && streq(s->parent, parent);
}

static inline bool session_ended(const struct session *s)
{
        return SESSION_ENDED & SESSION_STATE_BIT(s->state);
}

/* Does nothing by itself: its slot may go to others. A session that waits for a person rests, one
 * that waits for a busy model does not. */
static inline bool session_resting(const struct session *s)
{
        return s->state == SESSION_STATE_IDLE || s->state == SESSION_STATE_PAUSED ||
               (s->state == SESSION_STATE_WAITING && s->waiting_for != WAITING_FOR_MODEL);
}

void sessions_init(struct sessions *t);
void sessions_done(struct sessions *t); /* frees every session, referenced or not */
size_t sessions_live(const struct sessions *t);

/* The session in memory, or a new empty one (not loaded); the caller gets a reference. */
struct session *sessions_get(struct sessions *t, const char *id);
struct session *session_ref(struct session *s);
struct session *session_unref(struct session *s); /* NULL-safe; returns NULL; may free */
DEFINE_CLEANUP(struct session, session_unref)

/* Ids that callers may choose: 1 to 64 of A-Z a-z 0-9 . _ - and no leading dot. */
bool session_id_valid(const char *id);

/* Puts the session into or out of queue and lease list as its fields say; after every load and
 * change. */
void session_place(struct session *s);

/* Forgets the mirror's fields (before it is read again). */
void session_clear(struct session *s);

/* The only writer of s->state. -EPERM when the table of transitions forbids it; s -> s is no change
 * and returns 0. Emits the status event, session_stop at an end; keeps running time; marks the row.
 */
int session_set_state(struct session *s, struct hub_batch *b, enum session_state to,
                      const char *why) mustuse;
/* Why it is waiting; follows session_set_state(WAITING) in the same apply. question: one sentence
 * for a person. */
void session_set_waiting(struct session *s, struct hub_batch *b, enum waiting_for what,
                         const char *question);
/* An end whose session_stop event the caller emits itself, after this. */
int session_set_end(struct session *s, struct hub_batch *b, enum session_state to,
                    const char *why) mustuse;
/* A new session's first state: no transition, no status event. */
void session_set_first_state(struct session *s, struct hub_batch *b, enum session_state state);

/* Grants the session to a worker or (NULL) takes it away: the only writers of epoch and worker_id.
 */
void session_set_holder(struct session *s, struct hub_batch *b, const char *worker_id);

/* The only writers of s->control. take: takes over the texts; whoever held it before has lost it.
 * Each change emits a control event. clear: forgets it without a word. */
void session_control_take(struct session *s, struct hub_batch *b, const struct session_driver *by);
void session_control_secret(struct session *s, struct hub_batch *b, bool on);
void session_control_end(struct session *s, struct hub_batch *b, const char *how);
void session_control_clear(struct session *s);

void session_set_error(struct session *s, const char *code, const char *message);

const struct session_append *session_recent(const struct session *s, const char *idem);
void session_remember(struct session *s, const char *idem, uint64_t first_id, uint64_t first_seq,
                      uint64_t last_seq);
