/* What a host has for slots of the kind vm: QEMU, the image, whether KVM really works, and the
 * template: the memory of a machine that has started once, of which every slot is a copy.
 *
 * A template is TEMPLATES/KEY/ with `ram` (the machine's memory, mapped privately by each copy:
 * what they do not change they share) and `state` (its devices). The key follows from image, QEMU,
 * helper, memory, size of the screen and accelerator: another of any of them is another template.
 * Workers of a host share the folder; one makes the template while the others wait for it. */
#pragma once

#include <systemd/sd-event.h>

#include "slot-identity.h"
#include "slot.h"

#define MACHINE_KEY_MAX 96

struct machine_config {
        const char *image_dir; /* with vmlinuz, initrd and root.squashfs */
        const char *qemu;      /* the program */
        const char *preload;   /* berth-vm-ram.so */
        const char *templates; /* exists; the worker may write there */
        const char *helper;    /* berth-guest */
        uint64_t memory_bytes; /* of each machine */
        unsigned width, height;
        bool kvm;                  /* use it when it proves to work */
        struct identity *identity; /* whose ids slots have; NULL = the worker's own */
};

struct machine {
        char *image_dir, *image, *qemu, *preload, *templates;
        uint64_t memory_bytes;
        unsigned width, height;
        bool kvm;
        char kvm_why[120]; /* why it is not used, "" when it is */
        char key[MACHINE_KEY_MAX];
};

/* Looks at everything; blocks for at most 8 s, for start-up. On failure *ret_why (the caller's) is
 * a sentence that says what to do: -ENOENT something is missing, -EACCES it may not be used. */
int machine_new(const struct machine_config *c, struct machine **ret, char **ret_why) mustuse;
struct machine *machine_free(struct machine *m);
DEFINE_CLEANUP(struct machine, machine_free)

bool machine_has_template(const struct machine *m);
/* Both files of the template for reading, the caller's. -ENOENT: it is still to be made. */
int machine_open_template(const struct machine *m, int *ret_ram, int *ret_state) mustuse;

/* A template that is being made: while it is, nobody else makes the same. */
struct machine_draft {
        int lock, folder, ram, state; /* -1 = none */
};
#define MACHINE_DRAFT_NONE ((struct machine_draft){ -1, -1, -1, -1 })
/* Its files are empty, `ram` of the memory's size. -EAGAIN: another worker makes it just now. */
int machine_draft_begin(const struct machine *m, struct machine_draft *ret) mustuse;
/* What is in the files is the template from now on: read-only, seen by all workers. */
int machine_draft_finish(const struct machine *m, struct machine_draft *d) mustuse;
void machine_draft_done(struct machine_draft *d); /* gives it up when it is not finished */

/* machine-kvm.c: makes a machine of one instruction in a process of its own and runs it, for at
 * most 2 s, as a slot would. False with the reason in `why`: the device can be there and refuse, or
 * hang. */
#define MACHINE_KVM "/dev/kvm"
bool machine_probe_kvm(const char *device, struct identity *identity, char *why, size_t why_size);
