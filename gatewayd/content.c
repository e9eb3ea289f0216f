/* Checks of what people send about sessions: message content, file lists, budgets. */
#include "gatewayd/content.h"

#include <ctype.h>

#include "common/base/netpolicy.h"

#define CONTENT_BLOCKS_MAX 100u

static void problem_set(struct json_problem *p, const char *field, const char *fmt, ...)
        printf_like(3, 4);
static void problem_set(struct json_problem *p, const char *field, const char *fmt, ...)
{
        va_list ap;

        snprintf(p->field, sizeof(p->field), "%s", field);
        va_start(ap, fmt);
        vsnprintf(p->message, sizeof(p->message), fmt, ap);
        va_end(ap);
}

static bool text_block_ok(const json_t *block)
{
        const json_t *text = json_object_get(block, "text");

        return json_object_size(block) == 2 && json_is_string(text) && json_string_length(text) > 0;
}

static bool image_block_ok(const json_t *block)
{
        static const char *const types[] = { "image/png", "image/jpeg", "image/webp", "image/gif" };
        const json_t *source = json_object_get(block, "source");
        const char *media = json_string_value(json_object_get(source, "media_type"));
        const json_t *data = json_object_get(source, "data");
        cleanup_free void *bytes = NULL;
        size_t n;

        if (json_object_size(block) != 2 || json_object_size(source) != 3 ||
            !streq(json_string_value(json_object_get(source, "type")), "base64") || !media ||
            !json_is_string(data))
                return false;
        if (base64_decode(json_string_value(data), json_string_length(data), &bytes, &n) < 0 ||
            n == 0)
                return false;
        for (size_t i = 0; i < ARRAY_LEN(types); i++)
                if (streq(media, types[i]))
                        return true;
        return false;
}

json_t *content_from_json(const json_t *value, const char *field, struct json_problem *problem)
{
        size_t i;
        json_t *block;

        if (json_is_string(value)) {
                if (json_string_length(value) == 0) {
                        problem_set(problem, field, "%s must not be empty", field);
                        return NULL;
                }
                return json_pack("[{s:s,s:O}]", "type", "text", "text", value);
        }
        if (!json_is_array(value) || json_array_size(value) == 0 ||
            json_array_size(value) > CONTENT_BLOCKS_MAX) {
                problem_set(problem, field,
                            "%s must be a text or a list of 1 to %u text and image blocks", field,
                            CONTENT_BLOCKS_MAX);
                return NULL;
        }
        json_array_foreach (value, i, block) {
                const char *type = json_string_value(json_object_get(block, "type"));
                if (streq(type, "text") ? text_block_ok(block)
                                        : streq(type, "image") && image_block_ok(block))
                        continue;
                problem_set(
                        problem, field,
                        "block %zu of %s must be {type: text, text} with some text, or {type: "
                        "image, "
                        "source: {type: base64, media_type, data}} with a PNG, JPEG, WebP or GIF",
                        i + 1, field);
                return NULL;
        }
        return json_incref((json_t *) value);
}

int budget_check(const json_t *budget, struct json_problem *problem)
{
        static const char *const names[] = { "turns", "tokens", "cost_usd", "seconds" };
        const char *key;
        json_t *value;

        json_object_foreach ((json_t *) budget, key, value) {
                bool known = false;
                for (size_t i = 0; i < ARRAY_LEN(names); i++)
                        known = known || streq(key, names[i]);
                if (!known) {
                        problem_set(
                                problem, "budget",
                                "budget knows turns, tokens, cost_usd and seconds, not \"%.40s\"",
                                key);
                        return -EINVAL;
                }
                if (!json_is_null(value) &&
                    (!json_is_number(value) || json_number_value(value) < 0 ||
                     json_number_value(value) > 1e12)) {
                        problem_set(problem, "budget",
                                    "budget.%.40s must be a number of at least 0", key);
                        return -EINVAL;
                }
        }
        return 0;
}

int network_check(const json_t *network, struct json_problem *problem)
{
        struct network_policy policy;
        cleanup_free char *error = NULL;
        if (network_policy_parse(network, &policy, &error) == 0) {
                network_policy_done(&policy);
                return 0;
        }
        problem_set(problem, "network", "%s", error);
        return -EINVAL;
}

bool slot_path_ok(const char *path)
{
        const char *part = path;

        if (!*path || *path == '/' || strlen(path) > 1024)
                return false;
        for (const char *c = path;; c++) {
                if (*c && *c != '/') {
                        if (iscntrl((unsigned char) *c))
                                return false;
                        continue;
                }
                size_t n = (size_t) (c - part);
                if (n == 0 || n > 255 || (n == 1 && part[0] == '.') ||
                    (n == 2 && part[0] == '.' && part[1] == '.'))
                        return false;
                if (!*c)
                        return true;
                part = c + 1;
        }
}

bool agent_name_ok(const char *name)
{
        size_t n = strlen(name);

        if (n == 0 || n > 64 || name[0] == '-' || name[n - 1] == '-' || strstr(name, "--"))
                return false;
        for (; *name; name++)
                if (!isascii(*name) || !(isalnum((unsigned char) *name) || *name == '-'))
                        return false;
        return true;
}

bool session_id_ok(const char *id)
{
        size_t n = strlen(id);

        if (n == 0 || n > 64)
                return false;
        for (; *id; id++)
                if (!isascii(*id) || !(isalnum((unsigned char) *id) || *id == '-' || *id == '_'))
                        return false;
        return true;
}
