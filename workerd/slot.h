/* One slot: the isolated place in which one session acts. It is a bubblewrap sandbox with the guest
 * helper as its process 1, a fresh home, no network, and for the desktop kind an X server that is
 * seen over RFB.
 *
 * Life: slot_new starts it -> on_ready (guest and screen work) -> slot_reset (all killed, fresh
 * home, starts again -> on_ready) or slot_destroy (all killed, folder removed -> done). on_failed:
 * it did not come up or ended by itself; everything of it is already being killed; slot_reset or
 * slot_destroy is the next step. The slot is untrusted: whatever it does ends at most itself, by
 * on_failed.
 *
 * Everything is kept in STATE_DIR/ID/: home/ (bound into the slot), display/ (the host-side path of
 * the RFB socket, which the slot cannot see), trash/ (old homes on their way out), processes (what
 * slot_reconcile kills after a crash). */
#pragma once

#include <systemd/sd-event.h>

#include "guest.h"
#include "screen.h"
#include "proto/wire.h"

/* 0 = the default in brackets. */
struct slot_limits {
        uint64_t processes;  /* processes and threads in the slot [512] */
        uint64_t open_files; /* per process [4096] */
        uint64_t file_bytes; /* size of one file [2 GiB] */
        uint64_t tmp_bytes;  /* /tmp [512 MiB]; /var/tmp, /run and /dev/shm get an eighth to a half
                                of it */
};

struct slot_config {
        sd_event *event;
        const char *id; /* letters, digits, '-', '_': name of its folder; stable over restarts */
        enum slot_kind kind;    /* SLOT_KIND_DESKTOP or SLOT_KIND_HEADLESS, else -EOPNOTSUPP */
        const char *image_dir;  /* root of the image, read-only for the slot */
        const char *state_dir;  /* exists, 0700, the worker's own */
        const char *helper;     /* path of berth-guest */
        const char *bwrap;      /* NULL = /usr/bin/bwrap */
        unsigned width, height; /* 0 = 1280x800; of a desktop */
        struct slot_limits limits;
        uint64_t start_usec; /* deadline from start to ready, 0 = 20 s */
        uint64_t stop_usec;  /* deadline from kill to gone, 0 = 5 s */
        void (*on_ready)(void *userdata);
        void (*on_failed)(void *userdata, const char *why); /* `why` is one sentence, borrowed */
        void *userdata;
};

struct slot;

/* Starts it; all strings are copied. -EPERM when run as root (the worker never is), -ENOENT when
 * image, helper or bwrap are missing, -EBUSY when the folder belongs to a living worker. */
int slot_new(const struct slot_config *c, struct slot **ret) mustuse;
/* Kills all, drops guest and screen (their pending callbacks end with -ECANCELED before this
 * returns), starts afresh. The epoch becomes 0. Allowed at any time but while being destroyed
 * (-EBUSY). */
int slot_reset(struct slot *s) mustuse;
/* As slot_reset, but of another kind and size; 0 = as it was. */
int slot_reset_as(struct slot *s, enum slot_kind kind, unsigned width, unsigned height) mustuse;
/* Kills all, removes the folder, frees the slot, then calls done (may be NULL): r is 0, or -ETIME
 * when processes outlived the deadline (then the folder stays for slot_reconcile). No callback of
 * the slot comes after this call. */
void slot_destroy(struct slot *s, void (*done)(void *userdata, int r), void *userdata);
/* For the end of the worker: as slot_destroy, but blocks until all is gone or stop_usec has passed.
 */
struct slot *slot_free(struct slot *s);
DEFINE_CLEANUP(struct slot, slot_free)

/* The lease. Actions of guest and screen carry an epoch and are refused with -ESTALE unless it is
 * this one. */
void slot_set_epoch(struct slot *s, uint64_t epoch);
uint64_t slot_epoch(const struct slot *s);

bool slot_ready(const struct slot *s);
enum slot_kind slot_kind(const struct slot *s);
struct guest *slot_guest(struct slot *s);   /* NULL unless ready */
struct screen *slot_screen(struct slot *s); /* NULL unless ready and a desktop */

/* A new connected stream socket to the slot's RFB server (server speaks first), close-on-exec,
 * blocking mode; the caller's. -ENOTCONN unless ready and a desktop. Never blocks. */
int slot_display_connect(struct slot *s, int *ret_fd) mustuse;

struct slot_load {
        uint64_t processes;    /* in the slot now */
        uint64_t memory_bytes; /* resident, shared pages counted in each process */
        uint64_t cpu_usec;     /* used by its living processes */
};
/* Looks at the host's /proc; -ENOTCONN when nothing runs. */
int slot_load(const struct slot *s, struct slot_load *ret) mustuse;

/* Makes the process a child subreaper, kills what an earlier run of a worker left in STATE_DIR and
 * removes its folders. Call once before slot_new. Blocks for at most 5 s. *ret_killed counts
 * processes; may be NULL. */
int slot_reconcile(const char *state_dir, unsigned *ret_killed) mustuse;

/* Proves on this host that a slot can be made with these parts (bwrap, user namespaces, seccomp): 0
 * or a negative errno with *ret_why (caller frees) saying what to do. Blocks for at most 5 s; for
 * start-up. */
int slot_probe(const struct slot_config *c, char **ret_why) mustuse;
