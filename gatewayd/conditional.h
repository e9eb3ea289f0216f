/* Conditions and ranges of requests for bytes (RFC 9110 13 and 14): pure. ETags are checksums in
 * quotes, always strong. */
#pragma once

#include <time.h>

#include "common/base/util.h"

/* If-None-Match: is the tag named, or "*"? Weak ones count. */
bool etag_listed(const char *header, const char *tag);
/* If-Match: the tag of the only member, without quotes, in tag_out. 1 = one tag, 0 = "*" or no
 * header (anything matches), -EINVAL = not a tag, -ENOTSUP = several or a weak one (which never
 * matches). */
int etag_single(const char *header, char *tag_out, size_t size) mustuse;

#define DATE_TEXT_MAX 30 /* Sun, 06 Nov 1994 08:49:37 GMT */
void date_text(time_t t, char out[static DATE_TEXT_MAX]);
/* That form only: the older ones have not been sent for decades, and a date that is not understood
 * is as good as none. */
int date_parse(const char *s, time_t *ret) mustuse;

struct conditions { /* headers, NULL = not given */
        const char *if_match, *if_unmodified_since, *if_none_match, *if_modified_since, *if_range;
};
enum condition_result {
        CONDITION_GO,
        CONDITION_NOT_MODIFIED, /* 304 */
        CONDITION_FAILED,       /* 412 */
};
/* In the order of RFC 9110 13.2.2; a date counts where the tag that goes before it is not given. */
enum condition_result conditions_check(const struct conditions *c, const char *tag,
                                       time_t modified);
/* If-Range: may a range be sent? A date counts when the bytes are older than `now` by more than the
 * second that dates can tell apart. */
bool range_allowed(const struct conditions *c, const char *tag, time_t modified, time_t now);

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
