/* Calls of tools that a person must allow: asked for, waited for, run or refused. */
#include "agent-internal.h"

#include "common/base/approval-policy.h"
#include "common/base/fault.h"
#include "common/io/log.h"
#include "utf8.h"

#define BOUND_MAX MIB
#define SUBJECT_MAX 200

/* The name by which a blueprint knows the tool. */
static const char *policy_name(const struct history_call *call)
{
        const struct tool *tool = tool_find(call->name, call->toolset);

        return tool ? tool->spec.name : call->name;
}

static json_t *bound_of(const struct history_call *call)
{
        return json_pack("{s:s,s:O,s:s*}", "tool", call->name, "arguments", call->input, "toolset",
                         call->toolset);
}

static void digest_of(const struct history_call *call, char out[static SHA256_HEX])
{
        cleanup_json json_t *bound = bound_of(call);

        approval_digest(approval_kind_name(APPROVAL_KIND_TOOL), bound, out);
}

/* "bash: rm -rf build": what a person reads in a list. */
static char *subject_of(const struct history_call *call)
{
        static const char *const telling[] = {
                "command", "path", "url", "query", "action", "text"
        };
        cleanup_free char *text = NULL;
        const char *detail = NULL;

        for (size_t i = 0; i < ARRAY_LEN(telling) && !detail; i++)
                detail = json_string_value(json_object_get(call->input, telling[i]));
        text = detail ? xasprintf("%s: %s", call->name, detail) : xstrdup(call->name);
        for (char *p = text; *p; p++)
                if ((unsigned char) *p < 0x20)
                        *p = ' ';
        return xstrndup(text, utf8_cut(text, strlen(text), SUBJECT_MAX));
}

static enum approval_gate refuse(struct step *s, struct agent *a, const struct history_call *call,
                                 const char *why)
{
        step_no_result(s, a, call->id, call->name, why);
        return GATE_REFUSED;
}

/* What the model reads instead of a result. */
static char *refusal(const struct history_call *call)
{
        switch (call->approval) {
        case APPROVAL_STATUS_EXPIRED:
                return xstrdup("not executed: nobody decided in time whether it may");
        case APPROVAL_STATUS_CANCELLED:
                return xasprintf("not executed: %s",
                                 strempty(call->note) ? "the request was withdrawn" : call->note);
        case APPROVAL_STATUS_DENIED:
        case APPROVAL_STATUS_PENDING:
        case APPROVAL_STATUS_ALLOWED:
        case APPROVAL_STATUS_MAX:
                break;
        }
        return xasprintf("not executed: a person denied it%s%s. Do not try the same in another way",
                         strempty(call->note) ? "" : ": ", strempty(call->note) ? "" : call->note);
}

static void wait_here(struct step *s, struct agent *a, const char *subject)
{
        cleanup_free char *question = xasprintf("May the agent run %s?", subject);

        if (a->shown == SESSION_STATE_WAITING && a->waiting_for == WAITING_FOR_APPROVAL)
                return;
        append_state(s->append, SESSION_STATE_WAITING, 0, question);
        append_waiting(s->append, WAITING_FOR_APPROVAL);
        a->shown = SESSION_STATE_WAITING;
        a->waiting_for = WAITING_FOR_APPROVAL;
}

static enum approval_gate ask(struct step *s, struct agent *a, const struct history_call *call,
                              const char *digest)
{
        cleanup_json json_t *bound = bound_of(call);
        cleanup_free char *text = json_text(bound), *subject = subject_of(call);

        if (strlen(text) > BOUND_MAX)
                return refuse(s, a, call,
                              "not executed: a person must allow it, and its arguments are too "
                              "long to be looked at; do it in smaller parts");
        log_info("session %s: asks whether %s may run", a->session_id, call->name);
        step_ask(s, call->id, digest, subject, TAKE_PTR(text));
        wait_here(s, a, subject);
        return GATE_WAITS;
}

/* A person has decided, or is to. */
static enum approval_gate judge(struct step *s, struct agent *a, const struct history_call *call)
{
        cleanup_free char *subject = NULL, *why = NULL;
        char digest[SHA256_HEX];

        digest_of(call, digest);
        if (!call->asked) {
                enum approval_status standing = history_grant(a->c.history, digest);

                if (standing == APPROVAL_STATUS_ALLOWED)
                        return GATE_OPEN;
                if (standing == APPROVAL_STATUS_DENIED)
                        return refuse(s, a, call,
                                      "not executed: a person denied this for the whole session");
                return ask(s, a, call, digest);
        }
        if (call->approval == APPROVAL_STATUS_PENDING) {
                subject = subject_of(call);
                wait_here(s, a, subject);
                return GATE_WAITS;
        }
        /* What was allowed is what runs: bound to the digest, not to the name of the call. */
        if (call->approval == APPROVAL_STATUS_ALLOWED && streq(call->digest, digest)) {
                crash_point("worker.after_decision");
                return GATE_OPEN;
        }
        why = refusal(call);
        return refuse(s, a, call, why);
}

enum approval_gate agent_approve(struct step *s, struct agent *a, const struct history_call *call)
{
        enum approval_gate gate = GATE_OPEN;

        if (json_object_get(a->answer.bad_calls, call->id))
                return GATE_OPEN; /* it will not run */
        switch (policy_decide(a->c.host->approval, policy_name(call),
                              call->toolset ? call->name : NULL, call->input)) {
        case POLICY_ALLOW:
                break;
        case POLICY_DENY:
                return refuse(s, a, call, "not executed: this agent is not allowed to do that");
        case POLICY_ASK:
                gate = judge(s, a, call);
                break;
        }
        if (gate == GATE_OPEN && a->shown == SESSION_STATE_WAITING) {
                append_state(s->append, SESSION_STATE_RUNNING, 0, "");
                a->shown = SESSION_STATE_RUNNING;
        }
        return gate;
}
