/* Shared by s3.c (one exchange with the store) and s3-object.c (what is asked of it). */
#pragma once

#include "common/base/buf.h"
#include "s3.h"

/* One exchange. Exactly one of body and fd is sent, or nothing; the answer goes to `answer`, or to
 * `out_fd` when it is one of 2xx. */
struct s3_exchange {
        const char *method, *key;
        const char *query; /* see s3_to_sign */
        struct span body;
        int fd; /* -1 = none */
        uint64_t offset, length;
        const char *checksum; /* of what is sent; NULL: of `body` */

        int out_fd; /* -1 = none */
        uint64_t first, out_length;

        /* Out. */
        long status;
        struct buf answer; /* held to ANSWER_MAX */
        char etag[S3_ETAG_MAX];
        uint64_t content_length, modified_us;

        /* While it runs. */
        struct s3 *s3;
        uint64_t sent, got;
        int failure;
        bool timed_out;
        bool quiet; /* its failure is no news */
};
static inline struct s3_exchange s3_exchange_of(const char *method, const char *key)
{
        return (struct s3_exchange){
                .method = method, .key = key, .query = "", .fd = -1, .out_fd = -1
        };
}
/* Tries again what passes. 0: the answer was 2xx. */
int s3_exchange(struct s3 *s, struct s3_exchange *x) mustuse;
void s3_exchange_done(struct s3_exchange *x);
#define cleanup_exchange CLEANUP(s3_exchange_done)
