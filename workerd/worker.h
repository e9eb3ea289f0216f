/* The manager of workerd: one slot, at most one session, the links to coordinator and document
 * store.
 *
 * The slot's state changes in worker_set_state alone. A session that ends, for whatever reason, is
 * freed at once (its model call and tool stop), the slot is killed and made afresh, and the
 * coordinator is told. */
#pragma once

#include "common/io/daemon.h"
#include "settings.h"

struct worker;
int worker_new(struct daemon *d, const struct worker_settings *s, struct worker **ret) mustuse;
struct worker *worker_free(struct worker *w); /* blocks until the slot is gone */
DEFINE_CLEANUP(struct worker, worker_free)
