/* Conditions and ranges of requests for bytes (RFC 9110 13 and 14): pure. ETags are checksums in
 * quotes, always strong. */
#pragma once

#include "common/base/util.h"

/* If-None-Match: is the tag named, or "*"? Weak ones count. */
bool etag_listed(const char *header, const char *tag);
/* If-Match: the tag of the only member, without quotes, in tag_out. 1 = one tag, 0 = "*" or no
 * header (anything matches), -EINVAL = not a tag, -ENOTSUP = several or a weak one (which never
 * matches). */
int etag_single(const char *header, char *tag_out, size_t size) mustuse;

enum range_result {
        RANGE_WHOLE, /* no range, or one that is to be ignored: several, another unit, malformed */
        RANGE_PART,  /* *ret_first and *ret_length are set */
        RANGE_OUTSIDE, /* 416 */
};
enum range_result range_parse(const char *header, uint64_t size, uint64_t *ret_first,
                              uint64_t *ret_length);

/* attachment; filename="..."; filename*=UTF-8''... (RFC 6266) for any filename; the caller frees.
 */
char *content_disposition(const char *filename) mustuse;
