/* Views and edits of a file's text for the edit tool. */
#include "edit-text.h"

#include "utf8.h"

#define SNIPPET_LINES 4
#define OCCURRENCES_SHOWN 20

static size_t line_ends(struct span s)
{
        size_t n = 0;

        for (size_t i = 0; i < s.len; i++)
                n += s.data[i] == '\n';
        return n;
}

/* What follows the last line end is a line only when there is something; nothing at all is one
 * line. */
static size_t count_lines(struct span s)
{
        return s.len == 0 ? 1 : line_ends(s) + (s.data[s.len - 1] != '\n');
}

static size_t line_offset(struct span s, size_t line)
{
        size_t at = 0;

        for (; line > 0 && at < s.len; line--) {
                const char *end = memchr(s.data + at, '\n', s.len - at);

                at = end ? (size_t) (end - s.data) + 1 : s.len;
        }
        return at;
}

/* [from, to) 0-based */
static void put_numbered(struct span s, size_t from, size_t to, size_t max, struct buf *out)
{
        cleanup_buf struct buf lines = BUF_INIT;
        cleanup_free char *clipped = NULL;
        size_t at = line_offset(s, from);

        for (size_t i = from; i < to && lines.len <= max + 64; i++) {
                const char *end = at < s.len ? memchr(s.data + at, '\n', s.len - at) : NULL;
                size_t n = end ? (size_t) (end - s.data) - at : s.len - at;

                buf_putf(&lines, "%6zu\t", i + 1);
                buf_put(&lines, n > 0 ? s.data + at : "", MIN(n, max + 64));
                buf_puts(&lines, "\n");
                at += end ? n + 1 : n;
        }
        clipped = utf8_clip(lines.data ? lines.data : "", lines.len, max);
        buf_puts(out, clipped);
}

static int check_range(int64_t n, int64_t from, int64_t to, char **error)
{
        const char *what = NULL;

        if (from < 1 || from > n)
                what = "its first line must be one of the file's lines";
        else if (to > n)
                what = "its last line is beyond the end of the file";
        else if (to != -1 && to < from)
                what = "its last line must be -1 or not before the first";
        if (!what)
                return 0;
        *error = xasprintf("Invalid view_range [%" PRId64 ", %" PRId64
                           "]: %s. The file has lines 1 to %" PRId64 ".",
                           from, to, what, n);
        return -EINVAL;
}

int edit_view(struct span file, const char *path, bool has_range, int64_t from, int64_t to,
              size_t max, struct buf *out, char **error)
{
        int64_t n = (int64_t) count_lines(file);
        int r = has_range ? check_range(n, from, to, error) : 0;

        if (r < 0)
                return r;
        if (!has_range)
                from = 1;
        if (!has_range || to == -1)
                to = n;
        buf_putf(out, "Here's the result of running `cat -n` on %s:\n", path);
        put_numbered(file, (size_t) from - 1, (size_t) to, max, out);
        return 0;
}

static size_t lines_before(struct span s, size_t offset)
{
        return line_ends((struct span){ s.data, offset });
}

static const char *find(struct span s, size_t from, const char *what)
{
        return from <= s.len && s.len > 0 ? memmem(s.data + from, s.len - from, what, strlen(what))
                                          : NULL;
}

static int not_once(struct span file, const char *path, const char *old, char **error)
{
        const char *at = find(file, 0, old);
        struct buf lines = BUF_INIT;
        size_t n = 0;

        if (!at) {
                cleanup_free char *shown = utf8_clip(old, strlen(old), 500);

                *error = xasprintf(
                        "No replacement was performed: old_str `%s` did not appear verbatim in %s.",
                        shown, path);
                return -EINVAL;
        }
        for (; at && n < OCCURRENCES_SHOWN; n++) {
                size_t offset = (size_t) (at - file.data);

                buf_putf(&lines, "%s%zu", n > 0 ? ", " : "", lines_before(file, offset) + 1);
                at = find(file, offset + strlen(old), old);
        }
        *error = xasprintf("No replacement was performed: old_str appears more than once in %s, on "
                           "lines [%s%s]. "
                           "Make it unique.",
                           path, lines.data, at ? ", ..." : "");
        buf_done(&lines);
        return -EINVAL;
}

int edit_replace(struct span file, const char *path, const char *old, const char *new,
                 struct buf *out, size_t *ret_line, size_t *ret_lines, char **error)
{
        const char *at;
        size_t offset;

        if (*old == '\0') {
                *error = xstrdup("No replacement was performed: old_str is empty.");
                return -EINVAL;
        }
        at = find(file, 0, old);
        if (!at || find(file, (size_t) (at - file.data) + strlen(old), old))
                return not_once(file, path, old, error);
        offset = (size_t) (at - file.data);
        buf_put(out, file.data, offset);
        buf_puts(out, new);
        buf_put(out, at + strlen(old), file.len - offset - strlen(old));
        *ret_line = lines_before(file, offset);
        *ret_lines = count_lines(span_of(new));
        return 0;
}

int edit_insert(struct span file, int64_t line, const char *text, struct buf *out, size_t *ret_line,
                size_t *ret_lines, char **error)
{
        size_t n = file.len == 0 ? 0 : count_lines(file), at, len = strlen(text);
        bool ends = len > 0 && text[len - 1] == '\n';

        if (line < 0 || (uint64_t) line > n) {
                *error = xasprintf("Invalid insert_line %" PRId64
                                   ": it must be within the lines of the file, 0 to %zu.",
                                   line, n);
                return -EINVAL;
        }
        at = line_offset(file, (size_t) line);
        if (at > 0)
                buf_put(out, file.data, at);
        if (at > 0 && file.data[at - 1] != '\n')
                buf_puts(out, "\n");
        buf_puts(out, text);
        if (!ends && at < file.len)
                buf_puts(out, "\n");
        if (at < file.len)
                buf_put(out, file.data + at, file.len - at);
        *ret_line = (size_t) line;
        *ret_lines = count_lines(span_of(text));
        return 0;
}

void edit_snippet(struct span file, const char *path, size_t line, size_t lines, struct buf *out)
{
        size_t n = count_lines(file), from = line > SNIPPET_LINES ? line - SNIPPET_LINES : 0;
        size_t to = MIN(line + lines + SNIPPET_LINES, n);

        buf_putf(out,
                 "The file %s has been edited. Here's the result of running `cat -n` on a snippet "
                 "of it:\n",
                 path);
        put_numbered(file, from, to, 16000, out);
        buf_puts(out, "Review the changes and make sure they are as expected. Edit the file again "
                      "if necessary.");
}
