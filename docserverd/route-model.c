/* Hands the trial of a model to a worker that serves jobs: docserverd knows those, and no key. */
#include "docserver.h"
#include "runners.h"

#define TIME_MAX_MS 120000u
#define GRACE (2 * USEC_PER_SEC)

static void on_tested(void *userdata, int r, const void *reply)
{
        struct rpc_request *req = userdata;

        if (r < 0)
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "The model could not be tried: %s",
                                runner_failure(r, reply));
        else
                rpc_reply(req, reply);
}

int route_model_test(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg)
{
        struct docserver *d = userdata;
        const struct job_test *m = msg;

        if (m->time_ms > TIME_MAX_MS)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "the time is too long");
        int r = runners_call(d->runners, RUNNER_MODEL, &wire_job_test, m,
                             m->time_ms * USEC_PER_MSEC + GRACE, on_tested, req);
        if (r < 0)
                on_tested(req, r, NULL);
        return 0;
}
