/* Reads the head of a request to the proxy, writes the one the origin gets, follows the body. */
#include "request.h"

#include <strings.h>

struct field {
        struct span name, value;
};

static bool is_token(char c)
{
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool name_is(struct span s, const char *name)
{
        return s.len == strlen(name) && strncasecmp(s.data, name, s.len) == 0;
}

size_t request_head_length(const char *data, size_t n)
{
        const char *end = memmem(data, n, "\r\n\r\n", 4);
        return end ? (size_t) (end - data) + 4 : 0;
}

/* Takes the next line off the head; false at its empty line. */
static bool next_line(struct span *head, struct span *ret)
{
        const char *end = memmem(head->data, head->len, "\r\n", 2);
        if (!end || end == head->data)
                return false;
        *ret = (struct span){ head->data, (size_t) (end - head->data) };
        head->len -= ret->len + 2;
        head->data = end + 2;
        return true;
}

static int read_field(struct span line, struct field *ret)
{
        const char *colon = memchr(line.data, ':', line.len);
        if (!colon || colon == line.data)
                return -EINVAL;
        struct span name = { line.data, (size_t) (colon - line.data) };
        struct span value = { colon + 1, line.len - name.len - 1 };
        for (size_t i = 0; i < name.len; i++)
                if (!is_token(name.data[i]))
                        return -EINVAL;
        while (value.len && (*value.data == ' ' || *value.data == '\t')) {
                value.data++;
                value.len--;
        }
        while (value.len && strchr(" \t", value.data[value.len - 1]) &&
               value.data[value.len - 1] != '\0')
                value.len--;
        for (size_t i = 0; i < value.len; i++) {
                unsigned char c = (unsigned char) value.data[i];
                if ((c < ' ' && c != '\t') || c == 0x7f)
                        return -EINVAL;
        }
        *ret = (struct field){ name, value };
        return 0;
}

static int read_target(struct request *r, struct span target, const char **ret_why)
{
        static const char scheme[] = "http://";
        struct span host;
        size_t len = target.len;
        for (size_t i = 0; i < target.len; i++)
                if (target.data[i] <= ' ' || target.data[i] >= 0x7f) {
                        *ret_why = "the address holds bytes that are not printable ASCII";
                        return -EINVAL;
                }
        if (!r->connect) {
                if (len <= strlen(scheme) ||
                    strncasecmp(target.data, scheme, strlen(scheme)) != 0) {
                        *ret_why = "this is a proxy: ask for http://host/path, or CONNECT "
                                   "host:port for https";
                        return -EINVAL;
                }
                target.data += strlen(scheme);
                target.len -= strlen(scheme);
                for (len = 0; len < target.len && !strchr("/?#", target.data[len]); len++)
                        ;
        }
        *ret_why =
                "the host is not a plain name: letters, digits and hyphens, with an optional port";
        if (host_split((struct span){ target.data, len }, &host, &r->port) < 0 ||
            host_normalise(host, r->host, &r->kind) < 0)
                return -EINVAL;
        if (r->connect) {
                *ret_why = "CONNECT needs host:port";
                return r->port == 0 ? -EINVAL : 0;
        }
        r->port = r->port ? r->port : 80;
        r->target = (struct span){ target.data + len, target.len - len };
        *ret_why = "the address has a fragment, which is not sent to servers";
        if (memchr(r->target.data, '#', r->target.len))
                return -EINVAL;
        return 0;
}

static int read_request_line(struct span line, struct request *r, const char **ret_why)
{
        const char *space = memchr(line.data, ' ', line.len);
        *ret_why = "the request line is not METHOD TARGET HTTP/1.1";
        if (!space || space == line.data || (size_t) (space - line.data) >= sizeof(r->method))
                return -EINVAL;
        size_t method = (size_t) (space - line.data);
        for (size_t i = 0; i < method; i++)
                if (!is_token(line.data[i]))
                        return -EINVAL;
        memcpy(r->method, line.data, method);
        struct span rest = { space + 1, line.len - method - 1 };
        if (rest.len < 10 || (memcmp(rest.data + rest.len - 9, " HTTP/1.1", 9) != 0 &&
                              memcmp(rest.data + rest.len - 9, " HTTP/1.0", 9) != 0))
                return -EINVAL;
        r->connect = streq(r->method, "CONNECT");
        rest.len -= 9;
        return read_target(r, rest, ret_why);
}

static int read_length(struct span text, uint64_t *ret)
{
        char number[20];
        if (text.len == 0 || text.len >= sizeof(number))
                return -EINVAL;
        memcpy(number, text.data, text.len);
        number[text.len] = '\0';
        return parse_u64(number, ret);
}

static int read_framing(struct request *r, const struct field *f, const char **ret_why)
{
        if (name_is(f->name, "Content-Length")) {
                *ret_why =
                        "Content-Length must be one number and the only word on the body's length";
                if (r->body != BODY_NONE || read_length(f->value, &r->body_bytes) < 0)
                        return -EINVAL;
                r->body = BODY_LENGTH;
        } else if (name_is(f->name, "Transfer-Encoding")) {
                *ret_why =
                        "Transfer-Encoding must be chunked and the only word on the body's length";
                if (r->body != BODY_NONE || !name_is(f->value, "chunked"))
                        return -EINVAL;
                r->body = BODY_CHUNKED;
        }
        return 0;
}

int request_parse(struct span head, struct request *ret, const char **ret_why)
{
        struct request r = { 0 };
        struct span line;
        struct field f;
        *ret_why = "the request line is missing";
        if (!next_line(&head, &line))
                return -EINVAL;
        int e = read_request_line(line, &r, ret_why);
        for (unsigned n = 0; e == 0 && next_line(&head, &line); n++) {
                *ret_why = "a header field is malformed, or there are too many";
                if (n >= REQUEST_FIELDS_MAX || read_field(line, &f) < 0)
                        return -EINVAL;
                e = read_framing(&r, &f, ret_why);
        }
        *ret_why = e < 0 ? *ret_why : "CONNECT has no body";
        if (e == 0 && r.connect && r.body != BODY_NONE)
                return -EINVAL;
        if (e == 0)
                *ret = r;
        return e;
}

/* Fields that end at a proxy (RFC 9110 7.6.1), and those that are ours to say. */
static bool stays_here(struct span name)
{
        static const char *const names[] = { "Connection", "Proxy-Connection",
                                             "Keep-Alive", "Proxy-Authorization",
                                             "TE",         "Upgrade",
                                             "Host" };
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (name_is(name, names[i]))
                        return true;
        return false;
}

int request_rewrite(struct span head, const struct request *r, const struct request_field *added,
                    struct buf *out)
{
        struct span line;
        struct field f;
        bool v6 = r->kind == HOST_IPV6;
        int e = buf_printf(out, "%s %s" SPAN_FMT " HTTP/1.1\r\nHost: %s%s%s", r->method,
                           r->target.len && r->target.data[0] == '/' ? "" : "/",
                           SPAN_ARG(r->target), v6 ? "[" : "", r->host, v6 ? "]" : "");
        if (e == 0 && r->port != 80)
                e = buf_printf(out, ":%u", r->port);
        if (e == 0)
                e = buf_printf(out, "\r\nConnection: close\r\n");
        (void) next_line(&head, &line); /* the request line */
        while (e == 0 && next_line(&head, &line)) {
                if (read_field(line, &f) < 0 || stays_here(f.name) ||
                    (added && name_is(f.name, added->name)))
                        continue;
                e = buf_append(out, line.data, line.len);
                if (e == 0)
                        e = buf_append(out, "\r\n", 2);
        }
        if (e == 0 && added)
                e = buf_printf(out, "%s: %s\r\n", added->name, added->value);
        return e < 0 ? e : buf_append(out, "\r\n", 2);
}

/* --- body ------------------------------------------------------------------------------------- */

void body_begin(struct body *b, const struct request *r)
{
        *b = (struct body){ .kind = r->body,
                            .left = r->body == BODY_LENGTH ? r->body_bytes : 0,
                            .done = r->body == BODY_NONE ||
                                    (r->body == BODY_LENGTH && r->body_bytes == 0) };
}

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c = (char) (c | 0x20);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of what stands between the chunks (RFC 9112 7.1). */
static int step(struct body *b, char c)
{
        if (++b->line > REQUEST_HEAD_MAX)
                return -EINVAL;
        switch (b->at) {
        case CHUNK_SIZE:
                if (hex_value(c) >= 0) {
                        if (++b->digits > 15)
                                return -EINVAL;
                        b->left = b->left * 16 + (uint64_t) hex_value(c);
                        return 0;
                }
                if (b->digits == 0 || (c != ';' && c != '\r'))
                        return -EINVAL;
                b->at = c == ';' ? CHUNK_EXTENSION : CHUNK_LF;
                return 0;
        case CHUNK_EXTENSION:
                if (c == '\n')
                        return -EINVAL;
                b->at = c == '\r' ? CHUNK_LF : CHUNK_EXTENSION;
                return 0;
        case CHUNK_LF:
                if (c != '\n')
                        return -EINVAL;
                b->last = b->left == 0;
                b->at = b->last ? CHUNK_TRAILER : CHUNK_DATA;
                b->digits = b->line = 0;
                return 0;
        case CHUNK_END:
                if (c != (b->digits ? '\n' : '\r'))
                        return -EINVAL;
                b->at = b->digits ? CHUNK_SIZE : CHUNK_END;
                b->digits = !b->digits;
                b->line = 0;
                return 0;
        case CHUNK_TRAILER:
                /* digits counts the bytes of the line; an empty one ends all. */
                if (c == '\n') {
                        b->done = b->digits == 0;
                        b->digits = 0;
                } else if (c != '\r')
                        b->digits++;
                return 0;
        case CHUNK_DATA:
                break;
        }
        return 0;
}

ssize_t body_take(struct body *b, const char *data, size_t n)
{
        size_t used = 0;
        while (used < n && !b->done) {
                if (b->kind == BODY_LENGTH || b->at == CHUNK_DATA) {
                        size_t part = (size_t) MIN(b->left, (uint64_t) (n - used));
                        used += part;
                        b->left -= part;
                        if (b->left == 0 && b->kind == BODY_LENGTH)
                                b->done = true;
                        else if (b->left == 0) {
                                b->at = CHUNK_END;
                                b->digits = 0;
                        }
                        continue;
                }
                int r = step(b, data[used]);
                if (r < 0)
                        return r;
                used++;
        }
        return (ssize_t) used;
}
