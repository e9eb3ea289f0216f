/* Commands in the slot as the worker sees them: start, input, output with acknowledgements, end. */
#include "guest-private.h"

#include <signal.h>

static struct guest_command *find(struct guest *g, uint32_t proc)
{
        struct guest_command *p;
        list_foreach (p, &g->commands, link)
                if (p->proc == proc)
                        return p;
        return NULL;
}

static size_t count(const char *const *list)
{
        size_t n = 0;
        while (list && list[n])
                n++;
        return n;
}

int guest_spawn(struct guest *g, uint64_t epoch, const struct guest_command_config *c,
                struct guest_command **ret)
{
        int r = guest_fence(g, epoch);
        if (r < 0)
                return r;
        if (g->n_commands >= GUEST_COMMANDS_MAX)
                return -EAGAIN;
        uint32_t proc = g->last_proc + 1;
        while (proc == 0 || find(g, proc))
                proc++;
        struct guest_spawn m = {
                .proc = proc,
                .argv = (const char **) c->argv,
                .n_argv = count(c->argv),
                .env = (const char **) c->env,
                .n_env = count(c->env),
                .cwd = c->cwd,
                .stdin = c->stdin_pipe,
                .quiet = c->quiet,
                .listener = c->listener,
                .has_cols = c->cols > 0,
                .cols = c->cols,
                .has_rows = c->cols > 0,
                .rows = c->rows,
        };
        if (m.n_argv == 0)
                return -EINVAL;
        r = guest_send(g, &wire_guest_spawn, &m);
        if (r < 0)
                return r;
        struct guest_command *p = xnew(struct guest_command);
        *p = (struct guest_command){
                .guest = g, .config = *c, .proc = proc, .input_eof = !c->stdin_pipe && c->cols == 0
        };
        g->last_proc = proc;
        g->n_commands++;
        list_push_back(&g->commands, &p->link);
        *ret = p;
        return 0;
}

int guest_command_input(struct guest_command *p, uint64_t epoch, const void *data, size_t n,
                        bool eof)
{
        int r = guest_fence(p->guest, epoch);
        if (r < 0)
                return r;
        if (p->input_eof)
                return -EPIPE;
        if (n > GUEST_INPUT_WINDOW)
                return -EMSGSIZE;
        if (p->input_open + n > GUEST_INPUT_WINDOW ||
            buf_pending(&p->guest->out) > GUEST_QUEUE_MAX / 2) {
                p->wants_room = true;
                return -EAGAIN;
        }
        const char *at = data;
        do {
                size_t piece = MIN(n, (size_t) GUEST_PIECE);
                struct guest_input m = { .proc = p->proc,
                                         .data = { at, piece },
                                         .eof = eof && piece == n };
                r = guest_send(p->guest, &wire_guest_input, &m);
                if (r < 0)
                        return r;
                p->input_open += piece;
                at += piece;
                n -= piece;
        } while (n > 0);
        p->input_eof = eof;
        return 0;
}

int guest_command_kill(struct guest_command *p, int signal)
{
        if (p->guest->ended || p->guest->freed)
                return -ENOTCONN;
        struct guest_kill m = { .proc = p->proc, .signal = (uint32_t) signal };
        return guest_send(p->guest, &wire_guest_kill, &m);
}

int guest_command_resize(struct guest_command *p, unsigned cols, unsigned rows)
{
        if (p->guest->ended || p->guest->freed)
                return -ENOTCONN;
        return guest_send(p->guest, &wire_guest_resize,
                          &(struct guest_resize){ .proc = p->proc, .cols = cols, .rows = rows });
}

int guest_kill_strays(struct guest *g)
{
        if (!g->up || g->ended || g->freed)
                return -ENOTCONN;
        return guest_send(g, &wire_guest_kill,
                          &(struct guest_kill){ .proc = 0, .signal = SIGKILL });
}

static void acknowledge(struct guest_command *p)
{
        if (p->untaken == 0 || p->guest->ended || p->guest->freed)
                return;
        struct guest_ack m = { .proc = p->proc, .bytes = (uint32_t) p->untaken };
        if (guest_send(p->guest, &wire_guest_ack, &m) == 0)
                p->untaken = 0;
}

void guest_command_pause(struct guest_command *p)
{
        p->paused = true;
}

void guest_command_resume(struct guest_command *p)
{
        p->paused = false;
        acknowledge(p);
}

void guest_command_forget(struct guest_command *p)
{
        p->forgotten = true;
        (void) guest_command_kill(p, SIGKILL);
        guest_command_resume(p);
}

int guest_on_output(struct guest *g, const struct guest_output *m)
{
        struct guest_command *p = find(g, m->proc);
        if (!p || m->data.len == 0 || (m->stream != 1 && m->stream != 2))
                return -EPROTO;
        if (p->untaken + m->data.len > GUEST_WINDOW)
                return -EPROTO;
        p->untaken += m->data.len;
        if (!p->forgotten && p->config.on_output)
                p->config.on_output(p->config.userdata, (int) m->stream, m->data.data, m->data.len);
        /* The callback may have freed the link, never the command alone. */
        if (!g->freed && !p->paused)
                acknowledge(p);
        return 0;
}

int guest_on_taken(struct guest *g, const struct guest_taken *m)
{
        struct guest_command *p = find(g, m->proc);
        if (!p) /* it ended while input was on its way: what was dropped is told, too */
                return m->proc <= g->last_proc ? 0 : -EPROTO;
        if (m->bytes > p->input_open)
                return -EPROTO;
        p->input_open -= m->bytes;
        if (!p->wants_room || p->input_open > GUEST_INPUT_WINDOW / 2)
                return 0;
        p->wants_room = false;
        if (!p->forgotten && p->config.on_input_room)
                p->config.on_input_room(p->config.userdata);
        return 0;
}

static void command_end(struct guest_command *p, const struct guest_status *status)
{
        p->guest->n_commands--;
        list_remove(&p->link);
        if (!p->forgotten && p->config.on_exit)
                p->config.on_exit(p->config.userdata, status);
        free(p);
}

int guest_on_exit(struct guest *g, const struct guest_exit *m)
{
        struct guest_command *p = find(g, m->proc);
        if (!p || m->code < -1 || m->code > 255 || m->signal > 64)
                return -EPROTO;
        struct guest_status status = { .code = (int) m->code,
                                       .signal = (int) m->signal,
                                       .error = m->error };
        command_end(p, &status);
        return 0;
}

void guest_commands_end(struct guest *g, const char *why)
{
        struct guest_status status = { .code = -1, .error = why };
        struct guest_command *p;
        while ((p = list_first(&g->commands, struct guest_command, link)))
                /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list lets go of what is freed */
                command_end(p, &status);
}
