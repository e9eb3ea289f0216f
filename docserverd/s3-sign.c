/* Signs requests to S3-compatible stores (Signature Version 4). */
#include "s3-sign.h"

#include <time.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/base/buf.h"

#define HEADERS "host;x-amz-content-sha256;x-amz-date"
#define MAC_SIZE 32u

static void mac(const void *key, size_t n, const char *text, unsigned char out[static MAC_SIZE])
{
        unsigned int len = 0;
        if (!HMAC(EVP_sha256(), key, (int) n, (const unsigned char *) text, strlen(text), out,
                  &len) ||
            len != MAC_SIZE)
                abort(); /* no memory */
}

static void sign_text(const struct s3_to_sign *t, const char *day, const char *text,
                      char ret[static SHA256_HEX])
{
        cleanup_free char *first = xasprintf("AWS4%s", t->secret_key);
        unsigned char key[MAC_SIZE], next[MAC_SIZE];
        mac(first, strlen(first), day, key);
        mac(key, sizeof(key), t->region, next);
        mac(next, sizeof(next), "s3", key);
        mac(key, sizeof(key), "aws4_request", next);
        mac(next, sizeof(next), text, key);
        hex_encode(key, sizeof(key), ret);
        explicit_bzero(first, strlen(first));
        explicit_bzero(key, sizeof(key));
        explicit_bzero(next, sizeof(next));
}

char *s3_sign(const struct s3_to_sign *t, char date[static S3_DATE_MAX])
{
        char day[9], digest[SHA256_HEX], signature[SHA256_HEX];
        time_t seconds = (time_t) (t->time_us / USEC_PER_SEC);
        struct tm tm = { 0 };
        (void) gmtime_r(&seconds, &tm);
        (void) strftime(date, S3_DATE_MAX, "%Y%m%dT%H%M%SZ", &tm);
        (void) strftime(day, sizeof(day), "%Y%m%d", &tm);

        cleanup_free char *request = xasprintf(
                "%s\n%s\n%s\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n" HEADERS "\n%s",
                t->method, t->path, t->query, t->host, t->payload, date, t->payload);
        sha256_hex(request, strlen(request), digest);
        cleanup_free char *scope = xasprintf("%s/%s/s3/aws4_request", day, t->region);
        cleanup_free char *text = xasprintf("AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, digest);
        sign_text(t, day, text, signature);
        return xasprintf("AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=" HEADERS ",Signature=%s",
                         t->access_key, scope, signature);
}

char *s3_encode(const char *s, bool slash)
{
        cleanup_buf struct buf b = BUF_INIT;
        buf_puts(&b, "");
        for (const unsigned char *p = (const unsigned char *) s; *p; p++) {
                bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                             (*p >= '0' && *p <= '9') || strchr("-._~", *p) || (slash && *p == '/');
                buf_putf(&b, plain ? "%c" : "%%%02X", *p);
        }
        return buf_take(&b, NULL);
}
