/* Workers: what each last told, and what the coordinator believes of it.
 *
 * offline -> free -> reserved -> holding -> releasing -> free; offline from anywhere, and back by a
 * greeting. `session_id` and `epoch` name the lease the worker was given and has not been seen to
 * be without; the lease itself is the session's (worker_id, epoch). Nobody else writes worker.state
 * than worker_set_state.
 *
 * The table core.worker follows in the background (it is shown to people, nothing is decided from
 * it but where the gateway finds a slot's display). */
#pragma once

#include "common/base/map.h"
#include "common/base/states.h"
#include "common/io/daemon.h"
#include "common/io/pg.h"
#include "common/io/rpc.h"
#include "session.h"

enum worker_state {
        WORKER_OFFLINE,   /* no link */
        WORKER_FREE,      /* linked, holds nothing */
        WORKER_RESERVED,  /* a session's lease for it is being stored */
        WORKER_HOLDING,   /* was given a session */
        WORKER_RELEASING, /* was told to drop it, or reports one that is not its own; not yet seen
                             without */
        WORKER_STATE_MAX,
};
const char *worker_state_name(int state);
extern const struct state_table worker_states;

/* Which slot it keeps ready while it is free: warm-keeper.c only. */
struct worker_warm {
        bool tellable;       /* it told what it keeps, so it can be told */
        bool needed;         /* it serves a target */
        enum slot_kind keep; /* what it was told last, else what it said itself */
        uint64_t told_at;    /* monotonic; 0 = never */
};

struct worker {
        char id[65], instance[65], version[65];
        char *endpoint, *limits, *load, *slot; /* the last three JSON texts */
        char *image;                           /* of slot, or NULL */
        uint32_t width, height;                /* of slot */
        uint32_t kinds;
        enum slot_kind kind;
        enum slot_state slot_state;
        enum worker_state state;
        bool draining;
        bool settled; /* the assignment was answered, or its call has ended: heartbeats tell the
                         truth */
        char session_id[SESSION_ID_MAX]; /* "" = none */
        uint64_t epoch;
        struct rpc_peer *peer;                     /* NULL when offline */
        uint64_t greeted_us, heartbeat_us;         /* since 1970, for people */
        uint64_t heard_at, free_since, not_before; /* monotonic */
        struct worker_warm warm;
        bool dirty;
};

struct workers {
        struct map *by_id;
        size_t max;
        struct pg_pool *pool;
        struct loop_task flush;
        bool writing;
};

int workers_init(struct workers *t, sd_event *e, struct pg_pool *pool, size_t max) mustuse;
void workers_done(struct workers *t);

void workers_tick(struct workers *t); /* once a second: writes what could not be written before */

struct worker *workers_find(struct workers *t, const char *id);
/* -ENOSPC when there are `max` and none is offline without a session. */
int workers_get(struct workers *t, const char *id, struct worker **ret) mustuse;
/* From the rows of store_workers_read. */
void workers_load(struct workers *t, const PGresult *r);

void worker_set_state(struct workers *t, struct worker *w, enum worker_state to, const char *why);
/* What it has now been given (id, epoch); NULL: nothing. */
void worker_bind(struct workers *t, struct worker *w, const char *session_id, uint64_t epoch);
/* What its slot is, by its own word, or as follows from what it was told: the only writer. */
void worker_set_slot(struct workers *t, struct worker *w, enum slot_state to, const char *why);
/* Takes over what the worker tells of its slot. -EINVAL when a text is no JSON object. */
int worker_report(struct workers *t, struct worker *w, enum slot_kind kind, enum slot_state state,
                  struct span slot, struct span load) mustuse;
void worker_changed(struct workers *t, struct worker *w); /* its row is to be written */

/* One way or with an answer nobody waits for; nothing happens when the worker is offline. */
void worker_cancel(struct workers *t, struct worker *w, const char *session_id, uint64_t epoch,
                   enum cancel_reason reason);
/* Tells the holder what a person did: message_notify. */
void worker_notify(struct worker *w, const struct session *s);
