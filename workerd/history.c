/* Folds stored events into the conversation: turns, tool calls and their results. */
#include "history-internal.h"

#include <time.h>

#define CALLS_MAX 256

struct history *history_new(size_t bytes_max)
{
        struct history *h = xnew(struct history);

        h->bytes_max = bytes_max;
        h->images = map_new();
        h->grants = map_new();
        return h;
}

void history_entry_done(struct history_entry *e)
{
        for (size_t i = 0; i < e->n_calls; i++) {
                json_decref(e->calls[i].output);
                free(e->calls[i].error);
                free(e->calls[i].note);
        }
        free(e->calls);
        json_decref(e->content);
}

static void image_free(struct history_image *i)
{
        free(i->base64);
        free(i->media_type);
        free(i);
}

struct history *history_free(struct history *h)
{
        size_t iter = 0;
        void *image;

        if (!h)
                return NULL;
        for (size_t i = 0; i < h->n; i++)
                history_entry_done(&h->entries[i]);
        free(h->entries);
        free(h->summary);
        json_decref(h->pinned);
        while (map_next(h->images, &iter, NULL, &image))
                image_free(image);
        map_free(h->images);
        map_free(h->grants);
        free(h);
        return NULL;
}

/* Roughly what the value takes: enough to hold the whole to its limit. */
size_t history_size(const json_t *content)
{
        size_t n = json_dumpb(content, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);

        return n + 64;
}

static int history_account(struct history *h, const json_t *content)
{
        size_t n = history_size(content);

        if (n > h->bytes_max - h->bytes)
                return -EMSGSIZE;
        h->bytes += n;
        return 0;
}

void history_unaccount(struct history *h, const struct history_entry *e)
{
        size_t n = history_size(e->content);

        for (size_t i = 0; i < e->n_calls; i++)
                if (e->calls[i].output)
                        n += history_size(e->calls[i].output);
        h->bytes -= MIN(n, h->bytes);
}

static struct history_entry *history_insert(struct history *h, size_t at)
{
        if (h->n == h->cap) {
                h->cap = MAX(h->cap * 2, (size_t) 16);
                h->entries = xrealloc(h->entries, h->cap, sizeof(*h->entries));
        }
        memmove(h->entries + at + 1, h->entries + at, (h->n - at) * sizeof(*h->entries));
        h->entries[at] = (struct history_entry){ 0 };
        h->n++;
        return &h->entries[at];
}

static int entry_calls(struct history_entry *e)
{
        size_t i;
        json_t *block;

        json_array_foreach (e->content, i, block) {
                const char *type = json_string_value(json_object_get(block, "type"));
                struct history_call *c;

                if (!streq(type, "tool_use"))
                        continue;
                if (e->n_calls == CALLS_MAX)
                        return -EMSGSIZE;
                e->calls = xrealloc(e->calls, e->n_calls + 1, sizeof(*e->calls));
                c = &e->calls[e->n_calls];
                *c = (struct history_call){
                        .id = json_string_value(json_object_get(block, "id")),
                        .name = json_string_value(json_object_get(block, "name")),
                        .toolset = json_string_value(json_object_get(block, "toolset_name")),
                        .input = json_object_get(block, "input"),
                };
                if (!c->id || !c->name || !json_is_object(c->input))
                        return -EBADMSG;
                e->n_calls++;
        }
        return 0;
}

int history_add_assistant(struct history *h, uint64_t seq, uint64_t input_seq, bool paused,
                          json_t *content)
{
        struct history_entry e = { .assistant = true, .paused = paused, .seq = seq };
        size_t at = h->n;
        int r;

        if (!json_is_array(content))
                return -EBADMSG;
        r = history_account(h, content);
        if (r < 0)
                return r;
        e.content = json_incref(content);
        r = entry_calls(&e);
        if (r < 0) {
                history_entry_done(&e);
                return r;
        }
        while (at > 0 && !h->entries[at - 1].assistant && h->entries[at - 1].seq > input_seq)
                at--;
        *history_insert(h, at) = e;
        return 0;
}

int history_add_user(struct history *h, uint64_t seq, json_t *content)
{
        struct history_entry *e;
        int r;

        if (!json_is_array(content))
                return -EBADMSG;
        if (seq <= history_last_user_seq(h))
                return 0;
        r = history_account(h, content);
        if (r < 0)
                return r;
        e = history_insert(h, h->n);
        e->seq = seq;
        e->content = json_incref(content);
        return 0;
}

/* The call of that id in the newest turn that has one (a model may use an id again later); one that
 * is not done before one that is. */
static struct history_call *find_call(struct history *h, const char *id)
{
        for (size_t i = h->n; i > 0; i--) {
                struct history_entry *e = &h->entries[i - 1];
                struct history_call *found = NULL;

                for (size_t k = 0; k < e->n_calls; k++) {
                        if (!streq(e->calls[k].id, id))
                                continue;
                        found = &e->calls[k];
                        if (found->state != CALL_DONE)
                                break;
                }
                if (found)
                        return found;
        }
        return NULL;
}

int history_set_intent(struct history *h, const char *call_id, uint64_t seq, uint64_t realtime_us)
{
        struct history_call *c = find_call(h, call_id);

        if (!c)
                return -ENOENT;
        if (c->state != CALL_OPEN)
                return 0;
        c->state = CALL_INTENT;
        c->intent_seq = seq;
        c->intent_us = realtime_us;
        return 0;
}

int history_set_result(struct history *h, const char *call_id, const json_t *output,
                       const char *error)
{
        struct history_call *c = find_call(h, call_id);
        int r;

        if (!c)
                return -ENOENT;
        if (c->state == CALL_DONE)
                return 0;
        if (output && !json_is_array(output))
                return -EBADMSG;
        if (output) {
                r = history_account(h, output);
                if (r < 0)
                        return r;
        }
        c->state = CALL_DONE;
        c->output = output ? json_incref((json_t *) output) : json_array();
        c->error = xstrdup(error);
        return 0;
}

void history_set_over(struct history *h, const char *call_id)
{
        for (size_t i = h->n; i > 0; i--)
                for (size_t k = 0; k < h->entries[i - 1].n_calls; k++)
                        if (streq(h->entries[i - 1].calls[k].id, call_id)) {
                                h->entries[i - 1].over = true;
                                return;
                        }
}

const struct history_entry *history_answer(const struct history *h, uint64_t after_seq)
{
        for (size_t i = 0; i < h->n; i++)
                if (!h->entries[i].assistant && !h->entries[i].taken &&
                    h->entries[i].seq > after_seq)
                        return &h->entries[i];
        return NULL;
}

void history_take_answer(struct history *h, uint64_t seq)
{
        for (size_t i = 0; i < h->n; i++)
                if (!h->entries[i].assistant && h->entries[i].seq == seq)
                        h->entries[i].taken = true;
}

/* 0 when the text is not a timestamp as the hub writes them. */
static uint64_t read_time(const char *text)
{
        struct tm tm = { 0 };
        const char *end = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;

        return end ? (uint64_t) timegm(&tm) * USEC_PER_SEC : 0;
}

static int add_result_event(struct history *h, const char *call, const json_t *event)
{
        const json_t *answer = json_object_get(event, "answer_seq");
        int r = history_set_result(h, call, json_object_get(event, "tool_output"),
                                   json_string_value(json_object_get(event, "error")));

        if (r == 0 && json_is_integer(answer))
                history_take_answer(h, (uint64_t) json_integer_value(answer));
        if (r == 0 && json_is_object(json_object_get(event, "report")))
                history_set_over(h, call);
        return r;
}

int history_set_asked(struct history *h, const char *call_id, const char *digest)
{
        struct history_call *c = find_call(h, call_id);

        if (!c)
                return -ENOENT;
        c->asked = true;
        c->approval = APPROVAL_STATUS_PENDING;
        (void) snprintf(c->digest, sizeof(c->digest), "%s", digest ? digest : "");
        return 0;
}

enum approval_status history_grant(const struct history *h, const char *digest)
{
        const enum approval_status *found = map_get(h->grants, digest);

        return found ? *found : APPROVAL_STATUS_PENDING;
}

static int add_decision(struct history *h, const char *call_id, const json_t *event)
{
        static enum approval_status values[] = { APPROVAL_STATUS_ALLOWED, APPROVAL_STATUS_DENIED };
        const char *digest = json_string_value(json_object_get(event, "digest"));
        const char *scope = json_string_value(json_object_get(event, "scope"));
        const char *status = json_string_value(json_object_get(event, "status"));
        struct history_call *c = find_call(h, call_id);
        enum approval_status to;

        if (!digest || !status || approval_status_parse(status, &to) < 0)
                return -EBADMSG;
        if (streq(scope, "session") &&
            (to == APPROVAL_STATUS_ALLOWED || to == APPROVAL_STATUS_DENIED))
                (void) map_set(h->grants, digest, &values[to == APPROVAL_STATUS_DENIED]);
        if (!c || !c->asked || c->state == CALL_DONE)
                return 0;
        c->approval = to;
        free(c->note);
        c->note = xstrdup(json_string_value(json_object_get(event, "note")));
        return 0;
}

static uint64_t tokens_of(const json_t *usage)
{
        static const char *const kinds[] = { "input_tokens", "cache_read_tokens",
                                             "cache_write_tokens", "output_tokens" };
        uint64_t n = 0;

        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
                n += (uint64_t) json_integer_value(json_object_get(usage, kinds[i]));
        return n;
}

static int add_message_event(struct history *h, uint64_t seq, const json_t *event)
{
        const char *role = json_string_value(json_object_get(event, "role"));
        json_t *content = json_object_get(event, "content");
        const json_t *input_seq = json_object_get(event, "input_seq");
        const char *why = json_string_value(json_object_get(event, "stop_reason"));
        cleanup_json json_t *wrapped = NULL;

        if (json_is_string(content)) {
                wrapped = json_pack("[{s:s,s:O}]", "type", "text", "text", content);
                content = wrapped;
        }
        if (streq(role, "user")) {
                int r = history_add_user(h, seq, content);

                if (r == 0 && json_is_true(json_object_get(event, "pinned")))
                        h->entries[h->n - 1].pinned = true;
                return r;
        }
        if (!streq(role, "assistant"))
                return 0;
        return history_add_assistant(
                h, seq, json_is_integer(input_seq) ? (uint64_t) json_integer_value(input_seq) : seq,
                streq(why, "pause_turn"), content);
}

int history_add_event(struct history *h, const json_t *event)
{
        const char *type = json_string_value(json_object_get(event, "event_type"));
        const char *call = json_string_value(json_object_get(event, "tool_call_id"));
        json_int_t seq = json_integer_value(json_object_get(event, "seq"));
        int r;

        if (!type || seq <= 0)
                return -EBADMSG;
        if (streq(type, "message"))
                return add_message_event(h, (uint64_t) seq, event);
        if (streq(type, "usage")) {
                if (!json_object_get(event, "purpose"))
                        history_set_context(h, tokens_of(json_object_get(event, "usage")));
                return 0;
        }
        if (streq(type, "compaction"))
                return history_compact(
                        h, (uint64_t) json_integer_value(json_object_get(event, "upto_seq")),
                        json_string_value(json_object_get(event, "summary")));
        if (streq(type, "pre_tool"))
                r = call ? history_set_intent(h, call, (uint64_t) seq,
                                              read_time(json_string_value(
                                                      json_object_get(event, "timestamp"))))
                         : 0;
        else if (streq(type, "post_tool"))
                r = call ? add_result_event(h, call, event) : 0;
        else if (streq(type, "approval_requested"))
                r = call ? history_set_asked(h, call,
                                             json_string_value(json_object_get(event, "digest")))
                         : 0;
        else if (streq(type, "approval_decided"))
                r = call ? add_decision(h, call, event) : 0;
        else
                return 0;
        return r == -ENOENT
                       ? 0
                       : r; /* a call of no turn: reported by somebody else, not ours to answer */
}

uint64_t history_last_user_seq(const struct history *h)
{
        uint64_t seq = h->dropped_user_seq;

        for (size_t i = 0; i < h->n; i++)
                if (!h->entries[i].assistant)
                        seq = MAX(seq, h->entries[i].seq);
        return seq;
}

size_t history_turns(const struct history *h)
{
        size_t n = 0;

        for (size_t i = h->n; i > 0 && h->entries[i - 1].assistant; i--)
                n++;
        return n == h->n ? n + h->dropped_run : n;
}

size_t history_assistant_turns(const struct history *h)
{
        size_t n = h->dropped_turns;

        for (size_t i = 0; i < h->n; i++)
                n += h->entries[i].assistant;
        return n;
}

const struct history_entry *history_last_turn(const struct history *h, bool *ret_answered)
{
        *ret_answered = false;
        for (size_t i = h->n; i > 0; i--) {
                if (h->entries[i - 1].assistant)
                        return &h->entries[i - 1];
                *ret_answered |= !h->entries[i - 1].taken;
        }
        return NULL;
}

enum history_next history_next(const struct history *h, const struct history_call **ret_call)
{
        bool answered;
        const struct history_entry *e = history_last_turn(h, &answered);

        for (size_t i = 0; e && i < e->n_calls; i++)
                if (e->calls[i].state != CALL_DONE) {
                        if (ret_call)
                                *ret_call = &e->calls[i];
                        return HISTORY_CALL;
                }
        if (answered || (e && !e->over && (e->n_calls > 0 || e->paused)))
                return HISTORY_MODEL;
        return HISTORY_NOTHING;
}

void history_set_image(struct history *h, const char *digest, const char *media_type,
                       struct span data)
{
        struct history_image *image, *old;

        image = xnew(struct history_image);
        image->base64 = xmalloc(base64_size(data.len));
        base64_encode(data.data, data.len, image->base64);
        image->len = strlen(image->base64);
        image->media_type = xstrdup(media_type);
        old = map_set(h->images, digest, image);
        if (old)
                image_free(old);
}

const struct history_image *history_image(const struct history *h, const char *digest)
{
        return map_get(h->images, digest);
}

void history_forget_images(struct history *h, const struct map *keep)
{
        size_t iter = 0;
        const char *digest;
        void *image;

        while (map_next(h->images, &iter, &digest, &image))
                if (!map_get(keep, digest)) {
                        (void) map_remove(h->images, digest);
                        image_free(image);
                }
}
