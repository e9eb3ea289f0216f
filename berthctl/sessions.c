/* Sessions: list, show, new, send, stop, delete, follow; and attach, the live transcript. */
#include "ctl.h"

#include <poll.h>
#include <unistd.h>

static int usage(const char *text)
{
        fprintf(stderr, "usage: berthctl %s\n", text);
        return 2;
}

static char *join(int argc, char **argv)
{
        cleanup_buf struct buf b = BUF_INIT;

        for (int i = 0; i < argc; i++)
                buf_putf(&b, "%s%s", i ? " " : "", argv[i]);
        return buf_pending(&b) ? buf_take(&b, NULL) : xstrdup("");
}

static int list(struct ctl *c, const char *status)
{
        static const char *const columns[] = { "ID:session_id",     "STATUS:status",
                                               "KIND:kind",         "WORKER:worker_id",
                                               "SEQ:last_seq",      "CREATED:created_at",
                                               "NAME:session_name", NULL };
        cleanup_json json_t *all = json_array(), *page = NULL;
        cleanup_free char *cursor = xstrdup(""), *wanted = ctl_quote(status ? status : "");

        do {
                cleanup_free char *path =
                        xasprintf("/sessions?limit=1000%s%s%s%s", *wanted ? "&status=" : "", wanted,
                                  *cursor ? "&cursor=" : "", cursor);
                json_decref(page);
                page = NULL;
                if (ctl_call(c, "GET", path, NULL, &page) < 0)
                        return 1;
                (void) json_array_extend(all, json_object_get(page, "sessions"));
                free(cursor);
                cursor = ctl_quote(show_member(page, "next_cursor"));
        } while (*cursor);
        if (c->json)
                show_json(all);
        else
                show_table(all, columns);
        return 0;
}

static int show(struct ctl *c, const char *path)
{
        cleanup_json json_t *s = NULL;
        static const char *const rows[] = { "session_id",
                                            "session_name",
                                            "status",
                                            "kind",
                                            "model",
                                            "worker_id",
                                            "slot.state",
                                            "last_seq",
                                            "created_at",
                                            "modified_at",
                                            "usage.turns",
                                            "usage.input_tokens",
                                            "usage.output_tokens",
                                            "usage.cost_usd",
                                            "error.message" };

        if (ctl_call(c, "GET", path, NULL, &s) < 0)
                return 1;
        if (c->json) {
                show_json(s);
                return 0;
        }
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                if (*show_member(s, rows[i]))
                        printf("%-20s %s\n", rows[i], show_member(s, rows[i]));
        }
        return 0;
}

static int create(struct ctl *c, int argc, char **argv)
{
        cleanup_free char *text = join(argc, argv);
        const char *kind = getenv("BERTHCTL_KIND");
        cleanup_json json_t *body = json_object(), *s = NULL;

        if (*text)
                (void) json_object_set_new(body, "message", json_string(text));
        if (kind)
                (void) json_object_set_new(body, "kind", json_string(kind));
        if (ctl_call(c, "POST", "/sessions", body, &s) < 0)
                return 1;
        if (c->json)
                show_json(s);
        else
                printf("%s\n", show_member(s, "session_id"));
        return 0;
}

static int tell(struct ctl *c, const char *path, const char *text, bool quiet)
{
        cleanup_free char *messages = xasprintf("%s/messages", path);
        cleanup_json json_t *body = json_object(), *reply = NULL;

        (void) json_object_set_new(body, "content", json_string(text));
        if (ctl_call(c, "POST", messages, body, &reply) < 0)
                return 1;
        if (c->json && !quiet)
                show_json(reply);
        return 0;
}

/* ---- following ---- */

struct view {
        struct ctl *c;
        const char *path; /* of the session, for what is typed */
        bool until_done;  /* ends when the session waits or has ended */
        bool streaming, deltas;
        uint64_t tail; /* seq up to which is history */
        struct buf typed;
        bool eof;
};

static void end_streaming(struct view *v)
{
        if (v->streaming)
                printf("\n");
        v->streaming = false;
}

static bool on_update(void *userdata, const json_t *u)
{
        struct view *v = userdata;
        const char *type = show_member(u, "type");

        if (v->c->json) {
                if (json_dumpf(u, stdout, JSON_COMPACT) == 0)
                        printf("\n");
        } else if (streq(type, "delta")) {
                if (v->deltas && streq(show_member(u, "kind"), "text")) {
                        if (!v->streaming)
                                printf("%s", v->c->colour ? "\033[32m.. \033[0m" : ".. ");
                        v->streaming = true;
                        printf("%s", show_member(u, "text"));
                        (void) fflush(stdout);
                }
                return true;
        } else {
                end_streaming(v);
                show_update(v->c, u);
        }
        if (fflush(stdout) != 0)
                return false; /* nobody reads any more */
        json_int_t seq = json_integer_value(json_object_get(u, "seq"));
        if (!v->until_done || seq < (json_int_t) v->tail)
                return true;
        const char *to = show_member(u, "to");
        return !(streq(show_member(u, "event_type"), "session_stop") || streq(to, "idle") ||
                 streq(to, "failed") || streq(to, "stopped"));
}

static bool nothing_between(void *userdata)
{
        return true;
}

/* Lines typed become messages. They go by a connection of their own: the stream has the other. */
static bool read_typed(void *userdata)
{
        struct view *v = userdata;
        struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
        char text[4096], *end;

        if (v->eof || poll(&p, 1, 0) < 1)
                return true;
        ssize_t n = read(STDIN_FILENO, text, sizeof(text));
        v->eof = n <= 0;
        if (v->eof)
                return !isatty(STDIN_FILENO); /* Ctrl-D leaves; a pipe's end only ends the input */
        if (buf_append(&v->typed, text, (size_t) n) < 0)
                return false;
        while ((end = memchr(buf_head(&v->typed), '\n', buf_pending(&v->typed)))) {
                cleanup_free char *line =
                        xstrndup(buf_head(&v->typed), (size_t) (end - buf_head(&v->typed)));
                struct ctl other = { .url = v->c->url, .token = xstrdup(v->c->token) };
                buf_consume(&v->typed, strlen(line) + 1);
                other.url = xstrdup(v->c->url);
                ctl_open(&other);
                if (*strstrip(line))
                        (void) tell(&other, v->path, strstrip(line), true);
                ctl_close(&other);
        }
        return true;
}

static int follow(struct ctl *c, const char *id, const char *path, bool attach)
{
        cleanup_json json_t *s = NULL;
        struct view v = { .c = c,
                          .path = path,
                          .until_done = !attach,
                          .deltas = attach,
                          .typed = BUF_LIMIT(MIB) };
        struct ctl_follow f = { .session_id = id,
                                .on_update = on_update,
                                .between = attach ? read_typed : nothing_between,
                                .wait_fd = attach ? STDIN_FILENO : -1,
                                .userdata = &v };

        if (ctl_call(c, "GET", path, NULL, &s) < 0)
                return 1;
        const char *status = show_member(s, "status");
        bool live =
                streq(status, "running") || streq(status, "queued") || streq(status, "starting");
        v.tail = (uint64_t) json_integer_value(json_object_get(s, "last_seq"));
        if (live)
                v.tail++;
        else if (!attach && v.tail == 0)
                return 0;
        else if (!attach)
                v.until_done = true;
        int r = ctl_follow(c, &f);
        end_streaming(&v);
        buf_done(&v.typed);
        return r < 0 ? 1 : 0;
}

int cmd_attach(struct ctl *c, int argc, char **argv)
{
        if (argc != 1)
                return usage("attach ID");
        cleanup_free char *id = ctl_quote(argv[0]), *path = xasprintf("/sessions/%s", id);
        return follow(c, id, path, true);
}

/* Commands that take an ID. */
static int on_one(struct ctl *c, const char *what, const char *raw, int argc, char **argv)
{
        cleanup_free char *id = ctl_quote(raw), *path = xasprintf("/sessions/%s", id);
        cleanup_free char *act = xasprintf("%s/%s", path, what), *text = join(argc, argv);
        cleanup_json json_t *reply = NULL;

        if (argc > 0 && !streq(what, "send"))
                return usage("sessions show|stop|pause|resume|interrupt|delete|follow ID   (one)");
        if (streq(what, "show"))
                return show(c, path);
        if (streq(what, "follow"))
                return follow(c, id, path, false);
        if (streq(what, "send"))
                return *text ? tell(c, path, text, false) : usage("sessions send ID TEXT");
        if (streq(what, "delete"))
                return ctl_call(c, "DELETE", path, NULL, NULL) < 0;
        if (!streq(what, "stop") && !streq(what, "pause") && !streq(what, "resume") &&
            !streq(what, "interrupt"))
                return usage("sessions list|show|new|send|stop|pause|resume|interrupt|delete|"
                             "follow");
        if (ctl_call(c, "POST", act, NULL, &reply) < 0)
                return 1;
        if (c->json)
                show_json(reply);
        return 0;
}

int cmd_sessions(struct ctl *c, int argc, char **argv)
{
        if (argc == 0 || (streq(argv[0], "list") && argc <= 2))
                return list(c, argc > 1 ? argv[1] : NULL);
        if (streq(argv[0], "new"))
                return create(c, argc - 1, argv + 1);
        if (argc < 2)
                return usage("sessions "
                             "list|show|new|send|stop|pause|resume|interrupt|delete|follow [ID] "
                             "...");
        return on_one(c, argv[0], argv[1], argc - 2, argv + 2);
}
