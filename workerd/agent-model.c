/* The agent loop's model calls: composing, calling, waiting before another attempt, storing the
 * answer. */
#include "agent-internal.h"

#include "common/io/log.h"
#include "scale.h"

#define BUSY_WAIT (30 * USEC_PER_SEC) /* between attempts at a model that stays busy */
#define SHOWN_WAIT USEC_PER_SEC       /* shorter waits are not worth an event */

json_t *usage_json(const struct usage *u)
{
        return json_pack("{s:I,s:I,s:I,s:I,s:f,s:I}", "input_tokens", (json_int_t) u->input_tokens,
                         "output_tokens", (json_int_t) u->output_tokens, "cache_read_tokens",
                         (json_int_t) u->cache_read_tokens, "cache_write_tokens",
                         (json_int_t) u->cache_write_tokens, "cost_usd",
                         (double) u->cost_microusd / 1e6, "turns", (json_int_t) u->turns);
}

void answer_done(struct answer *answer)
{
        json_decref(answer->content);
        json_decref(answer->bad_calls);
        free(answer->stop_reason);
        free(answer->stop_detail);
        free(answer->model);
        *answer = (struct answer){ 0 };
}

static const json_t *first_call(const json_t *content)
{
        const json_t *block;
        size_t i;

        json_array_foreach (content, i, block)
                if (streq(json_string_value(json_object_get(block, "type")), "tool_use"))
                        return block;
        return NULL;
}

static void after_turn(struct agent *a)
{
        if (a->shown == SESSION_STATE_IDLE)
                agent_rest(a, SESSION_STATE_IDLE);
        else
                agent_run(a);
}

/* A message came while the model answered: the turn is stored without resting, and the loop goes
 * on. */
static void turn_refused(struct agent *a)
{
        a->shown = SESSION_STATE_RUNNING;
        agent_store_turn(a, false);
}

static const char *rest_reason(const struct answer *answer, char *buf, size_t size)
{
        if (streq(answer->stop_reason, "max_tokens"))
                return "the answer was cut at the limit of output tokens";
        if (streq(answer->stop_reason, "refusal")) {
                (void) snprintf(buf, size, "the model declined%s%s",
                                strempty(answer->stop_detail) ? "" : ": ",
                                strempty(answer->stop_detail) ? "" : answer->stop_detail);
                return buf;
        }
        return "answered";
}

/* The intent of the turn's first call, if it may run; the turn is not in the conversation yet. */
static void plan_first(struct step *s, struct agent *a, const json_t *block)
{
        const struct history_call call = {
                .id = json_string_value(json_object_get(block, "id")),
                .name = json_string_value(json_object_get(block, "name")),
                .toolset = json_string_value(json_object_get(block, "toolset_name")),
                .input = json_object_get(block, "input"),
        };

        if (agent_approve(s, a, &call) == GATE_OPEN)
                step_intent(s, a, call.id, call.name, call.input);
}

void agent_store_turn(struct agent *a, bool rest)
{
        struct step *s = step_new();
        const json_t *call = first_call(a->answer.content);
        char reason[400];

        step_turn(s, a);
        s->after = after_turn;
        if (call) {
                plan_first(s, a, call);
        } else if (rest && a->c.keep && !streq(a->answer.stop_reason, "pause_turn")) {
                (void) snprintf(a->rest_why, sizeof(a->rest_why), "%s",
                                rest_reason(&a->answer, reason, sizeof(reason)));
        } else if (rest && !streq(a->answer.stop_reason, "pause_turn")) {
                append_state(s->append, SESSION_STATE_IDLE, a->answer.input_seq,
                             rest_reason(&a->answer, reason, sizeof(reason)));
                a->shown = SESSION_STATE_IDLE;
                s->refused = turn_refused;
        }
        step_commit(s, a);
}

/* The conversation was too long: true when it is tried again, with a summary or for one. */
static bool too_long(struct agent *a)
{
        if (a->compact == COMPACT_ASKING && !a->compact_short)
                a->compact_short = true;
        else if (!agent_compact_overflow(a))
                return false;
        log_notice("session %s: the conversation is longer than the model reads", a->session_id);
        agent_set_state(a, AGENT_BACKOFF);
        loop_timer_arm(&a->backoff, 0);
        return true;
}

/* What services say when a request has more tokens than the model reads. */
static bool says_too_long(const struct provider_failure *f)
{
        static const char *const words[] = { "prompt is too long", "context length",
                                             "context window", "maximum context" };

        if (streq(f->code, "context_length_exceeded") || f->status == 413)
                return true;
        for (size_t i = 0; f->status == 400 && i < ARRAY_LEN(words); i++)
                if (strcasestr(f->message, words[i]))
                        return true;
        return false;
}

static void on_reply(struct agent *a, const struct provider_reply *reply)
{
        struct answer *answer = &a->answer;

        a->attempt = 0;
        a->busy_since = 0;
        json_decref(answer->content);
        json_decref(answer->bad_calls);
        free(answer->stop_reason);
        free(answer->stop_detail);
        free(answer->model);
        answer->content = json_incref(reply->content);
        answer->bad_calls = json_incref(reply->bad_calls);
        answer->stop_reason = xstrdup(reply->stop_reason);
        answer->stop_detail = xstrdup(reply->stop_detail);
        answer->model = xstrdup(reply->model);
        answer->usage = reply->usage;
        answer->usage.cost_microusd = prices_cost(a->c.prices, reply->model, &reply->usage);
        uuid_make(answer->message_id);
        a->total.input_tokens += answer->usage.input_tokens;
        a->total.output_tokens += answer->usage.output_tokens;
        a->total.cache_read_tokens += answer->usage.cache_read_tokens;
        a->total.cache_write_tokens += answer->usage.cache_write_tokens;
        a->total.cost_microusd += answer->usage.cost_microusd;
        a->total.turns++;
        if (streq(reply->stop_reason, "model_context_window_exceeded") && too_long(a))
                return;
        if (a->compact == COMPACT_ASKING) {
                agent_store_compaction(a);
                return;
        }
        if (streq(reply->stop_reason, "model_context_window_exceeded")) {
                agent_fail(a, "context_window_exceeded",
                           "The conversation is longer than the model can read.");
                return;
        }
        agent_store_turn(a, true);
}

static bool is_busy(const struct provider_failure *f)
{
        return f->status == 429 || f->status == 529 || streq(f->code, "overloaded_error") ||
               streq(f->code, "rate_limit_error");
}

/* Is there another attempt with this model? A busy one is waited for when there is no other. */
static bool tries_again(struct agent *a, const struct provider_failure *f)
{
        if (!f->retry)
                return false;
        if (!is_busy(f) || a->choice + 1 < a->c.n_choices)
                return a->attempt <= a->c.retries;
        if (a->busy_since == 0)
                a->busy_since = now_monotonic();
        return a->attempt <= a->c.retries || now_monotonic() - a->busy_since < a->c.busy_usec;
}

/* What is wrong with the request itself is wrong for every model. */
static bool next_choice(struct agent *a, const struct provider_failure *f)
{
        char reason[400];

        if (a->choice + 1 >= a->c.n_choices || f->status == 413)
                return false;
        (void) snprintf(reason, sizeof(reason), "model %.100s failed (%.80s); going on with %.100s",
                        a->models[a->choice], f->code, a->models[a->choice + 1]);
        log_warning("session %s: %s", a->session_id, reason);
        a->choice++;
        a->attempt = 0;
        agent_show(a, SESSION_STATE_WAITING, reason);
        agent_set_state(a, AGENT_BACKOFF);
        loop_timer_arm(&a->backoff, 0);
        return true;
}

static void on_failure(struct agent *a, const struct provider_failure *f)
{
        uint32_t random;
        uint64_t wait;
        char reason[200];

        if (says_too_long(f) && too_long(a))
                return;
        random_bytes(&random, sizeof(random));
        if (!tries_again(a, f)) {
                log_warning("model call failed for good after %u attempts: %s: %s", a->attempt,
                            f->code, f->message);
                if (!next_choice(a, f))
                        agent_fail(a, f->code, f->message);
                return;
        }
        wait = provider_backoff(a->attempt, f->retry_after_usec, random);
        if (is_busy(f) && f->retry_after_usec == 0 && a->attempt > a->c.retries)
                wait = BUSY_WAIT;
        log_info("model call failed (%s: %s), attempt %u, next in %" PRIu64 " ms", f->code,
                 f->message, a->attempt, wait / USEC_PER_MSEC);
        if (wait >= SHOWN_WAIT) {
                (void) snprintf(reason, sizeof(reason),
                                "model busy (%.80s), next try in %" PRIu64 " s", f->code,
                                (wait + USEC_PER_SEC - 1) / USEC_PER_SEC);
                agent_show(a, SESSION_STATE_WAITING, reason);
        }
        agent_set_state(a, AGENT_BACKOFF);
        loop_timer_arm(&a->backoff, wait);
}

static void on_done(void *userdata, const struct provider_reply *reply,
                    const struct provider_failure *failure)
{
        struct agent *a = userdata;

        TRACE_SCOPE(agent_trace_here(a));
        a->call = NULL;
        provider_count(a->caller, reply, failure);
        agent_trace_answered(a, reply, failure);
        if (reply)
                on_reply(a, reply);
        else
                on_failure(a, failure);
}

static void on_delta(void *userdata, size_t block, enum provider_delta kind, struct span text)
{
        struct agent *a = userdata;

        if (a->c.live && a->compact != COMPACT_ASKING)
                live_model(a->c.live, a->answer.turn, block, kind, text);
}

static void on_pictures(void *userdata, int r, const char *why)
{
        struct agent *a = userdata;

        if (r < 0)
                agent_fail(a, "history_unreadable", why);
        else
                agent_run(a);
}

static void picture_size(const struct agent *a, struct scale *ret)
{
        struct screen *screen = a->c.host->slot ? slot_screen(a->c.host->slot) : NULL;
        unsigned width, height;

        *ret = (struct scale){ 0 };
        if (!screen)
                return;
        screen_size(screen, &width, &height);
        scale_choose(width, height, ret);
}

void agent_call_model(struct agent *a)
{
        cleanup_json json_t *conversation =
                agent_compacts(a) ? agent_compact_conversation(a)
                                  : history_compose(a->c.history, a->c.images_kept);
        cleanup_json json_t *missing = history_missing_images(a->c.history, conversation);
        struct provider_tool tools[TOOLS_MAX];
        struct provider_events events = { .on_delta = on_delta, .on_done = on_done, .userdata = a };
        struct scale scale;
        char traceparent[TRACEPARENT_MAX] = "";
        int r;

        if (json_array_size(missing) > 0) {
                agent_set_state(a, AGENT_PICTURES);
                loader_pictures(a->c.loader, missing, on_pictures, a);
                return;
        }
        history_drop_images(a->c.history, conversation);
        picture_size(a, &scale);
        agent_show(a, SESSION_STATE_RUNNING, "");
        agent_set_state(a, AGENT_CALLING);
        a->attempt++;
        a->answer.input_seq = history_last_user_seq(a->c.history);
        a->answer.turn = history_assistant_turns(a->c.history) + 1;
        a->caller = a->c.choices[a->choice].provider;
        agent_trace_model(a);
        if (a->c.traceparent && trace_is_set(&a->trace.model.at))
                traceparent_format(&a->trace.model.at, traceparent);
        r = a->caller->start(a->caller,
                             &(struct provider_request){
                                     .model = a->models[a->choice],
                                     .system = a->system,
                                     .history = a->c.history,
                                     .conversation = conversation,
                                     .tools = tools,
                                     .n_tools = tool_list(a->c.host, tools),
                                     .width = scale.width,
                                     .height = scale.height,
                                     .max_tokens = a->c.max_tokens,
                                     .traceparent = traceparent[0] ? traceparent : NULL,
                             },
                             &events, &a->call);
        if (r == -EMSGSIZE && too_long(a))
                return;
        if (r == -EMSGSIZE)
                agent_fail(a, "request_too_large",
                           "The conversation is larger than the model service takes.");
        else if (r < 0)
                agent_fail(a, "model_error", "The request to the model could not be made.");
}

void agent_model_cancel(struct agent *a)
{
        if (a->call)
                a->caller->cancel(TAKE_PTR(a->call));
}
