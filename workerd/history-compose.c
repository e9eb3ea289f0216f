/* Composes what a model is sent from the folded conversation; trims old pictures. */
#include "history-internal.h"

#define NEVER_RAN "This call was not executed."

static bool is_stored_image(const json_t *block)
{
        return streq(json_string_value(json_object_get(block, "type")), "image") &&
               json_is_string(json_object_get(block, "digest"));
}

static size_t count_result_images(const struct history *h)
{
        size_t n = 0;

        for (size_t i = 0; i < h->n; i++)
                for (size_t k = 0; k < h->entries[i].n_calls; k++) {
                        const struct history_call *c = &h->entries[i].calls[k];
                        const json_t *block;
                        size_t at;

                        if (c->error)
                                continue;
                        json_array_foreach (c->output, at, block)
                                n += is_stored_image(block);
                }
        return n;
}

static json_t *image_block(const json_t *block)
{
        return json_pack("{s:s,s:O,s:O*}", "type", "image", "digest",
                         json_object_get(block, "digest"), "media_type",
                         json_object_get(block, "media_type"));
}

/* *remove counts down the pictures that are too old. */
static json_t *result_content(const struct history_call *c, size_t *remove)
{
        json_t *out = json_array();
        const json_t *block;
        size_t i;

        json_array_foreach (c->output, i, block) {
                const json_t *text = json_object_get(block, "text");

                if (is_stored_image(block) && *remove > 0) {
                        (*remove)--;
                        json_array_append_new(out, json_pack("{s:s,s:s}", "type", "text", "text",
                                                             "[older screenshot removed]"));
                } else if (is_stored_image(block)) {
                        json_array_append_new(out, image_block(block));
                } else if (!json_is_string(text) || json_string_length(text) > 0) {
                        json_array_append(out, (json_t *) block);
                }
        }
        return out;
}

static json_t *result_block(const struct history_call *c, size_t *remove)
{
        json_t *b = json_pack("{s:s,s:s}", "type", "tool_result", "tool_use_id", c->id);

        if (c->state != CALL_DONE || c->error) {
                const char *why = c->state != CALL_DONE ? NEVER_RAN : c->error;

                json_object_set_new(b, "content", json_string(strempty(why) ? "It failed." : why));
                json_object_set_new(b, "is_error", json_true());
        } else {
                json_object_set_new(b, "content", result_content(c, remove));
        }
        if (c->toolset)
                json_object_set_new(b, "toolset_name", json_string(c->toolset));
        return b;
}

static bool is_empty_text(const json_t *block)
{
        return streq(json_string_value(json_object_get(block, "type")), "text") &&
               json_string_length(json_object_get(block, "text")) == 0;
}

static void append_blocks(json_t *to, const json_t *content)
{
        json_t *block;
        size_t i;

        json_array_foreach (content, i, block) {
                if (is_empty_text(block))
                        continue;
                if (is_stored_image(block))
                        json_array_append_new(to, image_block(block));
                else
                        json_array_append(to, block);
        }
}

/* The content array of the turn that is open for this role; a new turn when the last has the other
 * role. */
static json_t *turn_content(json_t *turns, const char *role)
{
        json_t *last = json_array_get(turns, json_array_size(turns) - 1), *content;

        if (json_array_size(turns) > 0 &&
            streq(json_string_value(json_object_get(last, "role")), role))
                return json_object_get(last, "content");
        content = json_array();
        json_array_append_new(turns, json_pack("{s:s,s:o}", "role", role, "content", content));
        return content;
}

static bool human_stopped(const struct history_entry *e)
{
        for (size_t k = 0; k < e->n_calls; k++)
                if (streq(e->calls[k].error, HISTORY_HUMAN_STOPPED))
                        return true;
        return false;
}

static void append_compacted(json_t *turns, const struct history *h)
{
        cleanup_json json_t *content = history_compacted(h);

        if (content)
                append_blocks(turn_content(turns, "user"), content);
}

json_t *history_compose(const struct history *h, size_t images_kept)
{
        json_t *turns = json_array();
        size_t total = count_result_images(h), remove = 0;

        if (images_kept > 0 && total > images_kept)
                remove = (total - images_kept) / images_kept * images_kept;
        append_compacted(turns, h);
        for (size_t i = 0; i < h->n; i++) {
                const struct history_entry *e = &h->entries[i];
                cleanup_json json_t *blocks = json_array();

                if (!e->taken)
                        append_blocks(blocks, e->content);
                if (json_array_size(blocks) > 0)
                        json_array_extend(turn_content(turns, e->assistant ? "assistant" : "user"),
                                          blocks);
                for (size_t k = 0; k < e->n_calls; k++)
                        json_array_append_new(turn_content(turns, "user"),
                                              result_block(&e->calls[k], &remove));
                if (human_stopped(e))
                        json_array_append_new(
                                turn_content(turns, "user"),
                                json_pack("{s:s,s:s}", "type", "text", "text",
                                          "(The user interrupted the work at this point.)"));
        }
        return turns;
}

static void note_images(const json_t *content, struct map *seen)
{
        json_t *block, *inner;
        size_t i, k;

        json_array_foreach (content, i, block) {
                if (is_stored_image(block))
                        map_set(seen, json_string_value(json_object_get(block, "digest")), block);
                json_array_foreach (json_object_get(block, "content"), k, inner)
                        if (is_stored_image(inner))
                                map_set(seen, json_string_value(json_object_get(inner, "digest")),
                                        inner);
        }
}

static struct map *conversation_images(const json_t *conversation)
{
        struct map *seen = map_new();
        json_t *turn;
        size_t i;

        json_array_foreach (conversation, i, turn)
                note_images(json_object_get(turn, "content"), seen);
        return seen;
}

json_t *history_missing_images(const struct history *h, const json_t *conversation)
{
        cleanup_map struct map *seen = conversation_images(conversation);
        json_t *missing = json_array();
        const char *digest;
        size_t iter = 0;

        while (map_next(seen, &iter, &digest, NULL))
                if (!history_image(h, digest))
                        json_array_append_new(missing, json_string(digest));
        return missing;
}

void history_drop_images(struct history *h, const json_t *conversation)
{
        cleanup_map struct map *keep = conversation_images(conversation);

        history_forget_images(h, keep);
}
