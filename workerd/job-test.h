/* Tries a model that a person wants to connect, with the URL and key they give: one short answer is
 * asked for, in the way sessions ask. The key lives as long as the trial and is never logged. */
#pragma once

#include <systemd/sd-event.h>

#include "common/io/rpc.h"
#include "proto/messages.h"
#include "settings.h"

struct job_tests;
struct job_tests *job_tests_new(sd_event *e,
                                const struct worker_settings *s) mustuse; /* borrowed */
struct job_tests *job_tests_free(struct job_tests *t); /* before the link: what runs is refused */
DEFINE_CLEANUP(struct job_tests, job_tests_free)

/* Replies exactly once: job_tested, whatever came of it, or an error when nothing could be tried.
 * Only public addresses are connected to, those in egress_private, and the URL that the worker's
 * own settings name. At most 8 at once. */
void job_tests_begin(struct job_tests *t, struct rpc_request *req, const struct job_test *m);
