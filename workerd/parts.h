/* What both kinds of workers are made of: those that serve sessions (worker.c), those that serve
 * jobs (jobworker.c). */
#pragma once

#include "common/io/httpc.h"
#include "prices.h"
#include "provider.h"
#include "settings.h"
#include "machine.h"
#include "slot.h"

/* The slot as the settings want it; kind, host and callbacks are the caller's. */
void parts_slot_config(const struct worker_settings *s, sd_event *e, struct slot_config *ret);

/* As machine_new. */
int parts_machine(const struct worker_settings *s, struct slot_host *host, struct machine **ret,
                  char **ret_why) mustuse;

/* The HTTP client, the providers of models and their prices; what was made is set also on failure.
 */
int parts_models(const struct worker_settings *s, sd_event *e, struct httpc **ret_http,
                 struct provider_set *ret_providers, struct prices **ret_prices) mustuse;
void parts_models_done(struct httpc **http, struct provider_set *providers, struct prices **prices);
