/* What the files of the relay share: relay.c (viewers, workers), relay-watch.c (who drives). */
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
        uint64_t pastes;
        uint64_t active_since; /* monotonic, of the first of them; 0 = nothing */
        bool telling;
        uint64_t round; /* of the reading that last found it */
};

struct viewer {
        struct relay *relay;
        struct watch *watch;
        char session_id[65], token_hash[SHA256_HEX], id[65];
        struct sink *sink;
        int fd; /* the slot's display */
        sd_event_source *io;
        uint32_t events;
        bool full;      /* the client's queue has no room: the slot is not read */
        bool may_drive; /* its role allows it */
        bool blind;     /* another person types a secret: the slot is not read */
        struct rfb_filter filter;
        struct buf to_slot;
        struct list all; /* in watch.viewers */
};

struct relay {
        struct gateway *gateway;
        struct map *workers; /* endpoint -> struct worker_link */
        struct map *watches; /* session id -> struct watch */
        size_t n;
        struct loop_timer poll, flush;
        bool reading, read_again;
        uint64_t asked_at, known_at; /* monotonic: the reading under way, the last that succeeded */
        uint64_t round;
};

/* relay.c */
void viewer_control(struct viewer *v, bool control, bool blind);

/* relay-watch.c */
int relay_watch_init(struct relay *r) mustuse;
void relay_watch_done(struct relay *r);
struct watch *watch_get(struct relay *r, const char *session_id);
void watch_join(struct watch *w, struct viewer *v); /* its rights become what is known; asks anew */
void watch_leave(struct viewer *v);                 /* frees the watch with its last viewer */
/* After the filter let something through: adds what it counted. */
void watch_count(struct watch *w, struct rfb_counts *counts);
