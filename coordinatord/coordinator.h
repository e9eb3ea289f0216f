/* The manager: owns loop objects, pools, sockets and tables of coordinatord; everything hangs on
 * it. */
#pragma once

#include "common/io/daemon.h"
#include "common/io/pg.h"
#include "common/io/rpc.h"
#include "figures.h"
#include "hub.h"
#include "session.h"
#include "store.h"
#include "worker.h"

struct coordinator_settings {
        char *database, *database_direct, *database_passfile;
        char *gateway_socket, *worker_socket, *bus_socket;
        char *admin_token_file;
        uint64_t lease_ttl, heartbeat, idle_hold, request_timeout, control_ttl; /* microseconds */
        uint64_t standby_after;
        uint64_t sessions_queued_max, sessions_live_max, workers_max, losses_max;
        uint64_t group_commit_max, group_commit_bytes, events_waiting_max, events_waiting_bytes;
        uint64_t database_connections;
        uint64_t idempotency_keep, events_keep, audit_keep;
        uint64_t session_depth_max, session_children_max, fork_events_max;
        uint64_t approval_timeout;
        char *pool_starter, *pool_warm;
        uint64_t pool_min, pool_max, pool_spare, pool_idle;
};
extern const struct setting coordinator_settings_table[];
extern const size_t coordinator_settings_count;
/* What goes together; for daemon.check. */
int coordinator_settings_check(const void *settings, char **ret_error) mustuse;

enum coordinator_phase {
        PHASE_WAITING,  /* for the database, or for the other coordinator to end */
        PHASE_STARTING, /* holds the lock: migrating, reading what is live */
        PHASE_ACTIVE,
        PHASE_MAX,
};

struct coordinator_counters {
        uint64_t leases_granted, leases_lost, leases_refused, evictions, stale_appends,
                live_dropped, events_expired, requests, requests_late, requests_refused,
                sessions_lost;
};

/* Who holds the lock that a standby waits for, as the database shows it. */
struct lock_holder {
        int64_t pid;
        char beat[48]; /* time of its last sign of life, by the database's clock */
        uint64_t looked_at, silent_usec; /* monotonic; how long the sign has not changed */
};

struct coordinator {
        struct daemon *daemon;
        const struct coordinator_settings *settings;
        enum coordinator_phase phase;
        char instance[UUID_MAX];
        struct store_start start;

        struct pg_pool *lock_pool, *hub_pool, *pool;
        struct hub *hub;
        struct bus *bus;
        struct rpc_link *gateways, *worker_link;
        struct sessions sessions;
        struct workers workers;

        struct children *children;
        struct pool *pool_of_workers; /* pool.h */
        struct warm *warm;            /* warm.h */
        struct list requests;         /* struct request, all that are not ended */
        size_t n_requests;
        struct map *keys; /* Idempotency-Keys that a request is working on */

        bool waited; /* for another coordinator: what it listens on is ours now */
        bool beating;
        struct lock_holder holder;

        struct loop_timer takeover_timer, beat_timer, sweep_timer, tick_timer, dispatch_timer;
        struct loop_timer stop_timer;
        uint64_t stop_by; /* monotonic; 0 = it does not end */
        bool rested;      /* nothing was under way when it last looked */
        struct loop_task dispatch_task;
        size_t loading; /* sessions still to be read at start */
        bool unread;    /* one of them could not be: all again */
        unsigned ticks;
        struct map *budgets; /* budget.c */
        bool budgets_loading, budgets_loaded;
        char hold[400];
        struct map *limits; /* limits.c */
        bool audit_busy;
        bool purging, expiring, retaining, partitioning, writing_status, expiring_approvals,
                waking_askers;
        char purge_id[SESSION_ID_MAX];
        struct coordinator_counters counters;
        struct figures figures;
        uint64_t told_events; /* what the status line last knew */
};

int coordinator_new(struct daemon *d, const struct coordinator_settings *settings,
                    struct coordinator **ret) mustuse;
/* An orderly end: what is under way is stored and answered first, for half a second at most. */
void coordinator_stop(struct coordinator *c);
void coordinator_reload(struct coordinator *c); /* the settings were read again */
struct coordinator *coordinator_free(struct coordinator *c);
DEFINE_CLEANUP(struct coordinator, coordinator_free)

/* takeover.c: from "is this our database" to "everything is read", then coordinator_activate. */
int takeover_start(struct coordinator *c) mustuse;
void takeover_retry(struct coordinator *c, const char *why); /* all of it again, soon */
/* From now on a standby sees that we live. */
void takeover_active(struct coordinator *c);
/* Opens the sockets and starts work. A failure ends the daemon. */
void coordinator_activate(struct coordinator *c);
void coordinator_set_phase(struct coordinator *c, enum coordinator_phase to, const char *why);

/* The database answers, as far as we know; else requests are refused at once. */
bool coordinator_database_up(const struct coordinator *c);

/* upkeep.c: what happens once a second, beside work. */
void upkeep_tick(struct coordinator *c);
void upkeep_purge(struct coordinator *c); /* removes events of deleted sessions, now */

/* route-child.c: sessions under others. */
int children_init(struct coordinator *c) mustuse;
void children_done(struct coordinator *c);
void children_changed(struct coordinator *c,
                      const struct session *s); /* stored: who waits is told */
void children_parent_over(struct coordinator *c, const char *session_id); /* ended or deleted */
void children_heal(struct coordinator *c); /* at start: ends children whose parent ended before */
void children_sweep(struct coordinator *c);

/* Route tables, one file per family. */
extern const struct rpc_route gateway_routes[];
extern const size_t gateway_routes_count;
extern const struct rpc_route worker_routes[];
extern const size_t worker_routes_count;

int route_session_create(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_agent_put(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_agent_delete(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_session_patch(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_session_stop(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_log_append(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_session_control(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_session_fork(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_external_post(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_session_delete(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_approval_decide(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_usage_may(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_usage_add(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_budget_put(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_approval_request(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_message_post(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_token_create(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_token_revoke(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_user_put(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_user_delete(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_tenant_put(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_tokens_used(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_worker_drain(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_worker_hello(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_worker_heartbeat(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_worker_released(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_event_append(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_event_live(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_history_get(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_attachment_get(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_child_start(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_child_look(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
void worker_peer_event(void *c, struct rpc_peer *p, enum rpc_peer_event what);
