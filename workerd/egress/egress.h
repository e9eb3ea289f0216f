/* berth-egress: the only way out of a slot.
 *
 * An HTTP proxy (absolute http:// addresses, CONNECT for everything else) in a process of its own
 * that holds no more than it needs: the listening socket, which lives in the slot's network
 * namespace, and a control socket to the worker. For each request it normalises the host once,
 * asks the policy, resolves the name itself, refuses addresses that are not public, and dials the
 * very address it looked at. In mode allow a TLS client must name the host it asked for.
 *
 *   main -- proxy (listener, control, policy) -- tunnel, one per client -- resolve (c-ares)
 *                                                   \-- request, hello, common/base/netpolicy: pure
 *                                                   \-- secure: TLS to an origin, to add
 * credentials
 *
 * Credentials: for a host with an entry in the credentials file a plain http:// request is carried
 * to the origin by TLS with the header added; the slot's git and curl are pointed there by
 * configuration. A CONNECT tunnel is end to end: nothing can be added to it. */
#pragma once

#include <openssl/ssl.h>

#include "common/base/list.h"
#include "common/io/log.h"
#include "proto/wire.h"
#include "request.h"
#include "resolve.h"

#define TUNNELS_MAX 128           /* at once; more get 503 */
#define TUNNEL_BUFFER (64 * 1024) /* bytes waiting in one direction */
#define HEAD_TIMEOUT (30 * USEC_PER_SEC)
#define DIAL_TIMEOUT (10 * USEC_PER_SEC) /* resolving and connecting, each address */
#define LINGER_TIMEOUT (2 * USEC_PER_SEC)
#define ADDRESSES_TRIED_MAX 4
#define RANGES_MAX 16
#define HOSTS_MAX 64
#define CREDENTIALS_MAX 200
#define CREDENTIALS_FILE_MAX (1024 * 1024)

/* Who may use it: tenant and agent NULL = all. It is added to requests whose path begins with one
 * of `paths` (none = all). */
struct credential {
        char *host, *tenant, *agent;
        char *name, *value; /* of the header */
        uint16_t port;      /* of the origin's TLS, 443 unless the entry says otherwise */
        char **paths;
        size_t n_paths;
};

struct static_host {
        char *name;
        struct address address; /* port 0 */
};

struct proxy_config {
        int listener, control;      /* taken over; listener may be -1 */
        const char *credentials;    /* path, NULL = none */
        const char *dns;            /* servers for the resolver, NULL = the system's */
        const char *private_ranges; /* "10.1.0.0/16,...": special addresses that may be reached */
        const char *hosts;          /* "name=address,...": before DNS */
        const char *ca_file;        /* PEM, besides the system's authorities; NULL = none */
        uint64_t idle_usec;         /* a tunnel without a byte for so long ends */
};

struct proxy {
        sd_event *event;
        int listener, control;
        sd_event_source *listening, *controlling;
        struct network_policy policy;
        char *tenant, *agent;
        struct address_range ranges[RANGES_MAX];
        size_t n_ranges;
        struct static_host hosts[HOSTS_MAX];
        size_t n_hosts;
        struct credential credentials[CREDENTIALS_MAX];
        size_t n_credentials;
        struct resolver *resolver;
        SSL_CTX *tls; /* made when the first credential is read */
        struct list tunnels;
        size_t n_tunnels;
        uint64_t idle_usec;
        uint64_t lost_verdicts;
        struct wire_arena *arena;
};

/* *ret_error is a sentence (caller frees). */
int proxy_new(sd_event *e, const struct proxy_config *c, struct proxy **ret,
              char **ret_error) mustuse;
struct proxy *proxy_free(struct proxy *p);
DEFINE_CLEANUP(struct proxy, proxy_free)
void proxy_tell(struct proxy *p, const struct egress_verdict *v);
/* NULL when nothing is to be added to this request. */
const struct credential *proxy_credential(const struct proxy *p, const struct request *r);
bool proxy_address_allowed(const struct proxy *p, const struct sockaddr *a, const char **ret_what);

/* credentials.c: [{"host","header","value","tenant"?,"agent"?,"paths"?}, ...]; *ret_error as above.
 */
int credentials_read(struct proxy *p, const char *path, char **ret_error) mustuse;
void credentials_done(struct proxy *p);

struct tunnel;
/* Takes the client's socket over, also on failure. */
void tunnel_new(struct proxy *p, int client);
struct tunnel *tunnel_free(struct tunnel *t);
struct tunnel *tunnel_of(struct list *link);
