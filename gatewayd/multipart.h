/* Strict streaming parser of multipart/form-data (RFC 7578): bytes in, parts out; no I/O, no global
 * state.
 *
 * Part heads are collected (bounded), part data goes to the callback as it arrives, borrowed from
 * the bytes just fed (or from the parser, for bytes that looked like the start of a delimiter).
 * What RFC 7578 does not allow is refused: a preamble or epilogue, bare CR or LF in a head, folded
 * lines, a part without name, a transfer encoding that changes bytes, text that is not UTF-8, a
 * body without closing delimiter. Names are not judged here beyond that: whoever stores a filename
 * must check it. */
#pragma once

#include "common/base/util.h"

#define MULTIPART_BOUNDARY_MAX 70

struct multipart;

struct multipart_part {
        const char *name;     /* valid UTF-8, 1 to 200 bytes, no control characters */
        const char *filename; /* NULL: a plain field. "" when a browser sent an empty file input */
        const char *content_type; /* NULL: none given; printable ASCII */
};

struct multipart_config {
        const char *boundary; /* from multipart_boundary() */
        size_t parts_max;     /* more than this: -E2BIG; 0 = 1000 */
        /* Each may refuse with a negative errno, which ends the parser and is handed to the feeder.
         * `part` is borrowed until the next on_part. */
        int (*on_part)(void *userdata, const struct multipart_part *part);
        int (*on_data)(void *userdata, struct span data);
        int (*on_part_end)(void *userdata);
        void *userdata;
};

/* The boundary of a Content-Type header's value: -EPROTONOSUPPORT when it is another type, -EINVAL
 * when it has no valid boundary. */
int multipart_boundary(const char *content_type,
                       char ret[static MULTIPART_BOUNDARY_MAX + 1]) mustuse;

struct multipart *multipart_new(const struct multipart_config *c) mustuse;
struct multipart *multipart_free(struct multipart *m);
DEFINE_CLEANUP(struct multipart, multipart_free)
#define cleanup_multipart CLEANUP(multipart_freep)

/* 0; -EBADMSG (malformed), -E2BIG (too many parts), -EMSGSIZE (a head too large), or what a
 * callback said. After a failure every further call gives the same. */
int multipart_feed(struct multipart *m, struct span data) mustuse;
/* The body has ended: 0 when the closing delimiter was seen, else -EBADMSG. */
int multipart_finish(struct multipart *m) mustuse;
/* One sentence on the failure of the parser itself, "" without one or when a callback refused. */
const char *multipart_problem(const struct multipart *m);
