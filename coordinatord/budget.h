/* Limits of tenants and of their agents, per day and per month (UTC), over all their sessions.
 *
 * Rows of core.budget, kept in memory with what was used: read once, then counted along with every
 * stored usage. Workers hear of a used-up limit with each answer to an append, each heartbeat and
 * each assignment (`hold`): before the next model call the session then waits. Child sessions are
 * not begun. */
#pragma once

#include "coordinator.h"

void budgets_init(struct coordinator *c);
void budgets_done(struct coordinator *c);
void budgets_load(struct coordinator *c); /* once active */
/* A stored use by a session of this agent (may be NULL). */
void budgets_used(struct coordinator *c, const char *tenant, const char *agent,
                  const struct usage *u);
/* Why no model may be called for a session of this agent (may be NULL) now; NULL = nothing stands
 * against it. Valid until the next call. */
const char *budgets_hold(struct coordinator *c, const char *tenant, const char *agent);
/* Every second: sessions that wait for a limit that is no more used up go on. */
void budgets_tick(struct coordinator *c);
