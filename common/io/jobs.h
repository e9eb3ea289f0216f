/* Slow file work off the loop: one thread, one bounded queue, an eventfd for the way back.
 *
 * A job that has more to do returns 1 from run and goes to the end of the queue: long jobs are
 * written in slices, so that short ones pass them. run is called on the thread and may touch only
 * what belongs to its job; done is called once, on the loop. */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/list.h"
#include "common/base/util.h"

struct jobs;
struct job {
        int (*run)(struct job *j); /* thread: 1 = again, 0 or negative errno = done */
        void (*done)(struct job *j,
                     int r); /* loop: r from run, or -ECANCELED; may free or submit j */
        struct list link;    /* the rest belongs to jobs.c */
        int result;
};

int jobs_new(sd_event *e, size_t max, struct jobs **ret) mustuse;
/* Waits for the slice that is running; then every job that is left ends with -ECANCELED. */
struct jobs *jobs_free(struct jobs *q);
DEFINE_CLEANUP(struct jobs, jobs_free)
/* Takes a filled-in job until done is called. -EAGAIN: `max` jobs are there already, done is not
 * called. */
int jobs_submit(struct jobs *q, struct job *j) mustuse;
size_t jobs_count(const struct jobs *q); /* submitted and not done */
