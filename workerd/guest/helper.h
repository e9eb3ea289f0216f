/* The helper inside a slot: process 1 of its namespace, one thread, one poll loop, one stream to
 * the worker.
 *
 * It starts commands, passes their input and output with flow control, reads, writes and lists
 * files, and reaps what is orphaned. It trusts the worker (a frame that breaks the schema is our
 * own mistake: exit) and nothing inside the slot. It is linked statically, so that it runs in any
 * image. */
#pragma once

#include <poll.h>
#include <sys/types.h>

#include "common/base/buf.h"
#include "proto/wire.h"
#include "workerd/egress-port.h"

#define HELPER_VERSION 1
#define HOME "/home/agent"
#define VOLUME "/data"
#define RESULTS "/results"
#define COMMANDS_MAX 64
#define UPLOADS_MAX 16
#define CHUNK (64 * 1024)              /* bytes of one output, input or file message */
#define OUTPUT_WINDOW (256 * 1024)     /* unacknowledged output per command */
#define INPUT_WINDOW (256 * 1024)      /* input a command has not read */
#define STREAM_QUEUE (4 * 1024 * 1024) /* above it no more work is taken in */
#define FRAME_MAX (16 * 1024 * 1024)   /* any message of the schema fits */
#define EXIT_GRACE_MS 100              /* for output of children that outlive a command */
#define POLLS_MAX (4 + 3 * COMMANDS_MAX)

struct command {
        bool used;
        uint32_t proc; /* chosen by the worker */
        pid_t pid;
        bool reaped;
        int wait_status;
        uint64_t reaped_at; /* monotonic microseconds */
        int in, out, err;   /* -1 = closed */
        struct buf input;
        bool input_eof;
        size_t unacked;
};

struct upload {
        bool used;
        uint32_t call;
        int fd;
        uint64_t size;
        char *path, *temporary;
        int folder; /* the two are relative to; AT_FDCWD */
};

struct helper {
        int stream, signals, listener;
        int volume;    /* the folder that programs see read-only as VOLUME; -1 = there is none */
        int events[2]; /* memory.events and pids.events of a machine's steps; -1 = no machine */
        struct guest_limits told;
        struct buf in, out;
        struct wire_arena *arena;
        struct command commands[COMMANDS_MAX];
        struct upload uploads[UPLOADS_MAX];
};

/* main.c: our own score, which children inherit. */
void helper_oom_score(const char *score);

/* canary.c: tries the limits, tells over the stream what held, ends the process. */
__attribute__((noreturn)) void canary(int stream);

/* link.c: the stream. Each ends the process when the stream is gone. */
void helper_send(struct helper *h, const struct wire_msg *type, const void *msg);
void helper_flush(struct helper *h);
void helper_receive(struct helper *h);
__attribute__((noreturn)) void helper_die(const char *why);

/* commands.c */
void command_spawn(struct helper *h, const struct guest_spawn *m);
void command_input(struct helper *h, const struct guest_input *m);
void command_ack(struct helper *h, const struct guest_ack *m);
void command_resize(struct helper *h, const struct guest_resize *m);
struct command *command_find(struct helper *h, uint32_t proc);
void commands_reap(struct helper *h);
size_t commands_poll(struct helper *h, struct pollfd *fds, size_t n);
void commands_serve(struct helper *h, const struct pollfd *fds, size_t n);
int commands_timeout(const struct helper *h); /* milliseconds for poll, -1 = none */

/* group.c: `folder` is the control group that a machine's steps are in; taken over, -1 = none.
 * Tells the worker what its limits have stopped, when that is more than was told. */
void group_open(struct helper *h, int folder);
void group_tell(struct helper *h);

/* kill.c */
void command_kill(struct helper *h, const struct guest_kill *m);

/* start.c: the child side. Returns the pid or a negative errno; fds[3] are its standard
 * descriptors. */
pid_t command_start(const struct guest_spawn *m, const int fds[static 3], const char **ret_step);

/* files.c */
void file_read(struct helper *h, const struct guest_read *m);
void file_write(struct helper *h, const struct guest_write *m);
void file_remove(struct helper *h, const struct guest_remove *m);
int file_open(const char *path, bool beneath, int flags); /* a descriptor or a negative errno */
/* listing.c */
void file_list(struct helper *h, const struct guest_list *m);
