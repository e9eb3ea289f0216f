/* Reads keys, times and tokens out of the answers of object stores. */
#include "s3-xml.h"

#include <time.h>

/* A character reference of ASCII, such as &#13; or &#x2b;: its length, 0 = it is none. */
static size_t reference(const char *s, char *ret)
{
        bool hex = str_starts(s, "&#x");
        if (!hex && !str_starts(s, "&#"))
                return 0;
        const char *digits = s + (hex ? 3 : 2);
        size_t n = strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789");
        if (n == 0 || n > 6 || digits[n] != ';')
                return 0;
        unsigned long c = strtoul(digits, NULL, hex ? 16 : 10);
        if (c == 0 || c > 127)
                return 0;
        *ret = (char) c;
        return (size_t) (digits - s) + n + 1;
}

static size_t entity(const char *s, char *ret)
{
        static const struct {
                const char *text;
                char c;
        } named[] = { { "&amp;", '&' },
                      { "&lt;", '<' },
                      { "&gt;", '>' },
                      { "&quot;", '"' },
                      { "&apos;", '\'' } };
        for (size_t i = 0; i < ARRAY_LEN(named); i++)
                if (str_starts(s, named[i].text)) {
                        *ret = named[i].c;
                        return strlen(named[i].text);
                }
        return reference(s, ret);
}

/* In place. */
static void unescape(char *s)
{
        char *to = s;
        while (*s) {
                char c = *s;
                size_t n = c == '&' ? entity(s, &c) : 0;
                *to++ = c;
                s += MAX(n, (size_t) 1);
        }
        *to = '\0';
}

char *s3_xml_text(const char *xml, const char *name)
{
        char open[40], close[40];
        (void) snprintf(open, sizeof(open), "<%s>", name);
        (void) snprintf(close, sizeof(close), "</%s>", name);
        const char *start = strstr(xml, open);
        const char *end = start ? strstr(start, close) : NULL;
        if (!end)
                return NULL;
        start += strlen(open);
        char *text = xstrndup(start, (size_t) (end - start));
        unescape(text);
        return text;
}

static uint64_t read_time(const char *text)
{
        struct tm tm = { 0 };
        if (!text || !strptime(text, "%Y-%m-%dT%H:%M:%S", &tm))
                return UINT64_MAX;
        time_t t = timegm(&tm);
        return t < 0 ? UINT64_MAX : (uint64_t) t * USEC_PER_SEC;
}

void s3_xml_objects(const char *xml, s3_object_fn fn, void *userdata)
{
        const char *at = xml;
        while ((at = strstr(at, "<Contents>"))) {
                const char *end = strstr(at, "</Contents>");
                if (!end)
                        return;
                cleanup_free char *one = xstrndup(at, (size_t) (end - at));
                cleanup_free char *key = s3_xml_text(one, "Key");
                cleanup_free char *modified = s3_xml_text(one, "LastModified");
                if (key)
                        fn(userdata, key, read_time(modified));
                at = end;
        }
}
