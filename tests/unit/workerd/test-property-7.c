/* Property 7, agent compatibility: for generated sessions (turns, calls of every form, pictures,
 * errors, refused approvals, interruptions, summaries) what the model is sent keeps the rules of
 * the reference loop. Each rule is written here anew, not taken from the code under test. */
#include "tests/unit/common/unit.h"

#include <math.h>

#include "common/base/buf.h"
#include "workerd/provider-anthropic.h"
#include "workerd/scale.h"

#define CASES 200
#define TURNS 14

struct sim {
        uint64_t rng, seq, ids, last_user;
        struct history *h;
        json_t *events;   /* all of them: for the second fold */
        json_t *previous; /* messages of the body before, without marks */
        size_t removed;   /* pictures left out of it */
        bool compacted;   /* since then */
};

static uint64_t draw(struct sim *s, uint64_t below)
{
        s->rng ^= s->rng << 13;
        s->rng ^= s->rng >> 7;
        s->rng ^= s->rng << 17;
        return s->rng % below;
}

static void event(struct sim *s, json_t *e)
{
        json_object_set_new(e, "seq", json_integer((json_int_t) ++s->seq));
        assert_int_equal(history_add_event(s->h, e), 0);
        json_array_append_new(s->events, e);
}

static void user(struct sim *s)
{
        json_t *content = json_pack("[{s:s,s:s}]", "type", "text", "text",
                                    draw(s, 2) ? "do it" : "no\n\"the\" other \xc3\xa4");

        if (draw(s, 6) == 0)
                json_array_append_new(content, json_pack("{s:s,s:{s:s,s:s,s:s}}", "type", "image",
                                                         "source", "type", "base64", "media_type",
                                                         "image/png", "data", "YWJj"));
        json_t *e = json_pack("{s:s,s:s,s:o}", "event_type", "message", "role", "user", "content",
                              content);
        if (draw(s, 5) == 0)
                json_object_set_new(e, "pinned", json_true());
        event(s, e);
        s->last_user = s->seq;
}

static json_t *call_block(struct sim *s)
{
        char id[32];

        (void) snprintf(id, sizeof(id), "toolu_%" PRIu64, ++s->ids);
        switch (draw(s, 4)) {
        case 0:
                return json_pack("{s:s,s:s,s:s,s:s,s:{s:[i,i]}}", "type", "tool_use", "id", id,
                                 "name", "left_click", "toolset_name", "computer", "input",
                                 "coordinate", (int) draw(s, 1280), (int) draw(s, 800));
        case 1:
                return json_pack("{s:s,s:s,s:s,s:{s:s}}", "type", "tool_use", "id", id, "name",
                                 "computer", "input", "action", "screenshot");
        case 2:
                return json_pack("{s:s,s:s,s:s,s:{s:s,s:s}}", "type", "tool_use", "id", id, "name",
                                 "str_replace_based_edit_tool", "input", "command", "view", "path",
                                 "/tmp/x");
        default:
                return json_pack("{s:s,s:s,s:s,s:{s:s}}", "type", "tool_use", "id", id, "name",
                                 "bash", "input", "command", draw(s, 2) ? "ls" : "echo 'a\tb'");
        }
}

static void picture(struct sim *s, json_t *output)
{
        char digest[16];

        (void) snprintf(digest, sizeof(digest), "d%" PRIu64, s->seq);
        history_set_image(s->h, digest, "image/png", span_of(digest));
        json_array_append_new(output, json_pack("{s:s,s:s,s:s,s:s}", "type", "image", "digest",
                                                digest, "media_type", "image/png", "url", "/x"));
}

static void asked(struct sim *s, const char *id, const char *decision)
{
        event(s, json_pack("{s:s,s:s,s:s,s:s}", "event_type", "approval_requested", "approval_id",
                           "a", "tool_call_id", id, "digest", "x"));
        event(s, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "event_type", "approval_decided",
                           "approval_id", "a", "tool_call_id", id, "digest", "x", "status",
                           decision, "scope", "once"));
}

static void result(struct sim *s, const char *id)
{
        json_t *output = json_array();
        const char *error = NULL;
        uint64_t what = draw(s, 8);

        if (what == 0) {
                asked(s, id, "denied");
                error = "not executed: a person denied it";
        } else {
                if (what == 1)
                        asked(s, id, "allowed");
                event(s, json_pack("{s:s,s:s}", "event_type", "pre_tool", "tool_call_id", id));
        }
        if (what == 2)
                error = "it broke";
        if (what == 3)
                error = HISTORY_HUMAN_STOPPED;
        if (what != 4)
                json_array_append_new(output, json_pack("{s:s,s:s}", "type", "text", "text",
                                                        what == 5 ? "" : "out"));
        if (what >= 4)
                picture(s, output);
        event(s, json_pack("{s:s,s:s,s:o,s:s?}", "event_type", "post_tool", "tool_call_id", id,
                           "tool_output", output, "error", error));
}

static void turn(struct sim *s)
{
        json_t *content = json_array();
        size_t n = draw(s, 4);
        json_int_t seen = (json_int_t) s->last_user;

        if (draw(s, 3) == 0)
                json_array_append_new(content,
                                      json_pack("{s:s,s:s,s:s}", "type", "thinking", "thinking",
                                                draw(s, 2) ? "hm" : "", "signature", "c2ln"));
        json_array_append_new(content, json_pack("{s:s,s:s}", "type", "text", "text",
                                                 draw(s, 4) ? "I look" : ""));
        for (size_t i = 0; i < n; i++)
                json_array_append_new(content, call_block(s));
        if (n == 0)
                json_array_append_new(content,
                                      json_pack("{s:s,s:s}", "type", "text", "text", "so"));
        if (draw(s, 6) == 0)
                user(s); /* while the model answered */
        event(s, json_pack("{s:s,s:s,s:O,s:I}", "event_type", "message", "role", "assistant",
                           "content", content, "input_seq", seen));
        for (size_t i = json_array_size(content) - n; n > 0 && i < json_array_size(content); i++)
                result(s, json_string_value(json_object_get(json_array_get(content, i), "id")));
        json_decref(content);
        if (history_next(s->h, NULL) == HISTORY_NOTHING)
                user(s);
}

static void maybe_compact(struct sim *s)
{
        uint64_t upto = draw(s, 6) == 0 ? history_compact_upto(s->h, 1 + draw(s, 3)) : 0;

        if (upto == 0)
                return;
        event(s, json_pack("{s:s,s:s,s:I}", "event_type", "compaction", "summary", "we did much",
                           "upto_seq", (json_int_t) upto));
        s->compacted = true;
}

/* ---- the rules ---- */

static bool is_type(const json_t *block, const char *type)
{
        return streq(json_string_value(json_object_get(block, "type")), type);
}

static void every_call_is_answered(const json_t *messages)
{
        json_t *m, *block;
        size_t i, k;

        json_array_foreach (messages, i, m) {
                const json_t *next = json_array_get(messages, i + 1);
                size_t at = 0;

                assert_string_equal(json_string_value(json_object_get(m, "role")),
                                    i % 2 == 0 ? "user" : "assistant");
                assert_true(json_array_size(json_object_get(m, "content")) > 0);
                json_array_foreach (json_object_get(m, "content"), k, block) {
                        assert_false(is_type(block, "text") &&
                                     json_string_length(json_object_get(block, "text")) == 0);
                        if (!is_type(block, "tool_use"))
                                continue;
                        const json_t *answer =
                                json_array_get(json_object_get(next, "content"), at++);
                        assert_true(is_type(answer, "tool_result"));
                        assert_true(json_equal(json_object_get(answer, "tool_use_id"),
                                               json_object_get(block, "id")));
                        assert_true(
                                streq(json_string_value(json_object_get(answer, "toolset_name")),
                                      json_string_value(json_object_get(block, "toolset_name"))));
                }
        }
        assert_string_equal(
                json_string_value(json_object_get(
                        json_array_get(messages, json_array_size(messages) - 1), "role")),
                "user");
}

/* An error is its text and nothing else; a result has no empty text. */
static void results_are_composed(const json_t *messages)
{
        json_t *m, *block, *inner;
        size_t i, k, j;

        json_array_foreach (messages, i, m)
                json_array_foreach (json_object_get(m, "content"), k, block) {
                        const json_t *content = json_object_get(block, "content");

                        if (!is_type(block, "tool_result"))
                                continue;
                        if (json_is_true(json_object_get(block, "is_error"))) {
                                assert_true(json_string_length(content) > 0);
                                continue;
                        }
                        assert_true(json_is_array(content));
                        json_array_foreach (content, j, inner)
                                assert_true(is_type(inner, "image") ||
                                            json_string_length(json_object_get(inner, "text")) > 0);
                }
}

/* What stands where a picture of a result is or was: 'i' a picture, '-' one left out. */
static char *pictures(const json_t *messages)
{
        struct buf out = BUF_INIT;
        json_t *m, *block, *inner;
        size_t i, k, j;

        buf_puts(&out, "");
        json_array_foreach (messages, i, m)
                json_array_foreach (json_object_get(m, "content"), k, block) {
                        if (!is_type(block, "tool_result"))
                                continue;
                        json_array_foreach (json_object_get(block, "content"), j, inner)
                                if (is_type(inner, "image"))
                                        buf_puts(&out, "i");
                                else if (streq(json_string_value(json_object_get(inner, "text")),
                                               "[older screenshot removed]"))
                                        buf_puts(&out, "-");
                }
        return buf_take(&out, NULL);
}

static size_t oldest_pictures_go(const struct sim *s, size_t kept, const json_t *messages)
{
        cleanup_json json_t *all = history_compose(s->h, 0);
        cleanup_free char *whole = pictures(all), *got = pictures(messages);
        size_t total = strlen(whole), remove = 0;

        if (kept > 0 && total > kept)
                remove = (total - kept) - (total - kept) % kept;
        assert_int_equal(strlen(got), total);
        for (size_t i = 0; i < total; i++)
                assert_int_equal(got[i], i < remove ? '-' : 'i');
        return remove;
}

static size_t marks(json_t *j) /* counts and removes them */
{
        size_t n = 0, i;
        const char *key;
        json_t *value;
        void *next;

        if (json_is_array(j))
                json_array_foreach (j, i, value)
                        n += marks(value);
        else if (json_is_object(j)) {
                n += json_object_del(j, "cache_control") == 0;
                json_object_foreach_safe(j, next, key, value) n += marks(value);
        }
        return n;
}

/* One on the system prompt, one on the last block of each of the three newest user turns. */
static void breakpoints_are_placed(json_t *body)
{
        json_t *messages = json_object_get(body, "messages"), *m;
        size_t newest = 0, i;

        for (i = json_array_size(messages); i > 0 && newest < 3; i--) {
                m = json_array_get(messages, i - 1);
                const json_t *content = json_object_get(m, "content");
                json_t *last = json_array_get(content, json_array_size(content) - 1);
                if (!streq(json_string_value(json_object_get(m, "role")), "user"))
                        continue;
                assert_non_null(json_object_get(last, "cache_control"));
                newest++;
        }
        assert_int_equal(marks(json_object_get(body, "system")), 1);
        assert_int_equal(marks(messages), newest);
        assert_int_equal(marks(body), 0);
}

/* What was sent before is the beginning of what is sent now, byte for byte. */
static void the_beginning_stays(struct sim *s, json_t *messages, size_t removed)
{
        json_t *m;
        size_t i;

        if (s->previous && !s->compacted && removed == s->removed)
                json_array_foreach (s->previous, i, m) {
                        const json_t *now = json_array_get(messages, i);
                        cleanup_free char *a = json_text(m), *b = json_text(now);

                        if (i + 1 < json_array_size(s->previous))
                                assert_string_equal(a, b);
                        else /* the last turn may have got more words behind it */
                                assert_memory_equal(a, b, strlen(a) - 2);
                }
        json_decref(s->previous);
        s->previous = json_deep_copy(messages);
        s->removed = removed;
        s->compacted = false;
}

static const struct provider_tool tools[] = {
        { .name = "computer", .native = PROVIDER_NATIVE_COMPUTER },
        { .name = "bash", .native = PROVIDER_NATIVE_BASH },
        { .name = "str_replace_based_edit_tool", .native = PROVIDER_NATIVE_EDIT },
        { .name = "document_put", .description = "Stores.", .schema = "{\"type\":\"object\"}" },
};

static void keep_for_peers(const char *text)
{
        const char *path = getenv("BERTH_BODIES");
        FILE *f = path ? fopen(path, "ae") : NULL;

        if (!f)
                return;
        (void) fprintf(f, "%s\n", text);
        (void) fclose(f);
}

static void check(struct sim *s, size_t kept, enum anthropic_computer form, bool keep)
{
        cleanup_json json_t *messages = history_compose(s->h, kept), *body = NULL;
        cleanup_buf struct buf out = BUF_INIT;
        struct provider_request r = { .model = "claude-opus-5-5",
                                      .system = "be good",
                                      .history = s->h,
                                      .conversation = messages,
                                      .tools = tools,
                                      .n_tools = ARRAY_LEN(tools),
                                      .width = 1280,
                                      .height = 800,
                                      .max_tokens = 1024 };

        every_call_is_answered(messages);
        results_are_composed(messages);
        size_t removed = oldest_pictures_go(s, kept, messages);
        assert_int_equal(anthropic_body(&out, &r, form, true), 0);
        if (keep)
                keep_for_peers(out.data);
        body = json_loads(out.data, 0, NULL);
        assert_non_null(body);
        breakpoints_are_placed(body);
        the_beginning_stays(s, json_object_get(body, "messages"), removed);
}

static void rebuilt_is_lived(const struct sim *s, size_t kept)
{
        CLEANUP(history_freep) struct history *again = history_new(16 * MIB);
        cleanup_json json_t *a = history_compose(s->h, kept), *b = NULL;
        cleanup_free char *lived = json_text(a), *rebuilt = NULL;
        json_t *e;
        size_t i;

        json_array_foreach (s->events, i, e)
                assert_int_equal(history_add_event(again, e), 0);
        b = history_compose(again, kept);
        rebuilt = json_text(b);
        assert_string_equal(lived, rebuilt);
        assert_int_equal(history_last_user_seq(again), history_last_user_seq(s->h));
        assert_int_equal(history_assistant_turns(again), history_assistant_turns(s->h));
        assert_int_equal(history_turns(again), history_turns(s->h));
}

static void one_session(uint64_t seed)
{
        struct sim s = { .rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1 };
        size_t kept = draw(&s, 5);
        enum anthropic_computer form = (enum anthropic_computer) draw(&s, ANTHROPIC_COMPUTER_MAX);

        s.h = history_new(16 * MIB);
        s.events = json_array();
        user(&s);
        check(&s, kept, form, false);
        for (size_t i = 0; i < TURNS; i++) {
                turn(&s);
                check(&s, kept, form, i == TURNS / 2 || i == TURNS - 1);
                maybe_compact(&s);
        }
        check(&s, kept, form, false);
        rebuilt_is_lived(&s, kept);
        json_decref(s.previous);
        json_decref(s.events);
        history_free(s.h);
}

static void property_7_agent_compatibility(void **state)
{
        for (uint64_t seed = 1; seed <= CASES; seed++)
                one_session(seed);
}

/* Every pixel of the picture falls on the screen, within one step of where it was drawn from, and
 * back; what is outside is refused. Pictures keep the limits of the models. */
static void property_7_coordinates(void **state)
{
        struct sim s = { .rng = 77 };

        for (size_t i = 0; i < 300; i++) {
                uint32_t w = 320 + (uint32_t) draw(&s, 3521), h = 200 + (uint32_t) draw(&s, 1961);
                uint32_t x, y, px, py;
                struct scale scale;

                scale_choose(w, h, &scale);
                assert_true(scale.width <= w && scale.height <= h);
                assert_true(scale.width <= 1568 && scale.height <= 1568);
                assert_true(((scale.width + 27) / 28) * ((scale.height + 27) / 28) <= 1568);
                for (size_t k = 0; k < 20; k++) {
                        int64_t ax = (int64_t) draw(&s, scale.width),
                                ay = (int64_t) draw(&s, scale.height);

                        assert_int_equal(scale_to_screen(&scale, ax, ay, &x, &y), 0);
                        assert_true(x < w && y < h);
                        assert_true(fabs((double) x - (double) ax * w / scale.width) <= 1);
                        assert_true(fabs((double) y - (double) ay * h / scale.height) <= 1);
                        scale_to_picture(&scale, x, y, &px, &py);
                        assert_true(llabs((int64_t) px - ax) <= 1 && llabs((int64_t) py - ay) <= 1);
                }
                assert_int_equal(scale_to_screen(&scale, scale.width, 0, &x, &y), -ERANGE);
                assert_int_equal(scale_to_screen(&scale, 0, scale.height, &x, &y), -ERANGE);
                assert_int_equal(scale_to_screen(&scale, -1, 0, &x, &y), -ERANGE);
        }
}

/* The three shapes of the reference, and what it leaves alone. */
static void property_7_targets(void **state)
{
        static const struct {
                uint32_t w, h, tw, th;
        } cases[] = { { 1920, 1080, 1366, 768 },
                      { 1920, 1200, 1280, 800 },
                      { 1600, 1200, 1024, 768 },
                      { 1280, 800, 1280, 800 },
                      { 1024, 768, 1024, 768 } };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct scale scale;

                scale_choose(cases[i].w, cases[i].h, &scale);
                assert_int_equal(scale.width, cases[i].tw);
                assert_int_equal(scale.height, cases[i].th);
        }
}

/* Stepping down: every form has a next older one, the newest is asked of the newest models, a
 * setting wins, an unknown model gets one, too. */
static void property_7_tool_versions(void **state)
{
        static const char *const newest[] = { "claude-opus-5-5", "claude-sonnet-5-5",
                                              "claude-haiku-5-5", "claude-fable-5-2",
                                              "claude-mythos-5-2-20260901" };
        enum anthropic_computer form;

        for (size_t i = 0; i < ARRAY_LEN(newest); i++) {
                assert_int_equal(anthropic_computer_for(newest[i], "", &form), 0);
                assert_int_equal(form, ANTHROPIC_COMPUTER_TOOLSET_20260801);
        }
        assert_int_equal(anthropic_computer_for("claude-sonnet-4-5", NULL, &form), 0);
        assert_int_equal(form, ANTHROPIC_COMPUTER_20250124);
        assert_int_equal(anthropic_computer_for("claude-opus-4-6", NULL, &form), 0);
        assert_int_equal(form, ANTHROPIC_COMPUTER_20251124);
        assert_int_equal(anthropic_computer_for("some-model", "", &form), 0);
        assert_true(form < ANTHROPIC_COMPUTER_MAX);
        assert_int_equal(anthropic_computer_for("claude-opus-5-5", "computer_20250124", &form), 0);
        assert_int_equal(form, ANTHROPIC_COMPUTER_20250124);
        assert_int_equal(anthropic_computer_for("claude-opus-5-5", "computer_1999", &form),
                         -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(property_7_agent_compatibility),
                cmocka_unit_test(property_7_coordinates),
                cmocka_unit_test(property_7_targets),
                cmocka_unit_test(property_7_tool_versions),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
