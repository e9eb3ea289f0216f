/* Trusted proxies: networks, and reading X-Forwarded-For from its end. */
#include "gatewayd/proxies.h"

#include <arpa/inet.h>

struct network {
        int family;
        unsigned bits;
        unsigned char address[16];
};

struct proxies {
        bool unix_sockets;
        size_t n;
        struct network list[PROXIES_MAX];
};

/* ::ffff:1.2.3.4 is 1.2.3.4. */
static int parse_address(const char *text, unsigned char out[static 16])
{
        static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

        if (inet_pton(AF_INET, text, out) == 1)
                return AF_INET;
        if (inet_pton(AF_INET6, text, out) != 1)
                return -EINVAL;
        if (memcmp(out, mapped, sizeof(mapped)) != 0)
                return AF_INET6;
        memmove(out, out + 12, 4);
        return AF_INET;
}

static int parse_network(char *text, struct network *ret)
{
        char *slash = strchr(text, '/');
        uint64_t bits = 0;

        if (slash)
                *slash = '\0';
        ret->family = parse_address(text, ret->address);
        if (ret->family < 0)
                return -EINVAL;
        unsigned whole = ret->family == AF_INET ? 32 : 128;
        if (slash && (parse_u64(slash + 1, &bits) < 0 || bits > whole || bits == 0))
                return -EINVAL; /* trusting everybody is trusting nobody's word */
        ret->bits = slash ? (unsigned) bits : whole;
        return 0;
}

static char *trimmed(const char *s, size_t n)
{
        while (n > 0 && (*s == ' ' || *s == '\t'))
                s++, n--;
        while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
                n--;
        return xstrndup(s, n);
}

int proxies_new(const char *list, struct proxies **ret, char **ret_bad)
{
        struct proxies *p = xnew(struct proxies);

        for (const char *s = list; s && *s;) {
                size_t n = strcspn(s, ",");
                cleanup_free char *one = trimmed(s, n);
                cleanup_free char *kept = xstrdup(one);
                s += n + (s[n] == ',');
                if (!*one)
                        continue;
                if (streq(one, "unix"))
                        p->unix_sockets = true;
                else if (p->n == PROXIES_MAX || parse_network(one, &p->list[p->n]) < 0) {
                        *ret_bad = TAKE_PTR(kept);
                        free(p);
                        return -EINVAL;
                } else
                        p->n++;
        }
        *ret = p;
        return 0;
}

struct proxies *proxies_free(struct proxies *p)
{
        free(p);
        return NULL;
}

static bool within(const struct network *net, const unsigned char *address)
{
        unsigned bytes = net->bits / 8, rest = net->bits % 8;

        if (memcmp(net->address, address, bytes) != 0)
                return false;
        return rest == 0 || (net->address[bytes] ^ address[bytes]) >> (8 - rest) == 0;
}

bool proxies_trust(const struct proxies *p, const char *address)
{
        unsigned char bytes[16];

        if (streq(address, "unix"))
                return p->unix_sockets;
        if (p->n == 0)
                return false;
        int family = parse_address(address, bytes);
        for (size_t i = 0; family >= 0 && i < p->n; i++)
                if (p->list[i].family == family && within(&p->list[i], bytes))
                        return true;
        return false;
}

bool proxies_step(const struct proxies *p, struct span *rest, char out[static 64])
{
        unsigned char bytes[16];
        size_t at = rest->len;

        if (rest->len == 0 || !proxies_trust(p, out))
                return false;
        while (at > 0 && rest->data[at - 1] != ',')
                at--;
        cleanup_free char *one = trimmed(rest->data + at, rest->len - at);
        int family = strlen(one) < 64 ? parse_address(one, bytes) : -EINVAL;
        if (family < 0)
                return false;
        (void) inet_ntop(family, bytes, out, 64);
        rest->len = at > 0 ? at - 1 : 0;
        return true;
}
