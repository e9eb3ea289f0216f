/* What a slot may reach: names, addresses and rules, judged without any I/O.
 *
 * A name is normalised once; what is not letters, digits and hyphens in labels of at most 63, or a
 * canonical address literal, is refused. An address is public or it is not: the special-purpose
 * registries of IANA (RFC 6890 and its updates) say which are not. */
#pragma once

#include <sys/socket.h>

#include <jansson.h>

#include "util.h"

#define HOST_NAME_MAX_LEN 253 /* RFC 1035 2.3.4, without the final dot */
#define HOST_TEXT_MAX (HOST_NAME_MAX_LEN + 1)
#define NETWORK_RULES_MAX 200
#define NETWORK_RULE_MAX (HOST_NAME_MAX_LEN + 10)

enum host_kind { HOST_NAME, HOST_IPV4, HOST_IPV6 };

/* Lower case, no final dot; IPv6 literals come in brackets (as in a URL) or bare and leave bare.
 * -EINVAL: not a host. Numbers in other than canonical form (octal, hex, one number) are refused,
 * because resolvers read them as addresses. */
int host_normalise(struct span text, char ret[static HOST_TEXT_MAX],
                   enum host_kind *ret_kind) mustuse;
/* Splits "host", "host:port", "[v6]:port"; *ret_port is 0 when there is none. -EINVAL. */
int host_split(struct span text, struct span *ret_host, uint16_t *ret_port) mustuse;

/* NULL when the address is public, else a word for what it is: "private", "loopback", "link-local",
 * "multicast", "reserved". IPv6 addresses that carry an IPv4 one are judged by that one. */
const char *address_special(const struct sockaddr *a);

/* A range of addresses, "10.1.0.0/16" or "fd00::/8"; a bare address is a range of one. */
struct address_range {
        int family;
        uint8_t bytes[16];
        unsigned bits;
};
int address_range_parse(const char *text, struct address_range *ret) mustuse; /* -EINVAL */
bool address_in_range(const struct sockaddr *a, const struct address_range *r);

enum network_mode { NETWORK_NONE, NETWORK_ALLOW, NETWORK_OPEN, NETWORK_MODE_MAX };

struct network_rule {
        char *host;    /* normalised; of "*.example.com" the part behind the star's dot */
        bool below;    /* "*.": names below it, not itself */
        uint16_t port; /* 0 = the web's own, 80 and 443 */
};

struct network_policy {
        enum network_mode mode;
        struct network_rule *allow, *deny;
        size_t n_allow, n_deny;
};

/* Reads {"mode":"none|allow|open","allow":[rules],"deny":[rules]}; a missing mode is "allow" when
 * there is an allow list, else "none"; NULL is none. -EINVAL with *ret_error, a sentence that names
 * the member (caller frees). */
int network_policy_parse(const json_t *object, struct network_policy *ret,
                         char **ret_error) mustuse;
void network_policy_done(struct network_policy *p);

enum network_verdict {
        NETWORK_ALLOWED,
        NETWORK_OFF,        /* the mode is none */
        NETWORK_NOT_LISTED, /* no rule names the host */
        NETWORK_DENIED,     /* a rule of `deny` names it */
        NETWORK_PORT,       /* the host is allowed, this port is not */
        NETWORK_VERDICT_MAX
};
/* host is normalised. In mode open all hosts are allowed at ports 80 and 443, others by rule. */
enum network_verdict network_judge(const struct network_policy *p, const char *host, uint16_t port);
