/* Builds the request body of the Messages API, and knows what each model family takes. */
#include "provider-anthropic.h"

#define BODY_MAX (32 * MIB)
#define CACHED_TURNS 3
#define CACHE_MARK "\"cache_control\":{\"type\":\"ephemeral\"}"
#define TEXT_OF(j, key) json_string_value(json_object_get((j), (key)))

static const char *const computer_types[] = {
        [ANTHROPIC_COMPUTER_TOOLSET_20260801] = "computer_toolset_20260801",
        [ANTHROPIC_COMPUTER_20251124] = "computer_20251124",
        [ANTHROPIC_COMPUTER_20250124] = "computer_20250124",
};

/* The longest prefix that fits decides. */
static const struct {
        const char *prefix;
        enum anthropic_computer computer;
        bool adaptive;
} families[] = {
        { "claude-", ANTHROPIC_COMPUTER_TOOLSET_20260801, true },
        { "claude-3", ANTHROPIC_COMPUTER_20250124, false },
        { "claude-opus-4", ANTHROPIC_COMPUTER_20250124, false },
        { "claude-sonnet-4", ANTHROPIC_COMPUTER_20250124, false },
        { "claude-haiku-4", ANTHROPIC_COMPUTER_20250124, false },
        { "claude-opus-4-5", ANTHROPIC_COMPUTER_20251124, false },
        { "claude-opus-4-6", ANTHROPIC_COMPUTER_20251124, true },
        { "claude-opus-4-7", ANTHROPIC_COMPUTER_20251124, true },
        { "claude-opus-4-8", ANTHROPIC_COMPUTER_20251124, true },
        { "claude-sonnet-4-6", ANTHROPIC_COMPUTER_20251124, true },
        { "", ANTHROPIC_COMPUTER_20250124, false }, /* compatible servers, the demo */
};

static size_t family_of(const char *model)
{
        size_t best = ARRAY_LEN(families) - 1;

        for (size_t i = 0; i < ARRAY_LEN(families); i++)
                if (str_starts(model, families[i].prefix) &&
                    strlen(families[i].prefix) >= strlen(families[best].prefix))
                        best = i;
        return best;
}

const char *anthropic_computer_type(enum anthropic_computer c)
{
        return computer_types[c];
}

int anthropic_computer_for(const char *model, const char *forced, enum anthropic_computer *ret)
{
        if (strempty(forced)) {
                *ret = families[family_of(model)].computer;
                return 0;
        }
        for (size_t i = 0; i < ARRAY_LEN(computer_types); i++)
                if (streq(forced, computer_types[i])) {
                        *ret = (enum anthropic_computer) i;
                        return 0;
                }
        return -EINVAL;
}

bool anthropic_adaptive_thinking(const char *model)
{
        return families[family_of(model)].adaptive;
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

static void put_computer(struct buf *out, const struct provider_request *r,
                         enum anthropic_computer c)
{
        if (c == ANTHROPIC_COMPUTER_TOOLSET_20260801) {
                buf_putf(out, "{\"type\":\"%s\"}", computer_types[c]);
                return;
        }
        buf_putf(out,
                 "{\"type\":\"%s\",\"name\":\"computer\",\"display_width_px\":%" PRIu32
                 ",\"display_height_px\":%" PRIu32 ",\"display_number\":1%s}",
                 computer_types[c], r->width, r->height,
                 c == ANTHROPIC_COMPUTER_20251124 ? ",\"enable_zoom\":true" : "");
}

static void put_tool(struct buf *out, const struct provider_request *r,
                     const struct provider_tool *t, enum anthropic_computer computer)
{
        switch (t->native) {
        case PROVIDER_NATIVE_COMPUTER:
                put_computer(out, r, computer);
                return;
        case PROVIDER_NATIVE_BASH:
                buf_puts(out, "{\"type\":\"bash_20250124\",\"name\":\"bash\"}");
                return;
        case PROVIDER_NATIVE_EDIT:
                buf_puts(out, "{\"type\":\"text_editor_20250728\","
                              "\"name\":\"str_replace_based_edit_tool\"}");
                return;
        case PROVIDER_NATIVE_NONE:
                break;
        }
        buf_puts(out, "{\"name\":");
        put_string(out, t->name);
        buf_puts(out, ",\"description\":");
        put_string(out, t->description);
        buf_putf(out, ",\"input_schema\":%s}", t->schema);
}

static void put_tools(struct buf *out, const struct provider_request *r,
                      enum anthropic_computer computer)
{
        const char *separator = ",\"tools\":[";

        for (size_t i = 0; i < r->n_tools; i++) {
                if (r->tools[i].native == PROVIDER_NATIVE_COMPUTER && r->width == 0)
                        continue;
                buf_puts(out, separator);
                put_tool(out, r, &r->tools[i], computer);
                separator = ",";
        }
        if (*separator == ',' && separator[1] == '\0')
                buf_puts(out, "]");
}

static int put_image(struct buf *out, const struct history *h, const json_t *block, bool mark)
{
        const struct history_image *image = history_image(h, TEXT_OF(block, "digest"));

        if (!image)
                return -ENOENT;
        buf_puts(out, "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":");
        put_string(out, image->media_type);
        buf_puts(out, ",\"data\":\"");
        buf_put(out, image->base64, image->len);
        buf_puts(out, "\"}");
        buf_puts(out, mark ? "," CACHE_MARK "}" : "}");
        return 0;
}

static bool is_stored_image(const json_t *block)
{
        return streq(TEXT_OF(block, "type"), "image") && TEXT_OF(block, "digest");
}

static int put_plain(struct buf *out, const struct history *h, const json_t *block, bool mark)
{
        cleanup_free char *text = NULL;
        size_t n;

        if (is_stored_image(block))
                return put_image(out, h, block, mark);
        text = json_text(block);
        n = strlen(text);
        buf_put(out, text, mark ? n - 1 : n);
        if (mark)
                buf_puts(out, "," CACHE_MARK "}");
        return 0;
}

static int put_result(struct buf *out, const struct history *h, const json_t *block, bool mark)
{
        const json_t *content = json_object_get(block, "content"), *inner;
        const char *key, *separator = "{";
        json_t *value;
        size_t i;

        json_object_foreach ((json_t *) block, key, value) {
                buf_puts(out, separator);
                separator = ",";
                put_string(out, key);
                buf_puts(out, ":");
                if (value != content || !json_is_array(content)) {
                        put_json(out, value);
                        continue;
                }
                buf_puts(out, "[");
                json_array_foreach (content, i, inner) {
                        int r;

                        buf_puts(out, i > 0 ? "," : "");
                        r = put_plain(out, h, inner, false);
                        if (r < 0)
                                return r;
                }
                buf_puts(out, "]");
        }
        buf_puts(out, mark ? "," CACHE_MARK "}" : "}");
        return 0;
}

/* Thinking of another provider has no signature and would be refused. */
static bool is_foreign(const json_t *block)
{
        return streq(TEXT_OF(block, "type"), "thinking") && !json_object_get(block, "signature");
}

static int put_turn(struct buf *out, const struct history *h, const json_t *turn, bool mark)
{
        const json_t *content = json_object_get(turn, "content"), *block;
        size_t i, n = 0;
        int r;

        buf_puts(out, "{\"role\":");
        put_json(out, json_object_get(turn, "role"));
        buf_puts(out, ",\"content\":[");
        json_array_foreach (content, i, block) {
                bool last = mark && i + 1 == json_array_size(content);

                if (is_foreign(block))
                        continue;
                buf_puts(out, n++ > 0 ? "," : "");
                r = streq(TEXT_OF(block, "type"), "tool_result") ? put_result(out, h, block, last)
                                                                 : put_plain(out, h, block, last);
                if (r < 0)
                        return r;
        }
        if (n == 0)
                buf_puts(out, "{\"type\":\"text\",\"text\":\"(no answer)\"}");
        buf_puts(out, "]}");
        return 0;
}

/* Marks for the prompt cache: the system block, and the last block of the newest user turns. */
static int put_messages(struct buf *out, const struct provider_request *r)
{
        size_t i, users = 0, seen = 0;
        const json_t *turn;

        json_array_foreach (r->conversation, i, turn)
                users += streq(TEXT_OF(turn, "role"), "user");
        buf_puts(out, ",\"messages\":[");
        json_array_foreach (r->conversation, i, turn) {
                bool user = streq(TEXT_OF(turn, "role"), "user");
                int e;

                seen += user;
                buf_puts(out, i > 0 ? "," : "");
                e = put_turn(out, r->history, turn, user && seen + CACHED_TURNS > users);
                if (e < 0)
                        return e;
        }
        buf_puts(out, "]");
        return 0;
}

int anthropic_body(struct buf *out, const struct provider_request *r,
                   enum anthropic_computer computer, bool adaptive)
{
        int e;

        buf_puts(out, "{\"model\":");
        put_string(out, r->model);
        buf_putf(out, ",\"max_tokens\":%" PRIu64 ",\"stream\":true", r->max_tokens);
        if (adaptive)
                buf_puts(out, ",\"thinking\":{\"type\":\"adaptive\",\"display\":\"summarized\"}");
        if (!strempty(r->system)) {
                buf_puts(out, ",\"system\":[{\"type\":\"text\",\"text\":");
                put_string(out, r->system);
                buf_puts(out, "," CACHE_MARK "}]");
        }
        put_tools(out, r, computer);
        e = put_messages(out, r);
        if (e < 0)
                return e;
        buf_puts(out, "}");
        return buf_pending(out) > BODY_MAX ? -EMSGSIZE : 0;
}
