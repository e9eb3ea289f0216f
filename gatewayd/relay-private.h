/* What the files of the relay share: relay.c (viewers, workers), relay-watch.c (who drives),
 * relay-terminal.c (what is different for a terminal). */
#pragma once

#include "common/base/list.h"
#include "common/base/map.h"
#include "gatewayd/gateway.h"
#include "gatewayd/relay.h"
#include "gatewayd/rfb-filter.h"

/* A session that has viewers: who drives it, as last read, and what they did since it was told. */
struct watch {
        struct relay *relay;
        char session_id[65];
        struct list viewers;
        char *person, *token_hash, *viewer; /* the holder; token_hash NULL = the agent drives */
        bool secret;
        struct rfb_counts counts; /* not told yet, of `counted` */
        bool counted_secret;
        char counted_person[65], counted_hash[SHA256_HEX];
        uint64_t pastes, typed_bytes, typed_lines;
        uint64_t active_since; /* monotonic, of the first of them; 0 = nothing */
        bool telling;
        uint64_t round; /* of the reading that last found it */
};

struct resize;

/* What the viewer of a terminal has besides. */
struct terminal {
        uint64_t id;    /* the worker's */
        char *endpoint; /* of the worker */
        bool told_held; /* what the client was told last: it may type */
        bool resized;   /* cols and rows are not what the worker was told */
        uint32_t cols, rows;
        struct resize *asked; /* under way */
};

struct viewer {
        struct relay *relay;
        struct watch *watch;
        char session_id[65], token_hash[SHA256_HEX], id[65];
        struct sink *sink;
        int fd;                    /* the slot's display, or its terminal */
        struct terminal *terminal; /* NULL: a display */
        sd_event_source *io;
        uint32_t events;
        bool full;                /* the client's queue has no room: the slot is not read */
        bool may_drive;           /* its role allows it */
        bool paused;              /* the client of a terminal has asked so: the slot is not read */
        bool drives;              /* its keys reach the slot */
        bool blind;               /* another person types a secret: the slot is not read */
        struct rfb_filter filter; /* of a display */
        struct buf to_slot;
        struct list all; /* in watch.viewers */
};

struct relay {
        struct gateway *gateway;
        struct map *workers;   /* endpoint -> struct worker_link */
        struct map *watches;   /* session id -> struct watch */
        size_t n, n_terminals; /* viewers; those of terminals among them */
        struct loop_timer poll, flush;
        bool reading, read_again;
        uint64_t asked_at, known_at; /* monotonic: the reading under way, the last that succeeded */
        uint64_t round;
};

/* relay.c */
#define VIEWER_TO_SLOT_MAX (256u << 10) /* and one message more */
/* To the slot, what it takes now; and what is waited for follows the flags. */
void viewer_flush(struct viewer *v);
void viewer_control(struct viewer *v, bool control, bool blind);

/* relay-terminal.c */
struct terminal *terminal_new(uint64_t id, const char *endpoint);
void terminal_free(struct terminal *t); /* NULL is fine */
void terminal_message(struct viewer *v, struct span data, bool binary);
void terminal_control(struct viewer *v); /* tells the client what has changed */

/* relay-watch.c */
int relay_watch_init(struct relay *r) mustuse;
void relay_watch_done(struct relay *r);
struct watch *watch_get(struct relay *r, const char *session_id);
void watch_join(struct watch *w, struct viewer *v); /* its rights become what is known; asks anew */
void watch_leave(struct viewer *v);                 /* frees the watch with its last viewer */
/* After the filter let something through: adds what it counted. */
void watch_count(struct watch *w, struct rfb_counts *counts);
void watch_typed(struct watch *w, struct span data); /* into a terminal; only counted */
