/* How much a tenant may hold at once: live sessions and slots (core.tenant.limits), kept in memory.
 * Read when active, after each tenant_put, and every minute. Money and tokens: budget.h. */
#pragma once

#include "coordinator.h"

struct tenant_limits {
        uint64_t sessions_live, slots; /* UINT64_MAX = no limit */
};

void limits_load(struct coordinator *c);
void limits_done(struct coordinator *c);
struct tenant_limits limits_of(const struct coordinator *c, const char *tenant);
/* Its sessions that are queued or hold a slot. */
size_t limits_live(const struct coordinator *c, const char *tenant);
