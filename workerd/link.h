/* The worker's link to the coordinator: greeting, heartbeats, and what the coordinator asks.
 *
 * Greets whenever the link comes up (also after a coordinator's restart) and beats every
 * heartbeat_ms; a beat renews the lease for lease_ms from its sending. Decisions are the worker's,
 * through the callbacks. */
#pragma once

#include "common/io/daemon.h"
#include "common/io/rpc.h"

struct link_status { /* what is told; borrowed until the call returns */
        enum slot_kind kind;
        enum slot_state state;
        const char *session_id; /* NULL = none */
        uint64_t epoch;
        struct span slot, load; /* JSON objects */
        enum slot_kind keeps;   /* the kind of its slot while it holds no session */
};

struct link_config {
        sd_event *event;
        void *zmq;
        const char *socket;
        const char *worker_id;
        const char *endpoint; /* of the descriptor socket */
        const char *limits;   /* JSON object */
        uint32_t kinds;
        void (*status)(void *userdata, struct link_status *ret);
        /* The lease of (session_id, epoch) holds until then (monotonic); or it is gone. */
        void (*on_lease)(void *userdata, const char *session_id, uint64_t epoch, bool keep,
                         uint64_t until_usec);
        /* The newest user message or decision for the held session (0 = none known) and, unless
         * NULL, its state: what a person did. */
        void (*on_message)(void *userdata, const char *session_id, uint64_t epoch, uint64_t seq,
                           const enum session_state *state, struct span budget);
        /* Why no model may be called now, NULL = nothing stands against it. */
        void (*on_hold)(void *userdata, const char *session_id, uint64_t epoch, const char *hold);
        /* An approval of the session it holds was decided. */
        void (*on_approval)(void *userdata, const struct approval_notify *m);
        /* 0 = taken; else a negative errno and *why. */
        int (*on_assign)(void *userdata, const struct session_assign *m, const char **why);
        void (*on_cancel)(void *userdata, const struct session_cancel *m);
        /* Who drives the desktop of the held session; in force when this returns. */
        void (*on_control)(void *userdata, const char *session_id, uint64_t epoch,
                           enum control_mode mode, const char *person);
        /* The kind of slot to keep ready while no session is there; NULL: that of the settings. */
        void (*on_keep)(void *userdata, const enum slot_kind *kind);
        void (*on_drain)(void *userdata);
        void *userdata;
};
struct link;
int link_new(const struct link_config *c, struct link **ret) mustuse;
struct link *link_free(struct link *l);
DEFINE_CLEANUP(struct link, link_free)
struct rpc_link *link_rpc(struct link *l);
void link_beat(struct link *l); /* tell the status now: something changed */
/* One attempt: a lost word is made good by the next heartbeat. done (may be NULL) always comes. */
void link_released(struct link *l, const char *session_id, uint64_t epoch,
                   void (*done)(void *userdata));
