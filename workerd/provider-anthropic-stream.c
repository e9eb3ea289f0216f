/* Decodes the event stream of one Messages API answer into content blocks. */
#include "provider-anthropic.h"

#include "utf8.h"

#define INPUT_DEPTH_MAX 20
#define TEXT_OF(j, key) json_string_value(json_object_get((j), (key)))

void anthropic_stream_init(struct anthropic_stream *s, const struct provider_events *events)
{
        *s = (struct anthropic_stream){ .events = events };
        s->blocks = xnewn(struct anthropic_block, ANTHROPIC_BLOCKS_MAX);
}

void anthropic_stream_done(struct anthropic_stream *s)
{
        for (size_t i = 0; s->blocks && i < ANTHROPIC_BLOCKS_MAX; i++) {
                json_decref(s->blocks[i].json);
                json_decref(s->blocks[i].citations);
                buf_done(&s->blocks[i].text);
                buf_done(&s->blocks[i].signature);
                buf_done(&s->blocks[i].input);
        }
        free(s->blocks);
        s->blocks = NULL;
}

static void copy_cut(char *to, size_t size, const char *text)
{
        size_t n = utf8_cut(text, strlen(text), size - 1);

        memcpy(to, text, n);
        to[n] = '\0';
}

static int stream_fail(struct anthropic_stream *s, const char *code, const char *message)
{
        s->state = ANTHROPIC_STREAM_FAILED;
        copy_cut(s->code, sizeof(s->code), code);
        copy_cut(s->message, sizeof(s->message), message);
        return -EBADMSG;
}

/* Counts in the stream are cumulative; null or absent keeps what is known. */
static void read_count(const json_t *usage, const char *key, uint64_t *to)
{
        const json_t *n = json_object_get(usage, key);

        if (json_is_integer(n) && json_integer_value(n) >= 0)
                *to = (uint64_t) json_integer_value(n);
}

static void read_usage(struct anthropic_stream *s, const json_t *usage)
{
        read_count(usage, "input_tokens", &s->usage.input_tokens);
        read_count(usage, "output_tokens", &s->usage.output_tokens);
        read_count(usage, "cache_read_input_tokens", &s->usage.cache_read_tokens);
        read_count(usage, "cache_creation_input_tokens", &s->usage.cache_write_tokens);
}

static void copy_text(char *to, size_t size, const json_t *object, const char *key)
{
        const char *text = TEXT_OF(object, key);

        if (text)
                copy_cut(to, size, text);
}

static struct anthropic_block *block_at(struct anthropic_stream *s, const json_t *event)
{
        const json_t *index = json_object_get(event, "index");
        json_int_t i = json_integer_value(index);

        if (!json_is_integer(index) || i < 0 || i >= ANTHROPIC_BLOCKS_MAX)
                return NULL;
        return &s->blocks[i];
}

static bool call_fits(const struct anthropic_stream *s, const json_t *json,
                      const struct anthropic_block *self)
{
        const char *id = TEXT_OF(json, "id");

        if (strempty(id) || strlen(id) > 200 || strempty(TEXT_OF(json, "name")))
                return false;
        for (size_t i = 0; i < s->n_blocks; i++)
                if (&s->blocks[i] != self && streq(TEXT_OF(s->blocks[i].json, "id"), id))
                        return false;
        return true;
}

static int block_start(struct anthropic_stream *s, const json_t *event)
{
        struct anthropic_block *b = block_at(s, event);
        json_t *json = json_object_get(event, "content_block");
        const char *type = TEXT_OF(json, "type"), *key;
        void *next;
        json_t *value;

        if (!b || !type || b->json)
                return stream_fail(s, "bad_stream",
                                   "The model's answer has a block that makes no sense.");
        b->json = json_copy(json);
        json_object_foreach_safe(b->json, next, key, value)
        {
                if (json_is_null(value))
                        json_object_del(b->json, key);
        }
        if (streq(type, "tool_use") && !call_fits(s, json, b))
                return stream_fail(s, "bad_stream",
                                   "The model called a tool without a name and an id of its own.");
        s->bytes += json_dumpb(json, NULL, 0, JSON_COMPACT);
        s->n_blocks = MAX(s->n_blocks, (size_t) (b - s->blocks) + 1);
        return 0;
}

static int delta_text(struct anthropic_stream *s, struct anthropic_block *b, struct buf *to,
                      const json_t *text, int kind)
{
        struct span t = { json_string_value(text), json_string_length(text) };

        if (!json_is_string(text))
                return 0;
        s->bytes += t.len;
        if (s->bytes > ANTHROPIC_CONTENT_MAX)
                return stream_fail(s, "answer_too_large",
                                   "The model's answer is larger than 3 MiB.");
        if (t.len == 0)
                return 0;
        buf_put(to, t.data, t.len);
        if (kind >= 0 && s->events->on_delta)
                s->events->on_delta(s->events->userdata, (size_t) (b - s->blocks),
                                    (enum provider_delta) kind, t);
        return 0;
}

static int block_delta(struct anthropic_stream *s, const json_t *event)
{
        struct anthropic_block *b = block_at(s, event);
        const json_t *delta = json_object_get(event, "delta");
        const char *type = TEXT_OF(delta, "type");

        if (!b || !b->json || !type)
                return stream_fail(s, "bad_stream",
                                   "The model's answer goes on in a block that never began.");
        if (streq(type, "text_delta"))
                return delta_text(s, b, &b->text, json_object_get(delta, "text"),
                                  PROVIDER_DELTA_TEXT);
        if (streq(type, "thinking_delta"))
                return delta_text(s, b, &b->text, json_object_get(delta, "thinking"),
                                  PROVIDER_DELTA_THINKING);
        if (streq(type, "signature_delta"))
                return delta_text(s, b, &b->signature, json_object_get(delta, "signature"), -1);
        if (streq(type, "input_json_delta"))
                return delta_text(s, b, &b->input, json_object_get(delta, "partial_json"),
                                  PROVIDER_DELTA_INPUT);
        if (streq(type, "citations_delta") && json_is_object(json_object_get(delta, "citation"))) {
                json_t *citation = json_object_get(delta, "citation");

                s->bytes += json_dumpb(citation, NULL, 0, JSON_COMPACT);
                if (s->bytes > ANTHROPIC_CONTENT_MAX)
                        return stream_fail(s, "answer_too_large",
                                           "The model's answer is larger than 3 MiB.");
                if (!b->citations)
                        b->citations = json_array();
                json_array_append(b->citations, citation);
        }
        return 0;
}

static int message_delta(struct anthropic_stream *s, const json_t *event)
{
        const json_t *delta = json_object_get(event, "delta");
        const json_t *details = json_object_get(delta, "stop_details");

        copy_text(s->stop_reason, sizeof(s->stop_reason), delta, "stop_reason");
        copy_text(s->stop_detail, sizeof(s->stop_detail), details, "category");
        copy_text(s->stop_detail, sizeof(s->stop_detail), details, "explanation");
        read_usage(s, json_object_get(event, "usage"));
        return 0;
}

static int stream_error(struct anthropic_stream *s, const json_t *event)
{
        const json_t *error = json_object_get(event, "error");
        const char *type = TEXT_OF(error, "type"), *message = TEXT_OF(error, "message");

        return stream_fail(s, type ? type : "api_error",
                           message ? message : "The model's stream ended with an error.");
}

static int stream_dispatch(struct anthropic_stream *s, const json_t *event)
{
        const char *type = TEXT_OF(event, "type");

        if (!type)
                return stream_fail(s, "bad_stream",
                                   "The model's stream has an event without a type.");
        if (streq(type, "content_block_delta"))
                return block_delta(s, event);
        if (streq(type, "content_block_start"))
                return block_start(s, event);
        if (streq(type, "message_start")) {
                const json_t *message = json_object_get(event, "message");

                copy_text(s->model, sizeof(s->model), message, "model");
                read_usage(s, json_object_get(message, "usage"));
                return 0;
        }
        if (streq(type, "message_delta"))
                return message_delta(s, event);
        if (streq(type, "message_stop")) {
                s->state = ANTHROPIC_STREAM_COMPLETE;
                return 0;
        }
        return streq(type, "error") ? stream_error(s, event) : 0;
}

int anthropic_stream_event(struct anthropic_stream *s, struct span data)
{
        struct json_problem problem;
        cleanup_json json_t *event = NULL;

        if (s->state == ANTHROPIC_STREAM_COMPLETE)
                return 0;
        if (s->state == ANTHROPIC_STREAM_FAILED)
                return -EBADMSG;
        if (json_parse(data.data, data.len, &event, &problem) < 0)
                return stream_fail(s, "bad_stream",
                                   "The model's stream has an event that is not JSON.");
        return stream_dispatch(s, event);
}

static int json_depth(const json_t *j, int left) /* NOLINT(misc-no-recursion): bounded by `left` */
{
        const char *key;
        json_t *value;
        size_t i;

        if (left == 0)
                return -E2BIG;
        if (json_is_object(j)) {
                json_object_foreach ((json_t *) j, key, value) {
                        if (json_depth(value, left - 1) < 0)
                                return -E2BIG;
                }
        } else if (json_is_array(j)) {
                json_array_foreach (j, i, value) {
                        if (json_depth(value, left - 1) < 0)
                                return -E2BIG;
                }
        }
        return 0;
}

/* The pieces of the input, joined and parsed; an empty text means no arguments. */
static void finish_input(struct anthropic_block *b, json_t *bad)
{
        struct json_problem problem = { .message = "" };
        cleanup_json json_t *input = NULL;
        const char *id = TEXT_OF(b->json, "id");

        if (buf_pending(&b->input) == 0) {
                if (!json_is_object(json_object_get(b->json, "input")))
                        json_object_set_new(b->json, "input", json_object());
                return;
        }
        if (json_parse(buf_head(&b->input), buf_pending(&b->input), &input, &problem) < 0) {
                /* reported below */
        } else if (!json_is_object(input)) {
                (void) snprintf(problem.message, sizeof(problem.message), "expected an object");
        } else if (json_depth(input, INPUT_DEPTH_MAX) < 0) {
                (void) snprintf(problem.message, sizeof(problem.message),
                                "nested deeper than %d levels", INPUT_DEPTH_MAX);
        } else {
                json_object_set(b->json, "input", input);
                return;
        }
        json_object_set_new(b->json, "input", json_object());
        if (id)
                json_object_set_new(
                        bad, id,
                        json_sprintf("The arguments could not be used: %s.", problem.message));
}

static void finish_text(struct anthropic_block *b, const char *key, struct buf *text)
{
        if (buf_pending(text) > 0) {
                const char *before = TEXT_OF(b->json, key);
                cleanup_buf struct buf joined = BUF_INIT;

                buf_puts(&joined, before ? before : "");
                buf_put(&joined, buf_head(text), buf_pending(text));
                json_object_set_new(b->json, key, json_stringn(joined.data, joined.len));
        } else if (!json_is_string(json_object_get(b->json, key))) {
                json_object_set_new(b->json, key, json_string(""));
        }
}

json_t *anthropic_stream_content(struct anthropic_stream *s, json_t **ret_bad)
{
        json_t *content = json_array(), *bad = json_object();

        for (size_t i = 0; i < s->n_blocks; i++) {
                struct anthropic_block *b = &s->blocks[i];
                const char *type = TEXT_OF(b->json, "type");

                if (!b->json)
                        continue;
                if (streq(type, "text"))
                        finish_text(b, "text", &b->text);
                if (streq(type, "thinking")) {
                        finish_text(b, "thinking", &b->text);
                        finish_text(b, "signature", &b->signature);
                }
                if (streq(type, "tool_use") || buf_pending(&b->input) > 0)
                        finish_input(b, bad);
                if (b->citations)
                        json_object_set(b->json, "citations", b->citations);
                json_array_append(content, b->json);
        }
        *ret_bad = bad;
        return content;
}
