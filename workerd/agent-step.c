/* One step of the agent loop: events that are stored together, and what they change once they are.
 */
#include "agent-internal.h"

#include "common/base/fault.h"
#include "common/io/log.h"

#define ROOM_KEPT 4

struct step *step_new(void)
{
        struct step *s = xnew(struct step);

        s->append = append_new();
        return s;
}

struct step *step_free(struct step *s)
{
        if (!s)
                return NULL;
        append_free(s->append);
        for (size_t i = 0; i < s->n_effects; i++) {
                free(s->effects[i].call_id);
                free(s->effects[i].error);
                free(s->effects[i].digest);
                json_decref(s->effects[i].content);
        }
        free(s);
        return NULL;
}

size_t step_room(const struct step *s)
{
        size_t used = append_count(s->append) + ROOM_KEPT;

        return used < OUTBOX_ITEMS_MAX ? OUTBOX_ITEMS_MAX - used : 0;
}

static struct effect *effect_add(struct step *s)
{
        struct effect *e = &s->effects[s->n_effects++];

        e->item = append_count(s->append);
        return e;
}

/* All thinking of the turn, for viewers; the message itself keeps the blocks as they came. */
static json_t *thinking_text(const json_t *content)
{
        cleanup_buf struct buf text = BUF_INIT;
        const json_t *block;
        size_t i;

        json_array_foreach (content, i, block) {
                const char *thinking = json_string_value(json_object_get(block, "thinking"));

                if (strempty(thinking))
                        continue;
                buf_puts(&text, text.len > 0 ? "\n\n" : "");
                buf_puts(&text, thinking);
        }
        return text.len > 0 ? json_string(text.data) : NULL;
}

void step_turn(struct step *s, struct agent *a)
{
        const struct answer *answer = &a->answer;
        json_t *thinking = thinking_text(answer->content);
        struct usage call = answer->usage;
        struct effect *e;

        call.turns = 1;
        if (thinking)
                append_event(s->append, EVENT_TYPE_THINKING,
                             json_pack("{s:o,s:I}", "content", thinking, "turn",
                                       (json_int_t) answer->turn));
        e = effect_add(s);
        e->kind = EFFECT_TURN;
        e->content = json_incref(answer->content);
        e->input_seq = answer->input_seq;
        e->paused = streq(answer->stop_reason, "pause_turn");
        append_event(s->append, EVENT_TYPE_MESSAGE,
                     json_pack("{s:s,s:O,s:s,s:s,s:s*,s:I,s:I}", "role", "assistant", "content",
                               answer->content, "message_id", answer->message_id, "model",
                               answer->model, "stop_reason",
                               strempty(answer->stop_reason) ? NULL : answer->stop_reason,
                               "input_seq", (json_int_t) answer->input_seq, "turn",
                               (json_int_t) answer->turn));
        append_event(s->append, EVENT_TYPE_USAGE,
                     json_pack("{s:o,s:o,s:s}", "usage", usage_json(&call), "total",
                               usage_json(&a->total), "model", answer->model));
        append_usage(s->append, &call);
}

void step_intent(struct step *s, struct agent *a, const char *id, const char *name,
                 const json_t *input)
{
        struct effect *e = effect_add(s);

        e->kind = EFFECT_INTENT;
        e->call_id = xstrdup(id);
        s->intent = true;
        append_event(s->append, EVENT_TYPE_PRE_TOOL,
                     json_pack("{s:s,s:s,s:O,s:I}", "tool_call_id", id, "tool_name", name,
                               "tool_input", input, "epoch", (json_int_t) a->c.epoch));
}

/* The picture becomes an attachment, a block that names it, and an event of its own. */
static json_t *take_picture(struct step *s, struct agent *a, const char *id,
                            struct tool_result *result, json_t *content)
{
        char digest[SHA256_HEX];
        cleanup_free char *url = NULL;

        sha256_hex(result->picture, result->picture_size, digest);
        url = xasprintf("/sessions/%s/attachments/%s", a->session_id, digest);
        history_set_image(a->c.history, digest, "image/png",
                          (struct span){ result->picture, result->picture_size });
        append_attachment(s->append, digest, "image/png", TAKE_PTR(result->picture),
                          result->picture_size);
        json_array_append_new(content, json_pack("{s:s,s:s,s:s,s:s,s:I,s:I}", "type", "image",
                                                 "media_type", "image/png", "digest", digest, "url",
                                                 url, "width", (json_int_t) result->picture_width,
                                                 "height", (json_int_t) result->picture_height));
        return json_pack("{s:s,s:s,s:I,s:I,s:s}", "tool_call_id", id, "url", url, "width",
                         (json_int_t) result->picture_width, "height",
                         (json_int_t) result->picture_height, "media_type", "image/png");
}

void step_result(struct step *s, struct agent *a, const char *id, const char *name,
                 struct tool_result *result, uint64_t duration_ms)
{
        struct effect *e = effect_add(s);
        json_t *content =
                result->content && !result->error ? json_incref(result->content) : json_array();
        json_t *screenshot = NULL, *body;

        if (result->picture && !result->error)
                screenshot = take_picture(s, a, id, result, content);
        e->kind = EFFECT_RESULT;
        e->call_id = xstrdup(id);
        e->error = xstrdup(result->error);
        e->content = content;
        e->answer_seq = (uint64_t) json_integer_value(json_object_get(result->more, "answer_seq"));
        s->result = true;
        body = json_pack("{s:s,s:s,s:O,s:s?,s:I,s:I}", "tool_call_id", id, "tool_name", name,
                         "tool_output", content, "error", result->error, "duration_ms",
                         (json_int_t) duration_ms, "epoch", (json_int_t) a->c.epoch);
        if (result->has_exit_code)
                json_object_set_new(body, "exit_code", json_integer(result->exit_code));
        if (result->more)
                json_object_update(body, result->more);
        if (result->report && !result->error)
                json_object_set(body, "report", result->report);
        append_event(s->append, EVENT_TYPE_POST_TOOL, body);
        if (result->report && !result->error) {
                e->over = true;
                append_report(s->append, result->report);
                append_event(s->append, EVENT_TYPE_REPORT,
                             json_pack("{s:s,s:O}", "tool_call_id", id, "report", result->report));
        }
        if (screenshot)
                append_event(s->append, EVENT_TYPE_SCREENSHOT, screenshot);
}

void step_ask(struct step *s, const char *id, const char *digest, const char *subject, char *bound)
{
        struct effect *e = effect_add(s);

        e->kind = EFFECT_ASK;
        e->call_id = xstrdup(id);
        e->digest = xstrdup(digest);
        s->ask = true;
        append_ask(s->append, id, subject, bound);
}

void step_compaction(struct step *s, uint64_t upto_seq, const char *summary, uint64_t tokens,
                     const char *model)
{
        struct effect *e = effect_add(s);

        e->kind = EFFECT_COMPACT;
        e->input_seq = upto_seq;
        e->error = xstrdup(summary);
        append_event(s->append, EVENT_TYPE_COMPACTION,
                     json_pack("{s:s,s:I,s:I,s:s}", "summary", summary, "upto_seq",
                               (json_int_t) upto_seq, "tokens_before", (json_int_t) tokens, "model",
                               model));
}

bool step_empty(const struct step *s)
{
        return s->n_effects == 0 && append_count(s->append) == 0 && !append_has_state(s->append);
}

void step_no_result(struct step *s, struct agent *a, const char *id, const char *name,
                    const char *why)
{
        struct tool_result result = { .error = xstrdup(why) };

        step_result(s, a, id, name, &result, 0);
        tool_result_done(&result);
}

static uint64_t answer_tokens(const struct answer *answer)
{
        const struct usage *u = &answer->usage;

        return u->input_tokens + u->cache_read_tokens + u->cache_write_tokens + u->output_tokens;
}

static int apply(struct agent *a, struct effect *e, uint64_t first_seq)
{
        switch (e->kind) {
        case EFFECT_TURN:
                history_set_context(a->c.history, answer_tokens(&a->answer));
                return history_add_assistant(a->c.history, first_seq + e->item, e->input_seq,
                                             e->paused, e->content);
        case EFFECT_INTENT:
                return history_set_intent(a->c.history, e->call_id, first_seq + e->item,
                                          now_realtime());
        case EFFECT_COMPACT:
                return history_compact(a->c.history, e->input_seq, e->error);
        case EFFECT_ASK:
                return history_set_asked(a->c.history, e->call_id, e->digest);
        case EFFECT_RESULT:
                if (e->answer_seq > 0)
                        history_take_answer(a->c.history, e->answer_seq);
                if (e->over)
                        history_set_over(a->c.history, e->call_id);
                return history_set_result(a->c.history, e->call_id, e->content, e->error);
        }
        return -EINVAL;
}

static void on_stored(void *userdata, int r, const struct event_appended *done, const char *why)
{
        struct agent *a = userdata;
        CLEANUP(step_freep) struct step *s = a->step;

        a->step = NULL;
        if (a->state == AGENT_ENDED)
                return;
        if (r == -EBUSY && s->refused) {
                loader_doubt(a->c.loader);
                s->refused(a);
                return;
        }
        if (r < 0) {
                agent_fail(a, "event_refused", why);
                return;
        }
        if (s->intent)
                crash_point("worker.after_intent");
        if (s->result)
                crash_point("worker.after_result");
        if (s->ask)
                crash_point("worker.after_ask");
        agent_note_hold(a, done->hold);
        loader_stored(a->c.loader, done->first_seq, done->last_seq);
        for (size_t i = 0; r == 0 && i < s->n_effects; i++)
                r = apply(a, &s->effects[i], done->first_seq);
        if (r < 0)
                agent_fail(a, "conversation_too_long",
                           "The conversation is too long for the worker's memory.");
        else
                s->after(a);
}

void step_commit(struct step *s, struct agent *a)
{
        if (s->intent)
                crash_point("worker.before_intent");
        if (s->result)
                crash_point("worker.before_result");
        if (s->ask)
                crash_point("worker.before_ask");
        agent_set_state(a, AGENT_STORING);
        a->step = s;
        outbox_send(a->c.outbox, TAKE_PTR(s->append), on_stored, a);
}
