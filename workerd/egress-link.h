/* The worker's end of the egress proxy (egress/egress.h) of its slot.
 *
 * The slot's helper makes a listening socket on 127.0.0.1:EGRESS_PORT in the slot's own network
 * namespace and hands it out: nothing of ours is in there, and nothing forwards. The proxy process
 * is started with the first client, so a slot that never asks costs nothing; it dies with the slot.
 * If it crashes, the next client starts another; one that keeps crashing, or cannot be started, is
 * given a rest, and clients are told meanwhile (503). */
#pragma once

#include <systemd/sd-event.h>

#include "egress-port.h"
#include "proto/wire.h"

/* How the proxy is run; strings are copied, NULL or "" = none. */
struct egress_config {
        sd_event *event;
        const char *program; /* path of berth-egress */
        const char *
                credentials; /* its file of credentials, or the bare name of a systemd credential */
        const char *dns, *private_ranges, *hosts, *ca_file;                 /* as its options */
        void (*on_verdict)(void *userdata, const struct egress_verdict *v); /* borrowed */
        void *userdata;
};

struct egress_link;
/* Takes the listener over, also on failure. Until a policy is set nothing is allowed. */
int egress_link_new(const struct egress_config *c, int listener, struct egress_link **ret) mustuse;
struct egress_link *egress_link_free(struct egress_link *l); /* kills the proxy */
DEFINE_CLEANUP(struct egress_link, egress_link_free)

/* What may be reached from now on; network is JSON (netpolicy.h), empty = nothing. Copied. */
void egress_link_set(struct egress_link *l, struct span network, const char *tenant,
                     const char *agent_name);
/* A client that comes another way than by the listener: a connected stream socket, taken over. */
int egress_link_client(struct egress_link *l, int fd) mustuse;
