/* What happens between fork and bubblewrap: into the slot's control group, to the slot's own user
 * id, and the file systems that the slot may write to, each of a limited size and number of files.
 */
#pragma once

#include "slot-cgroup.h"
#include "slot-identity.h"

enum stage_part {
        STAGE_HOME,
        STAGE_TMP,
        STAGE_VAR_TMP,
        STAGE_RUN,
        STAGE_SHM,
        STAGE_DATA,    /* what was uploaded: programs see it read-only */
        STAGE_RESULTS, /* what is kept of a run */
        STAGE_PART_MAX
};

struct stage {
        const char *root; /* a folder of the host that is covered for the slot's eyes only */
        char paths[STAGE_PART_MAX][32], options[STAGE_PART_MAX][128], top[96];
        int userns;  /* -1 = one of our own with a single id */
        uint32_t id; /* user and group in the namespace */
        char uid_map[40], gid_map[40];
        int enter[CGROUP_KIND_MAX];
};

/* Plans it before the fork; `host` may be NULL. -ENOENT when no folder of the host can be covered:
 * `used` are paths that must stay visible, NULL-terminated. */
int stage_plan(struct identity *identity, const struct cgroup *cgroup, const struct slot_limits *l,
               const char *const *used, struct stage *ret) mustuse;
/* The process takes an id of the user namespace it is in and gives up all groups; only
 * async-signal-safe calls. -1 with errno. */
int stage_become(uint32_t id) mustuse;
/* In the child; only async-signal-safe calls. NULL, or the step that failed (errno says why). */
const char *stage_enter(const struct stage *s) mustuse;
