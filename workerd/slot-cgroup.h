/* The control group of a slot: made below the worker's own where the kernel or the service manager
 * lets it. Version 2 (unit with Delegate=yes) and version 1 (a folder per controller that belongs
 * to the worker's account) are handled alike; a controller that cannot be had is simply not there.
 */
#pragma once

#include "slot.h"

enum cgroup_kind { CGROUP_MEMORY, CGROUP_PIDS, CGROUP_CPU, CGROUP_KIND_MAX };

/* Where groups of slots are made. Opened once per worker. */
struct cgroup_base {
        bool v2;
        int folders[CGROUP_KIND_MAX]; /* -1 = this controller cannot be had */
};
#define CGROUP_BASE_NONE ((struct cgroup_base){ .folders = { -1, -1, -1 } })
void cgroup_base_open(struct cgroup_base *ret);
void cgroup_base_done(struct cgroup_base *b);

struct cgroup {
        const struct cgroup_base *base;
        char name[80];
        int folders[CGROUP_KIND_MAX];
        int enter[CGROUP_KIND_MAX]; /* writing "0" moves the writer in; async-signal-safe */
};
#define CGROUP_NONE ((struct cgroup){ .folders = { -1, -1, -1 }, .enter = { -1, -1, -1 } })

/* Makes it with these limits (0 = none); one of that name that exists is emptied (all its processes
 * are killed, waited for at most a second) and taken over. Controllers that fail are left out. */
void cgroup_make(const struct cgroup_base *b, const char *name, const struct slot_limits *l,
                 struct cgroup *ret);
/* Kills what is in it. Returns the number of processes that were there. */
unsigned cgroup_kill(const struct cgroup *g);
/* Removes it; when processes are still in it, it stays for the next cgroup_make. */
void cgroup_remove(struct cgroup *g);

struct cgroup_use {
        uint64_t memory_bytes, cpu_usec;
        uint64_t memory_kills; /* processes killed for the memory limit since it was made */
        uint64_t fork_refusals;
};
/* Zero where it cannot be known. */
void cgroup_read(const struct cgroup *g, struct cgroup_use *ret);
