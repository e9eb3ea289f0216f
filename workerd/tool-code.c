/* Tool `execute_code`: one program in a folder of its own, with input, packages and a time limit.
 */
#include <signal.h>

#include "tool.h"
#include "utf8.h"

#define CODE_MAX (1 * MIB)
#define INPUT_MAX (1 * MIB)
#define PACKAGES_MAX 20
#define PACKAGE_MAX 120
#define TIMEOUT_DEFAULT 60
#define TIMEOUT_MAX 600
#define STREAM_MAX (64 * KIB)  /* of one stream is kept */
#define SHOWN_MAX (7 * KIB)    /* of one stream is shown at each end */
#define INPUT_PIECE (32 * KIB) /* of the input at a time */

static const struct language {
        const char *name, *file;
        const char *packages; /* who installs them; NULL = nobody */
        const char *run;      /* shell words in the folder of the run */
} languages[] = {
        { "python", "main.py", "pip", "exec python3 main.py" },
        { "javascript", "main.mjs", "npm", "exec node main.mjs" },
        { "typescript", "main.ts", "npm",
          "if command -v tsx >/dev/null; then exec tsx main.ts; fi\n"
          "if command -v esbuild >/dev/null; then esbuild --log-level=error --format=esm "
          "--outfile=main.mjs main.ts && exec node main.mjs; exit 1; fi\n"
          "exec node --experimental-strip-types --no-warnings main.ts" },
        { "bash", "main.sh", NULL, "exec bash main.sh" },
};

/* What a stream said: the first bytes as they came, the rest in a ring of the newest. */
struct kept {
        struct buf head;
        char *tail;
        size_t seen;        /* bytes in all */
        struct buf pending; /* a character that is not complete yet, for viewers */
};

struct code {
        struct tool_run *run;
        struct guest *guest;
        struct guest_command *command;
        const struct language *language;
        const char *source, *input;
        size_t fed;
        const json_t *packages;
        char folder[40];
        uint64_t started;
        int64_t timeout;
        struct loop_timer limit;
        bool late;
        struct kept out, err;
};

static void kept_done(struct kept *k)
{
        buf_done(&k->head);
        buf_done(&k->pending);
        free(k->tail);
}

static void kept_add(struct kept *k, const char *data, size_t n)
{
        size_t room = STREAM_MAX / 2 - MIN(k->head.len, STREAM_MAX / 2), first = MIN(room, n);

        if (first > 0)
                buf_put(&k->head, data, first);
        k->seen += first;
        for (size_t i = first; i < n; i++, k->seen++) {
                if (!k->tail)
                        k->tail = xmalloc(STREAM_MAX / 2);
                k->tail[(k->seen - STREAM_MAX / 2) % (STREAM_MAX / 2)] = data[i];
        }
}

/* All of it in order; what lies between head and tail is lost. */
static void kept_text(const struct kept *k, struct buf *out, size_t *ret_lost)
{
        size_t half = STREAM_MAX / 2, behind = k->seen - MIN(k->seen, half), from;

        *ret_lost = behind > half ? behind - half : 0;
        buf_put(out, buf_head(&k->head), buf_pending(&k->head));
        if (*ret_lost > 0)
                buf_putf(out, "\n[... %zu bytes left out ...]\n", *ret_lost);
        from = behind > half ? behind % half : 0;
        for (size_t i = 0; i < MIN(behind, half); i++)
                buf_put(out, &k->tail[(from + i) % half], 1);
}

static void code_free(struct code *c)
{
        loop_timer_done(&c->limit);
        kept_done(&c->out);
        kept_done(&c->err);
        free(c);
}

static void put_stream(struct buf *to, const struct kept *k, const char *title)
{
        cleanup_buf struct buf all = BUF_INIT, clean = BUF_INIT;
        size_t lost;

        kept_text(k, &all, &lost);
        if (all.len == 0)
                return;
        utf8_clean(&clean, all.data, all.len);
        if (clean.len > 0 && clean.data[clean.len - 1] == '\n')
                clean.len--;
        buf_putf(to, "%s[%s]\n", to->len > 0 ? "\n" : "", title);
        if (clean.len <= 2 * SHOWN_MAX) {
                buf_put(to, clean.data, clean.len);
                return;
        }
        size_t head = utf8_cut(clean.data, clean.len, SHOWN_MAX), tail = clean.len - SHOWN_MAX;

        while (((unsigned char) clean.data[tail] & 0xc0) == 0x80)
                tail++;
        buf_put(to, clean.data, head);
        buf_putf(to, "\n[... %zu of %zu bytes are not shown; write large output to a file ...]\n",
                 tail - head, k->seen);
        buf_put(to, clean.data + tail, clean.len - tail);
}

static void finish(struct code *c, int64_t status, const char *note)
{
        struct tool_run *run = c->run;
        struct tool_result result = { .has_exit_code = status >= 0, .exit_code = status };
        cleanup_buf struct buf text = BUF_INIT;
        double seconds = (double) (now_monotonic() - c->started) / 1e6;

        put_stream(&text, &c->out, "stdout");
        put_stream(&text, &c->err, "stderr");
        if (text.len > 0)
                buf_puts(&text, "\n");
        if (note)
                buf_putf(&text, "[%s; %.2f s; folder %s]", note, seconds, c->folder);
        else
                buf_putf(&text, "[exit code %" PRId64 "; %.2f s; folder %s]", status, seconds,
                         c->folder);
        if (status != 0)
                result.error = buf_take(&text, NULL);
        else
                result.content = json_pack("[{s:s,s:s}]", "type", "text", "text", text.data);
        run->state = NULL;
        code_free(c);
        tool_finish(run, &result);
}

static void live(struct code *c, struct kept *k, int stream, const char *data, size_t n)
{
        struct tool_host *h = c->run->host;
        cleanup_buf struct buf clean = BUF_INIT;
        size_t cut;

        if (!h->on_output)
                return;
        buf_put(&k->pending, data, n);
        cut = buf_pending(&k->pending) -
              utf8_incomplete(buf_head(&k->pending), buf_pending(&k->pending));
        utf8_clean(&clean, buf_head(&k->pending), cut);
        buf_consume(&k->pending, cut);
        if (clean.len > 0)
                h->on_output(h->userdata, c->run->call_id, stream,
                             (struct span){ clean.data, clean.len });
}

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        struct code *c = userdata;
        struct kept *k = stream == 2 ? &c->err : &c->out;

        kept_add(k, data, n);
        live(c, k, stream, data, n);
}

/* What the steps of the run say by their exit status. */
#define STATUS_NO_PROGRAM 117
#define STATUS_NO_INSTALLER 118
#define STATUS_NOT_INSTALLED 119
#define STATUS_REFUSED 120 /* by the network policy; its words are on stderr */

static char *why_not(const struct code *c, int status)
{
        const char *installer = c->language->packages;

        if (status == STATUS_NO_PROGRAM)
                return xasprintf("%s cannot be run here: its interpreter is not part of this "
                                 "machine; use another language",
                                 c->language->name);
        if (status == STATUS_NO_INSTALLER)
                return xasprintf("packages cannot be installed: this machine has no %s; do without "
                                 "them",
                                 installer);
        if (status == STATUS_REFUSED)
                return xstrdup("packages cannot be installed: the session's network policy does "
                               "not let this machine reach the package registry; do without them, "
                               "or ask the person to allow it; the code was not run");
        if (status == STATUS_NOT_INSTALLED)
                return xasprintf("%s could not install the packages, the code was not run",
                                 installer);
        return NULL;
}

static void on_exit_(void *userdata, const struct guest_status *status)
{
        struct code *c = userdata;
        cleanup_free char *note = NULL;
        int64_t code = status->code;

        c->command = NULL;
        if (c->late)
                note = xasprintf("stopped: it did not end within %" PRId64 " s", c->timeout);
        else if (status->error)
                note = xasprintf("it could not be run: %s", status->error);
        else if (status->signal)
                note = xasprintf("ended by signal %d%s", status->signal,
                                 status->signal == SIGKILL ? ", perhaps for want of memory" : "");
        else
                note = why_not(c, status->code);
        finish(c, note && code == 0 ? -1 : code, note);
}

/* In pieces: the program may read slowly, or never. */
static void feed(void *userdata)
{
        struct code *c = userdata;
        size_t left;
        int r = 0;

        while (c->command && r == 0 && c->input) {
                left = strlen(c->input) - c->fed;
                r = guest_command_input(c->command, c->run->host->epoch, c->input + c->fed,
                                        MIN(left, INPUT_PIECE), left <= INPUT_PIECE);
                if (r == 0)
                        c->fed += MIN(left, INPUT_PIECE);
                if (r == 0 && left <= INPUT_PIECE)
                        c->input = NULL;
        }
}

static void on_limit(void *userdata)
{
        struct code *c = userdata;

        c->late = true;
        if (c->command)
                guest_command_kill(c->command, SIGKILL);
}

/* The installer is not even started where the way out is closed: it would try for a minute and say
 * little. The egress proxy says why by a header, to CONNECT as to any request. */
static void put_look(struct buf *out, const char *ask_registry, const char *usual)
{
        buf_putf(out,
                 "registry=$(%s 2>/dev/null) || registry=%s\n"
                 "refused=$(curl -s -o /dev/null -D - -m 30 \"$registry\" | tr -d '\\r' | "
                 "sed -n 's/^X-Berth-Egress: //p' | head -n 1)\n"
                 "if [ -n \"$refused\" ]; then\n"
                 "echo \"$registry: refused by the network policy ($refused)\" >&2; exit %d\n"
                 "fi\n",
                 ask_registry, usual, STATUS_REFUSED);
}

/* Shell words: names were checked to hold nothing that a shell or an installer would read as more.
 */
static void put_install(struct buf *out, const struct code *c)
{
        const json_t *one;
        size_t i;
        bool pip = streq(c->language->packages, "pip");

        buf_putf(out, "%s >/dev/null 2>&1 || exit %d\n",
                 pip ? "python3 -m pip --version" : "command -v npm", STATUS_NO_INSTALLER);
        if (pip)
                put_look(out, "python3 -m pip config get global.index-url",
                         "https://pypi.org/simple/");
        else
                put_look(out, "npm config get registry", "https://registry.npmjs.org/");
        buf_puts(out, pip ? "python3 -m pip install --quiet --disable-pip-version-check "
                            "--no-input --retries 1 --target packages --"
                          : "npm install --silent --no-audit --no-fund --ignore-scripts "
                            "--no-update-notifier --fetch-retries=1 --");
        json_array_foreach (c->packages, i, one)
                buf_putf(out, " '%s'", json_string_value(one));
        buf_putf(out, " 1>&2 || exit %d\n", STATUS_NOT_INSTALLED);
}

static void start_command(struct code *c)
{
        cleanup_buf struct buf script = BUF_INIT;
        const char *program = streq(c->language->name, "python") ? "python3"
                              : streq(c->language->name, "bash") ? "bash"
                                                                 : "node";
        int r;

        buf_putf(&script, "command -v %s >/dev/null || exit %d\n", program, STATUS_NO_PROGRAM);
        if (json_array_size(c->packages) > 0)
                put_install(&script, c);
        buf_puts(&script, "export PYTHONPATH=\"$PWD/packages\" PYTHONUNBUFFERED=1\n");
        buf_puts(&script, c->language->run);
        c->started = now_monotonic();
        r = guest_spawn(
                c->guest, c->run->host->epoch,
                &(struct guest_command_config){
                        .argv = (const char *const[]){ "/bin/bash", "-c", script.data, NULL },
                        .env = (const char *const[]){ "TERM=dumb", "DISPLAY=:1", NULL },
                        .cwd = c->folder,
                        .stdin_pipe = c->input,
                        .on_output = on_output,
                        .on_input_room = feed,
                        .on_exit = on_exit_,
                        .userdata = c,
                },
                &c->command);
        if (r < 0) {
                struct tool_run *run = c->run;

                run->state = NULL;
                code_free(c);
                tool_finish_error(run, "The code could not be started (%s).", strerror(-r));
                return;
        }
        loop_timer_arm(&c->limit, (uint64_t) c->timeout * USEC_PER_SEC);
        feed(c);
}

static void on_written(void *userdata, int r)
{
        struct code *c = userdata;

        if (r < 0) {
                struct tool_run *run = c->run;

                run->state = NULL;
                code_free(c);
                tool_finish_error(run, "The code could not be written into the slot (%s).",
                                  strerror(-r));
                return;
        }
        start_command(c);
}

/* A name as registries give them, perhaps with a version: no option, no path, no URL. */
static bool package_ok(const char *s)
{
        size_t n = strlen(s);

        return n > 0 && n <= PACKAGE_MAX && s[0] != '-' && s[0] != '.' && s[0] != '/' &&
               strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                         "@/._-+=<>~^![],*") == n &&
               !strstr(s, "..") && !strstr(s, "//");
}

static int read_packages(struct code *c)
{
        const json_t *one;
        size_t i;

        if (tool_arg_strings(c->run, "packages", PACKAGES_MAX, &c->packages) < 0)
                return -EINVAL;
        if (json_array_size(c->packages) > 0 && !c->language->packages) {
                tool_finish_error(c->run, "%s takes no packages.", c->language->name);
                return -EINVAL;
        }
        json_array_foreach (c->packages, i, one)
                if (!package_ok(json_string_value(one))) {
                        tool_finish_error(c->run, "packages must be names of the registry, with a "
                                                  "version if you like (numpy==2.1.0).");
                        return -EINVAL;
                }
        return 0;
}

static int read_arguments(struct code *c)
{
        const char *language = NULL;

        if (tool_arg_string(c->run, "language", true, &language) < 0 ||
            tool_arg_string(c->run, "code", true, &c->source) < 0 ||
            tool_arg_string(c->run, "input", false, &c->input) < 0 ||
            tool_arg_int(c->run, "timeout_s", false, &c->timeout) < 0)
                return -EINVAL;
        for (size_t i = 0; i < ARRAY_LEN(languages); i++)
                if (streq(languages[i].name, language))
                        c->language = &languages[i];
        if (!c->language)
                tool_finish_error(c->run, "language must be python, javascript, typescript or "
                                          "bash.");
        else if (c->timeout < 1 || c->timeout > TIMEOUT_MAX)
                tool_finish_error(c->run, "timeout_s must be 1 to %d.", TIMEOUT_MAX);
        else if (strlen(c->source) > CODE_MAX || (c->input && strlen(c->input) > INPUT_MAX))
                tool_finish_error(c->run, "code and input may have 1 MiB each; put larger ones "
                                          "into files.");
        else
                return read_packages(c);
        return -EINVAL;
}

static void code_start(struct tool_run *run)
{
        struct tool_host *h = run->host;
        struct guest *guest = h->slot ? slot_guest(h->slot) : NULL;
        cleanup_free char *path = NULL;
        struct code *c = xnew(struct code);
        uint8_t random[4];
        char hex[9];
        int r;

        *c = (struct code){ .run = run, .guest = guest, .timeout = TIMEOUT_DEFAULT };
        if (!guest) {
                tool_finish_error(run, "The slot is not ready.");
                code_free(c);
                return;
        }
        if (read_arguments(c) < 0) {
                code_free(c);
                return;
        }
        random_bytes(random, sizeof(random));
        hex_encode(random, sizeof(random), hex);
        (void) snprintf(c->folder, sizeof(c->folder), "/home/agent/runs/%s", hex);
        path = xasprintf("%s/%s", c->folder, c->language->file);
        run->state = c;
        r = loop_timer_init(&c->limit, h->event, on_limit, c);
        if (r == 0)
                r = guest_write_file(guest, h->epoch, path, c->source, strlen(c->source),
                                     on_written, c);
        if (r < 0)
                on_written(c, r);
}

static void code_stop(struct tool_run *run, bool timeout)
{
        struct code *c = run->state;

        if (!c)
                return;
        run->state = NULL;
        if (c->command) {
                guest_command_kill(c->command, SIGKILL);
                guest_command_forget(c->command);
        }
        if (run->host->slot && slot_guest(run->host->slot) == c->guest)
                guest_cancel(c->guest, c);
        code_free(c);
}

const struct tool tool_execute_code = {
        .spec = {
                .name = "execute_code",
                .description =
                        "Runs a program in a folder of its own and gives its output, exit code and duration. "
                        "Nothing stays between calls but the files. Use bash for commands, this for programs.",
                .schema = "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"language\",\"code\"],"
                          "\"properties\":{"
                          "\"language\":{\"type\":\"string\",\"enum\":[\"python\",\"javascript\",\"typescript\",\"bash\"]},"
                          "\"code\":{\"type\":\"string\"},"
                          "\"packages\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"Packages to "
                          "install first (pip, npm); needs a network policy that allows the registry\"},"
                          "\"input\":{\"type\":\"string\",\"description\":\"Standard input\"},"
                          "\"timeout_s\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":600,\"description\":\"Default "
                          "60\"}}}",
        },
        .limit_usec = (TIMEOUT_MAX + 30) * USEC_PER_SEC,
        .start = code_start,
        .stop = code_stop,
};
