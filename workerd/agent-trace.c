/* The agent's work as spans: session (from waking up to resting) -> turn -> model call, tool call.
 * Names and attributes follow OpenTelemetry's conventions for generative AI where there are some.
 */
#include "agent-internal.h"

#define STATE(s) (UINT32_C(1) << AGENT_##s)
/* Reading what is new is no work yet: often there is nothing to do. */
#define AT_WORK                                                                                    \
        (STATE(PICTURES) | STATE(CALLING) | STATE(BACKOFF) | STATE(STORING) | STATE(ACTING) |      \
         STATE(KEEPING))
#define AT_REST (STATE(RESTING) | STATE(HELD) | STATE(ENDED))

static void end(struct agent *a, struct otlp_span *s, const char *why)
{
        if (why)
                otlp_failed(s, why);
        otlp_end(a->c.otlp, s);
}

void agent_trace_over(struct agent *a, const char *why)
{
        struct agent_trace *t = &a->trace;

        end(a, &t->model, why);
        end(a, &t->tool, why);
        end(a, &t->turn, why);
        end(a, &t->session, why);
}

const struct trace_context *agent_trace_here(const struct agent *a)
{
        const struct agent_trace *t = &a->trace;

        return trace_is_set(&t->tool.at)      ? &t->tool.at
               : trace_is_set(&t->model.at)   ? &t->model.at
               : trace_is_set(&t->session.at) ? &t->session.at
                                              : &t->parent;
}

static void open_session(struct agent *a)
{
        struct agent_trace *t = &a->trace;

        if (trace_is_set(&t->session.at))
                return;
        otlp_begin(a->c.otlp, &t->session, &t->parent, OTLP_INTERNAL, "session");
        otlp_text(&t->session, "gen_ai.operation.name", "invoke_agent");
        otlp_text(&t->session, "gen_ai.conversation.id", a->session_id);
        otlp_text(&t->session, "gen_ai.agent.name", a->c.agent_name);
        otlp_text(&t->session, "session.id", a->session_id);
        otlp_text(&t->session, "berth.tenant", a->c.host->tenant);
        otlp_text(&t->session, "berth.slot_kind", slot_kind_name(a->c.kind));
        otlp_number(&t->session, "berth.epoch", a->c.epoch);
}

static void open_turn(struct agent *a, uint64_t number)
{
        struct agent_trace *t = &a->trace;

        if (trace_is_set(&t->turn.at) && t->turn_number == number)
                return;
        end(a, &t->turn, NULL);
        /* Somebody wanted something new meanwhile: from here on it is done for them. */
        if (trace_is_set(&t->parent) && trace_is_set(&t->session.at) &&
            memcmp(t->parent.trace, t->session.at.trace, TRACE_ID_SIZE) != 0)
                end(a, &t->session, NULL);
        open_session(a);
        t->turn_number = number;
        otlp_begin(a->c.otlp, &t->turn, &t->session.at, OTLP_INTERNAL, "turn");
        otlp_text(&t->turn, "session.id", a->session_id);
        otlp_number(&t->turn, "berth.turn", number);
}

void agent_trace_state(struct agent *a, enum agent_state to)
{
        uint32_t bit = UINT32_C(1) << to;

        if (to != AGENT_CALLING)
                end(a, &a->trace.model, "cancelled");
        if (to != AGENT_ACTING)
                end(a, &a->trace.tool, "cancelled");
        if (AT_WORK & bit)
                open_session(a);
        else if (AT_REST & bit)
                agent_trace_over(a, to == AGENT_ENDED ? "failed" : NULL);
}

void agent_trace_model(struct agent *a)
{
        struct otlp_span *s = &a->trace.model;

        open_turn(a, a->answer.turn);
        otlp_begin(a->c.otlp, s, &a->trace.turn.at, OTLP_CLIENT, "chat %s", a->models[a->choice]);
        otlp_text(s, "gen_ai.operation.name", "chat");
        otlp_text(s, "gen_ai.provider.name", a->caller->name);
        otlp_text(s, "gen_ai.request.model", a->models[a->choice]);
        otlp_number(s, "gen_ai.request.max_tokens", a->c.max_tokens);
        otlp_text(s, "session.id", a->session_id);
        otlp_number(s, "berth.attempt", a->attempt);
        if (a->compact == COMPACT_ASKING)
                otlp_flag(s, "berth.compaction", true);
}

void agent_trace_answered(struct agent *a, const struct provider_reply *reply,
                          const struct provider_failure *failure)
{
        struct otlp_span *s = &a->trace.model;

        if (reply) {
                const struct usage *u = &reply->usage;
                otlp_text(s, "gen_ai.response.model", reply->model);
                otlp_text(s, "gen_ai.response.id", reply->request_id);
                otlp_text(s, "berth.stop_reason", reply->stop_reason);
                otlp_number(s, "gen_ai.usage.input_tokens",
                            u->input_tokens + u->cache_read_tokens + u->cache_write_tokens);
                otlp_number(s, "gen_ai.usage.output_tokens", u->output_tokens);
                otlp_number(s, "gen_ai.usage.cache_read.input_tokens", u->cache_read_tokens);
        } else {
                if (failure->status > 0)
                        otlp_number(s, "http.response.status_code", (uint64_t) failure->status);
                otlp_text(s, "error.type", failure->code);
                otlp_failed(s, failure->code);
        }
        end(a, s, NULL);
}

/* The language of a tool that runs code; NULL = it runs none. */
static const char *language_of(const struct history_call *call)
{
        const struct tool *tool = tool_find(call->name, call->toolset);

        if (tool == &tool_bash)
                return "bash";
        return tool == &tool_execute_code
                       ? json_string_value(json_object_get(call->input, "language"))
                       : NULL;
}

void agent_trace_tool(struct agent *a, const struct history_call *call)
{
        struct otlp_span *s = &a->trace.tool;
        const char *language = language_of(call);

        open_turn(a, history_assistant_turns(a->c.history));
        otlp_begin(a->c.otlp, s, &a->trace.turn.at, OTLP_INTERNAL, "execute_tool %.64s",
                   call->name);
        otlp_text(s, "gen_ai.operation.name", "execute_tool");
        otlp_text(s, "gen_ai.tool.name", call->name);
        otlp_text(s, "gen_ai.tool.call.id", call->id);
        otlp_text(s, "session.id", a->session_id);
        a->trace.runs_code = language;
        if (!language)
                return;
        otlp_text(s, "code.runtime", "local");
        otlp_text(s, "code.language", language);
        otlp_text(s, "code.sandbox", slot_kind_name(a->c.kind));
        otlp_number(s, "code.tokens_used",
                    a->answer.usage.input_tokens + a->answer.usage.output_tokens +
                            a->answer.usage.cache_read_tokens + a->answer.usage.cache_write_tokens);
}

void agent_trace_acted(struct agent *a, const struct tool_result *result)
{
        struct otlp_span *s = &a->trace.tool;
        struct slot_load load;

        if (s->live && a->trace.runs_code) {
                otlp_flag(s, "code.validation_passed", !result->invalid);
                if (a->c.host->slot && slot_load(a->c.host->slot, &load) == 0)
                        otlp_number(s, "code.memory_mb", (load.memory_bytes + MIB - 1) / MIB);
        }
        if (result->has_exit_code)
                otlp_number(s, "process.exit.code",
                            result->exit_code > 0 ? (uint64_t) result->exit_code : 0);
        if (result->error)
                otlp_failed(s, result->invalid ? "invalid_arguments" : "tool_error");
        end(a, s, NULL);
}

void agent_trace(struct agent *a, const struct trace_context *parent)
{
        if (trace_is_set(parent))
                a->trace.parent = *parent;
}
