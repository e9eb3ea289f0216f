/* The network of one session: what its policy allows, what was refused, what a person then allowed.
 *
 * A refusal becomes a `network_denied` event (the same one at most once a minute, with a count)
 * and, where a person could allow it, an approval; the session goes on meanwhile. What a person
 * allows is added to the policy at once: for the session, or for NETWORK_ONCE. */
#pragma once

#include "approval.h"
#include "egress-link.h"
#include "outbox.h"
#include "slot.h"

#define NETWORK_ONCE (5 * 60 * USEC_PER_SEC) /* how long "once" lasts: a page is many requests */
#define NETWORK_DENIALS_MAX 64               /* different ones of a session; more are only logged */

struct network_config {
        sd_event *event;
        struct approvals *approvals; /* outlives it, as does the outbox */
        struct outbox *outbox;
        const char *tenant, *agent_name; /* whose credentials may be added; may be NULL */
        struct span policy;              /* JSON of the session, empty = nothing */
};

struct network;
/* Everything is copied. -EINVAL when the policy cannot be read: then nothing is allowed. */
int network_new(const struct network_config *c, struct network **ret) mustuse;
struct network *network_free(struct network *n); /* the slot reaches nothing any more */
DEFINE_CLEANUP(struct network, network_free)
/* From now on this slot acts for the session; outlives the network or is taken away with NULL. */
void network_attach(struct network *n, struct slot *slot);
bool network_on(const struct network *n); /* something may be reached */
/* One paragraph for the system prompt; the caller frees. */
char *network_words(const struct network *n) mustuse;
