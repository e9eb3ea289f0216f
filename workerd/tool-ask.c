/* Tool `ask_human`: a question to the person; the loop waits for the answer (agent-ask.c). */
#include "tool.h"

#define QUESTION_MAX 8000
#define CHOICES_MAX 12
#define CHOICE_MAX 200
#define TIMEOUT_MAX (7 * 24 * 3600)

static const char *bad_choices(const json_t *choices)
{
        const json_t *one;
        size_t i;

        if (!choices || json_is_null(choices))
                return NULL;
        if (!json_is_array(choices) || json_array_size(choices) > CHOICES_MAX)
                return "choices must be a list of at most 12 strings.";
        json_array_foreach (choices, i, one)
                if (!json_is_string(one) || json_string_length(one) == 0 ||
                    json_string_length(one) > CHOICE_MAX)
                        return "Each of choices must be a string of 1 to 200 bytes.";
        return NULL;
}

static const char *asks(const json_t *input)
{
        const json_t *question = json_object_get(input, "question"),
                     *timeout = json_object_get(input, "timeout");

        if (!json_is_string(question) || json_string_length(question) == 0)
                return "The argument question is missing: say what you want to know.";
        if (json_string_length(question) > QUESTION_MAX)
                return "question may have 8000 bytes; put longer texts into a document.";
        if (timeout && !json_is_null(timeout) &&
            (!json_is_number(timeout) || json_number_value(timeout) < 1 ||
             json_number_value(timeout) > TIMEOUT_MAX))
                return "timeout must be 1 to 604800 seconds.";
        return bad_choices(json_object_get(input, "choices"));
}

/* Only reached by a caller that has no loop to wait in. */
static void ask_start(struct tool_run *run)
{
        tool_finish_error(run, "Nobody can be asked here.");
}

static void ask_stop(struct tool_run *run, bool timeout)
{
        run->state = NULL;
}

const struct tool tool_ask_human = {
        .spec = {
                .name = "ask_human",
                .description =
                        "Asks the person you work for and waits for the answer. Use it when something "
                        "only the person knows or may decide stands in the way: a choice between ways, a missing fact, leave "
                        "to do what cannot be undone. Ask one thing at a time; do not ask what you can find out yourself.",
                .schema = "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"question\"],\"properties\":{"
                          "\"question\":{\"type\":\"string\",\"description\":\"What you want to know, with what the "
                          "person needs to decide\"},"
                          "\"choices\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"Answers to "
                          "choose from; another answer is possible\"},"
                          "\"timeout\":{\"type\":\"number\",\"description\":\"Seconds after which you go on without an "
                          "answer; none: wait as long as it takes\"}}}",
        },
        .again = true,
        .asks = asks,
        .limit_usec = USEC_PER_SEC,
        .start = ask_start,
        .stop = ask_stop,
};
