/* One group commit as rows: built by hub.c through batch.c, turned into SQL by store.c. */
#pragma once

#include "hub.h"

struct batch_event {
        struct session *session;
        uint64_t id, seq;
        enum event_type type;
        size_t json_at, json_len; /* in hub_batch.json */
        const char *idem;         /* borrowed from the entry; NULL but on the first of an append */
        uint32_t span;            /* how many events that append made */
};

struct batch_copy {
        const struct session *session;
        struct session *from; /* a reference */
        uint64_t first_id, oldest, last_seq;
};

struct batch_attachment {
        const struct session *session;
        const struct attachment *a;
};

struct batch_idempotency {
        const char *tenant, *scope, *key, *digest, *session_id, *message_id;
        uint64_t seq;
};

struct hub_batch {
        uint64_t term, number, cursor; /* cursor: id of its newest event */
        uint64_t now_us;
        char now_text[TIMESTAMP_MAX];
        struct list entries;
        struct buf json;
        struct batch_event *events;
        size_t n_events, cap_events;
        struct session **sessions; /* all it touches, with a reference each */
        char **session_json; /* as stored, in the order of sessions; NULL where not published */
        size_t n_sessions, cap_sessions;
        struct batch_copy *copies;
        size_t n_copies, cap_copies;
        struct batch_attachment *attachments;
        size_t n_attachments, cap_attachments;
        struct batch_idempotency *idempotency;
        size_t n_idempotency, cap_idempotency;
        struct buf approvals_new, approvals_decided, usage; /* members of JSON arrays */
        struct buf audit;                                   /* rows as JSON objects, by commas */
        size_t attachment_bytes;
        uint64_t entered[SESSION_STATE_MAX]; /* for hub_counters.transitions */
        unsigned attempts, doubts;           /* doubts: refusals that may pass */
        bool unknown; /* an attempt was sent and not answered: it may be stored yet */
};

/* before_us: the time of the batch before, 0 = none. */
struct hub_batch *batch_new(uint64_t term, uint64_t number, uint64_t cursor, uint64_t before_us);
/* Drops the references and the marks on the sessions; entries must have been taken out. */
struct hub_batch *batch_free(struct hub_batch *b);
DEFINE_CLEANUP(struct hub_batch, batch_free)
bool batch_empty(const struct hub_batch *b); /* nothing to write */
size_t batch_bytes(const struct hub_batch *b);
