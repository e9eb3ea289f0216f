/* Strings and spans, strict number parsing, UTF-8, hex, base64, SHA-256. */
#include "util.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

struct span span_of(const char *s)
{
        return (struct span){ s, s ? strlen(s) : 0 };
}

bool span_eq(struct span s, const char *text)
{
        size_t n = strlen(text);
        return s.len == n && (n == 0 || memcmp(s.data, text, n) == 0);
}

char *span_dup(struct span s)
{
        char *copy = xmalloc(s.len + 1);
        if (s.len > 0)
                memcpy(copy, s.data, s.len);
        copy[s.len] = 0;
        return copy;
}

bool streq(const char *a, const char *b)
{
        if (!a || !b)
                return a == b;
        return strcmp(a, b) == 0;
}

bool strempty(const char *s)
{
        return !s || !*s;
}

bool str_starts(const char *s, const char *prefix)
{
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
        size_t n = strlen(s), m = strlen(suffix);
        return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

static bool is_space(char c)
{
        return c == ' ' || (c >= '\t' && c <= '\r');
}

char *strstrip(char *s)
{
        while (is_space(*s))
                s++;
        size_t n = strlen(s);
        while (n > 0 && is_space(s[n - 1]))
                n--;
        s[n] = 0;
        return s;
}

/* Digits at the front of *s; moves *s behind them. */
static int take_digits(const char **s, uint64_t *ret)
{
        const char *p = *s;
        uint64_t v = 0;
        if (*p < '0' || *p > '9')
                return -EINVAL;
        bool over = false;
        for (; *p >= '0' && *p <= '9'; p++) {
                over |= __builtin_mul_overflow(v, 10, &v);
                over |= __builtin_add_overflow(v, (uint64_t) (*p - '0'), &v);
        }
        if (over)
                return -ERANGE;
        *s = p;
        *ret = v;
        return 0;
}

int parse_u64(const char *s, uint64_t *ret)
{
        uint64_t v;
        int r = take_digits(&s, &v);
        if (r == -ERANGE)
                return s[strspn(s, "0123456789")] ? -EINVAL : -ERANGE;
        if (r < 0)
                return r;
        if (*s)
                return -EINVAL;
        *ret = v;
        return 0;
}

int parse_i64(const char *s, int64_t *ret)
{
        bool minus = *s == '-';
        uint64_t v;
        int r = parse_u64(s + minus, &v);
        if (r < 0)
                return r;
        if (v > (uint64_t) INT64_MAX + minus)
                return -ERANGE;
        *ret = minus ? (int64_t) (0 - v) : (int64_t) v;
        return 0;
}

int parse_bool(const char *s, bool *ret)
{
        static const char *const yes[] = { "yes", "true", "on", "1" };
        static const char *const no[] = { "no", "false", "off", "0" };
        for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
                if (streq(s, yes[i]) || streq(s, no[i])) {
                        *ret = streq(s, yes[i]);
                        return 0;
                }
        }
        return -EINVAL;
}

struct unit {
        const char *suffix;
        uint64_t factor;
};

static int parse_with_unit(const char *s, const struct unit *units, size_t n, uint64_t *ret)
{
        uint64_t v;
        int r = take_digits(&s, &v);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                if (!streq(s, units[i].suffix))
                        continue;
                uint64_t product;
                if (__builtin_mul_overflow(v, units[i].factor, &product))
                        return -ERANGE;
                *ret = product;
                return 0;
        }
        return -EINVAL;
}

int parse_size(const char *s, uint64_t *ret)
{
        static const struct unit units[] = {
                { "", 1 }, { "K", KIB }, { "M", MIB }, { "G", GIB }, { "T", GIB << 10 },
        };
        return parse_with_unit(s, units, ARRAY_LEN(units), ret);
}

int parse_duration(const char *s, uint64_t *ret_usec)
{
        static const struct unit units[] = {
                { "", USEC_PER_SEC },          { "us", 1 },
                { "ms", USEC_PER_MSEC },       { "s", USEC_PER_SEC },
                { "min", 60 * USEC_PER_SEC },  { "h", 3600 * USEC_PER_SEC },
                { "d", 86400 * USEC_PER_SEC },
        };
        return parse_with_unit(s, units, ARRAY_LEN(units), ret_usec);
}

/* Length of the valid sequence at p (n > 0 bytes left), or 0. Table 3-7 of the Unicode standard. */
static size_t utf8_sequence(const uint8_t *p, size_t n)
{
        uint8_t low = 0x80, high = 0xbf;
        size_t len;
        if (p[0] < 0x80)
                return p[0] != 0;
        if (p[0] < 0xc2 || p[0] > 0xf4)
                return 0;
        if (p[0] < 0xe0) {
                len = 2;
        } else if (p[0] < 0xf0) {
                len = 3;
                low = p[0] == 0xe0 ? 0xa0 : low;
                high = p[0] == 0xed ? 0x9f : high;
        } else {
                len = 4;
                low = p[0] == 0xf0 ? 0x90 : low;
                high = p[0] == 0xf4 ? 0x8f : high;
        }
        if (n < len || p[1] < low || p[1] > high)
                return 0;
        for (size_t i = 2; i < len; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        }
        return len;
}

bool utf8_valid(const char *s, size_t n)
{
        const uint8_t *p = (const uint8_t *) s;
        while (n > 0) {
                /* Eight plain characters at once: no high bit set and no zero byte. */
                uint64_t w;
                while (n >= sizeof(w)) {
                        memcpy(&w, p, sizeof(w));
                        if ((w | (w - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080))
                                break;
                        p += sizeof(w);
                        n -= sizeof(w);
                }
                if (n == 0)
                        break;
                size_t len = utf8_sequence(p, n);
                if (len == 0)
                        return false;
                p += len;
                n -= len;
        }
        return true;
}

void hex_encode(const void *data, size_t n, char *out)
{
        static const char digits[] = "0123456789abcdef";
        const uint8_t *p = data;
        for (size_t i = 0; i < n; i++) {
                out[2 * i] = digits[p[i] >> 4];
                out[2 * i + 1] = digits[p[i] & 15];
        }
        out[2 * n] = 0;
}

size_t base64_size(size_t n)
{
        return (n + 2) / 3 * 4 + 1;
}

void base64_encode(const void *data, size_t n, char *out)
{
        static const char set[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const uint8_t *p = data;
        for (; n >= 3; n -= 3, p += 3) {
                *out++ = set[p[0] >> 2];
                *out++ = set[(p[0] & 3) << 4 | p[1] >> 4];
                *out++ = set[(p[1] & 15) << 2 | p[2] >> 6];
                *out++ = set[p[2] & 63];
        }
        if (n > 0) {
                uint8_t second = n == 2 ? p[1] : 0;
                *out++ = set[p[0] >> 2];
                *out++ = set[(p[0] & 3) << 4 | second >> 4];
                *out++ = n == 2 ? set[(second & 15) << 2] : '=';
                *out++ = '=';
        }
        *out = 0;
}

static int base64_value(char c)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(const char *s, size_t n, void **ret, size_t *ret_len)
{
        if (n % 4 != 0)
                return -EINVAL;
        size_t pad = n == 0 ? 0 : (size_t) (s[n - 1] == '=') + (s[n - 1] == '=' && s[n - 2] == '=');
        size_t len = n / 4 * 3 - pad;
        cleanup_free uint8_t *out = try_malloc(len + 1);
        if (!out)
                return -ENOMEM;
        uint32_t bits = 0;
        size_t used = 0;
        for (size_t i = 0; i < n; i++) {
                bool padding = i >= n - pad;
                int v = padding ? 0 : base64_value(s[i]);
                if (v < 0)
                        return -EINVAL;
                bits = bits << 6 | (uint32_t) v;
                if (i % 4 != 3)
                        continue;
                for (int shift = 16; shift >= 0; shift -= 8) {
                        uint8_t byte = (uint8_t) (bits >> shift);
                        if (used < len)
                                out[used++] = byte;
                        else if (byte) /* bits that the padding says do not exist */
                                return -EINVAL;
                }
                bits = 0;
        }
        out[len] = 0;
        *ret = TAKE_PTR(out);
        *ret_len = len;
        return 0;
}

void base64url_encode(const void *data, size_t n, char *out)
{
        base64_encode(data, n, out);
        for (; *out && *out != '='; out++)
                *out = *out == '+' ? '-' : *out == '/' ? '_' : *out;
        *out = 0;
}

int base64url_decode(const char *s, size_t n, void **ret, size_t *ret_len)
{
        size_t pad = (4 - n % 4) % 4;
        cleanup_free char *text = try_malloc(n + pad + 1);
        if (!text)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                if (s[i] == '+' || s[i] == '/' || s[i] == '=')
                        return -EINVAL;
                text[i] = s[i] == '-' ? '+' : s[i] == '_' ? '/' : s[i];
        }
        memset(text + n, '=', pad);
        return base64_decode(text, n + pad, ret, ret_len);
}

void sha256_hex(const void *data, size_t n, char out[static SHA256_HEX])
{
        uint8_t digest[32];
        if (EVP_Digest(data ? data : "", n, digest, NULL, EVP_sha256(), NULL) != 1)
                abort();
        hex_encode(digest, sizeof(digest), out);
}

bool secret_equal(const char *a, const char *b)
{
        size_t n = strlen(a);
        return n == strlen(b) && CRYPTO_memcmp(a, b, n) == 0;
}
