/* An MCP server that is a program in the slot: one message a line, by its standard input and
 * output. */
#include <signal.h>

#include "mcp-private.h"
#include "utf8.h"

#define TAIL_MAX 400        /* of what it last said on stderr */
#define QUEUE_MAX (2 * MIB) /* messages it has not read yet */
#define PIECE (32 * KIB)

struct stdio {
        struct mcp_server *server;
        struct guest *guest;
        struct guest_command *command;
        struct buf line, out;
        char tail[TAIL_MAX];
        size_t tail_len;
};

static void io_free(struct stdio *io)
{
        buf_done(&io->line);
        buf_done(&io->out);
        free(io);
}

static void keep_tail(struct stdio *io, const char *data, size_t n)
{
        size_t keep = MIN(n, sizeof(io->tail)), old = MIN(io->tail_len, sizeof(io->tail) - keep);

        memmove(io->tail, io->tail + io->tail_len - old, old);
        memcpy(io->tail + old, data + n - keep, keep);
        io->tail_len = old + keep;
}

/* A message may end the server, and this io with it. */
static void take_lines(struct stdio *io)
{
        struct mcp_server *s = io->server;
        const char *end;

        while (s->io == io && (end = memchr(buf_head(&io->line), '\n', buf_pending(&io->line)))) {
                size_t n = (size_t) (end - buf_head(&io->line));
                cleanup_free char *text = xstrndup(buf_head(&io->line), n);

                buf_consume(&io->line, n + 1);
                if (n > 0)
                        mcp_message(s, (struct span){ text, n });
        }
}

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        struct stdio *io = userdata;

        if (stream == 2)
                keep_tail(io, data, n);
        else if (buf_append(&io->line, data, n) < 0)
                mcp_lost(io->server, 0, "It sent a message that is too large.");
        else
                take_lines(io);
}

static void on_exit_(void *userdata, const struct guest_status *status)
{
        struct stdio *io = userdata;
        cleanup_free char *tail = utf8_clip(io->tail, io->tail_len, TAIL_MAX), *why = NULL;

        io->command = NULL;
        if (status->error)
                why = xasprintf("It could not be run: %s", status->error);
        else if (status->signal)
                why = xasprintf("It was ended by signal %d. %s", status->signal, tail);
        else
                why = xasprintf("It exited with code %d. %s", status->code, tail);
        mcp_lost(io->server, 0, why);
}

static void flush(void *userdata)
{
        struct stdio *io = userdata;

        while (io->command && buf_pending(&io->out) > 0) {
                size_t n = MIN(buf_pending(&io->out), (size_t) PIECE);

                if (guest_command_input(io->command, io->server->set->epoch, buf_head(&io->out), n,
                                        false) < 0)
                        return;
                buf_consume(&io->out, n);
        }
}

static int stdio_open(struct mcp_server *s)
{
        struct guest *g = s->set->slot ? slot_guest(s->set->slot) : NULL;
        struct stdio *io;
        int r;

        if (!g)
                return -ENOTCONN;
        io = xnew(struct stdio);
        *io = (struct stdio){ .server = s,
                              .guest = g,
                              .line = BUF_LIMIT(MCP_MESSAGE_MAX),
                              .out = BUF_LIMIT(QUEUE_MAX) };
        r = guest_spawn(g, s->set->epoch,
                        &(struct guest_command_config){
                                .argv = (const char *const *) s->argv,
                                .env = (const char *const *) s->env,
                                .cwd = s->cwd,
                                .stdin_pipe = true,
                                .on_output = on_output,
                                .on_input_room = flush,
                                .on_exit = on_exit_,
                                .userdata = io,
                        },
                        &io->command);
        if (r < 0) {
                io_free(io);
                return r;
        }
        s->io = io;
        return 0;
}

static int stdio_send(struct mcp_server *s, const char *text, uint64_t id, const char *method,
                      const char *name)
{
        struct stdio *io = s->io;
        int r;

        if (!io || !io->command)
                return -ENOTCONN;
        r = buf_append(&io->out, text, strlen(text));
        if (r == 0)
                r = buf_append(&io->out, "\n", 1);
        if (r < 0)
                return -EAGAIN;
        flush(io);
        return 0;
}

/* A legacy program says what it has to say unasked. */
static int stdio_listen(struct mcp_server *s, const char *text)
{
        return text ? stdio_send(s, text, 0, MCP_LISTEN, NULL) : 0;
}

static void stdio_forget(struct mcp_server *s, uint64_t id)
{
}

static void stdio_close(struct mcp_server *s)
{
        struct stdio *io = TAKE_PTR(s->io);

        if (!io)
                return;
        if (io->command && s->set->slot && slot_guest(s->set->slot) == io->guest) {
                guest_command_kill(io->command, SIGKILL);
                guest_command_forget(io->command);
        }
        io->server = NULL;
        loop_defer_free(s->set->event, io, (void (*)(void *)) io_free);
}

const struct mcp_transport mcp_stdio = {
        .open = stdio_open,
        .send = stdio_send,
        .listen = stdio_listen,
        .forget = stdio_forget,
        .close = stdio_close,
        .tells_cancel = true,
};
