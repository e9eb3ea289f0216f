/* Names to addresses without blocking (c-ares): /etc/hosts, then the servers of resolv.conf. */
#pragma once

#include <sys/socket.h>

#include "common/io/daemon.h"

#define ADDRESSES_MAX 16

struct address {
        struct sockaddr_storage storage;
        socklen_t len;
};

struct resolver;
/* servers: "ip[:port],..." in place of the system's, NULL = the system's. */
int resolver_new(sd_event *e, const char *servers, struct resolver **ret) mustuse;
struct resolver *resolver_free(struct resolver *r);
DEFINE_CLEANUP(struct resolver, resolver_free)

/* fn is called once, later, unless cancelled; r is -ENOENT when the name has no address, -EIO when
 * no server answers. The addresses are borrowed, in the order to try them (RFC 6724). */
struct lookup;
typedef void (*resolved_fn)(void *userdata, int r, const struct address *addresses, size_t n);
int resolver_lookup(struct resolver *r, const char *host, uint16_t port, resolved_fn fn,
                    void *userdata, struct lookup **ret) mustuse;
/* NULL is fine; after fn was called the lookup is gone by itself. */
struct lookup *lookup_cancel(struct lookup *l);
