/* Judges calls of tools by the rules of a blueprint. */
#include "approval-policy.h"

#include <regex.h>

#define RULES_MAX 64
#define PATTERN_MAX 500
#define VALUE_MAX (64 * 1024)

static int word(const json_t *j, enum policy *ret)
{
        static const char *const words[] = { "allow", "ask", "deny" };
        const char *text = json_string_value(j);

        for (size_t i = 0; i < ARRAY_LEN(words); i++)
                if (streq(text, words[i])) {
                        *ret = (enum policy) i;
                        return 0;
                }
        return -EINVAL;
}

static int compile(const char *pattern, regex_t *ret)
{
        for (const char *p = pattern; *p; p++)
                if (*p == '\\' && *++p >= '1' && *p <= '9')
                        return -EINVAL;
                else if (!*p)
                        break;
        return regcomp(ret, pattern, REG_EXTENDED | REG_NOSUB) == 0 ? 0 : -EINVAL;
}

static const char *check_rule(const json_t *rule)
{
        static const struct json_field fields[] = {
                { .name = "argument",
                  .kind = JSON_KIND_STRING,
                  .offset = 0,
                  .min = 1,
                  .max = 64,
                  .required = true },
                { .name = "glob",
                  .kind = JSON_KIND_STRING,
                  .offset = sizeof(char *),
                  .min = 1,
                  .max = PATTERN_MAX },
                { .name = "regex",
                  .kind = JSON_KIND_STRING,
                  .offset = 2 * sizeof(char *),
                  .min = 1,
                  .max = PATTERN_MAX },
                { .name = "then",
                  .kind = JSON_KIND_STRING,
                  .offset = 3 * sizeof(char *),
                  .required = true },
        };
        struct {
                char *argument, *glob, *regex, *then;
        } r = { 0 };
        struct json_problem problem;
        enum policy then;
        regex_t compiled;

        if (!json_is_object(rule) || json_read(rule, fields, ARRAY_LEN(fields), &r, &problem) < 0 ||
            word(json_object_get(rule, "then"), &then) < 0 || !r.glob == !r.regex)
                return "a rule of approval needs argument, then (allow, ask or deny), and either "
                       "glob or regex";
        if (r.regex && compile(r.regex, &compiled) < 0)
                return "a regex of approval is no POSIX extended regular expression without back "
                       "references";
        if (r.regex)
                regfree(&compiled);
        return NULL;
}

static const char *check_tool(const json_t *value)
{
        const json_t *rules = json_object_get(value, "rules"), *rule;
        enum policy unused;
        const char *problem;
        size_t i;

        if (json_is_string(value))
                return word(value, &unused) < 0 ? "approval must give allow, ask or deny for a tool"
                                                : NULL;
        if (!json_is_object(value) || word(json_object_get(value, "default"), &unused) < 0 ||
            !json_is_array(rules) || json_object_size(value) != 2 ||
            json_array_size(rules) > RULES_MAX)
                return "approval of a tool must be allow, ask or deny, or an object with default "
                       "and a list of at most 64 rules";
        json_array_foreach (rules, i, rule)
                if ((problem = check_rule(rule)))
                        return problem;
        return NULL;
}

const char *policy_check(const json_t *approval)
{
        const char *problem, *tool;
        json_t *value;

        json_object_foreach ((json_t *) (uintptr_t) approval, tool, value)
                if ((problem = check_tool(value)))
                        return problem;
        return NULL;
}

/* In time of length times pattern. */
static bool glob(const char *pattern, const char *text)
{
        const char *star = NULL, *from = NULL;

        while (*text) {
                if (*pattern == '*') {
                        star = pattern++;
                        from = text;
                } else if (*pattern == '?' || *pattern == *text) {
                        pattern++;
                        text++;
                } else if (star) {
                        pattern = star + 1;
                        text = ++from;
                } else {
                        return false;
                }
        }
        while (*pattern == '*')
                pattern++;
        return !*pattern;
}

/* 1 = it does, 0 = it does not, -EINVAL = nobody can say. */
static int matches(const json_t *rule, const char *text)
{
        const char *pattern = json_string_value(json_object_get(rule, "glob"));
        const char *regex = json_string_value(json_object_get(rule, "regex"));
        regex_t compiled;
        int r;

        if (strlen(text) > VALUE_MAX)
                return -EINVAL;
        if (pattern)
                return glob(pattern, text);
        if (!regex || compile(regex, &compiled) < 0)
                return -EINVAL;
        r = regexec(&compiled, text, 0, NULL, 0);
        regfree(&compiled);
        return r == 0 ? 1 : r == REG_NOMATCH ? 0 : -EINVAL;
}

static bool applies(const json_t *rule, enum policy then, const char *action, const json_t *input)
{
        const char *name = json_string_value(json_object_get(rule, "argument"));
        const json_t *value = json_object_get(input, name ? name : "");
        cleanup_free char *text = NULL;
        int r;

        if (!value && action && streq(name, "action"))
                text = xstrdup(action);
        else if (json_is_string(value))
                text = xstrdup(json_string_value(value));
        else if (value)
                text = json_text(value);
        else
                return false;
        r = matches(rule, text);
        return r < 0 ? then != POLICY_ALLOW : r > 0;
}

static const json_t *of_tool(const json_t *approval, const char *tool)
{
        const json_t *value = json_object_get(approval, tool);

        return value ? value : json_object_get(approval, "*");
}

enum policy policy_decide(const json_t *approval, const char *tool, const char *action,
                          const json_t *input)
{
        const json_t *value = of_tool(approval, tool), *rule;
        enum policy then;
        size_t i;

        if (!value)
                return POLICY_ALLOW;
        if (json_is_string(value))
                return word(value, &then) < 0 ? POLICY_ASK : then;
        json_array_foreach (json_object_get(value, "rules"), i, rule) {
                if (word(json_object_get(rule, "then"), &then) < 0)
                        then = POLICY_ASK;
                if (applies(rule, then, action, input))
                        return then;
        }
        return word(json_object_get(value, "default"), &then) < 0 ? POLICY_ASK : then;
}

bool policy_hides(const json_t *approval, const char *tool)
{
        const json_t *value = of_tool(approval, tool);
        enum policy then;

        if (json_is_object(value) && json_array_size(json_object_get(value, "rules")) == 0)
                value = json_object_get(value, "default");
        return value && word(value, &then) == 0 && then == POLICY_DENY;
}
