/* Decides what a document may be called, tagged and described as. */
#include "document.h"

static int refuse(struct json_problem *p, const char *field, const char *fmt, ...)
        printf_like(3, 4);
static int refuse(struct json_problem *p, const char *field, const char *fmt, ...)
{
        va_list ap;
        *p = (struct json_problem){ 0 };
        (void) snprintf(p->field, sizeof(p->field), "%s", field);
        va_start(ap, fmt);
        (void) vsnprintf(p->message, sizeof(p->message), fmt, ap);
        va_end(ap);
        return -EINVAL;
}

/* The text must be valid UTF-8. */
static uint32_t next_char(const unsigned char **s)
{
        const unsigned char *p = *s;
        unsigned more = *p < 0x80 ? 0 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;
        uint32_t c = more == 0 ? *p : *p & (0x3fu >> more);
        for (p++; more > 0; more--)
                c = c << 6 | (*p++ & 0x3fu);
        *s = p;
        return c;
}

/* Characters that turn the direction of text or cannot be seen: with them "fdp.exe" can look like
 * "exe.pdf". */
static bool is_deceiving(uint32_t c)
{
        return c == 0x061c || c == 0x200b || c == 0x200e || c == 0x200f ||
               (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
               (c >= 0xe0000 && c <= 0xe007f);
}

const char *document_filename_problem(const char *s)
{
        size_t n = s ? strlen(s) : 0;
        if (n == 0)
                return "must not be empty";
        if (n > DOCUMENT_FILENAME_MAX)
                return "must be at most 255 bytes";
        if (!utf8_valid(s, n))
                return "must be valid UTF-8";
        if (strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
                return "must not be . or ..";
        bool visible = false;
        for (const unsigned char *p = (const unsigned char *) s; *p;) {
                uint32_t c = next_char(&p);
                if (c == '/' || c == '\\')
                        return "must not contain path separators";
                if (c < 0x20 || (c >= 0x7f && c <= 0x9f))
                        return "must not contain control characters";
                if (is_deceiving(c))
                        return "must not contain invisible or direction-changing characters";
                visible = visible || c != ' ';
        }
        return visible ? NULL : "must not be blank";
}

const char *document_path_problem(const char *s)
{
        char part[DOCUMENT_FILENAME_MAX + 2];
        size_t depth = 0;

        if (strlen(s) > DOCUMENT_PATH_MAX)
                return "must be at most 512 bytes";
        for (const char *p = s;; p++) {
                size_t n = strcspn(p, "/");
                if (n == 0)
                        return "must be relative, without empty parts";
                (void) snprintf(part, sizeof(part), "%.*s", (int) MIN(n, sizeof(part) - 1), p);
                const char *why = document_filename_problem(part);
                if (why)
                        return why;
                if (++depth > DOCUMENT_PATH_DEPTH)
                        return "must be at most 16 folders deep";
                p += n;
                if (!*p)
                        return NULL;
        }
}

static bool is_token_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               (c && strchr("!#$%&'*+-.^_`|~", c));
}

const char *document_content_type_problem(const char *s)
{
        if (strlen(s) > DOCUMENT_CONTENT_TYPE_MAX)
                return "must be at most 100 bytes";
        const char *p = s;
        while (is_token_char(*p))
                p++;
        const char *slash = p;
        if (p == s || *p++ != '/')
                return "must be a media type such as text/plain";
        while (is_token_char(*p))
                p++;
        if (p == slash + 1 || (*p && *p != ';' && *p != ' '))
                return "must be a media type such as text/plain";
        for (; *p; p++)
                if (*p < 0x20 || *p > 0x7e)
                        return "must be printable ASCII";
        return NULL;
}

static bool is_alnum(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* ^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$ */
const char *document_tag_problem(const char *s)
{
        size_t n = strlen(s);
        if (n == 0)
                return "must not contain an empty tag";
        if (n > DOCUMENT_TAG_MAX)
                return "must be at most 64 characters each";
        for (size_t i = 0; i < n; i++)
                if (!is_alnum(s[i]) && (s[i] != '-' || i == 0 || i == n - 1 || s[i - 1] == '-'))
                        return "may hold letters, digits and single hyphens between them";
        return NULL;
}

int document_tags_add(struct document_tags *t, struct span tag, struct json_problem *problem)
{
        char text[DOCUMENT_TAG_MAX + 2]; /* one more than allowed, so that too long is seen */
        size_t n = MIN(tag.len, sizeof(text) - 1);
        if (n > 0)
                memcpy(text, tag.data, n);
        text[n] = '\0';
        const char *why = strlen(text) == n ? document_tag_problem(text) : "must not contain NUL";
        if (why)
                return refuse(problem, "tags", "tags %s", why);
        for (size_t i = 0; i < t->n; i++)
                if (streq(t->tags[i], text))
                        return 0;
        if (t->n == DOCUMENT_TAGS_MAX)
                return refuse(problem, "tags", "tags must be at most %u", DOCUMENT_TAGS_MAX);
        memcpy(t->tags[t->n++], text, n + 1);
        return 0;
}

static bool is_blank(char c)
{
        return c == ' ' || c == '\t';
}

int document_tags_parse(struct document_tags *t, struct span list, struct json_problem *problem)
{
        for (size_t start = 0; start <= list.len;) {
                const char *comma =
                        start < list.len ? memchr(list.data + start, ',', list.len - start) : NULL;
                size_t end = comma ? (size_t) (comma - list.data) : list.len;
                size_t from = start, to = end;
                start = end + 1;
                while (from < to && is_blank(list.data[from]))
                        from++;
                while (to > from && is_blank(list.data[to - 1]))
                        to--;
                if (from == to)
                        continue;
                int r = document_tags_add(t, (struct span){ list.data + from, to - from }, problem);
                if (r < 0)
                        return r;
        }
        return 0;
}

int document_tags_from_json(struct document_tags *t, const json_t *array,
                            struct json_problem *problem)
{
        size_t i;
        json_t *member;
        if (!json_is_array(array))
                return refuse(problem, "tags", "tags must be a list of strings");
        json_array_foreach (array, i, member) {
                if (!json_is_string(member))
                        return refuse(problem, "tags", "tags must be a list of strings");
                struct span tag = { json_string_value(member), json_string_length(member) };
                int r = document_tags_add(t, tag, problem);
                if (r < 0)
                        return r;
        }
        return 0;
}

int document_metadata_check(const json_t *metadata, bool patch, struct json_problem *problem)
{
        if (!json_is_object(metadata))
                return refuse(problem, "metadata", "metadata must be a JSON object");
        const json_t *description = json_object_get(metadata, "description");
        if (!description || (patch && json_is_null(description)))
                return 0;
        if (!json_is_string(description))
                return refuse(problem, "description", "description must be a string");
        if (json_string_length(description) > DOCUMENT_DESCRIPTION_MAX)
                return refuse(problem, "description", "description must be at most %u bytes",
                              DOCUMENT_DESCRIPTION_MAX);
        return 0;
}
