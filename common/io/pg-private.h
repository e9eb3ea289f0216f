/* Shared by the files of the PostgreSQL client: the pool, its connections, batches. */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "daemon.h"
#include "pg.h"

#define PG_STATEMENTS_MAX 500 /* prepared per connection */
#define PG_FLYING_MAX 32      /* batches in flight per connection */
#define PG_BATCH_BYTES_MAX (64 * MIB)
#define PG_CONNECT_USEC (2 * USEC_PER_SEC)
#define PG_LOCK_USEC (2 * USEC_PER_SEC)
#define PG_IDLE_USEC (10 * USEC_PER_SEC)
#define PG_SILENCE_EXTRA_USEC (5 * USEC_PER_SEC)
#define PG_PROBE_USEC (1500 * USEC_PER_MSEC) /* of silence, then each second */
#define PG_PROBE_AGAIN_USEC (1 * USEC_PER_SEC)
#define PG_BACKOFF_MIN_USEC (50 * USEC_PER_MSEC)
#define PG_BACKOFF_MAX_USEC (1 * USEC_PER_SEC)

struct pg_param {
        size_t offset; /* into the batch's data; always NUL-terminated there */
        int len;
        bool null, binary;
};

struct pg_statement {
        const char *sql;
        size_t first, n; /* its parameters */
        struct pg_prepared *prepared;
};

struct pg_batch {
        struct list link; /* in pool->waiting or connection->flying */
        struct buf data;
        struct pg_param *params;
        size_t n_params, cap_params;
        struct pg_statement *statements;
        size_t n_statements, cap_statements;
        size_t hidden; /* statements at the front whose results are nobody's: pg_batch_tenant */
        int invalid;   /* why pg_submit must refuse it */

        pg_done_fn fn;
        void *userdata;
        uint64_t deadline; /* for being sent; monotonic */

        /* while in flight */
        struct pg_prepared **parses; /* what this batch prepares, each before its own Sync */
        size_t n_parses, parses_done, syncs_left;
        PGresult **results;
        size_t n_results;
        bool settings;     /* the first result to come is that of pool->settings_local */
        bool failed, lose; /* lose: the fault shim throws its result away */
        struct pg_error error;
};

enum pg_prepared_state { PG_PREPARED_NEW, PG_PREPARED_SENT, PG_PREPARED_READY, PG_PREPARED_FAILED };

/* One statement text as one connection's server knows it. */
struct pg_prepared {
        enum pg_prepared_state state;
        char name[16];
        struct pg_error error; /* of the last failed attempt */
};

enum pg_state { PG_IDLE, PG_CONNECTING, PG_READY, PG_BACKOFF, PG_STATE_MAX };

struct pg_connection {
        struct pg_pool *pool;
        enum pg_state state;
        PGconn *pg;
        sd_event_source *io;
        struct loop_timer timer; /* by state: connect timeout, silence, next attempt */
        uint64_t heard;          /* monotonic; while batches fly: when it said something last */
        struct pg_probe *probe;  /* NULL = none is under way */
        uint64_t backoff;
        struct list flying; /* batches, in the order sent */
        size_t n_flying;
        bool greeted;         /* connected, and was asked whether the server is at its other end */
        bool pooled;          /* a pooler is: nothing may be kept between transactions */
        struct map *prepared; /* text -> struct pg_prepared; NULL = pooled */
        bool retiring;        /* takes no new batches, closes when nothing flies */
};

struct pg_pool {
        sd_event *event;
        char **keywords, **values;       /* for PQconnectStartParams, NULL-terminated */
        char *settings, *settings_local; /* for the connection, for one transaction */
        struct pg_connection *connections;
        size_t n_connections, n_ready;
        struct list waiting;
        size_t n_waiting, waiting_bytes, queue_max, queue_bytes_max;
        uint64_t queue_timeout, statement_timeout, silence;
        struct loop_task dispatch;
        struct loop_timer expiry; /* of the first waiting batch */
        void (*on_state)(void *userdata, bool up);
        void *userdata;
        bool told_down, told_pooled, own_session;
        unsigned depth; /* of our own callbacks on the stack */
        bool dead;      /* pg_pool_free was called inside one */
        char problem[256];
};

/* pg-batch.c */
/* Ends the batch: calls its callback and frees it. It must be in no list. */
void pg_batch_finish(struct pg_batch *b, int r);
void pg_error_set(struct pg_error *e, const PGresult *r);

/* pg-connection.c */
void pg_connection_init(struct pg_connection *c, struct pg_pool *p);
int pg_connection_start(struct pg_connection *c) mustuse; /* arms what makes it connect */
/* 0: the batch flies. Negative: the connection is lost, the batch is still the caller's and not
 * sent. */
int pg_connection_send(struct pg_connection *c, struct pg_batch *b) mustuse;
void pg_connection_flush(struct pg_connection *c);
void pg_connection_done(struct pg_connection *c); /* sent batches end with -ECONNRESET */

/* A probe has found that the server does not know this connection any more. */
void pg_connection_gone(struct pg_connection *c);

/* pg-probe.c: nothing when one is under way. */
void pg_probe_start(struct pg_connection *c);
struct pg_probe *pg_probe_free(struct pg_probe *p);

/* pg.c */
void pg_pool_enter(struct pg_pool *p);
void pg_pool_leave(struct pg_pool *p);
void pg_pool_connection_ready(struct pg_pool *p);
void pg_pool_connection_lost(struct pg_pool *p, bool was_ready, const char *why);

/* pg-params.c: what every connection is made with. -EINVAL: the conninfo is not one. */
int pg_params_make(const struct pg_config *c, char ***ret_keywords, char ***ret_values) mustuse;
void pg_params_free(char **list);
/* The SELECT that sets timeouts and formats, for the session or for this transaction only; the
 * caller frees. Not startup parameters: poolers refuse those. */
char *pg_settings_sql(uint64_t statement_timeout, uint64_t lock_timeout, bool local) mustuse;

/* pg-greeting.c: who is at the other end? One step of the question, in c->pooled the answer.
 * Returns the events to wait for, 0: answered, negative: the connection is lost. */
int pg_greeting_step(struct pg_connection *c) mustuse;

/* pg-rules.c: a command that gives every table of the schema its rules; the caller frees. */
char *pg_rules_sql(const char *schema) mustuse;

/* pg-fault.c */
enum pg_fault { PG_FAULT_NONE, PG_FAULT_ERROR, PG_FAULT_TIMEOUT, PG_FAULT_LOST };
enum pg_fault pg_fault_next(void);
