/* Any bytes as a chunked body: no crash, no more data than input, the same result however it is
 * cut. */
#include "common/base/buf.h"
#include "gatewayd/http-body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int decode(const char *in, size_t n, size_t piece, struct buf *out, size_t *ret_at)
{
        struct http_chunked c;
        size_t at = 0;
        int r = 0;

        http_chunked_init(&c);
        while (at < n && r == 0) {
                size_t used = 0;
                struct span data;
                const char *why = NULL;
                r = http_chunked_feed(&c, in + at, MIN(piece, n - at), &used, &data, &why);
                if (used == 0 || (r < 0 && !why))
                        abort();
                if (data.len > 0)
                        buf_put(out, data.data, data.len);
                at += used;
        }
        *ret_at = at;
        return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
        const size_t pieces[] = { 1, 2, 3, 7, 64 };
        cleanup_buf struct buf whole = BUF_INIT;
        size_t at, cut_at;
        int r = decode((const char *) bytes, size, size + 1, &whole, &at);

        if (whole.len > size)
                abort();
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                cleanup_buf struct buf cut = BUF_INIT;
                int s = decode((const char *) bytes, size, pieces[i], &cut, &cut_at);
                if (r != s || at != cut_at || cut.len != whole.len ||
                    (cut.len > 0 && memcmp(cut.data, whole.data, cut.len) != 0))
                        abort();
        }
        return 0;
}
