/* What slots may reach: hostile names, special addresses, rules. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "common/base/json.h"
#include "common/base/netpolicy.h"
#include "unit.h"

static void test_names(void **state)
{
        static const struct {
                const char *in, *out; /* NULL = refused */
                enum host_kind kind;
        } cases[] = {
                { "Example.COM", "example.com", HOST_NAME },
                { "example.com.", "example.com", HOST_NAME },
                { "xn--bcher-kva.example", "xn--bcher-kva.example", HOST_NAME },
                { "a", "a", HOST_NAME },
                { "93.184.216.34", "93.184.216.34", HOST_IPV4 },
                { "[2606:2800::1]", "2606:2800::1", HOST_IPV6 },
                { "::FFFF:127.0.0.1", "::ffff:127.0.0.1", HOST_IPV6 },
                { "1.2.3.4.example", "1.2.3.4.example", HOST_NAME },
                { "", NULL, 0 },
                { ".", NULL, 0 },
                { "example.com..", NULL, 0 },
                { ".example.com", NULL, 0 },
                { "a..b", NULL, 0 },
                { "-a.com", NULL, 0 },
                { "a-.com", NULL, 0 },
                { "exa_mple.com", NULL, 0 },
                { "exa mple.com", NULL, 0 },
                { "example.com%00.evil.com", NULL, 0 },
                { "user@example.com", NULL, 0 },
                { "ex\xc3\xa4mple.com", NULL, 0 },
                { "0177.0.0.1", NULL, 0 },
                { "0x7f.0.0.1", NULL, 0 },
                { "0x7f000001", NULL, 0 },
                { "2130706433", NULL, 0 },
                { "127.1", NULL, 0 },
                { "127.0.0.1.1", NULL, 0 },
                { "256.1.1.1", NULL, 0 },
                { "example.0x1", NULL, 0 },
                { "[::1", NULL, 0 },
                { "[::1%lo]", NULL, 0 },
                { "fe80::1%eth0", NULL, 0 },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char out[HOST_TEXT_MAX];
                enum host_kind kind;
                int r = host_normalise(span_of(cases[i].in), out, &kind);
                if (!cases[i].out) {
                        if (r == 0)
                                fail_msg("%s was taken as %s", cases[i].in, out);
                        continue;
                }
                assert_int_equal(r, 0);
                assert_string_equal(out, cases[i].out);
                assert_int_equal(kind, cases[i].kind);
        }
        char out[HOST_TEXT_MAX], longest[400];
        enum host_kind kind;
        assert_int_equal(host_normalise((struct span){ "a\0b", 3 }, out, &kind), -EINVAL);
        for (size_t i = 0; i < 255; i++)
                longest[i] = i % 64 == 63 ? '.' : 'a';
        assert_int_equal(host_normalise((struct span){ longest, 253 }, out, &kind), 0);
        assert_int_equal(host_normalise((struct span){ longest, 254 }, out, &kind), -EINVAL);
        memset(longest, 'a', 64);
        assert_int_equal(host_normalise((struct span){ longest, 63 }, out, &kind), 0);
        assert_int_equal(host_normalise((struct span){ longest, 64 }, out, &kind), -EINVAL);
}

static void test_split(void **state)
{
        struct span host;
        uint16_t port;
        assert_int_equal(host_split(span_of("a.b:443"), &host, &port), 0);
        assert_true(span_eq(host, "a.b"));
        assert_int_equal(port, 443);
        assert_int_equal(host_split(span_of("[::1]:8080"), &host, &port), 0);
        assert_true(span_eq(host, "[::1]"));
        assert_int_equal(port, 8080);
        assert_int_equal(host_split(span_of("a.b"), &host, &port), 0);
        assert_int_equal(port, 0);
        static const char *const bad[] = { "",     ":80",   "a:",   "a:0",    "a:65536", "a:080000",
                                           "a:+1", "a:8 0", "a:-1", "[::1]x", "[::1",    "a:b:1" };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                if (host_split(span_of(bad[i]), &host, &port) == 0)
                        fail_msg("%s was taken", bad[i]);
}

static const char *special(const char *text)
{
        struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
        struct sockaddr_in v4 = { .sin_family = AF_INET };
        if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
                return address_special((struct sockaddr *) &v4);
        assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
        return address_special((struct sockaddr *) &v6);
}

static void test_addresses(void **state)
{
        static const char *const public[] = { "93.184.216.34",   "8.8.8.8",
                                              "172.32.0.1",      "100.128.0.1",
                                              "2606:4700::1111", "64:ff9b::808:808",
                                              "::ffff:8.8.8.8",  "2002:808:808::1",
                                              "223.255.255.255" };
        static const char *const closed[] = {
                "0.0.0.0",
                "10.0.0.1",
                "100.64.0.1",
                "127.0.0.1",
                "127.255.255.254",
                "169.254.169.254",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.1.1",
                "192.0.0.8",
                "198.18.0.1",
                "198.51.100.7",
                "203.0.113.9",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.1",
                "255.255.255.255",
                "::",
                "::1",
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "::127.0.0.1",
                "64:ff9b::a00:1",
                "64:ff9b:1::1",
                "fe80::1",
                "fc00::1",
                "fd00:ec2::254",
                "ff02::1",
                "2001:db8::1",
                "2001::1",
                "2002:7f00:1::1",
                "2002:a00:1::",
                "3fff::1",
                "fec0::1",
                "4000::1",
        };
        for (size_t i = 0; i < ARRAY_LEN(public); i++)
                if (special(public[i]))
                        fail_msg("%s is %s", public[i], special(public[i]));
        for (size_t i = 0; i < ARRAY_LEN(closed); i++)
                if (!special(closed[i]))
                        fail_msg("%s counts as public", closed[i]);
        struct address_range r;
        struct sockaddr_in a = { .sin_family = AF_INET };
        assert_int_equal(address_range_parse("10.1.0.0/20", &r), 0);
        (void) inet_pton(AF_INET, "10.1.15.255", &a.sin_addr);
        assert_true(address_in_range((struct sockaddr *) &a, &r));
        (void) inet_pton(AF_INET, "10.1.16.0", &a.sin_addr);
        assert_false(address_in_range((struct sockaddr *) &a, &r));
        assert_int_equal(address_range_parse("fd00::/8", &r), 0);
        assert_false(address_in_range((struct sockaddr *) &a, &r));
        assert_int_equal(address_range_parse("10.0.0.0/33", &r), -EINVAL);
        assert_int_equal(address_range_parse("ten/8", &r), -EINVAL);
}

static int parse(const char *text, struct network_policy *ret, char **ret_error)
{
        cleanup_json json_t *j = NULL;
        struct json_problem problem;
        assert_int_equal(json_parse(text, strlen(text), &j, &problem), 0);
        return network_policy_parse(j, ret, ret_error);
}

static void test_rules(void **state)
{
        struct network_policy p;
        cleanup_free char *error = NULL;
        assert_int_equal(parse("{\"allow\":[\"Example.com\",\"*.debian.org\",\"git.test:9418\"],"
                               "\"deny\":[\"evil.debian.org\"]}",
                               &p, &error),
                         0);
        static const struct {
                const char *host;
                uint16_t port;
                enum network_verdict verdict;
        } cases[] = {
                { "example.com", 443, NETWORK_ALLOWED },
                { "example.com", 80, NETWORK_ALLOWED },
                { "example.com", 22, NETWORK_PORT },
                { "evil-example.com", 443, NETWORK_NOT_LISTED },
                { "example.com.evil", 443, NETWORK_NOT_LISTED },
                { "www.example.com", 443, NETWORK_NOT_LISTED },
                { "deb.debian.org", 80, NETWORK_ALLOWED },
                { "a.b.debian.org", 80, NETWORK_ALLOWED },
                { "debian.org", 80, NETWORK_NOT_LISTED },
                { "evildebian.org", 80, NETWORK_NOT_LISTED },
                { "evil.debian.org", 80, NETWORK_DENIED },
                { "git.test", 9418, NETWORK_ALLOWED },
                { "git.test", 443, NETWORK_PORT },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                if (network_judge(&p, cases[i].host, cases[i].port) != cases[i].verdict)
                        fail_msg("%s:%u", cases[i].host, cases[i].port);
        network_policy_done(&p);
        assert_int_equal(parse("{\"mode\":\"open\",\"allow\":[\"ssh.test:22\"]}", &p, &error), 0);
        assert_int_equal(network_judge(&p, "any.host", 443), NETWORK_ALLOWED);
        assert_int_equal(network_judge(&p, "any.host", 25), NETWORK_PORT);
        assert_int_equal(network_judge(&p, "ssh.test", 22), NETWORK_ALLOWED);
        network_policy_done(&p);
        assert_int_equal(parse("{}", &p, &error), 0);
        assert_int_equal(network_judge(&p, "any.host", 443), NETWORK_OFF);
        static const char *const bad[] = {
                "[]",
                "{\"mode\":\"all\"}",
                "{\"mode\":1}",
                "{\"allow\":\"x.com\"}",
                "{\"allow\":[\"http://x.com\"]}",
                "{\"allow\":[\"*.com\"]}",
                "{\"allow\":[\"*\"]}",
                "{\"allow\":[\"x.com/path\"]}",
                "{\"allow\":[5]}",
                "{\"hosts\":[]}",
                "{\"deny\":[\"a b\"]}",
                "{\"allow\":[\"*.1.2.3.4\"]}",
        };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                if (parse(bad[i], &p, &error) == 0)
                        fail_msg("%s was taken", bad[i]);
                assert_non_null(strstr(error, "network"));
                free(TAKE_PTR(error));
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_split),
                cmocka_unit_test(test_addresses),
                cmocka_unit_test(test_rules),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
