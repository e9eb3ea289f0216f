/* What docserverd asks of an object store: put, get, list, delete, and uploads in parts. */
#include "s3-private.h"

#include "blobs.h"
#include "s3-sign.h"
#include "s3-xml.h"

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

/* ---- lists ---- */

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
        s3_xml_objects(text, fn, userdata);
        cleanup_free char *more = s3_xml_text(text, "IsTruncated");
        if (streq(more, "true"))
                *token = s3_xml_text(text, "NextContinuationToken");
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
        char *upload = s3_xml_text(buf_head(&x.answer), "UploadId");
        if (!upload)
                return -EPROTO;
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
