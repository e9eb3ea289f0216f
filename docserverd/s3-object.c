/* What docserverd asks of an object store: put, get, list, delete, and uploads in parts. */
#include "s3-private.h"

#include <time.h>

#include "blobs.h"
#include "s3-sign.h"

int s3_put(struct s3 *s, const char *key, int fd, uint64_t offset, uint64_t length,
           const char *checksum)
{
        cleanup_exchange struct s3_exchange x = s3_exchange_of("PUT", key);
        x.offset = offset;
        x.length = length;
        x.checksum = checksum;
        if (length > 0)
                x.fd = fd;
        else
                x.body = (struct span){ "", 0 };
        return s3_exchange(s, &x);
}

int s3_head(struct s3 *s, const char *key, uint64_t *ret_size, uint64_t *ret_modified_us)
{
        cleanup_exchange struct s3_exchange x = s3_exchange_of("HEAD", key);
        int r = s3_exchange(s, &x);
        if (r < 0)
                return r;
        *ret_size = x.content_length;
        *ret_modified_us = x.modified_us;
        return 0;
}

int s3_get(struct s3 *s, const char *key, uint64_t first, uint64_t length, int fd)
{
        cleanup_exchange struct s3_exchange x = s3_exchange_of("GET", key);
        x.out_fd = fd;
        x.first = first;
        x.out_length = length;
        return length == 0 ? 0 : s3_exchange(s, &x);
}

int s3_delete(struct s3 *s, const char *key)
{
        cleanup_exchange struct s3_exchange x = s3_exchange_of("DELETE", key);
        int r = s3_exchange(s, &x);
        return r == -ENOENT ? 0 : r;
}

/* ---- the little XML there is ---- */

/* The text of the first <name> in `from`, its end in *ret_after. NULL: none. Nothing that is looked
 * for has attributes or elements inside. */
static char *element(const char *from, const char *name, const char **ret_after)
{
        char open[40], close[40];
        (void) snprintf(open, sizeof(open), "<%s>", name);
        (void) snprintf(close, sizeof(close), "</%s>", name);
        const char *start = strstr(from, open);
        const char *end = start ? strstr(start, close) : NULL;
        if (!end)
                return NULL;
        start += strlen(open);
        if (ret_after)
                *ret_after = end + strlen(close);
        return xstrndup(start, (size_t) (end - start));
}

/* In place. */
static void unescape(char *s)
{
        static const struct {
                const char *text;
                char c;
        } entities[] = { { "&amp;", '&' },
                         { "&lt;", '<' },
                         { "&gt;", '>' },
                         { "&quot;", '"' },
                         { "&apos;", '\'' } };
        char *to = s;
        while (*s) {
                size_t i = 0;
                while (i < ARRAY_LEN(entities) && !str_starts(s, entities[i].text))
                        i++;
                *to++ = i < ARRAY_LEN(entities) ? entities[i].c : *s;
                s += i < ARRAY_LEN(entities) ? strlen(entities[i].text) : 1;
        }
        *to = '\0';
}

/* The far future when it cannot be read: then nothing is taken for old. */
static uint64_t read_time(const char *text)
{
        struct tm tm = { 0 };
        if (!text || !strptime(text, "%Y-%m-%dT%H:%M:%S", &tm))
                return UINT64_MAX;
        time_t t = timegm(&tm);
        return t < 0 ? UINT64_MAX : (uint64_t) t * USEC_PER_SEC;
}

static void read_objects(const char *text, s3_object_fn fn, void *userdata)
{
        const char *at = text;
        while ((at = strstr(at, "<Contents>"))) {
                const char *end = strstr(at, "</Contents>");
                if (!end)
                        return;
                cleanup_free char *one = xstrndup(at, (size_t) (end - at));
                cleanup_free char *key = element(one, "Key", NULL);
                cleanup_free char *modified = element(one, "LastModified", NULL);
                if (key) {
                        unescape(key);
                        fn(userdata, key, read_time(modified));
                }
                at = end;
        }
}

int s3_list(struct s3 *s, const char *prefix, char **token, s3_object_fn fn, void *userdata)
{
        cleanup_free char *below = s3_encode(prefix, false);
        cleanup_free char *from = s3_encode(*token ? *token : "", false);
        cleanup_free char *query =
                *token ? xasprintf("continuation-token=%s&list-type=2&max-keys=1000&prefix=%s",
                                   from, below)
                       : xasprintf("list-type=2&max-keys=1000&prefix=%s", below);
        cleanup_exchange struct s3_exchange x = s3_exchange_of("GET", "");
        x.query = query;
        free(*token);
        *token = NULL;
        int r = s3_exchange(s, &x);
        if (r < 0)
                return r;
        const char *text = buf_head(&x.answer);
        read_objects(text, fn, userdata);
        cleanup_free char *more = element(text, "IsTruncated", NULL);
        if (streq(more, "true")) {
                *token = element(text, "NextContinuationToken", NULL);
                if (*token)
                        unescape(*token);
        }
        return 0;
}

/* ---- parts ---- */

int s3_parts_begin(struct s3 *s, const char *key, char **ret_upload)
{
        cleanup_exchange struct s3_exchange x = s3_exchange_of("POST", key);
        x.query = "uploads=";
        x.body = (struct span){ "", 0 };
        int r = s3_exchange(s, &x);
        if (r < 0)
                return r;
        char *upload = element(buf_head(&x.answer), "UploadId", NULL);
        if (!upload)
                return -EPROTO;
        unescape(upload);
        *ret_upload = upload;
        return 0;
}

static int checksum_of(int fd, uint64_t offset, uint64_t length, char ret[static SHA256_HEX])
{
        CLEANUP(blob_hash_freep) struct blob_hash *h = blob_hash_new();
        return blob_hash_range(h, fd, offset, length, ret);
}

int s3_parts_put(struct s3 *s, const char *key, const char *upload, unsigned number, int fd,
                 uint64_t offset, uint64_t length, char etag[static S3_ETAG_MAX])
{
        char checksum[SHA256_HEX];
        int r = checksum_of(fd, offset, length, checksum);
        if (r < 0)
                return r;
        cleanup_free char *id = s3_encode(upload, false);
        cleanup_free char *query = xasprintf("partNumber=%u&uploadId=%s", number, id);
        cleanup_exchange struct s3_exchange x = s3_exchange_of("PUT", key);
        x.query = query;
        x.offset = offset;
        x.length = length;
        x.checksum = checksum;
        x.fd = fd;
        r = s3_exchange(s, &x);
        if (r < 0)
                return r == -ENOENT ? -EPROTO : r;
        if (!x.etag[0] || strpbrk(x.etag, "<&>"))
                return -EPROTO;
        (void) snprintf(etag, S3_ETAG_MAX, "%s", x.etag);
        return 0;
}

int s3_parts_finish(struct s3 *s, const char *key, const char *upload,
                    const char (*etags)[S3_ETAG_MAX], unsigned n)
{
        cleanup_buf struct buf b = BUF_INIT;
        buf_puts(&b, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for (unsigned i = 0; i < n; i++)
                buf_putf(&b, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i + 1,
                         etags[i]);
        buf_puts(&b, "</CompleteMultipartUpload>");
        cleanup_free char *id = s3_encode(upload, false);
        cleanup_free char *query = xasprintf("uploadId=%s", id);
        cleanup_exchange struct s3_exchange x = s3_exchange_of("POST", key);
        x.query = query;
        x.body = (struct span){ b.data, b.len };
        int r = s3_exchange(s, &x);
        if (r < 0)
                return r == -ENOENT ? -EPROTO : r;
        /* 200 was said before the work began: a failure stands in the body. */
        return strstr(buf_head(&x.answer), "<Error>") ? -EHOSTUNREACH : 0;
}

int s3_parts_abort(struct s3 *s, const char *key, const char *upload)
{
        cleanup_free char *id = s3_encode(upload, false);
        cleanup_free char *query = xasprintf("uploadId=%s", id);
        cleanup_exchange struct s3_exchange x = s3_exchange_of("DELETE", key);
        x.quiet = true;
        x.query = query;
        int r = s3_exchange(s, &x);
        return r == -ENOENT ? 0 : r;
}
