/* What the files of a slot share: its life is in slot.c, what a kind adds in slot-desktop.c,
 * slot-headless.c, slot-vm.c. */
#pragma once

#include "common/base/buf.h"
#include "common/io/daemon.h"
#include "common/io/log.h"
#include "machine.h"
#include "qmp.h"
#include "slot-sandbox.h"
#include "slot.h"

enum slot_phase {
        SLOT_PHASE_STARTING,
        SLOT_PHASE_READY,
        SLOT_PHASE_ENDING, /* killed, waiting until all is gone */
        SLOT_PHASE_DOWN,   /* nothing runs */
        SLOT_PHASE_MAX
};
enum slot_want { SLOT_WANT_NOTHING, SLOT_WANT_START, SLOT_WANT_DESTROY };

struct slot_ops {
        enum sandbox_profile profile;
        const char *display;
        /* Before the sandbox starts; may set s->listener. -EAGAIN: asked again a little later. */
        int (*prepare)(struct slot *s);
        /* Starts s->sandbox with these descriptors, which stay the caller's; NULL = the usual. */
        int (*start)(struct slot *s, int stream, int gate);
        void (*guest_up)(struct slot *s);            /* ends in slot_set_ready or slot_fail */
        int (*connect)(struct slot *s, int *ret_fd); /* to the display; NULL = there is none */
        void (*screen_ready)(void *slot);            /* of slot_open_screen: it has a picture */
        bool no_spare_keys;                          /* as in struct screen_config */
        int (*resize)(struct slot *s, unsigned width, unsigned height); /* NULL = screen_resize */
        /* slot_pause and its end; NULL: by signals to the programs */
        void (*hold)(struct slot *s, bool hold);
        void (*end)(struct slot *s); /* drops what prepare and guest_up made; the guest is gone
                                        already */
};
extern const struct slot_ops slot_desktop_ops, slot_headless_ops, slot_vm_ops;

struct slot_desktop {
        struct screen *screen;
        struct guest_command *server, *session; /* X server; window manager and panel */
        unsigned restarts;                      /* of the session */
        unsigned decoders;                      /* that were lost */
        bool session_up;
        uint64_t key_gap;      /* as in struct screen_config */
        struct buf log;        /* last words of the server */
        screen_done_fn pasted; /* a paste is on its way */
        void *pasted_userdata;
};

struct slot_vm {
        struct qmp *qmp;
        sd_event_source *setup_io;
        int setup;     /* the port berth.setup of the machine */
        int theirs[2]; /* QEMU's ends of qmp and setup until it has started */
        int ram;       /* of the template, when it is copied */
        bool drafting; /* the machine is to become a template */
        struct machine_draft draft;
        uint64_t started;
        unsigned viewers; /* connections to the display so far */
        char said[256];   /* on the port, one line */
        size_t n_said;
};
#define SLOT_VM_NONE                                                                               \
        ((struct slot_vm){                                                                         \
                .setup = -1, .theirs = { -1, -1 }, .ram = -1, .draft = MACHINE_DRAFT_NONE })

/* What a host lends (slot-host.c). */
struct slot_host {
        struct identity identity;
        struct cgroup_base cgroups;
};

struct slot_network {
        int gate; /* where the helper hands its listener over; -1 = none */
        struct egress_link *link;
        slot_verdict_fn on_verdict;
        void *userdata;
};

struct slot {
        struct slot_config config; /* strings owned */
        const struct slot_ops *ops;
        enum slot_phase phase;
        enum slot_want want;
        bool destroying, freed, paused;
        uint64_t epoch;
        int folder, lock; /* STATE_DIR/ID, its lock file */
        int listener;     /* of the display until it was handed over */
        struct sandbox sandbox;
        struct cgroup cgroup;
        struct loop_timer later;          /* the start is tried again */
        struct loop_timer thaw;           /* ends slot_hold */
        struct loop_timer watch;          /* of the memory, where no group limits it */
        uint64_t watch_kills, watch_full; /* programs killed; looks that found no room for more */
        sd_event_source *child, *info, *errors, *inner;
        struct loop_timer deadline;
        uint64_t start_usec;     /* what it is now, for the start */
        struct loop_task settle; /* leaves SLOT_PHASE_ENDING when all is gone */
        char said[1024];         /* what bubblewrap and the helper said, the end of it */
        struct guest *guest;
        struct slot_desktop desktop;
        struct slot_vm vm;
        struct slot_network network;
        void (*done)(void *userdata, int r);
        void *done_userdata;
};

void slot_set_ready(struct slot *s);
/* slot-desktop.c: the screen of a display that ops->connect leads to. One whose decoder breaks is
 * opened again, some times; then, or when the display ends, the slot fails. */
int slot_open_screen(struct slot *s) mustuse;
/* Takes the slot down and reports why; the caller must not touch what belongs to the run any more.
 */
void slot_fail(struct slot *s, const char *fmt, ...) printf_like(2, 3);

/* Takes it down and starts it again, from the outside all one start. */
void slot_restart(struct slot *s, const char *why);
/* The time that a start may take from now on, instead of the configured one. */
void slot_limit_start(struct slot *s, uint64_t usec);
/* For struct screen_config, userdata is the slot: sets the selections by a program inside. */
int slot_paste(void *userdata, const char *text, size_t n, screen_done_fn fn, void *fn_userdata);

/* Fills a path below the slot's folder that does not depend on the length of STATE_DIR. */
#define SLOT_PATH_MAX 64
void slot_inner_path(const struct slot *s, const char *name, char ret[static SLOT_PATH_MAX]);
void slot_write_processes(const struct slot *s);
/* slot-load.c: kills the largest program below process 1 when all together use more than `bytes`.
 * True when it did. Without shared pages counted twice. *ret_tasks: processes and threads there. */
bool slot_watch_memory(pid_t inner, uint64_t bytes, uint64_t *ret_tasks);
/* Sends it to all below process 1, with or without the display server; returns how many were not
 * stopped. */
unsigned slot_signal_all(pid_t inner, int signal, bool display);
int slot_folder_open(const char *state_dir, const char *id, int *ret_folder, int *ret_lock) mustuse;

/* slot-network.c. prepare gives the helper's end of the gate, the caller's, -1 when there is none.
 */
int slot_network_prepare(struct slot *s, int *ret_theirs) mustuse;
void slot_network_up(struct slot *s); /* the helper has greeted */
void slot_network_end(struct slot *s);
