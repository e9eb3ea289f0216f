/* Runs one job: places its files, starts its command, gathers what it says, ends it in time. */
#include "job-run.h"

#include <signal.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/io/daemon.h"

#define ERRORS_KEPT 4000u
#define INPUT_PIECE (64 * KIB)

struct job_part {
        char *path, *document_id;
        struct buf data;
};

struct job {
        struct job_config c;
        char *id, *tenant;
        struct job_part *files;
        size_t n_files, placed;
        char **argv, **env;
        struct buf input, output, errors;
        uint64_t memory_max, time_usec, began_at;
        size_t output_max;
        bool too_much, timed_out;
        struct loop_timer deadline;
        struct loop_task failed; /* tells of a failure from the loop, not from inside job_begin */
        int problem;
        char *why;
        struct slot *slot;
        uint64_t epoch;
        struct guest_command *command;
};

static char **copy_list(const char *const *list, size_t n)
{
        char **copy = xnewn(char *, n + 1);

        for (size_t i = 0; i < n; i++)
                copy[i] = xstrdup(list[i]);
        return copy;
}

static void free_list(char **list)
{
        for (char **s = list; s && *s; s++)
                free(*s);
        free(list);
}

struct job *job_free(struct job *j)
{
        if (!j)
                return NULL;
        documents_cancel(j->c.documents, j);
        if (j->slot && slot_guest(j->slot)) {
                guest_cancel(slot_guest(j->slot), j);
                if (j->command)
                        guest_command_forget(j->command);
        }
        for (size_t i = 0; i < j->n_files; i++) {
                free(j->files[i].path);
                free(j->files[i].document_id);
                buf_done(&j->files[i].data);
        }
        free(j->files);
        free_list(j->argv);
        free_list(j->env);
        buf_done(&j->input);
        buf_done(&j->output);
        buf_done(&j->errors);
        loop_timer_done(&j->deadline);
        loop_task_done(&j->failed);
        free(j->id);
        free(j->tenant);
        free(j->why);
        free(j);
        return NULL;
}

/* ---- the end ---- */

static void on_failed(void *userdata)
{
        struct job *j = userdata;
        cleanup_free char *why = TAKE_PTR(j->why);
        job_done_fn done = j->c.done;
        void *who = j->c.userdata;
        int r = j->problem;

        job_free(j);
        done(who, r, NULL, why);
}

static void fail(struct job *j, int r, const char *why)
{
        if (j->why)
                return;
        j->problem = r;
        j->why = xstrdup(why);
        loop_task_queue(&j->failed);
}

static void finish(struct job *j, int code, int signal)
{
        size_t cut =
                buf_pending(&j->errors) > ERRORS_KEPT ? buf_pending(&j->errors) - ERRORS_KEPT : 0;
        struct job_ran ran = {
                .code = code,
                .signal = (uint32_t) signal,
                .timed_out = j->timed_out,
                .too_much = j->too_much,
                .output = { buf_head(&j->output), buf_pending(&j->output) },
                .errors = { buf_head(&j->errors) + cut, buf_pending(&j->errors) - cut },
                .duration_ms = (uint32_t) ((now_monotonic() - j->began_at) / USEC_PER_MSEC),
        };

        j->c.done(j->c.userdata, 0, &ran, NULL);
        job_free(j);
}

/* Not waited for any more: the slot is thrown away, and all that runs in it. */
static void on_deadline(void *userdata)
{
        struct job *j = userdata;

        j->timed_out = true;
        finish(j, -1, SIGKILL);
}

/* ---- the command ---- */

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        struct job *j = userdata;

        if (stream == 2) {
                buf_put(&j->errors, data, n);
                if (buf_pending(&j->errors) > 8U * ERRORS_KEPT)
                        buf_consume(&j->errors, buf_pending(&j->errors) - ERRORS_KEPT);
                return;
        }
        if (j->too_much)
                return;
        if (buf_pending(&j->output) + n > j->output_max) {
                j->too_much = true;
                guest_command_kill(j->command, SIGKILL);
                return;
        }
        buf_put(&j->output, data, n);
}

static void feed(void *userdata)
{
        struct job *j = userdata;

        while (j->command) {
                size_t n = MIN(buf_pending(&j->input), (size_t) INPUT_PIECE);
                bool last = n == buf_pending(&j->input);

                if (guest_command_input(j->command, j->epoch, buf_head(&j->input), n, last) < 0)
                        return; /* full: on_input_room comes; ended: so does on_exit */
                buf_consume(&j->input, n);
                if (last)
                        return;
        }
}

static void on_exit_of(void *userdata, const struct guest_status *status)
{
        struct job *j = userdata;

        j->command = NULL;
        if (status->error) {
                fail(j, -EIO, status->error);
                return;
        }
        finish(j, status->code, status->signal);
}

static void start(struct job *j)
{
        const char *argv[64 + 4];
        char memory[48];
        size_t n = 0;
        struct guest_command_config config = {
                .argv = argv,
                .env = (const char *const *) j->env,
                .stdin_pipe = buf_pending(&j->input) > 0,
                .on_output = on_output,
                .on_input_room = feed,
                .on_exit = on_exit_of,
                .userdata = j,
        };

        if (j->memory_max > 0) {
                (void) snprintf(memory, sizeof(memory), "--as=%" PRIu64, j->memory_max);
                argv[n++] = "prlimit";
                argv[n++] = memory;
                argv[n++] = "--";
        }
        for (char **s = j->argv; *s && n < ARRAY_LEN(argv) - 1; s++)
                argv[n++] = *s;
        argv[n] = NULL;
        loop_timer_arm(&j->deadline, j->time_usec);
        j->began_at = now_monotonic();
        int r = guest_spawn(slot_guest(j->slot), j->epoch, &config, &j->command);
        if (r < 0)
                fail(j, r, "the slot cannot start the command");
        else if (config.stdin_pipe)
                feed(j);
}

/* ---- its files ---- */

static void place_next(struct job *j);

/* NULL when the slot has gone meanwhile; then the job is about to be ended. */
static struct guest *guest_of(struct job *j)
{
        struct guest *g = slot_guest(j->slot);

        if (!g)
                fail(j, -ENOTCONN, "the slot was lost");
        return g;
}

static void not_placed(struct job *j, int r)
{
        fail(j, r,
             r == -ENOSPC ? "the slot has no room for the job's files"
                          : "a file of the job cannot be placed in the slot");
}

static void on_placed(void *userdata, int r)
{
        struct job *j = userdata;

        if (r < 0) {
                not_placed(j, r);
                return;
        }
        buf_done(&j->files[j->placed].data);
        j->placed++;
        place_next(j);
}

static void on_opened(void *userdata, int r, int fd, uint64_t size, const char *why)
{
        struct job *j = userdata;

        if (r < 0) {
                fail(j, r, why);
                return;
        }
        struct guest *g = guest_of(j);
        if (!g) {
                fd_close(fd);
                return;
        }
        r = guest_write_from(g, j->epoch, j->files[j->placed].path, fd, on_placed, j);
        if (r < 0)
                not_placed(j, r);
}

static void place_next(struct job *j)
{
        struct guest *g = guest_of(j);
        struct job_part *f;
        int r;

        if (!g)
                return;
        if (j->placed == j->n_files) {
                start(j);
                return;
        }
        f = &j->files[j->placed];
        if (f->document_id)
                r = documents_open(j->c.documents, j->tenant, f->document_id, on_opened, j);
        else
                r = guest_write_file(g, j->epoch, f->path, buf_head(&f->data),
                                     buf_pending(&f->data), on_placed, j);
        if (r < 0)
                not_placed(j, r);
}

void job_begin(struct job *j, struct slot *slot, uint64_t epoch)
{
        j->slot = slot;
        j->epoch = epoch;
        place_next(j);
}

bool job_begun(const struct job *j)
{
        return j->slot != NULL;
}

bool job_is(const struct job *j, const char *id)
{
        return streq(j->id, id);
}

int job_new(const struct job_config *c, const struct job_run *m, struct job **ret)
{
        CLEANUP(job_freep) struct job *j = xnew(struct job);
        int r;

        j->c = *c;
        if (m->n_argv == 0)
                return -EINVAL;
        r = loop_timer_init(&j->deadline, c->event, on_deadline, j);
        if (r == 0)
                r = loop_task_init(&j->failed, c->event, on_failed, j);
        if (r < 0)
                return r;
        j->id = xstrdup(m->job_id);
        j->tenant = xstrdup(m->tenant);
        j->files = xnewn(struct job_part, m->n_files + 1);
        for (; j->n_files < m->n_files; j->n_files++) {
                struct job_part *f = &j->files[j->n_files];

                f->path = xstrdup(m->files[j->n_files].path);
                f->document_id = xstrdup(m->files[j->n_files].document_id);
                buf_put(&f->data, m->files[j->n_files].data.data, m->files[j->n_files].data.len);
        }
        j->argv = copy_list(m->argv, m->n_argv);
        j->env = copy_list(m->env, m->n_env);
        buf_put(&j->input, m->input.data, m->input.len);
        j->time_usec = MAX(m->time_ms, 1U) * USEC_PER_MSEC;
        j->memory_max = m->memory_max;
        j->output_max = MIN(m->output_max, 16U * MIB);
        *ret = TAKE_PTR(j);
        return 0;
}
