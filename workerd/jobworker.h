/* The manager of a workerd that serves jobs instead of sessions (setting serves = jobs).
 *
 * It greets docserverd, takes one job_run at a time into its slot, and any number of calls to
 * models up to job_calls. Every job gets a fresh slot: what a hostile document did to one is gone
 * before the next comes. The coordinator does not know of it. */
#pragma once

#include "common/io/daemon.h"
#include "settings.h"

struct jobworker;
int jobworker_new(struct daemon *d, const struct worker_settings *s,
                  struct jobworker **ret) mustuse;
struct jobworker *jobworker_free(struct jobworker *w); /* blocks until the slot is gone */
DEFINE_CLEANUP(struct jobworker, jobworker_free)
