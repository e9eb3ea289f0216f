/* All SQL of coordinatord: what is sent to the database and how its rows become our structs.
 *
 * Functions that take a callback are asynchronous and fail at once (-EAGAIN) when the pool's queue
 * is full; then the callback never runs. Migrations are in sql/. */
#pragma once

#include "common/io/pg.h"
#include "session.h"

struct hub_batch;

/* ---- taking over ---- */

extern const char store_try_lock[]; /* SELECT -> bool: this database's coordinator is us */
extern const char store_beat[];     /* what an active one says on the lock's connection */
extern const char store_holder[];   /* -> pid, time of the newest beat, of the one with the lock */
extern const char store_end_holder[]; /* pid, that time -> bool: its connection is ended */
extern const char
        store_activate[]; /* -> term, batch, cursor, db_epoch; fences every coordinator before */
int store_migrate(const struct pg_config *c, char **ret_error) mustuse;
struct store_start {
        uint64_t term, batch, cursor;
        char db_epoch[64];
};
void store_read_start(const PGresult *r, struct store_start *ret);

/* ---- group commit ---- */

int store_batch_commit(struct pg_pool *p, const struct hub_batch *b, pg_done_fn fn,
                       void *userdata) mustuse;
/* term, number -> term, batch, and batch once more when this statement has changed it: takes the
 * number away from a batch whose fate is not known, so that it cannot be stored any more. */
extern const char store_batch_void[];
/* Keeps the session objects that the last statement of a commit, or store_batch_read_jsons,
 * returned. */
void store_batch_jsons(struct hub_batch *b, const PGresult *last);
int store_batch_read_jsons(struct pg_pool *p, const struct hub_batch *b, pg_done_fn fn,
                           void *userdata) mustuse;

/* ---- sessions ---- */

typedef void (*store_reload_fn)(void *userdata, int r);
/* Reads row and recent appends into the mirror (s->exists tells whether there is a row) and places
 * it. The session must stay referenced, and the pool must not forget `userdata`, until fn was
 * called. */
int store_session_reload(struct pg_pool *p, struct session *s, store_reload_fn fn,
                         void *userdata) mustuse;
/* Every session that is queued or leased: rows of ids. */
extern const char store_live_ids[];

/* ---- the rest, one statement each; what they return is said in store.c ---- */

extern const char store_idempotency_find[];   /* tenant, scope, key */
extern const char store_idempotency_object[]; /* tenant, scope, key, digest, object */
extern const char store_session_json[];       /* session_id */
extern const char store_history[];            /* session_id, after_seq, limit, bytes */
extern const char store_attachment[];         /* session_id, digest */
extern const char store_purge_list[];         /* limit */
extern const char store_purge_events[];       /* session_id, limit: number removed */
extern const char store_purge_attachments[];  /* session_id, limit: number removed */
extern const char store_purge_done[];         /* session_id */
extern const char store_idempotency_expire[]; /* age in seconds, limit */
extern const char store_partitions[];         /* makes those of this and the next two months */
extern const char store_expire_events[];      /* age in seconds, limit: number removed */
extern const char store_expire_attachments[]; /* age in seconds, limit: number removed */
extern const char store_expire_tombstones[];
extern const char store_fork_look[];        /* session_id, seq */
extern const char store_fork_guard[];       /* new session_id */
extern const char store_fork_attachments[]; /* from, to, limit: number copied */
extern const char store_idems_find[];       /* session_ids, idems, each joined by \x1f */
extern const char store_workers_write[];    /* JSON array of rows */
extern const char store_workers_read[];
extern const char store_usage_add[];     /* time, JSON array of rows */
extern const char store_fence[];         /* term; BT001 = it is over */
extern const char store_approval_json[]; /* approval_id, session_id */
extern const char store_approvals_late[];
extern const char store_status_write[]; /* process, JSON */
extern const char store_token_exists[];
extern const char store_token_add[]; /* hash, name, role, tenant */
