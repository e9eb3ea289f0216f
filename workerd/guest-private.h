/* What guest.c (link), guest-command.c and guest-file.c share. */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/io/daemon.h"
#include "guest.h"

#define GUEST_PIECE (64 * 1024)   /* bytes in one message */
#define GUEST_WINDOW (256 * 1024) /* output a helper may send unacknowledged, per command */
#define GUEST_QUEUE_MAX (4 * MIB) /* to the helper; beyond it actions get -EAGAIN */
#define GUEST_FRAME_MAX                                                                            \
        (5 * 1024 * 1024) /* the largest legal message from the helper (a listing) fits */

struct guest {
        struct guest_config config;
        int fd;
        sd_event_source *io;
        struct buf in, out;
        struct wire_arena *arena;
        struct list commands, calls;
        unsigned n_commands, n_calls;
        uint32_t last_proc, last_call;
        struct guest_limits limits;
        bool up;     /* greeted */
        bool volume; /* its greeting said so */
        bool ended;  /* no frame is taken or sent any more */
        bool freed;  /* memory goes at the end of the turn */
};

struct guest_command {
        struct list link;
        struct guest *guest;
        struct guest_command_config config; /* callbacks only; NULL callbacks once forgotten */
        uint32_t proc;
        size_t untaken;    /* output not yet acknowledged */
        size_t input_open; /* input not yet reported as taken */
        bool paused, input_eof, wants_room, forgotten;
};

enum call_kind { CALL_READ, CALL_FETCH, CALL_WRITE, CALL_LIST, CALL_REMOVE };
struct guest_call {
        struct list link;
        enum call_kind kind;
        uint32_t id;
        char *path;
        void *userdata;
        guest_data_fn on_data;
        guest_fd_fn on_fd;
        guest_done_fn on_done;
        guest_listing_fn on_listing;
        struct buf data;           /* read: what came so far; write: what is to go */
        int fd;                    /* fetch: memfd; write: source */
        uint64_t offset, end, max; /* next byte to ask for or send; where to stop */
        unsigned inflight;         /* questions without answer */
        bool all_sent, forgotten;
        bool volume;  /* path is beneath the folder that programs see as /data */
        bool beneath; /* path is beneath home and no link leads out */
};

/* guest.c */
int guest_fence(const struct guest *g, uint64_t epoch) mustuse;
int guest_send(struct guest *g, const struct wire_msg *type, const void *msg) mustuse;
void guest_end(struct guest *g,
               const char *why); /* after it g may be freed at the end of the turn */

/* guest-command.c: handlers return -EPROTO to end the link */
int guest_on_output(struct guest *g, const struct guest_output *m) mustuse;
int guest_on_taken(struct guest *g, const struct guest_taken *m) mustuse;
int guest_on_exit(struct guest *g, const struct guest_exit *m) mustuse;
void guest_commands_end(struct guest *g, const char *why);

/* guest-file.c */
int guest_on_data(struct guest *g, const struct guest_data *m) mustuse;
int guest_on_done(struct guest *g, const struct guest_done *m) mustuse;
int guest_on_listing(struct guest *g, const struct guest_listing *m) mustuse;
void guest_calls_end(struct guest *g, int r);
