/* Long runs: the conversation gives way to a summary before it is too long for the model; an agent
 * that does the same over and over again asks for help. */
#include "agent-internal.h"

#include "common/base/fault.h"
#include "common/io/log.h"

static const char instruction[] =
        "[This is the machine you run on, not the person.] The conversation is about to be "
        "shortened: everything but the first message and the newest turns will be replaced by "
        "what you write now. Write the summary that you need to go on without loss: what the "
        "person asked for and every wish since, word for word where it matters; what has been "
        "done and found, with names, paths, addresses, numbers and ids exactly; what is open, in "
        "order; what went wrong and must not be tried again; what is on the screen and running "
        "now. Write plain text. Do not call a tool and do not address the person.";

/* The most the model reads, less what it may answer. */
static uint64_t room(const struct agent *a)
{
        uint64_t context = prices_context(a->c.prices, a->models[a->choice]);

        if (context == 0)
                context = a->c.context_default;
        return context / 100 * a->c.compact_percent;
}

/* When the last time did not help, fewer turns stay. False: it cannot help. */
static bool narrower(struct agent *a)
{
        if (a->compact_turn == 0 || history_assistant_turns(a->c.history) > a->compact_turn + 1) {
                a->compact_kept = a->c.compact_kept;
                return true;
        }
        if (a->compact_kept <= 1)
                return false;
        a->compact_kept /= 2;
        return true;
}

bool agent_compacts(struct agent *a)
{
        if (a->compact == COMPACT_ASKING)
                return true;
        if (a->c.compact_percent == 0 || a->compact == COMPACT_REFUSED)
                return false;
        if (a->compact != COMPACT_MUST && history_context(a->c.history) < room(a))
                return false;
        if (history_compact_upto(a->c.history, 1) == 0) {
                a->compact = COMPACT_NO; /* there is too little yet */
                return false;
        }
        if (!narrower(a)) {
                a->compact = COMPACT_REFUSED;
                return false;
        }
        while (history_compact_upto(a->c.history, a->compact_kept) == 0)
                a->compact_kept /= 2;
        log_info("session %s: %" PRIu64 " tokens, the conversation is to be summarised",
                 a->session_id, history_context(a->c.history));
        crash_point("worker.before_compaction");
        a->compact = COMPACT_ASKING;
        return true;
}

bool agent_compact_overflow(struct agent *a)
{
        if (a->compact != COMPACT_NO || a->c.compact_percent == 0 ||
            history_compact_upto(a->c.history, 1) == 0)
                return false;
        a->compact = COMPACT_MUST;
        return true;
}

/* A summary of what is itself too long for the model is made of the words alone. */
static void shorten(json_t *conversation)
{
        json_t *turn, *block, *inner;
        size_t i, k, j;

        json_array_foreach (conversation, i, turn)
                json_array_foreach (json_object_get(turn, "content"), k, block)
                        json_array_foreach (json_object_get(block, "content"), j, inner)
                                if (!streq(json_string_value(json_object_get(inner, "type")),
                                           "text"))
                                        json_array_set_new(json_object_get(block, "content"), j,
                                                           json_pack("{s:s,s:s}", "type", "text",
                                                                     "text", "[picture]"));
}

json_t *agent_compact_conversation(struct agent *a)
{
        json_t *conversation = history_compose(a->c.history, a->c.images_kept), *last;
        json_t *ask = json_pack("{s:s,s:s}", "type", "text", "text", instruction);

        if (a->compact_short)
                shorten(conversation);
        last = json_array_get(conversation, json_array_size(conversation) - 1);
        if (streq(json_string_value(json_object_get(last, "role")), "user"))
                json_array_append_new(json_object_get(last, "content"), ask);
        else
                json_array_append_new(conversation,
                                      json_pack("{s:s,s:[o]}", "role", "user", "content", ask));
        return conversation;
}

static char *summary_of(const json_t *content)
{
        cleanup_buf struct buf text = BUF_INIT;
        const json_t *block;
        size_t i;

        json_array_foreach (content, i, block) {
                const char *said = json_string_value(json_object_get(block, "text"));

                if (streq(json_string_value(json_object_get(block, "type")), "text") && said)
                        buf_puts(&text, said);
        }
        return text.len > 0 ? buf_take(&text, NULL) : NULL;
}

static void after_compaction(struct agent *a)
{
        crash_point("worker.after_compaction");
        agent_run(a);
}

void agent_store_compaction(struct agent *a)
{
        cleanup_free char *summary = summary_of(a->answer.content);
        uint64_t upto = history_compact_upto(a->c.history, a->compact_kept);
        struct usage call = a->answer.usage;
        struct step *s;

        if (!summary) {
                log_warning("session %s: the model wrote no summary; going on without",
                            a->session_id);
                a->compact = COMPACT_REFUSED;
        } else {
                a->compact = COMPACT_NO;
        }
        a->compact_short = false;
        a->compact_turn = history_assistant_turns(a->c.history);
        call.turns = 1;
        s = step_new();
        if (summary)
                step_compaction(s, upto, summary, history_context(a->c.history), a->answer.model);
        append_event(s->append, EVENT_TYPE_USAGE,
                     json_pack("{s:o,s:o,s:s,s:s}", "usage", usage_json(&call), "total",
                               usage_json(&a->total), "model", a->answer.model, "purpose",
                               "compaction"));
        append_usage(s->append, &call);
        s->after = after_compaction;
        step_commit(s, a);
}

/* The agent asks for help once, until it is spoken to. */
bool agent_loops(struct agent *a)
{
        const struct history_call *call = history_loop(a->c.history, a->c.loop_repeats);
        cleanup_free char *question = NULL, *input = NULL;

        if (!call)
                return false;
        input = json_text(call->input);
        question = xasprintf("I have done the same %" PRIu64 " times and nothing has changed: %s "
                             "%.200s. What shall I do differently?",
                             a->c.loop_repeats, call->name, input);
        log_notice("session %s: the same %s %" PRIu64 " times; asks for help", a->session_id,
                   call->name, a->c.loop_repeats);
        agent_wait(a, WAITING_FOR_HELP, question);
        return true;
}
