/* New documents that come at once are stored by one transaction.
 *
 * Much of what a new row costs the database is paid once per statement or transaction: setting up
 * its rules and triggers, the quota's sum, the commit. One transaction is under way at a time, with
 * at most CREATES_MAX documents of one tenant; the next one leaves CREATES_GATHER after it ended,
 * or as soon as it is full. So a lonely document goes at once, and the busier the service is, the
 * more go together. A refusal of several (a quota, metadata that grow too large) says nothing of
 * each: then every one is stored alone, and each gets its own answer. */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/list.h"
#include "store.h"

#define CREATES_MAX STORE_CREATE_MAX
#define CREATES_GATHER (2 * USEC_PER_MSEC)
#define CREATES_WAIT (USEC_PER_SEC) /* as long as a batch waits for a connection */

struct creates;
struct create { /* the caller's, until fn was called */
        struct store_document document;
        store_json_fn fn; /* as of store_create; -ECANCELED: the daemon ends */
        void *userdata;
        struct list all; /* ours, like what follows */
        uint64_t since;
};

/* `pg` points to the daemon's pool, which becomes NULL when the daemon ends. */
int creates_new(sd_event *e, struct pg_pool *const *pg, struct creates **ret) mustuse;
/* After the pool was freed: what waits ends with -ECANCELED. */
struct creates *creates_free(struct creates *c);
/* fn is never called before this returns. */
void creates_add(struct creates *c, struct create *one);
