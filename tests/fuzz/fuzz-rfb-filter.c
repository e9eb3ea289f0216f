/* Any bytes from a viewer: no crash, and what passes without control never holds a key, pointer or
 * clipboard message: it passes a second filter unchanged. */
#include "gatewayd/rfb-filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(const char *in, size_t n, size_t piece, struct buf *out)
{
        struct rfb_filter f;
        const char *why = NULL;
        int r = 0;

        rfb_filter_init(&f);
        for (size_t at = 0; at < n && r == 0; at += piece)
                r = rfb_filter_feed(&f, in + at, MIN(piece, n - at), out, &why);
        return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
        const char *data = (const char *) bytes;
        const size_t pieces[] = { 1, 3, 17 };
        cleanup_buf struct buf whole = BUF_INIT, again = BUF_INIT;
        int r = run(data, size, size + 1, &whole);

        if (whole.len > size)
                abort();
        if (whole.len > 0 &&
            (run(whole.data, whole.len, whole.len, &again) < 0 || again.len != whole.len ||
             memcmp(again.data, whole.data, whole.len) != 0))
                abort();
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                cleanup_buf struct buf cut = BUF_INIT;
                if (run(data, size, pieces[i], &cut) != r || cut.len != whole.len ||
                    (cut.len > 0 && memcmp(cut.data, whole.data, cut.len) != 0))
                        abort();
        }
        return 0;
}
