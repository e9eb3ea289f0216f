/* Who a slot is on the host: user ids of its own, that are neither the worker's nor another slot's.
 *
 * The worker holds a user namespace that it owns and in which ids 0..count-1 are subordinate ids of
 * the host. Each sandbox runs as the next of them, so what one session leaves behind belongs to
 * nobody the next one is. Where the namespace comes from: a file at which the service manager's
 * berth-idmap has pinned one; newuidmap with the worker's ranges in /etc/subuid and /etc/subgid;
 * else there is none and slots run under the worker's own uid. */
#pragma once

#include "common/base/util.h"

enum identity_source { IDENTITY_OWN, IDENTITY_SUBORDINATE, IDENTITY_PINNED, IDENTITY_SOURCE_MAX };

struct identity {
        enum identity_source source;
        int userns;     /* -1 = none: the worker's own uid */
        uint32_t count; /* ids in the namespace */
        uint32_t last;  /* the id given out last */
        char why[160];  /* why there is none */
};
#define IDENTITY_NONE ((struct identity){ .userns = -1 })

/* `pinned`: path of a pinned namespace, NULL or "" = there is none. Never fails: without a
 * namespace the source is IDENTITY_OWN and `why` says what to do. Blocks for at most 5 s. */
void identity_open(const char *pinned, struct identity *ret);
void identity_done(struct identity *i);
const char *identity_source_name(enum identity_source s);

/* The id, inside the namespace, of the next sandbox: another at each call until all were used. */
uint32_t identity_next(struct identity *i);
