/* What fanout.c (subscribers, bus) and fanout-catchup.c (stored events, poll) share. */
#pragma once

#include "common/base/list.h"
#include "common/base/map.h"
#include "gatewayd/fanout.h"

#define FANOUT_PAGE 100u                           /* stored events per read */
#define FANOUT_UPDATED 200                         /* changed sessions per poll */
#define FANOUT_UPDATED_USEC (5 * USEC_PER_SEC)     /* changed since then */
#define FANOUT_FILTER_MAX 1000u                    /* sessions a /ws client may name */
#define FANOUT_DELETED_MAX 4096u                   /* deletions remembered as told */
#define FANOUT_POLL_USEC (5 * USEC_PER_SEC)        /* in any case: deletions have no cursor */
#define FANOUT_SILENCE_USEC (2500 * USEC_PER_MSEC) /* no tick: poll */

#define JOIN_EVENTS 64u       /* a quarter of a queue */
#define JOIN_BYTES (64 * KIB) /* one larger event is alone */

/* Events of one session that came in one turn of the loop. Each is rendered once for each kind of
 * stream, and those of the turn are one frame that all subscribers share: what a turn costs for one
 * subscriber does not depend on the number of its events. */
struct joined {
        struct list link; /* fanout->joining */
        struct topic *topic;
        unsigned n;
        uint64_t first_seq;
        struct buf json; /* of all, side by side */
        size_t ends[JOIN_EVENTS];
        enum event_type types[JOIN_EVENTS];
        struct frame *one[2][JOIN_EVENTS]; /* by sink_kind; NULL until somebody needs it */
        struct frame *all[2];
};

/* A session somebody watches. Lives while it has subscribers. */
struct topic {
        char *session_id;
        struct list subscribers;
        struct list reads;     /* struct stored_read, under way for some of them */
        struct joined *joined; /* NULL = none */
        uint64_t known_seq;    /* newest seq heard of */
};

enum subscriber_state {
        SUBSCRIBER_LIVE,    /* position == newest known */
        SUBSCRIBER_READING, /* a read of stored events is under way, its own or shared */
        SUBSCRIBER_WAITING, /* more to read, but no room in the queue or no database */
};

/* A page of stored events being read. Those that stand at the same place share it: what many lack
 * at once (a bus message was lost) costs the database no more than what one lacks. */
struct stored_read {
        struct list link; /* topic->reads or fanout->reads */
        struct fanout *fanout;
        struct topic *topic; /* NULL: of a whole tenant */
        char tenant[65];
        uint64_t from;      /* seq or cursor after which it reads */
        unsigned asked;     /* size of the page */
        struct list riders; /* subscriber->rider: those READING by this */
};

struct subscriber {
        struct fanout *fanout;
        struct sink *sink;
        struct list link;            /* topic->subscribers or fanout->all */
        struct topic *topic;         /* NULL: /ws */
        struct map *filter;          /* /ws: sessions wanted; NULL = every one */
        enum subscriber_state state; /* set by subscriber_set_state alone */
        struct stored_read *read;    /* while READING */
        struct list rider;
        uint32_t types;    /* session streams: set of event types wanted; 0 = every one */
        uint64_t position; /* seq or cursor sent last, or passed over */
        bool deltas;
        struct updates_at {
                uint64_t usec; /* modified then, since 1970; 0 = nothing is missing */
                char id[65];
        } updates; /* /ws: newest changed session handed over, while there is no room for more */
        bool updates_full;
        char tenant[65];
};

struct fanout {
        struct gateway *gateway;
        struct bus *bus;
        struct map *topics;  /* session id -> struct topic */
        struct list all;     /* /ws subscribers */
        struct list joining; /* struct joined */
        struct list reads;   /* struct stored_read, for some of all */
        size_t n_subscribers;
        uint64_t cursor;   /* newest global id heard of */
        char epoch[64];    /* whose history it is, "" = not read yet */
        uint64_t tick_at;  /* monotonic, last tick */
        uint64_t heard_at; /* the same, or when the present subscription was made */
        bool gap;          /* an id was skipped: session streams may have missed events */
        bool doubt;        /* something of another history came since the last poll was sent */
        bool polling;
        uint64_t polled_cursor; /* cursor when the poll was sent */
        uint64_t polled_at;     /* monotonic */
        struct map *deleted;    /* session ids whose deletion was told */
        struct loop_timer timer;
};

/* One event in every shape a subscriber may want, each built at most once. */
struct rendering {
        struct span json;
        const char *type; /* of the session stream */
        uint64_t seq;
        struct frame *ws_update, *sse_update, *ws_event;
};
struct frame *rendering_update(const struct rendering *r, enum sink_kind kind); /* a new one */
struct frame *rendering_for(struct rendering *r, const struct subscriber *s);   /* borrowed */
void rendering_done(struct rendering *r);

/* fanout-join.c: events of a turn. */
void topic_join(struct fanout *f, struct topic *t, const struct bus_event *e);
/* Pushes what was joined; before anything else goes to the topic's subscribers. */
void topic_hand_out(struct topic *t);
void topic_forget_joined(struct topic *t);
void fanout_hand_out(void *fanout);

/* Newest seq or cursor that this subscriber should reach. */
uint64_t subscriber_target(const struct subscriber *s);
bool subscriber_wants(const struct subscriber *s, const char *session_id);
bool subscriber_wants_type(const struct subscriber *s, enum event_type t);
/* The only way to change a state. Whoever was READING leaves its read; the last one ends it. */
void subscriber_set_state(struct subscriber *s, enum subscriber_state to);
/* Starts or goes on reading stored events when the subscriber is behind; sets its state. */
void subscriber_catch_up(struct subscriber *s);
/* A last word, then the end of the stream. */
void subscriber_end(struct subscriber *s, const char *type, const char *json, uint16_t code,
                    const char *reason);
/* Tells everybody whom it concerns, once. */
void fanout_deleted(struct fanout *f, const char *tenant, const char *session_id);
/* What the database says: its cursor, `least` that this must be (0: anything), its epoch. When the
 * history is another one, or ends before what was shown, all readers are told `resync` and begin
 * anew: the database was restored. */
void fanout_history(struct fanout *f, uint64_t cursor, uint64_t least, const char *epoch);
void fanout_poll(struct fanout *f);
