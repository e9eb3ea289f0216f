/* Inside of sinks: for frame.c, sink.c, ws.c and sse.c. */
#pragma once

#include <systemd/sd-event.h>

#include "common/io/daemon.h"
#include "gatewayd/sink.h"

struct auth_grant;

enum { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

struct frame {
        unsigned refs;
        unsigned events; /* how many it counts in the bound of a queue: more than one when joined */
        bool live;
        size_t len;
        char data[];
};

/* The head of a finished frame of that many bytes; gives its length. */
size_t frame_ws_head(uint8_t opcode, size_t len, uint8_t head[static 10]);
struct frame *frame_ws(uint8_t opcode, const struct span *parts, size_t n, bool live);
struct frame *frame_ws_close(uint16_t code, const char *reason);
struct frame *frame_raw(const void *data, size_t n);

enum sink_state {
        SINK_OPEN,
        SINK_CLOSING,    /* the last frames are queued; nothing more is taken */
        SINK_CLOSED_OUT, /* all sent; waits for the client to close, a little */
        SINK_DEAD,
};

/* What ws.c and sse.c do differently. */
struct sink_class {
        enum sink_kind kind;
        void (*input)(struct sink *s, const char *data, size_t n);   /* bytes from the client */
        struct frame *(*closing)(uint16_t code, const char *reason); /* the last frame, or NULL */
        struct frame *(*heartbeat)(struct sink *s);                  /* new reference, or NULL */
        uint64_t (*heartbeat_usec)(const struct sink *s);
        bool mute_is_dead; /* a client that never answers is ended */
        bool eof_is_dead;
        void (*destroy)(struct sink *s); /* frees the object that holds the sink */
};

struct sink {
        const struct sink_class *class;
        const struct sink_ops *ops;
        void *userdata;
        struct sink_set *set;
        enum sink_state state;
        int fd;
        sd_event_source *io;
        uint32_t events;
        bool over_half, paused;
        void *slot;               /* http_slot_release */
        struct auth_grant *grant; /* of the token that opened it; NULL = none is needed */
        struct frame **ring;      /* NULL while nothing is queued */
        uint32_t ring_size, first, count;
        uint32_t held;   /* events in those frames: what the bound counts */
        size_t offset;   /* bytes of the first frame already sent */
        size_t bytes;    /* not sent yet */
        size_t oversize; /* of them, those of a first frame that alone is beyond the bound */
        uint64_t heard_us, beat_us, deadline_us; /* monotonic; deadline 0 = none */
        struct list all;   /* in order of beat_us: set->open[kind]; closing ones: set->closing */
        struct list dirty; /* has something to write at the end of this turn */
        struct list doomed;
};

struct sink_set {
        struct gateway *gateway;
        struct list open[2], closing, dirty, doomed;
        size_t n[2];
        struct loop_task flush, reap;
        void (*before_flush)(void *userdata); /* whoever joins frames hands them out now */
        void *before_userdata;
        bool joining;           /* it runs: what it pushes is written in this very flush */
        struct loop_timer rest; /* armed: the last flush took long, the next one waits as long */
        struct loop_timer tick;
        uint64_t recheck_us; /* when the tokens are asked about again */
};

int sink_set_new(struct gateway *g, struct sink_set **ret) mustuse;
void sink_set_close_all(struct sink_set *set, uint16_t code, const char *reason);
bool sink_set_empty(const struct sink_set *set);
struct sink_set *sink_set_free(struct sink_set *set); /* ends all; gone() is called for each */

/* fd, slot and grant are taken in every case; on failure the caller frees its object. */
int sink_init(struct sink *s, struct sink_set *set, const struct sink_class *class, int fd,
              void *slot, struct auth_grant *grant, const struct sink_ops *ops,
              void *userdata) mustuse;
/* Past the bound and the state checks: control frames. Takes the reference. */
void sink_push_control(struct sink *s, struct frame *f);
/* Closes after what is queued, with a last frame of the caller's (reference taken, may be NULL). */
void sink_close_with(struct sink *s, struct frame *last);
void sink_peer_closed(struct sink *s); /* the client has said goodbye: end once all is sent */
void sink_end(struct sink *s);         /* at once */
