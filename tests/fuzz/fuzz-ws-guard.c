/* Any bytes as frames of a WebSocket client: no crash, nothing invented, the same verdict however
 * it is cut. */
#include "common/base/buf.h"
#include "gatewayd/ws-guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(const char *in, size_t n, size_t piece, struct buf *out)
{
        struct ws_guard g;
        size_t at = 0;

        ws_guard_init(&g, 4096);
        while (at < n) {
                struct ws_piece p;
                struct ws_problem why = { 0 };
                size_t used = 0, give = MIN(piece, n - at);
                if (ws_guard_feed(&g, in + at, give, &used, &p, &why) < 0)
                        return why.code ? why.code : (abort(), 0);
                if (used == 0 || used > give || p.payload.len > give)
                        abort();
                if (p.head.len)
                        buf_put(out, p.head.data, p.head.len);
                if (p.payload.len)
                        buf_put(out, p.payload.data, p.payload.len);
                at += used;
        }
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
        const char *data = (const char *) bytes;
        const size_t pieces[] = { 1, 2, 5, 13 };
        cleanup_buf struct buf whole = BUF_INIT;
        int code = run(data, size, size + 1, &whole);

        if (whole.len > size || (whole.len > 0 && memcmp(whole.data, data, whole.len) != 0))
                abort();
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                cleanup_buf struct buf cut = BUF_INIT;
                if (run(data, size, pieces[i], &cut) != code)
                        abort();
        }
        return 0;
}
