/* What models use outside of sessions: asked for before, counted after. The coordinator knows the
 * limits and keeps the sums. */
#pragma once

#include "gatewayd/http.h"

struct gateway;
struct spend;
struct spend *spend_new(struct gateway *g) mustuse; /* NULL: no timer */
struct spend *spend_free(struct spend *s);          /* after the link to the coordinator */

/* go gets the request when no limit stands against it; else it was answered: 429 with the limit,
 * 503 when the coordinator cannot be asked. */
void spend_ask(struct http_request *req, void (*go)(struct http_request *req));
/* Counts; tried again each second while the coordinator is away, up to 1000 of them. One whose
 * answer was lost is not tried again: what was used is never counted twice. */
void spend_note(struct spend *s, const char *tenant, const char *model, const struct usage *u);
