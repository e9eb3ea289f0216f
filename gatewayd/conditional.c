/* Decides which bytes a conditional or ranged request wants, and under which name they are saved.
 */
#include "gatewayd/conditional.h"

#include <strings.h>

#include "common/base/buf.h"

static const char *skip_blank(const char *s)
{
        return s + strspn(s, " \t");
}

/* One entity tag at *s: its text and whether it is weak. False when there is none. */
static bool next_tag(const char **s, struct span *ret, bool *ret_weak)
{
        const char *p = skip_blank(*s);
        *ret_weak = p[0] == 'W' && p[1] == '/';
        if (*ret_weak)
                p += 2;
        if (*p != '"')
                return false;
        size_t n = strcspn(p + 1, "\"");
        if (p[1 + n] != '"')
                return false;
        *ret = (struct span){ p + 1, n };
        *s = skip_blank(p + n + 2);
        return true;
}

bool etag_listed(const char *header, const char *tag)
{
        struct span got;
        bool weak;
        if (!header)
                return false;
        if (streq(header, "*"))
                return true;
        while (next_tag(&header, &got, &weak)) {
                if (span_eq(got, tag))
                        return true;
                if (*header++ != ',')
                        break;
        }
        return false;
}

int etag_single(const char *header, char *tag_out, size_t size)
{
        struct span got;
        bool weak;
        if (!header || streq(header, "*"))
                return 0;
        if (!next_tag(&header, &got, &weak) || (*header && *header != ','))
                return -EINVAL;
        if (*header || weak || got.len >= size)
                return -ENOTSUP;
        memcpy(tag_out, got.data, got.len);
        tag_out[got.len] = '\0';
        return 1;
}

/* Digits at *s; a number too large to hold is as good as the largest. */
static bool next_number(const char **s, uint64_t *ret)
{
        size_t n = strspn(*s, "0123456789");
        if (n == 0)
                return false;
        uint64_t value = 0;
        for (size_t i = 0; i < n; i++) {
                uint64_t digit = (uint64_t) ((*s)[i] - '0');
                if (__builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, digit, &value)) {
                        value = UINT64_MAX;
                        break;
                }
        }
        *s += n;
        *ret = value;
        return true;
}

enum range_result range_parse(const char *header, uint64_t size, uint64_t *ret_first,
                              uint64_t *ret_length)
{
        if (!header || strncasecmp(header, "bytes=", 6) != 0)
                return RANGE_WHOLE;
        const char *s = skip_blank(header + 6);
        uint64_t first = 0, last = UINT64_MAX;
        bool suffix = !next_number(&s, &first);
        if (*s++ != '-')
                return RANGE_WHOLE;
        bool has_last = next_number(&s, &last);
        if (*skip_blank(s) || (suffix && !has_last) || (!suffix && has_last && last < first))
                return RANGE_WHOLE;

        if (suffix) {
                if (last == 0)
                        return RANGE_OUTSIDE;
                if (size == 0)
                        return RANGE_WHOLE; /* nothing to name in Content-Range */
                first = last >= size ? 0 : size - last;
                last = size - 1;
        }
        if (first >= size)
                return RANGE_OUTSIDE;
        *ret_first = first;
        *ret_length = MIN(last, size - 1) - first + 1;
        return RANGE_PART;
}

static bool is_attr_char(unsigned char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               (c && strchr("!#$&+-.^_`|~", c));
}

char *content_disposition(const char *filename)
{
        cleanup_buf struct buf b = BUF_INIT;
        bool plain = true;
        buf_puts(&b, "attachment; filename=\"");
        for (const unsigned char *p = (const unsigned char *) filename; *p; p++) {
                /* A percent sign, too: some browsers decode it here. One mark stands for one
                 * character. */
                bool fits = *p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\' && *p != '%';
                plain = plain && fits;
                if (fits || *p < 0x80 || *p >= 0xc0)
                        buf_putf(&b, "%c", fits ? *p : '_');
        }
        buf_puts(&b, "\"");
        if (!plain) {
                buf_puts(&b, "; filename*=UTF-8''");
                for (const unsigned char *p = (const unsigned char *) filename; *p; p++)
                        buf_putf(&b, is_attr_char(*p) ? "%c" : "%%%02X", *p);
        }
        return buf_take(&b, NULL);
}
