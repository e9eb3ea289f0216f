/* The table of tools, and what every call has in common: arguments, time limit, delivery,
 * cancelling. */
#include "tool.h"

#include <math.h>

#include "common/base/approval-policy.h"
#include "common/io/log.h"
#include "utf8.h"

static const struct tool *const tools[] = {
        &tool_computer,      &tool_bash,          &tool_edit,
        &tool_execute_code,  &tool_document_list, &tool_document_search,
        &tool_document_get,  &tool_document_put,  &tool_ask_human,
        &tool_session_start, &tool_session_wait,  &tool_done,
        &tool_mcp,
};

const struct tool *tool_find(const char *name, const char *toolset)
{
        for (size_t i = 0; i < ARRAY_LEN(tools); i++)
                if (tools[i]->matches ? tools[i]->matches(name, toolset)
                                      : streq(tools[i]->spec.name, name))
                        return tools[i];
        return NULL;
}

static bool allowed(const struct tool_host *h, const char *name)
{
        const json_t *one;
        size_t i;

        if (policy_hides(h->approval, name))
                return false;
        if (!h->allowed)
                return true;
        json_array_foreach (h->allowed, i, one)
                if (streq(json_string_value(one), name))
                        return true;
        return false;
}

/* Can it be offered here, and may this session use it? */
static bool is_there(const struct tool_host *h, const struct tool *t, const char *name)
{
        return (!t->present || t->present(h)) && allowed(h, name);
}

/* Of an entry that offers more than its own line: what may be used, in its order. */
static size_t list_one(const struct tool_host *h, const struct tool *t, struct provider_tool *out,
                       size_t max)
{
        size_t n = !t->present || t->present(h) ? t->list(h, out, max) : 0, kept = 0;

        for (size_t i = 0; i < n; i++)
                if (allowed(h, out[i].name))
                        out[kept++] = out[i];
        return kept;
}

size_t tool_list(const struct tool_host *h, struct provider_tool out[static TOOLS_MAX])
{
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_LEN(tools); i++)
                if (tools[i]->list)
                        n += list_one(h, tools[i], out + n, TOOLS_MAX - n);
                else if (n < TOOLS_MAX && is_there(h, tools[i], tools[i]->spec.name))
                        out[n++] = tools[i]->spec;
        return n;
}

void tool_result_done(struct tool_result *r)
{
        json_decref(r->content);
        json_decref(r->report);
        json_decref(r->more);
        free(r->error);
        free(r->picture);
        *r = (struct tool_result){ 0 };
}

static void run_free(struct tool_run *run)
{
        loop_task_done(&run->deliver);
        loop_timer_done(&run->limit);
        loop_timer_done(&run->watch);
        tool_result_done(&run->result);
        json_decref(run->input);
        free(run->call_id);
        free(run->name);
        free(run->toolset);
        free(run);
}

static void run_deliver(void *userdata)
{
        struct tool_run *run = userdata;
        struct tool_result result = run->result;

        run->result = (struct tool_result){ 0 };
        run->on_done(run->userdata, &result);
        tool_result_done(&result);
        run_free(run);
}

void tool_finish(struct tool_run *run, struct tool_result *result)
{
        if (run->finished) {
                tool_result_done(result);
                return;
        }
        run->finished = true;
        tool_limits_end(run, result);
        run->result = *result;
        run->result.invalid |= run->invalid;
        *result = (struct tool_result){ 0 };
        loop_timer_disarm(&run->limit);
        loop_task_queue(&run->deliver);
}

static char *printf_like(1, 0) format(const char *fmt, va_list ap)
{
        char *text = NULL, *clean;

        if (vasprintf(&text, fmt, ap) < 0)
                return xstrdup("out of memory");
        clean = utf8_clip(text, strlen(text), TOOL_OUTPUT_MAX);
        free(text);
        return clean;
}

void tool_finish_error(struct tool_run *run, const char *fmt, ...)
{
        struct tool_result result = { 0 };
        va_list ap;

        va_start(ap, fmt);
        result.error = format(fmt, ap);
        va_end(ap);
        tool_finish(run, &result);
}

void tool_finish_text(struct tool_run *run, const char *fmt, ...)
{
        struct tool_result result = { 0 };
        cleanup_free char *text = NULL;
        va_list ap;

        va_start(ap, fmt);
        text = format(fmt, ap);
        va_end(ap);
        result.content = json_pack("[{s:s,s:s}]", "type", "text", "text", text);
        tool_finish(run, &result);
}

static void run_timeout(void *userdata)
{
        struct tool_run *run = userdata;

        if (run->finished)
                return;
        run->tool->stop(run, true);
        run->state = NULL;
        if (run->tool->timeout_text)
                tool_finish_error(run, "%s", run->tool->timeout_text);
        else
                tool_finish_error(run, "%s did not end within %" PRIu64 " s and was stopped.",
                                  run->name, run->tool->limit_usec / USEC_PER_SEC);
}

int tool_start(struct tool_host *h, const char *call_id, const char *name, const char *toolset,
               const json_t *input, void (*on_done)(void *userdata, struct tool_result *result),
               void *userdata, struct tool_run **ret)
{
        struct tool_run *run = xnew(struct tool_run);
        int r;

        run->host = h;
        if (trace_current())
                run->trace = *trace_current();
        run->call_id = xstrdup(call_id);
        run->name = xstrdup(name);
        run->toolset = xstrdup(toolset);
        run->input = json_incref((json_t *) (uintptr_t) input);
        run->on_done = on_done;
        run->userdata = userdata;
        r = loop_task_init(&run->deliver, h->event, run_deliver, run);
        if (r == 0)
                r = loop_timer_init(&run->limit, h->event, run_timeout, run);
        if (r == 0)
                r = tool_limits_init(run);
        if (r < 0) {
                run_free(run);
                return r;
        }
        tool_limits_begin(run);
        run->tool = tool_find(name, toolset);
        *ret = run;
        if (!run->tool || !is_there(h, run->tool, run->tool->list ? name : run->tool->spec.name)) {
                run->invalid = true;
                tool_finish_error(run, "There is no tool named %s here.", name);
                return 0;
        }
        loop_timer_arm(&run->limit, run->tool->limit_usec);
        run->tool->start(run);
        return 0;
}

void tool_cancel(struct tool_run *run)
{
        if (!run->finished)
                run->tool->stop(run, false);
        run_free(run);
}

#define finish_invalid(run, ...)                                                                   \
        do {                                                                                       \
                (run)->invalid = true;                                                             \
                tool_finish_error((run), __VA_ARGS__);                                             \
        } while (0)

int tool_arg_string(struct tool_run *run, const char *key, bool required, const char **ret)
{
        const json_t *value = json_object_get(run->input, key);

        if (json_is_string(value)) {
                *ret = json_string_value(value);
                return 0;
        }
        if (!value || json_is_null(value)) {
                if (!required)
                        return 0;
                finish_invalid(run, "The argument %s is missing.", key);
                return -EINVAL;
        }
        finish_invalid(run, "The argument %s must be a string.", key);
        return -EINVAL;
}

/* Models write 5.0 where they mean 5. */
static bool as_integer(const json_t *value, int64_t *ret)
{
        double real = json_number_value(value);

        if (json_is_integer(value)) {
                *ret = json_integer_value(value);
                return true;
        }
        if (!json_is_real(value) || real != floor(real) || fabs(real) > 1e15)
                return false;
        *ret = (int64_t) real;
        return true;
}

int tool_arg_int(struct tool_run *run, const char *key, bool required, int64_t *ret)
{
        const json_t *value = json_object_get(run->input, key);

        if (as_integer(value, ret))
                return 0;
        if ((!value || json_is_null(value)) && !required)
                return 0;
        finish_invalid(run, "The argument %s %s.", key,
                       value ? "must be an integer" : "is missing");
        return -EINVAL;
}

int tool_arg_strings(struct tool_run *run, const char *key, size_t max, const json_t **ret)
{
        const json_t *list = json_object_get(run->input, key), *one;
        size_t i;
        bool good = json_is_array(list) && json_array_size(list) <= max;

        if (!list || json_is_null(list))
                return 0;
        json_array_foreach (list, i, one)
                good = good && json_is_string(one);
        if (!good) {
                finish_invalid(run, "The argument %s must be a list of at most %zu strings.", key,
                               max);
                return -EINVAL;
        }
        *ret = list;
        return 0;
}

int tool_arg_bool(struct tool_run *run, const char *key, bool *ret)
{
        const json_t *value = json_object_get(run->input, key);

        if (!value || json_is_null(value))
                return 0;
        if (!json_is_boolean(value)) {
                finish_invalid(run, "The argument %s must be true or false.", key);
                return -EINVAL;
        }
        *ret = json_is_true(value);
        return 0;
}
