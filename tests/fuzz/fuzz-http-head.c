/* Any bytes as the head of a request: no crash, spans within the input, the same verdict byte by
 * byte. */
#include "gatewayd/http-head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct span s, const char *data, size_t n)
{
        if (s.data && (s.data < data || s.len > n || (size_t) (s.data - data) > n - s.len))
                abort();
}

static void check_head(const struct http_head *h, const char *data, size_t n)
{
        inside(h->target, data, n);
        inside(h->path, data, n);
        inside(h->query, data, n);
        inside(h->host, data, n);
        if (h->n_headers > HTTP_HEADERS_MAX || n > HTTP_HEAD_MAX || (h->chunked && h->has_length))
                abort();
        for (size_t i = 0; i < h->n_headers; i++) {
                inside(h->headers[i].name, data, n);
                inside(h->headers[i].value, data, n);
                if (h->headers[i].name.len == 0)
                        abort();
        }
        cleanup_free char *path = xmalloc(h->path.len + 1);
        cleanup_free char *query = xmalloc(h->query.len + 1);
        if (http_path_decode(h->path, path) == 0 && (path[0] != '/' || strstr(path, "/../")))
                abort();
        if (http_query_decode(h->query, query) == 0 && strlen(query) > h->query.len)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
        const char *data = (const char *) bytes;
        struct http_head whole, part;
        struct http_refusal why;
        ssize_t r = http_head_parse(data, size, &whole, &why), s = -EAGAIN;

        if (r > 0)
                check_head(&whole, data, (size_t) r);
        if (size > 2048)
                return 0;
        for (size_t n = 0; n <= size && s == -EAGAIN; n++)
                s = http_head_parse(data, n, &part, &why);
        if (s != r)
                abort();
        return 0;
}
