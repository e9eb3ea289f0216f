/* Builds the request body of chat completions from the conversation in the Messages form. */
#include "provider-openai.h"

#define BODY_MAX (32 * MIB)
#define TEXT_OF(j, key) json_string_value(json_object_get((j), (key)))

static bool is_type(const json_t *block, const char *type)
{
        return streq(TEXT_OF(block, "type"), type);
}

static void put_string(struct buf *out, const char *s)
{
        buf_put_json_string(out, s, strlen(s));
}

static void put_json(struct buf *out, const json_t *j)
{
        cleanup_free char *text = json_text(j);

        buf_puts(out, text);
}

static void put_tools(struct buf *out, const struct provider_request *r)
{
        const char *separator = ",\"tools\":[";

        for (size_t i = 0; i < r->n_tools; i++) {
                const struct provider_tool *t = &r->tools[i];

                if (t->native == PROVIDER_NATIVE_COMPUTER && r->width == 0)
                        continue;
                buf_puts(out, separator);
                separator = ",";
                buf_puts(out, "{\"type\":\"function\",\"function\":{\"name\":");
                put_string(out, t->name);
                buf_puts(out, ",\"description\":");
                if (t->native == PROVIDER_NATIVE_COMPUTER) {
                        cleanup_free char *text = xasprintf(
                                "%s The screen is %" PRIu32 "x%" PRIu32
                                " pixels; coordinates are [x,y] in it, from the top left.",
                                t->description, r->width, r->height);

                        put_string(out, text);
                } else {
                        put_string(out, t->description);
                }
                buf_putf(out, ",\"parameters\":%s}}", t->schema);
        }
        if (streq(separator, ","))
                buf_puts(out, "]");
}

/* ---- the model's own turns ---- */

/* An action of the newest computer tool, as the one function that is offered here. */
static json_t *call_input(const json_t *block)
{
        json_t *input = json_object_get(block, "input"), *whole;

        if (!streq(TEXT_OF(block, "toolset_name"), "computer"))
                return json_is_object(input) ? json_incref(input) : json_object();
        whole = json_pack("{s:s}", "action", TEXT_OF(block, "name"));
        if (json_is_object(input))
                json_object_update_missing(whole, input);
        return whole;
}

static void put_call(struct buf *out, const json_t *block)
{
        cleanup_json json_t *input = call_input(block);
        cleanup_free char *text = json_text(input);

        buf_puts(out, "{\"id\":");
        put_json(out, json_object_get(block, "id"));
        buf_puts(out, ",\"type\":\"function\",\"function\":{\"name\":");
        put_string(out, streq(TEXT_OF(block, "toolset_name"), "computer") ? "computer"
                                                                          : TEXT_OF(block, "name"));
        buf_puts(out, ",\"arguments\":");
        put_string(out, text);
        buf_puts(out, "}}");
}

/* Thinking stays out: no server takes it back. */
static void put_assistant(struct buf *out, const json_t *content)
{
        cleanup_buf struct buf text = BUF_INIT;
        const char *separator = ",\"tool_calls\":[";
        const json_t *block;
        size_t i;

        json_array_foreach (content, i, block)
                if (is_type(block, "text"))
                        buf_putf(&text, "%s%s", buf_pending(&text) > 0 ? "\n" : "",
                                 TEXT_OF(block, "text"));
        buf_puts(out, "{\"role\":\"assistant\",\"content\":");
        buf_put_json_string(out, buf_head(&text), buf_pending(&text));
        json_array_foreach (content, i, block) {
                if (!is_type(block, "tool_use"))
                        continue;
                buf_puts(out, separator);
                separator = ",";
                put_call(out, block);
        }
        buf_puts(out, streq(separator, ",") ? "]}" : "}");
}

/* ---- what the model is told ---- */

/* Parts of one user message, opened with the first of them. */
struct parts {
        struct buf *out;
        const struct history *history;
        size_t n;
};

static void part_begin(struct parts *p)
{
        buf_puts(p->out, p->n++ == 0 ? ",{\"role\":\"user\",\"content\":[" : ",");
}

static void part_text(struct parts *p, const char *text)
{
        part_begin(p);
        buf_puts(p->out, "{\"type\":\"text\",\"text\":");
        put_string(p->out, text);
        buf_puts(p->out, "}");
}

static int part_image(struct parts *p, const json_t *block)
{
        const char *digest = TEXT_OF(block, "digest"), *url;
        const json_t *source = json_object_get(block, "source");
        const struct history_image *image = digest ? history_image(p->history, digest) : NULL;

        if (digest && !image)
                return -ENOENT;
        part_begin(p);
        buf_puts(p->out, "{\"type\":\"image_url\",\"image_url\":{\"url\":");
        if (image) {
                buf_putf(p->out, "\"data:%s;base64,", image->media_type);
                buf_put(p->out, image->base64, image->len);
                buf_puts(p->out, "\"}}");
                return 0;
        }
        url = TEXT_OF(source, "url");
        if (url) {
                put_string(p->out, url);
        } else {
                cleanup_free char *data = xasprintf(
                        "data:%s;base64,%s",
                        TEXT_OF(source, "media_type") ? TEXT_OF(source, "media_type") : "image/png",
                        TEXT_OF(source, "data") ? TEXT_OF(source, "data") : "");

                put_string(p->out, data);
        }
        buf_puts(p->out, "}}");
        return 0;
}

static void put_result(struct buf *out, const json_t *block)
{
        const json_t *content = json_object_get(block, "content"), *inner;
        cleanup_buf struct buf text = BUF_INIT;
        size_t i, pictures = 0;

        if (json_is_true(json_object_get(block, "is_error")))
                buf_puts(&text, "Error: ");
        if (json_is_string(content))
                buf_puts(&text, json_string_value(content));
        json_array_foreach (content, i, inner) {
                pictures += is_type(inner, "image");
                if (is_type(inner, "text"))
                        buf_putf(&text, "%s%s", buf_pending(&text) > 0 ? "\n" : "",
                                 TEXT_OF(inner, "text"));
        }
        if (pictures > 0)
                buf_putf(&text, "%s(The picture is in the next message.)",
                         buf_pending(&text) > 0 ? "\n" : "");
        if (buf_pending(&text) == 0)
                buf_puts(&text, "(no output)");
        buf_puts(out, ",{\"role\":\"tool\",\"tool_call_id\":");
        put_json(out, json_object_get(block, "tool_use_id"));
        buf_puts(out, ",\"content\":");
        buf_put_json_string(out, buf_head(&text), buf_pending(&text));
        buf_puts(out, "}");
}

/* Pictures do not fit into answers of tools: they follow behind all of them. */
static int result_pictures(struct parts *p, const json_t *block)
{
        const json_t *inner;
        bool named = false;
        size_t i;

        json_array_foreach (json_object_get(block, "content"), i, inner) {
                int r;

                if (!is_type(inner, "image"))
                        continue;
                if (!named) {
                        cleanup_free char *text = xasprintf("Picture of tool call %s:",
                                                            TEXT_OF(block, "tool_use_id"));

                        part_text(p, text);
                        named = true;
                }
                r = part_image(p, inner);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int put_user(struct buf *out, const struct provider_request *r, const json_t *content)
{
        struct parts p = { .out = out, .history = r->history };
        const json_t *block;
        size_t i;
        int e = 0;

        json_array_foreach (content, i, block)
                if (is_type(block, "tool_result"))
                        put_result(out, block);
        json_array_foreach (content, i, block) {
                if (is_type(block, "tool_result"))
                        e = result_pictures(&p, block);
                else if (is_type(block, "image"))
                        e = part_image(&p, block);
                else if (is_type(block, "text"))
                        part_text(&p, TEXT_OF(block, "text"));
                else
                        part_text(&p, "(Something that this model cannot be shown was left out.)");
                if (e < 0)
                        return e;
        }
        if (p.n > 0)
                buf_puts(out, "]}");
        return 0;
}

/* A message of one text is sent as a plain string: small servers know nothing else. */
static bool put_plain_user(struct buf *out, const json_t *content)
{
        const json_t *only = json_array_get(content, 0);

        if (json_array_size(content) != 1 || !is_type(only, "text"))
                return false;
        buf_puts(out, ",{\"role\":\"user\",\"content\":");
        put_json(out, json_object_get(only, "text"));
        buf_puts(out, "}");
        return true;
}

static int put_messages(struct buf *out, const struct provider_request *r)
{
        const json_t *turn;
        size_t i;

        buf_puts(out, ",\"messages\":[{\"role\":\"system\",\"content\":");
        put_string(out, strempty(r->system) ? "You are a helpful assistant." : r->system);
        buf_puts(out, "}");
        json_array_foreach (r->conversation, i, turn) {
                const json_t *content = json_object_get(turn, "content");
                int e = 0;

                if (streq(TEXT_OF(turn, "role"), "assistant")) {
                        buf_puts(out, ",");
                        put_assistant(out, content);
                } else if (!put_plain_user(out, content)) {
                        e = put_user(out, r, content);
                }
                if (e < 0)
                        return e;
        }
        buf_puts(out, "]");
        return 0;
}

/* Reasoning models of the cloud refuse the older name, small servers know only that. */
static bool newer_limit(const char *model)
{
        return str_starts(model, "o1") || str_starts(model, "o3") || str_starts(model, "o4") ||
               str_starts(model, "gpt-5");
}

int openai_body(struct buf *out, const struct provider_request *r, unsigned quirks)
{
        bool newer = newer_limit(r->model) != ((quirks & OPENAI_QUIRK_OTHER_LIMIT) != 0);
        int e;

        buf_puts(out, "{\"model\":");
        put_string(out, r->model);
        buf_putf(out, ",\"%s\":%" PRIu64 ",\"stream\":true",
                 newer ? "max_completion_tokens" : "max_tokens", r->max_tokens);
        if (!(quirks & OPENAI_QUIRK_NO_USAGE))
                buf_puts(out, ",\"stream_options\":{\"include_usage\":true}");
        put_tools(out, r);
        e = put_messages(out, r);
        if (e < 0)
                return e;
        buf_puts(out, "}");
        return buf_pending(out) > BODY_MAX ? -EMSGSIZE : 0;
}
