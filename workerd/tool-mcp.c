/* Tools of the blueprint's MCP servers, named mcp__SERVER__TOOL. */
#include "mcp.h"
#include "tool.h"
#include "utf8.h"

#define PICTURE_MAX (4 * MIB)

static bool is_png(const unsigned char *data, size_t n)
{
        return n > 24 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0 &&
               memcmp(data + 12, "IHDR", 4) == 0;
}

static uint32_t big_endian(const unsigned char *p)
{
        return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

/* The first PNG becomes the result's picture; others are named. */
static void take_image(struct tool_result *result, struct buf *text, const json_t *block)
{
        const json_t *data = json_object_get(block, "data");
        const char *type = json_string_value(json_object_get(block, "mimeType"));
        void *bytes = NULL;
        size_t n = 0;

        if (json_is_string(data) && json_string_length(data) <= PICTURE_MAX / 3 * 4 &&
            base64_decode(json_string_value(data), json_string_length(data), &bytes, &n) == 0 &&
            !result->picture && is_png(bytes, n) &&
            big_endian((unsigned char *) bytes + 16) <= 8000 &&
            big_endian((unsigned char *) bytes + 20) <= 8000) {
                result->picture_width = big_endian((unsigned char *) bytes + 16);
                result->picture_height = big_endian((unsigned char *) bytes + 20);
                result->picture = bytes;
                result->picture_size = n;
                return;
        }
        free(bytes);
        buf_putf(text, "[an image (%.60s) that is not shown: only the first PNG is]\n",
                 type ? type : "unknown");
}

static void put_text(struct buf *to, const char *text)
{
        if (to->len < 8 * TOOL_OUTPUT_MAX && text)
                buf_putf(to, "%s\n", text);
}

static void take_block(struct tool_result *result, struct buf *text, const json_t *block)
{
        const char *type = json_string_value(json_object_get(block, "type"));
        const json_t *resource = json_object_get(block, "resource");

        if (streq(type, "text"))
                put_text(text, json_string_value(json_object_get(block, "text")));
        else if (streq(type, "image"))
                take_image(result, text, block);
        else if (streq(type, "resource") && json_string_value(json_object_get(resource, "text")))
                put_text(text, json_string_value(json_object_get(resource, "text")));
        else if (streq(type, "resource") || streq(type, "resource_link"))
                buf_putf(text, "[resource %.300s]\n",
                         json_string_value(json_object_get(resource ? resource : block, "uri"))
                                 ? json_string_value(
                                           json_object_get(resource ? resource : block, "uri"))
                                 : "without a name");
        else
                buf_putf(text, "[content of type %.60s that is not shown]\n",
                         type ? type : "unknown");
}

static void on_progress(void *userdata, struct span text)
{
        struct tool_run *run = userdata;
        struct tool_host *h = run->host;

        if (h->on_output)
                h->on_output(h->userdata, run->call_id, 1, text);
}

static void on_done(void *userdata, int r, const json_t *answer, const char *why)
{
        struct tool_run *run = userdata;
        struct tool_result result = { 0 };
        cleanup_buf struct buf text = BUF_INIT;
        cleanup_free char *structured = NULL;
        const json_t *block, *more = json_object_get(answer, "structuredContent");
        size_t i;

        run->state = NULL;
        if (r < 0) {
                tool_finish_error(run, "The MCP server gave no result: %s%s", why,
                                  r == -ECONNRESET || r == -ETIMEDOUT
                                          ? " Whether the call had an effect is not known."
                                          : "");
                return;
        }
        json_array_foreach (json_object_get(answer, "content"), i, block)
                take_block(&result, &text, block);
        if (text.len == 0 && more) {
                structured = json_text(more);
                put_text(&text, structured);
        }
        if (text.len == 0 && !result.picture)
                buf_puts(&text, "(no content)\n");
        char *clean = utf8_clip(text.data ? text.data : "", text.len > 0 ? text.len - 1 : 0,
                                TOOL_OUTPUT_MAX);
        if (json_is_true(json_object_get(answer, "isError"))) {
                result.error = clean;
        } else {
                result.content = *clean ? json_pack("[{s:s,s:s}]", "type", "text", "text", clean)
                                        : json_array();
                free(clean);
        }
        tool_finish(run, &result);
}

static void mcp_start(struct tool_run *run)
{
        struct mcp_call *call = NULL;
        int r = mcp_call(run->host->mcp, run->name, run->input,
                         &(struct mcp_events){
                                 .on_progress = on_progress, .on_done = on_done, .userdata = run },
                         &call);

        run->state = call;
        if (r == -ENOENT)
                tool_finish_error(run, "No MCP server offers %s now.", run->name);
        else if (r < 0)
                tool_finish_error(run, "The MCP server could not be called (%s).", strerror(-r));
}

static void mcp_stop(struct tool_run *run, bool timeout)
{
        struct mcp_call *call = run->state;

        run->state = NULL;
        if (call)
                mcp_cancel(call);
}

static bool mcp_present(const struct tool_host *h)
{
        return h->mcp;
}

static bool mcp_matches(const char *name, const char *toolset)
{
        return str_starts(name, MCP_PREFIX);
}

static size_t mcp_list(const struct tool_host *h, struct provider_tool *out, size_t max)
{
        return mcp_tools(h->mcp, out, max);
}

const struct tool tool_mcp = {
        .spec = { .name = "mcp", .description = "", .schema = "{}" },
        .limit_usec = 1800 * USEC_PER_SEC,
        .present = mcp_present,
        .matches = mcp_matches,
        .list = mcp_list,
        .start = mcp_start,
        .stop = mcp_stop,
};
