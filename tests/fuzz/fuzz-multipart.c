/* Any bytes as a multipart body: no crash, and where the body is cut on its way changes nothing. */
#include "common/base/buf.h"
#include "gatewayd/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_part(void *userdata, const struct multipart_part *part)
{
        buf_putf(userdata, "%zu %s|%s|%s:", strlen(part->name), part->name,
                 part->filename ? part->filename : "-",
                 part->content_type ? part->content_type : "-");
        return 0;
}

static int on_data(void *userdata, struct span data)
{
        buf_put(userdata, data.data, data.len);
        return 0;
}

static int on_part_end(void *userdata)
{
        buf_puts(userdata, "\n");
        return 0;
}

static int parse(const char *data, size_t n, size_t piece, const char *boundary, struct buf *out)
{
        struct multipart_config c = {
                .boundary = boundary,
                .on_part = on_part,
                .on_data = on_data,
                .on_part_end = on_part_end,
                .userdata = out,
        };
        cleanup_multipart struct multipart *m = multipart_new(&c);
        for (size_t i = 0; i < n; i += piece) {
                int r = multipart_feed(m, (struct span){ data + i, MIN(piece, n - i) });
                if (r < 0)
                        return r;
        }
        return multipart_finish(m);
}

/* A first line that is a Content-Type gives the boundary, else it is XX. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
        const char *data = (const char *) bytes;
        char boundary[MULTIPART_BOUNDARY_MAX + 1] = "XX";
        const char *end = size > 0 ? memchr(data, '\n', size) : NULL;
        if (end) {
                cleanup_free char *line = xstrndup(data, (size_t) (end - data));
                if (multipart_boundary(line, boundary) == 0) {
                        size -= (size_t) (end + 1 - data);
                        data = end + 1;
                }
        }

        cleanup_buf struct buf whole = BUF_INIT;
        int want = parse(data, size, size + 1, boundary, &whole);
        const size_t pieces[] = { 1, 2, 3, 7, 64 };
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                cleanup_buf struct buf cut = BUF_INIT;
                if (parse(data, size, pieces[i], boundary, &cut) != want)
                        abort();
                if (want == 0 && (cut.len != whole.len ||
                                  (cut.len && memcmp(cut.data, whole.data, cut.len) != 0)))
                        abort();
        }
        return 0;
}
