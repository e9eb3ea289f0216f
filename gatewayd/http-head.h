/* Reading the head of an HTTP/1.1 request: strict, pure (no I/O, no allocation), fuzzed.
 *
 * Accepts exactly what RFC 9112 lets a careful server accept and refuses everything about which two
 * implementations could disagree: bare LF, obs-fold, white space before a colon, several or unequal
 * Content-Length, Transfer-Encoding other than one "chunked", both of them together, a missing or
 * doubled Host, control bytes, absolute or authority targets of another kind, dot segments, encoded
 * slashes. */
#pragma once

#include "common/base/util.h"

#define HTTP_HEAD_MAX 16384u /* bytes of request line and headers */
#define HTTP_HEADERS_MAX 100u
#define HTTP_TARGET_MAX 8192u
#define HTTP_QUERY_MAX 32u /* parameters in the query */

enum http_method {
        HTTP_GET,
        HTTP_HEAD,
        HTTP_POST,
        HTTP_PUT,
        HTTP_PATCH,
        HTTP_DELETE,
        HTTP_OPTIONS,
        HTTP_METHOD_MAX,
};
const char *http_method_name(enum http_method m);

struct http_header {
        struct span name;  /* as sent; compare with http_name_eq */
        struct span value; /* without surrounding white space */
};

struct http_head {
        enum http_method method;
        int minor; /* HTTP/1.minor: 0 or 1 */
        struct span target;
        struct span path;  /* of the target, still encoded, begins with '/' */
        struct span query; /* after '?', still encoded; data NULL without one */
        struct span host;
        struct http_header headers[HTTP_HEADERS_MAX];
        size_t n_headers;
        bool keep_alive; /* by version and Connection */
        bool chunked;
        bool has_length;
        bool expect_continue;
        bool upgrade;    /* Connection names upgrade and there is an Upgrade header */
        uint64_t length; /* Content-Length */
};

struct http_refusal {
        int status;       /* 400 413 414 417 431 501 505 */
        const char *code; /* error.code */
        const char *message;
};

/* Returns the length of the head (blank line included) with *ret filled; its spans point into data.
 * -EAGAIN: not complete yet. -EBADMSG: refused for the reason in *refusal; the connection must end.
 * Refuses as early as it can: call it again after each read. */
ssize_t http_head_parse(const char *data, size_t n, struct http_head *ret,
                        struct http_refusal *refusal) mustuse;

bool http_is_token_char(char c);
bool http_name_eq(struct span name, const char *lower); /* case-insensitive, ASCII */
/* First header of that name (lower case), or NULL. */
const struct http_header *http_head_find(const struct http_head *h, const char *lower);
/* True when one of the comma-separated tokens of all headers of that name equals token (lower
 * case). */
bool http_head_has_token(const struct http_head *h, const char *lower, const char *token);

/* Decodes a path: percent escapes once, then refuses NUL and control bytes, invalid UTF-8, encoded
 * slashes, back slashes, empty, "." and ".." segments (a trailing slash is fine). out takes s.len +
 * 1 bytes. -EINVAL. */
int http_path_decode(struct span s, char *out) mustuse;
/* Decodes one name or value of a query ('+' is a space); out takes s.len + 1 bytes. -EINVAL for bad
 * escapes, NUL, invalid UTF-8. */
int http_query_decode(struct span s, char *out) mustuse;
