/* Tool `str_replace_based_edit_tool`: views and edits files of the slot. */
#include "edit-text.h"
#include "tool.h"
#include "utf8.h"

#define FILE_MAX (4 * MIB)
#define PATH_MAX_BYTES 4000

enum edit_command { EDIT_VIEW, EDIT_CREATE, EDIT_STR_REPLACE, EDIT_INSERT, EDIT_MAX };
static const char *const commands[] = { "view", "create", "str_replace", "insert" };

struct edit {
        struct tool_run *run;
        enum edit_command command;
        const char *path;
        struct guest *guest;
        char *answer; /* said when the write is done */
};

static void edit_free(struct edit *e)
{
        free(e->answer);
        free(e);
}

/* Ends the run: frees the state first, so that stop has nothing to do. */
static struct tool_run *edit_end(struct edit *e)
{
        struct tool_run *run = e->run;

        run->state = NULL;
        edit_free(e);
        return run;
}

static void edit_fail(struct edit *e, int r, const char *what)
{
        const char *path = e->path; /* the run keeps it */
        struct tool_run *run = edit_end(e);

        if (r == -ENOENT)
                tool_finish_error(run, "The path %s does not exist. Give a valid path.", path);
        else if (r == -EFBIG)
                tool_finish_error(run, "The file %s is larger than 4 MiB; use bash for it.", path);
        else
                tool_finish_error(run, "%s %s failed: %s.", what, path, strerror(-r));
}

static void on_written(void *userdata, int r)
{
        struct edit *e = userdata;

        if (r < 0) {
                edit_fail(e, r, "Writing");
        } else {
                cleanup_free char *answer = TAKE_PTR(e->answer);

                tool_finish_text(edit_end(e), "%s", answer);
        }
}

static void edit_write(struct edit *e, const char *data, size_t n)
{
        int r = guest_write_file(e->guest, e->run->host->epoch, e->path, data, n, on_written, e);

        if (r < 0)
                edit_fail(e, r, "Writing");
}

static void view_text(struct edit *e, struct span file)
{
        const json_t *range = json_object_get(e->run->input, "view_range");
        const json_t *from = json_array_get(range, 0), *to = json_array_get(range, 1);
        bool has_range = range && !json_is_null(range);
        cleanup_buf struct buf out = BUF_INIT;
        cleanup_free char *error = NULL;
        int64_t max = TOOL_OUTPUT_MAX;

        if (tool_arg_int(e->run, "max_characters", false, &max) < 0) {
                (void) edit_end(e);
                return;
        }
        if (has_range &&
            (json_array_size(range) != 2 || !json_is_integer(from) || !json_is_integer(to))) {
                tool_finish_error(edit_end(e),
                                  "Invalid view_range: it must be a list of two integers.");
                return;
        }
        max = MAX(MIN(max, (int64_t) TOOL_OUTPUT_MAX), INT64_C(1));
        if (edit_view(file, e->path, has_range, json_integer_value(from), json_integer_value(to),
                      (size_t) max, &out, &error) < 0)
                tool_finish_error(edit_end(e), "%s", error);
        else
                tool_finish_text(edit_end(e), "%s", out.data);
}

static void change_text(struct edit *e, struct span file)
{
        const char *old = NULL, *text = "";
        cleanup_buf struct buf out = BUF_INIT, answer = BUF_INIT;
        cleanup_free char *error = NULL;
        size_t line = 0, lines = 0;
        int64_t at = 0;
        int r;

        if (e->command == EDIT_STR_REPLACE)
                r = tool_arg_string(e->run, "old_str", true, &old) < 0 ||
                                    tool_arg_string(e->run, "new_str", false, &text) < 0
                            ? -ENODATA
                            : edit_replace(file, e->path, old, text, &out, &line, &lines, &error);
        else
                r = tool_arg_int(e->run, "insert_line", true, &at) < 0 ||
                                    tool_arg_string(e->run, "insert_text", true, &text) < 0
                            ? -ENODATA
                            : edit_insert(file, at, text, &out, &line, &lines, &error);
        if (r == -ENODATA) { /* the run is finished with the reason */
                (void) edit_end(e);
                return;
        }
        if (r < 0) {
                tool_finish_error(edit_end(e), "%s", error);
                return;
        }
        edit_snippet((struct span){ out.data ? out.data : "", out.len }, e->path, line, lines,
                     &answer);
        e->answer = utf8_clip(answer.data, answer.len, TOOL_OUTPUT_MAX);
        edit_write(e, out.data ? out.data : "", out.len);
}

static void on_read(void *userdata, int r, const char *data, size_t n, uint64_t file_size)
{
        struct edit *e = userdata;
        struct span file = { n > 0 ? data : "", n };

        if (r == 0 && file_size > FILE_MAX)
                r = -EFBIG;
        if (r < 0)
                edit_fail(e, r, "Reading");
        else if (e->command == EDIT_VIEW)
                view_text(e, file);
        else
                change_text(e, file);
}

static bool hidden(const char *path)
{
        return path[0] == '.' || strstr(path, "/.");
}

static void show_folder(struct edit *e, const struct guest_listing *l)
{
        const json_t *range = json_object_get(e->run->input, "view_range");
        cleanup_buf struct buf out = BUF_INIT;
        size_t n = strlen(e->path);

        if (range && !json_is_null(range)) {
                tool_finish_error(
                        edit_end(e),
                        "The view_range parameter is not allowed when path is a directory.");
                return;
        }
        while (n > 1 && e->path[n - 1] == '/')
                n--;
        buf_putf(&out,
                 "Here's the files and directories up to 2 levels deep in %s, excluding hidden "
                 "items:\n%.*s\n",
                 e->path, (int) n, e->path);
        for (size_t i = 0; i < l->n_entries; i++)
                if (!hidden(l->entries[i].path))
                        buf_putf(&out, "%.*s/%s%s\n", n == 1 ? 0 : (int) n, e->path,
                                 l->entries[i].path, l->entries[i].kind == 2 ? "/" : "");
        if (l->n_entries >= 1000)
                buf_puts(&out, "[more entries are not shown]\n");
        {
                cleanup_free char *text = utf8_clip(out.data, out.len, TOOL_OUTPUT_MAX);

                tool_finish_text(edit_end(e), "%s", text);
        }
}

static void create_file(struct edit *e)
{
        const char *text = NULL;

        if (tool_arg_string(e->run, "file_text", true, &text) < 0) {
                (void) edit_end(e);
                return;
        }
        e->answer = xasprintf("File created successfully at: %s", e->path);
        edit_write(e, text, strlen(text));
}

static void on_listing(void *userdata, int r, const struct guest_listing *l)
{
        struct edit *e = userdata;

        if (e->command == EDIT_CREATE && r == -ENOENT) {
                create_file(e);
                return;
        }
        if (r < 0) {
                edit_fail(e, r, "Reading");
                return;
        }
        if (e->command == EDIT_CREATE) {
                const char *path = e->path; /* the run keeps it */

                tool_finish_error(
                        edit_end(e),
                        "A file already exists at %s. Files cannot be overwritten by create.",
                        path);
                return;
        }
        if (l->kind == 2 && e->command == EDIT_VIEW) {
                show_folder(e, l);
                return;
        }
        if (l->kind == 2) {
                const char *path = e->path; /* the run keeps it */

                tool_finish_error(edit_end(e),
                                  "The path %s is a directory: only view can be used on it.", path);
                return;
        }
        r = guest_read_file(e->guest, e->run->host->epoch, e->path, 0, FILE_MAX, on_read, e);
        if (r < 0)
                edit_fail(e, r, "Reading");
}

static bool path_fits(struct tool_run *run, const char *path)
{
        if (path[0] != '/')
                tool_finish_error(run,
                                  "The path %s is not absolute: it should start with /. Did you "
                                  "mean /home/agent/%s?",
                                  path, path);
        else if (strlen(path) > PATH_MAX_BYTES)
                tool_finish_error(run, "The path is longer than %d bytes.", PATH_MAX_BYTES);
        return path[0] == '/' && strlen(path) <= PATH_MAX_BYTES;
}

static void edit_start(struct tool_run *run)
{
        struct guest *guest = run->host->slot ? slot_guest(run->host->slot) : NULL;
        const char *name = NULL, *path = NULL;
        enum edit_command command = 0;
        struct edit *e;
        int r;

        if (tool_arg_string(run, "command", true, &name) < 0 ||
            tool_arg_string(run, "path", true, &path) < 0 || !path_fits(run, path))
                return;
        while (command < EDIT_MAX && !streq(commands[command], name))
                command++;
        if (command == EDIT_MAX) {
                tool_finish_error(
                        run, "Unknown command %s: use view, create, str_replace or insert.", name);
                return;
        }
        if (!guest) {
                tool_finish_error(run, "The slot is not ready.");
                return;
        }
        e = xnew(struct edit);
        *e = (struct edit){ .run = run, .command = command, .path = path, .guest = guest };
        run->state = e;
        r = guest_list_dir(guest, run->host->epoch, path, 2, on_listing, e);
        if (r < 0)
                edit_fail(e, r, "Reading");
}

static void edit_stop(struct tool_run *run, bool timeout)
{
        struct edit *e = run->state;

        if (!e)
                return;
        run->state = NULL;
        if (run->host->slot && slot_guest(run->host->slot) == e->guest)
                guest_cancel(e->guest, e);
        edit_free(e);
}

const struct tool tool_edit = {
        .spec = {
                .name = "str_replace_based_edit_tool",
                .description = "Views, creates and edits text files in the slot; paths are absolute.",
                .schema = "{\"type\":\"object\",\"required\":[\"command\",\"path\"],\"properties\":{"
                          "\"command\":{\"type\":\"string\",\"enum\":[\"view\",\"create\",\"str_replace\",\"insert\"]},"
                          "\"path\":{\"type\":\"string\"},\"view_range\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}},"
                          "\"file_text\":{\"type\":\"string\"},\"old_str\":{\"type\":\"string\"},"
                          "\"new_str\":{\"type\":\"string\"},\"insert_line\":{\"type\":\"integer\"},"
                          "\"insert_text\":{\"type\":\"string\"}}}",
                .native = PROVIDER_NATIVE_EDIT,
        },
        .limit_usec = 30 * USEC_PER_SEC,
        .start = edit_start,
        .stop = edit_stop,
};
