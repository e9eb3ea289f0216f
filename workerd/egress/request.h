/* The head of a request to the proxy: what is asked for, and what the origin gets to see of it.
 *
 * Strict on purpose (RFC 9112): a client that is read differently by us and by the origin could
 * reach a host that was never judged. */
#pragma once

#include "common/base/buf.h"
#include "common/base/netpolicy.h"

#define REQUEST_HEAD_MAX (16 * 1024)
#define REQUEST_FIELDS_MAX 100

enum body_kind { BODY_NONE, BODY_LENGTH, BODY_CHUNKED };

struct request {
        bool connect; /* a tunnel; else one HTTP exchange */
        char host[HOST_TEXT_MAX];
        enum host_kind kind;
        uint16_t port;
        char method[24];
        struct span
                target; /* path and query, "/" when empty; borrowed from the head; not of CONNECT */
        enum body_kind body;
        uint64_t body_bytes; /* of BODY_LENGTH */
};

/* Length of the head at the front of `data` with its empty line, 0 when it is not complete yet. */
size_t request_head_length(const char *data, size_t n);

/* Reads a complete head. -EINVAL, with *ret_why a borrowed sentence for the client. */
int request_parse(struct span head, struct request *ret, const char **ret_why) mustuse;

/* A field that Berth adds, in place of the client's own of that name. */
struct request_field {
        const char *name, *value;
};
/* The head as the origin gets it: origin form, our Host, one exchange per connection, no fields
 * that speak to a proxy. added may be NULL. -EMSGSIZE when `out` is at its limit. */
int request_rewrite(struct span head, const struct request *r, const struct request_field *added,
                    struct buf *out) mustuse;

/* How far a body has come; says which bytes belong to it. */
struct body {
        enum body_kind kind;
        uint64_t left; /* of the length or of this chunk */
        enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_LF, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER } at;
        unsigned digits, line; /* of this size; of this line */
        bool last, done;
};
void body_begin(struct body *b, const struct request *r);
/* How many of the n bytes are the body's; fewer than n when it ends. -EINVAL: bad chunks. */
ssize_t body_take(struct body *b, const char *data, size_t n) mustuse;
