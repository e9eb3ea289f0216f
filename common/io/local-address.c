/* Compares an address with those of the machine's interfaces, which may change at any time. */
#include "local-address.h"

#include <ifaddrs.h>
#include <netinet/in.h>

#include "common/base/netpolicy.h"

static bool same(const struct sockaddr *a, const struct sockaddr *b)
{
        if (!b || a->sa_family != b->sa_family)
                return false;
        if (a->sa_family == AF_INET)
                return ((const struct sockaddr_in *) (const void *) a)->sin_addr.s_addr ==
                       ((const struct sockaddr_in *) (const void *) b)->sin_addr.s_addr;
        return a->sa_family == AF_INET6 &&
               memcmp(&((const struct sockaddr_in6 *) (const void *) a)->sin6_addr,
                      &((const struct sockaddr_in6 *) (const void *) b)->sin6_addr, 16) == 0;
}

bool address_is_ours(const struct sockaddr *a)
{
        struct ifaddrs *list = NULL;
        bool found = false;
        if (getifaddrs(&list) < 0)
                return true;
        for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next)
                found = same(a, i->ifa_addr);
        freeifaddrs(list);
        return found;
}

const char *address_not_public(const struct sockaddr *a)
{
        const char *what = address_special(a);
        return what ? what : address_is_ours(a) ? "this machine" : NULL;
}
