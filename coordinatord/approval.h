/* Approvals: what an agent may only do when a person says so.
 *
 * An approval is a row of core.approval, written in the same commit as its `approval_requested`
 * event; its end (allowed, denied, expired, cancelled) in that of `approval_decided`. It is bound
 * to `bound`, the exact thing asked for: digest = SHA-256 of {"bound":...,"kind":...} as canonical
 * JSON (approval_digest in common/base/json.h). Scope `once` is for this asking, `session` for
 * whatever has the same digest, as long as the session is there. Nobody deciding within the setting
 * approval_timeout counts as no. The mirror of a session holds what is pending, what holds for the
 * session, and the newest that are decided.
 *
 * How tools ask: the worker sends event_append with `ask` and to_state waiting (waiting_for
 * approval), so that asking and resting are one commit; it learns the answer from the
 * approval_decided event, like everything of the conversation. While it waits, its slot may go to
 * others; the decision then puts the session into the queue. A message of a person, an interrupt or
 * the session's end cancels what a tool asked.
 *
 * How anything else asks (the egress proxy: kind network): workerd sends approval_request, see
 * workerd/approval.h. That changes no state of the session. */
#pragma once

#include "hub.h"

#define SESSION_APPROVALS 128        /* kept in memory of one session */
#define SESSION_APPROVALS_PENDING 32 /* a session may ask for at a time */

struct coordinator;

struct session_approval {
        char id[UUID_MAX];
        char digest[SHA256_HEX];
        char *subject, *call_id; /* call_id may be NULL */
        enum approval_kind kind;
        enum approval_status status;
        enum approval_scope scope;
        uint64_t decided_seq; /* 0 = pending */
};

/* What a message asks for, checked and made ready before apply. */
struct approval_wish {
        const struct approval_ask *ask; /* borrowed */
        char *bound, *details;          /* compact JSON; details may be NULL */
        char digest[SHA256_HEX];
};
/* NULL, or what is wrong. Release with approval_wish_done. */
const char *approval_wish_read(struct approval_wish *w, const struct approval_ask *ask);
void approval_wish_done(struct approval_wish *w);

/* ---- for apply ---- */

/* The newest of this kind and digest that is pending or holds for the session; else NULL. */
struct session_approval *approval_standing(struct session *s, enum approval_kind kind,
                                           const char *digest);
struct session_approval *approval_find(struct session *s, const char *id);
/* -ENOSPC when too many are pending. `timeout` in microseconds. */
int approval_add(struct hub_batch *b, struct session *s, const struct approval_wish *w,
                 uint64_t timeout, struct session_approval **ret) mustuse;
struct approval_decision {
        enum approval_status status;
        enum approval_scope scope;
        const char *note, *by; /* may be NULL */
};
/* Ends a pending one. */
void approval_decide(struct hub_batch *b, struct session *s, struct session_approval *a,
                     const struct approval_decision *d);
/* Cancels what is pending; tools_only: what the agent's calls wait for. */
void approvals_cancel(struct hub_batch *b, struct session *s, bool tools_only, const char *why);
/* A waiting session goes on: with its holder, else into the queue. */
int approval_wake(struct hub_batch *b, struct session *s, const char *why) mustuse;

/* ---- the mirror ---- */

void approvals_read(struct session *s, const PGresult *r); /* rows of store.c, oldest first */
void approvals_clear(struct session *s);
/* The newest user message or decision: what the holder must have read. */
uint64_t session_input_seq(const struct session *s);

/* Once a second: ends those that are too late. */
void approvals_tick(struct coordinator *c);
