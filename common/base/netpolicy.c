/* Judges host names, addresses and the rules of a network policy. */
#include "netpolicy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

/* --- names ------------------------------------------------------------------------------------ */

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool is_label_char(char c)
{
        return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-';
}

/* Resolvers read a name whose last label begins with a digit and has only digits, or 0x and hex
 * digits, as an address (WHATWG URL, "ends in a number"). */
static bool ends_in_number(const char *name)
{
        const char *last = strrchr(name, '.');
        last = last ? last + 1 : name;
        if (last[0] == '0' && last[1] == 'x')
                return last[2 + strspn(last + 2, "0123456789abcdef")] == '\0';
        return last[strspn(last, "0123456789")] == '\0';
}

static int check_labels(const char *name)
{
        size_t label = 0;
        for (const char *p = name;; p++) {
                if (*p && *p != '.') {
                        if (!is_label_char(*p) || ++label > 63)
                                return -EINVAL;
                        continue;
                }
                if (label == 0 || p[-1] == '-' || *(p - label) == '-')
                        return -EINVAL;
                if (!*p)
                        return 0;
                label = 0;
        }
}

static int normalise_ipv6(struct span text, char ret[static HOST_TEXT_MAX])
{
        char bare[INET6_ADDRSTRLEN];
        struct in6_addr a;
        if (text.len >= 2 && text.data[0] == '[' && text.data[text.len - 1] == ']')
                text = (struct span){ text.data + 1, text.len - 2 };
        if (text.len == 0 || text.len >= sizeof(bare) || memchr(text.data, '\0', text.len))
                return -EINVAL;
        memcpy(bare, text.data, text.len);
        bare[text.len] = '\0';
        if (inet_pton(AF_INET6, bare, &a) != 1 || !inet_ntop(AF_INET6, &a, ret, HOST_TEXT_MAX))
                return -EINVAL;
        return 0;
}

int host_normalise(struct span text, char ret[static HOST_TEXT_MAX], enum host_kind *ret_kind)
{
        char name[HOST_TEXT_MAX];
        struct in_addr v4;
        if (text.len > 0 && (text.data[0] == '[' || memchr(text.data, ':', text.len))) {
                int r = normalise_ipv6(text, ret);
                if (r == 0)
                        *ret_kind = HOST_IPV6;
                return r;
        }
        if (text.len > 1 && text.data[text.len - 1] == '.')
                text.len--;
        if (text.len == 0 || text.len > HOST_NAME_MAX_LEN)
                return -EINVAL;
        for (size_t i = 0; i < text.len; i++) {
                char c = text.data[i];
                name[i] = (char) (c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
        }
        name[text.len] = '\0';
        if (strlen(name) != text.len || check_labels(name) < 0)
                return -EINVAL;
        bool number = ends_in_number(name);
        /* inet_pton takes only four decimal numbers without leading zeros. */
        if (number && inet_pton(AF_INET, name, &v4) != 1)
                return -EINVAL;
        *ret_kind = number ? HOST_IPV4 : HOST_NAME;
        memcpy(ret, name, text.len + 1);
        return 0;
}

static int read_port(struct span text, uint16_t *ret)
{
        unsigned port = 0;
        if (text.len == 0 || text.len > 5)
                return -EINVAL;
        for (size_t i = 0; i < text.len; i++) {
                if (!is_digit(text.data[i]))
                        return -EINVAL;
                port = port * 10 + (unsigned) (text.data[i] - '0');
        }
        if (port == 0 || port > UINT16_MAX)
                return -EINVAL;
        *ret = (uint16_t) port;
        return 0;
}

int host_split(struct span text, struct span *ret_host, uint16_t *ret_port)
{
        struct span host = text, port = { NULL, 0 };
        if (text.len == 0)
                return -EINVAL;
        const char *end = text.data + text.len, *colon;
        if (text.data[0] == '[') {
                const char *close = memchr(text.data, ']', text.len);
                if (!close)
                        return -EINVAL;
                host.len = (size_t) (close + 1 - text.data);
                colon = close + 1;
                if (colon < end && *colon != ':')
                        return -EINVAL;
        } else {
                colon = memchr(text.data, ':', text.len);
                if (colon)
                        host.len = (size_t) (colon - text.data);
        }
        if (colon && colon < end)
                port = (struct span){ colon + 1, (size_t) (end - colon - 1) };
        uint16_t number = 0;
        if (host.len == 0 || (port.data && read_port(port, &number) < 0))
                return -EINVAL;
        *ret_host = host;
        *ret_port = number;
        return 0;
}

/* --- addresses -------------------------------------------------------------------------------- */

struct special {
        uint8_t bytes[16];
        uint8_t bits;
        const char *what;
};

/* https://www.iana.org/assignments/iana-ipv4-special-registry, and 224/4 */
static const struct special special4[] = {
        { { 0 }, 8, "reserved" },
        { { 10 }, 8, "private" },
        { { 100, 64 }, 10, "private" },
        { { 127 }, 8, "loopback" },
        { { 169, 254 }, 16, "link-local" },
        { { 172, 16 }, 12, "private" },
        { { 192, 0, 0 }, 24, "reserved" },
        { { 192, 0, 2 }, 24, "reserved" },
        { { 192, 88, 99 }, 24, "reserved" },
        { { 192, 168 }, 16, "private" },
        { { 198, 18 }, 15, "reserved" },
        { { 198, 51, 100 }, 24, "reserved" },
        { { 203, 0, 113 }, 24, "reserved" },
        { { 224 }, 4, "multicast" },
        { { 240 }, 4, "reserved" },
};

/* https://www.iana.org/assignments/iana-ipv6-special-registry; what is outside 2000::/3 is looked
 * at first. */
static const struct special special6[] = {
        { { 0x20, 0x01, 0x00 }, 23, "reserved" },
        { { 0x20, 0x01, 0x0d, 0xb8 }, 32, "reserved" },
        { { 0x3f, 0xff, 0x00 }, 20, "reserved" },
        { { 0xfc }, 7, "private" },
        { { 0xfe, 0x80 }, 10, "link-local" },
        { { 0xfe, 0xc0 }, 10, "private" },
        { { 0xff }, 8, "multicast" },
};

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
        unsigned whole = bits / 8, rest = bits % 8;
        if (memcmp(a, b, whole) != 0)
                return false;
        uint8_t mask = (uint8_t) (0xff << (8 - rest));
        return rest == 0 || ((a[whole] ^ b[whole]) & mask) == 0;
}

static const char *find_special(const struct special *table, size_t n, const uint8_t *bytes)
{
        for (size_t i = 0; i < n; i++)
                if (bits_equal(table[i].bytes, bytes, table[i].bits))
                        return table[i].what;
        return NULL;
}

static const char *special_ipv6(const uint8_t b[static 16])
{
        static const uint8_t zero[16], mapped[12] = { [10] = 0xff, [11] = 0xff };
        static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
        static const uint8_t loopback[16] = { [15] = 1 };
        if (memcmp(b, loopback, 16) == 0)
                return "loopback";
        /* RFC 4291 2.5.5.2, RFC 6052: the last four bytes are what is reached. */
        if (memcmp(b, mapped, 12) == 0 || memcmp(b, nat64, 12) == 0)
                return find_special(special4, ARRAY_LEN(special4), b + 12);
        if (memcmp(b, zero, 12) == 0)
                return "reserved";
        if (b[0] == 0x20 && b[1] == 0x02) /* 6to4, RFC 3056 */
                return find_special(special4, ARRAY_LEN(special4), b + 2);
        const char *what = find_special(special6, ARRAY_LEN(special6), b);
        if (what)
                return what;
        return (b[0] & 0xe0) == 0x20 ? NULL : "reserved";
}

static const uint8_t *address_bytes(const struct sockaddr *a)
{
        if (a->sa_family == AF_INET)
                return (const uint8_t *) &((const struct sockaddr_in *) (const void *) a)->sin_addr;
        if (a->sa_family == AF_INET6)
                return (const uint8_t *) &((const struct sockaddr_in6 *) (const void *) a)
                        ->sin6_addr;
        return NULL;
}

const char *address_special(const struct sockaddr *a)
{
        const uint8_t *b = address_bytes(a);
        if (!b)
                return "reserved";
        return a->sa_family == AF_INET ? find_special(special4, ARRAY_LEN(special4), b)
                                       : special_ipv6(b);
}

int address_range_parse(const char *text, struct address_range *ret)
{
        struct address_range r = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };
        char bare[INET6_ADDRSTRLEN];
        size_t len = strcspn(text, "/");
        uint64_t bits = r.family == AF_INET ? 32 : 128, most = bits;
        if (len >= sizeof(bare))
                return -EINVAL;
        memcpy(bare, text, len);
        bare[len] = '\0';
        if (inet_pton(r.family, bare, r.bytes) != 1 ||
            (text[len] && (parse_u64(text + len + 1, &bits) < 0 || bits > most)))
                return -EINVAL;
        r.bits = (unsigned) bits;
        *ret = r;
        return 0;
}

bool address_in_range(const struct sockaddr *a, const struct address_range *r)
{
        const uint8_t *b = address_bytes(a);
        return b && a->sa_family == r->family && bits_equal(b, r->bytes, r->bits);
}

/* --- rules ------------------------------------------------------------------------------------ */

static int parse_rule(const char *text, struct network_rule *ret)
{
        struct network_rule rule = { 0 };
        struct span host;
        char name[HOST_TEXT_MAX];
        enum host_kind kind;
        if (str_starts(text, "*.")) {
                rule.below = true;
                text += 2;
        }
        if (host_split(span_of(text), &host, &rule.port) < 0 ||
            host_normalise(host, name, &kind) < 0 ||
            (rule.below && (kind != HOST_NAME || !strchr(name, '.'))))
                return -EINVAL;
        rule.host = xstrdup(name);
        *ret = rule;
        return 0;
}

static int parse_rules(const json_t *object, const char *member, struct network_rule **ret,
                       size_t *ret_n, char **ret_error)
{
        const json_t *list = json_object_get(object, member);
        size_t n = json_array_size(list);
        if (!list || json_is_null(list))
                return 0;
        if (!json_is_array(list) || n > NETWORK_RULES_MAX) {
                *ret_error = xasprintf("network.%s must be a list of at most %d hosts", member,
                                       NETWORK_RULES_MAX);
                return -EINVAL;
        }
        *ret = n ? xnewn(struct network_rule, n) : NULL;
        for (size_t i = 0; i < n; i++) {
                const char *text = json_string_value(json_array_get(list, i));
                if (!text || strlen(text) > NETWORK_RULE_MAX || parse_rule(text, &(*ret)[i]) < 0) {
                        *ret_error =
                                xasprintf("network.%s[%zu] must be a host such as example.com, "
                                          "*.example.com or example.com:8443",
                                          member, i);
                        return -EINVAL;
                }
                *ret_n = i + 1;
        }
        return 0;
}

static const char *const mode_names[NETWORK_MODE_MAX] = { "none", "allow", "open" };

static int parse_mode(const json_t *object, enum network_mode *ret, char **ret_error)
{
        const json_t *mode = json_object_get(object, "mode");
        *ret = json_object_get(object, "allow") ? NETWORK_ALLOW : NETWORK_NONE;
        if (!mode || json_is_null(mode))
                return 0;
        for (int i = 0; i < NETWORK_MODE_MAX; i++)
                if (streq(json_string_value(mode), mode_names[i])) {
                        *ret = (enum network_mode) i;
                        return 0;
                }
        *ret_error = xstrdup("network.mode must be none, allow or open");
        return -EINVAL;
}

int network_policy_parse(const json_t *object, struct network_policy *ret, char **ret_error)
{
        struct network_policy p = { 0 };
        const char *key;
        json_t *value;
        *ret_error = NULL;
        if (!object || json_is_null(object)) {
                *ret = p;
                return 0;
        }
        if (!json_is_object(object)) {
                *ret_error = xstrdup("network must be an object with mode, allow and deny");
                return -EINVAL;
        }
        json_object_foreach ((json_t *) object, key, value) {
                if (streq(key, "mode") || streq(key, "allow") || streq(key, "deny"))
                        continue;
                *ret_error = xasprintf("network.%.40s is unknown; network has mode, allow and deny",
                                       key);
                return -EINVAL;
        }
        int r = parse_mode(object, &p.mode, ret_error);
        if (r == 0)
                r = parse_rules(object, "allow", &p.allow, &p.n_allow, ret_error);
        if (r == 0)
                r = parse_rules(object, "deny", &p.deny, &p.n_deny, ret_error);
        if (r < 0) {
                network_policy_done(&p);
                return r;
        }
        *ret = p;
        return 0;
}

void network_policy_done(struct network_policy *p)
{
        for (size_t i = 0; i < p->n_allow; i++)
                free(p->allow[i].host);
        for (size_t i = 0; i < p->n_deny; i++)
                free(p->deny[i].host);
        free(p->allow);
        free(p->deny);
        *p = (struct network_policy){ 0 };
}

static bool rule_names(const struct network_rule *rule, const char *host)
{
        size_t len = strlen(host), own = strlen(rule->host);
        if (!rule->below)
                return streq(host, rule->host);
        return len > own + 1 && host[len - own - 1] == '.' && streq(host + len - own, rule->host);
}

static bool is_web(uint16_t port)
{
        return port == 80 || port == 443;
}

enum network_verdict network_judge(const struct network_policy *p, const char *host, uint16_t port)
{
        bool named = p->mode == NETWORK_OPEN;
        if (p->mode == NETWORK_NONE)
                return NETWORK_OFF;
        for (size_t i = 0; i < p->n_deny; i++)
                if (rule_names(&p->deny[i], host) &&
                    (p->deny[i].port == 0 || p->deny[i].port == port))
                        return NETWORK_DENIED;
        for (size_t i = 0; i < p->n_allow; i++) {
                const struct network_rule *rule = &p->allow[i];
                if (!rule_names(rule, host))
                        continue;
                named = true;
                if (rule->port ? rule->port == port : is_web(port))
                        return NETWORK_ALLOWED;
        }
        if (!named)
                return NETWORK_NOT_LISTED;
        return p->mode == NETWORK_OPEN && is_web(port) ? NETWORK_ALLOWED : NETWORK_PORT;
}
