/* Any bytes as a model's event stream: no crash, bounded, and where the stream is cut on its way
 * changes nothing. What the events say goes through the decoder of the Messages API. */
#include "common/base/buf.h"
#include "workerd/provider-anthropic.h"
#include "workerd/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_event(void *userdata, const char *event, struct span data)
{
        buf_putf(userdata, "[%s|%zu|", event, data.len);
        buf_put(userdata, data.data, data.len);
        buf_puts(userdata, "]");
        return 0;
}

static int on_message(void *userdata, const char *event, struct span data)
{
        return anthropic_stream_event(userdata, data);
}

static int parse(const char *data, size_t n, size_t piece, struct buf *out)
{
        struct sse p;
        int r = 0;

        sse_init(&p, 64 * KIB, on_event, out);
        for (size_t i = 0; i < n && r == 0; i += piece)
                r = sse_feed(&p, (struct span){ data + i, MIN(piece, n - i) });
        sse_done(&p);
        return r;
}

static void decode(const char *data, size_t n)
{
        struct provider_events events = { 0 };
        struct anthropic_stream s;
        struct sse p;

        anthropic_stream_init(&s, &events);
        sse_init(&p, 64 * KIB, on_message, &s);
        if (sse_feed(&p, (struct span){ data, n }) == 0) {
                json_t *bad = NULL, *content = anthropic_stream_content(&s, &bad);

                json_decref(content);
                json_decref(bad);
        }
        sse_done(&p);
        anthropic_stream_done(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *) data;
        cleanup_buf struct buf whole = BUF_INIT, bytes = BUF_INIT, pieces = BUF_INIT;
        int r = parse(text, size, size > 0 ? size : 1, &whole);

        if (parse(text, size, 1, &bytes) != r || parse(text, size, 7, &pieces) != r ||
            whole.len != bytes.len || whole.len != pieces.len ||
            (whole.len > 0 && (memcmp(whole.data, bytes.data, whole.len) != 0 ||
                               memcmp(whole.data, pieces.data, whole.len) != 0)))
                abort();
        decode(text, size);
        return 0;
}
