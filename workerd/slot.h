/* One slot: the isolated place in which one session acts. It is a bubblewrap sandbox with the guest
 * helper as its process 1, a fresh home, no network, and for the desktop kind an X server that is
 * seen over RFB; for the kind vm the sandbox holds a QEMU, and helper and X server run in its
 * machine.
 *
 * Life: slot_new starts it -> on_ready (guest and screen work) -> slot_reset (all killed, fresh
 * home, starts again -> on_ready) or slot_destroy (all killed, folder removed -> done). on_failed:
 * it did not come up or ended by itself; everything of it is already being killed; slot_reset or
 * slot_destroy is the next step. The slot is untrusted: whatever it does ends at most itself, by
 * on_failed.
 *
 * All that a slot writes is in file systems of its own, in memory, limited in bytes and files; they
 * are gone with its last process. STATE_DIR/ID/ holds display/ (the host-side path of the RFB
 * socket, which the slot cannot see) and processes (what slot_reconcile kills after a crash). */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/buf.h"
#include "guest.h"
#include "egress-link.h"
#include "screen.h"
#include "proto/wire.h"

/* 0 = the default in brackets. */
struct slot_limits {
        uint64_t processes;  /* processes and threads in the slot [512] */
        uint64_t open_files; /* per process [4096] */
        uint64_t file_bytes; /* size of one file [2 GiB] */
        uint64_t tmp_bytes;  /* /tmp [512 MiB]; /var/tmp, /run and /dev/shm get an eighth to a half
                                of it */
        uint64_t tmp_files;  /* files and folders in /tmp [40000]; an eighth of it in the others */
        uint64_t home_bytes; /* the home folder [2 GiB] */
        uint64_t home_files; /* files and folders in it [200000] */
        uint64_t memory_bytes; /* of all programs, and of the files above [4 GiB] */
        uint64_t cpu_percent;  /* of one processor [200] */
};

/* What a host lends to slots: ids of their own and control groups. One per worker. */
struct slot_host;
struct slot_host_config {
        const char *userns; /* where a user namespace is pinned for this worker; NULL = nowhere */
        bool cgroups;       /* use control groups where they can be had */
};
int slot_host_new(const struct slot_host_config *c, struct slot_host **ret) mustuse;
struct slot_host *slot_host_free(struct slot_host *h); /* after its slots */
DEFINE_CLEANUP(struct slot_host, slot_host_free)
struct identity *slot_host_identity(struct slot_host *h); /* borrowed */

/* What the host has for slots of the kind vm (machine.h). One per worker. */
struct machine;

struct slot_config {
        sd_event *event;
        const char *id; /* letters, digits, '-', '_': name of its folder; stable over restarts */
        enum slot_kind kind;    /* SLOT_KIND_DESKTOP, SLOT_KIND_HEADLESS or SLOT_KIND_VM, else
                                   -EOPNOTSUPP */
        const char *image_dir;  /* root of the image, read-only for the slot */
        const char *state_dir;  /* exists, 0700, the worker's own */
        const char *helper;     /* path of berth-guest */
        const char *decoder;    /* path of berth-decoder; a desktop needs it */
        const char *bwrap;      /* NULL = /usr/bin/bwrap */
        unsigned width, height; /* 0 = 1280x800; of a desktop */
        struct slot_limits limits;
        struct slot_host
                *host; /* NULL: the worker's own uid, no control groups; outlives the slot */
        struct machine *machine; /* NULL: slots of the kind vm are -EOPNOTSUPP; outlives the slot */
        struct egress_config egress; /* program, credentials, ...; no program: no network ever.
                                         Its strings outlive the slot */
        uint64_t start_usec;         /* deadline from start to ready, 0 = 20 s */
        uint64_t stop_usec;          /* deadline from kill to gone, 0 = 5 s */
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
/* What a start that takes long is doing, for people; NULL when there is nothing to say. The
 * caller's. */
char *slot_progress(const struct slot *s);
enum slot_kind slot_kind(const struct slot *s);
struct guest *slot_guest(struct slot *s);   /* NULL unless ready */
struct screen *slot_screen(struct slot *s); /* NULL unless ready and with a display */

/* A new connected stream socket to the slot's RFB server (server speaks first), close-on-exec,
 * blocking mode; the caller's. -ENOTCONN unless ready and with a display. Never blocks. */
int slot_display_connect(struct slot *s, int *ret_fd) mustuse;

/* As screen_resize. -ENOTCONN unless ready and with a display. */
int slot_resize(struct slot *s, unsigned width, unsigned height) mustuse;

/* What the slot may reach from now on through its egress proxy: the network policy of a session as
 * JSON (empty = nothing), and whose credentials may be added. Until it is set, and again after a
 * reset, nothing. */
void slot_set_network(struct slot *s, struct span network, const char *tenant,
                      const char *agent_name);
typedef void (*slot_verdict_fn)(void *userdata, const struct egress_verdict *v);
void slot_on_verdict(struct slot *s, slot_verdict_fn fn, void *userdata); /* NULL = nobody */

struct slot_load {
        uint64_t processes;     /* in the slot now */
        uint64_t memory_bytes;  /* of its group; without one: resident, shared pages in each process
                                 */
        uint64_t cpu_usec;      /* used by its living processes */
        uint64_t memory_kills;  /* programs killed because the slot had used all its memory */
        uint64_t fork_refusals; /* programs not started because there were too many */
};
/* Looks at the host's /proc; -ENOTCONN when nothing runs. */
int slot_load(const struct slot *s, struct slot_load *ret) mustuse;

/* Holds everything in the slot but its helper for a second, so that what forks or spins cannot keep
 * the helper from ending it. */
void slot_hold(struct slot *s);

/* Stops all programs in the slot but its helper (files can be had) and the display server (people
 * see what stands still), until slot_resume, a reset or the end; memory stays. Programs that the
 * helper starts meanwhile run. A machine is stopped whole: its files wait, its screen is seen.
 * -ENOTCONN unless ready. Again: nothing. */
int slot_pause(struct slot *s) mustuse;
void slot_resume(struct slot *s);

/* What limits have stopped so far: to be compared before and after a step. */
struct slot_hits {
        uint64_t memory_kills, fork_refusals;
};
void slot_hits(const struct slot *s, struct slot_hits *ret);
/* One sentence on the limits that stopped something since `before`, NULL = none did. Caller frees.
 */
char *slot_hits_text(const struct slot *s, const struct slot_hits *before);

/* Makes the process a child subreaper, kills what an earlier run of a worker left in STATE_DIR and
 * removes its folders. Call once before slot_new. Blocks for at most 5 s. *ret_killed counts
 * processes; may be NULL. */
int slot_reconcile(const char *state_dir, unsigned *ret_killed) mustuse;

enum slot_limit {
        SLOT_LIMIT_MEMORY,
        SLOT_LIMIT_CPU,
        SLOT_LIMIT_PROCESSES,
        SLOT_LIMIT_DISK,
        SLOT_LIMIT_FILES, /* how many exist */
        SLOT_LIMIT_OPEN_FILES,
        SLOT_LIMIT_NETWORK, /* no way out */
        SLOT_LIMIT_MAX
};
/* What was found out at the start of a worker by letting a small slot try it. */
struct slot_proof {
        struct {
                const char *by; /* cgroup, rlimit, watchdog, filesystem, namespace or none */
                bool proven;
        } limits[SLOT_LIMIT_MAX];
        const char *identity;   /* idmap, subuid or own uid */
        char identity_why[160]; /* "" or why it is the worker's own */
        const char *machine;    /* slots of the kind vm run by kvm, emulation or none; NULL = they
                                   are not wanted. Not filled by slot_prove. */
        char machine_why[240];  /* "" or why it is not KVM, or none */
};
/* Makes a small slot with these parts (bwrap, user namespaces, seccomp, host) that tries to exceed
 * each limit. 0, also when a limit does not hold (that is in *ret); a negative errno with *ret_why
 * (caller frees) saying what to do when a slot cannot be made at all. Blocks for at most 8 s; for
 * start-up. */
int slot_prove(const struct slot_config *c, struct slot_proof *ret, char **ret_why) mustuse;
/* As a JSON object: {"memory":{"by":"cgroup","proven":true,"max":N},...}. */
void slot_proof_json(const struct slot_proof *p, const struct slot_limits *l, struct buf *to);
void slot_limits_default(struct slot_limits *l); /* fills what is 0 */
