/* A client of S3-compatible object stores: path-style addresses, signed requests. Every call waits
 * for the network: for worker threads only, any number of them at once. Bodies go from and to
 * files, memory stays flat. What passes (5xx, a cut connection) is tried three times within a
 * second.
 *
 * Results: 0; -ENOENT no such object; -EACCES the store refuses the credentials; -EHOSTUNREACH not
 * reached, cut, or out of order: later it may do; -ECANCELED s3_stop was called; -EPROTO anything
 * else it said; or what reading or writing the file gave. s3_problem tells more. */
#pragma once

#include "common/base/util.h"

struct s3;
struct s3_config {
        const char *endpoint; /* http[s]://host[:port][/path] */
        const char *bucket, *region;
        const char *access_key, *secret_key;
        const char *ca_file; /* PEM of the authorities to trust; "" = the system's */
};
/* -EINVAL: *ret_error says which part of the configuration is wrong (caller frees). Asks nothing of
 * the store. */
int s3_new(const struct s3_config *c, struct s3 **ret, char **ret_error) mustuse;
struct s3 *s3_free(struct s3 *s); /* when no call is running */
DEFINE_CLEANUP(struct s3, s3_free)
void s3_stop(struct s3 *s); /* calls end soon, with -ECANCELED; from any thread */
/* What the store last said when it failed, for the log; "" when nothing. The caller frees. */
char *s3_problem(struct s3 *s) mustuse;

/* Length bytes of fd at `offset` become the object. checksum: their SHA-256, which the store
 * compares. */
int s3_put(struct s3 *s, const char *key, int fd, uint64_t offset, uint64_t length,
           const char *checksum) mustuse;
/* modified: realtime in us, 0 when the store does not say. */
int s3_head(struct s3 *s, const char *key, uint64_t *ret_size, uint64_t *ret_modified_us) mustuse;
/* Bytes first .. first+length-1 of the object to the same place of fd. Fewer: -EHOSTUNREACH. */
int s3_get(struct s3 *s, const char *key, uint64_t first, uint64_t length, int fd) mustuse;
int s3_delete(struct s3 *s, const char *key) mustuse; /* 0 also when it is not there */

/* A page of the objects below the prefix. *token: NULL for the first page; afterwards what to give
 * for the next one, NULL after the last (always freed and set here). Keys are as the store says. */
typedef void (*s3_object_fn)(void *userdata, const char *key, uint64_t modified_us);
int s3_list(struct s3 *s, const char *prefix, char **token, s3_object_fn fn,
            void *userdata) mustuse;

/* Large objects in parts of at least 5 MiB (but the last), numbered from 1, at most 10 000. */
#define S3_ETAG_MAX 129
int s3_parts_begin(struct s3 *s, const char *key, char **ret_upload) mustuse;
int s3_parts_put(struct s3 *s, const char *key, const char *upload, unsigned number, int fd,
                 uint64_t offset, uint64_t length, char etag[static S3_ETAG_MAX]) mustuse;
int s3_parts_finish(struct s3 *s, const char *key, const char *upload,
                    const char (*etags)[S3_ETAG_MAX], unsigned n) mustuse;
int s3_parts_abort(struct s3 *s, const char *key, const char *upload) mustuse;
