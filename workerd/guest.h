/* The worker's side of the helper in the slot (berth-guest): commands and files, by messages of
 * proto/guest.toml over one stream. Nothing blocks; everything is bounded. The other side is
 * untrusted: any bad frame, unknown process or call, or data beyond what was allowed ends the link
 * (on_end).
 *
 * Every action takes the lease epoch and fails with -ESTALE when it is not the slot's current one;
 * with -ENOTCONN before the helper's greeting and after the end; with -EAGAIN when queues are full.
 * Callbacks come from the loop, never from inside the call that started the action. Every command
 * ends by exactly one on_exit and every call by exactly one callback, also when the link ends
 * (-ECONNRESET) or is freed (-ECANCELED), except after guest_cancel / guest_command_forget. */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/util.h"
#include "proto/wire.h"

#define GUEST_CALLS_MAX 256             /* reads, writes, lists at a time */
#define GUEST_COMMANDS_MAX 64           /* running commands */
#define GUEST_INPUT_WINDOW (256 * 1024) /* bytes of input a command has not read yet */
#define GUEST_READ_MAX (64 * MIB)       /* guest_read_file into memory */

struct guest;
struct guest_command;

struct guest_config {
        sd_event *event;
        int fd; /* stream socket; taken over, also on failure */
        const uint64_t
                *epoch; /* read at each action; outlives the guest. NULL = actions need epoch 0 */
        void (*on_up)(void *userdata);                   /* greeting came; may be NULL */
        void (*on_end)(void *userdata, const char *why); /* may free the guest */
        void *userdata;
};
int guest_new(const struct guest_config *c, struct guest **ret) mustuse;
struct guest *guest_free(struct guest *g);
DEFINE_CLEANUP(struct guest, guest_free)

/* How a command ended. */
struct guest_status {
        int code;          /* exit status, -1 when there is none */
        int signal;        /* that ended it, or 0 */
        const char *error; /* why it could not start, or that the slot ended; NULL else; borrowed */
};

struct guest_command_config {
        const char *const *argv; /* NULL-terminated, 1 to 64 */
        const char *const
                *env;    /* "NAME=value", NULL-terminated, on top of the slot's own; may be NULL */
        const char *cwd; /* NULL = home */
        bool stdin_pipe; /* fed by guest_command_input; else /dev/null */
        bool quiet;      /* output to /dev/null */
        bool listener;   /* internal to the slot: stdin is the display's listening socket */
        unsigned cols, rows; /* cols > 0: on a terminal of that size in place of all of these; its
                                output is stream 1 */
        /* At most 64 KiB per call, stream 1 or 2; borrowed. The helper waits when 256 KiB are not
         * yet taken: they count as taken when this returns, or, after guest_command_pause, on
         * guest_command_resume. */
        void (*on_output)(void *userdata, int stream, const char *data, size_t n);
        void (*on_input_room)(
                void *userdata); /* after -EAGAIN of input: there is room again; may be NULL */
        void (*on_exit)(void *userdata,
                        const struct guest_status *status); /* last call; frees the command */
        void *userdata;
};
/* The command runs in a process group and session of its own. *ret is valid until on_exit. */
int guest_spawn(struct guest *g, uint64_t epoch, const struct guest_command_config *c,
                struct guest_command **ret) mustuse;
/* n is at most GUEST_INPUT_WINDOW; all or nothing: -EAGAIN when the window is full; -EPIPE after
 * eof. */
int guest_command_input(struct guest_command *p, uint64_t epoch, const void *data, size_t n,
                        bool eof) mustuse;
/* The size of the terminal that it runs on; of no effect on others. -ENOTCONN, -EAGAIN. */
int guest_command_resize(struct guest_command *p, unsigned cols, unsigned rows) mustuse;
/* To its whole process group. Kill needs no epoch: stopping is always allowed. */
int guest_command_kill(struct guest_command *p, int signal);
/* Ends everything in the slot that no running command started: what ended ones left behind. */
int guest_kill_strays(struct guest *g);
void guest_command_pause(struct guest_command *p); /* hold back acknowledgements */
void guest_command_resume(struct guest_command *p);
/* No callback of this command comes any more; it is killed and cleared away by itself. */
void guest_command_forget(struct guest_command *p);

/* Files: `path` is the slot's own, absolute or relative to home. r is 0 or the helper's negative
 * errno. */
typedef void (*guest_data_fn)(void *userdata, int r, const char *data, size_t n,
                              uint64_t file_size);
/* Bytes [offset, offset + max) in memory, max <= GUEST_READ_MAX; data is borrowed in the callback,
 * and NUL-terminated beyond n. file_size may exceed what was asked for. -EISDIR for folders. */
int guest_read_file(struct guest *g, uint64_t epoch, const char *path, uint64_t offset, size_t max,
                    guest_data_fn fn, void *userdata) mustuse;

typedef void (*guest_fd_fn)(void *userdata, int r, int fd, uint64_t size);
/* The whole file into a sealed memfd, given to the callback (its to close). -EFBIG when larger than
 * max. */
int guest_fetch_file(struct guest *g, uint64_t epoch, const char *path, uint64_t max,
                     guest_fd_fn fn, void *userdata) mustuse;

typedef void (*guest_done_fn)(void *userdata, int r);
/* Writes the whole file (parents are made; temporary name, then renamed). data is copied: at most
 * GUEST_READ_MAX, else -EFBIG. */
int guest_write_file(struct guest *g, uint64_t epoch, const char *path, const void *data, size_t n,
                     guest_done_fn fn, void *userdata) mustuse;
/* As above from a descriptor (regular file or memfd, from its offset 0 to its end); taken over,
 * also on failure. */
int guest_write_from(struct guest *g, uint64_t epoch, const char *path, int fd, guest_done_fn fn,
                     void *userdata) mustuse;

/* As above, to the path beneath /data, which programs of the slot see read-only. -EOPNOTSUPP where
 * the image has no such folder: then guest_has_volume is false. */
int guest_write_volume(struct guest *g, uint64_t epoch, const char *path, int fd, guest_done_fn fn,
                       void *userdata) mustuse;
bool guest_has_volume(const struct guest *g);

/* What the limits of a machine have stopped in it, as its helper says; all 0 in other slots and
 * before it told. */
const struct guest_limits *guest_limits(const struct guest *g);

/* l is NULL when r < 0; borrowed. depth 1 or 2. For a file: kind 1 and no entries. */
typedef void (*guest_listing_fn)(void *userdata, int r, const struct guest_listing *l);
int guest_list_dir(struct guest *g, uint64_t epoch, const char *path, unsigned depth,
                   guest_listing_fn fn, void *userdata) mustuse;

/* For people: `path` is relative to home ("." = home itself) and resolved beneath it; a link that
 * leads out is -EXDEV or -ELOOP, whatever the slot has put there. Else as their namesakes.
 * guest_write_beneath replaces a link of that name; guest_remove_beneath removes a file, a link or
 * an empty folder. */
int guest_fetch_beneath(struct guest *g, uint64_t epoch, const char *path, uint64_t max,
                        guest_fd_fn fn, void *userdata) mustuse;
int guest_write_beneath(struct guest *g, uint64_t epoch, const char *path, int fd, guest_done_fn fn,
                        void *userdata) mustuse;
int guest_list_beneath(struct guest *g, uint64_t epoch, const char *path, guest_listing_fn fn,
                       void *userdata) mustuse;
int guest_remove_beneath(struct guest *g, uint64_t epoch, const char *path, guest_done_fn fn,
                         void *userdata) mustuse;

/* Forgets every pending file call with this userdata: no callback will come. */
void guest_cancel(struct guest *g, void *userdata);
