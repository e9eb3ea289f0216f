/* Tool `bash`: one persistent shell per session in the slot. */
#include <signal.h>

#include "common/io/log.h"
#include "shell-text.h"
#include "tool.h"
#include "utf8.h"

#define COMMAND_MAX (120 * KIB)
#define COLLECT_MAX (64 * KIB)   /* of one stream kept for the result; it is clipped to less */
#define BACKGROUND_MAX (4 * KIB) /* of output between commands */
#define RESTART_HINT "Call this tool with restart:true to get a new shell."

struct collected {
        struct shell_stream stream;
        struct buf text;
        size_t dropped;  /* bytes that did not fit */
        struct buf tail; /* a character that is not complete yet */
};

struct shell {
        struct tool_host *host;
        struct guest_command *command; /* NULL when it ended */
        bool broken;                   /* stopped at the time limit: only restart:true helps */
        struct tool_run *run;
        struct collected out, err;
        struct buf background; /* said while no command ran */
};

static void collected_begin(struct collected *c, const char *token)
{
        shell_stream_begin(&c->stream, token);
        c->text = BUF_INIT;
        c->tail = BUF_INIT;
        c->dropped = 0;
}

static void collected_done(struct collected *c)
{
        shell_stream_done(&c->stream);
        buf_done(&c->text);
        buf_done(&c->tail);
}

static void shell_free(struct shell *s)
{
        if (s->command) {
                guest_command_kill(s->command, SIGKILL);
                guest_command_forget(s->command);
        }
        collected_done(&s->out);
        collected_done(&s->err);
        buf_done(&s->background);
        free(s);
}

void tool_host_close(struct tool_host *h)
{
        struct shell *s = TAKE_PTR(h->shell);

        json_decref(h->budget_left);
        h->budget_left = NULL;
        if (s)
                shell_free(s);
}

static void live_output(struct shell *s, struct collected *c, int stream, const struct buf *text)
{
        struct tool_host *h = s->host;
        cleanup_buf struct buf clean = BUF_INIT;
        size_t cut;

        if (!h->on_output || text->len == 0)
                return;
        buf_put(&c->tail, text->data, text->len);
        cut = buf_pending(&c->tail) - utf8_incomplete(buf_head(&c->tail), buf_pending(&c->tail));
        utf8_clean(&clean, buf_head(&c->tail), cut);
        buf_consume(&c->tail, cut);
        if (clean.len > 0)
                h->on_output(h->userdata, s->run->call_id, stream,
                             (struct span){ clean.data, clean.len });
}

static void keep_background(struct shell *s, const char *data, size_t n)
{
        buf_put(&s->background, data, n);
        if (buf_pending(&s->background) > BACKGROUND_MAX)
                buf_consume(&s->background, buf_pending(&s->background) - BACKGROUND_MAX);
}

static void put_stream(struct buf *to, struct collected *c, const char *title)
{
        size_t n = buf_pending(&c->text);
        cleanup_free char *text = NULL;

        if (n > 0 && buf_head(&c->text)[n - 1] == '\n')
                n--;
        if (n == 0)
                return;
        text = utf8_clip(buf_head(&c->text), n, TOOL_OUTPUT_MAX);
        if (to->len > 0)
                buf_putf(to, "\n%s", title);
        buf_puts(to, text);
        if (c->dropped > 0)
                buf_putf(to, "\n[%zu bytes more were not kept]", c->dropped);
}

/* Everything the command said, with what the shell's background jobs had said before it. */
static void put_output(struct shell *s, struct buf *to)
{
        if (buf_pending(&s->background) > 0) {
                buf_puts(to, "[output of background jobs since the last command]\n");
                utf8_clean(to, buf_head(&s->background), buf_pending(&s->background));
                buf_puts(to, "\n[output of this command]");
                buf_done(&s->background);
        }
        put_stream(to, &s->out, "");
        put_stream(to, &s->err, "[stderr]\n");
}

static void finish(struct shell *s, int64_t status, const char *note)
{
        struct tool_run *run = TAKE_PTR(s->run);
        struct tool_result result = { .has_exit_code = status >= 0, .exit_code = status };
        cleanup_buf struct buf text = BUF_INIT;

        put_output(s, &text);
        collected_done(&s->out);
        collected_done(&s->err);
        if (status != 0 || note) {
                if (text.len > 0)
                        buf_puts(&text, "\n");
                if (note)
                        buf_puts(&text, note);
                else
                        buf_putf(&text, "[exit code %" PRId64 "]", status);
                result.error = buf_take(&text, NULL);
        } else if (text.len > 0) {
                result.content = json_pack("[{s:s,s:s}]", "type", "text", "text", text.data);
        }
        run->state = NULL;
        tool_finish(run, &result);
}

static void collect(struct shell *s, struct collected *c, int stream, const char *data, size_t n)
{
        cleanup_buf struct buf text = BUF_INIT, after = BUF_INIT;
        size_t room;

        shell_stream_feed(&c->stream, data, n, &text, &after);
        room = COLLECT_MAX - buf_pending(&c->text);
        buf_put(&c->text, text.data ? text.data : "", MIN(room, text.len));
        c->dropped += text.len - MIN(room, text.len);
        live_output(s, c, stream, &text);
        if (after.len > 0)
                keep_background(s, after.data, after.len);
}

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        struct shell *s = userdata;

        if (!s->run) {
                keep_background(s, data, n);
                return;
        }
        collect(s, stream == 2 ? &s->err : &s->out, stream, data, n);
        if (s->out.stream.ended && s->err.stream.ended)
                finish(s, s->out.stream.status, NULL);
}

static void flush_held(struct shell *s, struct collected *c, int stream)
{
        cleanup_buf struct buf held = c->stream.held;

        c->stream.held = BUF_INIT;
        if (held.len > 0 && !c->stream.ended)
                buf_put(&c->text, buf_head(&held), buf_pending(&held));
}

static void on_exit_(void *userdata, const struct guest_status *status)
{
        struct shell *s = userdata;
        cleanup_free char *note = NULL;

        s->command = NULL;
        if (!s->run)
                return;
        if (status->error)
                note = xasprintf("[the shell ended: %s]", status->error);
        else if (status->signal)
                note = xasprintf(
                        "[the shell was ended by signal %d; the next command gets a new one]",
                        status->signal);
        else
                note = xasprintf("[the shell exited with code %d; the next command gets a new one]",
                                 status->code);
        flush_held(s, &s->out, 1);
        flush_held(s, &s->err, 2);
        finish(s, status->code, note);
}

static int shell_start(struct shell *s)
{
        struct tool_host *h = s->host;
        struct guest *g = h->slot ? slot_guest(h->slot) : NULL;
        int r;

        if (s->command)
                return 0;
        if (!g)
                return -ENOTCONN;
        r = guest_spawn(
                g, h->epoch,
                &(struct guest_command_config){
                        .argv = (const char *const[]){ "/bin/bash", "--noprofile", "--norc", NULL },
                        .env = (const char *const[]){ "PS1=", "TERM=dumb", "PAGER=cat",
                                                      "GIT_PAGER=cat", "DISPLAY=:1", NULL },
                        .stdin_pipe = true,
                        .on_output = on_output,
                        .on_exit = on_exit_,
                        .userdata = s,
                },
                &s->command);
        if (r < 0)
                return r;
        buf_done(&s->background);
        return guest_command_input(s->command, h->epoch, SHELL_SETUP, strlen(SHELL_SETUP), false);
}

static void run_command(struct tool_run *run, struct shell *s, const char *command)
{
        char token[SHELL_TOKEN_MAX];
        cleanup_buf struct buf line = BUF_INIT;
        int r;

        if (strlen(command) > COMMAND_MAX) {
                tool_finish_error(
                        run,
                        "The command is longer than 120 KiB; write it to a file and run that.");
                return;
        }
        shell_token(token);
        shell_line(&line, command, token);
        r = shell_start(s);
        if (r == 0)
                r = guest_command_input(s->command, run->host->epoch, line.data, line.len, false);
        if (r < 0) {
                tool_finish_error(run, "The shell could not be started or spoken to (%s).",
                                  strerror(-r));
                return;
        }
        collected_begin(&s->out, token);
        collected_begin(&s->err, token);
        s->run = run;
        run->state = s;
}

static void bash_start(struct tool_run *run)
{
        struct tool_host *h = run->host;
        const char *command = NULL;
        bool restart = false;

        if (tool_arg_bool(run, "restart", &restart) < 0 ||
            tool_arg_string(run, "command", false, &command) < 0)
                return;
        if (restart) {
                tool_host_close(h);
                tool_finish_text(run, "The shell has been restarted.");
                return;
        }
        if (!command) {
                tool_finish_error(run, "No command was given.");
                return;
        }
        if (!h->shell) {
                h->shell = xnew(struct shell);
                h->shell->host = h;
        }
        if (h->shell->broken) {
                tool_finish_error(
                        run, "The shell was stopped because a command did not end. " RESTART_HINT);
                return;
        }
        run_command(run, h->shell, command);
}

static void bash_stop(struct tool_run *run, bool timeout)
{
        struct shell *s = run->state;

        run->state = NULL;
        if (!s)
                return;
        s->run = NULL;
        collected_done(&s->out);
        collected_done(&s->err);
        tool_host_close(run->host);
        if (timeout) {
                run->host->shell = xnew(struct shell);
                run->host->shell->host = run->host;
                run->host->shell->broken = true;
        }
}

const struct tool tool_bash = {
        .spec = {
                .name = "bash",
                .description =
                        "Runs a command in one persistent bash in the slot; working directory and "
                        "variables stay between calls. Give either command or restart.",
                .schema = "{\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"string\"},"
                          "\"restart\":{\"type\":\"boolean\"}}}",
                .native = PROVIDER_NATIVE_BASH,
        },
        .limit_usec = 120 * USEC_PER_SEC,
        .start = bash_start,
        .stop = bash_stop,
        .timeout_text = "The command did not end within 120 s; it and its shell were stopped. " RESTART_HINT
                        " Start long work in the background and send its output to a file.",
};
