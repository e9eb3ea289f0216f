/* PostgreSQL without blocking: a bounded pool of libpq connections in the sd-event loop, pipelined.
 *
 * A batch is a list of statements that is one transaction: all or nothing (libpq pipeline mode, one
 * Sync). Statements are prepared once per connection, keyed by their text (the first 500 texts;
 * others are planned each time), outside the batch: a batch cannot use what it creates itself.
 * Batches beyond queue_max are refused with -EAGAIN: the caller answers 503. A batch whose
 * connection is lost after it was sent ends with -ECONNRESET: it may or may not have happened (R5);
 * one not yet sent is sent on another connection or waits. Timeouts set on every connection (R13):
 * connect 2 s, tcp_user_timeout 5 s, statement, lock (2 s) and idle-in-transaction (10 s) timeouts;
 * a connection that owes results and stays silent for the statement timeout plus 5 s is dropped;
 * one that the server does not know any more (half-open; a second connection asks) after 1.5 s.
 * Behind a pooler of sessions or transactions, noticed at the first statement, each batch sets its
 * settings for itself, no statement is prepared by name, and nobody asks about half-open ones.
 * Sessions run in UTC, UTF-8, ISO dates. Lost connections are made again after 50 ms to 1 s. A host
 * given by name is looked up by libpq, which blocks: give a socket folder or hostaddr. With the
 * build option `faults` the variable BERTH_FAULT_STORE="error=0.01,timeout=0.01,lost=0.01,seed=1"
 * makes that share of batches fail before sending, time out, or lose their finished result. */
#pragma once

#include <libpq-fe.h>
#include <systemd/sd-event.h>

#include "common/base/util.h"

struct pg_pool;
struct pg_batch;

struct pg_config {
        const char *conninfo; /* libpq keywords; the password comes from passfile */
        const char *passfile; /* NULL = libpq's defaults */
        const char *application;
        unsigned connections;            /* 1 gives strict order of batches */
        size_t queue_max;                /* waiting batches; 0 = 10000 */
        size_t queue_bytes_max;          /* their parameters; 0 = 64 MiB */
        uint64_t queue_timeout_usec;     /* a batch not sent by then: -ETIMEDOUT; 0 = 2 s */
        uint64_t statement_timeout_usec; /* 0 = 5 s */
        /* A connection that owes results and says nothing for this long is dropped; 0 = statement
         * timeout + 5 s. */
        uint64_t silence_usec;
        bool own_session; /* for locks of a session and the like: not made through a pooler */
        /* First connection up, last one lost, first attempt failed (pg_pool_problem says why). May
         * be NULL. */
        void (*on_state)(void *userdata, bool up);
        void *userdata;
};
int pg_pool_new(sd_event *e, const struct pg_config *c, struct pg_pool **ret) mustuse;
/* Waiting batches end with -ECANCELED, sent ones with -ECONNRESET. Allowed inside any of its
 * callbacks. */
struct pg_pool *pg_pool_free(struct pg_pool *p);
DEFINE_CLEANUP(struct pg_pool, pg_pool_free)
bool pg_pool_up(const struct pg_pool *p);
const char *
pg_pool_problem(const struct pg_pool *p); /* why the last connection failed; "" = none did */
size_t pg_pool_waiting(const struct pg_pool *p);

struct pg_error {
        char sqlstate[6]; /* "23505" unique violation; "" when it was the connection */
        char message[256];
};
/* r == 0: results[i] belongs to the i-th statement; borrowed until the callback returns.
 * -EREMOTEIO: the database refused (see *error), nothing was changed.
 * -ECONNRESET: lost after sending, unknown. -ETIMEDOUT, -ECANCELED: never sent. */
typedef void (*pg_done_fn)(void *userdata, int r, PGresult **results, size_t n,
                           const struct pg_error *error);

struct pg_batch *pg_batch_new(void);
struct pg_batch *pg_batch_free(struct pg_batch *b);
DEFINE_CLEANUP(struct pg_batch, pg_batch_free)
/* Parameters are copied. Formats in `types`, one letter each:
 *   s char *, NULL = SQL null     t struct span (text)     b struct span (bytea, sent binary)
 *   i int64_t                     u uint64_t               f double        B int (bool)
 * sql must be a string literal or live as long as the pool. Results come in text format.
 * A NUL inside a text, or more than 64 MiB in one batch, make pg_submit fail with -EINVAL or
 * -EMSGSIZE. */
void pg_batch_add(struct pg_batch *b, const char *sql, const char *types, ...);
/* Row-level security (pg-rules.c): the batch sees and, where rules say so, writes the rows of this
 * tenant only. Without it a reader's role sees no tenant's row at all; PG_ALL_TENANTS sees all, for
 * what serves all of them (look-ups by secret, the fan-out). Called before the first pg_batch_add;
 * its own result is not among those of the callback. The setting ends with the batch, so
 * connections may be shared, also behind a pooler. */
#define PG_ALL_TENANTS "*"
void pg_batch_tenant(struct pg_batch *b, const char *tenant);
/* The same in another role, which the connection's must be a member of. */
void pg_batch_tenant_role(struct pg_batch *b, const char *tenant, const char *role);
void pg_batch_addv(struct pg_batch *b, const char *sql, const char *types, va_list ap);
size_t pg_batch_count(const struct pg_batch *b);
size_t pg_batch_bytes(const struct pg_batch *b);

/* Takes the batch in every case; on a negative result fn is never called: -EAGAIN (queue full),
 * -EINVAL, -EMSGSIZE. fn is never called before pg_submit returns; NULL = nobody wants to know. */
int pg_submit(struct pg_pool *p, struct pg_batch *b, pg_done_fn fn, void *userdata) mustuse;
/* One statement: pg_batch_new + add + submit. */
int pg_query(struct pg_pool *p, pg_done_fn fn, void *userdata, const char *sql, const char *types,
             ...) mustuse;
int pg_query_as(struct pg_pool *p, const char *tenant, pg_done_fn fn, void *userdata,
                const char *sql, const char *types, ...) mustuse; /* with pg_batch_tenant */
void pg_forget(struct pg_pool *p,
               void *userdata); /* callbacks with this userdata never run; the statements do */

/* Reading a text-format result. */
const char *pg_str(const PGresult *r, int row, int col); /* NULL for SQL null */
int64_t pg_i64(const PGresult *r, int row, int col);     /* 0 for SQL null */
bool pg_bool(const PGresult *r, int row, int col);
/* A copy with a NUL behind it, the caller frees. -ENODATA for SQL null, -EBADMSG when not bytea. */
int pg_bytea(const PGresult *r, int row, int col, void **ret, size_t *ret_len) mustuse;

/* Numbered migrations, run blocking at start before the loop (the only blocking use of libpq):
 * files NNNN_name.sql embedded in the daemon, applied in order in one transaction each under an
 * advisory lock, recorded in SCHEMA.migration. A database that is newer than the daemon is refused
 * with -EPROTO. Then every table of the schema that has no rules of row-level security gets them.
 */
struct pg_migration {
        int number;
        const char *name;
        const char *sql;
};
int pg_migrate(const struct pg_config *c, const char *schema, const struct pg_migration *m,
               size_t n, char **ret_error) mustuse;
