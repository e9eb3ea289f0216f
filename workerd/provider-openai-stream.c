/* Decodes the event stream of one chat completion into content blocks. */
#include "provider-openai.h"

#include "utf8.h"

#define TEXT_OF(j, key) json_string_value(json_object_get((j), (key)))
#define TOO_LARGE "The model's answer is larger than 3 MiB or has more than 256 parts."

void openai_stream_init(struct openai_stream *s, const struct provider_events *events)
{
        *s = (struct openai_stream){ .events = events };
        s->blocks = xnewn(struct openai_block, OPENAI_BLOCKS_MAX);
}

void openai_stream_free(struct openai_stream *s)
{
        for (size_t i = 0; i < s->n_blocks; i++) {
                buf_done(&s->blocks[i].text);
                free(s->blocks[i].id);
                free(s->blocks[i].name);
        }
        free(s->blocks);
        *s = (struct openai_stream){ 0 };
}

static void copy_cut(char *to, size_t size, const char *text)
{
        size_t n = utf8_cut(text, strlen(text), size - 1);

        memcpy(to, text, n);
        to[n] = '\0';
}

static int stream_fail(struct openai_stream *s, const char *code, const char *message, bool retry)
{
        s->failed = true;
        s->retry = retry;
        copy_cut(s->code, sizeof(s->code), code);
        copy_cut(s->message, sizeof(s->message), message);
        return -EBADMSG;
}

static struct openai_block *block_new(struct openai_stream *s, enum provider_delta kind)
{
        struct openai_block *b;

        if (!s->blocks || s->n_blocks == OPENAI_BLOCKS_MAX)
                return NULL;
        b = &s->blocks[s->n_blocks++];
        *b = (struct openai_block){ .kind = kind, .index = -1 };
        return b;
}

static int block_text(struct openai_stream *s, struct openai_block *b, const char *text, size_t n)
{
        if (n == 0)
                return 0;
        s->bytes += n;
        if (s->bytes > OPENAI_CONTENT_MAX)
                return stream_fail(s, "answer_too_large", TOO_LARGE, true);
        buf_put(&b->text, text, n);
        if (s->events && s->events->on_delta)
                s->events->on_delta(s->events->userdata, (size_t) (b - s->blocks), b->kind,
                                    (struct span){ text, n });
        return 0;
}

/* Text of one kind goes on in the newest block when that is of the same kind. */
static int say(struct openai_stream *s, enum provider_delta kind, const json_t *text)
{
        struct openai_block *b = s->n_blocks > 0 ? &s->blocks[s->n_blocks - 1] : NULL;

        if (!json_is_string(text) || json_string_length(text) == 0)
                return 0;
        if (!b || b->kind != kind)
                b = block_new(s, kind);
        if (!b)
                return stream_fail(s, "answer_too_large", TOO_LARGE, true);
        return block_text(s, b, json_string_value(text), json_string_length(text));
}

/* Which call a piece belongs to: by index and id where they are given; one server leaves out the
 * index, another gives each call index 0. NULL: a new one. */
static struct openai_block *find_call(struct openai_stream *s, json_int_t index, const char *id,
                                      const char *name)
{
        for (size_t i = s->n_blocks; i-- > 0;) {
                struct openai_block *b = &s->blocks[i];

                if (b->kind != PROVIDER_DELTA_INPUT)
                        continue;
                if (!strempty(id) && b->id && !streq(id, b->id))
                        continue;
                if (index >= 0 && b->index >= 0 ? b->index == index
                                                : !strempty(id) || strempty(name))
                        return b;
        }
        return NULL;
}

static int call_piece(struct openai_stream *s, const json_t *piece)
{
        const json_t *function = json_object_get(piece, "function"),
                     *at = json_object_get(piece, "index"),
                     *arguments = json_object_get(function, "arguments");
        json_int_t index = json_is_integer(at) ? json_integer_value(at) : -1;
        const char *id = TEXT_OF(piece, "id"), *name = TEXT_OF(function, "name");
        struct openai_block *b = find_call(s, index, id, name);

        if (!b) {
                b = block_new(s, PROVIDER_DELTA_INPUT);
                if (!b)
                        return stream_fail(s, "answer_too_large", TOO_LARGE, true);
                b->index = index;
        }
        if (!b->id && !strempty(id))
                b->id = xstrdup(id);
        if (!b->name && !strempty(name))
                b->name = utf8_clip(name, strlen(name), 200);
        if (json_is_object(arguments)) {
                cleanup_free char *text = json_text(arguments);

                return block_text(s, b, text, strlen(text));
        }
        return json_is_string(arguments) ? block_text(s, b, json_string_value(arguments),
                                                      json_string_length(arguments))
                                         : 0;
}

static int read_delta(struct openai_stream *s, const json_t *delta)
{
        const json_t *thinking = json_object_get(delta, "reasoning_content"), *piece;
        size_t i;

        if (!json_is_string(thinking))
                thinking = json_object_get(delta, "reasoning");
        if (say(s, PROVIDER_DELTA_THINKING, thinking) < 0 ||
            say(s, PROVIDER_DELTA_TEXT, json_object_get(delta, "content")) < 0 ||
            say(s, PROVIDER_DELTA_TEXT, json_object_get(delta, "refusal")) < 0)
                return -EBADMSG;
        json_array_foreach (json_object_get(delta, "tool_calls"), i, piece)
                if (call_piece(s, piece) < 0)
                        return -EBADMSG;
        return 0;
}

static uint64_t count(const json_t *usage, const char *key)
{
        json_int_t n = json_integer_value(json_object_get(usage, key));

        return n > 0 ? (uint64_t) n : 0;
}

static void read_usage(struct openai_stream *s, const json_t *usage)
{
        uint64_t prompt = count(usage, "prompt_tokens"),
                 cached = count(json_object_get(usage, "prompt_tokens_details"), "cached_tokens");

        if (!json_is_object(usage))
                return;
        cached = MIN(cached, prompt);
        s->usage.input_tokens = prompt - cached;
        s->usage.cache_read_tokens = cached;
        s->usage.output_tokens = count(usage, "completion_tokens");
}

/* Some give a code as a number, which then is an HTTP status. */
static int read_error(struct openai_stream *s, const json_t *error)
{
        const json_t *code = json_object_get(error, "code");
        const char *type = TEXT_OF(error, "type"), *message = TEXT_OF(error, "message");
        json_int_t status = json_integer_value(code);
        bool final = (status >= 400 && status < 500 && status != 408 && status != 429) ||
                     streq(type, "invalid_request_error") ||
                     streq(json_string_value(code), "insufficient_quota");

        if (json_is_string(error))
                message = json_string_value(error);
        if (json_is_string(code) && !strempty(json_string_value(code)))
                type = json_string_value(code);
        return stream_fail(s, strempty(type) ? "api_error" : type,
                           strempty(message) ? "The model's stream ended with an error." : message,
                           !final);
}

int openai_stream_event(struct openai_stream *s, struct span data)
{
        struct json_problem problem;
        cleanup_json json_t *chunk = NULL;
        const json_t *error, *choice, *delta;
        const char *text;

        if (s->failed)
                return -EBADMSG;
        while (data.len > 0 && strchr(" \t\r\n", data.data[data.len - 1]))
                data.len--;
        if (s->done || data.len == 0)
                return 0;
        if (data.len == 6 && memcmp(data.data, "[DONE]", 6) == 0) {
                s->done = true;
                s->finished |= s->n_blocks > 0;
                return 0;
        }
        if (json_parse(data.data, data.len, &chunk, &problem) < 0 || !json_is_object(chunk))
                return stream_fail(s, "bad_stream",
                                   "The model's stream has an event that is not a JSON object.",
                                   true);
        error = json_object_get(chunk, "error");
        if (error && !json_is_null(error))
                return read_error(s, error);
        text = TEXT_OF(chunk, "model");
        if (text)
                copy_cut(s->model, sizeof(s->model), text);
        read_usage(s, json_object_get(chunk, "usage"));
        choice = json_array_get(json_object_get(chunk, "choices"), 0);
        delta = json_object_get(choice, "delta");
        if (!json_is_object(delta))
                delta = json_object_get(choice, "message");
        if (read_delta(s, delta) < 0)
                return -EBADMSG;
        text = TEXT_OF(choice, "finish_reason");
        if (!strempty(text)) {
                copy_cut(s->finish, sizeof(s->finish), text);
                s->finished = true;
        }
        return 0;
}

/* The pieces of the arguments, joined and parsed; what cannot be used is told to the model. */
static json_t *call_input(const struct openai_block *b, const char *id, json_t *bad)
{
        struct json_problem problem = { .message = "expected an object" };
        const char *text = buf_head(&b->text);
        json_t *input = NULL;

        if (buf_pending(&b->text) == 0 || streq(text, "null"))
                return json_object();
        if (json_parse(text, buf_pending(&b->text), &input, &problem) == 0 && json_is_object(input))
                return input;
        if (input)
                (void) snprintf(problem.message, sizeof(problem.message), "expected an object");
        json_decref(input);
        json_object_set_new(bad, id,
                            json_sprintf("The arguments could not be used: %s.", problem.message));
        return json_object();
}

static json_t *call_block(const struct openai_block *b, json_t *bad)
{
        char uuid[UUID_MAX];
        cleanup_free char *id = NULL;
        json_t *input;

        uuid_make(uuid);
        id = xasprintf("call_%s", uuid);
        input = call_input(b, id, bad);
        if (!b->name)
                json_object_set_new(bad, id, json_string("The call names no tool."));
        return json_pack("{s:s,s:s,s:s,s:o}", "type", "tool_use", "id", id, "name",
                         b->name ? b->name : "unknown", "input", input);
}

/* Thinking has no signature here, by which the other provider knows to leave it out. */
json_t *openai_stream_content(struct openai_stream *s, json_t **ret_bad)
{
        json_t *content = json_array(), *bad = json_object();

        for (size_t i = 0; i < s->n_blocks; i++) {
                const struct openai_block *b = &s->blocks[i];

                if (b->kind == PROVIDER_DELTA_INPUT)
                        json_array_append_new(content, call_block(b, bad));
                else
                        json_array_append_new(content,
                                              b->kind == PROVIDER_DELTA_THINKING
                                                      ? json_pack("{s:s,s:s}", "type", "thinking",
                                                                  "thinking", buf_head(&b->text))
                                                      : json_pack("{s:s,s:s}", "type", "text",
                                                                  "text", buf_head(&b->text)));
        }
        *ret_bad = bad;
        return content;
}

const char *openai_stop_reason(const struct openai_stream *s)
{
        for (size_t i = 0; i < s->n_blocks; i++)
                if (s->blocks[i].kind == PROVIDER_DELTA_INPUT)
                        return "tool_use"; /* whatever the server calls it */
        if (streq(s->finish, "length"))
                return "max_tokens";
        return streq(s->finish, "content_filter") ? "refusal" : "end_turn";
}
