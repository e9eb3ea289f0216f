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

/* ---- conditions ---- */

static bool strongly_listed(const char *header, const char *tag)
{
        struct span got;
        bool weak;
        if (streq(header, "*"))
                return true;
        while (next_tag(&header, &got, &weak)) {
                if (!weak && span_eq(got, tag))
                        return true;
                if (*header++ != ',')
                        break;
        }
        return false;
}

static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

void date_text(time_t t, char out[static DATE_TEXT_MAX])
{
        struct tm tm = { 0 };
        (void) gmtime_r(&t, &tm);
        (void) snprintf(out, DATE_TEXT_MAX, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                        days[(unsigned) tm.tm_wday % 7], tm.tm_mday,
                        months[(unsigned) tm.tm_mon % 12], (tm.tm_year + 1900) % 10000, tm.tm_hour,
                        tm.tm_min, tm.tm_sec);
}

/* Written again it must be the same: nothing else is a date. */
int date_parse(const char *s, time_t *ret)
{
        struct tm tm = { 0 };
        char month[4], again[DATE_TEXT_MAX];
        if (strlen(s) != DATE_TEXT_MAX - 1)
                return -EINVAL;
        /* At most four digits each, and what was read is compared. NOLINTNEXTLINE(cert-err34-c) */
        int n = sscanf(s + 5, "%2d %3s %4d %2d:%2d:%2d GMT", &tm.tm_mday, month, &tm.tm_year,
                       &tm.tm_hour, &tm.tm_min, &tm.tm_sec);
        if (n != 6)
                return -EINVAL;
        tm.tm_year -= 1900;
        while (tm.tm_mon < 12 && !streq(month, months[tm.tm_mon]))
                tm.tm_mon++;
        if (tm.tm_mon == 12)
                return -EINVAL;
        time_t t = timegm(&tm);
        date_text(t, again);
        if (!streq(again, s))
                return -EINVAL;
        *ret = t;
        return 0;
}

enum condition_result conditions_check(const struct conditions *c, const char *tag, time_t modified)
{
        time_t t;
        if (c->if_match) {
                if (!strongly_listed(c->if_match, tag))
                        return CONDITION_FAILED;
        } else if (c->if_unmodified_since && date_parse(c->if_unmodified_since, &t) == 0 &&
                   modified > t)
                return CONDITION_FAILED;
        if (c->if_none_match)
                return etag_listed(c->if_none_match, tag) ? CONDITION_NOT_MODIFIED : CONDITION_GO;
        if (c->if_modified_since && date_parse(c->if_modified_since, &t) == 0 && modified <= t)
                return CONDITION_NOT_MODIFIED;
        return CONDITION_GO;
}

bool range_allowed(const struct conditions *c, const char *tag, time_t modified, time_t now)
{
        char text[96];
        time_t t;
        if (!c->if_range)
                return true;
        if (date_parse(c->if_range, &t) == 0)
                return t == modified && modified + 1 < now;
        return etag_single(c->if_range, text, sizeof(text)) == 1 && streq(text, tag);
}

/* ---- ranges ---- */

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
