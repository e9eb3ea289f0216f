/* Starts and ends one bubblewrap sandbox with the guest helper as its process 1. Used by slot.c
 * only. */
#pragma once

#include <sys/types.h>

#include "slot-stage.h"

enum sandbox_profile {
        SANDBOX_TOOL,    /* commands only: no new namespaces */
        SANDBOX_BROWSER, /* a desktop: browsers build their own sandbox with user namespaces */
};

/* Instead of a slot's programs, a machine in which they run: QEMU in a sandbox of its own. It sees
 * the host's /usr (the program), the image as SANDBOX_IMAGE, the helper as SANDBOX_HELPER; of the
 * descriptors it has qmp as 4, setup as 9 and ram as 10 besides the stream (3). */
struct sandbox_machine {
        char *const *argv;   /* NULL-terminated */
        const char *preload; /* a library that QEMU loads; NULL = none */
        int qmp, setup, ram; /* stay the caller's */
        bool kvm;            /* /dev/kvm is there */
};
#define SANDBOX_HELPER "/run/slot/guest"
#define SANDBOX_IMAGE "/image"
#define SANDBOX_FD_QMP 4
#define SANDBOX_FD_SETUP 9
#define SANDBOX_FD_RAM 10

struct sandbox_config {
        const char *bwrap, *image_dir, *helper;
        enum sandbox_profile profile;
        const char *display; /* DISPLAY in the slot, NULL = none */
        int stream;          /* the helper's end of the stream; stays the caller's */
        int listener;        /* listening socket for the display, -1 = none; stays the caller's */
        int gate;            /* where the helper hands over its listener for the network, -1 = none;
                                stays the caller's */
        struct slot_limits limits;   /* all set */
        struct identity *identity;   /* whose ids it runs under; NULL = the worker's own */
        const struct cgroup *cgroup; /* NULL = none */
        const struct sandbox_machine *machine; /* NULL = none */
        bool canary; /* process 1 tries the limits and tells over the stream, instead of serving */
};

struct sandbox {
        pid_t pid; /* bubblewrap itself, our child */
        int info;  /* gives the pid of process 1 of the slot; -1 once all is read */
        char info_text[512];
        int errors;   /* what bubblewrap and the helper say */
        pid_t inner;  /* process 1 as the host sees it, 0 = not known yet */
        int inner_fd; /* its pidfd */
};
#define SANDBOX_NONE ((struct sandbox){ .info = -1, .errors = -1, .inner_fd = -1 })

int sandbox_start(const struct sandbox_config *c, struct sandbox *ret) mustuse;
/* Reads `info`: 0 when inner is known, -EAGAIN when not yet, -ENODATA when it never will be. */
int sandbox_read_info(struct sandbox *b) mustuse;
/* Kills process 1, and with it all of the slot; bubblewrap itself when process 1 is not known and
 * `hard`. */
void sandbox_kill(struct sandbox *b, bool hard);
void sandbox_done(struct sandbox *b); /* closes descriptors; after the child was reaped */

/* The compiled filter as a sealed memfd. */
int sandbox_filter(enum sandbox_profile profile, int *ret_fd) mustuse;

/* Start time of a process in clock ticks since boot: with the pid it names a process for good. 0 =
 * gone. */
uint64_t process_start_time(pid_t pid);
