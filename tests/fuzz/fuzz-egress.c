/* What slots send to the egress proxy: request heads with their bodies, and TLS hellos. */
#include <assert.h>

#include "workerd/egress/hello.h"
#include "workerd/egress/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        const char *text = (const char *) data, *why;
        char name[HOST_TEXT_MAX];
        struct request r;
        struct body b;
        cleanup_buf struct buf out = BUF_LIMIT(64 * 1024);
        (void) !hello_name(text, n, name);
        size_t length = request_head_length(text, MIN(n, (size_t) REQUEST_HEAD_MAX));
        if (length == 0 || request_parse((struct span){ text, length }, &r, &why) < 0)
                return 0;
        assert(r.host[0] && (r.connect || r.port > 0));
        if (r.connect)
                return 0;
        int e = request_rewrite((struct span){ text, length }, &r, NULL, &out);
        /* What the origin gets reads as one head, of the same framing. */
        if (e == 0)
                assert(request_head_length(buf_head(&out), out.len) == out.len);
        body_begin(&b, &r);
        ssize_t own = body_take(&b, text + length, n - length);
        assert(own < 0 || (size_t) own <= n - length);
        return 0;
}
