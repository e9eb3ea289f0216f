/* What an MCP server offers, made fit for a model: names, descriptions and schemas within bounds.
 */
#include "common/io/log.h"
#include "mcp-private.h"
#include "utf8.h"

#define NAME_MAX_BYTES 64 /* of a tool, as model services take them */
#define DESCRIPTION_MAX 2000
#define SCHEMA_MAX (32 * KIB)
#define EMPTY_SCHEMA "{\"type\":\"object\",\"properties\":{}}"

void mcp_tools_done(struct mcp_tool *tools, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                free(tools[i].full);
                free(tools[i].name);
                free(tools[i].description);
                free(tools[i].schema);
        }
        free(tools);
}

/* Letters, digits, _ and -; a name that is too long ends by a mark made of the whole. */
static char *full_name(const struct mcp_server *s, const char *tool)
{
        char *name = xasprintf(MCP_PREFIX "%s__%s", s->name, tool);
        char digest[SHA256_HEX];

        sha256_hex(tool, strlen(tool), digest);
        for (char *p = name; *p; p++)
                if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                      (*p >= '0' && *p <= '9') || *p == '_' || *p == '-'))
                        *p = '_';
        if (strlen(name) > NAME_MAX_BYTES)
                (void) snprintf(name + NAME_MAX_BYTES - 9, 10, "_%.8s", digest);
        return name;
}

static bool is_wanted(const struct mcp_server *s, const char *tool)
{
        const json_t *one;
        size_t i;

        if (!s->only)
                return true;
        json_array_foreach (s->only, i, one)
                if (streq(json_string_value(one), tool))
                        return true;
        return false;
}

static bool is_there(const struct mcp_server *s, const char *full)
{
        for (size_t i = 0; i < s->n_coming; i++)
                if (streq(s->coming[i].full, full))
                        return true;
        return false;
}

static void take_one(struct mcp_server *s, const json_t *tool)
{
        const char *name = json_string_value(json_object_get(tool, "name")),
                   *description = json_string_value(json_object_get(tool, "description"));
        const json_t *schema = json_object_get(tool, "inputSchema");
        cleanup_free char *full = NULL, *text = NULL;

        if (strempty(name) || strlen(name) > 128 || s->n_coming >= MCP_TOOLS_MAX ||
            !is_wanted(s, name))
                return;
        full = full_name(s, name);
        text = json_is_object(schema) ? json_text(schema) : xstrdup(EMPTY_SCHEMA);
        if (is_there(s, full) || strlen(text) > SCHEMA_MAX ||
            !streq(json_string_value(json_object_get(schema, "type")), "object")) {
                log_notice("mcp %s: a tool was left out: its schema is too large, no object, or "
                           "its name is there already",
                           s->name);
                return;
        }
        s->coming = xrealloc(s->coming, s->n_coming + 1, sizeof(*s->coming));
        s->coming[s->n_coming++] = (struct mcp_tool){
                .full = TAKE_PTR(full),
                .name = xstrdup(name),
                .description =
                        description ? utf8_clip(description, strlen(description), DESCRIPTION_MAX)
                                    : xstrdup(""),
                .schema = TAKE_PTR(text),
        };
}

int mcp_take_tools(struct mcp_server *s, const json_t *result)
{
        const json_t *list = json_object_get(result, "tools"), *one;
        size_t i;

        if (!json_is_array(list))
                return -EBADMSG;
        json_array_foreach (list, i, one)
                take_one(s, one);
        return 0;
}
