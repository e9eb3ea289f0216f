/* Whom to believe about the address of a client: proxies named in the setting trusted_proxies.
 *
 * A proxy appends to X-Forwarded-For the address that it saw. So the list is read from its end: the
 * first address that is not a trusted proxy is the client; what stands before it anybody may have
 * written. From others the header means nothing. */
#pragma once

#include "common/base/util.h"

#define PROXIES_MAX 64u

struct proxies;
/* list: "127.0.0.1, ::1, 10.0.0.0/8, unix" (Unix sockets). -EINVAL with *ret_bad = the member that
 * is none; the caller frees it. */
int proxies_new(const char *list, struct proxies **ret, char **ret_bad) mustuse;
struct proxies *proxies_free(struct proxies *p);
/* address: as inet_ntop writes it, or "unix". */
bool proxies_trust(const struct proxies *p, const char *address);
/* One step along a header's value, from its end: *rest is what is before the member. False: *out is
 * the client (or the last one that could be read). Call with out = the peer's address. */
bool proxies_step(const struct proxies *p, struct span *rest, char out[static 64]);
