/* Signature Version 4 of requests to S3-compatible stores: pure. Signed are the host, the date and
 * the checksum of the body. */
#pragma once

#include "common/base/util.h"

#define S3_DATE_MAX 17 /* 20130524T000000Z */

struct s3_to_sign {
        const char *method, *host;
        const char *path;    /* encoded, begins with '/' */
        const char *query;   /* encoded, sorted by name, every name with '='; "" = none */
        const char *payload; /* SHA-256 of the body in hex */
        const char *region, *access_key, *secret_key;
        uint64_t time_us; /* realtime */
};
/* The value of Authorization; date gets the value of x-amz-date. The caller frees. */
char *s3_sign(const struct s3_to_sign *t, char date[static S3_DATE_MAX]) mustuse;

/* Percent-encodes all but letters, digits and -._~ (and '/', when `slash`). The caller frees. */
char *s3_encode(const char *s, bool slash) mustuse;
