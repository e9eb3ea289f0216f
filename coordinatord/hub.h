/* The hub: numbers events, stores them with many sessions per commit, then publishes and answers.
 *
 * Work comes as entries in one queue. When no commit is under way, entries from its front are
 * applied to the sessions in memory and become one batch = one transaction; the entries' done
 * functions run when it is stored. One batch at a time: the order of ids is the order of commits,
 * and a reader that has seen id N will never find an older one later.
 *
 * A commit whose answer was lost is sent again as it was; core.batch_begin says whether the first
 * one had happened (rule R5). When the database cannot take it at the moment (disk full, shutting
 * down, lock timeouts) it is repeated with growing pauses. When it refuses the content, the
 * sessions of the batch are read again and its entries run one by one, so that only the guilty one
 * fails. */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/histogram.h"
#include "common/base/list.h"
#include "common/io/pg.h"
#include "session.h"

struct hub;
struct hub_batch;

struct hub_entry {
        struct list link;
        struct session *session; /* a reference held by the owner until done, or NULL */
        /* Decides and changes the session through the hub_* functions below. May run more than
         * once, each time on a session as it is in the database. A negative result (see hub_refuse)
         * changes nothing. */
        int (*apply)(struct hub_entry *e, struct hub_batch *b);
        /* r: 0 = stored, published. Else nothing was changed and `code`, `message` say why. Runs
         * once; frees. */
        void (*done)(struct hub_entry *e, int r, const struct hub_batch *b);
        size_t weight; /* bytes kept by this entry, for the limits */
        size_t events; /* events it will make, about */
        enum error_code code;
        char message[240];
        int result; /* of apply */
        bool alone;
};

struct hub_event {
        const struct session *session;
        uint64_t id, seq;
        enum event_type type;
        struct span json; /* the finished event object */
};

struct hub_config {
        sd_event *event;
        struct pg_pool *pool; /* one connection of its own */
        size_t batch_events_max, batch_bytes_max;
        size_t queue_max, queue_bytes_max;
        uint64_t term, batch, cursor; /* from store_activate */
        void (*on_event)(void *userdata, const struct hub_event *e);
        void (*on_session)(void *userdata, const struct session *s, const char *json,
                           uint64_t cursor);
        void (*on_deleted)(void *userdata, const struct session *s, uint64_t cursor);
        void (*on_fenced)(void *userdata); /* another coordinator has taken over; stop */
        void *userdata;
};

struct hub_counters {
        uint64_t events, batches, entries, refused, retries, replays, rebuilds, queue_full;
        uint64_t events_of[EVENT_TYPE_MAX];
        uint64_t transitions[SESSION_STATE_MAX]; /* sessions that entered the state */
        struct histogram commits; /* from the first sending of a batch until it is known stored */
};

int hub_new(const struct hub_config *c, struct hub **ret) mustuse;
struct hub *hub_free(struct hub *h); /* waiting entries end with -ECANCELED */
DEFINE_CLEANUP(struct hub, hub_free)

/* The entry is the hub's until done. -EAGAIN when the queue is full: nothing was taken. */
int hub_submit(struct hub *h, struct hub_entry *e) mustuse;
/* Even when the queue is full: for the coordinator's own, bounded work (leases, assignments). */
void hub_submit_own(struct hub *h, struct hub_entry *e);

uint64_t hub_cursor(const struct hub *h); /* newest stored event id */
size_t hub_waiting(const struct hub *h);
uint64_t
hub_stuck_usec(const struct hub *h); /* how long the commit under way has been waiting; 0 = none */
const struct hub_counters *hub_counters(const struct hub *h);

/* For apply. Errors of the author are refused with hub_refuse(e, ...): `return hub_refuse(...)`. */
int hub_refuse(struct hub_entry *e, enum error_code code, const char *fmt, ...) printf_like(3, 4);
/* body: a JSON object without raw line breaks; returns the event's seq. */
uint64_t hub_event(struct hub_batch *b, struct session *s, enum event_type type, struct span body);
uint64_t hub_last_id(const struct hub_batch *b); /* of the hub_event before */
/* Names the append that the events since `first_seq` belong to; must follow its last hub_event. */
void hub_append_done(struct hub_batch *b, struct session *s, const char *idem, uint64_t first_seq);
/* Borrows `a` and its bytes until the entry's done. */
void hub_attachment(struct hub_batch *b, struct session *s, const struct attachment *a);
/* Copies of the events oldest..last_seq of `from` become the first events of the new session `s`,
 * seqs kept. Ends the guard of store_fork_guard. */
void hub_copy(struct hub_batch *b, struct session *s, const struct session *from, uint64_t oldest,
              uint64_t last_seq);
/* Rows of core.approval as JSON objects: a new one, what is decided of one. */
void hub_approval_new(struct hub_batch *b, struct span row);
void hub_approval_decided(struct hub_batch *b, struct span row);
/* What was used today, to be added to core.usage. */
void hub_usage(struct hub_batch *b, const struct session *s, const char *model,
               const struct usage *u);
void hub_session_insert(struct hub_batch *b, struct session *s);
/* The whole row is written; publish: the session object goes to the bus. */
void hub_session_write(struct hub_batch *b, struct session *s, bool publish);
void hub_session_delete(struct hub_batch *b, struct session *s);
/* Counted once the batch is stored. */
void hub_entered(struct hub_batch *b, enum session_state state);
/* Borrows all until the entry's done; message_id may be NULL. */
void hub_idempotency(struct hub_batch *b, const char *tenant, const char *scope, const char *key,
                     const char *digest, const char *session_id, const char *message_id,
                     uint64_t seq);
void hub_audit(struct hub_batch *b, const char *row); /* a row of audit.h; copied */
uint64_t hub_now(const struct hub_batch *b);          /* realtime of the batch */

/* For done: the session object as stored, of a session written with publish; NULL when it is not
 * there. */
const char *hub_session_json(const struct hub_batch *b, const struct session *s);
