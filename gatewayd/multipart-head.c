/* Reads the head of a multipart part: Content-Disposition with its parameters, type and encoding.
 */
#include "multipart-head.h"

#include <ctype.h>
#include <strings.h>

#define LINES_MAX 16
#define NAME_MAX_BYTES 200

static int refuse(const char **ret_problem, const char *problem)
{
        *ret_problem = problem;
        return -EBADMSG;
}

static bool is_token_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_blank(char c)
{
        return c == ' ' || c == '\t';
}

static bool has_control(const char *s)
{
        for (; *s; s++)
                if ((unsigned char) *s < 0x20 || *s == 0x7f)
                        return true;
        return false;
}

/* Browsers write a quote as %22 and leave a backslash alone; curl and Python write \" and \\. */
static int quoted_value(const char **s, char **ret)
{
        cleanup_free char *out = xmalloc(strlen(*s) + 1);
        size_t n = 0;
        const char *p;

        for (p = *s + 1; *p && *p != '"'; p++) {
                if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
                        out[n++] = *++p;
                else if (*p == '%' && p[1] == '2' && p[2] == '2') {
                        out[n++] = '"';
                        p += 2;
                } else
                        out[n++] = *p;
        }
        if (*p != '"')
                return -EBADMSG;
        out[n] = '\0';
        *s = p + 1;
        *ret = TAKE_PTR(out);
        return 0;
}

int header_parameter(const char **s, char **ret_name, char **ret_value)
{
        const char *p = *s;
        while (is_blank(*p))
                p++;
        if (!*p)
                return 0;
        if (*p++ != ';')
                return -EBADMSG;
        while (is_blank(*p))
                p++;

        const char *start = p;
        while (is_token_char(*p))
                p++;
        if (p == start || *p != '=')
                return -EBADMSG;
        cleanup_free char *name = xstrndup(start, (size_t) (p - start));
        p++;

        cleanup_free char *value = NULL;
        if (*p == '"') {
                int r = quoted_value(&p, &value);
                if (r < 0)
                        return r;
        } else {
                start = p;
                while (is_token_char(*p))
                        p++;
                if (p == start)
                        return -EBADMSG;
                value = xstrndup(start, (size_t) (p - start));
        }
        *s = p;
        *ret_name = TAKE_PTR(name);
        *ret_value = TAKE_PTR(value);
        return 1;
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

/* RFC 5987: UTF-8''caf%C3%A9.txt. Some clients send it though RFC 7578 says not to. */
static char *extended_value(const char *s)
{
        if (strncasecmp(s, "utf-8'", 6) != 0)
                return NULL;
        s = strchr(s + 6, '\'');
        if (!s)
                return NULL;
        s++;
        cleanup_free char *out = xmalloc(strlen(s) + 1);
        size_t n = 0;
        for (; *s; s++) {
                if (*s != '%') {
                        out[n++] = *s;
                        continue;
                }
                int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);
                if (low < 0 || (high == 0 && low == 0))
                        return NULL;
                out[n++] = (char) (high * 16 + low);
                s += 2;
        }
        out[n] = '\0';
        return TAKE_PTR(out);
}

static int take_parameter(struct part_head *h, const char *name, char **value,
                          const char **ret_problem)
{
        if (strcasecmp(name, "name") == 0) {
                if (h->name)
                        return refuse(ret_problem, "a part has two names");
                h->name = TAKE_PTR(*value);
                return 0;
        }
        bool extended = strcasecmp(name, "filename*") == 0;
        if (!extended && strcasecmp(name, "filename") != 0)
                return 0;
        if (h->filename && h->filename_extended == extended)
                return refuse(ret_problem, "a part has two filenames");
        if (h->filename && h->filename_extended)
                return 0;
        cleanup_free char *text = extended ? extended_value(*value) : TAKE_PTR(*value);
        if (!text)
                return refuse(ret_problem, "a part's filename* is not percent-encoded UTF-8");
        free(h->filename);
        h->filename = TAKE_PTR(text);
        h->filename_extended = extended;
        return 0;
}

static int read_disposition(struct part_head *h, const char *value, const char **ret_problem)
{
        if (h->disposition)
                return refuse(ret_problem, "a part has two Content-Disposition lines");
        h->disposition = true;
        if (strncasecmp(value, "form-data", 9) != 0)
                return refuse(ret_problem, "a part's Content-Disposition is not form-data");
        value += 9;

        for (;;) {
                cleanup_free char *name = NULL, *text = NULL;
                int r = header_parameter(&value, &name, &text);
                if (r < 0)
                        return refuse(ret_problem, "a part's Content-Disposition is malformed");
                if (r == 0)
                        break;
                r = take_parameter(h, name, &text, ret_problem);
                if (r < 0)
                        return r;
        }
        if (h->name &&
            (strempty(h->name) || strlen(h->name) > NAME_MAX_BYTES || has_control(h->name)))
                return refuse(ret_problem,
                              "a part's name must be 1 to 200 bytes without control characters");
        if (h->filename &&
            (!utf8_valid(h->filename, strlen(h->filename)) || has_control(h->filename)))
                return refuse(ret_problem,
                              "a part's filename must be UTF-8 without control characters");
        return 0;
}

static int read_type(struct part_head *h, const char *value, const char **ret_problem)
{
        if (h->content_type)
                return refuse(ret_problem, "a part has two Content-Type lines");
        for (const char *p = value; *p; p++)
                if (*p < 0x20 || *p > 0x7e)
                        return refuse(ret_problem, "a part's Content-Type must be printable ASCII");
        h->content_type = xstrdup(value);
        return 0;
}

static int read_encoding(struct part_head *h, const char *value, const char **ret_problem)
{
        if (h->encoding)
                return refuse(ret_problem, "a part has two Content-Transfer-Encoding lines");
        h->encoding = true;
        if (strcasecmp(value, "binary") != 0 && strcasecmp(value, "8bit") != 0 &&
            strcasecmp(value, "7bit") != 0)
                return refuse(ret_problem,
                              "a part's Content-Transfer-Encoding must be binary, 8bit or 7bit");
        return 0;
}

int part_head_line(struct part_head *h, struct span line, const char **ret_problem)
{
        if (++h->lines > LINES_MAX) {
                *ret_problem = "a part has too many header lines";
                return -EMSGSIZE;
        }
        if (!utf8_valid(line.data, line.len))
                return refuse(ret_problem, "a part's header is not valid UTF-8");
        cleanup_free char *text = span_dup(line);

        char *colon = text;
        while (is_token_char(*colon))
                colon++;
        if (colon == text || *colon != ':')
                return refuse(ret_problem, "a part's header line is malformed");
        *colon = '\0';
        char *value = strstrip(colon + 1);
        for (char *p = value; *p; p++)
                if (((unsigned char) *p < 0x20 && *p != '\t') || *p == 0x7f)
                        return refuse(ret_problem, "a part's header has a control character");

        if (strcasecmp(text, "Content-Disposition") == 0)
                return read_disposition(h, value, ret_problem);
        if (strcasecmp(text, "Content-Type") == 0)
                return read_type(h, value, ret_problem);
        if (strcasecmp(text, "Content-Transfer-Encoding") == 0)
                return read_encoding(h, value, ret_problem);
        return 0;
}

int part_head_complete(const struct part_head *h, const char **ret_problem)
{
        if (!h->disposition)
                return refuse(ret_problem, "a part has no Content-Disposition line");
        if (!h->name)
                return refuse(ret_problem, "a part has no name");
        return 0;
}

void part_head_done(struct part_head *h)
{
        free(h->name);
        free(h->filename);
        free(h->content_type);
        *h = (struct part_head){ 0 };
}
