/* One job in the slot: files in, a command with limits, what it wrote out.
 *
 * The slot is the job's alone: the caller gives a fresh one and throws it away afterwards. Nothing
 * the command does is believed or waited for beyond its limits. */
#pragma once

#include "documents.h"
#include "slot.h"
#include "proto/messages.h"

struct job;
/* r 0: it ran, *ran says how it ended; else it did not, and why = one sentence. Once, from the
 * loop; the job is gone afterwards. Everything is borrowed. */
typedef void (*job_done_fn)(void *userdata, int r, const struct job_ran *ran, const char *why);
struct job_config {
        sd_event *event;
        struct documents *documents;
        job_done_fn done;
        void *userdata;
};
/* m is copied. */
int job_new(const struct job_config *c, const struct job_run *m, struct job **ret) mustuse;
/* The slot is there, with this epoch. */
void job_begin(struct job *j, struct slot *slot, uint64_t epoch);
bool job_begun(const struct job *j);
bool job_is(const struct job *j, const char *id);
struct job *job_free(struct job *j); /* no callback; the slot must be reset or gone next */
DEFINE_CLEANUP(struct job, job_free)
