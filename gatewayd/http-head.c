/* Parser of HTTP/1.1 request heads: one pass over complete lines, no allocation, no second opinion.
 */
#include "gatewayd/http-head.h"

#include <sys/types.h>

static const char *const method_names[HTTP_METHOD_MAX] = {
        [HTTP_GET] = "GET",         [HTTP_HEAD] = "HEAD",   [HTTP_POST] = "POST",
        [HTTP_PUT] = "PUT",         [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE",
        [HTTP_OPTIONS] = "OPTIONS",
};

const char *http_method_name(enum http_method m)
{
        return m < HTTP_METHOD_MAX ? method_names[m] : "?";
}

static int refuse(struct http_refusal *refusal, int status, const char *code, const char *message)
{
        *refusal = (struct http_refusal){ .status = status, .code = code, .message = message };
        return -EBADMSG;
}

static int bad(struct http_refusal *refusal, const char *message)
{
        return refuse(refusal, 400, "bad_request", message);
}

static char lower(char c)
{
        return c >= 'A' && c <= 'Z' ? (char) (c + ('a' - 'A')) : c;
}

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
        return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z');
}

bool http_is_token_char(char c)
{
        return is_alnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static struct span trim(struct span s)
{
        while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
                s = (struct span){ s.data + 1, s.len - 1 };
        while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
                s.len--;
        return s;
}

static bool span_eq_lower(struct span s, const char *text)
{
        size_t i = 0;

        for (; i < s.len && text[i]; i++)
                if (lower(s.data[i]) != text[i])
                        return false;
        return i == s.len && !text[i];
}

bool http_name_eq(struct span name, const char *text)
{
        return span_eq_lower(name, text);
}

const struct http_header *http_head_find(const struct http_head *h, const char *name)
{
        for (size_t i = 0; i < h->n_headers; i++)
                if (span_eq_lower(h->headers[i].name, name))
                        return &h->headers[i];
        return NULL;
}

bool http_head_has_token(const struct http_head *h, const char *name, const char *token)
{
        for (size_t i = 0; i < h->n_headers; i++) {
                if (!span_eq_lower(h->headers[i].name, name))
                        continue;
                struct span rest = h->headers[i].value;
                while (rest.len > 0) {
                        const char *comma = memchr(rest.data, ',', rest.len);
                        size_t n = comma ? (size_t) (comma - rest.data) : rest.len;
                        if (span_eq_lower(trim((struct span){ rest.data, n }), token))
                                return true;
                        if (!comma)
                                break;
                        rest = (struct span){ comma + 1, rest.len - n - 1 };
                }
        }
        return false;
}

/* Finds the line that starts at data[at]. Returns its length without CRLF; -EAGAIN when it is not
 * complete; -EBADMSG for a bare CR or LF or a control byte. */
static ssize_t find_line(const char *data, size_t n, size_t at, struct http_refusal *refusal)
{
        for (size_t i = at; i < n; i++) {
                unsigned char c = (unsigned char) data[i];

                if (c == '\r') {
                        if (i + 1 == n)
                                return -EAGAIN;
                        if (data[i + 1] != '\n')
                                return bad(refusal,
                                           "The request head contains a bare carriage return.");
                        return (ssize_t) (i - at);
                }
                if (c == '\n')
                        return bad(refusal,
                                   "The request head contains a line that does not end in CR LF.");
                if ((c < 0x20 && c != '\t') || c == 0x7f)
                        return bad(refusal, "The request head contains a control character.");
        }
        return -EAGAIN;
}

static bool valid_host(struct span host)
{
        size_t i = 0;

        if (host.len == 0 || host.len > 255)
                return false;
        if (host.data[0] == '[') {
                for (i = 1; i < host.len && host.data[i] != ']'; i++)
                        if (!is_alnum(host.data[i]) && host.data[i] != ':' && host.data[i] != '.')
                                return false;
                if (i == host.len || i == 1)
                        return false;
                i++;
        } else {
                while (i < host.len && (is_alnum(host.data[i]) || strchr("-._", host.data[i])))
                        i++;
                if (i == 0)
                        return false;
        }
        if (i == host.len)
                return true;
        if (host.data[i++] != ':')
                return false;
        if (host.len - i < 1 || host.len - i > 5)
                return false;
        unsigned port = 0;
        for (; i < host.len; i++) {
                if (!is_digit(host.data[i]))
                        return false;
                port = port * 10 + (unsigned) (host.data[i] - '0');
        }
        return port >= 1 && port <= 65535;
}

/* Splits an origin-form or absolute-form target. */
static int parse_target(struct http_head *h, struct span *ret_authority,
                        struct http_refusal *refusal)
{
        struct span t = h->target;

        for (size_t i = 0; i < t.len; i++) {
                unsigned char c = (unsigned char) t.data[i];
                if (c <= 0x20 || c >= 0x7f || strchr("\"#<>\\", c))
                        return bad(refusal, "The request target contains a character that must be "
                                            "percent-encoded.");
        }
        *ret_authority = (struct span){ 0 };
        size_t scheme = t.len >= 7 && span_eq_lower((struct span){ t.data, 7 }, "http://")    ? 7
                        : t.len >= 8 && span_eq_lower((struct span){ t.data, 8 }, "https://") ? 8
                                                                                              : 0;
        if (scheme > 0) {
                size_t end = scheme;
                while (end < t.len && t.data[end] != '/' && t.data[end] != '?')
                        end++;
                *ret_authority = (struct span){ t.data + scheme, end - scheme };
                t = (struct span){ t.data + end, t.len - end };
                if (!valid_host(*ret_authority))
                        return bad(refusal, "The request target names no valid host.");
        }
        if (t.len == 0 || t.data[0] != '/')
                return bad(refusal, "The request target must be a path that begins with '/'.");
        const char *mark = memchr(t.data, '?', t.len);
        h->path = (struct span){ t.data, mark ? (size_t) (mark - t.data) : t.len };
        if (mark)
                h->query = (struct span){ mark + 1, t.len - h->path.len - 1 };
        return 0;
}

static int parse_method(struct span s, enum http_method *ret, struct http_refusal *refusal)
{
        for (int m = 0; m < HTTP_METHOD_MAX; m++)
                if (span_eq(s, method_names[m])) {
                        *ret = (enum http_method) m;
                        return 0;
                }
        for (size_t i = 0; i < s.len; i++)
                if (s.data[i] < 'A' || s.data[i] > 'Z')
                        return bad(refusal, "The request method is not a word in capital letters.");
        if (s.len == 0 || s.len > 20 || span_eq(s, "PRI"))
                return bad(refusal, "This is not an HTTP/1.1 request.");
        return refuse(refusal, 405, "method_not_allowed", "This request method is not known here.");
}

static int parse_request_line(struct span line, struct http_head *h, struct span *ret_authority,
                              struct http_refusal *refusal)
{
        const char *end = line.data + line.len;
        const char *sp1 = memchr(line.data, ' ', line.len);

        if (!sp1)
                return bad(refusal, "The request line must read: METHOD target HTTP/1.1");
        const char *sp2 = memchr(sp1 + 1, ' ', (size_t) (end - sp1 - 1));
        if (!sp2)
                return bad(refusal, "The request line must end in HTTP/1.1.");
        struct span version = { sp2 + 1, (size_t) (end - sp2 - 1) };
        if (span_eq(version, "HTTP/1.1"))
                h->minor = 1;
        else if (span_eq(version, "HTTP/1.0"))
                h->minor = 0;
        else
                return bad(refusal, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
        int r = parse_method((struct span){ line.data, (size_t) (sp1 - line.data) }, &h->method,
                             refusal);
        if (r < 0)
                return r;
        h->target = (struct span){ sp1 + 1, (size_t) (sp2 - sp1 - 1) };
        if (h->target.len > HTTP_TARGET_MAX)
                return refuse(refusal, 414, "uri_too_long",
                              "The request target is longer than 8192 bytes.");
        return parse_target(h, ret_authority, refusal);
}

static int parse_header(struct span line, struct http_head *h, struct http_refusal *refusal)
{
        size_t i = 0;

        if (line.data[0] == ' ' || line.data[0] == '\t')
                return bad(refusal, "A header is folded over several lines.");
        while (i < line.len && http_is_token_char(line.data[i]))
                i++;
        if (i == line.len)
                return bad(refusal, "A header line has no colon.");
        if (i == 0)
                return bad(refusal, "A header has no name.");
        if (line.data[i] != ':')
                return bad(refusal,
                           "A header name contains a character that is not allowed there.");
        if (h->n_headers == HTTP_HEADERS_MAX)
                return refuse(refusal, 431, "too_many_headers",
                              "The request has more than 100 headers.");
        h->headers[h->n_headers++] = (struct http_header){
                .name = { line.data, i },
                .value = trim((struct span){ line.data + i + 1, line.len - i - 1 }),
        };
        return 0;
}

static int parse_length(struct span v, uint64_t *ret)
{
        uint64_t x = 0;

        if (v.len == 0 || v.len > 18 || (v.len > 1 && v.data[0] == '0'))
                return -EINVAL;
        for (size_t i = 0; i < v.len; i++) {
                if (!is_digit(v.data[i]))
                        return -EINVAL;
                x = x * 10 + (uint64_t) (v.data[i] - '0');
        }
        *ret = x;
        return 0;
}

static int one_framing_header(struct http_head *h, const struct http_header *f,
                              struct http_refusal *refusal)
{
        if (span_eq_lower(f->name, "content-length")) {
                if (h->has_length)
                        return bad(refusal, "The request has more than one Content-Length.");
                if (parse_length(f->value, &h->length) < 0)
                        return bad(refusal, "Content-Length must be one plain decimal number.");
                h->has_length = true;
        } else if (span_eq_lower(f->name, "transfer-encoding")) {
                if (h->chunked)
                        return bad(refusal, "The request has more than one Transfer-Encoding.");
                if (h->minor == 0)
                        return bad(refusal, "HTTP/1.0 has no Transfer-Encoding.");
                if (!span_eq_lower(f->value, "chunked"))
                        return bad(refusal,
                                   "The only Transfer-Encoding understood here is chunked.");
                h->chunked = true;
        } else if (span_eq_lower(f->name, "host")) {
                if (h->host.data)
                        return bad(refusal, "The request has more than one Host header.");
                if (!valid_host(f->value))
                        return bad(refusal,
                                   "The Host header must be a host name with an optional port.");
                h->host = f->value;
        } else if (span_eq_lower(f->name, "expect")) {
                if (!span_eq_lower(f->value, "100-continue"))
                        return refuse(refusal, 417, "expectation_failed",
                                      "The only expectation understood here is 100-continue.");
                h->expect_continue = h->minor == 1;
        }
        return 0;
}

static int check_framing(struct http_head *h, struct span authority, struct http_refusal *refusal)
{
        for (size_t i = 0; i < h->n_headers; i++) {
                int r = one_framing_header(h, &h->headers[i], refusal);
                if (r < 0)
                        return r;
        }
        if (h->chunked && h->has_length)
                return bad(refusal, "The request has both Content-Length and Transfer-Encoding.");
        if (!h->host.data && h->minor == 1)
                return bad(refusal, "The request has no Host header.");
        if (authority.data && h->host.data) {
                if (authority.len != h->host.len)
                        return bad(refusal, "The request target and the Host header differ.");
                for (size_t i = 0; i < authority.len; i++)
                        if (lower(authority.data[i]) != lower(h->host.data[i]))
                                return bad(refusal,
                                           "The request target and the Host header differ.");
        }
        h->keep_alive = h->minor == 1 ? !http_head_has_token(h, "connection", "close")
                                      : http_head_has_token(h, "connection", "keep-alive") &&
                                                !http_head_has_token(h, "connection", "close");
        h->upgrade = h->minor == 1 && http_head_has_token(h, "connection", "upgrade") &&
                     http_head_find(h, "upgrade");
        return 0;
}

ssize_t http_head_parse(const char *data, size_t n, struct http_head *ret,
                        struct http_refusal *refusal)
{
        struct span authority = { 0 };
        size_t at = 0, limit = MIN(n, HTTP_HEAD_MAX);

        *ret = (struct http_head){ 0 };
        /* One empty line before the request is tolerated, as RFC 9112 2.2 asks. */
        if (n >= 1 && data[0] == '\r') {
                if (n == 1)
                        return -EAGAIN;
                if (data[1] != '\n')
                        return bad(refusal, "The request head contains a bare carriage return.");
                at = 2;
        }
        if (at < n && (data[at] < 'A' || data[at] > 'Z'))
                return bad(refusal, "This is not an HTTP/1.1 request.");
        for (bool first = true;; first = false) {
                ssize_t len = find_line(data, limit, at, refusal);
                if (len == -EAGAIN && first && limit - at > HTTP_TARGET_MAX + 32)
                        return refuse(refusal, 414, "uri_too_long",
                                      "The request target is longer than 8192 bytes.");
                if (len == -EAGAIN && n >= HTTP_HEAD_MAX)
                        return refuse(refusal, 431, "headers_too_large",
                                      "The request head is larger than 16384 bytes.");
                if (len < 0)
                        return len;
                struct span line = { data + at, (size_t) len };
                at += (size_t) len + 2;
                int r = 0;
                if (first)
                        r = parse_request_line(line, ret, &authority, refusal);
                else if (line.len == 0)
                        break;
                else
                        r = parse_header(line, ret, refusal);
                if (r < 0)
                        return r;
        }
        int r = check_framing(ret, authority, refusal);
        return r < 0 ? r : (ssize_t) at;
}

static int hex_value(char c)
{
        if (is_digit(c))
                return c - '0';
        c = lower(c);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undoes percent escapes once. Returns the length or -EINVAL. */
static ssize_t unescape(struct span s, bool plus, char *out)
{
        size_t n = 0;

        for (size_t i = 0; i < s.len; i++) {
                char c = s.data[i];
                if (c == '%') {
                        int hi = i + 2 < s.len ? hex_value(s.data[i + 1]) : -1;
                        int lo = i + 2 < s.len ? hex_value(s.data[i + 2]) : -1;
                        if (hi < 0 || lo < 0)
                                return -EINVAL;
                        c = (char) (hi << 4 | lo);
                        i += 2;
                } else if (c == '+' && plus)
                        c = ' ';
                out[n++] = c;
        }
        out[n] = '\0';
        return utf8_valid(out, n) ? (ssize_t) n : -EINVAL;
}

int http_path_decode(struct span s, char *out)
{
        if (s.len == 0 || s.data[0] != '/')
                return -EINVAL;
        for (size_t i = 0; i + 2 < s.len; i++)
                if (s.data[i] == '%' && ((s.data[i + 1] == '2' && lower(s.data[i + 2]) == 'f') ||
                                         (s.data[i + 1] == '5' && lower(s.data[i + 2]) == 'c')))
                        return -EINVAL;
        ssize_t n = unescape(s, false, out);
        if (n < 0)
                return -EINVAL;
        for (ssize_t i = 0; i < n; i++)
                if ((unsigned char) out[i] < 0x20 || out[i] == 0x7f || out[i] == '\\')
                        return -EINVAL;
        for (char *p = out; *p;) {
                char *end = strchrnul(p + 1, '/');
                size_t len = (size_t) (end - p - 1);
                bool last = !*end;
                if ((len == 0 && !last) || (len == 1 && p[1] == '.') ||
                    (len == 2 && p[1] == '.' && p[2] == '.'))
                        return -EINVAL;
                p = end;
        }
        return 0;
}

int http_query_decode(struct span s, char *out)
{
        ssize_t n = unescape(s, true, out);

        return n < 0 ? -EINVAL : 0;
}
