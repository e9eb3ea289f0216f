/* The workers that run jobs for documents: who is there, what each has room for. Slots (job_run)
 * and calls to models (job_model, job_embed) are counted apart. The request to the worker is the
 * lease: a worker that is lost ends its jobs with -ECONNRESET. All on the loop. */
#pragma once

#include "common/base/list.h"
#include "docserver.h"
#include "proto/messages.h"

enum runner_need { RUNNER_SLOT, RUNNER_MODEL, RUNNER_EMBED, RUNNER_NEED_MAX };

struct runners;
struct runners *runners_new(struct docserver *d) mustuse;
/* For the end of the daemon, before the link ends: all jobs end with -ECANCELED, no more are taken.
 */
void runners_end(struct runners *r);
struct runners *runners_free(struct runners *r); /* after the link */
DEFINE_CLEANUP(struct runners, runners_free)

/* rpc_config.on_peer and the handler of job_hello. */
void runners_on_peer(void *userdata, struct rpc_peer *peer, enum rpc_peer_event what);
int route_job_hello(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                    const void *msg);

/* Somebody who waits for room. go is called from the loop, once, when there is some. */
struct runner_wait {
        enum runner_need need;
        void (*go)(struct runner_wait *w);
        struct list link;
};
void runners_wait(struct runners *r, struct runner_wait *w);
void runner_wait_forget(struct runner_wait *w); /* fine when it does not wait */

/* As rpc_call, to a worker with room. -EAGAIN: all are busy; -ENODEV: there is none. */
int runners_call(struct runners *r, enum runner_need need, const struct wire_msg *type,
                 const void *msg, uint64_t timeout_usec, rpc_reply_fn fn, void *userdata) mustuse;

/* Tells the worker that nobody waits for the job any more; its call ends soon. */
void runners_cancel(struct runners *r, const void *userdata, const char *job_id);

/* What went wrong with a job, in a sentence: r and reply as a rpc_reply_fn got them. */
const char *runner_failure(int r, const void *reply);

struct runners_load {
        unsigned workers, slots, slots_busy, calls, calls_busy;
        bool embeddings;
};
void runners_load(const struct runners *r, struct runners_load *ret);
