/* Recordings of sessions' desktops: show, export as a video, delete. */
#include "ctl.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MSEC 500

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
        interrupted = 1;
}

static int show(struct ctl *c, const char *path)
{
        static const char *const columns[] = { "EXPORT:export_id",
                                               "STATUS:status",
                                               "PERCENT:percent",
                                               "FORMAT:format",
                                               "DOCUMENT:document_id",
                                               "ERROR:error",
                                               NULL };
        cleanup_json json_t *r = NULL;

        if (ctl_call(c, "GET", path, NULL, &r) < 0)
                return 1;
        if (c->json) {
                show_json(r);
                return 0;
        }
        if (json_array_size(json_object_get(r, "pieces")) == 0)
                printf("nothing was recorded\n");
        else
                printf("%s to %s, %s bytes\n", show_member(r, "started_at"),
                       show_member(r, "ended_at"), show_member(r, "size_bytes"));
        if (json_array_size(json_object_get(r, "exports")) > 0)
                show_table(json_object_get(r, "exports"), columns);
        return 0;
}

static bool under_way(const json_t *export)
{
        const char *status = show_member(export, "status");

        return streq(status, "queued") || streq(status, "running");
}

static void tell(const struct ctl *c, const json_t *export)
{
        if (!c->json && isatty(STDERR_FILENO))
                fprintf(stderr, "\r%s %s %% ", show_member(export, "status"),
                        show_member(export, "percent"));
}

/* Looks until it has ended; Ctrl-C calls it off. */
static int await(struct ctl *c, const char *place, json_t **export)
{
        const struct timespec wait = { .tv_nsec = LOOK_MSEC * 1000000L };
        const struct sigaction on = { .sa_handler = on_interrupt };
        struct sigaction before;
        int r = 0;

        (void) sigaction(SIGINT, &on, &before);
        while (r == 0 && under_way(*export)) {
                json_t *next = NULL;

                tell(c, *export);
                if (!interrupted)
                        (void) nanosleep(&wait, NULL);
                r = ctl_call(c, interrupted ? "DELETE" : "GET", place, NULL, &next);
                if (r < 0)
                        break;
                json_decref(*export);
                *export = next;
        }
        (void) sigaction(SIGINT, &before, NULL);
        if (!c->json && isatty(STDERR_FILENO))
                fprintf(stderr, "\r%20s\r", "");
        return r;
}

static int export(struct ctl *c, const char *path, const char *file)
{
        const char *format = strrchr(file, '.');
        cleanup_free char *begin = xasprintf("%s/export", path);
        cleanup_json json_t *body = NULL, *reply = NULL;

        if (!streq(format, ".webm") && !streq(format, ".mp4")) {
                fprintf(stderr, "berthctl: FILE must end in .webm or .mp4\n");
                return 2;
        }
        body = json_pack("{s:s}", "format", format + 1);
        if (ctl_call(c, "POST", begin, body, &reply) < 0)
                return 1;
        cleanup_free char *id = ctl_quote(show_member(reply, "export_id"));
        cleanup_free char *place = xasprintf("%s/exports/%s", path, id);
        if (await(c, place, &reply) < 0)
                return 1;
        if (!streq(show_member(reply, "status"), "done")) {
                fprintf(stderr, "berthctl: the export %s%s%s\n",
                        streq(show_member(reply, "status"), "failed") ? "failed" : "was cancelled",
                        *show_member(reply, "error") ? ": " : "", show_member(reply, "error"));
                return 1;
        }
        if (ctl_save(c, show_member(reply, "url"), file) != 0)
                return 1;
        if (c->json)
                show_json(reply);
        else
                printf("%s: %s bytes, kept as document %s\n", file,
                       show_member(reply, "size_bytes"), show_member(reply, "document_id"));
        return 0;
}

int cmd_recordings(struct ctl *c, int argc, char **argv)
{
        if (argc >= 2) {
                cleanup_free char *id = ctl_quote(argv[1]);
                cleanup_free char *path = xasprintf("/sessions/%s/recording", id);

                if (streq(argv[0], "show") && argc == 2)
                        return show(c, path);
                if (streq(argv[0], "export") && argc == 3)
                        return export(c, path, argv[2]);
                if (streq(argv[0], "delete") && argc == 2)
                        return ctl_call(c, "DELETE", path, NULL, NULL) < 0;
        }
        fprintf(stderr,
                "usage: berthctl recordings show SESSION | export SESSION FILE.webm|FILE.mp4 | "
                "delete SESSION\n");
        return 2;
}
