/* Any bytes as an object store's answer, and any name as an object's key: what is found lies within
 * the answer, and a key that was escaped comes back as it was. */
#include "common/base/buf.h"
#include "docserverd/s3-xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(what)                                                                                 \
        do {                                                                                       \
                if (!(what))                                                                       \
                        abort();                                                                   \
        } while (0)

struct seen {
        size_t n, bytes;
        char *key; /* the last one */
        uint64_t modified_us;
};

static void on_object(void *userdata, const char *key, uint64_t modified_us)
{
        struct seen *s = userdata;

        s->n++;
        s->bytes += strlen(key);
        s->modified_us = modified_us;
        free(s->key);
        s->key = xstrdup(key);
}

static void check_answer(const char *xml, size_t size)
{
        static const char *const names[] = { "Key",      "IsTruncated", "NextContinuationToken",
                                             "UploadId", "Code",        "Message" };
        struct seen s = { 0 };

        s3_xml_objects(xml, on_object, &s);
        MUST(s.bytes <= size && s.n * strlen("<Contents><Key></Key></Contents>") <= size);
        MUST(s.modified_us == UINT64_MAX || s.modified_us % USEC_PER_SEC == 0);
        free(s.key);
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                cleanup_free char *text = s3_xml_text(xml, names[i]);
                MUST(!text || strlen(text) + 2 * strlen(names[i]) + 5 <= size);
        }
}

static void put_escaped(struct buf *b, const char *key)
{
        for (const char *p = key; *p; p++)
                switch (*p) {
                case '&':
                        buf_puts(b, "&amp;");
                        break;
                case '<':
                        buf_puts(b, "&lt;");
                        break;
                case '>':
                        buf_puts(b, "&#62;");
                        break;
                case '\r':
                        buf_puts(b, "&#xD;");
                        break;
                default:
                        buf_put(b, p, 1);
                }
}

static void check_key(const char *key)
{
        cleanup_buf struct buf b = BUF_INIT;
        struct seen s = { 0 };

        buf_puts(&b, "<ListBucketResult><Contents><Key>");
        put_escaped(&b, key);
        buf_puts(&b, "</Key><LastModified>2026-11-20T10:00:00.000Z</LastModified></Contents></L>");
        s3_xml_objects(b.data, on_object, &s);
        MUST(s.n == 1 && streq(s.key, key));
        MUST(s.modified_us == UINT64_C(1795168800) * USEC_PER_SEC);
        free(s.key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        cleanup_free char *text = xmalloc(size + 1);

        memcpy(text, data, size);
        text[size] = '\0';
        check_answer(text, size);
        check_key(text);
        return 0;
}
