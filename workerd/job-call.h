/* Calls of jobs to the outside world: an answer of a model, vectors of texts. The keys stay here.
 * Each ends by exactly one reply to its request. */
#pragma once

#include "common/io/httpc.h"
#include "common/io/rpc.h"
#include "prices.h"
#include "provider.h"
#include "settings.h"

struct job_calls;
struct job_calls_config {
        sd_event *event;
        struct httpc *http;
        const struct provider_set *providers;
        const struct prices *prices; /* may be NULL */
        const struct worker_settings *settings;
};
int job_calls_new(const struct job_calls_config *c, struct job_calls **ret) mustuse;
struct job_calls *
job_calls_free(struct job_calls *c); /* before the link: cancels, replies nothing */
DEFINE_CLEANUP(struct job_calls, job_calls_free)

void job_calls_model(struct job_calls *c, struct rpc_request *req, const struct job_model *m);
void job_calls_embed(struct job_calls *c, struct rpc_request *req, const struct job_embed *m);
void job_calls_cancel(struct job_calls *c, const char *job_id);
