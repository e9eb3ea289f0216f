/* Judges the parts of a blueprint that have members of their own. */
#include "gatewayd/agent-check.h"

#include <string.h>

#include "common/base/document.h"
#include "common/base/json-schema.h"

#define SERVERS_MAX 16
#define SKILLS_MAX 64
#define WORDS_MAX 32
#define PAIRS_MAX 32
#define SCHEMA_BYTES_MAX (64 * KIB)

#define NAME_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
/* RFC 9110 5.6.2 */
#define TOKEN NAME_LETTERS "_!#$%&'*+.^`|~"

struct server_body {
        char *name, *url, *cwd, *protocol;
        json_t *command, *env, *headers, *tools;
        int64_t timeout_s;
};
#define FIELD(member, kind_, ...) JSON_FIELD(struct server_body, member, kind_, ##__VA_ARGS__)
static const struct json_field server_fields[] = {
        FIELD(name, JSON_KIND_STRING, .min = 1, .max = 24, .required = true),
        FIELD(url, JSON_KIND_STRING, .min = 10, .max = 2000),
        FIELD(headers, JSON_KIND_OBJECT),
        FIELD(command, JSON_KIND_ARRAY, .min = 1, .max = WORDS_MAX),
        FIELD(env, JSON_KIND_OBJECT),
        FIELD(cwd, JSON_KIND_STRING, .min = 1, .max = 1000),
        FIELD(tools, JSON_KIND_ARRAY, .min = 1, .max = 128),
        FIELD(protocol, JSON_KIND_STRING, .min = 1, .max = 16),
        FIELD(timeout_s, JSON_KIND_INT, .min = 1, .max = 600),
};

/* No control character can begin another header or line. */
static bool plain(const char *s)
{
        for (; s && *s; s++)
                if ((unsigned char) *s < 0x20 || *s == 0x7f)
                        return false;
        return s;
}

static bool all_strings(const json_t *list, size_t max)
{
        const json_t *one;
        size_t i;

        json_array_foreach (list, i, one)
                if (!json_is_string(one) || json_string_length(one) == 0 ||
                    json_string_length(one) > max)
                        return false;
        return true;
}

static const char *pairs_problem(const json_t *object, const char *letters, const char *problem)
{
        const char *key;
        json_t *value;

        if (json_object_size(object) > PAIRS_MAX)
                return problem;
        json_object_foreach ((json_t *) (uintptr_t) object, key, value)
                if (!*key || strlen(key) > 100 || strspn(key, letters) != strlen(key) ||
                    !json_is_string(value) || json_string_length(value) > 4000 ||
                    !plain(json_string_value(value)))
                        return problem;
        return NULL;
}

static const char *server_problem(const struct server_body *s)
{
        if (strspn(s->name, NAME_LETTERS) != strlen(s->name))
                return "the name of an MCP server must be letters, digits and hyphens";
        if (!s->url == !s->command)
                return "an MCP server needs either url (Streamable HTTP) or command (a program in "
                       "the slot)";
        if (s->url && !str_starts(s->url, "https://") && !str_starts(s->url, "http://"))
                return "url of an MCP server must begin with https:// or http://";
        if (s->url && (!plain(s->url) || strpbrk(s->url, " \"<>") || strchr(s->url, '@')))
                return "url of an MCP server must be a plain URL without user and password; give "
                       "an authorization header";
        if (s->url && (s->env || s->cwd))
                return "env and cwd belong to an MCP server with command";
        if (s->command && s->headers)
                return "headers belong to an MCP server with url";
        if (s->command && !all_strings(s->command, 4000))
                return "command must be a list of words: the program and its arguments";
        if (s->tools && !all_strings(s->tools, 128))
                return "tools of an MCP server must be a list of names";
        if (s->protocol && !streq(s->protocol, "auto") && !streq(s->protocol, "legacy") &&
            !streq(s->protocol, "modern"))
                return "protocol must be auto, legacy (initialize) or modern (server/discover)";
        const char *why = pairs_problem(s->env, NAME_LETTERS "_",
                                        "env must be an object of at most 32 names and one-line "
                                        "texts");
        return why ? why
                   : pairs_problem(s->headers, TOKEN,
                                   "headers must be an object of at most 32 names and one-line "
                                   "texts");
}

const char *agent_servers_problem(const json_t *servers, struct json_problem *p)
{
        struct server_body seen[SERVERS_MAX];
        const json_t *one;
        size_t i;

        if (json_array_size(servers) > SERVERS_MAX)
                return "there may be 16 MCP servers";
        json_array_foreach (servers, i, one) {
                seen[i] = (struct server_body){ 0 };
                if (!json_is_object(one))
                        return "an MCP server must be an object of name and url or command";
                if (json_read(one, server_fields, ARRAY_LEN(server_fields), &seen[i], p) < 0)
                        return p->message;
                const char *why = server_problem(&seen[i]);
                if (why)
                        return why;
                for (size_t k = 0; k < i; k++)
                        if (streq(seen[k].name, seen[i].name))
                                return "two MCP servers have the same name";
        }
        return NULL;
}

static bool is_id(const char *s)
{
        return s && strlen(s) == UUID_MAX - 1 && strspn(s, "0123456789abcdef-") == UUID_MAX - 1;
}

const char *agent_skills_problem(const json_t *skills)
{
        const json_t *one;
        size_t i;

        if (json_array_size(skills) > SKILLS_MAX)
                return "there may be 64 skills";
        json_array_foreach (skills, i, one) {
                const char *id = json_string_value(json_object_get(one, "document_id")),
                           *tag = json_string_value(json_object_get(one, "tag"));

                if (!json_is_object(one) || json_object_size(one) != 1 || (!id && !tag))
                        return "a skill must be {\"document_id\": id} or {\"tag\": tag} of "
                               "documents";
                if (id && !is_id(id))
                        return "document_id of a skill must be a document's id";
                if (tag && document_tag_problem(tag))
                        return "tag of a skill must be a document's tag";
        }
        return NULL;
}

const char *agent_schema_problem(const json_t *schema, struct json_problem *p)
{
        cleanup_free char *text = schema ? json_text(schema) : NULL;

        if (!schema)
                return NULL;
        if (strlen(text) > SCHEMA_BYTES_MAX)
                return "output_schema may have 64 KiB";
        return json_schema_check(schema, p) < 0 ? p->message : NULL;
}
