/* Tool `done`: the agent's report, checked against the blueprint's output schema; it ends the turn.
 */
#include "common/base/json-schema.h"
#include "tool.h"

#define SUMMARY_MAX (16 * KIB)
#define OUTPUT_MAX (512 * KIB)
#define DOCUMENTS_MAX 100

#define HEAD                                                                                       \
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"summary\"%s],"        \
        "\"properties\":{"                                                                         \
        "\"summary\":{\"type\":\"string\",\"description\":\"What was done and found, and what "    \
        "was not, in a few sentences\"},"                                                          \
        "\"documents\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"Ids " \
        "of the documents you stored that belong to the result\"},"                                \
        "\"output\":"

static bool is_document_id(const json_t *j)
{
        const char *s = json_string_value(j);

        return s && strlen(s) == UUID_MAX - 1 && strspn(s, "0123456789abcdef-") == UUID_MAX - 1;
}

/* An output that came as JSON text is read: models do that. */
static json_t *take_output(const json_t *input, const json_t *schema)
{
        json_t *output = json_object_get(input, "output"), *read = NULL;
        const json_t *type = json_object_get(schema, "type");
        struct json_problem problem;

        if (json_is_string(output) && schema && type && !streq(json_string_value(type), "string") &&
            json_parse(json_string_value(output), json_string_length(output), &read, &problem) == 0)
                return read;
        return json_incref(output);
}

static int check_output(struct tool_run *run, const json_t *output)
{
        const json_t *schema = run->host->output_schema;
        struct json_problem problem = { 0 };
        cleanup_free char *text = output ? json_text(output) : NULL;

        if (text && strlen(text) > OUTPUT_MAX) {
                tool_finish_error(run, "output is larger than 512 KiB; store it with document_put "
                                       "and name the document.");
                return -EINVAL;
        }
        if (schema && !output) {
                tool_finish_error(run, "output is missing: it must fit the schema of this tool.");
                return -EINVAL;
        }
        if (schema && json_schema_fits(schema, output, &problem) < 0) {
                tool_finish_error(run,
                                  "The report was not taken: output%s%s %s. Mend it and call done "
                                  "again.",
                                  problem.field[0] ? "." : "", problem.field, problem.message);
                return -EINVAL;
        }
        return 0;
}

static void done_start(struct tool_run *run)
{
        const char *summary = NULL;
        const json_t *documents = NULL, *one;
        cleanup_json json_t *output = take_output(run->input, run->host->output_schema);
        struct tool_result result = { 0 };
        size_t i;

        if (tool_arg_string(run, "summary", true, &summary) < 0 ||
            tool_arg_strings(run, "documents", DOCUMENTS_MAX, &documents) < 0)
                return;
        if (strempty(summary) || strlen(summary) > SUMMARY_MAX) {
                tool_finish_error(run, "summary must have 1 to 16384 bytes.");
                return;
        }
        json_array_foreach (documents, i, one)
                if (!is_document_id(one)) {
                        tool_finish_error(run,
                                          "documents must be ids as document_put gave them; "
                                          "%.100s is none.",
                                          json_string_value(one));
                        return;
                }
        if (check_output(run, output) < 0)
                return;
        result.report =
                json_pack("{s:s,s:O?,s:o}", "summary", summary, "output", output, "documents",
                          documents ? json_incref((json_t *) (uintptr_t) documents) : json_array());
        result.content = json_pack("[{s:s,s:s}]", "type", "text", "text", "The report is stored.");
        tool_finish(run, &result);
}

static void done_stop(struct tool_run *run, bool timeout)
{
        run->state = NULL;
}

static bool done_present(const struct tool_host *h)
{
        const json_t *one;
        size_t i;

        json_array_foreach (h->allowed, i, one)
                if (streq(json_string_value(one), "done"))
                        return true;
        return h->output_schema || h->child;
}

static size_t done_list(const struct tool_host *h, struct provider_tool *out, size_t max)
{
        if (max == 0)
                return 0;
        out[0] = tool_done.spec;
        if (h->done_schema)
                out[0].schema = h->done_schema;
        return 1;
}

char *tool_done_schema(const json_t *output_schema)
{
        cleanup_free char *text = output_schema ? json_text(output_schema) : NULL;

        return text ? xasprintf(HEAD "%s}}", ",\"output\"", text) : NULL;
}

const struct tool tool_done = {
        .spec = {
                .name = "done",
                .description =
                        "Ends your work with a report. Call it once, last, when the task is done or cannot be "
                        "done; store documents before. Nothing after it is run.",
                .schema = "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"summary\"],\"properties\":{"
                          "\"summary\":{\"type\":\"string\",\"description\":\"What was done and found, and what was not, in "
                          "a few sentences\"},"
                          "\"documents\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"Ids of the "
                          "documents you stored that belong to the result\"},"
                          "\"output\":{\"description\":\"The result as JSON, when the task asks for one\"}}}",
        },
        .again = true,
        .limit_usec = 10 * USEC_PER_SEC,
        .present = done_present,
        .list = done_list,
        .start = done_start,
        .stop = done_stop,
};
