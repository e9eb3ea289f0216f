/* Decoding of chunked request bodies: pure, byte-exact, bounded; fuzzed. Its user counts the data.
 */
#pragma once

#include "common/base/util.h"

#define HTTP_CHUNK_LINE_MAX 256u /* bytes of a chunk's size line, extensions included */
#define HTTP_TRAILER_MAX 4096u   /* bytes of all trailers, which are checked and thrown away */

struct http_chunked {
        int state;
        uint64_t left; /* of the chunk's data */
        unsigned digits;
        size_t line; /* bytes of the size line or of the trailers so far */
};

void http_chunked_init(struct http_chunked *c);
/* Reads from data; call again with what was not used. *ret_used is always set; *ret_data is a piece
 * of body within data, or empty. 0 = go on (all was used, or there was data); 1 = the body is
 * whole, what follows belongs to the next request; -EBADMSG = broken, with a sentence in *ret_why.
 */
int http_chunked_feed(struct http_chunked *c, const char *data, size_t n, size_t *ret_used,
                      struct span *ret_data, const char **ret_why) mustuse;
