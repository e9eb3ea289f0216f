/* The session this worker holds: its lease, its files in the slot, its agent.
 *
 * Made when it is assigned; acts once session_slot_ready was called; freed by the worker, which is
 * told by on_over when the session has nothing more to do here. Freeing stops the model call and
 * the running tool at once. Every action checks the lease: it acts no more from 2 s before the
 * lease ends, by the monotonic clock, and on_over tells the worker to kill the slot. */
#pragma once

#include "agent.h"
#include "approval.h"
#include "documents.h"
#include "recorder.h"
#include "settings.h"

enum session_over {
        SESSION_OVER_IDLE,   /* idle for long enough: the slot is free again */
        SESSION_OVER_ENDED,  /* it has failed, as stored */
        SESSION_OVER_FENCED, /* it is not ours any more */
        SESSION_OVER_MAX,
};
const char *session_over_name(enum session_over what);

struct session_config {
        sd_event *event;
        struct rpc_link *link;
        struct documents *documents;
        struct recorders *recorders; /* NULL = nothing is recorded */
        const struct provider_set *providers;
        const struct prices *prices;
        const struct worker_settings *settings;
        struct otlp *otlp;                                       /* may be NULL */
        void (*on_over)(void *userdata, enum session_over what); /* may free the session */
        void *userdata;
};

struct session;
/* -EINVAL when the assignment makes no sense. Everything is copied. What it does belongs to the
 * trace in whose scope it was assigned, and then to those of its messages. */
int session_new(const struct session_config *c, const struct session_assign *m,
                struct session **ret) mustuse;
struct session *session_free(struct session *s);
DEFINE_CLEANUP(struct session, session_free)

const char *session_id(const struct session *s);
uint64_t session_epoch(const struct session *s);
enum slot_kind session_kind(const struct session *s);
void session_size(const struct session *s, uint32_t *ret_width, uint32_t *ret_height); /* 0 = any */
void session_slot_ready(struct session *s, struct slot *slot);
/* The slot is gone: what runs fails, the session ends with that reason. */
void session_slot_failed(struct session *s, const char *why);
/* The lease holds until this time of the monotonic clock. */
void session_renew(struct session *s, uint64_t until_usec);
/* There is a user message of that seq (0 = none); state, unless NULL: agent_told; budget, unless
 * empty: the limits now, as JSON. */
void session_message(struct session *s, uint64_t seq, const enum session_state *state,
                     struct span budget);
/* Who drives the desktop: a person's turn holds the agent's tools, secret entry every picture. */
void session_control(struct session *s, enum control_mode mode, const char *person);
/* Why no model may be called now (limits of tenant or agent); NULL = nothing stands against it. */
void session_hold(struct session *s, const char *hold);
/* For asking a person; there as long as the session is. */
struct approvals *session_approvals(struct session *s);
/* What keeps the results of its slot, handed over: the session is about to be freed. NULL when
 * there is nothing to keep. */
struct results *session_take_results(struct session *s) mustuse;
void session_deleted(struct session *s); /* it is about to be freed, and nothing of it is wanted */
bool session_acting(const struct session *s); /* has a slot and is not just resting */
