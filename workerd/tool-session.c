/* Tools `session_start` and `session_wait`: work handed to a session under this one.
 *
 * The child's id is made from this session and the call's intent, so a start that is repeated after
 * a restart finds the child that is there. Waiting is a question to the coordinator that is
 * answered when the child rests; nothing is lost when it is asked again. */
#include "common/io/rpc.h"
#include "tool.h"
#include "utf8.h"

#define CALL_USEC (15 * USEC_PER_SEC)
#define LOOK_MS 10000
#define AGAIN_USEC (500 * USEC_PER_MSEC)
#define START_PATIENCE (60 * USEC_PER_SEC) /* of a coordinator that cannot take it just now */
#define WAIT_DEFAULT 3600
#define WAIT_MAX 86400
#define MESSAGE_MAX (200 * KIB)
#define FILES_MAX 100

struct task {
        struct tool_run *run;
        struct rpc_link *link;
        char child[UUID_MAX];
        bool starting, wait;
        uint64_t begun, until; /* monotonic */
        struct loop_timer again;
        char *message, *budget; /* JSON texts of the start */
        struct session_file files[FILES_MAX];
        size_t n_files;
        const char *agent, *title; /* of the run's input */
};

static void task_free(struct task *t)
{
        rpc_cancel(t->link, t);
        loop_timer_done(&t->again);
        free(t->message);
        free(t->budget);
        free(t);
}

static struct tool_run *task_end(struct task *t)
{
        struct tool_run *run = t->run;

        run->state = NULL;
        task_free(t);
        return run;
}

/* A UUID's shape, from what names the call for good. */
static void child_id(const struct tool_host *h, char ret[static UUID_MAX])
{
        cleanup_free char *name = xasprintf("berth child %s %" PRIu64, h->session_id, h->call_seq);
        char hex[SHA256_HEX];

        sha256_hex(name, strlen(name), hex);
        (void) snprintf(ret, UUID_MAX, "%.8s-%.4s-8%.3s-a%.3s-%.12s", hex, hex + 8, hex + 13,
                        hex + 17, hex + 20);
}

static void put_report(struct buf *out, const json_t *report)
{
        const char *summary = json_string_value(json_object_get(report, "summary"));
        const json_t *output = json_object_get(report, "output"),
                     *documents = json_object_get(report, "documents");
        cleanup_free char *text = output && !json_is_null(output) ? json_text(output) : NULL;
        cleanup_free char *list = json_array_size(documents) > 0 ? json_text(documents) : NULL;

        buf_putf(out, "Report: %s\n", summary ? summary : "");
        if (text)
                buf_putf(out, "Output: %s\n", text);
        if (list)
                buf_putf(out, "Documents: %s\n", list);
}

static json_t *usage_members(const struct usage *u, const char *child)
{
        return json_pack("{s:s,s:{s:I,s:I,s:I,s:I,s:f,s:I}}", "child_session_id", child,
                         "usage_below", "input_tokens", (json_int_t) u->input_tokens,
                         "output_tokens", (json_int_t) u->output_tokens, "cache_read_tokens",
                         (json_int_t) u->cache_read_tokens, "cache_write_tokens",
                         (json_int_t) u->cache_write_tokens, "cost_usd",
                         (double) u->cost_microusd / 1e6, "turns", (json_int_t) u->turns);
}

/* What came of it, as text for the model. */
static void finish_state(struct task *t, const struct child_state *m)
{
        struct tool_result result = { .more = usage_members(&m->usage, t->child) };
        struct json_problem problem;
        cleanup_json json_t *state = NULL;
        cleanup_buf struct buf text = BUF_INIT;
        const json_t *question, *report, *failure;
        const char *answer;
        char *clean;

        if (json_parse(m->result.data, m->result.len, &state, &problem) < 0)
                state = json_object();
        answer = json_string_value(json_object_get(state, "answer"));
        report = json_object_get(state, "report");
        question = json_object_get(json_object_get(state, "question"), "question");
        failure = json_object_get(json_object_get(state, "error"), "message");
        buf_putf(&text, "Session %s is %s%s.\n", t->child, session_state_name(m->state),
                 m->rests ? "" : "; it goes on working, call session_wait again to wait for it");
        if (json_is_string(question))
                buf_putf(&text, "It asks the person: %s\n", json_string_value(question));
        if (json_is_string(failure))
                buf_putf(&text, "It failed: %s\n", json_string_value(failure));
        if (json_is_object(report))
                put_report(&text, report);
        else if (!strempty(answer))
                buf_putf(&text, "%s: %s\n", m->rests ? "Its answer" : "What it said last", answer);
        clean = utf8_clip(text.data, text.len - 1, 4 * TOOL_OUTPUT_MAX);
        if (m->state == SESSION_STATE_FAILED || m->state == SESSION_STATE_STOPPED) {
                result.error = clean;
        } else {
                result.content = json_pack("[{s:s,s:s}]", "type", "text", "text", clean);
                free(clean);
        }
        tool_finish(task_end(t), &result);
}

static bool may_pass(int r, const struct error_reply *e)
{
        return r != -EREMOTEIO || e->code == ERROR_CODE_UNAVAILABLE ||
               e->code == ERROR_CODE_TIMEOUT || e->code == ERROR_CODE_INTERNAL ||
               e->code == ERROR_CODE_PRECONDITION_FAILED;
}

static void look(struct task *t);

static void on_looked(void *userdata, int r, const void *reply)
{
        struct task *t = userdata;
        const struct child_state *m = reply;
        const struct error_reply *e = reply;

        if (r < 0 && may_pass(r, e)) {
                loop_timer_arm(&t->again, AGAIN_USEC);
        } else if (r < 0) {
                cleanup_free char *why = xstrdup(e->message);

                tool_finish_error(task_end(t), "The session could not be waited for: %s", why);
        } else if (m->rests || now_monotonic() >= t->until) {
                finish_state(t, m);
        } else {
                look(t);
        }
}

static void look(struct task *t)
{
        uint64_t now = now_monotonic(), left = t->until > now ? t->until - now : 0;
        const struct tool_host *h = t->run->host;
        struct child_look m = {
                .session_id = h->session_id,
                .epoch = h->epoch,
                .child_id = t->child,
                .wait_ms = (uint32_t) MIN(left / USEC_PER_MSEC, (uint64_t) LOOK_MS),
        };

        if (rpc_call(rpc_client_peer(t->link), &wire_child_look, &m,
                     CALL_USEC + LOOK_MS * USEC_PER_MSEC, on_looked, t) < 0)
                loop_timer_arm(&t->again, AGAIN_USEC);
}

static void on_started(struct task *t)
{
        struct tool_result result = { 0 };
        cleanup_free char *text = NULL;

        t->starting = false;
        if (t->wait) {
                look(t);
                return;
        }
        text = xasprintf("Session %s was started. Call session_wait to get its result.", t->child);
        result.content = json_pack("[{s:s,s:s}]", "type", "text", "text", text);
        result.more = json_pack("{s:s}", "child_session_id", t->child);
        tool_finish(task_end(t), &result);
}

static void on_start_answer(void *userdata, int r, const void *reply)
{
        struct task *t = userdata;
        const struct error_reply *e = reply;

        if (r == 0 || (r == -EREMOTEIO && e->code == ERROR_CODE_CONFLICT)) {
                on_started(t); /* conflict: an earlier attempt has made it */
        } else if (may_pass(r, e) && now_monotonic() - t->begun < START_PATIENCE) {
                loop_timer_arm(&t->again, AGAIN_USEC);
        } else {
                cleanup_free char *why = xstrdup(r == -EREMOTEIO ? e->message : strerror(-r));

                tool_finish_error(task_end(t), "The session was not started: %s", why);
        }
}

static void start(struct task *t)
{
        const struct tool_host *h = t->run->host;
        struct child_start m = {
                .session_id = h->session_id,
                .epoch = h->epoch,
                .child_id = t->child,
                .session_name = strempty(t->title) ? NULL : t->title,
                .agent_name = strempty(t->agent) ? NULL : t->agent,
                .message = span_of(t->message),
                .budget = span_of(t->budget),
                .files = t->files,
                .n_files = t->n_files,
        };

        TRACE_SCOPE(&t->run->trace);
        if (rpc_call(rpc_client_peer(t->link), &wire_child_start, &m, CALL_USEC, on_start_answer,
                     t) < 0)
                loop_timer_arm(&t->again, AGAIN_USEC);
}

static void on_again(void *userdata)
{
        struct task *t = userdata;

        if (t->starting)
                start(t);
        else
                look(t);
}

/* What is asked for, held to what is left here. */
static int read_budget(struct task *t)
{
        static const char *const limits[] = { "turns", "tokens", "cost_usd", "seconds" };
        const json_t *asked = json_object_get(t->run->input, "budget"),
                     *left = t->run->host->budget_left;
        cleanup_json json_t *budget = json_object();
        size_t known = 0;

        for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
                const json_t *want = json_object_get(asked, limits[i]),
                             *have = json_object_get(left, limits[i]);

                known += want ? 1 : 0;
                if (want && (!json_is_number(want) || json_number_value(want) <= 0)) {
                        tool_finish_error(t->run, "budget.%s must be a number above 0.", limits[i]);
                        return -EINVAL;
                }
                if (have && json_number_value(have) <= 0) {
                        tool_finish_error(t->run, "Nothing is left of this session's budget (%s).",
                                          limits[i]);
                        return -EINVAL;
                }
                if (have && (!want || json_number_value(want) > json_number_value(have)))
                        want = have;
                if (want)
                        json_object_set(budget, limits[i], (json_t *) (uintptr_t) want);
        }
        if ((asked && !json_is_object(asked) && !json_is_null(asked)) ||
            json_object_size(asked) > known) {
                tool_finish_error(t->run, "budget must be an object of turns, tokens, cost_usd, "
                                          "seconds.");
                return -EINVAL;
        }
        t->budget = json_object_size(budget) > 0 ? json_text(budget) : NULL;
        return 0;
}

static int read_files(struct task *t)
{
        const json_t *files = json_object_get(t->run->input, "files"), *one;
        size_t i;

        if (!files || json_is_null(files))
                return 0;
        json_array_foreach (files, i, one) {
                const char *id = json_string_value(json_object_get(one, "document_id")),
                           *path = json_string_value(json_object_get(one, "path"));

                if (i == FILES_MAX || strempty(id) || strempty(path) || strlen(id) > 64 ||
                    strlen(path) > 1024 || path[0] == '/' || strstr(path, "..") ||
                    str_ends(path, "/"))
                        break;
                t->files[t->n_files++] = (struct session_file){ id, path };
        }
        if (json_is_array(files) && t->n_files == json_array_size(files))
                return 0;
        tool_finish_error(t->run, "files must be a list of at most 100 {document_id, path}, with "
                                  "paths relative to the home folder.");
        return -EINVAL;
}

static int read_start(struct task *t)
{
        const char *message = NULL;
        cleanup_json json_t *content = NULL;

        if (tool_arg_string(t->run, "message", true, &message) < 0 ||
            tool_arg_string(t->run, "agent_name", false, &t->agent) < 0 ||
            tool_arg_string(t->run, "title", false, &t->title) < 0 ||
            tool_arg_bool(t->run, "wait", &t->wait) < 0 || read_budget(t) < 0 || read_files(t) < 0)
                return -EINVAL;
        if (strempty(message) || strlen(message) > MESSAGE_MAX) {
                tool_finish_error(t->run, "message must have 1 byte to 200 KiB.");
                return -EINVAL;
        }
        if ((t->agent && strlen(t->agent) > 64) || (t->title && strlen(t->title) > 200)) {
                tool_finish_error(t->run, "agent_name may have 64 bytes and title 200.");
                return -EINVAL;
        }
        content = json_pack("[{s:s,s:s}]", "type", "text", "text", message);
        t->message = json_text(content);
        return 0;
}

static int task_new(struct tool_run *run, struct task **ret)
{
        struct task *t = xnew(struct task);
        int r;

        t->run = run;
        t->link = run->host->coordinator;
        t->begun = now_monotonic();
        t->until = t->begun + WAIT_DEFAULT * USEC_PER_SEC;
        t->wait = true;
        r = loop_timer_init(&t->again, run->host->event, on_again, t);
        if (r < 0) {
                task_free(t);
                tool_finish_error(run, "The session was not started (%s).", strerror(-r));
                return r;
        }
        *ret = t;
        return 0;
}

static int read_timeout(struct task *t)
{
        int64_t seconds = WAIT_DEFAULT;

        if (tool_arg_int(t->run, "timeout_s", false, &seconds) < 0)
                return -EINVAL;
        if (seconds < 0 || seconds > WAIT_MAX) {
                tool_finish_error(t->run, "timeout_s must be 0 to %d.", WAIT_MAX);
                return -EINVAL;
        }
        t->until = t->begun + (uint64_t) seconds * USEC_PER_SEC;
        return 0;
}

static void session_start(struct tool_run *run)
{
        struct task *t;

        if (task_new(run, &t) < 0)
                return;
        if (read_start(t) < 0 || read_timeout(t) < 0) {
                task_free(t);
                return;
        }
        child_id(run->host, t->child);
        run->state = t;
        t->starting = true;
        start(t);
}

static void session_wait(struct tool_run *run)
{
        const char *id = NULL;
        struct task *t;

        if (tool_arg_string(run, "session_id", true, &id) < 0)
                return;
        if (strlen(id) != UUID_MAX - 1 || strspn(id, "0123456789abcdef-") != UUID_MAX - 1) {
                tool_finish_error(run, "session_id must be an id that session_start gave.");
                return;
        }
        if (task_new(run, &t) < 0)
                return;
        (void) snprintf(t->child, sizeof(t->child), "%s", id);
        if (read_timeout(t) < 0) {
                task_free(t);
                return;
        }
        run->state = t;
        look(t);
}

static void session_stop(struct tool_run *run, bool timeout)
{
        struct task *t = run->state;

        run->state = NULL;
        if (t)
                task_free(t);
}

static bool session_present(const struct tool_host *h)
{
        return h->coordinator;
}

const struct tool tool_session_start = {
        .spec = {
                .name = "session_start",
                .description =
                        "Hands a task to another agent in a machine of its own and, unless wait is false, waits "
                        "for its report or answer. It sees nothing of this conversation and none of your files: say everything it "
                        "needs, and pass files as documents. Use it for work that is large and separate.",
                .schema = "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"message\"],\"properties\":{"
                          "\"message\":{\"type\":\"string\",\"description\":\"The task, complete\"},"
                          "\"title\":{\"type\":\"string\",\"description\":\"A few words for people\"},"
                          "\"agent_name\":{\"type\":\"string\",\"description\":\"A kind of agent, for example coder or "
                          "data-analyst\"},"
                          "\"files\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"document_id\","
                          "\"path\"],\"properties\":{\"document_id\":{\"type\":\"string\"},\"path\":{\"type\":\"string\"}}},"
                          "\"description\":\"Documents it finds in its home folder\"},"
                          "\"budget\":{\"type\":\"object\",\"properties\":{\"turns\":{\"type\":\"integer\"},\"tokens\":"
                          "{\"type\":\"integer\"},\"cost_usd\":{\"type\":\"number\"},\"seconds\":{\"type\":\"integer\"}},"
                          "\"description\":\"At most this much of what is left to you\"},"
                          "\"wait\":{\"type\":\"boolean\",\"description\":\"Default true\"},"
                          "\"timeout_s\":{\"type\":\"integer\",\"description\":\"How long to wait; default 3600\"}}}",
        },
        .again = true,
        .limit_usec = (WAIT_MAX + 120) * USEC_PER_SEC,
        .present = session_present,
        .start = session_start,
        .stop = session_stop,
};

const struct tool tool_session_wait = {
        .spec = {
                .name = "session_wait",
                .description =
                        "Waits for a session that session_start began and gives its report or answer; with "
                        "timeout_s 0 it only looks.",
                .schema = "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"session_id\"],\"properties\":{"
                          "\"session_id\":{\"type\":\"string\"},"
                          "\"timeout_s\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":86400}}}",
        },
        .again = true,
        .limit_usec = (WAIT_MAX + 120) * USEC_PER_SEC,
        .present = session_present,
        .start = session_wait,
        .stop = session_stop,
};
