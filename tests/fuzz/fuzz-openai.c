/* Any bytes as the stream of a chat completions server: no crash, bounded; what comes out whole is
 * a turn of the Messages form whose calls have ids and objects. */
#include "workerd/provider-openai.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_message(void *userdata, const char *event, struct span data)
{
        return openai_stream_event(userdata, data);
}

static void check(const json_t *content)
{
        const json_t *block;
        size_t i;

        if (!json_is_array(content) || json_array_size(content) > OPENAI_BLOCKS_MAX)
                abort();
        json_array_foreach (content, i, block) {
                const char *type = json_string_value(json_object_get(block, "type"));

                if (!type)
                        abort();
                if (streq(type, "tool_use") && (!json_is_string(json_object_get(block, "id")) ||
                                                !json_is_string(json_object_get(block, "name")) ||
                                                !json_is_object(json_object_get(block, "input"))))
                        abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct provider_events events = { 0 };
        struct openai_stream s;
        struct sse p;
        int r;

        openai_stream_init(&s, &events);
        sse_init(&p, 64 * KIB, on_message, &s);
        r = sse_feed(&p, (struct span){ (const char *) data, size });
        if (s.bytes > OPENAI_CONTENT_MAX || s.n_blocks > OPENAI_BLOCKS_MAX)
                abort();
        if (r == 0 && !s.failed) {
                json_t *bad = NULL, *content = openai_stream_content(&s, &bad);

                check(content);
                (void) openai_stop_reason(&s);
                json_decref(content);
                json_decref(bad);
        }
        sse_done(&p);
        openai_stream_free(&s);
        return 0;
}
