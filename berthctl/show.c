/* Text for people: tables, members of objects, the transcript of a session. */
#include "ctl.h"

#include <wchar.h>

#define COLUMNS_MAX 12
#define CELL_MAX 60

const char *show_member(const json_t *object, const char *path)
{
        static char numbers[4][64];
        static unsigned turn;
        char part[64];

        while (object && *path) {
                size_t n = strcspn(path, ".");
                (void) snprintf(part, sizeof(part), "%.*s", (int) n, path);
                object = json_object_get(object, part);
                path += n + (path[n] == '.');
        }
        if (json_is_string(object))
                return json_string_value(object);
        char *text = numbers[turn++ % ARRAY_LEN(numbers)];
        if (json_is_integer(object))
                (void) snprintf(text, sizeof(numbers[0]), "%" JSON_INTEGER_FORMAT,
                                json_integer_value(object));
        else if (json_is_real(object))
                (void) snprintf(text, sizeof(numbers[0]), "%.4f", json_real_value(object));
        else if (json_is_boolean(object))
                return json_is_true(object) ? "yes" : "no";
        else if (json_is_array(object)) {
                size_t at = 0, i;
                const json_t *one;
                text[0] = '\0';
                json_array_foreach (object, i, one) {
                        if (json_is_string(one) && at < sizeof(numbers[0]) - 1)
                                at += (size_t) snprintf(text + at, sizeof(numbers[0]) - at, "%s%s",
                                                        i ? "," : "", json_string_value(one));
                }
        } else
                return "";
        return text;
}

/* Control characters would reach the terminal: they become '?'. */
static void put_clean(FILE *f, const char *s, bool lines)
{
        for (; *s; s++) {
                unsigned char c = (unsigned char) *s;
                if (c == 0xc2 && (unsigned char) s[1] >= 0x80 && (unsigned char) s[1] <= 0x9f) {
                        s++; /* the C1 controls in UTF-8 */
                        (void) fputc('?', f);
                } else
                        (void) fputc((c < 0x20 && !(lines && (c == '\n' || c == '\t'))) || c == 0x7f
                                             ? '?'
                                             : c,
                                     f);
        }
}

static size_t width_of(const char *s)
{
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char) *s & 0xc0) != 0x80;
        return n;
}

void show_table(const json_t *array, const char *const *columns)
{
        size_t widths[COLUMNS_MAX] = { 0 }, n = 0, i;
        const json_t *row;

        for (; columns[n] && n < COLUMNS_MAX; n++)
                widths[n] = strcspn(columns[n], ":");
        json_array_foreach (array, i, row) {
                for (size_t k = 0; k < n; k++)
                        widths[k] = MAX(widths[k],
                                        MIN(width_of(show_member(row, strchr(columns[k], ':') + 1)),
                                            (size_t) CELL_MAX));
        }
        for (size_t k = 0; k < n; k++)
                printf("%-*.*s%s", (int) widths[k], (int) strcspn(columns[k], ":"), columns[k],
                       k + 1 < n ? "  " : "\n");
        json_array_foreach (array, i, row) {
                for (size_t k = 0; k < n; k++) {
                        const char *text = show_member(row, strchr(columns[k], ':') + 1);
                        size_t width = width_of(text);
                        put_clean(stdout, text, false);
                        if (k + 1 < n)
                                printf("%*s", (int) (MAX(widths[k], width) - width + 2), "");
                }
                printf("\n");
        }
}

void show_json(const json_t *j)
{
        if (j && json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) == 0)
                printf("\n");
}

/* ---- the transcript ---- */

static void paint(const struct ctl *c, const char *code)
{
        if (c->colour)
                printf("\033[%sm", code);
}

static void say(const struct ctl *c, const char *code, const char *who, const char *text)
{
        paint(c, code);
        printf("%s", who);
        paint(c, "0");
        put_clean(stdout, text, true);
        printf("%s", *text && str_ends(text, "\n") ? "" : "\n");
}

static void say_blocks(const struct ctl *c, const char *code, const char *who, const json_t *blocks)
{
        const json_t *one;
        size_t i;

        if (json_is_string(blocks))
                say(c, code, who, json_string_value(blocks));
        json_array_foreach (blocks, i, one) {
                const char *type = show_member(one, "type");
                if (streq(type, "text"))
                        say(c, code, who, show_member(one, "text"));
                else if (streq(type, "image"))
                        say(c, code, who, "[picture]");
        }
}

void show_update(struct ctl *c, const json_t *u)
{
        const char *type = show_member(u, "event_type");

        if (streq(type, "message"))
                say_blocks(c, streq(show_member(u, "role"), "user") ? "1;36" : "1;32",
                           streq(show_member(u, "role"), "user") ? "you: " : "agent: ",
                           json_object_get(u, "content"));
        else if (streq(type, "thinking"))
                say(c, "2", "thinks: ", show_member(u, "content"));
        else if (streq(type, "pre_tool")) {
                cleanup_free char *input = json_text(json_object_get(u, "tool_input"));
                cleanup_free char *text = xasprintf("%s %s", show_member(u, "tool_name"), input);
                say(c, "1;33", "tool: ", text);
        } else if (streq(type, "post_tool")) {
                say_blocks(c, "33", "  > ", json_object_get(u, "tool_output"));
                if (*show_member(u, "error"))
                        say(c, "31", "  ! ", show_member(u, "error"));
        } else if (streq(type, "approval_requested")) {
                cleanup_free char *text =
                        xasprintf("%s (berthctl approvals allow %s)", show_member(u, "subject"),
                                  show_member(u, "approval_id"));
                say(c, "1;35", "asks: ", text);
        } else if (streq(type, "approval_decided")) {
                say(c, "35", "-- approval ", show_member(u, "status"));
        } else if (streq(type, "compaction")) {
                say(c, "2", "summary: ", show_member(u, "summary"));
        } else if (streq(type, "status"))
                say(c, "2", "-- ", show_member(u, "to"));
        else if (streq(type, "error") || streq(type, "log"))
                say(c, "31", "-- ", show_member(u, "message"));
        else if (streq(type, "session_stop"))
                say(c, "2", "-- ", "ended");
        (void) fflush(stdout);
}
